"""Whatever is given wrongly to a command, it ends with a sentence and an exit code, and never with a traceback."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pfn_node.cli import app
from pfn_node.data_folder import load_or_make_key, open_data_folder
from pfn_node.publisher.signing import open_or_make_keys
from pfn_node.server import bind
from pfn_node.settings import load_settings
from pfn_node.store.database import Database
from pfn_protocol.identity import did_key, public_key_pem
from tests.node.test_cli_help import COMMANDS, GROUPS

SOURCE = "ada@shop.example"
NOTICE = ("--author", "ada", "--origin", "https://shop.example", "--data", "{publisher}")
# By command: lines that are wrong, each in its own way. {nowhere}: no node listens there; {full}: nothing can be
# written below; {binary}: bytes that are no text; {node}, {publisher}: folders that are right.
MISTAKES: dict[str, list[tuple[str, ...]]] = {
    "serve": [
        (),
        ("--data", "{full}"),
        ("--data", "{binary}"),
        ("--data", "{node}", "--port", "{taken}"),
        ("--data", "{node}", "--host", "nowhere.invalid"),
        ("--data", "{node}", "--join", "node.example"),
        ("--data", "{node}", "--config", "{binary}"),
        ("--data", "{node}", "--url", "node.example"),
        ("--data", "{unreadable}"),
        ("--data", "{held}"),
    ],
    "demo": [("--data", "{full}")],
    "mesh up": [("--data", "{full}"), ("--nodes", "0")],
    "simulate": [("no-such",), ("--nodes", "2", "--messages", "1", "--plot", "{full}/x"), ("--nodes", "1")],
    "verify": [
        ("{full}/x",),
        ("{binary}", "--node", "{nowhere}"),
        ("{binary}", "--evidence", "{binary}"),
        ("{binary}", "--evidence", "{binary}", "--trust", "ada"),
        ("{binary}", "--evidence", "{binary}", "--key", "{node}/node.key"),
    ],
    "status": [("--node", "{nowhere}"), ("--node", "127.0.0.1"), ("--node", "http://[::1")],
    "get": [
        (f"{SOURCE}/a", "--node", "{nowhere}"),
        ("garbage",),
        (f"{SOURCE}/a", "--key", "{binary}"),
        ("--locked", "--file", "{binary}"),
        ("--locked", "--file", "{full}/x"),
    ],
    "lock": [
        (f"{SOURCE}/a", "--node", "{nowhere}"),
        (f"{SOURCE}/a", "--key", f"{SOURCE}={{binary}}"),
        (f"{SOURCE}/a", "--file", "{binary}"),
    ],
    "audit": [("--node", "{nowhere}"), ("--check", "--head", "1")],
    "export": [
        (),
        ("--to", "{full}/x", "--data", "{node}", "--url", "https://x.example"),
        ("--to", "{free}", "--data", "{long}", "--url", "https://x.example"),
        ("--to", "{free}", "--data", "{node}", "--config", "{binary}"),
        ("--check", "{full}/x"),
        ("--check", "nothing://x"),
    ],
    "fsck": [("--data", "{free}"), ("--data", "{node}", "--mesh", "X"), ("--data", "{held}", "--repair")],
    "backup": [("--data", "{free}", "--to", "{free}2"), ("--data", "{node}", "--to", "{full}/x")],
    "restore": [("--from", "{binary}", "--data", "{free}"), ("--from", "{full}/x", "--data", "{free}")],
    "publisher serve": [
        ("{full}", "--author", "ada", "--data", "{free}"),
        ("{node}", "--author", "a b", "--data", "{free}"),
        ("{node}", "--author", "ada", "--data", "{full}/x"),
        ("{node}", "--author", "ada", "--data", "{publisher}", "--port", "{taken}"),
        ("{node}", "--author", "ada", "--data", "{publisher}", "--url", "shop.example"),
        ("{node}", "--author", "ada", "--data", "{files}"),
    ],
    "publisher sign": [("{binary}", *NOTICE), ("{full}/x", *NOTICE)],
    "publisher rotate": [
        (*NOTICE[:-1], "{long}"),
        (*NOTICE[:-1], "{full}"),
        (*NOTICE, "--recovery", "{binary}"),
        (*NOTICE, "--origin", "shop"),
    ],
    "publisher commit-recovery": [(*NOTICE[:-1], "{full}/x")],
    "publisher revoke": [("identity", *NOTICE), ("nobody", *NOTICE)],
    "publisher yank": [("A B", "1", *NOTICE), ("a", "1", *NOTICE[:-1], "{free}")],
    "publisher advise": [
        ("a", "X-1", "--summary", "s", "--severity", "low", "--affected", "1", *NOTICE),
        ("a", "X-1", "--summary", "", "--severity", "low", "--affected", "1..2", *NOTICE),
    ],
    "identity show": [("--data", "{full}/x"), ("--data", "{binary}"), ("--data", "{unreadable}"), ("--data", "{long}")],
    "identity import": [
        ("{binary}", "--data", "{free}"),
        ("{full}/x", "--data", "{free}"),
        ("{node}/node.key", "--data", "{node}"),
        ("{node}/node.key", "--data", "{full}/x"),
    ],
    "identity commit": [("--data", "{free}"), ("--data", "{unreadable}"), ("--data", "{long}")],
    "identity succeed": [("--data", "{free}"), ("--data", "{node}"), ("--data", "{node}", "--mesh", "X")],
    "artifacts move": [
        ("--data", "{free}", "--to", "s3://a/b"),
        ("--data", "{node}", "--to", "nothing://x"),
        ("--data", "{node}", "--to", "folder"),
        ("--data", "{held}", "--to", "s3://a/b"),
    ],
    "artifacts check": [("--data", "{free}"), ("--data", "{node}"), ("--data", "{held}")],
    "sources add": [
        ("shop.example", "ada", "{pem}"),
        ("https://shop.example/?q", "ada", "{pem}"),
        ("https://shop.example", "a b", "{pem}"),
        ("https://shop.example", "ada", "{node}/node.key"),
        ("https://shop.example", "ada", "{binary}"),
        ("https://shop.example", "ada", "{long}"),
        ("https://shop.example", "ada", "juniper.pem"),
        ("https://shop.example", "ada", "{pem}", "--node", "{nowhere}"),
    ],
    "sources show": [(SOURCE, "--node", "{nowhere}")],
    "sources verify": [(SOURCE, "--node", "{nowhere}"), (SOURCE, "--node", "{nowhere}", "--key", "fädmin")],
    "sources remove": [(SOURCE, "--node", "{nowhere}"), (SOURCE, "--node", "{nowhere}", "--key", "a\nHost: b")],
    "sources subscribe": [(SOURCE, "--node", "{nowhere}")],
    "plugins search": [("x", "--node", "{nowhere}")],
    "plugins show": [(SOURCE, "a", "--node", "{nowhere}")],
    "plugins download": [(SOURCE, "a", "--node", "{nowhere}"), (SOURCE, "a", "-o", "{node}")],
    "peers set": [("join", "https://node.example", "--node", "{nowhere}")],
    "peers joins": [("--node", "{nowhere}")],
    "advisories yank": [(SOURCE, "a", "1", "--node", "{nowhere}")],
    "advisories takedown": [(SOURCE, "a", "1", "--node", "{nowhere}")],
    "advisories approve": [(SOURCE, "a", "1", "--node", "{nowhere}")],
    "advisories hand-in": [("{binary}",), ("{node}",), ("{deep}",), ("{full}/x",)],
    "keys create": [("me", "--node", "{nowhere}"), ("me", "--node", "{nowhere}", "--master-key", "ä")],
    "keys rotate": [("N1JznWSk", "--node", "{nowhere}")],
    "keys revoke": [("N1JznWSk", "--node", "{nowhere}")],
}
CASES = [(command, line) for command, lines in MISTAKES.items() for line in lines]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Any:
    top = tmp_path_factory.mktemp("mistakes")
    (top / "binary").write_bytes(b"\xff\xfe\x00\x01" * 8)
    (top / "deep").write_text("[" * 100_000)
    for name in ("node", "held", "unreadable", "files"):
        (top / name).mkdir()
    (top / "unreadable" / "node.key").write_bytes(b"\xff\xfe")
    (top / "files" / "artifacts").write_text("no folder")
    node = load_or_make_key(top / "node")
    Database.open(top / "node" / "node.db", inline=True).close()
    open_or_make_keys(top / "publisher")
    open_or_make_keys(top / "files")
    (top / "pem").write_text(public_key_pem(node.public))
    load_or_make_key(top / "held")
    Database.open(top / "held" / "node.db", inline=True).close()
    with bind("127.0.0.1", 0) as taken, open_data_folder(load_settings({"data": top / "held"})):
        with bind("127.0.0.1", 0) as closed:
            nowhere = f"http://127.0.0.1:{closed.port}"
        paths = {path.name: str(path) for path in top.iterdir()}
        others = {"full": "/dev/full/x", "long": "/" + "x" * 300, "nowhere": nowhere, "taken": str(taken.port)}
        yield paths | others


def pfn(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(app, words, env=environment)


def ended_well(done: Result) -> bool:
    """With a sentence of ours or of the reader of arguments, in at most a few lines."""
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    said = done.stderr.strip().splitlines()
    return "Traceback" not in done.output and bool(said) and said[-1].startswith(("pfn: ", "Error: "))


def test_every_command_is_tried() -> None:
    leaves = {" ".join(path) for path in COMMANDS if path not in GROUPS}

    assert set(MISTAKES) == leaves


@pytest.mark.parametrize(("command", "line"), CASES, ids=[f"{one} {' '.join(line)}"[:80] for one, line in CASES])
def test_a_mistake_ends_with_a_sentence(
    places: dict[str, str], tmp_path: Path, command: str, line: tuple[str, ...]
) -> None:
    free = tmp_path / "free"

    done = pfn(*command.split(), *(word.format(free=free, **places) for word in line))

    assert done.exit_code in (1, 2, 5) and ended_well(done), done.output
    assert not list(free.glob("*.key"))


@pytest.mark.parametrize(
    "words",
    [
        ("serve",),
        ("identity", "succeed"),
        ("artifacts", "check"),
        ("artifacts", "move", "--to", "s3://a/b"),
        ("fsck",),
        ("export", "--to", "x", "--url", "https://x.example"),
    ],
    ids=" ".join,
)
def test_a_setting_that_cannot_be_used_is_named_by_every_command_that_reads_settings(
    places: dict[str, str], words: tuple[str, ...]
) -> None:
    done = pfn(*words, "--data", places["node"], PFN_PORT="many")

    assert done.exit_code == 2 and "pfn: port: " in done.stderr and ended_well(done)


def test_a_private_key_is_sent_to_nobody_in_place_of_the_public_one(places: dict[str, str]) -> None:
    done = pfn(
        "sources", "add", "https://shop.example", "ada", f"{places['node']}/node.key", PFN_NODE=places["nowhere"]
    )

    assert done.exit_code == 2 and "that is a private key" in done.stderr


def test_a_source_may_be_added_by_the_did_of_its_key(places: dict[str, str]) -> None:
    did = did_key(load_or_make_key(Path(places["node"])).public)

    done = pfn("sources", "add", "https://shop.example", "ada", did, PFN_NODE=places["nowhere"])

    assert "cannot reach the node" in done.stderr


@pytest.mark.parametrize("words", [("yank", "a", "1"), ("rotate",), ("commit-recovery",)], ids=" ".join)
def test_a_full_disk_is_said_by_who_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    open_or_make_keys(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    done = pfn("publisher", *words, "--author", "a", "--origin", "https://a.example", "--data", str(tmp_path))

    assert done.exit_code == 1 and "No space left on device" in done.stderr and ended_well(done)
    assert done.stdout == ""
