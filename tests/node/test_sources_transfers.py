"""Where a zip is fetched, and when a transfer is given up."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from pfn_node.artifacts.writer import ArtifactWriter
from pfn_node.store.rows import Filters
from pfn_node.store.sources import update_source
from tests.node.fake_outbound import Slow
from tests.node.sources_room import arranged, registered

ALL = Filters()
ID = "ann@publisher.test"


async def test_a_disk_that_fills_up_while_bytes_come_is_a_reason(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("pfn_node.artifacts.artifacts.ArtifactWriter.write", full)
        result = await sources.subscribe(ID, "k1", ALL)

        assert result.skipped == (("alpha", "this node could not store it: No space left on device"),)


async def test_a_zip_whose_signed_text_cannot_be_kept_is_not_left_behind(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0", signed=False)
    publisher.sign_plugin_data("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        keep = ArtifactWriter.keep

        def no_room_for_texts(writer: ArtifactWriter, **how: Any) -> bytes:
            if not writer.path.read_bytes().startswith(b"PK"):
                raise OSError(28, "No space left on device")
            return keep(writer, **how)

        monkeypatch.setattr("pfn_node.artifacts.artifacts.ArtifactWriter.keep", no_room_for_texts)
        result = await sources.subscribe(ID, "k1", ALL)

        assert "could not store it" in result.skipped[0][1]
        assert room.release(ID, "alpha", "1.0") is None
        assert room.artifacts.files() == ()
        monkeypatch.undo()
        assert (await sources.subscribe(ID, "k1", ALL)).mirrored_count == 1


@pytest.mark.parametrize("retry_after", ["", "soon", "9" * 30, "Wed, 21 Oct 2015 07:28:00 GMT"])
async def test_a_limit_without_a_usable_time_is_an_hour(
    tmp_path: Path, autojump_clock: MockClock, retry_after: str
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    publisher.asset_info = None
    publisher.answers["/federated/download"] = ("", 429, {"Retry-After": retry_after} if retry_after else {})
    async with room.running() as sources:
        await registered(sources, publisher)

        assert "wait 3600 s" in (await sources.subscribe(ID, "k1", ALL)).skipped[0][1]


@pytest.mark.parametrize("body", [b"", b"PK", b"PK\x03"])
async def test_less_than_the_beginning_of_a_zip_is_no_zip(
    tmp_path: Path, autojump_clock: MockClock, body: bytes
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    publisher.zips["alpha"] = body
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        assert "is not a zip" in result.skipped[0][1]


async def test_a_naming_scheme_that_a_peer_made_up_is_not_followed(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        await room.database.write(lambda db: update_source(db, ID, asset_naming_scheme="../slug.zip"))

        assert (await sources.subscribe(ID, "k1", ALL)).success
        assert room.network.asked("/federated/download") == 1


async def test_a_missing_asset_is_asked_of_the_instance(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.asset_info = {"domain": "http://assets.test", "namingScheme": "author/slug/slug.zip"}
    room.network.hosts["assets.test"] = lambda request: ("<html>parked</html>", 200, {})
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        assert result.success, result.skipped
        assert room.network.asked("/ann/alpha/alpha.zip") == 1
        (asked,) = [request for request in room.network.requests if request.path == "/federated/download"]
        assert asked.query == {"author": "ann", "slug": "alpha", "version": "1.0"}


@pytest.mark.parametrize("assets", [None, {"domain": "http://a.test", "namingScheme": "http://evil.test/slug.zip"}])
async def test_without_usable_asset_info_the_instance_is_asked(
    tmp_path: Path, autojump_clock: MockClock, assets: object
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.asset_info = assets
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        assert result.success
        assert room.network.asked("/federated/download") == 1
        assert not [request for request in room.network.requests if "evil" in request.url]


async def test_a_rate_limit_is_respected_until_it_is_over(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, sync_seconds=1_000_000, health_check_seconds=1_000_000)
    publisher.publish("alpha", "1.0")
    publisher.asset_info = None
    publisher.answers["/federated/download"] = ('{"error":"slow down"}', 429, {"Retry-After": "3600"})
    async with room.running() as sources:
        await registered(sources, publisher)

        first = await sources.subscribe(ID, "k1", ALL)
        second = await sources.subscribe(ID, "k1", ALL)

        assert "wait 3600 s" in first.skipped[0][1]
        assert "asked again in" in second.skipped[0][1]
        assert room.network.asked("/federated/download") == 1

        del publisher.answers["/federated/download"]
        room.offset += 3601
        assert (await sources.subscribe(ID, "k1", ALL)).success


async def test_a_zip_without_end_is_cut_off_and_leaves_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, artifact_bytes_max=10_000)
    publisher.publish("alpha", "1.0")
    publisher.asset_info = None
    answer = publisher.answer
    room.network.hosts["publisher.test"] = lambda request: (
        Slow((b"PK\x03\x04" + bytes(4000),) * 1000, 0) if request.path == "/federated/download" else answer(request)
    )
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        assert "larger than the 10000 bytes" in result.skipped[0][1]
        assert not list((tmp_path / "artifacts" / "incoming").iterdir())


async def test_a_zip_that_drips_is_given_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    answer = publisher.answer
    room.network.hosts["publisher.test"] = lambda request: (
        Slow((b"PK\x03\x04",) * 100_000, 1.0) if request.path.endswith(".zip") else answer(request)
    )
    async with room.running() as sources:
        await registered(sources, publisher)
        started = trio.current_time()

        result = await sources.subscribe(ID, "k1", ALL)

        assert "slower than" in result.skipped[0][1]
        assert trio.current_time() - started < 25
        assert room.network.asked("/federated/download") == 0  # the transfer had begun: no second try


async def test_a_disk_that_is_full_is_a_reason_not_a_crash(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("pfn_node.artifacts.artifacts.os.fsync", full)
        result = await sources.subscribe(ID, "k1", ALL)

        assert "could not store it" in result.skipped[0][1]
        assert room.release(ID, "alpha", "1.0") is None
