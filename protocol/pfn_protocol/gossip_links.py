"""One neighbour as gossip sees it: what it is to be told, what is under way, and when to look at it again."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import islice

from pfn_protocol.limits import (
    gossip_push_max,
    offered_ids_max,
    outbox_ids_max,
    push_bytes_max,
    push_patience_ms_max,
    push_patience_ms_min,
    push_patience_round_trips,
)
from pfn_protocol.registry import Registry


@dataclass(slots=True)
class GossipLink:
    """A link's place in the tree, its bounded queues, and its one message under way."""

    peer: bytes
    url: str  # "" = it cannot be asked, and keeps a request hanging here
    left_out: tuple[bytes, ...]
    compare_only: bool
    eager: bool  # bodies go there; otherwise ids
    graft: bool  # it is yet to be told that it shall push to us
    status_due_ms: int
    poll_due_ms: int
    bodies: dict[bytes, None] = field(default_factory=dict)
    offers: dict[bytes, None] = field(default_factory=dict)
    ids: dict[bytes, None] = field(default_factory=dict)
    ids_due: bool = False  # they have waited long enough
    quiet_until_ms: int = 0  # after failures: do not knock faster than this
    failures: int = 0  # in a row
    round_trip_ms: int | None = None
    prunes: bool = False  # the message that is being taken in brought only what came before
    pushing: int | None = None  # the request under way
    pulling: int | None = None  # the fetch under way
    polling: int | None = None  # the hanging request under way
    waiting_token: int | None = None  # the neighbour's hanging request
    waiting_until_ms: int = 0
    alarm_ms: int | None = None  # when it is looked at again

    def holds(self, announcement_id: bytes) -> None:
        """It has this one: nothing of it goes there (R101)."""
        if self.bodies:
            self.bodies.pop(announcement_id, None)
        if self.offers:
            self.offers.pop(announcement_id, None)
        if self.ids:
            self.ids.pop(announcement_id, None)

    def put_body(self, announcement_id: bytes) -> None:
        """Reconciliation has what does not fit, here as in the other queues."""
        if len(self.bodies) < outbox_ids_max:
            self.bodies[announcement_id] = None

    def put_offer(self, announcement_id: bytes) -> None:
        if len(self.offers) < outbox_ids_max:
            self.offers[announcement_id] = None

    def put_id(self, announcement_id: bytes) -> None:
        if len(self.ids) < outbox_ids_max:
            self.ids[announcement_id] = None

    def make_lazy(self) -> None:
        """The other side gets bodies from elsewhere: what waits goes as ids."""
        self.eager = False
        for announcement_id in self.bodies:
            self.put_id(announcement_id)
        self.bodies.clear()

    def patience_ms(self, *, first: bool = False) -> int:
        """How long an answer over this link is waited for: some round trips, twice as many after each failure.

        `first`: as long as without failures, since another neighbour is asked after this one.
        """
        first_ms = max(push_patience_ms_min, push_patience_round_trips * (self.round_trip_ms or 0))
        return min(push_patience_ms_max, first_ms if first else first_ms << min(self.failures, 4))

    def has_news(self) -> bool:
        """Whether something is to go as soon as it can; everything else goes with it."""
        return bool(self.bodies or self.offers or self.graft or (self.ids_due and self.ids))

    def next_ms(self, *, polls: bool) -> int | None:
        """When there is something to do here next, if nothing happens before."""
        if not self.url:
            return self.waiting_until_ms if self.waiting_token is not None else None
        moment: int | None = None
        if self.pushing is None:
            moment = self.quiet_until_ms if self.has_news() else max(self.status_due_ms, self.quiet_until_ms)
        if polls and self.polling is None:
            moment = self.poll_due_ms if moment is None else min(moment, self.poll_due_ms)
        return moment


class Alarms:
    """When which link is to be looked at. A link has one alarm that counts; earlier ones may ring in vain."""

    def __init__(self) -> None:
        self.agenda: list[tuple[int, bytes]] = []  # a heap; the first of it rings next, perhaps in vain

    def set(self, link: GossipLink, at_ms: int) -> None:
        """Look at the link then, or before."""
        if link.alarm_ms is None or at_ms < link.alarm_ms:
            link.alarm_ms = at_ms
            heappush(self.agenda, (at_ms, link.peer))

    def ring(self, links: dict[bytes, GossipLink], now_ms: int, due: dict[bytes, None]) -> None:
        """Add the neighbours whose alarm has come to `due`."""
        agenda = self.agenda
        while agenda and agenda[0][0] <= now_ms:
            at_ms, peer = heappop(agenda)
            link = links.get(peer)
            if link is not None and link.alarm_ms == at_ms:
                link.alarm_ms = None
                due[peer] = None


def next_bodies(link: GossipLink, registry: Registry) -> tuple[bytes, ...]:
    """Take as many as fit into one message; what left the set meanwhile is skipped."""
    chosen: list[bytes] = []
    room = push_bytes_max
    for announcement_id in list(link.bodies):
        entry = registry.find(announcement_id)
        if entry is not None:
            room -= entry.size
            if room < 0 or len(chosen) >= gossip_push_max:
                break
            chosen.append(announcement_id)
        del link.bodies[announcement_id]
    return tuple(chosen)


def next_offers(link: GossipLink, registry: Registry) -> tuple[bytes, ...]:
    """Take the ids that are to be answered at once, as many as one message has."""
    taken = list(islice(link.offers, offered_ids_max))
    for announcement_id in taken:
        del link.offers[announcement_id]
    return _those_to_tell(link, registry, taken)


def next_ids(link: GossipLink, registry: Registry) -> tuple[bytes, ...]:
    """Take the ids that wait, as many as one message has."""
    taken = list(islice(link.ids, offered_ids_max))
    for announcement_id in taken:
        del link.ids[announcement_id]
    link.ids_due = link.ids_due and bool(link.ids)
    return _those_to_tell(link, registry, taken)


def may_be_told(link: GossipLink, registry: Registry, announcement_id: bytes) -> bool:
    """Whether it is still in the set, and of an author whom neither side leaves out."""
    return bool(_those_to_tell(link, registry, (announcement_id,)))


def _those_to_tell(link: GossipLink, registry: Registry, ids: Iterable[bytes]) -> tuple[bytes, ...]:
    find, left_out = registry.find, link.left_out
    return tuple([one for one in ids if (entry := find(one)) is not None and entry.author not in left_out])
