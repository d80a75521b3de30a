"""A hostile publisher, and strangers who speak of honest ones, against the room of sources."""

import json
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.sources.mirroring import MESH_SECONDS_MIN
from pfn_node.store.discovery import DISPROVED_MAX
from pfn_node.store.rows import Filters
from pfn_node.store.subscriptions import set_subscription
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import SourceStatement
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey, public_key_pem
from pfn_protocol.publisher import sign_keybind
from tests.node.sources_room import START, Publisher, Room, arranged, plugin_zip, registered

STRANGER = PrivateKey(b"\x44" * 32)
MALLORY = PrivateKey(b"\x66" * 32)


async def heard(
    room: Room, publisher: Publisher, *, seq: int, key: bytes | None = None, by: PrivateKey = STRANGER
) -> None:
    """A stranger tells of a publisher, perhaps with a key of its own."""
    statement = SourceStatement(
        source_id=publisher.source_id,
        instance_url=publisher.url,
        username=publisher.author,
        public_key=key or publisher.key.public,
        asset_domain="",
        asset_naming_scheme="",
        verified=True,
        verified_at=0,
    )
    await room.keep(announce(by, "main", statement, 0, int(START * 1000) + seq))


def with_relay(room: Room, publisher: Publisher) -> Publisher:
    """Another host that hands every challenge on to the real owner of the key."""
    relay = Publisher(url="http://relay.test", author=publisher.author)
    relay.key = publisher.key
    room.network.hosts["relay.test"] = relay.answer
    return relay


async def test_a_relayed_challenge_takes_nothing_from_a_source_that_is_subscribed_to(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await heard(room, publisher, seq=1)
        assert (await sources.verify(publisher.source_id)).success
        await room.database.write(
            lambda db: set_subscription(db, publisher.source_id, "somebody", Filters(), int(START))
        )
        relay = with_relay(room, publisher)
        await heard(room, relay, seq=2)

        await sources.verify(relay.source_id)

        assert room.source(relay.source_id).status == "conflict"
        assert room.source(publisher.source_id).status == "verified"


async def test_a_wrong_key_told_first_costs_one_failed_verification(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("shop", "1.0")
    async with room.running() as sources:
        await heard(room, publisher, seq=1, key=MALLORY.public, by=MALLORY)
        await heard(room, publisher, seq=2)
        assert not await sources.fetch_release(publisher.source_id, "shop", "1.0", cache=True)
        assert room.source(publisher.source_id).public_key == public_key_pem(publisher.key.public)

        room.offset += 700
        assert await sources.fetch_release(publisher.source_id, "shop", "1.0", cache=True)
        assert room.source(publisher.source_id).key_known


async def test_keys_that_were_disproved_are_remembered_within_a_bound(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pfn_node.store.discovery.DISPROVED_MAX", 3)
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        for number in range(6):
            liar = PrivateKey(bytes([100 + number]) * 32)
            await heard(room, publisher, seq=number, key=liar.public, by=liar)
        for _ in range(6):
            assert not (await sources.verify(publisher.source_id)).success
        fact = room.read(lambda db: db.execute("SELECT value FROM facts WHERE name LIKE 'disproved:%'").fetchone()[0])
        assert len(json.loads(fact)) == 3 < DISPROVED_MAX


async def test_a_release_key_that_was_bound_for_another_origin_releases_nothing_here(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    zip_bytes = plugin_zip("shop", "1.0")
    publisher.zips["shop"] = zip_bytes
    release_key = PrivateKey(b"\x55" * 32)
    async with room.running() as sources:
        await registered(sources, publisher)
        envelope = publisher.release("shop", "1.0", zip_bytes, release_key)
        elsewhere = sign_keybind(publisher.key, release_key, "https://elsewhere.example").raw

        with pytest.raises(Refusal, match=r"elsewhere\.example"):
            await sources.accept_release(envelope, elsewhere, None)

        assert room.release(publisher.source_id, "shop", "1.0") is None


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest",
        "http://publisher.test@evil.test/x.zip",
        "http://publisher.test\\@evil.test/x.zip",
        "//evil.test/x.zip",
        "file:///etc/passwd",
        "http://publisher.test:1/x.zip",
        "http://[::1",
        "",
    ],
)
async def test_a_statement_makes_this_node_dial_nobody_but_its_publisher(
    address: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    zip_bytes = plugin_zip("shop", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        dialled = len(room.network.requests)

        with pytest.raises(Refusal):
            await sources.accept_release(publisher.release("shop", "1.0", zip_bytes, publisher.key), None, address)
        assert len(room.network.requests) == dialled


async def test_signed_texts_of_anonymous_demand_fill_only_the_cache(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("shop", "1.0", signed=False)
    publisher.sign_plugin_data("shop", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)

        assert await sources.fetch_release(publisher.source_id, "shop", "1.0", cache=True)

        assert (room.artifacts.usage()["kept"], room.artifacts.usage()["cached"]) == (0, 2)


async def test_mirrors_that_hang_do_not_keep_a_sync_from_the_publisher(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("shop", "1.0")
    asked: list[bytes] = []

    async def hang(sha256: bytes, size: int, source_id: str, *, cache: bool) -> bool:
        asked.append(sha256)
        await trio.sleep_forever()
        raise AssertionError

    room.fetch_artifact = hang
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(publisher.source_id, "somebody", Filters())
        sha256 = room.versions()[-1].sha256
        room.artifacts.delete(sha256)
        began = trio.current_time()

        result = await sources.subscribe(publisher.source_id, "somebody", Filters())

        assert (asked, result.mirrored_count) == ([sha256], 1)
        assert trio.current_time() - began < MESH_SECONDS_MIN + 5
