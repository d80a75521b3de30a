"""`pfn identity`: the node's key, and how to bring one along."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pfn_node.cli.failing import fail
from pfn_node.data_folder import KEY_FILE, DataFolderError, load_or_make_key, write_secret
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey, did_key, public_key_pem

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


def _print(key: PrivateKey, as_json: bool) -> None:
    node_id, pem = did_key(key.public), public_key_pem(key.public)
    print(json.dumps({"node_id": node_id, "public_key": pem}) if as_json else f"{node_id}\n{pem}", end="\n")
