"""`pfn export`: what it says, and its exit codes."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pfn_node.cli import app
from pfn_node.data_folder import KEY_FILE, write_secret
from pfn_node.export.reading import INDEX
from pfn_node.store.database import Database
from pfn_protocol.identity import did_key
from tests.node.exporting import a_zip
from tests.node.web_node import NODE, STRANGER, WebNode, web_node

URL = "https://files.test"


def pfn(*words: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, words)])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "node").mkdir()
    return tmp_path / "node"


@pytest.fixture
async def node(data: Path) -> AsyncIterator[WebNode]:
    async with web_node(data) as made:
        write_secret(data / KEY_FILE, NODE.to_pem())
        await made.add_bilbo()
        await made.add_release(a_zip())
        yield made


async def test_it_says_what_was_written_and_checks_it_without_the_node(
    node: WebNode, data: Path, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    done = pfn("--to", files, "--data", data, "--url", URL, "--json")

    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["node_id"], said["left_out"], said["damaged"]) == (did_key(NODE.public), [], [])
    assert said["files"] == said["written"] > 10
    assert said["bytes"] == said["written_bytes"] > len(a_zip())

    checked = pfn("--check", files, "--signer", did_key(NODE.public), "--json")
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.stdout) | {"made": 0} == {
        "sound": True,
        "node_id": did_key(NODE.public),
        "made": 0,
        "change": said["change"],
        "url": URL,
        "files": said["files"],
        "wrong": [],
    }


async def test_a_wrong_file_is_named_and_the_exit_code_is_1(node: WebNode, data: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    assert pfn("--to", files, "--data", data, "--url", URL).exit_code == 0
    (files / "composer" / "list.json").write_text("{}")

    done = pfn("--check", files)

    assert done.exit_code == 1
    assert "composer/list.json  changed" in done.stdout
    assert "1 files are not what the node signed" in done.stderr


async def test_the_index_of_another_node_than_the_one_meant_is_refused(
    node: WebNode, data: Path, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    assert pfn("--to", files, "--data", data, "--url", URL).exit_code == 0

    done = pfn("--check", files, "--signer", did_key(STRANGER.public))

    assert done.exit_code == 1
    assert f"is signed by {did_key(NODE.public)}, not by" in done.stderr


async def test_the_nodes_own_url_is_taken_where_none_is_given(
    node: WebNode, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PFN_URL", "https://node.example.org")

    assert pfn("--to", f"file://{tmp_path}/files", "--data", data).exit_code == 0
    assert json.loads((tmp_path / "files" / INDEX).read_text())["url"] == "https://node.example.org"


async def test_a_damaged_artifact_ends_it_with_1(node: WebNode, data: Path, tmp_path: Path) -> None:
    (artifact,) = (file for file in (data / "artifacts").rglob("*") if file.is_file())
    artifact.write_bytes(b"rot")

    done = pfn("--to", tmp_path / "files", "--data", data, "--url", URL)

    assert done.exit_code == 1
    assert artifact.name in done.stdout and "damaged on its disk" in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name the place"),
        (["--to", "x", "--check", "y"], "name the place"),
        (["--check", "x", "--url", URL], "go with --to"),
        (["--to", "x", "--signer", "y"], "goes with --check"),
        (["--check", "x", "--signer", "y"], "--signer: a node id looks like"),
        (["--to", "x", "--data", "y"], "say with --url"),
        (["--to", "x", "--data", "y", "--url", "files.test"], "--url: expected a whole URL"),
        (["--to", "x", "--url", URL], "data"),
        (["--to", "x", "--data", "y", "--url", URL, "--config", "no.toml"], "no.toml"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)

    done = pfn(*words)

    assert done.exit_code == 2, done.output
    assert sentence in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_said_in_a_sentence(data: Path, tmp_path: Path) -> None:
    assert "there is no node.key" in pfn("--to", tmp_path / "x", "--data", data, "--url", URL).stderr
    write_secret(data / KEY_FILE, NODE.to_pem())
    assert "node.db" in pfn("--to", tmp_path / "x", "--data", data, "--url", URL).stderr
    assert "No such file" in pfn("--check", tmp_path / "nothing").stderr
    assert "nothing was exported to here" in pfn("--check", tmp_path).stderr
    assert not (data / "node.db").exists()


def test_a_database_of_another_version_is_left_alone(data: Path, tmp_path: Path) -> None:
    write_secret(data / KEY_FILE, NODE.to_pem())
    Database.open(data / "node.db").close()
    database = Database.open(data / "node.db")
    database._writer.conn.execute("DELETE FROM _sqlite_migrations WHERE name LIKE 'm016%'")
    database.close()

    done = pfn("--to", tmp_path / "x", "--data", data, "--url", URL)

    assert done.exit_code == 1
    assert "start the node with this one first" in done.stderr


async def test_two_exports_do_not_write_to_one_folder(node: WebNode, data: Path, tmp_path: Path) -> None:
    from pfn_node.export.places import place_named

    with place_named(str(tmp_path / "files"), make=True):
        done = pfn("--to", tmp_path / "files", "--data", data, "--url", URL)

    assert done.exit_code == 1 and "another export writes to" in done.stderr
