"""`pfn fsck`: what it finds, what it says, and what it puts right."""

import hashlib
import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils
from typer.testing import CliRunner

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.cli import app
from pfn_node.data_folder import hold_lock
from pfn_node.maintenance import rewriting
from pfn_node.maintenance.fsck import FsckError, check
from pfn_node.store import announcements, audit, catalogue, page_checksums, peers, registry
from pfn_node.store.database import Database
from tests.node.stopped_node import ZIP, make_folder
from tests.node.store_world import MESH, NOW, Publisher, version_statement
from tests.node.test_artifact_checks import flip, path_of

PAGE = page_checksums.PAGE_BYTES


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    make_folder(folder, announcements=60)
    return folder


@contextmanager
def opened(folder: Path) -> Iterator[sqlite_utils.Database]:
    page_checksums.load()
    with closing(sqlite3.connect(folder / "node.db", isolation_level=None)) as connection:
        yield sqlite_utils.Database(connection, execute_plugins=False)


def damage_of(folder: Path, *, repair: bool = False) -> list[str]:
    return [f"{one.where}: {one.what}" for one in check(folder, MESH, repair=repair).findings if one.is_damage]


def facts(folder: Path) -> dict[str, Any]:
    """What a node would answer."""
    with opened(folder) as db:
        found = catalogue.search_plugins(db, catalogue.PluginQuery(q="says"), now=NOW)[0]
        return {
            "found": [(plugin.release.plugin_id, plugin.release.version) for plugin in found],
            "announcements": sorted(one.id for one, _ in announcements.restore(db)),
            "releases": sorted(
                tuple(row) for row in db.execute("SELECT version, sha256, backed, mirrored, assurance FROM releases")
            ),
            "pinned": [peer.pinned for peer in peers.peers(db)],
            "sources": registry.get_source(db, Publisher().source_id),
            "audit": audit.head(db),
        }


def test_a_sound_folder_is_clean(data: Path) -> None:
    report = check(data, MESH)

    assert report.is_clean and [one for one in report.findings if one.is_damage] == []
    assert report.looked_at["announcements"] == 61 and report.looked_at["artifacts"] == 1
    assert report.looked_at["audit entries"] == 60 and report.looked_at["pages"] > 50


def test_the_command_says_what_is_wrong_and_ends_with_1(data: Path) -> None:
    clean = CliRunner().invoke(app, ["fsck", "--data", str(data)])
    flip(path_of(data / "artifacts", hashlib.sha256(ZIP).digest()), 5)
    damaged = CliRunner().invoke(app, ["fsck", "--data", str(data), "--json"])
    wrong = CliRunner().invoke(app, ["fsck", "--data", str(data), "--mesh", "NOT A NAME"])

    assert (clean.exit_code, damaged.exit_code, wrong.exit_code) == (0, 1, 2)
    assert clean.stdout.startswith("clean:") or "clean:" in clean.stdout
    told = json.loads(damaged.stdout)
    assert told["clean"] is False
    assert told["findings"][0]["named"] == [hashlib.sha256(ZIP).hexdigest()]


def test_a_damaged_or_missing_artifact_is_wanted_again_after_a_repair(data: Path) -> None:
    sha256 = hashlib.sha256(ZIP).digest()
    file = path_of(data / "artifacts", sha256)
    flip(file, 5)
    assert damage_of(data) == ["artifacts: 1 files are not what their names say"]
    assert file.exists(), "only looked at"

    assert damage_of(data, repair=True) != []
    artifacts = Artifacts(data / "artifacts", 2**20)
    artifacts.start()

    assert artifacts.wanted() == (sha256,) and not artifacts.has(sha256)
    assert damage_of(data) == [], "put aside and on order"


def test_an_artifact_that_the_database_lists_and_nobody_has_is_missed(data: Path) -> None:
    with opened(data) as db:
        db.execute("UPDATE releases SET mirrored = 1")
        db.execute("DELETE FROM artifacts")
        db.execute("INSERT INTO artifacts SELECT DISTINCT sha256, 1, 0 FROM releases WHERE version = '2.7'")
        db.execute("UPDATE releases SET mirrored = version = '2.7'")

    assert damage_of(data) == ["artifacts: 1 files are missing"]
    check(data, MESH, repair=True)
    artifacts = Artifacts(data / "artifacts", 2**20)
    artifacts.start()
    assert artifacts.wanted() == (version_statement("2.7", "other 7").sha256,)


@pytest.mark.parametrize(
    ("where", "statement"),
    [
        (
            "announcements",
            "UPDATE announcements SET raw = CAST(substr(raw, 1, 200) || x'00' || substr(raw, 202) AS BLOB)",
        ),
        ("announcements", "UPDATE announcements SET seq = seq + 1 WHERE rowid = 5"),
        ("catalogue", "DELETE FROM observations WHERE version = '2.9'"),
        ("catalogue", "DELETE FROM plugins"),
        ("catalogue", "UPDATE releases SET mirrored = 1 - mirrored WHERE version = '2.3'"),
        ("search", "DELETE FROM plugin_texts"),
        ("search", "UPDATE plugin_texts_content SET c0 = 'another'"),
    ],
)
def test_what_does_not_follow_from_the_announcements_is_found_and_made_again(
    data: Path, where: str, statement: str
) -> None:
    before = facts(data)
    with opened(data) as db:
        db.execute(statement)

    found = damage_of(data, repair=True)

    assert found != [] and found[0].startswith(where)
    assert damage_of(data) == []
    if where != "announcements":
        assert facts(data) == before


def test_marks_that_are_not_those_of_their_announcement_are_put_right_and_nothing_is_lost(data: Path) -> None:
    before = facts(data)
    with opened(data) as db:
        kept = list(db.execute("SELECT id, content, replaces FROM announcements ORDER BY id"))
        db.execute("UPDATE announcements SET content = zeroblob(32) WHERE rowid % 2")

    check(data, MESH, repair=True)

    assert damage_of(data) == [] and facts(data) == before
    with opened(data) as db:
        assert list(db.execute("SELECT id, content, replaces FROM announcements ORDER BY id")) == kept


def test_a_changed_audit_entry_is_found(data: Path) -> None:
    with opened(data) as db:
        for (name,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'"
        ).fetchall():
            db.execute(f"DROP TRIGGER {name}")  # as a disk would, which asks nobody
        db.execute("UPDATE audit SET actor = 'nobody' WHERE seq = 7")

    assert damage_of(data) == ["audit: entry 7 was changed: its hash does not cover what it says"]


def test_an_audit_log_whose_end_was_cut_off_is_found(data: Path) -> None:
    with opened(data) as db:
        db.execute("DELETE FROM audit WHERE seq > 50")

    assert damage_of(data) == ["audit: entry 60 was written last, and is not there: the end of the log was cut off"]


def test_another_mesh_is_not_taken_for_damage_of_every_row(data: Path) -> None:
    found = [one for one in check(data, "elsewhere").findings if one.is_damage]

    assert [one.what for one in found] == ["none is of the mesh 'elsewhere'"] and "--mesh" in found[0].advice


def test_a_folder_in_use_is_looked_at_and_never_repaired(data: Path) -> None:
    with hold_lock(data):
        assert check(data, MESH).is_clean
        with pytest.raises(FsckError, match="the node runs"):
            check(data, MESH, repair=True)


@pytest.mark.parametrize("seed", range(6))
def test_a_database_with_damaged_pages_is_written_anew_from_what_can_be_read(data: Path, seed: int) -> None:
    before = facts(data)
    rng = random.Random(seed)
    raw = bytearray((data / "node.db").read_bytes())
    pages = rng.sample(range(2, len(raw) // PAGE), 3)
    for page in pages:
        raw[page * PAGE + rng.randrange(PAGE)] ^= 1
    (data / "node.db").write_bytes(raw)

    found = damage_of(data)
    report = check(data, MESH, repair=True)

    assert found[0] == "database: 3 pages are not what was written"
    assert any("written anew" in one for one in report.repaired)
    assert damage_of(data) == []
    after = facts(data)
    assert set(after["announcements"]) <= set(before["announcements"])
    assert len(after["announcements"]) >= len(before["announcements"]) - 30
    if after != before:
        assert [one for one in report.repaired if one.startswith("lost")] or after["releases"] != before["releases"]
    assert [file for file in data.iterdir() if ".damaged-" in file.name], "the old one stays"
    Database.open(data / "node.db").close()


def test_a_database_without_checksums_gets_them_when_it_is_rewritten(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(page_checksums, "load", lambda: False)
        Database.open(tmp_path / "plain.db").close()
    with closing(sqlite3.connect(tmp_path / "plain.db", isolation_level=None)) as plain, opened(data) as db:
        plain.execute("PRAGMA foreign_keys = OFF")
        for table in db.table_names():
            if not table.startswith(("sqlite_", "plugin_texts", "_sqlite")):
                rows = db.execute(f"SELECT * FROM {table}").fetchall()
                marks = ", ".join("?" * len(rows[0])) if rows else ""
                plain.executemany(f"INSERT INTO {table} VALUES ({marks})", rows) if rows else None
    before = facts(data)
    (data / "node.db").write_bytes((tmp_path / "plain.db").read_bytes())
    for end in ("-wal", "-shm"):
        (data / f"node.db{end}").unlink(missing_ok=True)
    assert [one.what for one in check(data, MESH).findings if one.where == "database"] == [
        "its pages have no checksums: what is damaged there may be served"
    ]

    done = CliRunner().invoke(app, ["fsck", "--data", str(data), "--repair", "--rewrite"])

    assert page_checksums.has_checksums(data / "node.db"), done.stdout
    assert damage_of(data) == [] and facts(data) == before


def test_files_that_sqlite_could_not_remove_do_not_stay_beside_a_database_that_was_written_anew(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_whole = rewriting._check_whole

    def leaving(fresh: Path, counts: dict[str, int]) -> None:
        check_whole(fresh, counts)
        fresh.with_name(f"{fresh.name}-shm").touch()

    monkeypatch.setattr(rewriting, "_check_whole", leaving)
    rewriting.rewrite(data / "node.db", MESH)

    assert not list(data.glob("*.rewritten*")) and damage_of(data) == []


def test_what_is_no_database_is_said_and_left_where_it_is(data: Path) -> None:
    (data / "node.db").write_bytes(b"nothing that SQLite knows " * 1_000)

    done = CliRunner().invoke(app, ["fsck", "--data", str(data), "--repair"])

    assert done.exit_code == 1 and "backup" in done.stderr
    assert (data / "node.db").read_bytes().startswith(b"nothing")
    assert not [file for file in data.iterdir() if "rewritten" in file.name]


def test_a_folder_without_a_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FsckError, match="not a node's data folder"):
        check(tmp_path, MESH)


def test_a_rewriting_says_that_numbers_of_rows_may_be_given_again() -> None:
    with closing(sqlite3.connect(":memory:")) as unreadable:
        db = sqlite_utils.Database(memory=True, execute_plugins=False)

        (lost,) = rewriting._copy_sequences(unreadable, db)
        db.close()

    assert lost.startswith("sqlite_sequence: numbers of rows that are gone may be given again")
