"""The part of the set that the two sides of a link can agree on.

Each side admits its own authors at its own caps, and leaves out whom its operator blocks. What both can agree on are
the authors that both admit, each at the smaller cap, without those that either leaves out. Both sides tell each other
whom they admit when their lists differ; kept are only the exceptions, and of an author that was admitted since it is
assumed that the other side admits it too. Whether both mean the same authors says the scope, eight bytes that go with
every status.
"""

import hashlib
from collections.abc import Iterable, Mapping

from pfn_protocol.limits import scope_bytes, slots_sponsored_max
from pfn_protocol.messages import SetStatus
from pfn_protocol.registry import Registry
from pfn_protocol.set_digest import SetDigest


def smaller_cap(mine: int, theirs: int) -> int:
    """The cap at which both sides of a link compare an author (R88).

    One that no node has (R84) counts as that of a newcomer: so nobody can have ever other shares worked out.
    """
    return mine if theirs >= mine else min(theirs, slots_sponsored_max)


class LinkSet:
    """What this node has of a link's set."""

    def __init__(self, registry: Registry, left_out: Iterable[bytes]) -> None:
        self._registry = registry
        self._left_out = dict.fromkeys(left_out)
        self._their_caps: dict[bytes, int] = {}  # of authors that they admit at a smaller cap than this node, or not
        self._hearing: dict[bytes, int] = {}  # their list, as far as it was told
        self._version = 0
        self._told_at: int | None = None  # the version of the admission of which they were last told the whole list
        self._narrowed: tuple[tuple[int, int], dict[bytes, int]] | None = None
        self._scope: tuple[tuple[int, int], bytes] | None = None
        self._status: tuple[tuple[int, int, int], SetStatus] | None = None

    def leave_out(self, left_out: Iterable[bytes]) -> None:
        """The operator of either side changed whom it does not want to hear of."""
        left_out = dict.fromkeys(left_out)
        self._version += left_out != self._left_out
        self._left_out = left_out

    def leaves_out(self, author: bytes) -> bool:
        return author in self._left_out

    def hear(self, page: Iterable[tuple[bytes, int]], *, is_first: bool, is_last: bool) -> None:
        """They tell whom they admit, page by page; the last one makes it count."""
        if is_first:
            self._hearing = {}
        admitted = self._registry.caps
        self._hearing.update((author, cap) for author, cap in page if author in admitted)
        if is_last:
            heard, self._hearing = self._hearing, {}
            told = {author: smaller_cap(cap, heard.get(author, 0)) for author, cap in admitted.items()}
            caps = {author: cap for author, cap in told.items() if cap < admitted[author]}
            self._version += caps != self._their_caps
            self._their_caps = caps

    def tell(self, after: bytes, limit: int) -> tuple[tuple[tuple[bytes, int], ...], bool]:
        """A page of the authors that this node admits and nobody leaves out; and whether it is the last."""
        caps = self._registry.caps
        following = sorted(author for author in caps if author > after and author not in self._left_out)
        return tuple((author, caps[author]) for author in following[:limit]), len(following) <= limit

    def told(self) -> None:
        """They know now whom this node admits."""
        self._told_at = self._registry.admission_version

    @property
    def is_outdated(self) -> bool:
        """Whether they know an old list: of authors that were admitted since they would tell nothing."""
        return self._told_at is not None and self._told_at != self._registry.admission_version

    def narrowed(self) -> Mapping[bytes, int]:
        """The authors that count at a smaller cap than this node's own; 0 = not at all."""
        key = self._key
        if self._narrowed is None or self._narrowed[0] != key:
            caps = self._registry.caps
            found = {author: cap for author, cap in self._their_caps.items() if cap < caps.get(author, 0)}
            found |= {author: 0 for author in self._left_out if author in caps}
            self._narrowed = (key, found)
        return self._narrowed[1]

    def absent(self) -> list[bytes]:
        """The authors that this node admits and that do not count at all."""
        return [author for author, cap in self.narrowed().items() if not cap]

    def scope(self) -> bytes:
        """Says which authors count here, and at which caps."""
        key = self._key
        if self._scope is None or self._scope[0] != key:
            narrowed = self.narrowed()
            listed = hashlib.sha256()
            for author, cap in sorted(self._registry.caps.items()):
                effective = narrowed.get(author, cap)
                if effective:
                    listed.update(author + effective.to_bytes(8, "big"))
            self._scope = (key, listed.digest()[:scope_bytes])
        return self._scope[1]

    def total(self) -> SetDigest:
        """The sum of the link's set."""
        return self._registry.total(self.narrowed())

    def status(self) -> SetStatus:
        """What the other side is told."""
        key = (*self._key, self._registry.changes.position)
        if self._status is None or self._status[0] != key:
            total = self.total()
            self._status = (key, SetStatus(total.count, total.digest(), self.scope()))
        return self._status[1]

    def ids_beyond(self) -> list[bytes]:
        """What is in this node's set and not in the link's."""
        beyond: list[bytes] = []
        for author, cap in self.narrowed().items():
            within = self._registry.ids(author, cap) if cap else []
            whole = self._registry.ids(author, self._registry.cap(author))
            beyond += sorted({*whole} - {*within})
        return beyond

    @property
    def _key(self) -> tuple[int, int]:
        return self._registry.admission_version, self._version
