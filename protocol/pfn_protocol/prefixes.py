"""The first cells of each link's sketch: made once, outside of the event loop, and then kept up to date.

A prefix is wanted only after two digests differed. It is made under the link's own salt, of everything that is in the
link's set at that moment; one is made at a time, and for nodes that nobody here pins a few an hour at most, since
every one costs seconds of a processor. From then on it is brought up to date when a round begins, out of the log of
changes: some 50 us for an id, whatever the size of the set. In between it stands still, so a round's batches are all of
one set.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from pfn_protocol.changes import Change
from pfn_protocol.effects import BuildPrefix
from pfn_protocol.limits import (
    sketch_builds_per_hour_max,
    sketch_builds_waiting_max,
    sketch_cells_max,
    sketch_cells_min,
    sketch_frozen_ms,
    sketch_prefix_ms_max,
    sketch_small_set_max,
)
from pfn_protocol.link_set import LinkSet
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.registry import Registry
from pfn_protocol.set_digest import SetDigest
from pfn_protocol.sketch import Cells
from pfn_protocol.sketch_walk import shortened

_HOUR_MS = 3_600_000
_GROWTH = 4


@dataclass(slots=True)
class Prefix:
    """The cells of a link's set as it was at a position of the log."""

    link_set: LinkSet
    salt: bytes
    cells: Cells
    position: int
    total: SetDigest
    made_ms: int
    narrowed: dict[bytes, int]  # authors that counted at a smaller cap than this node's own
    held: dict[bytes, list[bytes]]  # what of those with a cap over 0 is in the cells
    own_until_ms: int = 0  # a round of this node is under way
    served_until_ms: int = 0  # a round of the other side is under way

    def freeze_for_own(self, registry: Registry, now_ms: int) -> bool:
        """Begin a round of this node: it is brought up to date, unless the other side needs it as it stands.

        False: it is too far behind to be of use.
        """
        if now_ms >= self.served_until_ms and not self._catch_up(registry):
            return False
        self.own_until_ms = now_ms + sketch_frozen_ms
        return True

    def freeze_for_other(self, registry: Registry, now_ms: int) -> bool:
        """The same for a round of the other side."""
        if now_ms >= self.own_until_ms and not self._catch_up(registry):
            return False
        self.served_until_ms = now_ms + sketch_frozen_ms
        return True

    def is_frozen(self, now_ms: int) -> bool:
        """Whether a round of either side needs it as it stands."""
        return now_ms < max(self.own_until_ms, self.served_until_ms)

    def _catch_up(self, registry: Registry) -> bool:
        changes = registry.changes.since(self.position)
        if changes is None:
            return False
        came = _net(changes, self.narrowed)
        narrowed, held = _narrowing(self.link_set, registry)
        for author in dict.fromkeys((*self.narrowed, *narrowed)):
            for one, change_by in self._replaced(author, narrowed, held, registry):
                came[one] = came.get(one, 0) + change_by
        self.cells.add([shortened(one) for one, change_by in came.items() if change_by > 0], self.salt)
        self.cells.remove([shortened(one) for one, change_by in came.items() if change_by < 0], self.salt)
        self.position, self.narrowed, self.held = registry.changes.position, narrowed, held
        self.total = self.link_set.total()
        return True

    def _replaced(
        self, author: bytes, narrowed: Mapping[bytes, int], held: Mapping[bytes, list[bytes]], registry: Registry
    ) -> list[tuple[bytes, int]]:
        """What comes and goes because the author counts at another cap, or is narrowed and changed."""
        before = self.held.get(author, []) if author in self.narrowed else _whole(author, registry)
        after = held.get(author, []) if author in narrowed else _whole(author, registry)
        gone = [(one, -1) for one in before if one not in dict.fromkeys(after)]
        return [(one, 1) for one in dict.fromkeys(after) if one not in dict.fromkeys(before)] + gone


def _whole(author: bytes, registry: Registry) -> list[bytes]:
    return registry.ids(author, registry.cap(author))


def _narrowing(link_set: LinkSet, registry: Registry) -> tuple[dict[bytes, int], dict[bytes, list[bytes]]]:
    narrowed = dict(link_set.narrowed())
    return narrowed, {author: registry.ids(author, cap) for author, cap in narrowed.items() if cap}


def _net(changes: Iterable[Change], narrowed: Mapping[bytes, int]) -> dict[bytes, int]:
    """What the changes come to: an id that came and went again does not count."""
    came: dict[bytes, int] = {}
    for change in changes:
        if change.author not in narrowed:
            came[change.id] = came.get(change.id, 0) + (1 if change.came else -1)
    return came


def _since(former: Prefix, registry: Registry) -> tuple[list[bytes], list[bytes]] | None:
    """What left the set since a prefix was up to date, and what came; None if that is not known any more."""
    changes = registry.changes.since(former.position)
    if changes is None:
        return None
    came = _net(changes, former.narrowed)
    return [one for one, by in came.items() if by < 0], [one for one, by in came.items() if by > 0]


@dataclass(slots=True)
class _Build:
    """A prefix that is to be made, or is being made."""

    peer: bytes
    link_set: LinkSet
    salt: bytes
    length: int
    prefix: Prefix | None = None  # all but its cells, once it is under way


class Prefixes:
    """The prefixes of all links, and the queue of those to be made."""

    def __init__(self, registry: Registry, outgoing: Outgoing) -> None:
        self._registry = registry
        self._outgoing = outgoing
        self._standing: dict[tuple[bytes, bytes], Prefix] = {}
        self._waiting: deque[_Build] = deque()
        self._building: _Build | None = None
        self._last_build_id = 0
        self._counted_ms: deque[int] = deque(maxlen=sketch_builds_per_hour_max)

    def find(self, peer: bytes, salt: bytes, now_ms: int) -> Prefix | None:
        """The prefix of a link under a salt, if one stands."""
        prefix = self._standing.get((peer, salt))
        if prefix is not None and now_ms - prefix.made_ms >= sketch_prefix_ms_max:
            del self._standing[peer, salt]
            return None
        return prefix

    def discard(self, peer: bytes, salt: bytes) -> None:
        """It is of no use any more."""
        self._standing.pop((peer, salt), None)

    def keep_only(self, peer: bytes, salts_of: Callable[[bytes], Collection[bytes]]) -> None:
        """The link has other salts now, or none; which, is asked only if there is anything to throw away."""
        standing = [key for key in self._standing if key[0] == peer]
        if not standing and all(one.peer != peer for one in self._waiting):
            return
        salts = salts_of(peer)
        for key in standing:
            if key[1] not in salts:
                del self._standing[key]
        self._waiting = deque(one for one in self._waiting if one.peer != peer or one.salt in salts)

    def want(self, peer: bytes, link_set: LinkSet, salt: bytes, length: int, now_ms: int) -> bool:
        """Have a prefix made, or made longer. False: not now; then pages of ids have to do."""
        assert length <= sketch_cells_max, "nobody asks beyond the last cell"
        for build in (self._building, *self._waiting):
            if build is not None and (build.peer, build.salt) == (peer, salt) and build.length >= length:
                return True
        if len(self._waiting) > sketch_builds_waiting_max or not self._within_budget(peer, now_ms):
            return False
        size = sketch_cells_min
        while size < length:
            size *= _GROWTH
        self._waiting.append(_Build(peer, link_set, salt, size))
        self._begin_next(now_ms)
        return True

    def built(self, build_id: int, cells: Cells, now_ms: int) -> bytes | None:
        """A prefix was made. Returns whose link it is of, if that is still of interest."""
        build = self._building
        if build is None or build_id != self._last_build_id:
            return None
        self._building = None
        prefix = build.prefix
        assert prefix is not None, "what is being built was begun"
        prefix.cells = cells
        former = self._standing.get((build.peer, build.salt))
        if former is not None and former.position == prefix.position:  # the same set, only longer: rounds go on
            prefix.own_until_ms, prefix.served_until_ms = former.own_until_ms, former.served_until_ms
        self._standing[build.peer, build.salt] = prefix
        self._begin_next(now_ms)
        return build.peer

    def clock_set_back(self, now_ms: int) -> None:
        """The builds that count were of an hour that is yet to come: then they are of this one."""
        self._counted_ms = deque((min(one, now_ms) for one in self._counted_ms), maxlen=sketch_builds_per_hour_max)

    @property
    def memory_bytes(self) -> int:
        """What the cells of all links take."""
        return sum(prefix.cells.memory_bytes for prefix in self._standing.values())

    def _begin_next(self, now_ms: int) -> None:
        if self._building is not None or not self._waiting:
            return
        build = self._building = self._waiting.popleft()
        narrowed, held = _narrowing(build.link_set, self._registry)
        total, position = build.link_set.total(), self._registry.changes.position
        ids, without = self._registry.unsorted_ids(), tuple(build.link_set.ids_beyond())
        former = self._standing.get((build.peer, build.salt))
        if former is not None and former.is_frozen(now_ms) and (former.narrowed, former.held) == (narrowed, held):
            since = _since(former, self._registry)
            if since is not None:  # the set as it was when the round began, which shall go on
                total, position = former.total, former.position
                ids, without = (*ids, *since[0]), (*without, *since[1])
        build.prefix = Prefix(build.link_set, build.salt, Cells(0), position, total, now_ms, narrowed, held)
        self._last_build_id += 1
        self._outgoing.add(BuildPrefix(self._last_build_id, ids, without, build.salt, build.length))

    def _within_budget(self, peer: bytes, now_ms: int) -> bool:
        """Builds for nodes that nobody here pins are counted, unless they cost next to nothing."""
        if peer in self._registry.pins or len(self._registry) <= sketch_small_set_max:
            return True
        if len(self._counted_ms) == sketch_builds_per_hour_max and now_ms - self._counted_ms[0] < _HOUR_MS:
            return False
        self._counted_ms.append(now_ms)
        return True
