"""A node's threads share few regions of the heap, so that what is freed is not spread over many."""

import platform
from functools import partial
from pathlib import Path

import pytest
import trio

from pfn_node import malloc
from pfn_node.cli.local_mesh import LocalMesh

# malloc(3) of glibc: a region of a thread is a reservation of so many bytes, at a multiple of it.
REGION_BYTES = 64 * 2**20
AT_ONCE = 8


def regions_of_threads(process_id: int) -> int:
    """How many regions there are beside the main one: each is memory in use, and the reserved rest behind it."""
    found, last = 0, (0, 0, "")
    for line in Path(f"/proc/{process_id}/maps").read_text().splitlines():
        addresses, rights, *_ = line.split()
        start, end = (int(text, 16) for text in addresses.split("-"))
        begins_region = last[0] % REGION_BYTES == 0 and last[2] == "rw-p" and last[1] == start
        found += begins_region and rights == "---p" and end == last[0] + REGION_BYTES
        last = start, end, rights
    return found


def threads(process_id: int) -> int:
    return sum(1 for _ in Path(f"/proc/{process_id}/task").iterdir())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such regions")
async def test_the_threads_of_a_node_share_few_regions_of_the_heap(mesh: LocalMesh) -> None:
    client = await mesh.start_node()
    async with trio.open_nursery() as nursery:
        for number in range(AT_ONCE):
            nursery.start_soon(partial(client.get, "plugins", q=f"nothing-{number}"))

    process = mesh.nodes[0].process
    assert process is not None
    assert threads(process.pid) > malloc.ARENAS_MAX + 1
    assert regions_of_threads(process.pid) < malloc.ARENAS_MAX
