"""Streams of events never end by themselves: what ends them first when the node stops, so that nobody waits for them
while running downloads are finished."""

from weakref import WeakSet

import trio


class Stopping:
    """Whether the node stops, and the waits that end then."""

    def __init__(self) -> None:
        self.begun = False
        self._waits: WeakSet[trio.CancelScope] = WeakSet()  # those that ended are dropped by whoever opened them

    def begin(self) -> None:
        """End every wait, those to come too."""
        self.begun = True
        for wait in self._waits:
            wait.cancel()

    def wait_at_most(self, seconds: float) -> trio.CancelScope:
        """A block that ends after so many seconds, or when the node stops."""
        wait = trio.move_on_after(0 if self.begun else seconds)
        self._waits.add(wait)
        return wait
