"""How long an honest publisher's sync takes while 32 others lie, hang, dribble and send bombs, and what that leaves.

A real node process; the hostile publishers are this one, and the honest one has its own (honest_syncs.py). Every
hostile source is verified and subscribed to, and synced again `PAUSE_SECONDS` after each sync, for `SECONDS`. Goals:
the honest sync's p95 at most twice that without them, memory +64 MiB at most, every connection over by the deadline of
what was asked, and afterwards no more tasks and descriptors than before.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import trio

from pfn_node.cli.client import ANSWER_SECONDS_MAX, NodeClient
from pfn_node.outbound import Outbound
from pfn_node.sources.publisher_client import LIST_SECONDS_MAX
from tests.fuzz.wire import Wire
from tests.hostile_publishers import KINDS, Site, open_site
from tests.node.web_node import MASTER_KEY
from tests.observed_node import Figures, ObservedNode, observed_node

HOSTILE = 32
SECONDS = 60.0
PAUSE_SECONDS = 15.0
ALONE_SYNCS = 60  # before, and as many after
DOWNLOAD_SECONDS_MAX = 45.0  # as the node is told here; ten minutes usually
SETTLING_SECONDS_MAX = 2 * DOWNLOAD_SECONDS_MAX


def run(hostile: int = HOSTILE, seconds: float = SECONDS) -> dict[str, float | int | str]:
    """Measure; seconds, bytes and counts."""
    with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
        return trio.run(_measure, Path(folder) / "node", hostile, seconds, tuple(KINDS))


async def _measure(folder: Path, hostile: int, seconds: float, kinds: tuple[str, ...]) -> dict[str, float | int | str]:
    settings: dict[str, Any] = {"allow_private_networks": True, "artifact_seconds_max": DOWNLOAD_SECONDS_MAX}
    async with (
        Outbound(allow_private_networks=True, user_agent="pfn-bench") as outbound,
        observed_node(folder, environment={"PFN_MASTER_KEY": MASTER_KEY}, **settings) as node,
        trio.open_nursery() as servers,
    ):
        made = await NodeClient(outbound, node.url, MASTER_KEY).post("create-admin-key", {})
        others = [await open_site(servers, 2 + n, kinds[n % len(kinds)]) for n in range(hostile)]
        async with _honest_syncs(node, made["key"]) as syncs:
            alone = [await anext(syncs) for _ in range(ALONE_SYNCS)]
            before = await node.figures()
            beside: list[float] = []
            async with trio.open_nursery() as attack:
                for site in others:
                    attack.start_soon(_sync_for_ever, node, made["key"], site)
                until = trio.current_time() + seconds
                while trio.current_time() < until:
                    beside.append(await anext(syncs))
                during = await node.figures()
                attack.cancel_scope.cancel()
            after = await _settled_meanwhile(syncs, partial(_settled, node, others, before))
            # With each version a sync takes a little longer: half of them before the others came, half after they left.
            alone += [await anext(syncs) for _ in range(ALONE_SYNCS)]
        servers.cancel_scope.cancel()
        return _row(others, alone, beside, before, during, after)


def _row(
    others: list[Site], alone: list[float], beside: list[float], before: Figures, during: Figures, after: Figures
) -> dict[str, float | int | str]:
    longest = max(others, key=lambda site: max(site.durations, default=0.0))
    ratio = _p95(beside) / _p95(alone)
    return {
        "hostile_publishers": len(others),
        "kinds": len({site.kind for site in others}),
        "connections_to_them": sum(len(site.durations) for site in others),
        "honest_syncs_beside_them": len(beside),
        "sync_median_alone_seconds": round(median(alone), 3),
        "sync_median_beside_seconds": round(median(beside), 3),
        "sync_p95_alone_seconds": round(_p95(alone), 3),
        "sync_p95_beside_seconds": round(_p95(beside), 3),
        "sync_max_beside_seconds": round(max(beside), 3),
        "sync_p95_ratio": round(ratio, 2),
        "sync_p95_ratio_goal": 2,
        "memory_growth_mib": round((max(during.memory_peak, after.memory_peak) - before.memory) / 2**20, 1),
        "memory_growth_mib_goal": 64,
        "longest_connection_seconds": round(max(longest.durations, default=0.0), 1),
        "longest_connection_kind": longest.kind,
        "longest_connection_seconds_goal": max(DOWNLOAD_SECONDS_MAX, LIST_SECONDS_MAX) + 5,
        "tasks_left": after.tasks - before.tasks,
        "descriptors_left": after.descriptors - before.descriptors,
        "tasks_at_the_height": during.tasks,
    }


@asynccontextmanager
async def _honest_syncs(node: ObservedNode, key: str) -> AsyncIterator[AsyncIterator[float]]:
    """Seconds of one honest sync after another, from a process that does not wait for the floods of this one."""
    command = [sys.executable, "-m", "tests.benchmarks.honest_syncs", node.url, key]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE))
        async with aclosing(_numbers(process.stdout)) as numbers:
            yield numbers
        nursery.cancel_scope.cancel()


async def _numbers(stream: trio.abc.ReceiveStream) -> AsyncGenerator[float, None]:
    lines = bytearray()
    async for data in stream:
        lines += data
        *whole, rest = lines.split(b"\n")
        for line in whole:
            yield float(line)
        lines = rest


async def _sync_for_ever(node: ObservedNode, key: str, site: Site) -> None:
    """As an operator would who cannot let go of it."""
    publisher = site.publisher
    source = {"sourceId": site.source_id}
    added = {"instance_url": publisher.url, "username": publisher.author, "public_key": publisher.pem}
    async with Wire(node.port, seconds_max=ANSWER_SECONDS_MAX) as wire:
        await wire.ask(_post("add-source", key, added))
        await wire.ask(_post("verify-source", key, source))
        while True:
            await wire.ask(_post("subscribe", key, source))
            await trio.sleep(PAUSE_SECONDS)


def _post(call: str, key: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST /federation/{call} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def _settled_meanwhile(syncs: AsyncIterator[float], settled: Callable[[], Awaitable[Figures]]) -> Figures:
    """What `settled` says, once it does; the syncs that run meanwhile count for nothing."""
    over = trio.Event()

    async def pass_by() -> None:
        while not over.is_set():
            await anext(syncs)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pass_by)
        figures = await settled()
        over.set()
    return figures


async def _settled(node: ObservedNode, others: list[Site], before: Figures) -> Figures:
    """The node once nothing is under way any more, or after a while all the same."""
    figures = await node.figures()
    with trio.move_on_after(SETTLING_SECONDS_MAX):
        while any(site.open for site in others) or figures.tasks > before.tasks:
            await trio.sleep(0.5)
            figures = await node.figures()
    return figures


def _p95(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) * 95 // 100]
