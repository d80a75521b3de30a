"""What a node knows of how its set stands against one neighbour's, and of the round that looks into it."""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import islice, pairwise
from typing import NamedTuple

from pfn_protocol.cells_round import CellsRound
from pfn_protocol.limits import (
    authors_page_max,
    fetch_ids_max,
    offered_ids_max,
    offered_remembered_max,
    reconciliation_quiet_ms_max,
    reconciliation_quiet_ms_min,
    sketch_id_bytes,
    unresolved_ms,
)
from pfn_protocol.link_set import LinkSet, smaller_cap
from pfn_protocol.messages import AuthorsRequest, AuthorSummary, Request, SetStatus
from pfn_protocol.outgoing import Outgoing, earliest
from pfn_protocol.registry import Registry
from pfn_protocol.sketch_walk import shortened

# What a request for ids and its answer cost beside the ids, about.
_REQUEST_BYTES = 600
EVERYBODY = (b"", 0)  # in the place of an author and its cap


class Rung(IntEnum):
    """The ladder: what does not help leads to the next; what does, back to the first."""

    FIRST_SALT = 0
    SECOND_SALT = 1
    PAGES = 2


@dataclass(slots=True)
class Round:
    """One look at what a neighbour has."""

    began_ms: int
    cells: CellsRound | None = None  # None: pages of ids, or a snapshot
    is_telling: bool = False  # the lists of authors are being exchanged first
    told_until: bytes = b""
    told_all: bool = False
    heard_all: bool = False
    to_compare: deque[tuple[bytes, int]] = field(default_factory=deque)  # author and cap, or EVERYBODY
    ids_to_compare: int = 0  # how many ids the neighbour has of those authors, by its own word
    ids_told: int = 0  # how many it has of the authors that this node admits, while it tells whom it admits
    pages: int = 0
    ids_after: bytes = b""  # how far the ids of the author have come that is being compared
    lacking: deque[bytes] = field(default_factory=deque)  # ids to fetch next, shortened
    fetching: tuple[bytes, ...] = ()  # those that are on their way
    left_to_others: int = 0  # ids that were on their way over other links when their turn came here
    fetches: int = 0  # requests for bodies
    gained: int = 0  # announcements that came into the set, and ids that were offered for the first time

    def gain(self, delivered: Mapping[bytes, bool], registry: Registry) -> int:
        """Count what came into the set and is there still: of two for one slot, one is. Returns how much that is."""
        gained = sum(came and one in registry for one, came in delivered.items())
        self.gained += gained
        return gained

    def fetched(
        self, asked: Sequence[bytes], missing: Iterable[bytes], delivered: Mapping[bytes, bool], registry: Registry
    ) -> None:
        """Bodies came. What did not fit is lacking still, if anything that was asked for came into the set."""
        self.gain(delivered, registry)
        self.fetching = ()
        came = {shortened(one): one for one in delivered}
        if self.cells is not None:
            self.cells.resolved.update(came)
        lacking = {one: None for one in asked if registry.find_short(one) is None}
        if len(lacking) < len(asked):
            gone = dict.fromkeys(missing)
            self.lacking.extend(one for one in lacking if one not in gone and one not in came)

    def heard(self, authors: Iterable[AuthorSummary], link_set: LinkSet, registry: Registry) -> None:
        """A page of the neighbour's authors came: those are compared whose share differs at the smaller cap."""
        self.pages += 1
        for theirs in authors:
            cap = smaller_cap(registry.cap(theirs.author), theirs.cap)
            if not cap or link_set.leaves_out(theirs.author):
                continue
            self.ids_told += theirs.count if theirs.cap == cap else min(theirs.count, cap)
            if not self.is_telling and registry.summary(theirs.author, cap) != (theirs.count, theirs.digest):
                self.to_compare.append((theirs.author, cap))
                self.ids_to_compare += theirs.count

    def begin_pages(self) -> None:
        """Compare ids next: of everybody at once, if that costs less than so many requests for those that differ."""
        self.pages = 0
        one_by_one = self.ids_to_compare * sketch_id_bytes + len(self.to_compare) * _REQUEST_BYTES
        if len(self.to_compare) > 1 and self.ids_told * sketch_id_bytes <= one_by_one:
            self.to_compare = deque([EVERYBODY])

    def next_batch(self, elsewhere: Collection[bytes], registry: Registry) -> tuple[bytes, ...]:
        """Ids to fetch now. What came over another link is not lacking any more; what is on its way there may come."""
        batch: list[bytes] = []
        while self.lacking and len(batch) < fetch_ids_max:
            one = self.lacking.popleft()
            if one in elsewhere:
                self.left_to_others += 1
            elif registry.find_short(one) is None:
                batch.append(one)
        self.fetching = tuple(batch)
        return self.fetching

    def authors_request(self, link_set: LinkSet, after: bytes) -> AuthorsRequest:
        """Ask for a page of authors, and tell one, until all are told."""
        page: tuple[tuple[bytes, int], ...] = ()
        is_last = False
        if not self.told_all:
            page, is_last = link_set.tell(self.told_until, authors_page_max)
            self.told_all = is_last
            self.told_until = page[-1][0] if page else b""
            if is_last:
                link_set.told()
        return AuthorsRequest(after, page, is_last)


class Patience(NamedTuple):
    """What a neighbour does not get rid of by asking for a new link."""

    fruitless: int  # rounds in a row that brought nothing
    quiet_until_ms: int
    tell_after_ms: int


@dataclass(slots=True)
class Comparison:
    """How this node's set stands against a neighbour's."""

    url: str
    link_set: LinkSet
    eager: bool = True  # the next difference is looked into without waiting
    due_ms: int | None = None
    their_status: SetStatus | None = None
    settled: tuple[bytes, bytes] | None = None  # digests of which it is known that a round brings nothing
    rung: Rung = Rung.FIRST_SALT
    round: Round | None = None
    request_id: int | None = None  # the one request of the round that is under way
    asked_ms: int = 0  # when it was made
    fruitless: int = 0  # rounds in a row that brought nothing
    quiet_until_ms: int = 0
    tell_after_ms: int = 0  # lists of authors are not exchanged again before
    snapshot_taken: bytes = b""  # the scope (R114) of a snapshot that brought too little to take another one of it
    differences_found: int = 0
    offered: dict[bytes, None] = field(default_factory=dict)  # ids that the neighbour lacked and was offered
    # The difference that is known to stay: what the neighbour has and this node does not take, and the reverse.
    unresolved: tuple[tuple[bytes, ...], tuple[bytes, ...]] = ((), ())
    unresolved_until_ms: int = 0
    # What the neighbour's set is with that difference; worked out once for each state of this node's.
    _expected: tuple[tuple[SetStatus, int], tuple[int, bytes]] | None = None

    def ask(self, outgoing: Outgoing, peer: bytes, message: Request, now_ms: int) -> None:
        """Make the next request of the round."""
        self.request_id, self.asked_ms = outgoing.request(peer, self.url, message, now_ms), now_ms

    def look_after(self, wait_ms: int, now_ms: int) -> None:
        """Look into the difference after so long, or after the rest that fruitless rounds brought."""
        self.due_ms = earliest(self.due_ms, max(now_ms + wait_ms, self.quiet_until_ms))
        self.eager = False

    def not_yet_offered(self, ids: Iterable[bytes]) -> list[bytes]:
        """Those of the ids, in bounds, that were not offered before; now they are."""
        fresh = list(islice((one for one in ids if one not in self.offered), offered_ids_max))  # there may be a million
        if len(self.offered) >= offered_remembered_max:
            self.offered.clear()
        self.offered.update(dict.fromkeys(fresh))
        return fresh

    def digests(self) -> tuple[bytes, bytes]:
        """That of this node's set, and that of the neighbour's as last heard of."""
        return self.link_set.status().digest, self.their_status.digest if self.their_status else b""

    def agrees(self, registry: Registry, now_ms: int) -> bool:
        """Whether both sets are the same, but for the difference that is known to stay."""
        mine, theirs = self.link_set.status(), self.their_status
        if theirs is None or self.is_same():
            return True
        if mine.scope != theirs.scope or now_ms >= self.unresolved_until_ms:
            return False
        key = (mine, registry.changes.position)
        if self._expected is None or self._expected[0] != key:
            self._expected = (key, self._with_unresolved(registry))
        return self._expected[1] == (theirs.count, theirs.digest)

    def _with_unresolved(self, registry: Registry) -> tuple[int, bytes]:
        """Count and digest of this node's set with the difference that is known to stay."""
        total = self.link_set.total()
        for one in self.unresolved[0]:
            if one not in registry:
                total.add(one)
        for one in self.unresolved[1]:
            if one in registry and total.count:
                total.remove(one)
        return total.count, total.digest()

    def is_same(self) -> bool:
        """Whether the other side was last heard to have exactly this set, whomever each side would admit besides.

        Not if it knows an old list of whom this node admits: what it has of the others it leaves out.
        """
        mine, theirs = self.link_set.status(), self.their_status
        if theirs is None or (self.link_set.is_outdated and mine.scope != theirs.scope):
            return False
        return (mine.count, mine.digest) == (theirs.count, theirs.digest)

    def told(self, ids: int) -> None:
        """The lists of authors were exchanged: of what is the link's set now, the neighbour has so many ids.

        What it said before was about the authors that both sides knew of each other then: perhaps none.
        """
        assert self.their_status is not None, "who differs has said so"
        self.their_status = replace(self.their_status, count=ids)

    def rest(self, now_ms: int) -> None:
        """Both sets are the same: nothing of the past counts any more, but that saying so ends no rest at once."""
        self.due_ms, self.eager, self.rung, self.fruitless = None, False, Rung.FIRST_SALT, 0
        self.quiet_until_ms = min(self.quiet_until_ms, now_ms + reconciliation_quiet_ms_min)
        self.unresolved, self.offered, self._expected = ((), ()), {}, None

    def keep_unresolved(self, theirs: Iterable[bytes], mine: Iterable[bytes], now_ms: int) -> None:
        """This difference stays, as far as is known; it is looked into again after a while."""
        self.unresolved = (tuple(theirs), tuple(mine))
        self.unresolved_until_ms = now_ms + unresolved_ms
        self._expected = None

    def count_fruit(self, gained: int, now_ms: int, *, rests: bool = True) -> None:
        """A round is over. Those that bring nothing come ever more rarely."""
        if gained:
            self.fruitless = 0
            return
        quiet_ms = min(reconciliation_quiet_ms_max, reconciliation_quiet_ms_min << min(self.fruitless, 16))
        self.fruitless += 1
        if rests:
            self.quiet_until_ms = now_ms + quiet_ms

    def cut_off(self, now_ms: int) -> Patience:
        """The link ends, or is made anew. Returns what its successor has of patience.

        Once it may happen that both sides ask for the link during a round; who does so again and again brings nothing.
        """
        if self.round is not None and not self.round.gained:
            self.count_fruit(0, now_ms, rests=bool(self.fruitless))
        return Patience(self.fruitless, self.quiet_until_ms, self.tell_after_ms)

    def go_on_from(self, former: Patience) -> None:
        """The neighbour had a link before."""
        self.fruitless, self.quiet_until_ms, self.tell_after_ms = former


def goes_on(after: bytes, keys: Sequence[bytes]) -> bool:
    """Whether a page begins after the key that it was asked to, and ascends."""
    return all(one < following for one, following in pairwise((after, *keys)))
