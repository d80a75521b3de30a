"""Copies of a new release that its publisher serves to nodes that pin each other: goal 6 of 50 in the first hour."""

import tempfile
from pathlib import Path
from random import Random

import trio
from trio.testing import MockClock

from tests.network.subscribed_mesh import SLUG, subscribed_mesh

NODES = 50
RELEASE_BYTES = 10 * 2**20
HOUR_SECONDS = 3600
COPIES_GOAL = 6


def run(nodes: int = NODES) -> dict[str, float | int | str]:
    """One new release of 10 MiB, and the hour in which every node's sync is due (with its jitter), in virtual time."""
    with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
        return trio.run(_measure, Path(folder), nodes, clock=MockClock(autojump_threshold=0))


async def _measure(folder: Path, nodes: int) -> dict[str, float | int | str]:
    async with subscribed_mesh(folder, nodes) as mesh:
        before = mesh.copies_served()
        filler = Random(nodes).randbytes(RELEASE_BYTES)
        mesh.publisher.publish(SLUG, "2.0", extra=filler)
        began = trio.current_time()
        while mesh.holders("2.0") == 0:
            await trio.sleep(1)
        first_seen = trio.current_time()
        await trio.sleep(HOUR_SECONDS)
        return {
            "nodes": nodes,
            "release_bytes": len(mesh.publisher.zips[SLUG]),
            "seconds_until_the_first_had_it": round(first_seen - began),
            "nodes_that_have_it": mesh.holders("2.0"),
            "copies_served_in_the_first_hour": mesh.copies_served() - before,
            "goal": COPIES_GOAL,
        }
