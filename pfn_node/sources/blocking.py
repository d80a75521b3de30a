"""Running what blocks while sources are mirrored."""

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

import trio

T = TypeVar("T")

THREADS_MAX: Final = 2  # deleting and copying what is stored
KEEPING_MAX: Final = 8  # keeping is waiting: for the disk, which syncs several as soon as one, or for an object store


class RunBlocking(Protocol):
    """Runs a function that blocks, and returns what it returns."""

    async def __call__(self, work: Callable[[], T]) -> T: ...


def in_threads(threads_max: int = THREADS_MAX) -> RunBlocking:
    """Runs what blocks in worker threads, a few at a time."""
    limiter = trio.CapacityLimiter(threads_max)

    async def run(work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=limiter)

    return run
