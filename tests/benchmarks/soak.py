"""A node under load for minutes: does it stay quick, and does it stay as large as it is?

A real node process answers a mix of requests, at a fixed rate whatever it answers, while it syncs two publishers whose
plugins change all the time and exchanges announcements with another node that does the same. Latency counts from the
moment at which a request was due, so that a node that stops for a second is charged for every request of that second.
What the machine itself does to a process that only sleeps is measured beside it, in this process.

Every new version is kept for good and takes memory as it should: its rows are among the pages that SQLite holds ready
for each connection, 16 MB at most. What one takes is measured afterwards, when they come many times as fast, and taken
off the slope that was seen; both slopes are told. What grows with time or requests is all in the one that is left.
"""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

import trio
from prometheus_client.parser import text_string_to_metric_families

from pfn_node import malloc
from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess, local_mesh
from tests.benchmarks import soak_load, soak_picture
from tests.benchmarks.soak_load import Load
from tests.end_to_end.conftest import follow, offers
from tests.end_to_end.plugins import write_plugin

MINUTES: Final = 10.0
REQUESTS_PER_SECOND: Final = 300
P99_MS_MAX: Final = 150
RSS_MIB_A_10_MINUTES_MAX: Final = 1.0
DESCRIPTORS_A_10_MINUTES_MAX: Final = 1.0  # "flat": less than one more, over the whole of it
PLUGINS: Final = 20  # of each publisher
AUTHORS: Final = ("ada", "bob")
FILLER_BYTES: Final = 100_000
NEW_VERSION_SECONDS: Final = 30.0
# Afterwards: so many new versions of each author that what they take is well above how RSS goes up and down by itself;
# and then until what was freed is given back (`pfn_node.malloc`) and all of it has been measured.
AFTERWARDS_VERSIONS: Final = 60
AFTERWARDS_VERSION_SECONDS: Final = 2.0
SETTLED_SECONDS: Final = 60.0
SAMPLE_SECONDS: Final = 2.0
# Caches fill, code is run for the first time, memory is shared out: what grows then is no leak.
WARM_UP_PART: Final = 0.3
PICTURE: Final = Path("build/soak.svg")
OFTEN: Final = {"PFN_SYNC_SECONDS": "10", "PFN_HEALTH_CHECK_SECONDS": "5", "PFN_VERIFICATION_SECONDS": "60"}
PAGE_MIB: Final = os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(slots=True)
class Sample:
    """The node at one moment, and the requests since the last one. Times in seconds, latencies in milliseconds."""

    at: float
    rss_mib: float
    descriptors: int
    median_ms: float
    p99_ms: float


@dataclass
class Soak:
    """What was seen. `beside`: how much else went on in the node."""

    load: Load
    samples: list[Sample] = field(default_factory=list)
    afterwards: list[Sample] = field(default_factory=list)
    beside: dict[str, int] = field(default_factory=dict)
    versions_afterwards: int = 0
    sleeper_ms: list[float] = field(default_factory=list)  # how late a task was woken that only sleeps

    def after_warm_up(self) -> list[Sample]:
        begins = self.samples[-1].at * WARM_UP_PART
        return [one for one in self.samples if one.at >= begins]

    def mib_a_version(self) -> float:
        """What each version that came afterwards took."""
        before, after = (
            median(one.rss_mib for one in samples if one.at >= samples[-1].at - SETTLED_SECONDS)
            for samples in (self.samples, self.afterwards)
        )
        return max(0.0, after - before) / max(1, self.versions_afterwards)


def run(
    minutes: float = MINUTES, rate: int = REQUESTS_PER_SECOND, picture: Path = PICTURE
) -> dict[str, float | int | str]:
    """Measure for so many minutes, at `rate` requests per second; draw the picture there."""
    with tempfile.TemporaryDirectory(prefix="pfn-soak-") as folder:
        soak = trio.run(_soak, Path(folder), minutes, rate)
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(soak_picture.picture(soak.samples, WARM_UP_PART, P99_MS_MAX))
    return _figures(soak, minutes) | {"picture": str(picture)}


async def _soak(folder: Path, minutes: float, rate: int) -> Soak:
    async with local_mesh(folder) as mesh, _arranged(mesh, folder) as (node, sources, releases):
        requests = soak_load.mix(sources, PLUGINS)
        soak = Soak(Load(node.node, requests))
        counts = [await _counts(node)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_sleep, soak)
            nursery.start_soon(_sample, soak.load, soak.samples, mesh.nodes[0])
            await soak.load.run(rate, 60 * minutes)
            nursery.cancel_scope.cancel()
        counts.append(await _counts(node))
        async with trio.open_nursery() as nursery:
            load = Load(node.node, requests)
            nursery.start_soon(_sample, load, soak.afterwards, mesh.nodes[0])
            nursery.start_soon(releases.hurry)
            hurried = AFTERWARDS_VERSIONS * AFTERWARDS_VERSION_SECONDS
            await load.run(rate, hurried + malloc.TRIM_SECONDS + SETTLED_SECONDS)
            nursery.cancel_scope.cancel()
        counts.append(await _counts(node))
    soak.beside, afterwards = (
        {name: round(after[name] - before[name]) for name in after} for before, after in pairwise(counts)
    )
    soak.versions_afterwards = afterwards["versions"]
    return soak


def _figures(soak: Soak, minutes: float) -> dict[str, float | int | str]:
    steady, latencies = soak.after_warm_up(), soak.load.latencies_ms
    at = [one.at / 60 for one in steady]
    rss = [one.rss_mib for one in steady]
    half = len(steady) // 2
    seen = 10 * slope(at, rss)
    of_versions = soak.mib_a_version() * soak.beside["versions"] * 10 / minutes
    return {
        "minutes": minutes,
        "requests_per_second": round(len(latencies) / (60 * minutes), 1),
        "failed": soak.load.failed,
        "median_ms": round(quantile(latencies, 0.5), 1),
        "p99_ms": round(quantile(latencies, 0.99), 1),
        "p99_ms_bar": P99_MS_MAX,
        "processor_ms_a_request": round(1000 * soak.beside["processor_seconds"] / len(latencies), 2),
        "sleeper_p99_ms": round(quantile(soak.sleeper_ms, 0.99), 1),
        "machine_load": round(os.getloadavg()[0], 1),
        "rss_mib": round(steady[-1].rss_mib, 1),
        "rss_mib_a_10_minutes_seen": round(seen, 2),
        "rss_mib_a_10_minutes_first_half": round(10 * slope(at[:half], rss[:half]), 2),
        "rss_mib_a_10_minutes_second_half": round(10 * slope(at[half:], rss[half:]), 2),
        "rss_kib_a_version": round(1024 * soak.mib_a_version(), 1),
        "versions_afterwards": soak.versions_afterwards,
        "rss_mib_a_10_minutes": round(seen - of_versions, 2),
        "rss_mib_a_10_minutes_bar": RSS_MIB_A_10_MINUTES_MAX,
        "descriptors": steady[-1].descriptors,
        "descriptors_a_10_minutes": round(10 * slope(at, [float(one.descriptors) for one in steady]), 2),
        "descriptors_a_10_minutes_bar": DESCRIPTORS_A_10_MINUTES_MAX,
        **soak.beside,
    }


@asynccontextmanager
async def _arranged(mesh: LocalMesh, folder: Path) -> AsyncIterator[tuple[NodeClient, list[str], "Releases"]]:
    """Two nodes that follow two publishers whose plugins change; the first node, and the ids of the sources."""
    publishers = []
    for author in AUTHORS:
        for number in range(PLUGINS):
            _release(folder, author, number, 0)
        publishers.append(await mesh.start_publisher(folder / author, author))
    node = await mesh.start_node(environment=OFTEN)
    other = await mesh.start_node(join=[node.node], environment=OFTEN)
    await mesh.pin_all()
    sources = []
    for author, publisher in zip(AUTHORS, publishers, strict=True):
        expected = {f"{author}-{number:02}": "1.0" for number in range(PLUGINS)}
        while not await offers(publisher, node, author, expected):
            await trio.sleep(0.2)
        for client in (node, other):
            sources.append(await follow(client, publisher, author))
            await client.post("subscribe", {"sourceId": sources[-1]})
    async with trio.open_nursery() as nursery:
        releases = Releases(folder)
        nursery.start_soon(releases.run)
        yield node, sorted(set(sources)), releases
        nursery.cancel_scope.cancel()


class Releases:
    """New versions for ever, of one plugin after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._steps = count(1)

    async def run(self) -> None:
        """One of each author now and then."""
        while True:
            await trio.sleep(NEW_VERSION_SECONDS)
            self._release()

    async def hurry(self) -> None:
        """Many, much faster."""
        for _ in range(AFTERWARDS_VERSIONS):
            await trio.sleep(AFTERWARDS_VERSION_SECONDS)
            self._release()

    def _release(self) -> None:
        step = next(self._steps)
        for author in AUTHORS:
            _release(self._folder, author, step % PLUGINS, step)


def _release(folder: Path, author: str, number: int, step: int) -> None:
    filler = "// " + Random(number * 1000 + step).randbytes(FILLER_BYTES).hex()  # compresses to about FILLER_BYTES
    write_plugin(folder / author, f"{author}-{number:02}", f"1.{step}", filler=filler)


async def _sleep(soak: Soak) -> None:
    while True:
        due = trio.current_time() + 0.05
        await trio.sleep_until(due)
        soak.sleeper_ms.append(1000 * (trio.current_time() - due))


async def _sample(load: Load, samples: list[Sample], node: LocalProcess) -> None:
    assert node.process is not None
    process = Path("/proc") / str(node.process.pid)
    began, seen = trio.current_time(), 0
    while True:
        await trio.sleep(SAMPLE_SECONDS)
        latest, seen = load.latencies_ms[seen:], len(load.latencies_ms)
        pages = int((process / "statm").read_text().split()[1])
        descriptors = sum(1 for _ in (process / "fd").iterdir())
        half, p99 = (quantile(latest, part) for part in (0.5, 0.99))
        samples.append(Sample(trio.current_time() - began, pages * PAGE_MIB, descriptors, half, p99))


async def _counts(node: NodeClient) -> dict[str, float]:
    """What went on in the node beside the requests."""
    reply = await node.outbound.fetch("GET", f"{node.node}/metrics", bytes_max=2**22, seconds_max=30)
    return dict(_counted(reply.body.decode()))


def _counted(text: str) -> Iterator[tuple[str, float]]:
    wanted = {
        "process_cpu_seconds": "processor_seconds",
        "pfn_mesh_messages": "mesh_messages",
        "pfn_syncs": "syncs",
        "pfn_verifications": "verifications",
    }
    for family in text_string_to_metric_families(text):
        if family.name in wanted:
            samples = [sample.value for sample in family.samples if sample.name.endswith("_total")]
            yield wanted[family.name], sum(samples)
        elif family.name == "pfn_store":
            yield "versions", sum(sample.value for sample in family.samples if sample.labels["what"] == "releases")


def quantile(values: list[float], part: float) -> float:
    """The smallest value that so many are not above; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def slope(at: list[float], values: list[float]) -> float:
    """How much the line of least squares rises by one unit of `at`."""
    middle, mean = sum(at) / len(at), sum(values) / len(values)
    spread = sum((x - middle) ** 2 for x in at)
    return sum((x - middle) * (y - mean) for x, y in zip(at, values, strict=True)) / spread if spread else 0.0
