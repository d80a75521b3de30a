"""How long mirroring takes, everything checked and kept durably, against downloading the same files and no more."""

import json
import tempfile
from pathlib import Path
from random import Random
from time import perf_counter

import trio

from pfn_node.cli.local_mesh import LocalMesh, local_mesh
from tests.end_to_end.conftest import follow, offers
from tests.end_to_end.plugins import write_plugin

PLUGINS = 50
FILLER_BYTES = 100_000
AUTHOR = "bench"
AT_ONCE = 4  # what a node allows itself per host


def run() -> dict[str, float | int | str]:
    """Measure; seconds of one subscription, and of the plain downloads."""
    with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
        return trio.run(_measure, Path(folder))


async def _measure(folder: Path) -> dict[str, float | int | str]:
    plugins = folder / "plugins"
    for number in range(PLUGINS):
        filler = "// " + Random(number).randbytes(FILLER_BYTES).hex()  # compresses to about FILLER_BYTES
        write_plugin(plugins, f"plugin-{number:03}", "1.0", filler=filler)
    async with local_mesh(folder) as mesh:
        publisher = await mesh.start_publisher(plugins, AUTHOR)
        node = await mesh.start_node()
        while not await offers(publisher, node, AUTHOR, {f"plugin-{n:03}": "1.0" for n in range(PLUGINS)}):
            await trio.sleep(0.1)
        plain = await _download_all(mesh, publisher.url)
        source = await follow(node, publisher, AUTHOR)
        started = perf_counter()
        answer = await node.post("subscribe", {"sourceId": source})
        seconds = perf_counter() - started
    return {
        "plugins": answer["syncResult"]["mirroredCount"],
        "mirror_seconds": round(seconds, 3),
        "plain_download_seconds": round(plain, 3),
        "ratio_to_plain_download": round(plain / seconds, 3),
    }


async def _download_all(mesh: LocalMesh, url: str) -> float:
    listing = await mesh.outbound.fetch("GET", f"{url}/author-data?author={AUTHOR}", bytes_max=2**24, seconds_max=10)
    slugs = [entry["slug"] for entry in json.loads(listing.body)["plugins"]]
    limiter = trio.CapacityLimiter(AT_ONCE)

    async def download(slug: str) -> None:
        async with limiter:
            call = f"{url}/federated/download?author={AUTHOR}&slug={slug}&version=1.0"
            await mesh.outbound.fetch("GET", call, bytes_max=2**24, seconds_max=60)

    started = perf_counter()
    async with trio.open_nursery() as nursery:
        for slug in slugs:
            nursery.start_soon(download, slug)
    return perf_counter() - started
