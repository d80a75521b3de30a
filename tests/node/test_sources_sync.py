"""Subscribing and syncing: what is brought here, when, for whom, and what an error leaves behind."""

import errno
import hashlib
import os
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.archive_process import Examined
from pfn_node.sources.courtesy import Courtesy
from pfn_node.sources.outcomes import NotVerified, PublisherFailed, UnknownSource
from pfn_node.sources.standing import skipped_of
from pfn_node.store import releases
from pfn_node.store.rows import Filters
from pfn_node.store.subscriptions import failures, subscriptions
from tests.node.examining import examine_here
from tests.node.fake_outbound import Slow
from tests.node.sources_room import Publisher, arranged, plugin_zip, registered

ALL = Filters()
ID = "ann@publisher.test"


async def test_subscribing_mirrors_what_the_publisher_signed(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        assert (result.success, result.running, result.mirrored_count, result.total_plugins) == (True, False, 1, 1)
        assert (result.skipped, result.author_info.username) == ((), "ann")
        release = room.release(ID, "alpha", "1.0")
        assert release is not None and (release.mirrored, release.assurance, release.type) == (True, "A1", "plugin")
        assert release.sha256 == hashlib.sha256(publisher.zips["alpha"]).digest()
        assert room.artifacts.has(release.sha256)
        assert room.source(ID).last_sync == int(room.clock())


async def test_subscribing_again_replaces_the_filters_and_fetches_nothing_twice(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    publisher.publish("beta", "1.0", tags={"t": "Garden"})
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)
        zips = [request.path for request in room.network.requests if request.path.endswith(".zip")]

        result = await sources.subscribe(ID, "k1", Filters(tags=("garden",)))

        assert (result.mirrored_count, result.total_plugins) == (1, 1)
        assert [request.path for request in room.network.requests if request.path.endswith(".zip")] == zips
        rows = room.read(subscriptions)
        assert [(row.subscriber, row.filters.tags) for row in rows] == [("k1", ("garden",))]
        updates = room.activities("version_update")
        assert sorted(one.plugin_id or "" for one in updates) == ["alpha", "beta"]


async def test_what_is_kept_already_costs_a_sync_no_write(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)
        noted = list[bytes]()
        monkeypatch.setattr(releases, "mark_mirrored", lambda _, sha256, *more, **most: noted.append(sha256))

        result = await sources.subscribe(ID, "k1", ALL)

        assert (result.mirrored_count, result.skipped, noted) == (1, (), [])


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(), ["alpha", "beta", "gamma"]),
        (Filters(slugs=("alpha", "nope")), ["alpha"]),
        (Filters(tags=("x",)), ["alpha", "beta"]),
        (Filters(tags=("X",), slugs=("beta", "gamma")), ["beta"]),
        (Filters(exclude=("beta",)), ["alpha", "gamma"]),
        (Filters(tags=("none-such",)), []),
    ],
)
async def test_filters_choose(tmp_path: Path, autojump_clock: MockClock, filters: Filters, expected: list[str]) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0", tags=["x"])
    publisher.publish("beta", "1.0", tags=["x", "y"])
    publisher.publish("gamma", "1.0", tags=None)
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", filters)

        assert (result.success, result.mirrored_count, result.total_plugins) == (True, len(expected), len(expected))
        assert sorted(version.plugin_id for version in room.versions()) == expected


async def test_the_filters_of_all_subscribers_count(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    for slug in ("alpha", "beta", "gamma"):
        publisher.publish(slug, "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", Filters(slugs=("alpha",)))

        result = await sources.subscribe(ID, "k2", Filters(slugs=("beta",)))

        assert (result.mirrored_count, result.total_plugins) == (1, 1)
        assert [version.plugin_id for version in room.versions()] == ["alpha", "beta"]


async def test_a_zip_that_is_newer_than_the_list_is_not_stored_under_the_old_version(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path, sync_seconds=100_000)
    publisher.etags = True
    publisher.publish("alpha", "1.0")
    publisher.zips["alpha"] = plugin_zip("alpha", "1.1")
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        reason = "version mismatch: the zip says '1.1', the list says '1.0'"
        assert (result.success, result.mirrored_count, result.skipped) == (False, 0, (("alpha", reason),))
        assert room.release(ID, "alpha", "1.0") is None
        assert not room.artifacts.digests()
        assert room.read(lambda db: skipped_of(db, ID)) == [("alpha", "1.0", reason)]

        again = await sources.subscribe(ID, "k1", ALL)

        assert again.skipped == (("alpha", reason),)
        asked = [one.headers.get("if-none-match") for one in room.network.requests if one.path.endswith("alpha.zip")]
        assert asked[0] is None and asked[1] is not None
        told = [one for one in room.activities("federation_event") if "version mismatch" in one.message]
        assert len(told) == 1

        publisher.publish("alpha", "1.1")
        now = await sources.subscribe(ID, "k1", ALL)

        assert (now.success, now.mirrored_count) == (True, 1)


async def test_other_bytes_under_an_old_version_are_a_conflict_and_change_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)
        first = room.versions()[0].sha256
        room.artifacts.delete(first)  # so that it has to be fetched again
        publisher.zips["alpha"] = plugin_zip("alpha", "1.0", extra=b"changed in secret")

        result = await sources.subscribe(ID, "k1", ALL)

        assert result.skipped[0][1].startswith("conflict")
        assert not room.artifacts.has(hashlib.sha256(publisher.zips["alpha"]).digest())
        release = room.release(ID, "alpha", "1.0")
        assert release is not None and release.sha256 == first and release.conflict
        assert room.activities("security")
        first_told, second_told = room.versions()
        assert second_told.sha256 != first and second_told.replaces != b""
        assert first_told.replaces == b""


async def test_past_55_seconds_the_answer_says_that_it_goes_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, sync_seconds=1_000_000, transfer_bytes_per_second_min=0)
    publisher.publish("alpha", "1.0")
    publisher.publish("beta", "1.0")
    answer = publisher.answer

    def slow_beta(request: object) -> object:
        if getattr(request, "path", "").endswith("beta.zip"):
            half = len(publisher.zips["beta"]) // 2
            return Slow((publisher.zips["beta"][:half], publisher.zips["beta"][half:]), 45)
        return answer(request)  # type: ignore[arg-type]

    room.network.hosts["publisher.test"] = slow_beta  # type: ignore[assignment]
    async with room.running() as sources:
        await registered(sources, publisher)
        started = trio.current_time()

        result = await sources.subscribe(ID, "k1", ALL)

        assert (result.success, result.running, result.mirrored_count, result.total_plugins) == (True, True, 1, 2)
        assert trio.current_time() - started == 55
        await trio.sleep(60)
        assert [version.plugin_id for version in room.versions()] == ["alpha", "beta"]


async def test_a_subscriber_who_comes_during_a_sync_gets_one_that_knows_its_filters(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path, sync_seconds=1_000_000)
    for slug in ("alpha", "beta"):
        publisher.publish(slug, "1.0")
    hold = trio.Event()
    room.network.before_answer = lambda request: hold if request.path.endswith("alpha.zip") else None
    async with room.running() as sources:
        await registered(sources, publisher)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sources.subscribe, ID, "k1", Filters(slugs=("alpha",)))
            await trio.sleep(1)
            nursery.start_soon(sources.subscribe, ID, "k2", Filters(slugs=("beta",)))
            nursery.start_soon(sources.subscribe, ID, "k3", Filters(slugs=("beta",)))
            await trio.sleep(1)
            hold.set()

        assert [version.plugin_id for version in room.versions()] == ["alpha", "beta"]
        assert sum(request.path.endswith("alpha.zip") for request in room.network.requests) == 1


async def test_a_failed_subscribe_keeps_no_subscription(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        publisher.answers["/author-data"] = ('{"error":"Author not found"}', 404, {})

        with pytest.raises(PublisherFailed, match="author-data answered HTTP 404"):
            await sources.subscribe(ID, "k1", ALL)

        assert room.read(subscriptions) == []
        assert len(room.read(lambda db: failures(db, ID))) == 1


async def test_a_publisher_that_dies_during_the_first_sync_leaves_no_subscription(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    for number in range(10):
        publisher.publish(f"p{number}", "1.0")
    answer = publisher.answer

    def dying(request: object) -> object:
        if getattr(request, "path", "").endswith(".zip"):
            del room.network.hosts["publisher.test"]
        return answer(request)  # type: ignore[arg-type]

    room.network.hosts["publisher.test"] = dying  # type: ignore[assignment]
    async with room.running() as sources:
        await registered(sources, publisher)

        with pytest.raises(PublisherFailed, match="the sync was given up"):
            await sources.subscribe(ID, "k1", ALL)

        assert room.read(subscriptions) == []
        assert len(room.versions()) == 1  # what came before that stays


async def test_a_subscription_outlives_a_sync_that_fails_later(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, sync_seconds=1_000_000)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)
        publisher.answers["/author-data"] = ("{}", 500, {})

        with pytest.raises(PublisherFailed):
            await sources.subscribe(ID, "k1", Filters(slugs=("beta",)))

        assert [row.filters for row in room.read(subscriptions)] == [ALL]


async def test_subscribing_needs_a_source_that_is_known_and_proved(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        with pytest.raises(UnknownSource):
            await sources.subscribe(ID, "k1", ALL)

        await sources.add(publisher.url, "ann", Publisher(seed=9).pem)
        with pytest.raises(NotVerified, match="did not prove"):
            await sources.subscribe(ID, "k1", ALL)

        publisher.down = True
        with pytest.raises(PublisherFailed):
            await sources.subscribe(ID, "k1", ALL)


async def test_subscribing_to_a_source_in_error_verifies_it_first(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    publisher.down = True
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        assert not (await sources.verify(ID)).success
        assert room.source(ID).status == "error"
        publisher.down = False

        result = await sources.subscribe(ID, "k1", ALL)

        assert result.success and room.source(ID).status == "verified"


async def test_unsubscribing_keeps_what_was_mirrored(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)

        assert await sources.unsubscribe(ID, "k1")
        assert not await sources.unsubscribe(ID, "k1")
        release = room.release(ID, "alpha", "1.0")
        assert release is not None and release.mirrored
        with pytest.raises(UnknownSource):
            await sources.unsubscribe("nobody@nowhere.test", "k1")


async def test_an_error_inside_this_node_is_not_the_publishers_failure(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)

        async def broken(work: object) -> object:
            raise RuntimeError("a bug")

        sources._mirroring._run_keeping = broken  # type: ignore[assignment]
        with pytest.raises(PublisherFailed, match="inside this node"):
            await sources.subscribe(ID, "k1", ALL)

        assert room.read(lambda db: failures(db, ID)) == []
        assert room.source(ID).status == "verified"


async def test_a_zip_that_this_node_could_not_look_at_is_tried_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    publisher.etags = True
    async with room.running() as sources:
        await registered(sources, publisher)
        room.examine = _failing
        result = await sources.subscribe(ID, "k1", ALL)
        assert result.skipped == (("alpha", "this node could not look at it: Too many open files"),)

        room.examine = examine_here
        assert (await sources.subscribe(ID, "k1", ALL)).mirrored_count == 1


async def _failing(path: Path) -> Examined:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)


async def test_a_sync_gives_way_unless_the_one_before_brought_everything(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    ways = list[float]()

    async def give_way(courtesy: Courtesy) -> None:
        ways.append(trio.current_time())

    async def given(version: str, *, zip_is_missing: bool = False) -> int:
        publisher.publish("alpha", version)
        if zip_is_missing:
            publisher.zips.clear()
        before = len(ways)
        await sources.subscribe(ID, "k1", ALL)
        return len(ways) - before

    async with room.running() as sources:
        await registered(sources, publisher)
        monkeypatch.setattr(Courtesy, "give_way", give_way)
        assert [await given("1.1"), await given("1.2")] == [1, 0]
        assert [await given("1.3", zip_is_missing=True), await given("1.4"), await given("1.5")] == [0, 1, 0]
