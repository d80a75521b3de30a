"""How long a release takes from the node that saw it to all others: real processes on this machine, real publisher.

All nodes join the first and find each other. Half of the releases appear one at a time, each once the one before is
known everywhere; the other half appears all at once. A release counts as published when the first node's event stream
says that its bytes are kept, and as known when the slowest of the other nodes lists it. The machine is shared by all
processes and by the asking itself, so this is an upper bound.
"""

import json
import os
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import trio

from pfn_node.cli.client import ApiError, NodeClient
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess, local_mesh
from tests.end_to_end.conftest import eventually, follow, offers
from tests.end_to_end.plugins import write_plugin

NODES = 5
ANNOUNCEMENTS = 200
BAR_MS = 1000  # of the 99th percentile
AUTHOR = "bench"
# Plugins that take turns with a new version in the spaced half; a sync looks at each of them.
TAKING_TURNS = 10
# Between two questions to a node: short against the bar, and little work for a node.
POLL_SECONDS = 0.02
KNOWN_SECONDS_MAX = 60.0
EVENTS_SECONDS_MAX = 3600.0
ANSWER_BYTES_MAX = 2**22
MESH_REQUESTS = re.compile(r'^pfn_http_requests_total\{.*route="/node/v1/[^"]*".*\} (\S+)$', re.MULTILINE)

Release = tuple[str, str]  # slug, version


@dataclass
class Watched:
    """Releases of one source, and when they were published and known, in seconds of Trio's clock."""

    source: str
    published: dict[Release, float] = field(default_factory=dict)
    known: dict[Release, list[float]] = field(default_factory=dict)
    others: list[trio.MemorySendChannel[Release]] = field(default_factory=list)

    def seen_by_first(self, release: Release) -> None:
        self.published[release] = trio.current_time()
        self.known[release] = []
        for other in self.others:
            other.send_nowait(release)

    async def are_known(self, releases: list[Release]) -> bool:
        """Whether all other nodes list all of these."""
        return all(len(self.known.get(release, ())) == len(self.others) for release in releases)

    def milliseconds(self, releases: list[Release]) -> list[float]:
        """How long each took to the slowest node."""
        return [1000 * (max(self.known[release]) - self.published[release]) for release in releases]


def run(nodes: int = NODES, announcements: int = ANNOUNCEMENTS) -> dict[str, float | int | str]:
    """Measure; milliseconds, and what one announcement costs one node."""
    with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
        return trio.run(_measure, Path(folder), nodes, announcements)


async def _measure(folder: Path, nodes: int, announcements: int) -> dict[str, float | int | str]:
    plugins = folder / "plugins"
    taking_turns = [f"spaced-{number:03}" for number in range(TAKING_TURNS)]
    for slug in taking_turns:
        write_plugin(plugins, slug, "1.0")
    spaced = [(taking_turns[n % TAKING_TURNS], f"1.{1 + n // TAKING_TURNS}") for n in range(announcements // 2)]
    burst = [(f"burst-{n:03}", "1.0") for n in range(announcements - len(spaced))]
    async with local_mesh(folder) as mesh:
        first, *_ = await mesh.start_nodes(nodes)
        publisher = await mesh.start_publisher(plugins, AUTHOR)
        for client in mesh.clients:
            await eventually(partial(_is_linked, client, nodes - 1))
        load_before = os.getloadavg()[0]
        source = await follow(first, publisher, AUTHOR)
        async with _watching(mesh, source, TAKING_TURNS + announcements) as watched:
            await _publish(plugins, publisher, first, watched, [(slug, "1.0") for slug in taking_turns])
            before = await _costs(mesh)
            for release in spaced:
                await _publish(plugins, publisher, first, watched, [release])
            await _publish(plugins, publisher, first, watched, burst)
            costs = [after - cost for cost, after in zip(before, await _costs(mesh), strict=True)]
    each = nodes * announcements
    names = ("requests", "bytes_sent", "bytes_received", "bodies_received")
    return {
        "nodes": nodes,
        "announcements": announcements,
        **_percentiles("", watched.milliseconds(spaced + burst)),
        "bar_p99_ms": BAR_MS,
        **_percentiles("spaced_", watched.milliseconds(spaced)),
        **_percentiles("burst_", watched.milliseconds(burst)),
        **{f"{name}_per_node_and_release": round(cost / each, 2) for name, cost in zip(names, costs, strict=True)},
        "load_before": round(load_before, 1),
        "load_after": round(os.getloadavg()[0], 1),
    }


def _percentiles(what: str, milliseconds: list[float]) -> dict[str, float]:
    p99 = quantiles(milliseconds, n=100, method="inclusive")[98]
    figures = {"p50_ms": median(milliseconds), "p99_ms": p99, "max_ms": max(milliseconds)}
    return {what + name: round(figure, 1) for name, figure in figures.items()}


async def _publish(
    plugins: Path, publisher: LocalProcess, first: NodeClient, watched: Watched, releases: list[Release]
) -> None:
    """Write them into the publisher's folder, have the first node look, and wait until they are known everywhere."""
    for slug, version in releases:
        write_plugin(plugins, slug, version)
    expected = await _expected(publisher, first) | dict(releases)
    await eventually(lambda: offers(publisher, first, AUTHOR, expected))
    answer = await first.post("subscribe", {"sourceId": watched.source})
    assert answer["syncResult"]["mirroredCount"] == len(expected), answer
    await eventually(lambda: watched.are_known(releases), KNOWN_SECONDS_MAX)


async def _expected(publisher: LocalProcess, client: NodeClient) -> dict[str, str]:
    """What the publisher lists now."""
    url = f"{publisher.url}/author-data?author={AUTHOR}"
    reply = await client.outbound.fetch("GET", url, bytes_max=ANSWER_BYTES_MAX, seconds_max=10.0)
    return {entry["slug"]: entry["version"] for entry in json.loads(reply.body)["plugins"]}


async def _is_linked(client: NodeClient, links: int) -> bool:
    peers = (await client.get("peers"))["peers"]
    return len([peer for peer in peers if peer["state"] == "linked"]) >= links


@asynccontextmanager
async def _watching(mesh: LocalMesh, source: str, releases: int) -> AsyncIterator[Watched]:
    """Follow the events of the first node, and ask each other node for what the first has: at most so many."""
    watched = Watched(source)
    async with trio.open_nursery() as nursery:
        for client in mesh.clients[1:]:
            send, receive = trio.open_memory_channel[Release](releases)
            watched.others.append(send)
            nursery.start_soon(_ask, client, watched, receive)
        await nursery.start(_follow_events, mesh.clients[0], watched)
        yield watched
        nursery.cancel_scope.cancel()


async def _ask(client: NodeClient, watched: Watched, releases: trio.MemoryReceiveChannel[Release]) -> None:
    """In the order of publishing: what came early but stands behind another in the line counts as late as that one."""
    async for slug, version in releases:
        while not await _lists(client, watched.source, slug, version):
            await trio.sleep(POLL_SECONDS)
        watched.known[slug, version].append(trio.current_time())


async def _lists(client: NodeClient, source: str, slug: str, version: str) -> bool:
    try:
        listed = str((await client.get(f"plugins/{source}/{slug}"))["version"])
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return listed == version


async def _follow_events(
    client: NodeClient, watched: Watched, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    waiting = bytearray()

    def take(chunk: bytes) -> None:
        if not waiting and chunk.startswith(b"retry:"):
            task_status.started()
        waiting.extend(chunk)
        while b"\n" in waiting:
            line, _, rest = bytes(waiting).partition(b"\n")
            waiting[:] = rest
            if line.startswith(b"data: "):
                row = json.loads(line.removeprefix(b"data: "))
                if row["type"] == "version_update":
                    watched.seen_by_first((row["plugin_id"], row["new_version"]))

    await client.outbound.download(
        client.url("events"),
        take,
        headers=client.headers,
        bytes_max=2**30,
        seconds_max=EVENTS_SECONDS_MAX,
        bytes_per_second_min=0,
    )


async def _costs(mesh: LocalMesh) -> list[int]:
    """Since the nodes started, of all together: requests answered, bytes sent and received, bodies received."""
    costs = [0, 0, 0, 0]
    for client in mesh.clients:
        text = await client.outbound.fetch("GET", f"{client.node}/metrics", bytes_max=ANSWER_BYTES_MAX, seconds_max=10)
        peers = (await client.get("peers"))["peers"]
        requests = sum(int(float(count)) for count in MESH_REQUESTS.findall(text.body.decode()))
        names = ("bytes_sent", "bytes_received", "announcements_received")
        figures = [requests, *(sum(peer[name] for peer in peers) for name in names)]
        costs = [cost + figure for cost, figure in zip(costs, figures, strict=True)]
    return costs
