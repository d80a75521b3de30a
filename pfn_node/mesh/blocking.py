"""Running what blocks: in a worker thread, or inline where time is virtual (its clock jumps while threads run)."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

T = TypeVar("T")

# Threads that look at the disk for the mesh: probing files and syncing them is bound by the disk, not by more threads.
THREADS_MAX = 4


class InThread(Protocol):
    """Run a function that blocks, and return what it returns."""

    async def __call__(self, work: Callable[[], T]) -> T: ...


def worker_threads(threads_max: int = THREADS_MAX, *, abandon: bool = False) -> InThread:
    """In threads, a few at a time. `abandon`: whoever is cancelled leaves the thread to end for itself."""
    limiter = trio.CapacityLimiter(threads_max)

    async def run(work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=abandon)

    return run


def inline() -> InThread:
    """In the event loop itself, for tests in virtual time."""

    async def run(work: Callable[[], T]) -> T:
        await trio.lowlevel.checkpoint()
        return work()

    return run
