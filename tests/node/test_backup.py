"""Backups of a data folder: consistent, checked, and put back whole or not at all."""

import hashlib
import json
import shutil
import sqlite3
import tarfile
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest
import sqlite_utils
from typer.testing import CliRunner

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.store import listed
from pfn_node.cli import app
from pfn_node.data_folder import load_or_make_key
from pfn_node.maintenance.backup import make_backup
from pfn_node.maintenance.backup_format import MANIFEST, BackupError
from pfn_node.maintenance.restore import restore_backup
from pfn_node.store.database import Database
from pfn_node.store.facts import get_fact, set_fact
from pfn_protocol.identity import did_key

ZIPS = (b"one zip", b"another zip", b"x" * 3_000_000)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a key, a row and three artifacts."""
    folder = tmp_path / "data"
    folder.mkdir()
    load_or_make_key(folder)
    database = Database.open(folder / "node.db")
    with database._writer.atomic():
        set_fact(database._writer, "colour", "green")
    database.close()
    artifacts = Artifacts(folder / "artifacts", 2**30)
    artifacts.start()
    for zip_ in ZIPS:
        artifacts.put_bytes(zip_)
    return folder


def fact_in(folder: Path) -> str | None:
    with closing(sqlite3.connect(folder / "node.db")) as connection:
        return get_fact(sqlite_utils.Database(connection, execute_plugins=False), "colour")


def artifact_path(folder: Path, data: bytes) -> Path:
    name = hashlib.sha256(data).hexdigest()
    return folder / "artifacts" / name[:2] / name[2:]


@pytest.mark.parametrize("name", ["backup", "backup.tar"])
def test_what_was_there_is_there_again_after_a_restore(data: Path, tmp_path: Path, name: str) -> None:
    made = make_backup(data, tmp_path / name, with_key=True)
    found = restore_backup(tmp_path / name, tmp_path / "again")

    assert made.damaged == [] and found.artifacts == len(ZIPS)
    assert fact_in(tmp_path / "again") == "green"
    assert [artifact_path(tmp_path / "again", zip_).read_bytes() for zip_ in ZIPS] == list(ZIPS)
    key = load_or_make_key(tmp_path / "again")
    assert did_key(key.public) == found.node_id
    assert (tmp_path / "again" / "node.key").stat().st_mode & 0o777 == 0o600


def test_rows_written_during_a_backup_do_not_tear_it(data: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(data / "node.db", isolation_level=None)) as writer:
        writer.execute("CREATE TABLE pairs (one INTEGER, other INTEGER)")
        writer.execute("BEGIN")
        writer.executemany("INSERT INTO pairs VALUES (?, ?)", [(0, 0)] * 400_000)
        writer.execute("COMMIT")
        writes = 0

        def write_between(done: int, total: int) -> None:
            nonlocal writes
            writes += 1
            writer.execute("UPDATE pairs SET one = one + 1, other = other + 1")

        make_backup(data, tmp_path / "backup", progress=write_between)
    with closing(sqlite3.connect(tmp_path / "backup" / "node.db")) as copied:
        states = copied.execute("SELECT DISTINCT one, other FROM pairs").fetchall()

    assert writes > 0 and states == [(0, 0)]


def test_the_key_is_left_out_unless_it_is_asked_for(data: Path, tmp_path: Path) -> None:
    make_backup(data, tmp_path / "backup")

    assert not (tmp_path / "backup" / "node.key").exists()
    assert not restore_backup(tmp_path / "backup", tmp_path / "again").has_key


def test_artifacts_can_be_left_out_or_linked(data: Path, tmp_path: Path) -> None:
    make_backup(data, tmp_path / "small", with_artifacts=False)
    make_backup(data, tmp_path / "linked", link=True)

    assert not (tmp_path / "small" / "artifacts").exists()
    assert artifact_path(tmp_path / "linked", ZIPS[0]).samefile(artifact_path(data, ZIPS[0]))


def test_a_damaged_artifact_is_left_out_and_named(data: Path, tmp_path: Path) -> None:
    artifact_path(data, ZIPS[1]).write_bytes(b"another zap")

    done = CliRunner().invoke(app, ["backup", "--data", str(data), "--to", str(tmp_path / "backup"), "--json"])

    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["damaged"] == [hashlib.sha256(ZIPS[1]).hexdigest()] and told["artifacts"] == len(ZIPS) - 1
    assert not artifact_path(tmp_path / "backup", ZIPS[1]).exists()


@pytest.mark.parametrize("name", ["backup", "backup.tar"])
def test_what_lies_in_an_object_store_is_known_again_after_a_restore(data: Path, tmp_path: Path, name: str) -> None:
    digest = hashlib.sha256(b"a zip far away").hexdigest()
    listed_there = {
        "place": b"s3://bucket/zips",
        f"{digest[:2]}/{digest[2:]}.14": b'"etag"\n' + bytes(32),
        f"doomed/{'ab' * 32}": b'"etag"\n' + bytes(32),
    }
    for path, content in (listed_there | {"incoming/tmp": b"half"}).items():
        file = data / "artifacts" / "stored" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    make_backup(data, tmp_path / name)
    restore_backup(tmp_path / name, tmp_path / "again")

    stored = tmp_path / "again" / "artifacts" / "stored"
    found = {file.relative_to(stored).as_posix(): file.read_bytes() for file in stored.rglob("*") if file.is_file()}
    assert found == listed_there
    assert dict(listed(stored)) == {bytes.fromhex(digest): 14}


def test_a_listing_that_names_files_elsewhere_is_refused(data: Path, tmp_path: Path) -> None:
    (data / "artifacts" / "stored").mkdir(parents=True)
    (data / "artifacts" / "stored" / "place").write_bytes(b"s3://bucket/zips")
    make_backup(data, tmp_path / "backup")
    manifest = json.loads((tmp_path / "backup" / MANIFEST).read_text())
    with tarfile.open(tmp_path / "backup" / "stored.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../../node.key"), BytesIO())
    raw = (tmp_path / "backup" / "stored.tar").read_bytes()
    manifest["files"]["stored.tar"] = {"sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw)}
    (tmp_path / "backup" / MANIFEST).write_text(json.dumps(manifest))

    with pytest.raises(BackupError, match="does not belong"):
        restore_backup(tmp_path / "backup", tmp_path / "again")

    assert manifest["format"] == 2 and not (tmp_path / "again").exists()


def _flip(file: Path, position: int) -> None:
    raw = bytearray(file.read_bytes())
    raw[position] ^= 1
    file.write_bytes(raw)


@pytest.mark.parametrize("damaged", ["node.db", "node.key", "backup.json", "artifact", "missing", "strange"])
def test_a_damaged_backup_is_refused_and_leaves_nothing(data: Path, tmp_path: Path, damaged: str) -> None:
    backup = tmp_path / "backup"
    make_backup(data, backup, with_key=True)
    if damaged == "artifact":
        _flip(artifact_path(backup, ZIPS[2]), 1_000_000)
    elif damaged == "missing":
        artifact_path(backup, ZIPS[2]).unlink()
    elif damaged == "strange":
        (backup / "lock").write_text("")
    else:
        _flip(backup / damaged, 40)

    with pytest.raises(BackupError):
        restore_backup(backup, tmp_path / "again")

    assert sorted(one.name for one in tmp_path.iterdir()) == ["backup", "data"]


def test_a_tar_file_that_was_cut_off_is_refused(data: Path, tmp_path: Path) -> None:
    make_backup(data, tmp_path / "backup.tar")
    raw = (tmp_path / "backup.tar").read_bytes()
    for kept in (len(raw) // 3, len(raw) - 20_000):
        (tmp_path / "cut.tar").write_bytes(raw[:kept])

        with pytest.raises(BackupError):
            restore_backup(tmp_path / "cut.tar", tmp_path / "again")

        assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "artifacts/../../escaped", "artifacts/ab/short"])
def test_a_tar_file_with_other_paths_is_refused(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = 3
        tar.addfile(entry, BytesIO(b"bad"))

    with pytest.raises(BackupError, match="does not belong"):
        restore_backup(tmp_path / "evil.tar", tmp_path / "again")


def test_a_folder_in_use_is_never_written_over(data: Path, tmp_path: Path) -> None:
    make_backup(data, tmp_path / "backup", with_key=True)
    before = (data / "node.key").read_bytes()

    done = CliRunner().invoke(app, ["restore", "--from", str(tmp_path / "backup"), "--data", str(data)])

    assert done.exit_code == 1 and "not empty" in done.stderr
    assert (data / "node.key").read_bytes() == before


def test_an_empty_folder_may_be_restored_into(data: Path, tmp_path: Path) -> None:
    make_backup(data, tmp_path / "backup")
    (tmp_path / "again").mkdir()

    done = CliRunner().invoke(app, ["restore", "--from", str(tmp_path / "backup"), "--data", str(tmp_path / "again")])

    assert done.exit_code == 0 and "identity import" in done.stdout
    assert fact_in(tmp_path / "again") == "green"


def test_a_backup_of_a_newer_version_is_refused_by_its_name(data: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(data / "node.db", isolation_level=None)) as db:
        db.execute("INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('node', 'm999_far', '')")
    make_backup(data, tmp_path / "backup")

    with pytest.raises(BackupError, match="m999_far"):
        restore_backup(tmp_path / "backup", tmp_path / "again")


def test_a_backup_never_overwrites_and_never_stays_half(data: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(BackupError, match="exists already"):
        make_backup(data, tmp_path / "taken")

    (data / "node.db").write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(BackupError, match="fsck"):
        make_backup(data, tmp_path / "backup")

    assert sorted(one.name for one in tmp_path.iterdir()) == ["data", "taken"]
    shutil.rmtree(data)
    with pytest.raises(BackupError, match="not a node's data folder"):
        make_backup(data, tmp_path / "backup")
    assert not (tmp_path / "backup" / MANIFEST).exists()
