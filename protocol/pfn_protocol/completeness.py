"""Whether all that other authors say is here: their own counts, compared with what came over others.

A node announcement states how many other announcements its author has made, and their set digest. What was told before
it comes before it, or soon after; if something is still missing a while later, though the author has said nothing new
since, then whoever passes its word on here withholds a part of it, or the author states what is not so. Both are shown,
and the sets are compared with all neighbours, and with new ones, at once. That is done rarely: counts cost an author
nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pfn_protocol.limits import completeness_wait_ms, incomplete_looks_ms_min
from pfn_protocol.registry import Registry


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What an author stated, and what is here: how many announcements beside its node announcement."""

    announced: int
    held: int


class Completeness:
    """The authors whose counts are to be looked at, and those of whom something is missing here."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._due_ms: dict[bytes, int] = {}  # the earliest first, since all wait equally long
        self._incomplete: dict[bytes, Shortfall] = {}
        self._looked_ms: int | None = None

    def heard(self, authors: Iterable[bytes], now_ms: int) -> None:
        """Node announcements of these authors came into the set."""
        for author in authors:
            self._due_ms.pop(author, None)
            if self._is_incomplete(author):
                self._due_ms[author] = now_ms + completeness_wait_ms
            else:
                self._incomplete.pop(author, None)

    def clock_set_back(self, now_ms: int) -> None:
        """What was planned lies too far ahead."""
        self._due_ms = dict.fromkeys(self._due_ms, now_ms + completeness_wait_ms)
        self._looked_ms = None

    def settle(self, now_ms: int) -> bool:
        """Look at the authors whose time has come. Returns whether the sets are to be compared for what is missing."""
        found = False
        while self._due_ms and next(iter(self._due_ms.values())) <= now_ms:
            author = next(iter(self._due_ms))
            found = self._look(author, now_ms) or found
        if not found or (self._looked_ms is not None and now_ms - self._looked_ms < incomplete_looks_ms_min):
            return False
        self._looked_ms = now_ms
        return True

    @property
    def wake_at(self) -> int | None:
        """When `settle` has something to do next."""
        return next(iter(self._due_ms.values()), None)

    def shortfall(self, author: bytes) -> Shortfall | None:
        """What is missing of this author; None: nothing that is known."""
        return self._incomplete.get(author)

    def stated(self, author: bytes) -> tuple[int | None, int]:
        """How many announcements beside its node announcement an author says it has, and how many are in the set."""
        statement = self._registry.node_statement(author)
        return statement.count if statement else None, self._registry.beside_node(author)[0]

    def _look(self, author: bytes, now_ms: int) -> bool:
        del self._due_ms[author]
        if not self._is_incomplete(author):
            self._incomplete.pop(author, None)
            return False
        statement = self._registry.node_statement(author)
        assert statement is not None, "without it nothing would be missing"
        self._incomplete[author] = Shortfall(statement.count, self._registry.beside_node(author)[0])
        self._due_ms[author] = now_ms + completeness_wait_ms
        return True

    def _is_incomplete(self, author: bytes) -> bool:
        """Whether what is here lacks some of what the author stated last, and it has said nothing since."""
        node = self._registry.node_entry(author)
        if node is None or node.node is None or node.node.count > self._registry.cap(author):
            return False
        held, root = self._registry.beside_node(author)
        if held > node.node.count or root == node.node.root:
            return False
        return self._registry.latest(author) == node.place
