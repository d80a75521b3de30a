"""Every command that asks a node says in one sentence that there is none, and exits with 1: never a stack of calls.

In this process, since starting fifteen would take as long as everything else here.
"""

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pfn_node.cli import app
from pfn_protocol.identity import PrivateKey, did_key

COMMANDS = (
    "status",
    "sources",
    f"sources add https://publisher.test ada {did_key(PrivateKey(bytes(32)).public)}",
    "sources verify ada@publisher.test",
    "sources subscribe ada@publisher.test",
    "sources remove ada@publisher.test",
    "plugins",
    "plugins show ada@publisher.test night-lamp",
    "plugins download ada@publisher.test night-lamp -o {folder}/night-lamp.zip",
    "verify {folder}/some.zip",
    "peers",
    "peers set join http://127.0.0.1:9",
    "keys",
    "keys create somebody",
    "keys revoke abcdefgh",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_node_that_is_not_there_is_one_sentence(tmp_path: Path, command: str) -> None:
    (tmp_path / "some.zip").write_bytes(b"PK\x03\x04")
    with socket.socket() as closed:  # bound, so that nobody else gets the port, and not listening
        closed.bind(("127.0.0.1", 0))
        where = {"PFN_NODE": f"http://127.0.0.1:{closed.getsockname()[1]}"}

        done = CliRunner().invoke(app, command.format(folder=tmp_path).split(), env=where)

    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.stderr.startswith("pfn: cannot reach the node at") and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["some.zip"]
