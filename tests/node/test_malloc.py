"""Memory that was freed goes back to the system, however many threads had a part in it."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node import malloc

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this habit")

# Each thread allocates while all others do, then glibc tells what regions it has.
REGIONS = """
import ctypes, threading
from pfn_node import malloc
together = threading.Barrier(12)
def allocate():
    for _ in range(50):
        together.wait()
        blocks = [bytes(1_000 + number) for number in range(100)]
print(malloc.configure(), flush=True)
threads = [threading.Thread(target=allocate) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


def regions(**environment: str) -> tuple[bool, int]:
    """Whether a process was configured, and how many regions its threads filled."""
    own = {name: text for name, text in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", REGIONS], env=own | environment, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.startswith("True"), done.stdout.count("<heap nr=")


def test_threads_share_few_regions_of_the_heap() -> None:
    configured, count = regions()

    assert configured
    assert 1 <= count <= malloc.ARENAS_MAX


def test_what_the_operator_told_glibc_is_left_alone() -> None:
    configured, count = regions(MALLOC_ARENA_MAX="5")

    assert not configured
    assert malloc.ARENAS_MAX < count <= 5


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_holes_between_what_is_needed_go_back_to_the_system() -> None:
    blocks = [bytes(1_000) for _ in range(40_000)]
    needed = blocks[::100]
    blocks.clear()
    before = resident_bytes()

    malloc.give_back()

    assert len(needed) == 400
    assert before - resident_bytes() > 20_000_000


async def test_they_go_back_again_and_again(autojump_clock: MockClock) -> None:
    times: list[float] = []
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        def give() -> None:
            times.append(trio.from_thread.run_sync(trio.current_time) - began)
            if len(times) == 3:
                trio.from_thread.run_sync(nursery.cancel_scope.cancel)

        await malloc.give_back_for_ever(give)

    assert times == [malloc.TRIM_SECONDS, 2 * malloc.TRIM_SECONDS, 3 * malloc.TRIM_SECONDS]
