"""The original publisher as it really is: an unsigned list, a signed description, an asset domain of another."""

from pathlib import Path
from typing import Literal

import pytest
from trio.testing import MockClock

from pfn_node.store.rows import Filters
from tests.node.original_publisher import OriginalPublisher
from tests.node.sources_room import Room, arranged

ID = "bilbo@publisher.test"
ALL = Filters()
SLUGS = ["bilbos-garden", "event-ledger", "hello-signal", "signed-in-json"]


def with_original(path: Path) -> tuple[Room, OriginalPublisher]:
    room, _ = arranged(path, sync_seconds=1_000_000)
    original = OriginalPublisher()
    room.network.hosts["publisher.test"] = lambda request: original.answer(
        request.method, request.path, request.query, request.body
    )
    return room, original


async def test_everything_of_an_author_is_mirrored(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, original = with_original(tmp_path)
    async with room.running() as sources:
        await sources.add("http://publisher.test", "bilbo", original.public_pem)

        result = await sources.subscribe(ID, "k1", ALL)

        assert (result.success, result.mirrored_count, result.total_plugins, result.skipped) == (True, 4, 4, ())
        assert result.author_info.member_since == "2024-10-30"
        releases = [room.release(ID, one.plugin_id, one.version) for one in room.versions()]
        assert {(one.plugin_id, one.assurance) for one in releases if one} == {(slug, "A1") for slug in SLUGS}
        garden = room.release(ID, "bilbos-garden", "0.9.0")
        assert garden is not None and garden.name == "Bilbo's Garden — “plants” & <b>more</b>"
        assert room.source(ID).oracle == "utf8"


@pytest.mark.parametrize("tags", ["object", "array", "missing"])
async def test_tags_in_every_spelling(
    tmp_path: Path, autojump_clock: MockClock, tags: Literal["object", "array", "missing"]
) -> None:
    room, original = with_original(tmp_path)
    original.tags = tags
    async with room.running() as sources:
        await sources.add("http://publisher.test", "bilbo", original.public_pem)

        result = await sources.subscribe(ID, "k1", Filters(tags=("garden",)))

        assert result.mirrored_count == (0 if tags == "missing" else 4)


async def test_a_stale_list_never_gives_its_version_to_newer_bytes(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, original = with_original(tmp_path)
    async with room.running() as sources:
        await sources.add("http://publisher.test", "bilbo", original.public_pem)
        original.release_hello_signal(stale=True)

        result = await sources.subscribe(ID, "k1", ALL)

        assert result.mirrored_count == 3
        assert [slug for slug, _ in result.skipped] == ["hello-signal"]
        assert "version mismatch" in result.skipped[0][1]

        original.stale = False
        assert (await sources.subscribe(ID, "k1", ALL)).mirrored_count == 4
        release = room.release(ID, "hello-signal", "1.0.1")
        assert release is not None and release.mirrored
        assert room.release(ID, "hello-signal", "1.0.0") is None


async def test_a_new_version_comes_beside_the_old_one(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, original = with_original(tmp_path)
    async with room.running() as sources:
        await sources.add("http://publisher.test", "bilbo", original.public_pem)
        await sources.subscribe(ID, "k1", ALL)
        original.release_hello_signal(stale=False)
        downloads = original.asked()["/federated/download"]

        await sources.subscribe(ID, "k1", ALL)

        assert original.asked()["/federated/download"] == downloads + 1
        assert all(room.release(ID, "hello-signal", version) for version in ("1.0.0", "1.0.1"))
        updates = [one for one in room.activities("version_update") if one.plugin_id == "hello-signal"]
        assert [(one.old_version, one.new_version) for one in updates] == [("1.0.0", "1.0.1"), ("0.0.0", "1.0.0")]


async def test_without_signatures_it_is_left_out(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, original = with_original(tmp_path)
    original.signs_plugin_data = False
    async with room.running() as sources:
        await sources.add("http://publisher.test", "bilbo", original.public_pem)

        result = await sources.subscribe(ID, "k1", ALL)

        assert not result.success
        assert {reason[:8] for _, reason in result.skipped} == {"unsigned"}


async def test_downloads_that_are_limited_are_left_for_later(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, original = with_original(tmp_path)
    original.rate_limited = True
    async with room.running() as sources:
        await sources.add("http://publisher.test", "bilbo", original.public_pem)

        result = await sources.subscribe(ID, "k1", ALL)

        assert result.mirrored_count == 0
        assert all("wait 3600 s" in reason for _, reason in result.skipped)


async def test_a_key_that_is_not_its_own_and_an_author_it_does_not_know(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, original = with_original(tmp_path)
    async with room.running() as sources:
        await sources.add("http://publisher.test", "frodo", original.other_public_pem)
        assert (await sources.verify("frodo@publisher.test")).status == "error"

        # It signs for anybody, so the proof succeeds; that it has no such author shows at the first sync.
        await sources.add("http://publisher.test", "nobody-such", original.public_pem)
        assert (await sources.verify("nobody-such@publisher.test")).success


async def test_an_author_without_plugins_is_a_success(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, original = with_original(tmp_path)
    async with room.running() as sources:
        await sources.add("http://publisher.test", "empty-author", original.public_pem)

        result = await sources.subscribe("empty-author@publisher.test", "k1", ALL)

        assert (result.success, result.mirrored_count, result.total_plugins) == (True, 0, 0)
