"""A node with workers against the same node without: requests a second, and what one costs the processor.

Two real nodes that mirrored the same plugins: one answers everything itself, the other has `--workers`. Each round
asks both in turn, with the same client in a process of its own. On a machine with few processors the client needs one
of them, and so what a worker adds is little; the processor time of a request says what sharing costs, which is the same
however busy the machine is.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Final
from urllib.parse import quote, urlsplit

import trio

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess, local_mesh
from tests.benchmarks.serve import get
from tests.benchmarks.serving_processes import ServerProcess
from tests.child_processes import workers_of
from tests.end_to_end.conftest import eventually, follow, offers
from tests.end_to_end.plugins import write_plugin

WORKERS: Final = 2
PLUGINS: Final = 30
LARGE: Final = "large"
LARGE_BYTES: Final = 1_000_000
CONNECTIONS: Final = 16
SECONDS: Final = 1.0
ROUNDS: Final = 7
# No question comes back before what was kept of the first is too old.
SPELLINGS: Final = 20_000
AUTHOR: Final = "bench"

Row = dict[str, float | int | str]


@dataclass(frozen=True, slots=True)
class _Node:
    processes: list[ServerProcess]
    port: int
    requests: dict[str, list[str]]

    def processor_seconds(self) -> list[float]:
        """What each process has used up so far."""
        return [process.processor_seconds() for process in self.processes]


@dataclass(frozen=True, slots=True)
class _Took:
    per_second: float
    processor_us: float  # of one request, all processes together
    most: float  # the part of it that the busiest process had


def run(workers: int = WORKERS) -> list[Row]:
    """Measure; -> a row for each kind of request."""
    with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
        return trio.run(_measure, Path(folder), workers)


async def _measure(folder: Path, workers: int) -> list[Row]:
    async with local_mesh(folder / "mesh") as mesh:
        publisher = await _publisher(mesh, folder / "plugins")
        alone = await mesh.start_node()
        shared = await mesh.start_node("--workers", str(workers))
        one = await _mirrored(alone, publisher, mesh.nodes[0])
        several = await _mirrored(shared, publisher, mesh.nodes[1])
        return await trio.to_thread.run_sync(_compare, one, several, workers)


async def _publisher(mesh: LocalMesh, plugins: Path) -> LocalProcess:
    for number in range(PLUGINS):
        write_plugin(plugins, f"plugin-{number:02}", "1.0")
    write_plugin(plugins, LARGE, "1.0")
    (plugins / LARGE / "noise.dat").write_bytes(Random(1).randbytes(LARGE_BYTES))
    return await mesh.start_publisher(plugins, AUTHOR)


async def _mirrored(client: NodeClient, publisher: LocalProcess, process: LocalProcess) -> _Node:
    names = [f"plugin-{number:02}" for number in range(PLUGINS)]
    await eventually(lambda: offers(publisher, client, AUTHOR, dict.fromkeys([*names, LARGE], "1.0")))
    source = await follow(client, publisher, AUTHOR)
    answer = await client.post("subscribe", {"sourceId": source})
    assert answer["syncResult"]["mirroredCount"] == PLUGINS + 1, answer
    port = urlsplit(client.node).port
    assert process.process is not None and port is not None
    pid = process.process.pid
    pids = [pid, *workers_of(pid)]
    download = client.url("download", sourceId=source, plugin=LARGE).removeprefix(client.node)
    plugin = f"/federation/plugins/{quote(source)}/plugin-00"
    requests = {
        "cached": [get("/federation/plugins")],
        "dynamic": [get(f"{plugin}?spelling={number}") for number in range(SPELLINGS)],
        "download of 1 MB": [get(download)],
    }
    return _Node([ServerProcess(one, port) for one in pids], port, requests)


def _compare(alone: _Node, shared: _Node, workers: int) -> list[Row]:
    return [
        _row(kind, workers, [(_ask(alone, kind), _ask(shared, kind)) for _ in range(ROUNDS)]) for kind in alone.requests
    ]


def _ask(node: _Node, kind: str) -> _Took:
    asked = {
        "host": "127.0.0.1",
        "port": node.port,
        "connections": CONNECTIONS,
        "seconds": SECONDS,
        "requests": node.requests[kind],
        "status": 200,
    }
    before = node.processor_seconds()
    client = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.load"],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    time.sleep(0.1)  # what ended connections cost
    used = [after - before for after, before in zip(node.processor_seconds(), before, strict=True)]
    answer = json.loads(client.stdout)
    return _Took(
        answer["answered"] / answer["seconds"], 1e6 * sum(used) / answer["answered"], max(used) / max(sum(used), 0.01)
    )


def _row(kind: str, workers: int, rounds: list[tuple[_Took, _Took]]) -> Row:
    return {
        "request": kind,
        "workers": workers,
        "alone_per_second": round(median(alone.per_second for alone, _ in rounds)),
        "per_second": round(median(shared.per_second for _, shared in rounds)),
        "ratio": round(median(shared.per_second / alone.per_second for alone, shared in rounds), 2),
        "alone_processor_us": round(median(alone.processor_us for alone, _ in rounds)),
        "processor_us": round(median(shared.processor_us for _, shared in rounds)),
        "busiest_part": round(median(shared.most for _, shared in rounds), 2),
    }
