"""Neighbours that have much to tell: real machines with a real set, that only answer; no database, no sockets.

What a node takes in from them goes its whole way: signed answers, the machine, the database. Their own work runs in the
same process as the node that is measured, and counts against it.
"""

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from urllib.parse import urlsplit

import trio.lowlevel

from pfn_node.mesh.views import NodeInfo
from pfn_node.outbound import Reply
from pfn_node.outbound_errors import Unreachable
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import AcceptedAnnouncement, VersionStatement
from pfn_protocol.effects import BuildPrefix, Effect, KeepAnnouncement, SendAnswer
from pfn_protocol.events import Event, PrefixBuilt, RequestReceived, TimePassed
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import read_back_ms_max
from pfn_protocol.mesh import Mesh, MeshOptions, Restored
from pfn_protocol.message_fields import open_request, seal_answer
from pfn_protocol.messages import FetchAnswer, HaveAnswer, HaveRequest, SnapshotAnswer
from pfn_protocol.sketch import build_cells
from pfn_protocol.slots import entry_of

MESH = "main"
# As real ones: with a publisher's signature and a few words they have half a kilobyte, of which this is most.
DESCRIPTION = "Keeps two calendars in step, whoever changes them and whenever that is, and tells what it did."


def author_key(number: int) -> PrivateKey:
    """The key of one of the authors."""
    return PrivateKey(sha256(f"author {number}".encode()).digest())


def version_announcement(number: int, authors: int, plugins: int, at_ms: int) -> AcceptedAnnouncement:
    """One of many versions, by one of `authors`; every author has plugins of its own source, `plugins` in all."""
    author, plugin = number % authors, number % plugins
    statement = VersionStatement(
        source_id=f"author-{author}@plugins.example",
        plugin_id=f"plugin-{plugin}",
        version=f"1.{number // plugins}.0",
        type="plugin",
        name=f"Plugin {plugin}",
        description=DESCRIPTION,
        tags=("calendar", "sync"),
        sha256=sha256(str(number).encode()).digest(),
        size=4_821_312,
        observed_at=at_ms // 1000,
        evidence=(),
    )
    return announce(author_key(author), MESH, statement, 0, at_ms + number)


class Neighbour:
    """One of them, at `url`; it pins the authors of what it has."""

    def __init__(self, name: str, url: str, told: Sequence[AcceptedAnnouncement], now_ms: int) -> None:
        self.key, self.url = PrivateKey(sha256(name.encode()).digest()), url
        self._bodies = {one.id: one.raw for one in told}
        pins = tuple(sorted({one.author for one in told}))
        restored = Restored(announcements=((entry_of(one), True) for one in told), pins=pins)
        self._mesh = Mesh(self.key, MESH, MeshOptions(url, "bench"), random.Random(name), restored, now_ms)
        self._token = 0
        self.said: AcceptedAnnouncement | None = None  # of itself, and whom it pins
        # It asks nobody what it said before, and says who it is as soon as it may.
        for ahead in (0, read_back_ms_max, read_back_ms_max + 1000):
            self._handle(TimePassed(), now_ms + ahead)

    def answer(self, path: str, raw: bytes) -> bytes:
        """The sealed answer to a sealed request."""
        now_ms = int(time.time() * 1000)
        request = open_request(raw, mesh=MESH, path=path, me=self.key.public, now_ms=now_ms)
        if isinstance(request.message, HaveRequest):
            return seal_answer(self.key, mesh=MESH, nonce=request.nonce, message=HaveAnswer(()))
        self._token += 1
        effects = self._handle(RequestReceived(self._token, request.sender, request.message), now_ms)
        for effect in effects:
            if isinstance(effect, SendAnswer) and effect.token == self._token:
                message = effect.message
                if isinstance(message, SnapshotAnswer | FetchAnswer):
                    found = tuple(self._bodies[one] for one in effect.bodies if one in self._bodies)
                    message = replace(message, announcements=found)
                return seal_answer(self.key, mesh=MESH, nonce=request.nonce, message=message)
        raise Unreachable("It does not answer.")

    def _handle(self, event: Event, now_ms: int) -> list[Effect]:
        """What the machine makes of it, sketches and its own announcements included."""
        effects = self._mesh.handle(event, now_ms)
        for effect in list(effects):
            if isinstance(effect, KeepAnnouncement):
                self._bodies[effect.announcement.id] = effect.announcement.raw
                self.said = effect.announcement
            elif isinstance(effect, BuildPrefix):
                cells = build_cells(effect.ids, effect.without, effect.salt, effect.length)
                effects += self._handle(PrefixBuilt(effect.build_id, cells), now_ms)
        return effects


class WayToNeighbours:
    """A node's way out, that leads to these neighbours alone. `asked` hears the path of every request.

    `spent` is the processor time that the neighbours took to answer, in seconds.
    """

    def __init__(self, neighbours: Sequence[Neighbour], asked: Callable[[str], None]) -> None:
        self._by_url = {neighbour.url: neighbour for neighbour in neighbours}
        self._asked = asked
        self.spent = 0.0

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        bytes_max: int,
        seconds_max: float,
    ) -> Reply:
        await trio.lowlevel.checkpoint()
        parts = urlsplit(url)
        neighbour = self._by_url[f"{parts.scheme}://{parts.netloc}"]
        if method == "GET":
            info = NodeInfo(neighbour.key.public, neighbour.url, MESH, "bench")
            return Reply(200, {}, json.dumps(info.as_json()).encode(), url)
        assert content is not None
        path = parts.path.removeprefix("/node/v1/")
        self._asked(path)
        began = time.thread_time()
        answer = neighbour.answer(path, content)
        self.spent += time.thread_time() - began
        return Reply(200, {}, answer, url)

    async def download(self, *arguments: object, **options: object) -> Reply:
        raise Unreachable("There are no artifacts here.")
