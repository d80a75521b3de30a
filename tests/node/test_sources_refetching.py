"""What is served on the word of others is looked at again: who, when, how often, and what comes of it."""

import hashlib
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.sources.operations import Sources
from pfn_node.store import refetches
from pfn_node.store.peers import set_peer_policy
from pfn_node.store.rows import Filters
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import VersionStatement
from pfn_protocol.identity import PrivateKey
from pfn_protocol.refetching import Draw
from tests.node.fake_outbound import FakeNetwork, Request
from tests.node.sources_room import JSON, Publisher, Room, arranged, plugin_zip, registered

ID = "ann@publisher.test"
HOUR = 3600
DAY = 24 * HOUR
PIN, OTHER_PIN = PrivateKey(bytes([50]) * 32), PrivateKey(bytes([51]) * 32)
ALL = Filters()
QUIET = {"health_check_seconds": 1e9, "verification_seconds": 1e9}


async def said(
    room: Room, data: bytes, *, slug: str = "alpha", key: PrivateKey = PIN, tags: tuple[str, ...] = ()
) -> None:
    """A pinned node says that it saw these bytes as version 1.0, and they are here, brought by the mesh."""
    await room.database.write(lambda db: set_peer_policy(db, key.public, pinned=True))
    statement = VersionStatement(
        source_id=ID, plugin_id=slug, version="1.0", type="plugin", name="A Plugin", description=None, tags=tags,
        sha256=hashlib.sha256(data).digest(), size=len(data), observed_at=int(room.clock()), evidence=(),
    )  # fmt: skip
    room.artifacts.put_bytes(data)
    await room.keep(announce(key, "main", statement, 0, int(room.clock() * 1000)))


def due(room: Room) -> list[int]:
    return [one.due for one in room.read(refetches.planned)]


def draw(monkeypatch: pytest.MonkeyPatch, when: float) -> None:
    """Have every moment drawn at this part of its time: which task draws first is chance."""
    monkeypatch.setattr("pfn_node.sources.refetching.Draw", lambda *_: Draw(0.0, when))


async def followed(publisher: Publisher, sources: Sources, filters: Filters = ALL) -> None:
    """The source is registered and subscribed to while it has nothing."""
    await registered(sources, publisher)
    await sources.subscribe(ID, "k1", filters)


async def test_a_digest_on_anothers_word_is_looked_at_within_a_day_and_then_stands_on_the_own_word(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path, **QUIET)
    async with room.running() as sources:
        await followed(publisher, sources)
        publisher.publish("alpha", "1.0")
        await said(room, publisher.zips["alpha"])
        await trio.sleep(DAY + HOUR)  # the moment is drawn, and may be the very next one

        release = room.release(ID, "alpha", "1.0")
        assert release is not None and release.backed_by == "self"
        assert room.network.asked("/plugins/ann/alpha/alpha.zip") == 1
        assert room.activities("security") == []
        assert due(room) == []


async def test_what_nobody_here_subscribes_to_is_not_looked_at(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, **QUIET)
    async with room.running() as sources:
        await followed(publisher, sources, Filters(slugs=("beta",), tags=("one",)))
        for slug in ("alpha", "beta"):
            publisher.publish(slug, "1.0")
            await said(room, publisher.zips[slug], slug=slug, tags=("one",))
        await trio.sleep(2 * DAY)

        assert room.network.asked("/plugins/ann/alpha/alpha.zip") == 0
        assert room.network.asked("/plugins/ann/beta/beta.zip") == 1
        assert due(room) == []


async def test_a_pin_that_says_another_digest_brings_it_forward_to_within_the_hour(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(monkeypatch, 0.5)
    room, publisher = arranged(tmp_path, **QUIET)
    async with room.running() as sources:
        await followed(publisher, sources)
        publisher.publish("alpha", "1.0")
        publisher.down = True  # so that nothing is fetched by the sync
        await said(room, plugin_zip("alpha", "1.0", extra=b"bad"))
        await trio.sleep(400)
        (before,) = due(room)
        disputed_at = room.clock()
        publisher.down = False
        await said(room, publisher.zips["alpha"], key=OTHER_PIN)
        disputed = room.release(ID, "alpha", "1.0")
        await trio.sleep(HOUR)

        assert before > disputed_at + HOUR, "or nothing had to be brought forward"
        assert disputed is not None and disputed.conflict
        release = room.release(ID, "alpha", "1.0")
        assert release is not None and (release.backed_by, release.conflict) == ("self", False)
        assert release.sha256 == hashlib.sha256(publisher.zips["alpha"]).digest()
        (alert,) = [one for one in room.activities("security") if "they are replaced" in one.message]
        assert "did:key:" in alert.message


async def test_what_was_drawn_outlives_a_restart(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(monkeypatch, 0.5)
    network, publisher = FakeNetwork(), Publisher()
    network.hosts["publisher.test"] = publisher.answer
    room = Room(tmp_path, network, **QUIET)
    async with room.running() as sources:
        await followed(publisher, sources)
        publisher.publish("alpha", "1.0")
        await said(room, publisher.zips["alpha"])
        await trio.sleep(400)
        before = due(room)
        stopped_at = room.clock()
    again = Room(tmp_path, network, **QUIET)
    draw(monkeypatch, 0.9)
    again.offset = stopped_at - 1_800_000_000.0
    async with again.running():
        await trio.sleep(400)
        assert due(again) == before != []
        await trio.sleep(DAY)

        release = again.release(ID, "alpha", "1.0")
        assert release is not None and release.backed_by == "self"


async def test_a_publisher_that_is_down_is_asked_again_later_and_given_up_in_the_end(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path, **QUIET)
    async with room.running() as sources:
        await followed(publisher, sources)
        publisher.publish("alpha", "1.0")
        await said(room, publisher.zips["alpha"])
        publisher.answers["/author-data"] = ("{}", 500, JSON)
        await trio.sleep(2 * DAY)
        failing = room.read(refetches.planned)
        await trio.sleep(8 * DAY)

        assert failing and failing[0].failures >= 3
        assert due(room) == []
        release = room.release(ID, "alpha", "1.0")
        assert release is not None and release.backed_by == "pin"


async def test_a_version_that_the_publisher_no_longer_lists_is_let_be(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path, **QUIET)
    async with room.running() as sources:
        await followed(publisher, sources)
        await said(room, plugin_zip("alpha", "1.0"))
        publisher.publish("alpha", "1.1")
        await trio.sleep(2 * DAY)

        release = room.release(ID, "alpha", "1.0")
        assert release is not None and release.backed_by == "pin"
        assert due(room) == []


async def test_one_host_is_asked_for_one_zip_a_minute_at_most(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, **QUIET)
    slugs = [f"plugin{number}" for number in range(40)]
    moments: list[float] = []
    async with room.running() as sources:
        await followed(publisher, sources)
        for slug in slugs:
            publisher.publish(slug, "1.0")
            await said(room, publisher.zips[slug], slug=slug)

        def noted(request: Request) -> None:
            if request.path.endswith(".zip"):
                moments.append(trio.current_time())

        room.network.before_answer = noted
        for slug in slugs:  # somebody disputes everything at once
            await said(room, plugin_zip(slug, "1.0", extra=b"other"), slug=slug, key=OTHER_PIN)
        await trio.sleep(2 * HOUR)

        assert len(moments) == len(slugs)
        assert all(later - earlier >= 59 for earlier, later in pairwise(moments))
        assert due(room) == []


async def test_a_release_that_its_author_signed_is_not_looked_at_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path, **QUIET)
    async with room.running() as sources:
        await followed(publisher, sources)
        publisher.publish("alpha", "1.0", v2=publisher.key)
        data = publisher.zips["alpha"]
        await said(room, data)
        raw = publisher.release("alpha", "1.0", data, publisher.key)
        await sources.accept_release(raw, None, None)
        await trio.sleep(400)

        release = room.release(ID, "alpha", "1.0")
        assert release is not None and release.backed_by == "release"
        assert due(room) == []
