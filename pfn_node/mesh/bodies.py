"""The raw bytes of announcements, by id: the machine names ids, and here they become bodies of messages.

What was just kept is nearly always told next, so a bounded cache of the most recently used bodies stands before the
database. What is in neither has been dropped meanwhile, and is left out of the message. A message never grows over its
limit: of a push that has too many bodies the rest is offered by id, a page of a snapshot ends earlier.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from pfn_node.store import announcements
from pfn_node.store.database import Database
from pfn_protocol.limits import bodies_bytes_max, gossip_bytes_max, gossip_ids_max
from pfn_protocol.messages import (
    Answer,
    FetchAnswer,
    GossipAnswer,
    GossipRequest,
    Request,
    SnapshotAnswer,
)

# About 30,000 announcements of the usual half kilobyte: a minute of a very busy mesh.
CACHE_BYTES_MAX = 16 * 2**20


class Bodies:
    """Ids in, raw announcements out; a bounded cache before the database."""

    def __init__(self, database: Database, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._database = database
        self._bytes_max = bytes_max
        self._bytes = 0
        self._cached: OrderedDict[bytes, bytes] = OrderedDict()

    def remember(self, announcement_id: bytes, raw: bytes) -> None:
        """Keep at hand what is likely to be told next."""
        self._bytes += len(raw) - len(self._cached.pop(announcement_id, b""))
        self._cached[announcement_id] = raw
        while self._bytes > self._bytes_max:
            self._bytes -= len(self._cached.popitem(last=False)[1])

    def forget(self, ids: Sequence[bytes]) -> None:
        """These were dropped: they are not to be told any more."""
        for announcement_id in ids:
            self._bytes -= len(self._cached.pop(announcement_id, b""))

    async def find(self, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """The bodies that are still here, in the order of `ids`."""
        found: dict[bytes, bytes] = {}
        missing = []
        for announcement_id in ids:
            if announcement_id in self._cached:
                self._cached.move_to_end(announcement_id)
                found[announcement_id] = self._cached[announcement_id]
            else:
                missing.append(announcement_id)
        if missing:
            found.update(await self._database.read(lambda db: announcements.bodies(db, missing)))
        return {announcement_id: found[announcement_id] for announcement_id in ids if announcement_id in found}

    async def into_request(self, message: Request, ids: Sequence[bytes]) -> Request:
        """The request with the bodies of `ids`; what does not fit is offered by id."""
        if not ids:
            return message
        assert isinstance(message, GossipRequest), "only gossip pushes bodies in a request"
        fitting, left = _fitting(await self.find(ids), gossip_bytes_max)
        offered = tuple(dict.fromkeys((*message.have, *left)))[:gossip_ids_max]
        return replace(message, push=tuple(fitting.values()), have=offered)

    async def into_answer(self, message: Answer, ids: Sequence[bytes]) -> Answer:
        """The answer with the bodies of `ids`, as many as fit; what is left out is found by the next question."""
        if not ids:
            return message
        found = await self.find(ids)
        if isinstance(message, GossipAnswer):
            fitting, _ = _fitting(found, gossip_bytes_max)
            return replace(message, push=tuple(fitting.values()))
        fitting, left = _fitting(found, bodies_bytes_max)
        if isinstance(message, SnapshotAnswer):
            after = next(reversed(fitting)) if left else message.after
            return replace(message, announcements=tuple(fitting.values()), after=after)
        assert isinstance(message, FetchAnswer), "no other answer carries bodies"
        return replace(message, announcements=tuple(fitting.values()))


def _fitting(bodies: dict[bytes, bytes], bytes_max: int) -> tuple[dict[bytes, bytes], list[bytes]]:
    """As many of the bodies, from the first on, as fit; and the ids of those that do not."""
    fitting: dict[bytes, bytes] = {}
    room = bytes_max
    ids = list(bodies)
    for position, announcement_id in enumerate(ids):
        room -= len(bodies[announcement_id])
        if room < 0:
            return fitting, ids[position:]
        fitting[announcement_id] = bodies[announcement_id]
    return fitting, []
