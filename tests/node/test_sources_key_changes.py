"""What a change of a source's key means for what was found out about the key before."""

import base64
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from pfn_node.sources.operations import Sources
from pfn_node.store.rows import Filters
from pfn_protocol.identity import PrivateKey, public_key_pem
from pfn_protocol.publisher_notices import Rotation, sign_rotation
from tests.node.sources_room import JSON, Publisher, Room, arranged, registered

ID = "ann@publisher.test"
ALL = Filters()
PEN = PrivateKey(b"\x33" * 32)
NEW = PrivateKey(b"\x44" * 32)


def rotation(publisher: Publisher, new: PrivateKey, effective_s: int) -> bytes:
    said = Rotation(
        *(publisher.url, "ann", "identity", publisher.key.public, new.public, 1, "new machine", effective_s),
        b"",
        publisher.key.public,
    )
    return sign_rotation(new, publisher.key, said).raw


async def rotated(room: Room, sources: Sources, publisher: Publisher) -> None:
    """The publisher's key is followed by the new one: its word comes over the mesh, and it signs with that one now."""
    told = rotation(publisher, NEW, int(room.clock()))
    (outcome,) = await sources.accept_notices([told], [])
    assert outcome.outcome == "new"
    publisher.key = NEW


async def test_a_new_key_is_probed_before_a_release_by_it_counts(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0", v2=PEN)
    async with room.running(loops=False) as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)
        room.offset += 1_000
        await rotated(room, sources, publisher)
        publisher.oracle = "raw"  # the new server signs anything for anybody

        assert (room.source(ID).oracle, room.source(ID).oracle_in_force) == (None, None)
        before = room.release(ID, "alpha", "1.0")
        assert before is not None and (before.assurance, before.backed) == ("A3", True)

        publisher.publish("alpha", "1.1", v2=PEN)
        await sources.subscribe(ID, "k1", ALL)

        assert room.source(ID).oracle == "raw"
        after = room.release(ID, "alpha", "1.1")
        assert after is None or after.assurance not in ("A3", "A4")


async def test_a_publisher_that_rotates_its_key_is_probed_in_the_sync_that_brings_the_rotation(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0", v2=PEN)
    async with room.running(loops=False) as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)
        room.offset += 1_000
        told = rotation(publisher, NEW, int(room.clock()))
        publisher.key = NEW
        publisher.publish("alpha", "1.1", v2=PEN)
        listed = publisher.answer

        def with_rotation(request: Any) -> Any:
            answer = listed(request)
            if request.path != "/author-data":
                return answer
            body = answer[0] if isinstance(answer[0], str) else answer[0].decode()
            notices = f'"rotations_v2": ["{base64.b64encode(told).decode()}"], '
            return "{" + notices + body.removeprefix("{"), 200, JSON

        room.network.hosts["publisher.test"] = with_rotation
        result = await sources.subscribe(ID, "k1", ALL)

        assert result.mirrored_count == 1
        assert (room.source(ID).oracle, room.source(ID).public_key) == ("none", public_key_pem(NEW.public))
        release = room.release(ID, "alpha", "1.1")
        assert release is not None and (release.assurance, release.backed) == ("A3", True)


async def test_a_new_key_that_came_over_the_mesh_is_probed_soon_without_anybody_asking(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        await rotated(room, sources, publisher)
        publisher.oracle = "utf8"

        await trio.sleep(600)

        assert room.source(ID).oracle == "utf8"


@pytest.mark.parametrize("oracle", ["none", "raw"])
async def test_while_a_new_key_cannot_be_probed_what_was_seen_before_counts_on(
    tmp_path: Path, autojump_clock: MockClock, oracle: str
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.oracle = oracle
    publisher.publish("alpha", "1.0", v2=PEN)
    async with room.running(loops=False) as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)
        room.offset += 1_000
        before = room.release(ID, "alpha", "1.0")
        told = rotation(publisher, NEW, int(room.clock()))
        publisher.down = True
        outcomes = await sources.accept_notices([told], [])
        await sources.verify(ID)

        assert [one.outcome for one in outcomes] == ["new" if oracle == "none" else "refused"]
        after = room.release(ID, "alpha", "1.0")
        assert before is not None and after is not None
        assert (after.assurance, after.backed) == (before.assurance, before.backed)
