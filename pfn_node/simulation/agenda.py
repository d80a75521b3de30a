"""What will happen, by the millisecond: the one thing that moves time.

An event is a function and its one argument. Those of one millisecond happen in the order in which they were put there,
also when they put more into it. Thousands of nodes put hundreds of thousands of events a second in here, so there is
a list for each millisecond, and a heap of the milliseconds alone.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Agenda:
    """Virtual time, and what is due in it."""

    __slots__ = ("_buckets", "_moments", "events", "now_ms")

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.events = 0  # how many things have happened
        self._buckets: dict[int, list[tuple[Callable[[Any], None], Any]]] = {}
        self._moments: list[int] = []

    def put(self, moment_ms: int, function: Callable[[Any], None], argument: Any) -> None:
        """Have something happen then, or at once if that has passed."""
        bucket = self._buckets.get(moment_ms)
        if bucket is not None:
            bucket.append((function, argument))
        elif moment_ms < self.now_ms:
            self.put(self.now_ms, function, argument)
        else:
            self._buckets[moment_ms] = [(function, argument)]
            heappush(self._moments, moment_ms)

    def pass_until(self, until_ms: int, events_max: int) -> bool:
        """Let everything happen that is due until then. False if it stopped before, at the end of some millisecond.

        Whatever a function raises ends the millisecond: a run that broke is not gone on with.
        """
        buckets, moments = self._buckets, self._moments
        stop = self.events + events_max
        while moments and moments[0] <= until_ms:
            if self.events >= stop:
                return False
            moment = self.now_ms = heappop(moments)
            bucket = buckets[moment]
            try:
                for function, argument in bucket:  # it grows while it is worked off
                    function(argument)
            finally:
                self.events += len(bucket)
                del buckets[moment]
        self.now_ms = until_ms
        return True
