"""The machine is made of what is on the disk, which may fail for a moment."""

import gc
import random
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from pfn_node.mesh.restoring import READS_MAX, restore_mesh
from pfn_node.settings import Settings
from pfn_node.store import announcements, facts, set_sums
from pfn_node.store.database import Database, DatabaseClosed
from pfn_node.store.outlasting import AGAIN_SECONDS
from pfn_protocol.acceptance import accept
from pfn_protocol.identity import PrivateKey
from pfn_protocol.mesh import Mesh, MeshOptions

ME = PrivateKey(bytes(32))
NOW_MS = 1_900_000_000_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(tmp_path / "node.db", inline=True)
    yield database
    database.close()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """What the next reads of announcements fail with, the last one first."""
    failures: list[Exception] = []
    restore = announcements.restore

    def failing(db: Any) -> Any:
        if failures:
            raise failures.pop()
        return restore(db)

    monkeypatch.setattr(announcements, "restore", failing)
    return failures


async def restored(database: Database) -> Mesh:
    options = MeshOptions(url="", software="test")
    return await restore_mesh(
        ME, Settings(data=database.path.parent), options, database, random.Random(1), NOW_MS, accept
    )


async def test_a_disk_that_fails_for_a_moment_delays_the_start(
    database: Database, reads: list[Exception], autojump_clock: MockClock
) -> None:
    reads += [sqlite3.OperationalError("disk I/O error")] * (READS_MAX - 1)
    began = trio.current_time()

    assert (await restored(database)).status().announcements == 0

    assert trio.current_time() - began == pytest.approx((READS_MAX - 1) * AGAIN_SECONDS)


async def test_a_disk_that_goes_on_failing_ends_the_start(
    database: Database, reads: list[Exception], autojump_clock: MockClock
) -> None:
    reads += [sqlite3.OperationalError("disk I/O error")] * READS_MAX

    with pytest.raises(sqlite3.OperationalError):
        await restored(database)


async def test_what_is_damaged_is_not_read_again(
    database: Database, reads: list[Exception], autojump_clock: MockClock
) -> None:
    reads += [sqlite3.OperationalError("disk I/O error")]
    database.damage = "a page is damaged"

    with pytest.raises(sqlite3.OperationalError):
        await restored(database)

    assert trio.current_time() == 0


async def test_a_start_that_is_given_up_reads_no_more(
    database: Database, reads: list[Exception], autojump_clock: MockClock
) -> None:
    reads += [DatabaseClosed()]

    with pytest.raises(DatabaseClosed):
        await restored(database)


async def test_sums_that_cannot_be_written_down_do_not_keep_a_node_from_starting(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(sums: object, db: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    await database.write(lambda db: facts.set_identity(db, ME.public, 1))
    monkeypatch.setattr(set_sums.RememberedSums, "is_changed", True)
    monkeypatch.setattr(set_sums.RememberedSums, "keep", full)

    assert (await restored(database)).status().announcements == 0


@pytest.mark.parametrize("failures", [0, READS_MAX])
async def test_garbage_is_collected_as_before_once_the_machine_is_made(
    database: Database, reads: list[Exception], autojump_clock: MockClock, failures: int
) -> None:
    reads += [sqlite3.OperationalError("disk I/O error")] * failures
    before = gc.get_threshold(), gc.isenabled()

    with suppress(sqlite3.OperationalError):
        await restored(database)

    assert (gc.get_threshold(), gc.isenabled()) == before
