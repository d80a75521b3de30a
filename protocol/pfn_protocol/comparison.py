"""What a node knows of how its set stands against one neighbour's, and of the round that looks into it."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from pfn_protocol.cells_round import CellsRound
from pfn_protocol.limits import (
    authors_page_max,
    reconciliation_quiet_ms_max,
    reconciliation_quiet_ms_min,
    unresolved_ms,
)
from pfn_protocol.link_set import LinkSet
from pfn_protocol.messages import AuthorsRequest, SetStatus
from pfn_protocol.registry import Registry


class Rung(IntEnum):
    """The ladder: what does not help leads to the next; what does, back to the first."""

    FIRST_SALT = 0
    SECOND_SALT = 1
    PAGES = 2


@dataclass(slots=True)
class Round:
    """One look at what a neighbour has."""

    cells: CellsRound | None = None  # None: pages of ids, or a snapshot
    is_telling: bool = False  # the lists of authors are being exchanged first
    told_until: bytes = b""
    told_all: bool = False
    heard_all: bool = False
    to_compare: deque[tuple[bytes, int]] = field(default_factory=deque)  # author and cap
    pages: int = 0
    theirs: dict[bytes, None] = field(default_factory=dict)  # ids of the author that is being compared
    lacking: dict[bytes, None] = field(default_factory=dict)  # ids to fetch next, whole or shortened
    gained: int = 0  # announcements that were new here, and ids that were offered for the first time

    def authors_request(self, link_set: LinkSet, after: bytes) -> AuthorsRequest:
        """Ask for a page of authors, and tell one, until all are told."""
        page: tuple[tuple[bytes, int], ...] = ()
        is_last = False
        if not self.told_all:
            page, is_last = link_set.tell(self.told_until, authors_page_max)
            self.told_all = is_last
            self.told_until = page[-1][0] if page else b""
        return AuthorsRequest(after, page, is_last)


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
    fruitless: int = 0  # rounds in a row that brought nothing
    quiet_until_ms: int = 0
    tell_after_ms: int = 0  # lists of authors are not exchanged again before
    snapshot_taken: bool = False
    differences_found: int = 0
    offered: dict[bytes, None] = field(default_factory=dict)  # ids that the neighbour lacked and was offered
    # The difference that is known to stay: what the neighbour has and this node does not take, and the reverse.
    unresolved: tuple[tuple[bytes, ...], tuple[bytes, ...]] = ((), ())
    unresolved_until_ms: int = 0

    def agrees(self, registry: Registry, now_ms: int) -> bool:
        """Whether both sets are the same, but for the difference that is known to stay."""
        mine, theirs = self.link_set.status(), self.their_status
        if theirs is None or mine == theirs:
            return True
        if mine.scope != theirs.scope or now_ms >= self.unresolved_until_ms:
            return False
        total = self.link_set.total()
        for one in self.unresolved[0]:
            if one not in registry:
                total.add(one)
        for one in self.unresolved[1]:
            if one in registry and total.count:
                total.remove(one)
        return (total.count, total.digest()) == (theirs.count, theirs.digest)

    def is_same(self) -> bool:
        """Whether the other side was last heard to have exactly this set."""
        return self.link_set.status() == self.their_status

    def rest(self) -> None:
        """Both sets are the same: nothing of the past counts any more."""
        self.due_ms, self.eager, self.rung, self.fruitless, self.quiet_until_ms = None, False, Rung.FIRST_SALT, 0, 0
        self.unresolved, self.offered = ((), ()), {}

    def keep_unresolved(self, theirs: Iterable[bytes], mine: Iterable[bytes], now_ms: int) -> None:
        """This difference stays, as far as is known; it is looked into again after a while."""
        self.unresolved = (tuple(theirs), tuple(mine))
        self.unresolved_until_ms = now_ms + unresolved_ms

    def give_up(self, now_ms: int) -> None:
        """This node's own cells changed under the round: another one begins later."""
        self.round = None
        self.count_fruit(0, now_ms)

    def count_fruit(self, gained: int, now_ms: int) -> None:
        """A round is over. Those that bring nothing come ever more rarely."""
        if gained:
            self.fruitless = 0
            return
        quiet_ms = min(reconciliation_quiet_ms_max, reconciliation_quiet_ms_min << min(self.fruitless, 16))
        self.fruitless += 1
        self.quiet_until_ms = now_ms + quiet_ms
