"""What is done without being asked: in virtual time."""

import random
from itertools import pairwise
from pathlib import Path

import trio
from trio.testing import MockClock

from pfn_node.sources.schedule import AT_ONCE_MAX, SYNC_TURN_SECONDS, Rota
from pfn_node.store.rows import Filters
from pfn_node.store.sources import health_checks, verifications
from pfn_node.store.subscriptions import failures, set_subscription
from tests.node.fake_outbound import Slow
from tests.node.sources_room import JSON, Publisher, arranged, registered, settled
from tests.node.test_sources_verification import heard_of

ID = "ann@publisher.test"
ALL = Filters()
HOUR = 3600


async def test_a_registered_source_is_checked_every_five_minutes_more_or_less(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        await trio.sleep(HOUR)

        checks = room.read(lambda db: health_checks(db, ID))
        gaps = {later.checked_at - earlier.checked_at for earlier, later in zip(checks[1:], checks, strict=False)}
        assert 10 <= len(checks) <= 14
        assert all(270 <= gap <= 330 + 35 for gap in gaps) and len(gaps) > 1
        assert all(check.ok and check.seconds is not None for check in checks)
        assert room.source(ID).trust["uptime"] > 0


async def test_a_new_source_is_checked_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await trio.sleep(1)  # The first look is over.
        await registered(sources, publisher)
        await trio.sleep(1)

        assert len(room.read(lambda db: health_checks(db, ID))) == 1


async def test_what_was_only_heard_of_is_left_in_peace(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running():
        await heard_of(room, publisher)
        await trio.sleep(48 * HOUR)

        assert room.network.requests == []


async def test_a_subscribed_source_is_synced_every_hour_more_or_less(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.etags = True
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)
        await trio.sleep(2 * HOUR)
        publisher.publish("alpha", "1.1")
        await trio.sleep(8 * HOUR)

        assert [version.version for version in room.versions()] == ["1.0", "1.1"]
        lists = [request for request in room.network.requests if request.path == "/author-data"]
        assert 9 <= len(lists) <= 12
        assert sum("if-none-match" in request.headers for request in lists) == len(lists) - 1
        assert sum(request.path.endswith(".zip") for request in room.network.requests) == 2


async def test_a_source_without_subscribers_is_not_synced(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        await trio.sleep(5 * HOUR)

        assert room.network.asked("/author-data") == 0


async def test_a_failed_sync_is_tried_again_after_1_2_4_8_and_16_hours(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path, health_check_seconds=1e9, verification_seconds=1e9)
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)
        publisher.answers["/author-data"] = ("{}", 500, JSON)
        await trio.sleep(40 * HOUR)

        rows = sorted(room.read(lambda db: failures(db, ID)), key=lambda failure: failure.created_at)
        hours = [round((later.created_at - earlier.created_at) / HOUR) for earlier, later in pairwise(rows)]
        assert hours == [1, 2, 4, 8, 16]
        assert [row.retry_count for row in rows] == [1, 2, 3, 4, 5, 6]


async def test_three_failures_in_a_day_are_an_error_and_a_success_clears_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path, health_check_seconds=1e9, verification_seconds=1e9)
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)
        publisher.answers["/author-data"] = ("{}", 500, JSON)
        await trio.sleep(3 * HOUR)
        assert room.source(ID).status == "verified"
        await trio.sleep(2 * HOUR)
        assert room.source(ID).status == "error"

        publisher.answers.clear()
        await trio.sleep(6 * HOUR)

        assert room.source(ID).status == "verified"
        assert room.read(lambda db: failures(db, ID)) == []


async def test_three_failed_health_checks_are_an_error_until_one_succeeds(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        await trio.sleep(20 * 60)
        before = room.source(ID).trust_score
        publisher.down = True
        await trio.sleep(8 * 60)
        assert room.source(ID).status == "verified"
        await trio.sleep(12 * 60)
        assert room.source(ID).status == "error"
        assert room.source(ID).trust_score < before

        publisher.down = False
        await trio.sleep(7 * 60)

        assert room.source(ID).status == "verified"
        told = [one.message for one in reversed(room.activities("source_health"))]
        assert any(message.startswith("the publisher is down") for message in told)
        assert "the publisher answers again" in told


async def test_a_failed_verification_is_tried_again_after_1_2_and_4_hours(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path, health_check_seconds=1e9)
    publisher.answers["/verify-ownership"] = ("{}", 200, JSON)
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        await trio.sleep(7 * HOUR + 600)
        rows = room.read(lambda db: verifications(db, ID))
        hours = [
            round((later.verified_at - earlier.verified_at) / HOUR)
            for earlier, later in zip(rows[::-1], rows[-2::-1], strict=False)
        ]
        assert hours == [1, 2, 4]
        assert [row.verification_type for row in rows] == ["periodic", "periodic", "periodic", "initial"]

        publisher.answers.clear()
        await trio.sleep(9 * HOUR)
        assert room.source(ID).status == "verified"


async def test_a_source_that_cannot_prove_its_key_is_not_synced(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, health_check_seconds=1e9)
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)
        publisher.answers["/verify-ownership"] = ("{}", 200, JSON)
        await sources.verify(ID)
        asked = room.network.asked("/author-data")
        await trio.sleep(10 * HOUR)

        assert room.network.asked("/author-data") == asked


async def test_proofs_are_renewed_every_day(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, health_check_seconds=1e9)
    async with room.running() as sources:
        await registered(sources, publisher)
        await trio.sleep(4 * 24 * HOUR)

        assert 4 <= len(room.read(lambda db: verifications(db, ID))) <= 6
        assert len(room.attestations()) >= 4


async def test_a_subscribed_source_that_nobody_registered_is_cared_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running():
        await heard_of(room, publisher)
        await room.database.write(lambda db: set_subscription(db, ID, "k1", ALL, int(room.clock())))
        await trio.sleep(HOUR)

        assert room.source(ID).status == "verified"
        assert room.network.asked("/author-data") >= 1


async def test_being_shut_down_is_nobodys_failure(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    hold = trio.Event()
    recorded: list[object] = []
    async with room.running() as sources:
        await registered(sources, publisher)
        room.network.before_answer = lambda request: hold
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sources.verify, ID)
            nursery.start_soon(sources.subscribe, ID, "k1", ALL)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        recorded = [*room.read(lambda db: failures(db, ID))]
        assert room.source(ID).status == "verified"

    assert recorded == []


async def test_a_few_sources_are_worked_on_at_once_and_slow_ones_end(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, health_check_seconds=1e9, verification_seconds=1e9)
    publisher.publish("alpha", "1.0")
    under_way = peak = 0
    async with room.running() as sources:
        await registered(sources, publisher)
        for number in range(20):
            slow = Publisher(seed=40 + number, url=f"http://slow{number}.test")
            slow.publish("alpha", "1.0")
            room.network.hosts[f"slow{number}.test"] = _dripping(slow)
            await registered(sources, slow)
            await room.database.write(
                lambda db, slow=slow: set_subscription(db, slow.source_id, "k1", ALL, int(room.clock()))  # type: ignore[misc]
            )
        await room.database.write(lambda db: set_subscription(db, ID, "k1", ALL, int(room.clock())))
        for _ in range(120):
            await trio.sleep(5)
            under_way = len(sources._syncing._current)
            peak = max(peak, under_way)

        assert peak == 8 and under_way == 0
        assert [version.source_id for version in room.versions()] == [ID]


async def test_what_was_verified_while_its_turn_was_waited_for_is_not_verified_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        for number in range(2 * AT_ONCE_MAX):
            silent = Publisher(seed=40 + number, url=f"http://silent{number}.test")
            room.network.hosts[f"silent{number}.test"] = lambda request: Slow((b"x",) * 10_000, 1.0)
            await sources.add(silent.url, silent.author, silent.pem)
        await trio.sleep(1)
        await sources.add(publisher.url, publisher.author, publisher.pem)
        await trio.sleep(1)
        assert publisher.challenges == [], "all places are taken"
        assert (await sources.verify(ID)).success
        asked = list(publisher.challenges)

        await trio.sleep(HOUR / 2)

        assert publisher.challenges == asked


def _dripping(publisher: Publisher):  # type: ignore[no-untyped-def]
    return lambda request: (
        Slow((b"PK\x03\x04", *(b"x",) * 10_000), 1.0) if request.path.endswith(".zip") else publisher.answer(request)
    )


async def test_trouble_with_one_source_does_not_end_the_care_for_the_others(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    other = Publisher(seed=2, url="http://other.test")
    room.network.hosts["other.test"] = other.answer
    async with room.running() as sources:
        await registered(sources, publisher)
        await registered(sources, other)
        check = sources._schedule._health.check

        async def broken(source: object) -> object:
            if getattr(source, "id", "") == ID:
                raise RuntimeError("a bug")
            return await check(source)  # type: ignore[arg-type]

        sources._schedule._health.check = broken  # type: ignore[assignment,method-assign]
        before = len(room.read(lambda db: health_checks(db, other.source_id)))
        await trio.sleep(HOUR)

        assert len(room.read(lambda db: health_checks(db, other.source_id))) > before + 8


async def test_a_source_that_is_removed_while_work_is_under_way_is_no_trouble(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path, health_check_seconds=600)
    publisher.publish("alpha", "1.0")
    hold = trio.Event()
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)
        await settled(lambda: bool(room.read(lambda db: health_checks(db, ID))))
        room.network.before_answer = lambda request: hold
        await trio.sleep(HOUR * 1.2)  # a sync and a check wait for their answers
        await sources.remove(ID, purge=True)
        hold.set()
        room.network.before_answer = lambda request: None
        await trio.sleep(HOUR)

        assert room.read(lambda db: health_checks(db, ID)) == []


def test_a_turn_is_drawn_once_and_forgotten_with_its_source() -> None:
    rota = Rota(100, random.Random(1))

    due = rota.due_after("a", 1000.0)

    assert 1090 <= due <= 1110
    assert rota.due_after("a", 1000.0) == due
    assert rota.due_after("a", 1100.0) != due
    again = rota.due_after("a", 1100.0)
    rota.keep_only({"b"})
    assert rota.due_after("a", 1100.0) != again


async def test_publishers_that_drip_for_long_do_not_keep_others_from_being_synced(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(
        tmp_path,
        health_check_seconds=1e9,
        verification_seconds=1e9,
        transfer_bytes_per_second_min=0,
        artifact_seconds_max=5_000,
    )
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        for number in range(AT_ONCE_MAX):
            slow = Publisher(seed=40 + number, url=f"http://slow{number}.test")
            slow.publish("alpha", "1.0")
            room.network.hosts[f"slow{number}.test"] = _dripping(slow)
            await registered(sources, slow)
            await room.database.write(
                lambda db, slow=slow: set_subscription(db, slow.source_id, "k1", ALL, int(room.clock()))  # type: ignore[misc]
            )
        await trio.sleep(400)  # the schedule has found them: they held every place, and drip for an hour and more
        assert len(sources._syncing._current) == AT_ONCE_MAX
        await room.database.write(lambda db: set_subscription(db, ID, "k1", ALL, int(room.clock())))
        await trio.sleep(330 + SYNC_TURN_SECONDS)

        assert [version.source_id for version in room.versions()] == [ID]
        assert len(sources._syncing._current) == AT_ONCE_MAX
