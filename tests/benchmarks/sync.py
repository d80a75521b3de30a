"""How long mirroring takes, everything checked and kept durably, against curl fetching the same files and no more.

Both take turns at the same publisher, `pfn publisher serve`, in the same run; every sync is of a node that has nothing
yet. Beside the ratio: the time per plugin, and the processor time of the node for it and of the publisher for a file
that curl fetches.
"""

import os
import subprocess
import tempfile
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter

import trio
from prometheus_client.parser import text_string_to_metric_families

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess, local_mesh
from pfn_node.publisher.packing import list_files, pack
from tests.end_to_end.conftest import follow, offers
from tests.end_to_end.plugins import write_plugin

FILLER_BYTES = 100_000
AUTHOR = "bench"
# How many plugins, and how often: few of them say nothing about the rate, many of them nothing about the beginning.
ROUNDS = {50: 5, 1000: 3}
RATIO_MIN = 0.5
SECONDS_MAX_OF_50 = 0.6
CURL_AT_ONCE = 50  # curl's own default


def run() -> list[dict[str, float | int | str]]:
    """Measure; one row for each number of plugins."""
    rows = []
    for plugins, rounds in ROUNDS.items():
        with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
            rows.append(trio.run(_measure, Path(folder), plugins, rounds))
    return rows


async def _measure(folder: Path, plugins: int, rounds: int) -> dict[str, float | int | str]:
    fetched, synced, worked, served = [], [], [], []
    listing = {f"plugin-{number:04}": "1.0" for number in range(plugins)}
    _write_zips(folder / "zips", list(listing))
    (folder / "none").mkdir()
    (folder / "plugins").symlink_to(folder / "none")
    async with local_mesh(folder) as mesh:
        publisher = await mesh.start_publisher(folder / "plugins", AUTHOR)
        # All at once: after a look that found much to read, the publisher leaves its folder alone for long.
        (folder / "next").symlink_to(folder / "zips")
        (folder / "next").replace(folder / "plugins")
        watching = await mesh.start_node()
        while not await offers(publisher, watching, AUTHOR, listing):
            await trio.sleep(0.1)
        for number in range(rounds):
            before = _processor_seconds_of(publisher)
            fetched.append(await trio.to_thread.run_sync(_curl, publisher, list(listing), folder / f"curl-{number}"))
            served.append(_processor_seconds_of(publisher) - before)
            seconds, processor = await _sync(mesh, publisher, plugins)
            synced.append(seconds)
            worked.append(processor)
    ratio = median(curl / sync for curl, sync in zip(fetched, synced, strict=True))
    return {
        "plugins": plugins,
        "sync_seconds": round(median(synced), 3),
        "sync_seconds_bar": SECONDS_MAX_OF_50 if plugins == min(ROUNDS) else "",
        "curl_seconds": round(median(fetched), 3),
        "ratio_to_curl": round(ratio, 3),
        "ratio_bar": RATIO_MIN if plugins == max(ROUNDS) else "",
        "milliseconds_a_plugin": round(1000 * median(synced) / plugins, 2),
        "processor_milliseconds_a_plugin": round(1000 * median(worked) / plugins, 2),
        "publishers_processor_milliseconds_a_file": round(1000 * median(served) / plugins, 2),
    }


def _write_zips(folder: Path, slugs: list[str]) -> None:
    folder.mkdir()
    drafts = folder.with_name("drafts")
    for number, slug in enumerate(slugs):
        filler = "// " + Random(number).randbytes(FILLER_BYTES).hex()  # compresses to about FILLER_BYTES
        write_plugin(drafts, slug, "1.0", filler=filler)
        with (folder / f"{slug}.zip").open("wb") as file:
            pack(list_files(drafts / slug), slug, file)


async def _sync(mesh: LocalMesh, publisher: LocalProcess, plugins: int) -> tuple[float, float]:
    """Have a new node mirror everything; seconds, and of the node's processor."""
    node = await mesh.start_node(environment={"PFN_SOURCE_PLUGINS_MAX": str(plugins)})
    source = await follow(node, publisher, AUTHOR)
    worked = await _processor_seconds(node)
    started = perf_counter()
    answer = (await node.post("subscribe", {"sourceId": source}))["syncResult"]
    while answer.get("running"):  # it answers before a proxy would give up
        answer = (await node.post("subscribe", {"sourceId": source}))["syncResult"]
    seconds = perf_counter() - started
    assert answer["mirroredCount"] == plugins, f"{answer['mirroredCount']} of {plugins}: {answer.get('skipped')}"
    worked = await _processor_seconds(node) - worked
    await mesh.nodes[-1].stop()
    return seconds, worked


async def _processor_seconds(node: NodeClient) -> float:
    reply = await node.outbound.fetch("GET", f"{node.node}/metrics", bytes_max=2**22, seconds_max=10)
    return next(
        sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
        if sample.name == "process_cpu_seconds_total"
    )


def _processor_seconds_of(process: LocalProcess) -> float:
    assert process.process is not None, "it was started"
    fields = Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user, system


def _curl(publisher: LocalProcess, slugs: list[str], folder: Path) -> float:
    """Fetch the same files at once and keep them as files, undurably; seconds."""
    folder.mkdir()
    orders = folder / "orders"
    url = f"{publisher.url}/federated/download?author={AUTHOR}&version=1.0&slug="
    orders.write_text("".join(f'url = "{url}{slug}"\noutput = "{folder}/{slug}.zip"\n' for slug in slugs))
    command = ["curl", "--parallel", "--parallel-max", str(CURL_AT_ONCE), "--fail", "--silent", "--config", str(orders)]
    started = perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)  # it draws bars
    seconds = perf_counter() - started
    assert sum(file.stat().st_size > FILLER_BYTES for file in folder.glob("*.zip")) == len(slugs)
    return seconds
