"""Rooms of sources that hear each other at once: what a mesh brings them, without the mesh, so that days pass quickly.

Each is a whole node as far as publishers go: its own store, artifacts, schedule and rules. They pin each other.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.sources.operations import Sources
from pfn_node.store import announcements
from pfn_node.store.peers import set_peer_policy
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import AcceptedAnnouncement, VersionStatement
from pfn_protocol.identity import PrivateKey
from tests.node.fake_outbound import FakeNetwork
from tests.node.sources_room import Publisher, Room


class Turned:
    """A node that everybody pinned, and that now says what it likes."""

    def __init__(self, folder: Path) -> None:
        self.key = PrivateKey(bytes([99]) * 32)
        self.artifacts = Artifacts(folder / "turned", 2**20)
        self.artifacts.start()


class Rooms:
    """`count` honest rooms and one that turned, all at one publisher."""

    def __init__(self, folder: Path, count: int, **settings: Any) -> None:
        self.publisher = Publisher()
        self.publisher.etags = True
        self.network = FakeNetwork()
        self.network.hosts["publisher.test"] = self.publisher.answer
        self.turned = Turned(folder)
        self.rooms = [self._room(folder / f"room{number}", number, settings) for number in range(count)]
        self.sources: list[Sources] = []

    def _room(self, folder: Path, number: int, settings: dict[str, Any]) -> Room:
        folder.mkdir()
        room = Room(folder, self.network, **settings)
        room.key = PrivateKey(bytes([100 + number]) * 32)
        room.seed = 1_000 + number
        room.tell = partial(self._tell, room)
        room.fetch_artifact = partial(self._fetch_artifact, room)
        return room

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for room in self.rooms:
                self.sources.append(await stack.enter_async_context(room.running()))
                for key in (self.turned.key, *(other.key for other in self.rooms if other is not room)):
                    await room.database.write(partial(set_peer_policy, node_id=key.public, pinned=True))
            yield

    async def lie(self, room: Room, statement: VersionStatement, data: bytes) -> None:
        """The turned node announces a statement, and has the bytes for it. `room` is whose clock is looked at."""
        self.turned.artifacts.put_bytes(data)
        await self._hear(announce(self.turned.key, "main", statement, 0, int(room.clock() * 1000)), self.rooms)

    async def _tell(self, teller: Room, announcement: AcceptedAnnouncement) -> None:
        await self._hear(announcement, [room for room in self.rooms if room is not teller])

    async def _hear(self, announcement: AcceptedAnnouncement, rooms: list[Room]) -> None:
        for room in rooms:
            await room.database.write(
                partial(announcements.keep, announcement=announcement, admitted=True, at=int(room.clock()))
            )

    async def _fetch_artifact(self, room: Room, sha256: bytes, size: int, source_id: str, *, cache: bool) -> bool:
        others = (other.artifacts for other in self.rooms if other is not room)
        holder = next((one for one in (*others, self.turned.artifacts) if one.has(sha256)), None)
        if holder is not None:
            room.artifacts.put_bytes(holder.read_text(sha256, 2**20))
        return holder is not None
