"""A trusted node turns: it puts the digest of malware beside a genuine metadata signature."""

import base64
import hashlib
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.store.rows import Filters
from pfn_protocol.announcements import Evidence, EvidenceForm, VersionStatement
from tests.network.rooms_mesh import Rooms
from tests.node.sources_room import Room, plugin_zip, registered

ID = "ann@publisher.test"
HOUR = 3600
MALWARE = plugin_zip("alpha", "2.0", extra=b"and mines coins")


def served(room: Room) -> bytes | None:
    """The digest under which this node serves version 2.0 now."""
    release = room.release(ID, "alpha", "2.0")
    return release.sha256 if release is not None and release.backed and release.mirrored else None


def lie(rooms: Rooms) -> VersionStatement:
    """Genuine name, version, description and signature; the digest is another file's."""
    entry = rooms.publisher.publish("alpha", "2.0")
    return VersionStatement(
        source_id=ID,
        plugin_id="alpha",
        version="2.0",
        type="plugin",
        name=entry["name"],
        description=entry["short_description"],
        tags=(),
        sha256=hashlib.sha256(MALWARE).digest(),
        size=len(MALWARE),
        observed_at=int(rooms.rooms[0].clock()),
        evidence=(Evidence(EvidenceForm.METADATA, base64.b64decode(entry["signature"])),),
    )


async def subscribed(rooms: Rooms) -> None:
    """Everybody mirrors the publisher's first version."""
    rooms.publisher.publish("alpha", "1.0")
    for sources in rooms.sources:
        await registered(sources, rooms.publisher)
        await sources.subscribe(ID, "k1", Filters())


@pytest.mark.parametrize("count", [5, 12, pytest.param(50, marks=pytest.mark.long)])
async def test_one_honest_look_makes_everybody_look_within_the_hour(
    count: int, tmp_path: Path, autojump_clock: MockClock
) -> None:
    rooms = Rooms(tmp_path, count, health_check_seconds=1e9)
    malware = hashlib.sha256(MALWARE).digest()
    async with rooms.running():
        await subscribed(rooms)
        await rooms.lie(rooms.rooms[0], lie(rooms), MALWARE)
        for sources in rooms.sources:
            await sources.subscribe(ID, "k1", Filters())
        assert all(served(room) == malware for room in rooms.rooms), "or nothing is shown by this"
        genuine = hashlib.sha256(rooms.publisher.zips["alpha"]).digest()
        downloads = rooms.network.asked("/plugins/ann/alpha/alpha.zip")
        began = trio.current_time()
        replaced: dict[int, float] = {}
        while len(replaced) < count and trio.current_time() - began < 26 * HOUR:
            await trio.sleep(60)
            for number, room in enumerate(rooms.rooms):
                if served(room) == genuine:
                    replaced.setdefault(number, trio.current_time() - began)

        assert len(replaced) == count
        assert max(replaced.values()) <= 25 * HOUR
        assert max(replaced.values()) - min(replaced.values()) <= HOUR
        assert all(served(room) == genuine for room in rooms.rooms)
        assert rooms.network.asked("/plugins/ann/alpha/alpha.zip") - downloads <= count
        for room in rooms.rooms:
            release = room.release(ID, "alpha", "2.0")
            assert release is not None and release.backed_by == "self" and not release.conflict
            alerts = [one.message for one in room.activities("security") if "they are replaced" in one.message]
            assert len(alerts) == 1


async def test_where_a_better_rank_exists_the_lie_is_never_served(tmp_path: Path, autojump_clock: MockClock) -> None:
    rooms = Rooms(tmp_path, 2, health_check_seconds=1e9)
    malware = hashlib.sha256(MALWARE).digest()
    async with rooms.running():
        await subscribed(rooms)
        statement = lie(rooms)
        await rooms.sources[0].subscribe(ID, "k1", Filters())
        await rooms.lie(rooms.rooms[0], statement, MALWARE)
        seen_there = served(rooms.rooms[0])
        for _ in range(3 * HOUR // 60):
            await trio.sleep(60)
            assert served(rooms.rooms[0]) == seen_there != malware
        assert served(rooms.rooms[1]) == seen_there
