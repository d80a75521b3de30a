"""The last changes of the set, for whoever keeps something up to date only when it is used.

A position is the number of changes since the start. The log is bounded: who is too far behind begins anew.
"""

from collections import deque
from itertools import islice
from typing import NamedTuple

from pfn_protocol.limits import sketch_changes_max


class Change(NamedTuple):
    """An id came into the set, or left it."""

    id: bytes
    author: bytes
    came: bool


class ChangeLog:
    """What came and went."""

    def __init__(self) -> None:
        self.position = 0
        self._changes: deque[Change] = deque(maxlen=sketch_changes_max)

    def note(self, announcement_id: bytes, author: bytes, *, came: bool) -> None:
        """Remember one change more."""
        self._changes.append(Change(announcement_id, author, came))
        self.position += 1

    def skip(self, count: int) -> None:
        """So many changes that nobody is to follow one by one: whoever kept something begins anew."""
        self._changes.clear()
        self.position += count

    def since(self, position: int) -> list[Change] | None:
        """The changes after a position; None if they are not all remembered any more."""
        behind = self.position - position
        if behind > len(self._changes):
            return None
        # From the end: who is asked for each id of a message is a few changes behind, or none, in a log of thousands.
        return list(islice(reversed(self._changes), behind))[::-1]
