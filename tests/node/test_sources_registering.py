"""Registering, changing and removing sources."""

import errno
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import sqlite_utils
from trio.testing import MockClock

from pfn_node.sources.outcomes import NotVerified, PublisherFailed, SourceConflict, UnknownSource
from pfn_node.store import doomed, peers
from pfn_node.store.announcements import keep
from pfn_node.store.holdings import held_digests
from pfn_node.store.rows import Filters
from pfn_node.store.sources import verifications
from pfn_protocol.acceptance import announce
from pfn_protocol.errors import Refusal
from tests.node.fake_outbound import FakeNetwork
from tests.node.sources_room import Publisher, Room, arranged, registered, settled
from tests.node.store_world import MESH, NOW, key, version_statement
from tests.node.test_sources_verification import heard_of

ID = "ann@publisher.test"


async def test_a_new_source_is_pending_and_is_verified_in_the_background(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        source, created = await sources.add("HTTP://Publisher.test:80/", "ann", publisher.pem)

        assert (source.id, source.instance_url, source.status, created) == (
            ID,
            "http://publisher.test",
            "pending",
            True,
        )
        await settled(lambda: room.source(ID).status == "verified")
        assert [one.verification_type for one in room.read(lambda db: verifications(db, ID))] == ["initial"]


async def test_a_key_may_be_given_as_raw_base64(tmp_path: Path, autojump_clock: MockClock) -> None:
    import base64

    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        source, _ = await sources.add(publisher.url, "ann", base64.b64encode(publisher.key.public).decode())

        assert source.public_key == publisher.pem


@pytest.mark.parametrize(
    ("url", "username", "key"),
    [
        ("http://publisher.test", "ann", "-----BEGIN PUBLIC KEY-----\nzzzz\n-----END PUBLIC KEY-----"),
        ("http://publisher.test", "ann", "garbage"),
        ("http://publisher.test", "a/b", None),
        ("http://publisher.test", "", None),
        ("not a url", "ann", None),
        ("http://user:pw@publisher.test", "ann", None),
        ("http://publisher.test/?x=1", "ann", None),
    ],
)
async def test_what_can_be_no_source_is_refused(
    tmp_path: Path, autojump_clock: MockClock, url: str, username: str, key: str | None
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        with pytest.raises(Refusal):
            await sources.add(url, username, publisher.pem if key is None else key)

        assert not room.network.requests


async def test_plain_http_needs_the_setting(tmp_path: Path, autojump_clock: MockClock) -> None:
    room = Room(tmp_path, FakeNetwork())
    room.settings = room.settings.model_copy(update={"allow_private_networks": False})
    async with room.running() as sources:
        with pytest.raises(Refusal, match="https"):
            await sources.add("http://publisher.test", "ann", Publisher().pem)


async def test_a_duplicate_is_a_conflict_with_whatever_key(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)

        for key in (publisher.pem, Publisher(seed=9).pem):
            with pytest.raises(SourceConflict, match="registered already; change it with update-source"):
                await sources.add(publisher.url + "/", "ann", key)
        assert room.source(ID).public_key == publisher.pem


@pytest.mark.parametrize("username", ["ann", "bob"])
async def test_two_urls_of_one_host_that_differ_by_their_path_are_a_conflict_that_says_so(
    tmp_path: Path, autojump_clock: MockClock, username: str
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)

        with pytest.raises(SourceConflict, match=r"differs from http://publisher\.test/other only by its path"):
            await sources.add("http://publisher.test/other", username, publisher.pem)


async def test_another_port_is_another_source(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)

        source, created = await sources.add("http://publisher.test:8803", "ann", Publisher(seed=9).pem)

        assert (source.id, created) == ("ann@publisher.test:8803", True)


async def test_a_source_that_was_only_heard_of_is_taken_over(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    rumour = Publisher(seed=9)
    async with room.running() as sources:
        await heard_of(room, rumour)

        source, created = await sources.add(publisher.url + "/base", "ann", publisher.pem)

        assert (created, source.registered, source.status) == (False, True, "pending")
        assert (source.public_key, source.instance_url) == (publisher.pem, "http://publisher.test/base")


async def test_taking_over_keeps_a_proof_of_the_same_key(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await heard_of(room, publisher)
        assert (await sources.verify(ID, "initial")).success

        source, created = await sources.add(publisher.url, "ann", publisher.pem)

        assert (created, source.status, source.registered) == (False, "verified", True)


async def test_updating_reads_where_the_zips_are_now(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        publisher.asset_info = {"domain": "https://cdn.test", "namingScheme": "slug.zip"}

        source = await sources.update(ID)

        assert (source.asset_domain, source.asset_naming_scheme) == ("https://cdn.test", "slug.zip")
        assert source.status == "verified"


async def test_updating_fails_if_the_publisher_is_down_unless_something_was_given(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        publisher.down = True

        with pytest.raises(PublisherFailed):
            await sources.update(ID)
        source = await sources.update(ID, allow_unsigned=True)

        assert source.allow_unsigned and source.asset_domain == publisher.url


async def test_a_new_key_has_to_be_proved_anew(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        room.offset += 30 * 86400

        source = await sources.update(ID, public_key=Publisher(seed=9).pem)

        assert (source.status, source.verified_at, source.oracle, source.trust_score) == ("pending", None, None, 0)
        await settled(lambda: room.source(ID).status == "error")


async def test_a_source_stays_at_its_host(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)

        with pytest.raises(Refusal, match="another source"):
            await sources.update(ID, instance_url="http://elsewhere.test")
        moved = await sources.update(ID, instance_url="http://publisher.test/new")

        assert (moved.instance_url, moved.status) == ("http://publisher.test/new", "pending")


async def test_removing_keeps_what_is_mirrored_unless_it_is_to_be_purged(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", Filters())
        digest = hashlib.sha256(publisher.zips["alpha"]).digest()

        await sources.remove(ID, purge=False)
        assert room.artifacts.has(digest)
        assert room.source(ID).status == "discovered"

        await sources.add(publisher.url, "ann", publisher.pem)
        await sources.remove(ID, purge=True)
        assert not room.artifacts.has(digest)
        with pytest.raises(UnknownSource):
            await sources.remove(ID, purge=True)
        with pytest.raises(UnknownSource):
            await sources.update(ID)


async def test_purging_leaves_bytes_that_another_source_has_too(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    twin = Publisher(seed=2, url="http://twin.test")
    room.network.hosts["twin.test"] = twin.answer
    for one in (publisher, twin):
        one.publish("alpha", "1.0")
    async with room.running() as sources:
        for one in (publisher, twin):
            await registered(sources, one)
            await sources.subscribe(one.source_id, "k1", Filters())

        await sources.remove(twin.source_id, purge=True)

        assert room.artifacts.has(hashlib.sha256(publisher.zips["alpha"]).digest())


async def test_purging_leaves_the_bytes_of_another_source_although_others_still_say_that_they_are_the_purged_ones(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    twin = Publisher(seed=2, url="http://twin.test")
    room.network.hosts["twin.test"] = twin.answer
    for one in (publisher, twin):
        one.publish("alpha", "1.0")
    digest = hashlib.sha256(publisher.zips["alpha"]).digest()
    told = replace(version_statement("1.0", source_id=ID, plugin_id="alpha", observed_at=NOW), sha256=digest)

    def hear(db: sqlite_utils.Database) -> None:
        peers.set_peer_policy(db, key("anna").public, pinned=True)
        keep(db, announce(key("anna"), MESH, told, 0, NOW * 1000), True, NOW)

    async with room.running() as sources:
        for one in (publisher, twin):
            await registered(sources, one)
            await sources.subscribe(one.source_id, "k1", Filters())
        await room.database.write(hear)

        await sources.remove(ID, purge=True)

        assert room.artifacts.has(digest)
        kept = room.database.read_now(lambda db: held_digests(db, twin.source_id))
        assert kept == [digest]


async def test_files_of_a_purge_that_was_cut_off_are_deleted_after_the_next_start(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    digest = hashlib.sha256(publisher.zips["alpha"]).digest()

    def fail(sha256: bytes) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", Filters())
        with monkeypatch.context() as patched:
            patched.setattr(room.artifacts, "delete", fail)
            await sources.remove(ID, purge=True)
        assert room.artifacts.has(digest)

    again, _ = arranged(tmp_path)
    async with again.running():
        await settled(lambda: not again.artifacts.has(digest))
        await settled(lambda: again.database.read_now(doomed.doomed) == [])


async def test_a_revoked_source_is_not_mirrored(tmp_path: Path, autojump_clock: MockClock) -> None:
    from pfn_node.store.sources import update_source

    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        await room.database.write(lambda db: update_source(db, ID, status="revoked"))

        with pytest.raises(NotVerified, match="revoked"):
            await sources.subscribe(ID, "k1", Filters())
        await sources.verify(ID)
        assert (room.source(ID).status, room.source(ID).trust_score) == ("revoked", 0)


async def test_a_source_in_conflict_is_not_mirrored(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    relay = Publisher(url="http://relay.test")
    room.network.hosts["relay.test"] = relay.answer
    async with room.running() as sources:
        await registered(sources, publisher)
        await registered(sources, relay)

        with pytest.raises(NotVerified, match="proved at another host as well"):
            await sources.subscribe(ID, "k1", Filters())


async def test_subscribing_to_what_was_only_heard_of_verifies_it_once_in_ten_minutes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await heard_of(room, publisher)
        bob = Publisher(author="bob")
        await heard_of(room, bob)
        asked = room.network.asked("/federation-info")
        assert asked == 0  # being heard of causes no request

        result = await sources.subscribe(ID, "k1", Filters())

        assert result.success and room.source(ID).status == "verified"
        with pytest.raises(NotVerified, match="only a moment ago"):
            await sources.subscribe("bob@publisher.test", "k1", Filters())
        room.offset += 601
        with pytest.raises(PublisherFailed):  # verified now, but there is no such author
            await sources.subscribe("bob@publisher.test", "k1", Filters())
        assert room.source("bob@publisher.test").status == "verified"
