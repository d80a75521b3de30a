"""`pfn identity commit` and `pfn identity succeed`: the key that follows, and when it may."""

import time
from hashlib import sha256
from pathlib import Path

import pytest
import trio
from typer.testing import CliRunner, Result

from pfn_node.cli import app
from pfn_node.data_folder import load_or_make_key, next_key, open_data_folder
from pfn_node.settings import load_settings
from pfn_node.store import successions
from pfn_node.store.database import Database
from pfn_protocol.acceptance import announce
from pfn_protocol.identity import PrivateKey, did_key
from pfn_protocol.limits import succession_age_seconds_min
from pfn_protocol.succession import commit_to


def pfn(command: str, data: Path) -> Result:
    return CliRunner().invoke(app, ["identity", command, "--data", str(data)])


def told(data: Path, following: PrivateKey, seconds_ago: int) -> None:
    """The node said which key is to follow, as it does at its start."""
    key, now = load_or_make_key(data), int(time.time())
    statement = commit_to(following.public)
    announcement = announce(key, "main", statement, 1, now * 1000)
    database = Database.open(data / "node.db", inline=True)
    trio.run(database.write, lambda db: successions.keep_commitment(db, announcement, statement, now - seconds_ago))
    database.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    load_or_make_key(tmp_path)
    return tmp_path


def test_commit_makes_the_next_key_once_and_prints_its_hash(data: Path) -> None:
    done = pfn("commit", data)

    following = next_key(data)
    assert following is not None and done.exit_code == 0
    assert done.stdout == sha256(following.public).hexdigest() + "\n"
    again = pfn("commit", data)
    assert again.exit_code == 1 and "not overwritten" in again.stderr


@pytest.mark.parametrize("command", ["commit", "succeed"])
def test_without_a_key_there_is_nothing_to_pass_on(tmp_path: Path, command: str) -> None:
    done = pfn(command, tmp_path)

    assert done.exit_code == 1 and "there is no node.key in" in done.stderr
    assert not (tmp_path / "node.key").exists()


def test_succeed_needs_a_commitment_that_was_told_for_72_hours(data: Path) -> None:
    before = load_or_make_key(data)
    assert "there is no node-next.key" in pfn("succeed", data).stderr
    pfn("commit", data)
    following = next_key(data)
    assert following is not None
    assert "start it once after the commitment" in pfn("succeed", data).stderr

    told(data, following, succession_age_seconds_min - 90 * 60)
    assert "wait for 2 h" in pfn("succeed", data).stderr
    assert load_or_make_key(data).seed == before.seed


def test_succeed_puts_the_next_key_in_place_while_the_node_is_stopped(data: Path) -> None:
    pfn("commit", data)
    following = next_key(data)
    assert following is not None
    told(data, following, succession_age_seconds_min)
    with open_data_folder(load_settings({"data": data})):
        assert "another process uses the data folder" in pfn("succeed", data).stderr

    done = pfn("succeed", data)

    assert done.exit_code == 0 and done.stdout.startswith(did_key(following.public))
    assert load_or_make_key(data).seed == following.seed
