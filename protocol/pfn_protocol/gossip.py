"""Telling neighbours what is new, at once.

Every neighbour has an outbox. An idle link sends immediately; what arrives while a message is under way is sent
together in the next one. The outbox is bounded: what overflows, or is lost twice, is found by reconciliation. With
every message goes how the own set stands, and at least every ten seconds; the answer says how the other one stands.

A neighbour without a URL cannot be asked. It keeps one request hanging here, which is answered when there is
something to tell, or when its time is over. This node does the same at its neighbours if it has no URL itself.

What was pushed and got no answer is offered by id in the next message; bodies go again only to those that want them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pfn_protocol.effects import SendAnswer
from pfn_protocol.limits import (
    dial_again_ms_min,
    gossip_push_max,
    offered_ids_max,
    outbox_ids_max,
    push_bytes_max,
    status_interval_ms,
    wait_seconds_max,
)
from pfn_protocol.messages import GossipAnswer, GossipRequest, SetStatus
from pfn_protocol.outgoing import InFlight, Outgoing, earliest
from pfn_protocol.registry import Registry
from pfn_protocol.slots import Entry


@dataclass(slots=True)
class _Outbox:
    """What one neighbour is to be told, and what is under way."""

    url: str
    left_out: tuple[bytes, ...]
    bodies: dict[bytes, None] = field(default_factory=dict)
    offers: dict[bytes, None] = field(default_factory=dict)
    status_due_ms: int = 0
    quiet_until_ms: int = 0  # after a failure: do not knock faster than this
    pushing: int | None = None  # the request under way
    polling: int | None = None  # the hanging request under way
    poll_due_ms: int = 0
    waiting_token: int | None = None  # the neighbour's hanging request
    waiting_until_ms: int = 0


class Gossip:
    """The outboxes of all neighbours."""

    def __init__(
        self, registry: Registry, outgoing: Outgoing, link_status: Callable[[bytes], SetStatus], *, has_url: bool
    ) -> None:
        self._registry = registry
        self._link_status = link_status
        self._outgoing = outgoing
        self._has_url = has_url
        self._outboxes: dict[bytes, _Outbox] = {}

    def open(self, peer: bytes, url: str, left_out: Iterable[bytes], now_ms: int) -> None:
        """There is a link; how the sets stand is asked at once."""
        former = self._outboxes.get(peer)
        self.close(peer)
        outbox = _Outbox(url, tuple(left_out), status_due_ms=now_ms, poll_due_ms=now_ms)
        if former is not None:
            outbox.bodies, outbox.offers = former.bodies, former.offers
        self._outboxes[peer] = outbox

    def close(self, peer: bytes) -> None:
        """The link is over; a hanging request of the neighbour is answered."""
        outbox = self._outboxes.pop(peer, None)
        if outbox is not None and outbox.waiting_token is not None:
            self._outgoing.add(SendAnswer(outbox.waiting_token, GossipAnswer((), (), None)))

    def leave_out(self, peer: bytes, left_out: Iterable[bytes]) -> None:
        """The operator's word changed about whom to hear of."""
        self._outboxes[peer].left_out = tuple(left_out)

    def stop(self) -> None:
        """Answer all that hang; whoever stops the machine passes nothing on any more."""
        for peer, outbox in self._outboxes.items():
            if outbox.waiting_token is not None:
                self._answer_waiting(peer, outbox)

    def tell(self, entries: Iterable[Entry], came_from: bytes | None) -> None:
        """These are new: push them to everyone but the one they came from."""
        for entry in entries:
            for peer, outbox in self._outboxes.items():
                if peer not in (came_from, entry.author) and entry.author not in outbox.left_out:
                    self._put(outbox.bodies, entry.id)

    def mention(self, entries: Iterable[Entry], came_from: bytes) -> None:
        """These were pulled, so others probably have them: offer them by id."""
        for entry in entries:
            for peer, outbox in self._outboxes.items():
                if peer not in (came_from, entry.author) and entry.author not in outbox.left_out:
                    self._put(outbox.offers, entry.id)

    def offer(self, peer: bytes, ids: Iterable[bytes]) -> None:
        """This neighbour is known to lack these."""
        for announcement_id in ids:
            self._put(self._outboxes[peer].offers, announcement_id)

    def holds(self, peer: bytes, ids: Iterable[bytes]) -> None:
        """This neighbour sent these itself: nothing of them goes back to it (R101)."""
        outbox = self._outboxes.get(peer)
        if outbox is not None:
            for announcement_id in ids:
                outbox.bodies.pop(announcement_id, None)
                outbox.offers.pop(announcement_id, None)

    def ask_status(self, now_ms: int) -> None:
        """Something changed that makes it worth while to compare the sets at once."""
        for outbox in self._outboxes.values():
            outbox.status_due_ms = min(outbox.status_due_ms, now_ms)

    def answer(self, peer: bytes, token: int, request: GossipRequest, now_ms: int) -> None:
        """Answer a neighbour's message, now or when there is something to tell; its push was taken in before."""
        outbox = self._outboxes[peer]
        if request.status is not None:
            outbox.status_due_ms = now_ms + status_interval_ms
        want = tuple(one for one in request.have if not self._registry.knows(one))[:offered_ids_max]
        if request.wait_seconds == 0 or want:
            status = self._link_status(peer)
            self._outgoing.add(SendAnswer(token, GossipAnswer((), want, None if status == request.status else status)))
            return
        if outbox.waiting_token is not None:
            self._answer_waiting(peer, outbox)
        outbox.waiting_token = token
        outbox.waiting_until_ms = now_ms + 1_000 * min(request.wait_seconds, wait_seconds_max)

    def answered(self, in_flight: InFlight, message: GossipAnswer, now_ms: int) -> None:
        """A neighbour answered; its push and status are the business of others."""
        outbox = self._outboxes.get(in_flight.peer)
        if outbox is None or not self._landed(outbox, in_flight):
            return
        if message.status is not None:
            outbox.status_due_ms = now_ms + status_interval_ms
        outbox.poll_due_ms = now_ms if message.push else now_ms + dial_again_ms_min
        for announcement_id in message.want:
            if self._may_be_told(outbox, announcement_id):
                self._put(outbox.bodies, announcement_id)

    def failed(self, in_flight: InFlight, now_ms: int) -> None:
        """A message came to nothing: its bodies are offered by id, once."""
        outbox = self._outboxes.get(in_flight.peer)
        if outbox is None or not self._landed(outbox, in_flight):
            return
        outbox.quiet_until_ms = outbox.poll_due_ms = now_ms + dial_again_ms_min
        for announcement_id in in_flight.bodies:
            self._put(outbox.offers, announcement_id)

    def flush(self, now_ms: int) -> dict[bytes, int]:
        """Send whatever can be sent. Returns how many bodies went to whom."""
        told: dict[bytes, int] = {}
        for peer, outbox in self._outboxes.items():
            if outbox.url:
                told[peer] = self._push(peer, outbox, now_ms)
            elif outbox.waiting_token is not None and (
                outbox.bodies or outbox.offers or now_ms >= outbox.waiting_until_ms
            ):
                told[peer] = self._answer_waiting(peer, outbox)
            if outbox.url and not self._has_url:
                self._poll(peer, outbox, now_ms)
        return told

    @property
    def wake_at(self) -> int | None:
        """When `flush` has something to do next."""
        moments: list[int | None] = []
        for outbox in self._outboxes.values():
            if outbox.waiting_token is not None:
                moments.append(outbox.waiting_until_ms)
            if outbox.url and outbox.pushing is None:
                moments.append(max(outbox.quiet_until_ms, outbox.status_due_ms))
                if outbox.bodies or outbox.offers:
                    moments.append(outbox.quiet_until_ms)
            if outbox.url and outbox.polling is None and not self._has_url:
                moments.append(outbox.poll_due_ms)
        return earliest(*moments)

    def _push(self, peer: bytes, outbox: _Outbox, now_ms: int) -> int:
        if outbox.pushing is not None or now_ms < outbox.quiet_until_ms:
            return 0
        if not (outbox.bodies or outbox.offers or now_ms >= outbox.status_due_ms):
            return 0
        bodies = self._next_bodies(outbox)
        offers = [one for one in list(outbox.offers)[:offered_ids_max] if self._may_be_told(outbox, one)]
        for announcement_id in list(outbox.offers)[:offered_ids_max]:
            del outbox.offers[announcement_id]
        status = self._link_status(peer)
        outbox.status_due_ms = now_ms + status_interval_ms
        message = GossipRequest((), tuple(offers), status, 0)
        outbox.pushing = self._outgoing.request(peer, outbox.url, message, now_ms, bodies)
        return len(bodies)

    def _poll(self, peer: bytes, outbox: _Outbox, now_ms: int) -> None:
        if outbox.polling is None and now_ms >= outbox.poll_due_ms:
            message = GossipRequest((), (), None, wait_seconds_max)
            outbox.polling = self._outgoing.request(peer, outbox.url, message, now_ms)

    def _answer_waiting(self, peer: bytes, outbox: _Outbox) -> int:
        """Answer the neighbour's hanging request. Offers go as bodies: an answer has no room for ids."""
        assert outbox.waiting_token is not None, f"nothing of {peer.hex()} hangs here"
        for announcement_id in outbox.offers:
            self._put(outbox.bodies, announcement_id)
        outbox.offers.clear()
        bodies = self._next_bodies(outbox)
        answer = GossipAnswer((), (), self._link_status(peer))
        self._outgoing.add(SendAnswer(outbox.waiting_token, answer, bodies))
        outbox.waiting_token = None
        return len(bodies)

    def _next_bodies(self, outbox: _Outbox) -> tuple[bytes, ...]:
        """Take as many as fit into one message; what left the set meanwhile is skipped."""
        chosen: list[bytes] = []
        room = push_bytes_max
        for announcement_id in list(outbox.bodies):
            entry = self._registry.find(announcement_id)
            if entry is not None:
                room -= entry.size
                if room < 0 or len(chosen) >= gossip_push_max:
                    break
                chosen.append(announcement_id)
            del outbox.bodies[announcement_id]
        return tuple(chosen)

    def _may_be_told(self, outbox: _Outbox, announcement_id: bytes) -> bool:
        entry = self._registry.find(announcement_id)
        return entry is not None and entry.author not in outbox.left_out

    @staticmethod
    def _landed(outbox: _Outbox, in_flight: InFlight) -> bool:
        """Whether this was a message of the link as it is now; then another one may go."""
        if outbox.pushing == in_flight.request_id:
            outbox.pushing = None
            return True
        if outbox.polling == in_flight.request_id:
            outbox.polling = None
            return True
        return False

    @staticmethod
    def _put(waiting: dict[bytes, None], announcement_id: bytes) -> None:
        """Reconciliation has what does not fit."""
        if len(waiting) < outbox_ids_max:
            waiting[announcement_id] = None
