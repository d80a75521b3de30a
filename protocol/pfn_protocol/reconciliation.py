"""Repairing gaps: finding out what a neighbour has and this node lacks, and fetching it.

When the digests of two sets differ, one side asks page by page which authors the other admits and how each one's
share stands; of those that both admit and that differ, at the smaller of the two caps, the ids; and fetches what it
lacks. Each side does so for itself, so nobody is asked to take anything. A node without a URL cannot be asked, so it
also offers what the other lacks.

A difference waits a little for the pushes in flight, except right after a link was made or an author was admitted.
When a round brought nothing (each side admits authors that the other does not), the pair of digests is remembered,
and nothing is asked until one of them changes.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from pfn_protocol.limits import authors_pages_max, fetch_ids_max, ids_pages_max, reconciliation_wait_ms
from pfn_protocol.messages import (
    AuthorsAnswer,
    AuthorsRequest,
    FetchRequest,
    IdsAnswer,
    IdsRequest,
    Request,
    SetStatus,
)
from pfn_protocol.outgoing import InFlight, Outgoing, earliest
from pfn_protocol.registry import Registry


@dataclass(slots=True)
class _Round:
    """One look at everything that a neighbour has."""

    to_compare: deque[tuple[bytes, int]] = field(default_factory=deque)  # author and cap
    pages: int = 0
    theirs: dict[bytes, None] = field(default_factory=dict)  # ids of the author that is being compared
    lacking: dict[bytes, None] = field(default_factory=dict)  # ids to fetch before the next author
    gained: int = 0


@dataclass(slots=True)
class _Comparison:
    """How this node's set stands against a neighbour's."""

    url: str
    left_out: tuple[bytes, ...]
    eager: bool = True  # the next difference is looked into without waiting
    due_ms: int | None = None
    their_status: SetStatus | None = None
    settled: tuple[bytes, bytes] | None = None  # digests of which it is known that a round brings nothing
    round: _Round | None = None
    request_id: int | None = None  # the one request of the round that is under way
    differences_found: int = 0


class Reconciliation:
    """The comparisons with all neighbours."""

    def __init__(self, registry: Registry, outgoing: Outgoing, *, has_url: bool) -> None:
        self._registry = registry
        self._outgoing = outgoing
        self._has_url = has_url
        self._comparisons: dict[bytes, _Comparison] = {}
        self._next_ms: int | None = None  # not later than the first of their due times

    def open(self, peer: bytes, url: str, left_out: Iterable[bytes]) -> None:
        """There is a link; the first status decides."""
        self._comparisons[peer] = _Comparison(url, tuple(left_out))

    def close(self, peer: bytes) -> None:
        """The link is over."""
        self._comparisons.pop(peer, None)

    def leave_out(self, peer: bytes, left_out: Iterable[bytes]) -> None:
        """The operator's word changed about whom to hear of."""
        self._comparisons[peer].left_out = tuple(left_out)

    def be_eager(self) -> None:
        """An author was admitted: neighbours may have more of it, and what was settled no longer is."""
        for comparison in self._comparisons.values():
            comparison.eager, comparison.settled = True, None

    def heard_status(self, peer: bytes, status: SetStatus, now_ms: int) -> None:
        """A neighbour said how its set stands."""
        comparison = self._comparisons[peer]
        comparison.their_status = status
        mine = self._registry.status(comparison.left_out)
        if mine == status:
            comparison.due_ms, comparison.eager = None, False
        elif comparison.round is None and comparison.settled != (mine.digest, status.digest):
            wait_ms = 0 if comparison.eager else reconciliation_wait_ms
            comparison.due_ms = earliest(comparison.due_ms, now_ms + wait_ms)
            self._next_ms = earliest(self._next_ms, comparison.due_ms)
            comparison.eager = False

    def flush(self, now_ms: int) -> None:
        """Begin the rounds whose time has come."""
        if self._next_ms is None or now_ms < self._next_ms:
            return
        for peer, comparison in self._comparisons.items():
            if comparison.due_ms is None or now_ms < comparison.due_ms:
                continue
            comparison.due_ms = None
            if comparison.url and comparison.their_status != self._registry.status(comparison.left_out):
                comparison.round = _Round()
                self._ask(peer, comparison, AuthorsRequest(b""), now_ms)
        self._next_ms = earliest(*(comparison.due_ms for comparison in self._comparisons.values()))

    @property
    def wake_at(self) -> int | None:
        """When `flush` has something to do next."""
        return self._next_ms

    def differences_found(self, peer: bytes) -> int:
        """How many announcements were found missing here, over this link."""
        comparison = self._comparisons.get(peer)
        return comparison.differences_found if comparison else 0

    def answered_authors(self, in_flight: InFlight, answer: AuthorsAnswer, now_ms: int) -> None:
        """A page of the neighbour's authors."""
        found = self._round_of(in_flight)
        if found is None:
            return
        comparison, current = found
        for theirs in answer.authors:
            cap = min(theirs.cap, self._registry.cap(theirs.author))
            if not cap or theirs.author in comparison.left_out:
                continue
            if self._registry.summary(theirs.author, cap) != (theirs.count, theirs.digest):
                current.to_compare.append((theirs.author, cap))
        current.pages += 1
        if answer.more and answer.authors and current.pages < authors_pages_max:
            self._ask(in_flight.peer, comparison, AuthorsRequest(answer.authors[-1].author), now_ms)
        else:
            self._go_on(in_flight.peer, comparison, current, now_ms)

    def answered_ids(self, in_flight: InFlight, answer: IdsAnswer, now_ms: int) -> list[bytes]:
        """A page of an author's ids. Returns what is to be offered, because the neighbour lacks it and cannot ask."""
        found = self._round_of(in_flight)
        if found is None:
            return []
        comparison, current = found
        author, cap = current.to_compare[0]
        current.theirs.update(dict.fromkeys(answer.ids))
        current.pages += 1
        if answer.more and answer.ids and current.pages < ids_pages_max:
            self._ask(in_flight.peer, comparison, IdsRequest(author, cap, answer.ids[-1]), now_ms)
            return []
        current.to_compare.popleft()
        current.lacking = {one: None for one in current.theirs if not self._registry.knows(one)}
        comparison.differences_found += len(current.lacking)
        mine = [] if self._has_url else self._registry.ids(author, cap)
        offers = [one for one in mine if one not in current.theirs]
        self._go_on(in_flight.peer, comparison, current, now_ms)
        return offers

    def fetched(self, in_flight: InFlight, missing: Iterable[bytes], delivered: dict[bytes, bool], now_ms: int) -> None:
        """Announcements came. `delivered` says of each id whether it was new."""
        found = self._round_of(in_flight)
        if found is None:
            return
        comparison, current = found
        assert isinstance(in_flight.message, FetchRequest)
        gained = sum(delivered.values())
        current.gained += gained
        gone = dict.fromkeys(missing)
        if gained:
            left = [one for one in in_flight.message.ids if one not in gone and one not in delivered]
            current.lacking.update({one: None for one in left if not self._registry.knows(one)})
        self._go_on(in_flight.peer, comparison, current, now_ms)

    def failed(self, in_flight: InFlight) -> None:
        """A request of a round came to nothing: the next status begins a new one."""
        found = self._round_of(in_flight)
        if found is not None:
            found[0].round = None

    def _go_on(self, peer: bytes, comparison: _Comparison, current: _Round, now_ms: int) -> None:
        """Fetch what is lacking, then compare the next author, then rest."""
        if current.lacking:
            batch = tuple(current.lacking)[:fetch_ids_max]
            for announcement_id in batch:
                del current.lacking[announcement_id]
            self._ask(peer, comparison, FetchRequest(batch), now_ms)
        elif current.to_compare:
            current.pages, current.theirs = 0, {}
            author, cap = current.to_compare[0]
            self._ask(peer, comparison, IdsRequest(author, cap, b""), now_ms)
        else:
            comparison.round = None
            if not current.gained and comparison.their_status is not None:
                mine = self._registry.status(comparison.left_out)
                comparison.settled = (mine.digest, comparison.their_status.digest)

    def _ask(self, peer: bytes, comparison: _Comparison, message: Request, now_ms: int) -> None:
        comparison.request_id = self._outgoing.request(peer, comparison.url, message, now_ms)

    def _round_of(self, in_flight: InFlight) -> tuple[_Comparison, _Round] | None:
        """The round that this is the outcome for; None if its link is over or was made anew."""
        comparison = self._comparisons.get(in_flight.peer)
        if comparison is None or comparison.round is None or comparison.request_id != in_flight.request_id:
            return None
        return comparison, comparison.round
