"""Releases wanted outside any subscription: read-through, and statements that authors hand in."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from pfn_node.sources.outcomes import NotVerified, PublisherFailed, UnknownSource
from pfn_node.store.rows import Filters
from pfn_node.store.sources import update_source
from pfn_protocol.announcements import EvidenceForm
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey
from tests.node.fake_outbound import Slow
from tests.node.sources_room import Publisher, Room, arranged, plugin_zip, registered
from tests.node.test_sources_verification import heard_of

ID = "ann@publisher.test"
RELEASE_KEY = PrivateKey(b"\x09" * 32)


async def test_a_wanted_release_is_fetched_and_seen(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    publisher.publish("beta", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)

        assert await sources.fetch_release(ID, "alpha", "1.0")

        release = room.release(ID, "alpha", "1.0")
        assert release is not None and release.mirrored and release.backed
        assert room.release(ID, "beta", "1.0") is None
        assert [version.plugin_id for version in room.versions()] == ["alpha"]
        assert await sources.fetch_release(ID, "alpha", "1.0")
        assert sum(request.path.endswith("alpha.zip") for request in room.network.requests) == 1


async def test_what_nobody_with_a_key_wants_is_only_cached(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, sync_seconds=1_000_000)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)

        assert await sources.fetch_release(ID, "alpha", "1.0", cache=True)

        assert room.artifacts.usage()["cached"] == 1 and not room.artifacts.digests()
        assert room.mirrors() == []
        release = room.release(ID, "alpha", "1.0")
        assert release is not None and release.mirrored

        await sources.subscribe(ID, "k1", Filters())
        assert room.artifacts.usage()["cached"] == 0 and len(room.artifacts.digests()) == 1
        assert len(room.mirrors()) == 1


async def test_a_source_that_was_only_heard_of_is_verified_first_once_per_host(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        wrong = Publisher(seed=9, author="bob")
        await heard_of(room, wrong)
        await heard_of(room, publisher)

        assert not await sources.fetch_release(wrong.source_id, "alpha", "1.0")
        proofs = room.network.asked("/verify-ownership")
        assert not await sources.fetch_release(ID, "alpha", "1.0")
        assert room.network.asked("/verify-ownership") == proofs == 1

        room.offset += 601
        assert await sources.fetch_release(ID, "alpha", "1.0")
        assert room.source(ID).status == "verified"


async def test_what_cannot_be_had_is_not_asked_for_again_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, health_check_seconds=1e9)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)

        assert not await sources.fetch_release(ID, "alpha", "0.9")
        assert not await sources.fetch_release(ID, "alpha", "0.9")
        assert room.network.asked("/author-data") == 1
        assert not await sources.fetch_release("nobody@nowhere.test", "alpha", "1.0")

        publisher.down = True
        assert not await sources.fetch_release(ID, "alpha", "1.0")
        publisher.down = False
        assert not await sources.fetch_release(ID, "alpha", "1.0")
        room.offset += 601
        assert await sources.fetch_release(ID, "alpha", "1.0")


async def test_a_source_in_conflict_is_not_asked(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    relay = Publisher(url="http://relay.test")
    room.network.hosts["relay.test"] = relay.answer
    async with room.running() as sources:
        await registered(sources, publisher)
        await heard_of(room, relay)
        await sources.verify(relay.source_id)

        assert not await sources.fetch_release(relay.source_id, "alpha", "1.0")


async def test_a_busy_node_asks_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)

    async def busy(*_: object, **__: object) -> object:
        raise PublisherFailed("busy", answered=False, ours=True)

    async with room.running() as sources:
        await heard_of(room, publisher)
        sources._client.federation_info = busy  # type: ignore[assignment,method-assign]

        assert not await sources.fetch_release(ID, "alpha", "1.0")


async def test_many_who_want_it_at_once_fetch_it_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    found: list[bool] = []
    async with room.running() as sources:
        await registered(sources, publisher)

        async def want() -> None:
            found.append(await sources.fetch_release(ID, "alpha", "1.0"))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(want)

        assert found == [True] * 5
        assert sum(request.path.endswith("alpha.zip") for request in room.network.requests) == 1
        assert len(room.versions()) == 1


def signed_offline(publisher: Publisher, key: PrivateKey = RELEASE_KEY, **changes: Any) -> tuple[bytes, bytes]:
    """(release, keybind) of a zip that lies at the publisher, whose server knows nothing of statements."""
    slug, version = changes.get("slug", "alpha"), changes.get("version", "1.0")
    publisher.zips["alpha"] = changes.get("zipped", plugin_zip("alpha", "1.0", name="Alpha"))
    stated = changes.get("stated", publisher.zips["alpha"])
    return publisher.release(slug, version, stated, key), publisher.keybind(key)


@pytest.mark.parametrize("url", [None, "http://publisher.test/files/alpha.zip", "http://PUBLISHER.test/alpha.zip"])
async def test_an_offline_release_is_taken_in(tmp_path: Path, autojump_clock: MockClock, url: str | None) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        raw, keybind = signed_offline(publisher)

        release = await sources.accept_release(raw, keybind, url)

        assert (release.plugin_id, release.version, release.assurance, release.mirrored) == ("alpha", "1.0", "A3", True)
        assert (release.name, release.backed_by) == ("Alpha", "release")
        (version,) = room.versions()
        assert {piece.form for piece in version.evidence} == {EvidenceForm.RELEASE, EvidenceForm.KEYBIND}
        assert len(room.mirrors()) == 1


async def test_a_statement_about_bytes_that_are_here_strengthens_them_without_a_download(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", Filters())
        before = len([request for request in room.network.requests if request.path.endswith(".zip")])
        raw = publisher.release("alpha", "1.0", publisher.zips["alpha"], publisher.key)

        release = await sources.accept_release(raw, None, None)
        again = await sources.accept_release(raw, None, None)

        assert release.assurance == again.assurance == "A3"
        assert len([request for request in room.network.requests if request.path.endswith(".zip")]) == before
        assert [len(version.evidence) for version in room.versions()] == [1, 2]


@pytest.mark.parametrize(
    "url", ["http://evil.test/alpha.zip", "http://publisher.test@evil.test/a.zip", "http://[/a", "x"]
)
async def test_nothing_but_the_sources_own_hosts_is_dialled(
    tmp_path: Path, autojump_clock: MockClock, url: str
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        before = len(room.network.requests)

        with pytest.raises(Refusal, match=r"must lie on a host of the source: publisher\.test"):
            await sources.accept_release(*signed_offline(publisher), url)
        assert not [one for one in room.network.requests[before:] if one.path.endswith(".zip")]


@pytest.mark.parametrize("fault", ["garbage", "unbound", "stranger"])
async def test_nothing_is_dialled_for_a_statement_that_does_not_hold(
    tmp_path: Path, autojump_clock: MockClock, fault: str
) -> None:
    room, publisher = arranged(tmp_path, health_check_seconds=1e9)
    async with room.running() as sources:
        await registered(sources, publisher)
        raw, keybind = signed_offline(publisher)
        given: dict[str, tuple[bytes, bytes | None]] = {
            "garbage": (b"garbage", None),
            "unbound": (raw, None),
            "stranger": (raw, Publisher(seed=5).keybind(RELEASE_KEY)),
        }
        before = len(room.network.requests)
        assert keybind

        with pytest.raises(Refusal):
            await sources.accept_release(*given[fault], None)

        assert not [one for one in room.network.requests[before:] if one.path.endswith(".zip")]


async def test_an_unknown_source_or_key_takes_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        raw, keybind = signed_offline(publisher)
        with pytest.raises(UnknownSource):
            await sources.accept_release(raw, keybind, None)
        await heard_of(room, publisher)
        with pytest.raises(NotVerified, match="is not known here"):
            await sources.accept_release(raw, keybind, None)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stated": b"other bytes"}, "the zip has sha256"),
        ({"version": "2.0"}, "the zip says version '1.0'"),
        ({"zipped": b"PK\x03\x04 and no more", "stated": b"PK\x03\x04 and no more"}, "the zip is not accepted"),
    ],
)
async def test_bytes_that_are_not_what_was_signed_are_refused(
    tmp_path: Path, autojump_clock: MockClock, changes: dict[str, Any], sentence: str
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)

        with pytest.raises(Refusal, match=sentence):
            await sources.accept_release(*signed_offline(publisher, **changes), None)
        assert not room.artifacts.digests() and room.versions() == []


async def test_bytes_that_cannot_be_fetched_are_the_publishers_failure(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        raw, keybind = signed_offline(publisher)
        publisher.zips.clear()
        with pytest.raises(PublisherFailed, match="HTTP 404"):
            await sources.accept_release(raw, keybind, None)

        room.network.hosts["publisher.test"] = lambda request: Slow((b"PK\x03\x04",) * 1000, 1.0)
        with pytest.raises(PublisherFailed, match="slower than"):
            await sources.accept_release(raw, keybind, None)


def in_the_mesh(room: Room, data: bytes) -> list[tuple[int, str, bool]]:
    """Other nodes hold these bytes; what they were asked for."""
    asked: list[tuple[int, str, bool]] = []

    async def fetch_artifact(sha256: bytes, size: int, source_id: str, *, cache: bool) -> bool:
        asked.append((size, source_id, cache))
        await trio.lowlevel.checkpoint()
        if sha256 == hashlib.sha256(data).digest():
            with room.artifacts.writer() as writer:
                writer.write(data)
                writer.keep(cache=cache)
        return room.artifacts.has(sha256)

    room.fetch_artifact = fetch_artifact
    return asked


@pytest.mark.parametrize("failure", ["gone", "down", "slow"])
async def test_signed_bytes_come_from_the_mesh_where_the_publisher_fails(
    tmp_path: Path, autojump_clock: MockClock, failure: str
) -> None:
    room, publisher = arranged(tmp_path)
    asked = in_the_mesh(room, zipped := plugin_zip("alpha", "1.0", name="Alpha"))
    async with room.running() as sources:
        await registered(sources, publisher)
        raw, keybind = signed_offline(publisher, zipped=zipped)
        publisher.zips.clear()
        publisher.down = failure == "down"
        if failure == "slow":
            room.network.hosts["publisher.test"] = lambda request: Slow((b"PK\x03\x04",) * 1000, 1.0)

        release = await sources.accept_release(raw, keybind, None)

        assert asked == [(len(zipped), ID, True)]
        assert (release.assurance, release.backed_by, release.mirrored) == ("A3", "release", True)
        assert_room_holds_only(room, hashlib.sha256(zipped).digest())
        (version,) = room.versions()
        assert {piece.form for piece in version.evidence} == {EvidenceForm.RELEASE, EvidenceForm.KEYBIND}
        assert version.observed_at == 0, "nobody saw these bytes at the publisher, and nobody says so"
        assert release.observed_at > 0
        await room.database.write(lambda db: update_source(db, ID, oracle="raw"))
        now = room.release(ID, "alpha", "1.0")
        assert now is not None and now.backed_by is None, "the author's word was all that backed it"


async def test_the_mesh_is_not_asked_while_the_publisher_answers(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    asked = in_the_mesh(room, b"")
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.accept_release(*signed_offline(publisher), None)

        assert asked == []


@pytest.mark.parametrize("oracle", ["raw", None])
async def test_a_statement_that_anybody_may_have_had_signed_brings_nothing_from_the_mesh(
    tmp_path: Path, autojump_clock: MockClock, oracle: str | None
) -> None:
    room, publisher = arranged(tmp_path)
    asked = in_the_mesh(room, zipped := plugin_zip("alpha", "1.0", name="Malware"))
    async with room.running() as sources:
        await registered(sources, publisher)
        await room.database.write(lambda db: update_source(db, ID, oracle=oracle))
        raw, keybind = signed_offline(publisher, zipped=zipped)
        publisher.zips.clear()

        with pytest.raises(PublisherFailed, match="HTTP 404"):
            await sources.accept_release(raw, keybind, None)

        assert (asked, room.versions(), room.artifacts.digests()) == ([], [], ())


async def test_nobody_in_the_mesh_has_it_either(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    asked = in_the_mesh(room, b"something else")
    async with room.running() as sources:
        await registered(sources, publisher)
        raw, keybind = signed_offline(publisher)
        publisher.zips.clear()

        with pytest.raises(PublisherFailed, match="HTTP 404"):
            await sources.accept_release(raw, keybind, None)

        assert len(asked) == 1
        assert room.versions() == []


async def test_signed_bytes_from_the_mesh_that_are_no_plugin_are_not_kept(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    in_the_mesh(room, broken := b"PK\x03\x04 and no more")
    async with room.running() as sources:
        await registered(sources, publisher)
        raw, keybind = signed_offline(publisher, zipped=broken)
        publisher.zips.clear()

        with pytest.raises(Refusal, match="the zip is not accepted"):
            await sources.accept_release(raw, keybind, None)

        assert (room.versions(), room.artifacts.digests()) == ([], ())


async def test_a_second_statement_over_other_bytes_is_a_conflict(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.accept_release(*signed_offline(publisher), None)
        first = hashlib.sha256(publisher.zips["alpha"]).digest()

        with pytest.raises(Refusal, match="conflict"):
            await sources.accept_release(
                *signed_offline(publisher, zipped=plugin_zip("alpha", "1.0", extra=b"other")), None
            )

        release = room.release(ID, "alpha", "1.0")
        assert release is not None and release.sha256 == first and release.conflict
        assert_room_holds_only(room, first)


def assert_room_holds_only(room: Room, sha256: bytes) -> None:
    assert room.artifacts.digests() == (sha256,)
