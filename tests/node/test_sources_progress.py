"""What is under way can be watched: the steps of a verification, how far a sync is, and what one would bring."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from pfn_node.sources.outcomes import AuthorInfo, PublisherFailed, UnknownSource
from pfn_node.sources.previewing import ANSWERS_MAX, ASKED_AGAIN_SECONDS, AskedLately
from pfn_node.sources.progress import WATCHED_MAX, Progress
from pfn_node.sources.publisher_answers import AuthorData
from pfn_node.sources.standing import skipped_of
from pfn_node.store.rows import Filters, Source
from tests.node.fake_outbound import Answer, Request
from tests.node.sources_room import Publisher, arranged, registered, settled

ID = "ann@publisher.test"


async def test_a_verification_reports_each_step_as_it_is_taken(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    seen: list[list[tuple[str, str]]] = []

    async with room.running(loops=False) as sources:

        def watch(request: Request) -> Answer:
            steps = sources.progress.verification(ID)
            assert steps is not None
            seen.append([(step.name, step.state) for step in steps.steps])
            return publisher.answer(request)

        room.network.hosts["publisher.test"] = watch
        await registered(sources, publisher)
        steps = sources.progress.verification(ID)

    assert [("asset_info", "running")] in seen
    assert [("asset_info", "done"), ("keys", "done"), ("challenge", "running")] in seen
    assert steps is not None and steps.ended is not None
    assert [step.name for step in steps.steps if step.state == "done"][-2:] == ["origin", "record"]


async def test_the_step_that_fails_says_why_and_the_rest_is_not_taken(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running(loops=False) as sources:
        await sources.add(publisher.url, publisher.author, Publisher(seed=8).pem)
        await sources.verify(ID)
        wrong_key = sources.progress.verification(ID)
        publisher.down = True
        await sources.verify(ID)
        down = sources.progress.verification(ID)

    assert wrong_key is not None and down is not None
    assert [(step.name, step.state) for step in wrong_key.steps] == [
        ("asset_info", "done"),
        ("keys", "done"),
        ("challenge", "done"),
        ("signature", "failed"),
        ("record", "done"),
    ]
    assert wrong_key.steps[3].says == "it does not verify with the key known here"
    assert [(step.name, step.state) for step in down.steps] == [("asset_info", "failed"), ("record", "done")]
    assert "503" in down.steps[0].says


async def test_a_verification_begun_in_the_background_ends_by_itself_and_needs_a_source(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running(loops=False) as sources:
        await registered(sources, publisher)
        await trio.sleep(60)  # the one that adding it began is over
        publisher.down = True

        await sources.start_verification(ID)
        await trio.sleep(60)  # of the mock clock
        assert room.source(ID).status == "error"

        with pytest.raises(UnknownSource):
            await sources.start_verification("nobody@publisher.test")


async def test_a_sync_reports_what_it_brings_and_ends_with_what_came_of_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("one", "1.0.0")
    publisher.publish("two", "1.0.0", signed=False)
    seen: list[tuple[int | None, int, str | None]] = []
    async with room.running(loops=False) as sources:

        def watch(request: Request) -> Answer:
            sync = sources.progress.sync(ID)
            if sync is not None:
                seen.append((sync.wanted, sync.looked_at, sync.current))
            return publisher.answer(request)

        room.network.hosts["publisher.test"] = watch
        await registered(sources, publisher)
        await sources.subscribe(ID, "key", Filters())
        sync = sources.progress.sync(ID)

    assert (2, 0, "two") in seen  # begun last, while "one" is still on its way
    assert sync is not None and sync.ended is not None
    assert (sync.wanted, sync.here, sync.skipped, sync.current) == (2, 1, 1, None)


async def test_a_sync_that_fails_says_why(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("one", "1.0.0")
    async with room.running(loops=False) as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "key", Filters())
        publisher.down = True
        flight = sources._syncing.request(ID)
        await flight.done.wait()
        sync = sources.progress.sync(ID)

    assert sync is not None and sync.problem is not None and "503" in sync.problem


async def test_who_does_not_wait_for_a_sync_sees_it_go_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("one", "1.0.0")
    async with room.running(loops=False) as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "key", Filters(), seconds_max=0.0)
        assert result.running
        await settled(lambda: (sync := sources.progress.sync(ID)) is not None and sync.ended is not None)

        assert room.release(ID, "one", "1.0.0") is not None


async def test_only_so_many_sources_are_watched_and_the_newest_stay() -> None:
    progress = Progress(lambda: 5.0)

    for number in range(WATCHED_MAX + 1):
        with progress.verifying(f"{number}"):
            await trio.lowlevel.checkpoint()

    assert progress.verification("0") is None
    last = progress.verification(f"{WATCHED_MAX}")
    assert last is not None and (last.began, last.ended) == (5.0, 5.0)


async def test_a_step_that_is_interrupted_has_failed() -> None:
    progress = Progress(lambda: 5.0)

    with trio.CancelScope() as scope, progress.verifying("a") as steps, steps.step("challenge"):
        scope.cancel()
        await trio.sleep_forever()

    assert (steps.steps[0].state, steps.steps[0].says) == ("failed", "it was interrupted")


async def test_a_preview_counts_what_the_filters_let_through_and_what_is_here(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("one", "1.0.0", tags=["Red"])
    publisher.publish("two", "1.0.0", tags=["red", "blue"])
    publisher.publish("three", "1.0.0", tags=["blue"])
    async with room.running(loops=False) as sources:
        await registered(sources, publisher)
        before = await sources.preview(ID, Filters(tags=("red",)))
        await sources.subscribe(ID, "key", Filters(slugs=("one",)))
        after = await sources.preview(ID, Filters(tags=("red",)))

    assert (before.basis, [one.slug for one in before.wanted], before.left_out) == ("publisher", ["one", "two"], 1)
    assert (before.bytes_known, before.sizes_unknown, before.held) == (0, 2, 0)
    assert dict(before.tags) == {"Red": 2, "blue": 2}
    assert (after.held, after.sizes_unknown, after.bytes_to_fetch) == (1, 1, 0)
    assert after.bytes_known == len(publisher.zips["one"])


async def test_who_looks_at_a_preview_again_and_again_makes_the_node_ask_the_publisher_now_and_then(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("one", "1.0.0")

    def asked() -> int:
        return sum("author-data" in request.path for request in room.network.requests)

    async with room.running(loops=False) as sources:
        await registered(sources, publisher)
        before = asked()
        for _ in range(10):
            await sources.preview(ID, Filters())
        soon = asked()
        await trio.sleep(ASKED_AGAIN_SECONDS)
        publisher.down = True
        for _ in range(10):
            found = await sources.preview(ID, Filters())
        later = asked()

    assert (soon - before, later - soon) == (1, 1)
    assert found.problem is not None and "503" in found.problem


async def test_a_publisher_that_does_not_answer_is_not_asked_anew_by_each_look_and_few_answers_are_kept(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    asked: list[str] = []

    async def ask(source: Source) -> AuthorData:
        asked.append(source.username)
        if source.username == "slow":
            await trio.sleep_forever()
        return AuthorData(AuthorInfo(), ())

    lately = AskedLately(ask)
    room, publisher = arranged(tmp_path)
    async with room.running(loops=False) as sources:
        await registered(sources, publisher)
        source = room.source(ID)
    for _ in range(2):
        with pytest.raises(PublisherFailed, match="soon enough"):
            await lately(replace(source, username="slow"))
    for at in range(ANSWERS_MAX):
        await lately(replace(source, username=f"author-{at}"))
    with pytest.raises(PublisherFailed):
        await lately(replace(source, username="slow"))

    assert asked.count("slow") == 2


async def test_who_looks_at_the_same_time_shares_one_question_even_if_the_first_goes_away(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    asked: list[str] = []
    told: list[AuthorData] = []

    async def ask(source: Source) -> AuthorData:
        asked.append(source.username)
        await trio.sleep(1)
        return AuthorData(AuthorInfo(), ())

    async def look() -> None:
        told.append(await lately(source))

    lately = AskedLately(ask)
    room, publisher = arranged(tmp_path)
    async with room.running(loops=False) as sources:
        await registered(sources, publisher)
        source = room.source(ID)
    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def look_shortly() -> None:
            with first:
                await look()

        nursery.start_soon(look_shortly)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(10):
            nursery.start_soon(look)
        await trio.testing.wait_all_tasks_blocked()
        shared = len(asked)
        first.cancel()

    assert (shared, len(asked), len(told)) == (1, 2, 10)


async def test_a_preview_of_a_publisher_that_is_down_is_of_what_is_listed_here(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("one", "1.0.0", tags=["red"])
    async with room.running(loops=False) as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "key", Filters())
        publisher.down = True

        found = await sources.preview(ID, Filters())

        assert (found.basis, [one.slug for one in found.wanted], found.bytes_to_fetch) == ("here", ["one"], 0)
        assert found.problem is not None and "503" in found.problem
        with pytest.raises(UnknownSource):
            await sources.preview("nobody@publisher.test", Filters())


async def test_a_source_that_is_added_again_begins_without_what_its_last_sync_left_out(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("one", "1.0.0", signed=False)
    async with room.running(loops=False) as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "key", Filters())
        before = room.read(lambda db: skipped_of(db, ID))

        await sources.remove(ID, purge=True)
        await registered(sources, publisher)

        assert [slug for slug, _, _ in before] == ["one"]
        assert room.read(lambda db: skipped_of(db, ID)) == []
