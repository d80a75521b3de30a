"""Telling neighbours what is new: a tree that repairs itself softly.

Every link is eager or lazy, on each side. New announcements are pushed as bodies over eager links at once, and told
by id over lazy ones after a moment. A body that comes a second time says that the tree has a circle there: the answer
says `prune`, and both sides make the link lazy. So the eager links become one tree that all senders share, and a body
reaches a node about once.

A body of which only the id came is pulled, after a while, once, and the tree stays as it is: most often a message was
lost, or is late. What was pulled is passed on as offers of ids, since neighbours may have it already. Only the second
miss in a row, or the loss of the parent (the link that last brought news first), makes the link that had the body a
branch: `graft` says so. A neighbour that told an id long before the tree brought the body takes the parent's place.

An idle link sends at once; what arrives while a message is under way goes together in the next one. All queues are
bounded: what overflows, or is lost twice, is found by reconciliation. What was pushed and got no answer is offered by
id. Every ten seconds the links tell how the sets stand.

A neighbour without a URL cannot be asked. It keeps one request hanging here, which is answered when there is
something to tell, or when its time is over. This node does the same at its neighbours if it has no URL itself.
"""

from collections.abc import Callable, Iterable, Mapping
from random import Random
from statistics import median_low

from pfn_protocol.effects import SendAnswer
from pfn_protocol.gossip_links import Alarms, GossipLink, may_be_told, next_bodies, next_ids, next_offers
from pfn_protocol.limits import (
    dial_again_ms_min,
    link_failures_max,
    node_change_wait_ms,
    offered_ids_max,
    status_interval_ms,
    wait_seconds_max,
)
from pfn_protocol.messages import FetchRequest, GossipAnswer, GossipRequest, SetStatus
from pfn_protocol.outgoing import InFlight, Outgoing
from pfn_protocol.pulls import Pulls
from pfn_protocol.registry import Registry
from pfn_protocol.slots import Entry
from pfn_protocol.tree import Tree

_NEVER_MS = 2**62
_NOTHING = GossipAnswer((), (), None)  # most answers


class Gossip:
    """The links of this node, as branches of the tree."""

    def __init__(
        self,
        registry: Registry,
        outgoing: Outgoing,
        link_status: Callable[[bytes], SetStatus],
        rng: Random,
        *,
        has_url: bool,
        status_every_ms: int | None = status_interval_ms,
    ) -> None:
        self._registry = registry
        self._link_status = link_status
        self._outgoing = outgoing
        self._has_url = has_url
        self._status_every_ms = status_every_ms
        self._links: dict[bytes, GossipLink] = {}
        self._pulls = Pulls(rng)
        self._tree = Tree(registry, self._links, self._pulls, rng)
        self._fetches: dict[int, None] = {}  # the pulls under way
        self._alarms = Alarms()
        self.wake_at: int | None = None  # when `flush` has something to do next, as it found when it was last called

    # Links.

    def open(
        self, peer: bytes, url: str, left_out: Iterable[bytes], now_ms: int, *, asked: bool, compare_only: bool = False
    ) -> None:
        """There is a link; how the sets stand is told at once, by the side that asked first.

        A link beside a tree that stands begins lazy. A node that has no parent wants to be pushed to.
        """
        former = self._links.get(peer)
        self._end(peer)
        orphan = not self._tree.has_parent
        eager = former.eager if former else orphan  # pruned where it closes a circle
        status_due_ms = now_ms if asked else now_ms + node_change_wait_ms
        if self._status_every_ms is None:
            status_due_ms = _NEVER_MS
        link = GossipLink(
            peer, url, tuple(left_out), compare_only, eager, orphan and not compare_only, status_due_ms, now_ms
        )
        if former is not None:
            link.bodies, link.offers, link.ids = former.bodies, former.offers, former.ids
            link.ids_due = bool(link.ids)
        self._links[peer] = link
        self._tree.touched[peer] = None

    def close(self, peer: bytes) -> None:
        """The link is over; a hanging request of the neighbour is answered."""
        self._end(peer)
        self._pulls.closed(peer)

    def _end(self, peer: bytes) -> None:
        link = self._links.pop(peer, None)
        if link is None:
            return
        self._tree.closed(peer)
        if link.waiting_token is not None:
            self._outgoing.add(SendAnswer(link.waiting_token, _NOTHING))

    def part_with(self, peer: bytes, announcement_id: bytes, now_ms: int) -> None:
        """Tell this neighbour one thing before the link to it is closed."""
        link = self._links[peer]
        if link.url:
            self._outgoing.request(peer, link.url, GossipRequest((), (), None, 0), now_ms, (announcement_id,))
        elif link.waiting_token is not None:
            self._outgoing.add(SendAnswer(link.waiting_token, _NOTHING, (announcement_id,)))
            link.waiting_token = None

    def leave_out(self, peer: bytes, left_out: Iterable[bytes]) -> None:
        """The operator's word changed about whom to hear of."""
        self._links[peer].left_out = tuple(left_out)

    def stop(self) -> None:
        """Answer all that hang; whoever stops the machine passes nothing on any more."""
        for link in self._links.values():
            if link.waiting_token is not None:
                self._answer_waiting(link)

    def clock_set_back(self) -> None:
        """Whatever was planned lies too far ahead; all links were closed before."""
        self._tree.clock_set_back()

    def role(self, peer: bytes) -> str:
        """What the link to this neighbour is there for, as operators are shown it; empty: there is none."""
        link = self._links.get(peer)
        if link is None:
            return ""
        return "reconciliation" if link.compare_only else "eager" if link.eager else "lazy"

    # What is new.

    def tell(self, entries: Iterable[Entry], came_from: bytes | None, now_ms: int, *, pulled: bool = False) -> None:
        """These are new: pass them on."""
        self._tree.tell(entries, came_from, now_ms, pulled=pulled)

    def received(self, peer: bytes, delivered: Mapping[bytes, bool]) -> None:
        """This neighbour sent these itself; of each, whether it was new. What is new in the set is told next."""
        self._tree.received(peer, delivered)

    def offer(self, peer: bytes, ids: Iterable[bytes]) -> None:
        """This neighbour is known to lack these."""
        link = self._links[peer]
        for announcement_id in ids:
            link.put_offer(announcement_id)
        self._tree.touched[peer] = None

    def ask_status(self, now_ms: int) -> None:
        """Something changed that makes it worth while to compare the sets; such changes come in flocks."""
        if self._status_every_ms is None:
            return
        for link in self._links.values():
            link.status_due_ms = min(link.status_due_ms, now_ms + node_change_wait_ms)
            self._tree.touched[link.peer] = None

    def tell_status(self, peer: bytes, now_ms: int) -> None:
        """Tell this neighbour, if it is one, how the set stands, with the next message and at once."""
        link = self._links.get(peer)
        if link is not None:
            link.status_due_ms = now_ms
            self._tree.touched[peer] = None

    # Messages.

    def answer(self, peer: bytes, token: int, request: GossipRequest, now_ms: int) -> None:
        """Answer a neighbour's message, now or when there is something to tell; its push was taken in before."""
        link = self._links[peer]
        if request.graft and not link.compare_only:
            self._tree.grafted(link)
        prune = link.prunes and bool(request.push) and bool(link.url)
        link.prunes = False
        if prune:
            self._tree.make_lazy(link, now_ms)
        want = self._wanted(link, request, now_ms) if request.have or request.offer else ()
        if request.wait_seconds == 0 or want:
            status = None
            if request.status is not None:
                mine = self._link_status(peer)
                status = None if mine == request.status else mine
                link.status_due_ms = self._next_status_ms(now_ms)
            says_nothing = not (want or status or prune)
            self._outgoing.add(SendAnswer(token, _NOTHING if says_nothing else GossipAnswer((), want, status, prune)))
            return
        if link.waiting_token is not None:
            self._answer_waiting(link)
        link.waiting_token = token
        link.waiting_until_ms = now_ms + 1_000 * min(request.wait_seconds, wait_seconds_max)
        self._tree.touched[peer] = None

    def answered(self, in_flight: InFlight, message: GossipAnswer, now_ms: int) -> None:
        """A neighbour answered; its push and status are the business of others."""
        link = self._links.get(in_flight.peer)
        if link is None or not self._landed(link, in_flight):
            return
        link.failures = 0
        assert isinstance(in_flight.message, GossipRequest)
        if in_flight.message.wait_seconds:
            link.poll_due_ms = now_ms if message.push else now_ms + dial_again_ms_min
        else:
            self._measure(link, now_ms - in_flight.sent_ms)
        if message.prune:
            self._tree.make_lazy(link, now_ms)
        for announcement_id in message.want:
            if may_be_told(link, self._registry, announcement_id):
                link.put_body(announcement_id)
        if link.has_news() or link.alarm_ms is None or in_flight.message.wait_seconds:
            self._tree.touched[link.peer] = None

    def failed(self, in_flight: InFlight, now_ms: int) -> None:
        """A message came to nothing: its bodies are offered by id, once, and its ids told once more."""
        message = in_flight.message
        if isinstance(message, FetchRequest) and self.is_pull(in_flight):
            self._end_pull(in_flight)
            self._pulls.failed(message.ids, in_flight.peer, now_ms, gone=False)
            return
        link = self._links.get(in_flight.peer)
        if link is None or not self._landed(link, in_flight):
            return
        assert isinstance(message, GossipRequest)
        self._tree.touched[link.peer] = None
        link.failures += 1
        again_ms = now_ms if link.failures == 1 else now_ms + dial_again_ms_min
        link.poll_due_ms = now_ms + dial_again_ms_min
        link.quiet_until_ms = again_ms
        link.graft = link.graft or message.graft
        for announcement_id in in_flight.bodies:
            link.put_offer(announcement_id)
        if link.failures == 1:
            for announcement_id in message.offer:
                link.put_offer(announcement_id)
            for announcement_id in message.have:
                link.put_id(announcement_id)
                link.ids_due = True
        if message.status is not None and link.failures <= link_failures_max:
            link.status_due_ms = again_ms

    def is_pull(self, in_flight: InFlight) -> bool:
        """Whether this fetch was made here (and not by reconciliation)."""
        return in_flight.request_id in self._fetches

    def pulled(
        self, in_flight: InFlight, missing: Iterable[bytes], delivered: Mapping[bytes, bool], now_ms: int
    ) -> None:
        """A neighbour answered a pull; what it sent was taken in before."""
        assert isinstance(in_flight.message, FetchRequest)
        self._end_pull(in_flight)
        gone = tuple(missing)
        self._pulls.failed(gone, in_flight.peer, now_ms, gone=True)
        rest = tuple(one for one in in_flight.message.ids if one not in delivered and one not in gone)
        self._pulls.failed(rest, in_flight.peer, now_ms, gone=False)

    def flush(self, now_ms: int) -> dict[bytes, int]:
        """Send whatever can be sent. Returns how many bodies went to whom."""
        told: dict[bytes, int] = {}
        tree, links = self._tree, self._links
        due_ms = self._next_due_ms()
        if tree.touched or (due_ms is not None and due_ms <= now_ms):
            self._alarms.ring(links, now_ms, tree.touched)
            if tree.ids_due_ms is not None and now_ms >= tree.ids_due_ms:
                tree.tell_ids()
            if self._pulls.are_due(now_ms):
                self._pull(now_ms)
            touched, tree.touched = tree.touched, {}
            for peer in touched:
                if (link := links.get(peer)) is None:
                    continue
                if count := self._send(link, now_ms):
                    told[peer] = count
                if (next_ms := link.next_ms(polls=not self._has_url)) is not None:
                    self._alarms.set(link, next_ms)
            due_ms = self._next_due_ms()
        self.wake_at = due_ms
        return told

    def _next_due_ms(self) -> int | None:
        due_ms, alarms = self._tree.ids_due_ms, self._alarms.agenda
        if alarms and (due_ms is None or alarms[0][0] < due_ms):
            due_ms = alarms[0][0]
        return self._pulls.wake_before(due_ms)

    def _measure(self, link: GossipLink, round_trip_ms: int) -> None:
        """Keep the median delay of a hop; small changes of one link are not worth the sorting."""
        former = link.round_trip_ms
        if former is not None and abs(round_trip_ms - former) * 4 <= former:
            return
        link.round_trip_ms = max(0, round_trip_ms)
        measured = [one.round_trip_ms for one in self._links.values() if one.round_trip_ms is not None]
        self._pulls.hop_delay_ms = median_low(measured) // 2

    # Sending.

    def _wanted(self, link: GossipLink, request: GossipRequest, now_ms: int) -> tuple[bytes, ...]:
        """Which of the ids that a neighbour told it shall send at once; the others are waited for."""
        want: list[bytes] = []
        find, waits = self._registry.find, bool(link.ids or link.bodies or link.offers)
        for announcement_id in request.offer:
            link.holds(announcement_id)
            if not self._registry.knows(announcement_id) and self._pulls.wants(announcement_id, link.peer, now_ms):
                want.append(announcement_id)
        for announcement_id in request.have:
            if waits:
                link.holds(announcement_id)
            if find(announcement_id) is not None or self._registry.knows(announcement_id):
                continue
            if link.url:
                self._pulls.heard(announcement_id, link.peer, now_ms)
            elif len(want) < offered_ids_max and self._pulls.wants(announcement_id, link.peer, now_ms):
                want.append(announcement_id)
        return tuple(want)

    def _pull(self, now_ms: int) -> None:
        is_free = {peer: link.pulling is None for peer, link in self._links.items() if link.url}
        for peer, ids in self._pulls.take_due(now_ms, is_free).items():
            link = self._links[peer]
            link.pulling = self._outgoing.request(
                peer, link.url, FetchRequest(tuple(ids)), now_ms, (), link.patience_ms(first=True)
            )
            self._fetches[link.pulling] = None

    def _end_pull(self, in_flight: InFlight) -> None:
        del self._fetches[in_flight.request_id]
        link = self._links.get(in_flight.peer)
        if link is not None and link.pulling == in_flight.request_id:
            link.pulling = None

    def _send(self, link: GossipLink, now_ms: int) -> int:
        """Send what is due over one link. Returns how many bodies went."""
        count = 0
        if link.url:
            is_free = link.pushing is None and now_ms >= link.quiet_until_ms
            if is_free and (link.has_news() or now_ms >= link.status_due_ms):
                count = self._push(link, now_ms)
            if not self._has_url and link.polling is None and now_ms >= link.poll_due_ms:
                message = GossipRequest((), (), None, wait_seconds_max)
                link.polling = self._outgoing.request(link.peer, link.url, message, now_ms)
        elif link.waiting_token is not None and (link.bodies or now_ms >= link.waiting_until_ms):
            count = self._answer_waiting(link)
        return count

    def _push(self, link: GossipLink, now_ms: int) -> int:
        bodies = next_bodies(link, self._registry) if link.bodies else ()
        offers = next_offers(link, self._registry) if link.offers else ()
        ids = next_ids(link, self._registry) if link.ids else ()
        status = None
        if now_ms >= link.status_due_ms:
            status = self._link_status(link.peer)
            link.status_due_ms = self._next_status_ms(now_ms)
        message = GossipRequest((), ids, status, 0, offers, link.graft)
        link.graft = False
        link.pushing = self._outgoing.request(link.peer, link.url, message, now_ms, bodies, link.patience_ms())
        return len(bodies)

    def _answer_waiting(self, link: GossipLink) -> int:
        """Answer the neighbour's hanging request. It has only bodies waiting: an answer has no room for ids."""
        assert link.waiting_token is not None, f"nothing of {link.peer.hex()} hangs here"
        bodies = next_bodies(link, self._registry)
        answer = GossipAnswer((), (), self._link_status(link.peer))
        self._outgoing.add(SendAnswer(link.waiting_token, answer, bodies))
        link.waiting_token = None
        return len(bodies)

    def _next_status_ms(self, now_ms: int) -> int:
        return _NEVER_MS if self._status_every_ms is None else now_ms + self._status_every_ms

    def _landed(self, link: GossipLink, in_flight: InFlight) -> bool:
        """Whether this was a message of the link as it is now; then another one may go."""
        if link.pushing == in_flight.request_id:
            link.pushing = None
            return True
        if link.polling == in_flight.request_id:
            link.polling = None
            return True
        return False
