"""`pfn identity`: the node's key, and how to bring one along."""

import json
import math
import time
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from pfn_node.cli.failing import WRONG_USAGE, fail, reason, warn
from pfn_node.cli.tables import moment
from pfn_node.data_folder import (
    DATABASE_FILE,
    KEY_FILE,
    NEXT_KEY_FILE,
    DataFolder,
    DataFolderError,
    load_or_make_key,
    make_next_key,
    next_key,
    open_data_folder,
    write_secret,
)
from pfn_node.data_folder import succeed as put_in_place
from pfn_node.settings import SettingsError, load_settings
from pfn_node.store import facts, successions
from pfn_node.store.database import StoreError, reader
from pfn_node.store.queries import Row
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey, did_key, public_key_pem
from pfn_protocol.limits import succession_age_seconds_min

app = typer.Typer(help="Show or import the node's key.", no_args_is_help=True)

Data = Annotated[Path, typer.Option("--data", help="The node's data folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_VOID = (
    "this node's key committed to two keys, which made both void for good: nobody follows either. To change the key, "
    "start a new data folder, and ask for new pins"
)


@app.command()
def show(data: Data, as_json: Json = False) -> None:
    """Print the node's id and public key.

    The key is made if the folder is new.
    """
    try:
        if (data / DATABASE_FILE).exists():
            _need_key(data)  # a node that lost its key, or was restored without it, gets no new name by being looked at
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = load_or_make_key(data)
    except (DataFolderError, OSError) as error:
        fail(reason(error))
    _print(key, as_json)


@app.command("import")
def import_key(
    pem: Annotated[Path, typer.Argument(help="A file with an Ed25519 private key as PKCS8 PEM.", dir_okay=False)],
    data: Data,
    as_json: Json = False,
) -> None:
    """Take a key that was made elsewhere into a new data folder."""
    try:
        key = PrivateKey.from_pem(pem.read_text())
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_secret(data / KEY_FILE, key.to_pem())
    except Refusal as refusal:
        fail(f"{pem}: {refusal.sentence}")
    except UnicodeDecodeError:
        fail(f"{pem}: this is not an Ed25519 private key in PKCS8 PEM form")
    except (DataFolderError, OSError) as error:
        fail(reason(error))
    _print(key, as_json)
    _warn_of_another(data, key.public)


def _warn_of_another(data: Path, public: bytes) -> None:
    """Say if the database beside a key, such as a restored one, is that of a node with another key."""
    if not (data / DATABASE_FILE).exists():
        return
    try:
        with reader(data / DATABASE_FILE) as db:
            own = facts.own_id(db)
    except StoreError as error:
        warn(str(error))
        return
    if own not in (b"", public):
        warn(f"the database in {data} is that of {did_key(own)}; if this is not its next key, take the key away again")


@app.command()
def commit(data: Data) -> None:
    """Make the key that is to follow this node's key, and print its hash.

    The node tells the hash at its next start. 72 hours later `pfn identity succeed` may put that key in place of the
    present one, also after that was stolen, and the pins of other nodes follow. A key commits once: another commitment
    makes both void. After that start, move node-next.key to where a thief of node.key would not find it.
    """
    try:
        _need_key(data)
        _refuse_a_second(data, load_or_make_key(data).public)
        key = make_next_key(data)
    except (DataFolderError, StoreError, OSError) as error:
        fail(reason(error))
    print(sha256(key.public).hexdigest())


@app.command()
def succeed(
    data: Data, mesh: Annotated[str | None, typer.Option("--mesh", help="The mesh that the node belongs to.")] = None
) -> None:
    """Put the next key in place of the node's key. The node must be stopped.

    At its next start it tells the others, whose pins follow if they have known its commitment for 72 hours.
    """
    try:
        _need_key(data)
        settings = load_settings({"data": data, "mesh": mesh})
        with open_data_folder(settings) as folder:
            _check_commitment(folder, next_key(data))
            key = put_in_place(folder, settings.mesh)
    except SettingsError as error:
        fail(str(error), WRONG_USAGE)
    except (DataFolderError, StoreError, OSError) as error:
        fail(reason(error))
    _print(key, as_json=False)


def _need_key(data: Path) -> None:
    if not (data / KEY_FILE).exists():
        fail(f"there is no {KEY_FILE} in {data}; bring the node's with: pfn identity import KEY.pem --data {data}")


def _told(data: Path, author: bytes) -> Row | None:
    """What the node of this folder told of the key that is to follow, whether it runs or not."""
    file = data / DATABASE_FILE
    if not file.exists():
        return None
    with reader(file) as db:
        return successions.commitment(db, author)


def _refuse_a_second(data: Path, author: bytes) -> None:
    """Leave if the node has told its commitment: the key may lie elsewhere by now, as it should."""
    told = _told(data, author)
    if told is None:
        return
    if told["void"]:
        fail(_VOID)
    fail(
        f"this node has told that the key whose sha256 is {told['hash'].hex()} is to follow (known here since "
        f"{moment(told['first_seen'])}). A second commitment would make both void for good: keep the {NEXT_KEY_FILE} "
        "that was made then, and put it back when the key is to change"
    )


def _check_commitment(folder: DataFolder, following: PrivateKey | None) -> None:
    """Leave unless this key was told, alone, for so long that others follow it. Never advise a second commitment."""
    told = _told(folder.path, folder.key.public)
    if told is None:
        missing = "" if following else f"there is no {NEXT_KEY_FILE} in {folder.path}, and "
        fail(
            f"{missing}this node has not told which key is to follow: make one with `pfn identity commit` unless there "
            "is one, start it once after the commitment, and wait for 72 h"
        )
    if told["void"]:
        fail(_VOID)
    wanted = f"the one whose sha256 is {told['hash'].hex()}"
    if following is None:
        fail(f"there is no {NEXT_KEY_FILE} in {folder.path}: put back the one that this node committed to, {wanted}")
    if sha256(following.public).digest() != told["hash"]:
        fail(f"{NEXT_KEY_FILE} is not the key that this node committed to: put back {wanted}; nobody follows another")
    left = told["first_seen"] + succession_age_seconds_min - time.time()
    if left > 0:
        fail(f"the commitment was told too recently for others to follow it; wait for {math.ceil(left / 3_600)} h")


def _print(key: PrivateKey, as_json: bool) -> None:
    node_id, pem = did_key(key.public), public_key_pem(key.public)
    print(json.dumps({"node_id": node_id, "public_key": pem}) if as_json else f"{node_id}\n{pem}", end="\n")
