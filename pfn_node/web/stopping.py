"""Streams of events never end by themselves: what ends them first when the node stops, so that nobody waits for them
while running downloads are finished."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Stopping:
    """Whether the node stops, and the waits that end then."""

    def __init__(self) -> None:
        self.begun = False
        self._waits: set[trio.CancelScope] = set()

    def begin(self) -> None:
        """End every wait, those to come too."""
        self.begun = True
        for wait in self._waits:
            wait.cancel()

    @contextmanager
    def wait_at_most(self, seconds: float) -> Iterator[None]:
        """The block ends after so many seconds, or when the node stops."""
        with trio.move_on_after(0 if self.begun else seconds) as wait:
            self._waits.add(wait)
            try:
                yield
            finally:
                self._waits.discard(wait)
