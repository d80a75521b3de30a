"""A disk that is full, or fails, and is well again: what the node does by itself waits for it, and readers read on."""

import errno
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from pfn_node import outbound
from pfn_node.mesh.incoming import Busy
from pfn_node.mesh.turns import Doers, NotKept
from pfn_node.sources.mirroring import Mirroring
from pfn_node.sources.outcomes import PublisherFailed
from pfn_node.store import activity
from pfn_node.store.database import Database, DatabaseClosed, StoreError
from pfn_node.store.outlasting import AGAIN_SECONDS, outlast
from pfn_node.store.rows import Filters
from pfn_node.web.errors import as_api_error
from pfn_protocol.effects import RaiseAlert, SendAnswer, SendRequest
from pfn_protocol.events import RequestReceived, TimePassed
from pfn_protocol.identity import PrivateKey
from pfn_protocol.mesh import Mesh, MeshOptions, Restored
from pfn_protocol.messages import HaveAnswer, HaveRequest
from tests.node.mesh_turns import turns_over
from tests.node.sources_room import arranged, registered
from tests.node.web_node import NOW as WEB_NOW
from tests.node.web_node import WebNode, web_node

NOW = 1_800_000_000
ME, PEER = (PrivateKey(bytes([number]) * 32) for number in (1, 2))
FULL = sqlite3.OperationalError("database or disk is full")
Write = Callable[[Any], Awaitable[Any]]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "node.db", inline=True)
    yield opened
    opened.close()


def failing(database: Database, monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> None:
    """The next writes raise these; the others write."""
    write: Write = database.write
    waiting = list(errors)

    async def fail(work: Any) -> Any:
        if waiting:
            raise waiting.pop(0)
        return await write(work)

    monkeypatch.setattr(database, "write", fail)


async def test_work_that_nobody_waits_for_is_done_again_until_the_disk_takes_it(autojump_clock: MockClock) -> None:
    errors = [FULL, StoreError("it ended")]

    async def work() -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    assert await outlast(work, "work") == "done"
    assert trio.current_time() == pytest.approx(2 * AGAIN_SECONDS, abs=0.1)


@pytest.mark.parametrize("error", [DatabaseClosed(), sqlite3.IntegrityError("a mistake"), ValueError("another")])
async def test_what_waiting_does_not_mend_is_raised(error: Exception) -> None:
    async def work() -> None:
        raise error

    with pytest.raises(type(error)):
        await outlast(work, "work")


@pytest.fixture
async def stuck(database: Database, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> "Stuck":
    """A mesh whose first turn finds the disk full."""
    failing(database, monkeypatch, FULL, FULL)
    return Stuck(database, monkeypatch)


class Stuck:
    """The machine raises an alert and asks a peer, each time that something happens."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database = database
        self.turns = turns_over(database, ME.public, lambda: float(NOW))
        self.told: list[object] = []
        self.put_off = 0
        question = SendRequest(7, PEER.public, "http://peer.test", HaveRequest(()))
        answer = SendAnswer(1, HaveAnswer(()))
        effects = [RaiseAlert("word", "A sentence."), question, answer]
        monkeypatch.setattr(Mesh, "handle", lambda self, event, now_ms: effects)
        monkeypatch.setattr(Mesh, "wake_at", NOW * 1000 + 3_600_000)

    async def run(self) -> None:
        mesh = Mesh(ME, "main", MeshOptions("", "test"), random.Random(1), Restored(), NOW * 1000)
        await self.turns.run(mesh, Doers(self._ask, self.told.append, lambda kept: None, self._ignore, self._put_off))

    def _ask(self, effect: SendRequest) -> None:
        self.told.append(effect)

    def _ignore(self, effect: object) -> None:
        """Nothing is sketched here."""

    def _put_off(self) -> None:
        self.put_off += 1

    def kept(self) -> int:
        return len(self.database.read_now(lambda db: activity.activities(db))[0])


async def test_the_mesh_outlives_a_full_disk_and_tells_nothing_before_it_is_kept(stuck: Stuck) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stuck.run)
        with pytest.raises(NotKept):
            await stuck.turns.tell(TimePassed())

        assert (stuck.kept(), stuck.told) == (0, [])
        with pytest.raises(NotKept):
            await stuck.turns.tell(TimePassed())
        with pytest.raises(Busy):
            stuck.turns.submit(RequestReceived(1, PEER.public, HaveRequest(())))
        assert stuck.put_off  # those who wait for answers need not wait for the disk

        await trio.sleep(2 * AGAIN_SECONDS + 1)
        assert stuck.kept() == 2
        assert len(stuck.told) == 4
        await stuck.turns.tell(TimePassed())
        stuck.turns.submit(RequestReceived(1, PEER.public, HaveRequest(())))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_a_mistake_still_ends_the_mesh(
    database: Database, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    failing(database, monkeypatch, sqlite3.IntegrityError("a mistake"))
    stuck = Stuck(database, monkeypatch)
    await stuck.turns.report(TimePassed())

    with pytest.raises(sqlite3.IntegrityError):
        await stuck.run()


async def test_what_sqlite_finds_malformed_is_told_as_trouble_of_the_store(database: Database) -> None:
    def malformed(db: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with pytest.raises(StoreError, match="malformed"):
        await database.read(malformed)
    with pytest.raises(StoreError, match="malformed"):
        await database.write(malformed)


async def test_what_was_committed_is_acknowledged_though_nothing_can_be_read_then(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(db: object) -> int:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr("pfn_node.store.database._last_activity", unreadable)

    assert await database.write(lambda db: activity.record_activity(db, "security", "A sentence.", at=NOW)) is not False
    assert len(database.read_now(lambda db: activity.activities(db))[0]) == 1


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EDQUOT, "Quota")])
def test_a_full_disk_is_called_one(error: OSError) -> None:
    told = as_api_error(error)

    assert (told.status, told.sentence) == (503, "The node's disk is full.")
    assert "Retry-After" in told.headers
    assert "full" not in as_api_error(OSError(errno.EIO, "Input/output error")).sentence


@pytest.mark.parametrize(
    "error", [outbound.Busy("No room now."), PublisherFailed("No room now.", answered=False, ours=True)]
)
def test_what_this_node_has_no_room_to_ask_is_not_blamed_on_whom_it_would_ask(error: Exception) -> None:
    told = as_api_error(error)

    assert (told.status, told.sentence) == (503, "No room now.")
    assert "Retry-After" in told.headers
    assert as_api_error(PublisherFailed("No answer.", answered=False)).status == 502


def test_a_database_that_is_full_is_called_one(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "full.db")
    db.execute("PRAGMA max_page_count = 2")
    db.execute("CREATE TABLE t (x)")
    with pytest.raises(sqlite3.OperationalError) as full:
        db.execute("INSERT INTO t VALUES (zeroblob(100000))")
    db.close()

    assert as_api_error(full.value).sentence == "The node's disk is full."


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


async def test_who_reads_with_a_key_reads_on_while_the_disk_is_full(
    node: WebNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(node.services.database, monkeypatch, FULL)
    assert (await node.read("/federation/keys")).status == 200

    assert (await node.read("/federation/keys")).json["keys"][0]["last_used"] == WEB_NOW


async def test_a_sync_that_finds_the_disk_full_is_refused_as_any_other_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        monkeypatch.setattr(Mirroring, "sync", full)
        with pytest.raises(OSError) as refused:
            await sources.subscribe(publisher.source_id, "somebody", Filters())

    assert as_api_error(refused.value).status == 503


async def test_while_another_program_holds_the_database_readers_read_on_and_writes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pfn_node.store.database.BUSY_SECONDS", 0.01)
    database = Database.open(tmp_path / "node.db", inline=True)
    other = sqlite3.connect(tmp_path / "node.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(sqlite3.OperationalError, match="locked") as refused:
        await database.write(lambda db: activity.record_activity(db, "security", "A sentence.", at=NOW))
    read = database.read_now(lambda db: activity.activities(db))[0]
    other.execute("ROLLBACK")
    await database.write(lambda db: activity.record_activity(db, "security", "A sentence.", at=NOW))

    assert as_api_error(refused.value).status == 503
    assert read == []
    other.close()
    database.close()
