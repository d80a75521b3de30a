"""What publishers say about keys and releases, as the room of sources meets it: at verifications, syncs, on its own."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from pfn_node.sources.outcomes import PublisherFailed
from pfn_node.sources.publisher_answers import parse_author_data, parse_federation_info, parse_signed
from pfn_node.store.decisions import take_down
from pfn_node.store.peers import set_peer_policy
from pfn_node.store.rows import Filters
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import AdvisoryStatement, RevokeStatement, YankStatement
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey, public_key_pem
from pfn_protocol.limits import cooldown_seconds, notices_at_once_max
from pfn_protocol.publisher_notices import Revocation, Rotation, Yank, sign_revocation, sign_rotation, sign_yank
from tests.node.sources_room import JSON, START, Publisher, arranged, settled

ID = "ann@publisher.test"
NEW_KEY = PrivateKey(b"\x55" * 32)


def rotation(publisher: Publisher, new: PrivateKey = NEW_KEY, epoch: int = 1) -> bytes:
    old = publisher.key
    said = Rotation(
        *(publisher.url, "ann", "identity", old.public, new.public, epoch, "", int(START), b""), voucher=old.public
    )
    return sign_rotation(new, old, said).raw


def yank(publisher: Publisher, version: str = "1.1", slug: str = "alpha") -> bytes:
    said = Yank(publisher.url, "ann", slug, version, "it eats posts", int(START) * 1_000, False)
    return sign_yank(publisher.key, said).raw


def revocation(publisher: Publisher) -> bytes:
    said = Revocation(publisher.url, "ann", publisher.key.public, "stolen", int(START) * 2)
    return sign_revocation(publisher.key, said).raw


def texts(*envelopes: bytes) -> list[str]:
    return [base64.b64encode(envelope).decode() for envelope in envelopes]


def says(publisher: Publisher, **members: list[str]) -> None:
    """The publisher's answers carry these members beside what they say otherwise."""
    info = {"version": "2", "assetInfo": publisher.asset_info, **members}
    data = {"username": "ann", "plugins": publisher.entries, **members}
    publisher.answers["/federation-info"] = (json.dumps(info), 200, JSON)
    publisher.answers["/author-data"] = (json.dumps(data), 200, JSON)


async def test_a_verification_finds_the_new_key_before_it_asks_for_a_proof(tmp_path: Path) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        assert (await sources.verify(ID)).success
        says(publisher, rotations_v2=texts(rotation(publisher)))
        publisher.key = NEW_KEY

        outcome = await sources.verify(ID)

        assert outcome.success
        assert room.source(ID).public_key == public_key_pem(NEW_KEY.public)
        told = [one for one in room.announced if isinstance(one, RevokeStatement)]
        assert [(one.change, one.key) for one in told] == [("rotate", NEW_KEY.public)]
        assert room.attestations()[-1].public_key == NEW_KEY.public
        await sources.verify(ID)
        assert [one for one in room.announced if isinstance(one, RevokeStatement)] == told


async def test_a_publisher_that_simply_has_another_key_does_not_get_away_with_it(tmp_path: Path) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        await sources.verify(ID)
        publisher.key = NEW_KEY
        says(publisher, rotations_v2=texts(rotation(publisher, PrivateKey(b"\x56" * 32))))

        assert not (await sources.verify(ID)).success


async def test_a_sync_reads_yanks_before_it_mirrors(tmp_path: Path) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0", v2=publisher.key)
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        await sources.subscribe(ID, "k1", Filters())
        publisher.publish("alpha", "1.1", v2=publisher.key)
        says(publisher, yanks_v2=texts(yank(publisher)))

        await sources.subscribe(ID, "k1", Filters())

        release = room.release(ID, "alpha", "1.1")
        assert release is not None and release.yanked == "it eats posts" and release.mirrored
        assert room.read(lambda db: db.execute("SELECT version FROM plugins").fetchone()[0]) == "1.0"
        assert [one.version for one in room.announced if isinstance(one, YankStatement)] == ["1.1"]


async def test_what_three_pins_tell_is_not_told_again(tmp_path: Path) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        await sources.verify(ID)
        said = yank(publisher)
        await room.database.write(lambda db: db.execute("UPDATE sources SET oracle = NULL"))
        for number in range(3):
            friend = PrivateKey(bytes([100 + number]) * 32)
            await room.database.write(lambda db, friend=friend: set_peer_policy(db, friend.public, pinned=True))  # type: ignore[misc]
            await room.keep(announce(friend, "main", YankStatement(ID, "alpha", "1.1", said), 0, int(START) * 1_000))
        await room.database.write(lambda db: db.execute("UPDATE sources SET oracle = 'none'"))

        (outcome,) = await sources.accept_notices([said], [])

        assert outcome.outcome == "new"
        assert not [one for one in room.announced if isinstance(one, YankStatement)]


async def test_a_keybind_that_a_rotation_makes_valid_counts_with_it(tmp_path: Path) -> None:
    room, publisher = arranged(tmp_path)
    pen = PrivateKey(b"\x57" * 32)
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        await sources.verify(ID)
        rotated = rotation(publisher)
        publisher.key = NEW_KEY
        said = sign_yank(pen, Yank(publisher.url, "ann", "alpha", "1.1", "", int(START) * 1_000, False)).raw

        outcomes = await sources.accept_notices([rotated, said, b"nothing"], [publisher.keybind(pen)])

        assert [one.outcome for one in outcomes] == ["new", "new", "refused"]
        told = next(one for one in room.announced if isinstance(one, YankStatement))
        assert told.keybind == publisher.keybind(pen)
        assert await sources.accept_notices([], []) == []


async def test_nothing_of_a_revoked_source_is_mirrored(tmp_path: Path) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        await sources.verify(ID)
        says(publisher, revocations_v2=texts(revocation(publisher)))

        with pytest.raises(PublisherFailed, match="revoked"):
            await sources.subscribe(ID, "k1", Filters())

        assert (room.source(ID).status, room.source(ID).trust_score) == ("revoked", 0)
        assert any("was revoked" in one.message for one in room.activities("security"))


async def test_two_successors_put_the_source_into_conflict_until_the_admin_chooses(tmp_path: Path) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        await sources.verify(ID)
        both = [rotation(publisher), rotation(publisher, PrivateKey(b"\x56" * 32))]

        await sources.accept_notices(both, [])
        assert room.source(ID).status == "conflict"

        publisher.key = NEW_KEY
        await sources.update(ID, public_key=public_key_pem(NEW_KEY.public))
        assert (await sources.verify(ID)).success
        assert room.source(ID).status == "verified"


async def test_what_was_taken_down_is_neither_mirrored_nor_handed_in(tmp_path: Path) -> None:
    room, publisher = arranged(tmp_path)
    entry = publisher.publish("alpha", "1.0", v2=publisher.key)
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        await sources.verify(ID)
        await room.database.write(lambda db: take_down(db, (ID, "alpha", "1.0"), "", "key", int(START)))

        result = await sources.subscribe(ID, "k1", Filters())

        assert [slug for slug, _ in result.skipped] == ["alpha"]
        assert "taken down" in result.skipped[0][1]
        with pytest.raises(Refusal, match="R147"):
            await sources.accept_release(base64.b64decode(entry["release_v2"]), None, None)


async def test_the_time_of_cooling_down_ends_by_itself(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, sync_seconds=1e9, health_check_seconds=1e9, verification_seconds=1e9)
    publisher.publish("alpha", "1.0", v2=publisher.key)
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        await sources.subscribe(ID, "k1", Filters())
        await trio.sleep(10)
        await sources.accept_notices([rotation(publisher)], [])
        publisher.key = NEW_KEY
        publisher.publish("alpha", "1.1", v2=NEW_KEY)
        await sources.subscribe(ID, "k1", Filters())

        def newest() -> str:
            return str(room.read(lambda db: db.execute("SELECT version FROM plugins").fetchone()[0]))

        assert newest() == "1.0"
        room.offset += cooldown_seconds
        await trio.sleep(600)
        await settled(lambda: newest() == "1.1")


async def test_an_admins_word_that_no_node_would_accept_is_refused_before_it_is_said(tmp_path: Path) -> None:
    room, _ = arranged(tmp_path)
    async with room.running() as sources:
        with pytest.raises(Refusal, match="R138"):
            await sources.say(AdvisoryStatement(ID, "alpha", "A-1"))
        assert room.announced == []


def test_notices_in_answers_are_read_in_the_order_in_which_they_build_on_each_other() -> None:
    members: dict[str, Any] = {
        "advisories_v2": texts(b"d"),
        "yanks_v2": texts(b"c"),
        "revocations_v2": [*texts(b"b"), 7, "no base64!", ""],
        "rotations_v2": texts(b"a"),
        "keybind_v2": texts(b"k")[0],
    }

    signed = parse_signed(members)

    assert (signed.notices, signed.keybinds) == ((b"a", b"b", b"c", b"d"), (b"k",))
    body = json.dumps({**members, "plugins": []}).encode()
    assert parse_federation_info(body).signed == parse_author_data(body, plugins_max=5).signed == signed


@pytest.mark.parametrize("odd", [None, 1, "AAAA", {"a": 1}, [[]]])
def test_what_is_no_list_of_texts_holds_no_notices(odd: object) -> None:
    assert parse_signed({"yanks_v2": odd, "keybind_v2": odd if odd != "AAAA" else None}).notices == ()


def test_an_answer_brings_no_more_notices_than_are_looked_at() -> None:
    many = {"rotations_v2": texts(*[b"x"] * 200), "yanks_v2": texts(*[b"y"] * 200)}

    assert len(parse_signed(many).notices) == notices_at_once_max


@pytest.mark.parametrize("handed_in", [False, True])
async def test_a_release_key_that_only_one_plugin_names_can_be_revoked(
    tmp_path: Path, autojump_clock: MockClock, handed_in: bool
) -> None:
    room, publisher = arranged(tmp_path)
    pen = PrivateKey(b"\x66" * 32)
    entry = publisher.publish("alpha", "1.0", v2=pen)
    async with room.running() as sources:
        await sources.add(publisher.url, "ann", publisher.pem)
        assert (await sources.verify(ID)).success
        if handed_in:
            release, keybind = base64.b64decode(entry["release_v2"]), base64.b64decode(entry["keybind_v2"])
            await sources.accept_release(release, keybind, None)
        else:
            await sources.subscribe(ID, "k1", Filters())
            await settled(lambda: len(room.versions()) == 1)

        lost = Revocation(publisher.url, "ann", pen.public, "stolen", int(START))
        (outcome,) = await sources.accept_notices([sign_revocation(publisher.key, lost).raw], [])

        assert outcome.outcome == "new"
        later = publisher.publish("beta", "1.0", v2=pen)
        await trio.sleep(2)
        taken = await sources.accept_release(
            base64.b64decode(later["release_v2"]), base64.b64decode(later["keybind_v2"]), None
        )
        assert taken.revoked_key and not taken.backed
