"""What comes by the thousand: verified in threads, kept at once, concluded afterwards; the outcome is the same."""

import threading
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils
import trio
from trio.testing import MockClock

from pfn_node.mesh import concluding as concluding_module
from pfn_node.mesh.blocking import inline, worker_threads
from pfn_node.mesh.bodies import Bodies
from pfn_node.mesh.concluding import Concluding
from pfn_node.mesh.turns import Turns
from pfn_node.mesh.verifying import FOUND_MAX, Verifying
from pfn_node.store import announcements, catalogue, concluding, facts
from pfn_node.store.database import Database
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import AcceptedAnnouncement, VersionStatement
from pfn_protocol.effects import ChangeAdmission, DropAnnouncements, Effect, KeepAnnouncement
from pfn_protocol.errors import Parked, Refusal
from pfn_protocol.events import AnswerReceived
from pfn_protocol.identity import PrivateKey
from pfn_protocol.messages import SnapshotAnswer

ME = PrivateKey(bytes(32))
AUTHORS = [PrivateKey(bytes([number]) * 32) for number in (1, 2, 3)]
SOURCE = "alice@plugins.example"
NOW = 1_900_000_000
# Three authors saw the same versions of a few plugins, one of them other bytes of one.
TABLES = ("observations", "releases", "plugins", "plugin_tags", "plugin_changes", "news")


def clock() -> float:
    return float(NOW)


def seen(author: PrivateKey, plugin: int, version: int, content: bytes = b"") -> AcceptedAnnouncement:
    statement = VersionStatement(
        source_id=SOURCE,
        plugin_id=f"plugin-{plugin}",
        version=f"1.{version}",
        type="plugin",
        name=f"Plugin {plugin}",
        description="Says hello",
        tags=("greeting",),
        sha256=sha256(content or b"%d %d" % (plugin, version)).digest(),
        size=100,
        observed_at=NOW,
        evidence=(),
    )
    return announce(author, "main", statement, 0, NOW * 1000 + 100 * plugin + version)


def much() -> list[AcceptedAnnouncement]:
    told = [seen(author, plugin, version) for plugin in range(6) for version in range(5) for author in AUTHORS]
    return [*told, seen(AUTHORS[0], 7, 1), seen(AUTHORS[1], 7, 1, b"other bytes")]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "node.db", inline=True)
    yield opened
    opened.close()


def turns_of(database: Database) -> Turns:
    return Turns(
        me=ME.public,
        database=database,
        bodies=Bodies(database),
        clock=clock,
        verifying=Verifying("main", inline()),
        concluding=Concluding(database=database, clock=clock, concluded=lambda: None),
    )


async def keep(database: Database, effects: list[Effect]) -> int:
    """Keep them in one turn; how many announcements wait to be concluded."""
    await database.write(lambda db: facts.set_identity(db, ME.public, 1))
    return len(await turns_of(database)._keep(effects))  # type: ignore[arg-type]


async def conclude(database: Database, at_once: int = 7) -> None:
    after = await database.write(lambda db: concluding.conclude_some(db, "", at_once, NOW))
    while after:
        after = await database.write(lambda db, after=after: concluding.conclude_some(db, after, at_once, NOW))  # type: ignore[misc]


def shown(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Everything that is said, but for numbers that follow the order of saying it."""

    def rows(table: str, db: sqlite_utils.Database) -> list[tuple[object, ...]]:
        named = [column.name for column in db[table].columns if column.name not in ("id", "seq", "plugin")]
        return sorted((tuple(row[name] for name in named) for row in db[table].rows), key=repr)

    return {table: database.read_now(partial(rows, table)) for table in TABLES}


# ---- Kept at once, concluded later.


async def test_much_that_is_concluded_later_is_shown_as_if_it_had_come_one_by_one(tmp_path: Path) -> None:
    at_once, one_by_one = (Database.open(tmp_path / name, inline=True) for name in ("a.db", "b.db"))
    assert await keep(at_once, [KeepAnnouncement(one, True) for one in much()]) == len(much())
    assert at_once.read_now(catalogue.counts)["plugins"] == 0
    for one in much():
        assert await keep(one_by_one, [KeepAnnouncement(one, True)]) == 0

    await conclude(at_once)

    assert shown(at_once) == shown(one_by_one)
    assert at_once.read_now(concluding.waiting) == 0
    at_once.close()
    one_by_one.close()


async def test_what_waits_is_kept_durably_and_restored(database: Database) -> None:
    await keep(database, [KeepAnnouncement(one, True) for one in much()])

    restored = database.read_now(lambda db: list(announcements.restore(db)))

    assert sorted(one.id for one, admitted in restored if admitted) == sorted(one.id for one in much())
    ids = [one.id for one in much()]
    assert database.read_now(lambda db: announcements.bodies(db, ids)) == {one.id: one.raw for one in much()}


async def test_what_is_dropped_or_put_aside_while_it_waits_is_not_shown(database: Database) -> None:
    one, other, *rest = much()
    kept = [KeepAnnouncement(each, True) for each in (one, other, *rest)]

    await keep(database, [*kept, DropAnnouncements((one.id,)), ChangeAdmission((), (other.id,))])
    await conclude(database)

    by = database.read_now(lambda db: catalogue.get_release(db, SOURCE, "plugin-0", "1.0"))
    assert by is not None and len(by.reported_by) == 1
    places = database.read_now(lambda db: dict(db.execute("SELECT id, place FROM announcements").fetchall()))
    assert one.id not in places and places[other.id] == "parked"


async def test_what_this_node_said_itself_never_waits(database: Database) -> None:
    own = seen(ME, 9, 1)

    assert await keep(database, [KeepAnnouncement(one, True) for one in (own, *much())]) == len(much())

    assert database.read_now(lambda db: announcements.own_last(db, ME.public)) == (own.epoch, own.seq)
    assert database.read_now(lambda db: catalogue.get_release(db, SOURCE, "plugin-9", "1.1")) is not None


async def test_parked_announcements_that_are_admitted_before_they_are_concluded_count(database: Database) -> None:
    ids = tuple(one.id for one in much())
    await keep(database, [KeepAnnouncement(one, False) for one in much()])

    await keep(database, [ChangeAdmission(ids, ())])
    await conclude(database)

    assert database.read_now(catalogue.counts)["plugins"] == 7


async def test_concluding_lets_pages_come_first_and_goes_on_after_a_restart(
    database: Database, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concluding_module, "CONCLUDED_AT_ONCE", 10)
    await keep(database, [KeepAnnouncement(one, True) for one in much()])
    ended = trio.Event()
    work = Concluding(database=database, clock=clock, concluded=ended.set)
    work.kept(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work.run)
        await trio.sleep(concluding_module.QUIET_SECONDS / 2)
        assert database.read_now(concluding.waiting) == len(much())
        work.kept(1)
        with trio.fail_after(concluding_module.START_SECONDS + concluding_module.QUIET_SECONDS):
            await ended.wait()
        nursery.cancel_scope.cancel()
    assert database.read_now(concluding.waiting) == 0


async def test_concluding_that_has_begun_after_a_restart_lets_pages_come_first_but_not_for_ever(
    database: Database, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concluding_module, "CONCLUDED_AT_ONCE", 10)
    await keep(database, [KeepAnnouncement(one, True) for one in much()])
    work = Concluding(database=database, clock=clock, concluded=lambda: None)
    shown_at: list[float] = []
    conclude_some = concluding.conclude_some

    def one_more(*given: Any) -> str:
        shown_at.append(trio.current_time())
        work.kept(0)  # a page comes while it is at it
        return conclude_some(*given)

    monkeypatch.setattr(concluding, "conclude_some", one_more)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work.run)
        while trio.current_time() < began + concluding_module.PATIENCE_SECONDS + 1:
            await trio.sleep(concluding_module.QUIET_SECONDS / 2)
            assert work.waiting == database.read_now(concluding.waiting)
            if shown_at:
                work.kept(0)
        nursery.cancel_scope.cancel()

    first, *others = [at - began for at in shown_at]
    assert first == concluding_module.START_SECONDS
    assert others == [concluding_module.PATIENCE_SECONDS] * (len(much()) // 10)
    assert work.waiting == 0


# ---- Verified in threads.


def answer(raws: list[bytes]) -> AnswerReceived:
    return AnswerReceived(1, bytes(32), SnapshotAnswer(tuple(raws), b""))


async def test_a_page_is_verified_in_threads_before_the_machine_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    async def in_thread(work: object) -> object:
        def noting() -> object:
            threads.append(threading.get_ident())
            return work()  # type: ignore[operator]

        return await worker_threads(2)(noting)

    verifying = Verifying("main", in_thread)  # type: ignore[arg-type]
    await verifying.ahead(answer([one.raw for one in much()]))
    monkeypatch.setattr("pfn_node.mesh.verifying.accept", None)  # nothing is left to be verified

    taken = [verifying.accept(one.raw, mesh="main", now_ms=NOW * 1000 + 10_000).id for one in much()]

    assert taken == [one.id for one in much()]
    assert threads and threading.get_ident() not in threads


async def test_what_was_verified_ahead_is_refused_as_ever() -> None:
    verifying = Verifying("main", inline())
    good, *rest = much()
    forged = good.raw[:-1] + bytes([good.raw[-1] ^ 1])
    await verifying.ahead(answer([forged, good.raw, *(one.raw for one in rest)]))

    with pytest.raises(Refusal, match="R5"):
        verifying.accept(forged, mesh="main", now_ms=NOW * 1000)
    with pytest.raises(Parked):
        verifying.accept(good.raw, mesh="main", now_ms=(NOW - 3600) * 1000)
    with pytest.raises(Refusal, match="R5"):  # of another mesh, whatever was found in this one
        verifying.accept(rest[0].raw, mesh="other", now_ms=NOW * 1000)


async def test_what_nobody_asks_for_is_forgotten_and_few_are_not_worth_a_thread() -> None:
    verifying = Verifying("main", inline())
    for start in range(0, FOUND_MAX + 200, 100):
        await verifying.ahead(answer([b"%d" % number for number in range(start, start + 100)]))
    assert len(verifying._found) == FOUND_MAX

    few = Verifying("main", inline())
    await few.ahead(answer([one.raw for one in much()[:3]]))
    assert not few._found
