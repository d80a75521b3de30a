"""What the C library keeps of memory that was freed: by itself more and more, while the node needs no more than before.

glibc gives each thread a region of the heap ("arena") of its own, up to eight for each processor, and returns of a
region only what is free at its end. Threads come and go here, and SQLite's pages, zips and answers live for very
different times; so after hours a good part of what the process holds is holes. Few regions, large blocks outside of
them, and the holes given back now and then keep the process as large as what it needs.

Another C library has neither function, nor this habit: there nothing is done.
"""

import ctypes
import os
from collections.abc import Callable, Mapping
from typing import Final

import trio

# mallopt(3), by the numbers that malloc.h gives them
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8

# As many threads as allocate at once: Python lets one work at a time, SQLite and checksums a second one.
ARENAS_MAX: Final = 2
# Larger blocks than this (files are read in pieces of half of it) are mapped each by itself, and go back when they are
# freed. Left alone, glibc raises it to the largest block that was ever freed, up to 32 MB: zips stay among the rest.
MAPPED_FROM_BYTES: Final = 512 * 1024
# Free memory at the end of a region that is kept for what comes next.
KEPT_FREE_BYTES: Final = 1024 * 1024
# Giving holes back takes 1 ms of the processor for 15 MB of them, and as much to take them anew.
TRIM_SECONDS: Final = 60.0


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def configure(environment: Mapping[str, str] = os.environ) -> bool:
    """Have few regions, and large blocks outside of them. To be called before threads begin; False: nothing was done.

    What the operator has told glibc (`MALLOC_ARENA_MAX` and its kin, `GLIBC_TUNABLES`) is left alone.
    """
    glibc = _glibc()
    if glibc is None or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in environment):
        return False
    wanted = {_ARENA_MAX: ARENAS_MAX, _MMAP_THRESHOLD: MAPPED_FROM_BYTES, _TRIM_THRESHOLD: KEPT_FREE_BYTES}
    return all(glibc.mallopt(parameter, value) for parameter, value in wanted.items())


def give_back() -> None:
    """Give the holes back to the system (blocking, for milliseconds)."""
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(KEPT_FREE_BYTES)


async def give_back_for_ever(give: Callable[[], None] = give_back) -> None:
    """Give them back now and then, in a thread."""
    limiter = trio.CapacityLimiter(1)
    while True:
        await trio.sleep(TRIM_SECONDS)
        await trio.to_thread.run_sync(give, limiter=limiter)
