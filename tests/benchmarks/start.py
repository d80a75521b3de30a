"""How long a node with very many kept announcements takes to start, and what memory that takes: the real process.

It is ready for consumers when it has printed its address. It counts as started when a neighbour that has just linked
got the first page of the set, too. The folder was made by no node, so the first start adds up the ids of all authors;
the bar is for the second, which knows these sums (store/set_sums.py).
"""

import os
import tempfile
import time
from pathlib import Path

import trio

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess, local_mesh
from pfn_node.data_folder import open_data_folder
from pfn_node.mesh.peer_client import PeerClient
from pfn_node.outbound import Outbound
from pfn_node.settings import Settings
from pfn_node.store.database import Database
from pfn_protocol.identity import PrivateKey
from pfn_protocol.messages import LinkRequest, RefusedAnswer, SnapshotAnswer, SnapshotRequest
from tests.benchmarks.large_set import fill
from tests.benchmarks.neighbours import MESH, author_key

ANNOUNCEMENTS = 1_000_000
SECONDS_MAX = 10.0
MEMORY_MB_MAX = 600
ANSWER_SECONDS_MAX = 120.0


def run(announcements: int = ANNOUNCEMENTS) -> dict[str, float | int | str]:
    """Measure, after the folder was read once: as after a restart, not after a boot."""
    with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
        return trio.run(_measure, Path(folder), announcements)


async def prepare(data: Path, announcements: int) -> None:
    """A data folder with so many announcements."""
    with open_data_folder(Settings(data=data)) as folder:
        database = Database.open(folder.database)
        async with trio.open_nursery() as nursery:
            await nursery.start(database.run_writer)
            await fill(database, folder.key, announcements)
            database.close()


async def _measure(folder: Path, announcements: int) -> dict[str, float | int | str]:
    began = time.perf_counter()
    await prepare(folder / "node-a", announcements)
    prepared = time.perf_counter() - began
    async with local_mesh(folder) as mesh:
        node = mesh._add_node((), (), None)
        first = await _start(mesh, node)
        await node.stop()
        again = await _start(mesh, node)
    return {
        "announcements": announcements,
        **{f"first_{name}": value for name, value in first.items()},
        **again,
        "bar_seconds": SECONDS_MAX,
        "bar_mb": MEMORY_MB_MAX,
        "prepared_in_seconds": round(prepared),
        "load": round(os.getloadavg()[0], 1),
    }


async def _start(mesh: LocalMesh, node: LocalProcess) -> dict[str, float | int]:
    before = time.perf_counter()
    await node.start()
    listening = time.perf_counter() - before
    await NodeClient(mesh.outbound, node.url, None).get("plugins?limit=20")
    read = time.perf_counter() - before
    page = await first_page(mesh.outbound, node)
    ready = time.perf_counter() - before
    processor, peak = costs(node)
    return {
        "listening_seconds": round(listening, 2),
        "read_seconds": round(read, 2),
        "ready_seconds": round(ready, 2),
        "processor_seconds": round(processor, 2),
        "memory_mb_peak": peak,
        "first_page": page,
    }


async def first_page(outbound: Outbound, node: LocalProcess) -> int:
    """How many announcements a node that it knows gets with the first page."""
    client = PeerClient(outbound, author_key(0), MESH, lambda: int(time.time() * 1000))
    me = PrivateKey.from_pem((node.folder / node.name / "node.key").read_text()).public
    asked = trio.current_time()
    while isinstance(
        (await client.send(me, node.url, LinkRequest("", (), ()), ANSWER_SECONDS_MAX)).answer, RefusedAnswer
    ):
        assert trio.current_time() - asked < ANSWER_SECONDS_MAX, "it takes no part in the mesh"
    answer = (await client.send(me, node.url, SnapshotRequest(b"", b""), ANSWER_SECONDS_MAX)).answer
    assert isinstance(answer, SnapshotAnswer) and answer.announcements, answer
    return len(answer.announcements)


def costs(node: LocalProcess) -> tuple[float, int]:
    """Processor time so far in seconds, and the most memory that was in use, in megabytes."""
    assert node.process is not None
    stat = Path(f"/proc/{node.process.pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK"), int(peak.split()[1]) // 1024
