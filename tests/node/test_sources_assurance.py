"""What a publisher's own answers do to assurance: its origin's word, its heads, and levels that are kept to."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.sources.operations import Sources
from pfn_node.store import heads
from pfn_node.store.peers import set_peer_policy
from pfn_node.store.rows import Filters
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import Evidence, EvidenceForm, VersionStatement
from pfn_protocol.encoding import open_envelope
from pfn_protocol.identity import PrivateKey
from pfn_protocol.publisher import HeadStatement, sign_head, sign_keybind
from pfn_protocol.set_digest import SetDigest
from tests.node.fake_outbound import FakeNetwork
from tests.node.sources_room import JSON, START, Publisher, Room, arranged, plugin_zip, registered

ID = "ann@publisher.test"
WELL_KNOWN = "/.well-known/pfn-publisher.json"
DAY = 86_400
RELEASE_KEY = PrivateKey(bytes([33]) * 32)
PINS = [PrivateKey(bytes([70 + number]) * 32) for number in range(2)]
ALL = Filters()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def bind(publisher: Publisher, *, origin: str | None = None, key: PrivateKey | None = None) -> None:
    """The origin serves a keybind."""
    raw = sign_keybind(key or publisher.key, RELEASE_KEY, origin or publisher.url).raw
    publisher.answers[WELL_KNOWN] = (json.dumps({"profile": 2, "keybind_v2": base64_of(raw)}), 200, JSON)


def head_over(*releases: str, seq: int = int(START * 1000), days: int = 1) -> str:
    ids = [open_envelope(base64.b64decode(one), mesh="", domain="pfn/release/2", bytes_max=4096).id for one in releases]
    statement = HeadStatement(SetDigest(ids).digest(), len(ids), seq, int(START) + days * DAY)
    return base64_of(sign_head(RELEASE_KEY, statement).raw)


# --- Bound at its origin --------------------------------------------------------------------------------------------


async def test_a_keybind_of_this_key_for_this_url_at_the_origin_binds_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running(loops=False) as sources:
        bind(publisher)
        await registered(sources, publisher)
        bound = room.source(ID).origin_bound
        publisher.answers[WELL_KNOWN] = ("", 503, JSON)
        await sources.verify(ID)
        after_silence = room.source(ID).origin_bound
        publisher.answers[WELL_KNOWN] = ("{}", 404, JSON)
        await sources.verify(ID)

        assert (bound, after_silence, room.source(ID).origin_bound) == (True, True, False)


async def test_one_key_that_is_bound_at_two_hosts_is_a_conflict_of_both(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    other = Publisher(url="http://relay.test")
    room.network.hosts["relay.test"] = other.answer
    async with room.running(loops=False) as sources:
        bind(publisher)
        bind(other)  # its owner has two addresses, or signs anything for anybody: nobody can tell
        await registered(sources, publisher)
        await sources.add(other.url, "ann", other.pem)
        await sources.verify("ann@relay.test")

        assert [room.source(one).status for one in (ID, "ann@relay.test")] == ["conflict", "conflict"]


@pytest.mark.parametrize(
    "answer",
    [
        "not JSON",
        "[]",
        "{}",
        '{"keybind_v2": 7}',
        '{"keybind_v2": "AAAA"}',
        '{"keybind_v2": "' + "A" * 9000 + '"}',
    ],
)
async def test_an_origin_that_says_anything_else_binds_nothing(
    answer: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running(loops=False) as sources:
        publisher.answers[WELL_KNOWN] = (answer, 200, JSON)
        await registered(sources, publisher)

        assert not room.source(ID).origin_bound


async def test_a_keybind_of_another_key_or_for_another_url_binds_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running(loops=False) as sources:
        bind(publisher, key=Publisher(seed=9).key)
        await registered(sources, publisher)
        of_another_key = room.source(ID).origin_bound
        bind(publisher, origin="http://elsewhere.test")
        await sources.verify(ID)

        assert (of_another_key, room.source(ID).origin_bound) == (False, False)


async def test_who_relays_a_proof_cannot_bind_the_key_and_puts_only_its_own_url_in_doubt(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    network, honest = FakeNetwork(), Publisher()
    relay = Publisher(url="http://relay.test")  # the same key: every challenge is passed on
    network.hosts |= {"publisher.test": honest.answer, "relay.test": relay.answer}
    room = Room(tmp_path, network)
    async with room.running(loops=False) as sources:
        bind(honest)
        bind(relay, origin=honest.url)  # all that it has: the owner signs no other origin
        await registered(sources, honest)
        before = room.source(ID).trust_score
        await sources.add(relay.url, relay.author, relay.pem)
        await sources.verify(relay.source_id)

        there, here = room.source(relay.source_id), room.source(ID)
        assert (there.origin_bound, there.status) == (False, "conflict")
        assert (here.origin_bound, here.status, here.key_known) == (True, "verified", True)
        assert here.trust_score == pytest.approx(before, abs=0.02)
        assert any("conflict" in one.message for one in room.activities("security"))


async def test_another_key_or_url_of_the_source_is_no_longer_bound(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running(loops=False) as sources:
        bind(publisher)
        await registered(sources, publisher)
        bound = room.source(ID).origin_bound
        publisher.down = True
        await sources.update(ID, public_key=Publisher(seed=9).pem)

        assert (bound, room.source(ID).origin_bound) == (True, False)


# --- Heads ----------------------------------------------------------------------------------------------------------


async def said_by_pins(room: Room, entry: dict[str, object], data: bytes) -> None:
    pieces = (
        Evidence(EvidenceForm.RELEASE, base64.b64decode(str(entry["release_v2"]))),
        Evidence(EvidenceForm.KEYBIND, base64.b64decode(str(entry["keybind_v2"]))),
    )
    statement = VersionStatement(
        source_id=ID, plugin_id="alpha", version=str(entry["version"]), type="plugin", name="A Plugin",
        description="What it does.", tags=(), sha256=hashlib.sha256(data).digest(), size=len(data),
        observed_at=int(room.clock()), evidence=pieces,
    )  # fmt: skip
    for pin in PINS:
        await room.database.write(lambda db, key=pin.public: set_peer_policy(db, key, pinned=True))  # type: ignore[misc]
        await room.keep(announce(pin, "main", statement, 0, int(room.clock() * 1000)))


async def test_a4_lasts_as_long_as_the_publishers_head_and_comes_back_with_the_next(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path, health_check_seconds=1e9)
    publisher.etags = True
    async with room.running() as sources:
        entry = publisher.publish("alpha", "1.0", v2=RELEASE_KEY)
        entry["head_v2"] = head_over(str(entry["release_v2"]))
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)
        await said_by_pins(room, entry, publisher.zips["alpha"])

        async def level_at(seconds: float) -> str:
            await trio.sleep(START + seconds - room.clock())
            release = room.release(ID, "alpha", "1.0")
            assert release is not None
            return release.assurance

        assert await level_at(60) == "A4"
        assert await level_at(DAY - 60) == "A4"
        assert await level_at(DAY + 60) == "A3"
        # Nothing but the head is new: the list brings it, no zip is fetched for it.
        zips = sum(request.path.endswith(".zip") for request in room.network.requests)
        entry["head_v2"] = head_over(str(entry["release_v2"]), seq=int(START * 1000) + DAY * 1000, days=3)
        assert await level_at(DAY + 3 * 3600) == "A4"
        assert sum(request.path.endswith(".zip") for request in room.network.requests) == zips
        # A mirror that plays the old head back changes nothing.
        entry["head_v2"] = head_over(str(entry["release_v2"]), seq=int(START * 1000) + 1, days=2)
        await trio.sleep(3 * 3600)
        (head,) = room.read(lambda db: heads.compare_heads(db, ID, int(room.clock())))
        assert (head.agrees, head.expired) == (True, False)
        assert await level_at(2.5 * DAY) == "A4"


# --- Levels that are kept to ----------------------------------------------------------------------------------------


async def test_a_sync_keeps_an_unsigned_successor_of_a_signed_version_but_holds_it_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path, health_check_seconds=1e9, verification_seconds=1e9)
    async with room.running() as sources:
        bind(publisher)
        publisher.publish("alpha", "1.0", v2=RELEASE_KEY)
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)
        publisher.publish("alpha", "2.0")
        result = await sources.subscribe(ID, "k1", ALL)
        await trio.sleep(10 * 3600)

        reason = "held back: this plugin is signed (A3) since version 1.0, and this version is only A1"
        assert result.skipped == (("alpha", reason),)
        assert not result.success
        held = room.release(ID, "alpha", "2.0")
        assert held is not None and held.held_back is not None and not held.backed
        newest = room.read(lambda db: db.execute("SELECT version FROM plugins").fetchall())
        assert newest == [("1.0",)]
        zips = sum(request.path.endswith(".zip") for request in room.network.requests)
        assert zips == 2, "what is here is not fetched again at every sync"
        assert sum("held back" in one.message for one in room.activities()) == 1


async def test_the_version_in_the_zip_must_be_the_one_of_the_list(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running(loops=False) as sources:
        publisher.publish("alpha", "2.0")
        publisher.zips["alpha"] = plugin_zip("alpha", "1.9")
        await registered(sources, publisher)
        result = await sources.subscribe(ID, "k1", ALL)

        assert result.skipped == (("alpha", "version mismatch: the zip says '1.9', the list says '2.0'"),)
        assert room.release(ID, "alpha", "2.0") is None
        assert room.artifacts.digests() == ()


async def test_a_publisher_that_serves_each_node_other_bytes_is_shown_as_a_conflict_and_served_by_no_second_digest(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Two nodes that pin each other, and a third that pins both and sees neither story itself."""
    network, publisher = FakeNetwork(), Publisher()
    network.hosts["publisher.test"] = publisher.answer
    told: list[Room] = []
    rooms = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        room = Room(folder, network)
        room.key = PrivateKey(bytes([80 + number]) * 32)
        rooms.append(room)
        told.append(room)

    async def served_to(room: Room, sources: Sources, extra: bytes) -> bytes:
        publisher.publish("alpha", "1.0", extra=extra)

        async def tell(announcement: object) -> None:
            for other in told:
                if other is not room:
                    await other.keep(announcement)  # type: ignore[arg-type]

        room.tell = tell
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)
        return hashlib.sha256(publisher.zips["alpha"]).digest()

    first, second, third = rooms
    async with first.running(loops=False) as one, second.running(loops=False) as other, third.running(loops=False):
        for room in rooms:
            for peer in rooms:
                if peer is not room:
                    key = peer.key.public
                    await room.database.write(lambda db, key=key: set_peer_policy(db, key, pinned=True))  # type: ignore[misc]
        told.remove(second)  # it has not heard of the first one's story when it asks
        digest = await served_to(first, one, b"for the first")
        told.append(second)
        another = await served_to(second, other, b"for the second")

        releases = [room.release(ID, "alpha", "1.0") for room in rooms]
        assert digest != another
        assert [release.sha256 if release else None for release in releases] == [digest, another, digest]
        assert releases[0] is not None and releases[0].disputed_by and releases[0].backed_by == "self"
        assert releases[2] is not None and (releases[2].conflict, releases[2].assurance) == (True, "A0")
        assert any("different bytes" in alert.message for alert in third.activities("security"))
