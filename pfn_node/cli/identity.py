"""`pfn identity`: the node's key, and how to bring one along."""

import json
import math
import time
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from pfn_node.cli.failing import fail
from pfn_node.data_folder import (
    KEY_FILE,
    DataFolder,
    DataFolderError,
    load_or_make_key,
    make_next_key,
    next_key,
    open_data_folder,
    write_secret,
)
from pfn_node.data_folder import succeed as put_in_place
from pfn_node.settings import load_settings
from pfn_node.store import successions
from pfn_node.store.database import Database, StoreError
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey, did_key, public_key_pem
from pfn_protocol.limits import succession_age_seconds_min

app = typer.Typer(help="Show or import the node's key.", no_args_is_help=True)

Data = Annotated[Path, typer.Option("--data", help="The node's data folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def show(data: Data, as_json: Json = False) -> None:
    """Print the node's id and public key.

    The key is made if the folder is new.
    """
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = load_or_make_key(data)
    except (DataFolderError, OSError) as error:
        fail(str(error))
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
    except (DataFolderError, OSError, UnicodeDecodeError) as error:
        fail(str(error))
    _print(key, as_json)


@app.command()
def commit(data: Data) -> None:
    """Make the key that is to follow this node's key, and print its hash.

    The node tells the hash at its next start. 72 hours later `pfn identity succeed` may put that key in place of the
    present one, also after that was stolen, and the pins of other nodes follow. A key commits once: another commitment
    makes both void. After that start, move node-next.key to where a thief of node.key would not find it.
    """
    try:
        if not (data / KEY_FILE).exists():
            fail(f"there is no {KEY_FILE} in {data}")
        key = make_next_key(data)
    except (DataFolderError, OSError) as error:
        fail(str(error))
    print(sha256(key.public).hexdigest())


@app.command()
def succeed(
    data: Data, mesh: Annotated[str | None, typer.Option("--mesh", help="The mesh that the node belongs to.")] = None
) -> None:
    """Put the next key in place of the node's key. The node must be stopped.

    At its next start it tells the others, whose pins follow if they have known its commitment for 72 hours.
    """
    settings = load_settings({"data": data, "mesh": mesh})
    try:
        if not (data / KEY_FILE).exists():
            fail(f"there is no {KEY_FILE} in {data}")
        with open_data_folder(settings) as folder:
            following = next_key(data)
            if following is not None:
                _check_age(folder, following)
            key = put_in_place(folder, settings.mesh)
    except (DataFolderError, StoreError, OSError) as error:
        fail(str(error))
    _print(key, as_json=False)


def _check_age(folder: DataFolder, following: PrivateKey) -> None:
    """Leave unless the commitment was told, alone, for so long that others follow it."""
    database = Database.open(folder.database)
    try:
        since = database.read_now(lambda db: successions.committed_since(db, folder.key.public, following.public))
    finally:
        database.close()
    if since is None:
        fail("this node has not told which key is to follow, or has told of two; start it once after the commitment")
    left = since + succession_age_seconds_min - time.time()
    if left > 0:
        fail(f"the commitment was told too recently for others to follow it; wait for {math.ceil(left / 3_600)} h")


def _print(key: PrivateKey, as_json: bool) -> None:
    node_id, pem = did_key(key.public), public_key_pem(key.public)
    print(json.dumps({"node_id": node_id, "public_key": pem}) if as_json else f"{node_id}\n{pem}", end="\n")
