"""`pfn identity commit` and `pfn identity succeed`: the key that follows, and when it may."""

import time
from hashlib import sha256
from pathlib import Path

import pytest
import trio
from typer.testing import CliRunner, Result

from pfn_node.cli import app
from pfn_node.data_folder import load_or_make_key, make_next_key, next_key, open_data_folder
from pfn_node.settings import load_settings
from pfn_node.store import facts, successions
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


def test_a_commitment_that_was_told_is_never_followed_by_another(data: Path) -> None:
    pfn("commit", data)
    first = next_key(data)
    assert first is not None
    told(data, first, 0)
    (data / "node-next.key").rename(data / "put-away.key")

    again, succeeding = pfn("commit", data), pfn("succeed", data)

    wanted = sha256(first.public).hexdigest()
    assert again.exit_code == succeeding.exit_code == 1 and next_key(data) is None
    assert wanted in again.stderr and "make both void" in again.stderr
    assert f"put back the one that this node committed to, the one whose sha256 is {wanted}" in succeeding.stderr


def test_a_next_key_that_was_not_committed_to_is_not_put_in_place_and_nobody_is_told_to_commit_to_it(
    data: Path,
) -> None:
    pfn("commit", data)
    first = next_key(data)
    assert first is not None
    told(data, first, succession_age_seconds_min)
    (data / "node-next.key").unlink()
    make_next_key(data)

    done = pfn("succeed", data)

    assert done.exit_code == 1 and "not the key that this node committed to" in done.stderr
    assert "start it" not in done.stderr and sha256(first.public).hexdigest() in done.stderr

    told(data, PrivateKey(bytes(32)), 0)
    for command in ("commit", "succeed"):
        assert "made both void for good" in pfn(command, data).stderr


def test_looking_at_a_node_that_lost_its_key_makes_no_new_one(data: Path) -> None:
    told(data, PrivateKey(bytes(32)), 0)
    (data / "node.key").unlink()

    done = pfn("show", data)

    assert done.exit_code == 1 and "pfn identity import" in done.stderr
    assert not (data / "node.key").exists()


def test_a_key_that_is_not_that_of_the_database_beside_it_is_taken_with_a_warning(data: Path, tmp_path: Path) -> None:
    told(data, PrivateKey(bytes(32)), 0)
    pem, other = tmp_path / "right.pem", tmp_path / "wrong.pem"
    (data / "node.key").rename(pem)
    right, wrong = PrivateKey.from_pem(pem.read_text()), PrivateKey(bytes(32))
    other.write_text(wrong.to_pem())
    database = Database.open(data / "node.db", inline=True)
    trio.run(database.write, lambda db: facts.set_identity(db, right.public, 1))
    database.close()

    mistaken = CliRunner().invoke(app, ["identity", "import", str(other), "--data", str(data)])
    (data / "node.key").unlink()
    done = CliRunner().invoke(app, ["identity", "import", str(pem), "--data", str(data)])

    assert f"is that of {did_key(right.public)}" in mistaken.stderr
    assert done.exit_code == 0 and done.stderr == ""


def test_a_database_that_is_none_is_said_in_a_sentence(data: Path) -> None:
    (data / "node.db").write_bytes(b"garbage" * 1_000)

    for command in ("commit", "succeed"):
        done = pfn(command, data)
        assert done.exit_code == 1 and "file is not a database" in done.stderr


def test_a_setting_that_cannot_be_used_is_said_in_a_sentence(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PFN_PORT", "many")

    done = pfn("succeed", data)

    assert done.exit_code == 2 and done.stderr.startswith("pfn: port: ")


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
