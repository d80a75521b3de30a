"""Damaged pages of the database: an error, never a wrong row."""

import random
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from pfn_node.store import announcements, audit, catalogue, page_checksums, peers, sources
from pfn_node.store.activity import activities, record_activity
from pfn_node.store.database import Database, StoreError
from pfn_protocol.announcements import Evidence, EvidenceForm
from tests.node.store_world import NOW, Publisher, World, source_statement

PAGE = page_checksums.PAGE_BYTES
FLIPS_IN_CI = 12
VERSIONS = 120

Question = Callable[[sqlite_utils.Database], Any]


def made(path: Path) -> list[bytes]:
    """A node's database with a few hundred rows of every kind that is served; returns the ids of announcements."""
    database = Database.open(path, inline=True)
    db = database._writer
    rng = random.Random(5)
    with db.atomic():
        world = World(db=db)
        publisher = Publisher()
        world.add_source(publisher, verified=True)
        for name in ("anna", "bert"):
            world.pin(name)
            world.say(name, source_statement(publisher))
        for number in range(VERSIONS):
            # Evidence of some kilobytes lies on overflow pages.
            bulk = (Evidence(EvidenceForm.METADATA, rng.randbytes(64)),)
            world.saw("anna", f"1.{number}", f"zip {number}", evidence=bulk)
            world.fetch(f"1.{number}", f"zip {number}", description="d" * rng.choice((10, 6_000)))
            record_activity(db, "federation_event", f"number {number}", at=NOW)
            audit.append(db, at=NOW, actor="system", action=f"act-{number}")
        ids = [row[0] for row in db.execute("SELECT id FROM announcements ORDER BY id").fetchall()]
    database.close()
    return ids


def questions(ids: list[bytes]) -> list[Question]:
    """What consumers, peers and operators ask for."""
    source = Publisher().source_id
    asked: list[Question] = [
        lambda db: catalogue.search_plugins(db, catalogue.PluginQuery(limit=50), now=NOW),
        lambda db: catalogue.search_plugins(db, catalogue.PluginQuery(q="hello", limit=50), now=NOW),
        lambda db: catalogue.counts(db),
        lambda db: sources.get_source(db, source),
        lambda db: peers.peers(db),
        lambda db: activities(db),
        lambda db: audit.broken(audit.entries(db, limit=1_000)),
        lambda db: list(announcements.restore(db)),
    ]
    for number in range(0, VERSIONS, 5):
        asked.append(partial(catalogue.get_release, source_id=source, plugin_id="hello", version=f"1.{number}"))
        asked.append(partial(_observations, source=source, version=f"1.{number}"))
    asked.append(lambda db: announcements.bodies(db, ids))
    return asked


def _observations(db: sqlite_utils.Database, source: str, version: str) -> Any:
    return catalogue.observations_of(db, source, "hello", version)


def answers(path: Path, asked: list[Question]) -> list[Any]:
    """What each question is answered with; the exception where it is none."""
    found: list[Any] = []
    try:
        database = Database.open(path, inline=True)
    except StoreError as error:
        return [error] * len(asked)
    for question in asked:
        try:
            found.append(database.read_now(question))
        except Exception as error:
            found.append(error)
    database.close()
    return found


def flip_bit(raw: bytearray, page: int, rng: random.Random) -> None:
    raw[page * PAGE + rng.randrange(PAGE)] ^= 1 << rng.randrange(8)


def zero_sector(raw: bytearray, page: int, rng: random.Random) -> None:
    at = page * PAGE + 512 * rng.randrange(8)
    raw[at : at + 512] = bytes(512)


def zero_page(raw: bytearray, page: int, rng: random.Random) -> None:
    raw[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)


def another_page(raw: bytearray, page: int, rng: random.Random) -> None:
    """Written to the wrong place: sound by its checksum."""
    other = rng.randrange(1, len(raw) // PAGE)
    raw[page * PAGE : (page + 1) * PAGE] = raw[other * PAGE : (other + 1) * PAGE]


@pytest.mark.parametrize("damages", [FLIPS_IN_CI, pytest.param(500, marks=pytest.mark.long)])
@pytest.mark.parametrize("damage", [flip_bit, zero_sector])
def test_no_damaged_page_gives_a_wrong_row(
    tmp_path: Path, damages: int, damage: Callable[[bytearray, int, random.Random], None]
) -> None:
    ids = made(tmp_path / "node.db")
    asked = questions(ids)
    right = answers(tmp_path / "node.db", asked)
    sound = (tmp_path / "node.db").read_bytes()
    rng = random.Random(11)
    wrong = noticed_by_readers = noticed_by_scan = changed = 0
    for _ in range(damages):
        raw = bytearray(sound)
        damage(raw, rng.randrange(len(raw) // PAGE), rng)
        if raw == sound:
            continue
        changed += 1
        (tmp_path / "bad.db").write_bytes(raw)
        given = answers(tmp_path / "bad.db", asked)
        wrong += sum(not isinstance(one, Exception) and one != truth for one, truth in zip(given, right, strict=True))
        noticed_by_readers += any(isinstance(one, Exception) for one in given)
        (tmp_path / "bad.db").write_bytes(raw)
        noticed_by_scan += any(found for _, _, found in page_checksums.damaged_pages(tmp_path / "bad.db"))

    print(f"{changed}: {noticed_by_readers} met by a reader, {noticed_by_scan} found by a scan, {wrong} wrong answers")  # noqa: T201
    assert not any(isinstance(one, Exception) for one in right)
    assert wrong == 0
    assert noticed_by_scan == changed
    assert noticed_by_readers > 0


def test_a_new_database_has_checksums_and_what_writes_keeps_them(tmp_path: Path) -> None:
    made(tmp_path / "node.db")

    assert page_checksums.has_checksums(tmp_path / "node.db")
    assert [found for _, _, found in page_checksums.damaged_pages(tmp_path / "node.db") if found] == []


def test_a_read_of_a_damaged_page_is_remembered_for_the_operator(tmp_path: Path) -> None:
    ids = made(tmp_path / "node.db")
    sound = (tmp_path / "node.db").read_bytes()
    with closing(sqlite3.connect(tmp_path / "node.db")) as db:
        (page,) = db.execute("SELECT pageno FROM dbstat WHERE name = 'announcements' AND pagetype = 'leaf'").fetchone()
    raw = bytearray(sound)
    raw[(page - 1) * PAGE + 50] ^= 1
    (tmp_path / "node.db").write_bytes(raw)
    database = Database.open(tmp_path / "node.db", inline=True)

    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        database.read_now(lambda db: announcements.bodies(db, ids))

    assert database.damage is not None and "pfn fsck" in database.damage
    database.close()


def test_a_database_with_checksums_is_not_opened_where_they_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path / "node.db")
    monkeypatch.setattr(page_checksums, "load", lambda: False)

    with pytest.raises(StoreError, match="install APSW"):
        Database.open(tmp_path / "node.db")


def test_without_the_extension_a_database_is_made_without_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_checksums, "load", lambda: False)

    Database.open(tmp_path / "plain.db").close()

    assert not page_checksums.has_checksums(tmp_path / "plain.db")
    monkeypatch.undo()
    Database.open(tmp_path / "plain.db").close()
    assert not page_checksums.has_checksums(tmp_path / "plain.db"), "what was begun without stays without"


def test_nothing_is_loaded_where_apsw_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apsw", None)

    assert page_checksums._extension() is None


def test_the_checksum_is_the_one_of_sqlites_own_extension(tmp_path: Path) -> None:
    assert page_checksums.load()
    (tmp_path / "x.db").write_bytes(page_checksums.empty_database())
    with closing(sqlite3.connect(tmp_path / "x.db")) as db:
        assert db.execute("PRAGMA checksum_verification").fetchone() in ((1,), ("1",))
        db.execute("CREATE TABLE t (x)")
        db.commit()
        assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)
    shutil.copy(tmp_path / "x.db", tmp_path / "y.db")

    assert [found for _, _, found in page_checksums.damaged_pages(tmp_path / "y.db")] == [[]]
