"""Every id of the set in order, for pages that go on from an id: kept in buckets, each sorted only when it is read.

A million ids sorted at once would stop everything else for half a second; a bucket of them takes a millisecond. Nothing
is kept before somebody asks for the first time. From then on the log of changes says which buckets to look at again.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator

from pfn_protocol.changes import ChangeLog

_BUCKETS = 256  # by the first byte of the id


class SortedIds:
    """The ids of one set, ascending."""

    def __init__(self) -> None:
        self._buckets: list[list[bytes]] = []
        self._in_order: set[int] = set()  # buckets that are sorted
        self._position = 0

    def update(self, ids: Collection[bytes], changes: ChangeLog) -> None:
        """Follow the set, which has these ids now."""
        missed = changes.since(self._position) if self._buckets else None
        if missed is None:
            self._buckets = [[] for _ in range(_BUCKETS)]
            self._in_order.clear()
            for one in ids:
                self._buckets[one[0]].append(one)
        else:
            for change in missed:
                bucket = self._buckets[change.id[0]]
                if change.came:
                    bucket.append(change.id)
                    self._in_order.discard(change.id[0])
                else:
                    bucket.remove(change.id)
        self._position = changes.position

    def begins_with(self, start: bytes) -> bytes | None:
        """The first id that begins like this."""
        bucket = self._sorted(start[0])
        place = bisect_left(bucket, start)
        return bucket[place] if place < len(bucket) and bucket[place].startswith(start) else None

    def between(self, after: bytes, until: bytes) -> Iterator[bytes]:
        """Those after one id and up to another one, itself included; empty: from the start, to the end."""
        for number in range(after[0] if after else 0, until[0] + 1 if until else _BUCKETS):
            bucket = self._sorted(number)
            yield from (one for one in bucket if after < one and (not until or one <= until))

    def _sorted(self, number: int) -> list[bytes]:
        if number not in self._in_order:
            self._buckets[number].sort()
            self._in_order.add(number)
        return self._buckets[number]
