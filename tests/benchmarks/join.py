"""How fast an empty node that joins a full one is filled, and how it goes on after a kill -9 in the middle.

Both are real processes, on this machine. It is filled when its digest is the full node's. Beside it stands what nobody
can do without, in the same run: PyNaCl's verification alone, of announcements like these, on one core; and what the
same costs whoever trusts a copy: `pfn backup` of the full node and `pfn restore`.
"""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import trio

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess, local_mesh
from pfn_node.maintenance.backup import make_backup
from pfn_node.maintenance.restore import restore_backup
from tests.benchmarks.ingest import signed, verify_only
from tests.benchmarks.large_set import AUTHORS, PLUGINS
from tests.benchmarks.neighbours import version_announcement
from tests.benchmarks.start import costs, prepare

ANNOUNCEMENTS = 20_000
KILLED_AT = 0.5  # of all
VERIFIED = 4_000
LOOK_SECONDS = 0.5
SECONDS_MAX = 7_200.0


@dataclass
class Filling:
    """The newcomer from one start to its kill, or to the end. Seconds, and counts of announcements."""

    ready: float  # since the process was started, as the next three
    read: float  # what it had
    began: float  # until more came in than it had
    ended: float
    had: int
    held: int
    told: int  # how often it was asked how far it was, and knew
    asked: int
    processor: float
    others_processor: float  # of the full node
    peak_mb: int

    @property
    def rate(self) -> float:
        return (self.held - self.had) / (self.ended - self.ready)


def run(announcements: int = ANNOUNCEMENTS) -> dict[str, float | int | str]:
    """Measure one join with one kill."""
    with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
        trio.run(prepare, Path(folder) / "node-a", announcements)
        return trio.run(measure, Path(folder), announcements)


async def measure(folder: Path, announcements: int) -> dict[str, float | int | str]:
    """Measure, with a full node's data in `node-a` of the folder."""
    verified = [_verified_per_second()]
    async with local_mesh(folder) as mesh:
        full = await mesh.start_node()
        others_peak = costs(mesh.nodes[0])[1]
        newcomer = mesh._add_node((), [full.node], None)
        before = await _fill(mesh, newcomer, full, until=int(KILLED_AT * announcements))
        await newcomer.kill()
        verified.append(_verified_per_second())
        after = await _fill(mesh, newcomer, full, until=None)
        waiting = (await _mesh_status(NodeClient(mesh.outbound, newcomer.url, None)))["to_conclude"]
        others_peak, others_before = costs(mesh.nodes[0])[1], others_peak
    verified.append(_verified_per_second())
    copied, restored = _copy(folder)
    seconds = (before.ended - before.ready) + (after.ended - after.ready)
    rate, alone = (after.held - before.had) / seconds, median(verified)
    processor = before.processor + after.processor
    return {
        "announcements": announcements,
        "pynacl_verify_per_second_one_core": round(alone),
        "kept_per_second_before_the_kill": round(before.rate),
        "kept_per_second_after_the_kill": round(after.rate),
        "kept_ratio_to_pynacl": round(rate / alone, 3),
        "processor_us_per_announcement": round(1e6 * processor / after.held, 1),
        "processor_us_per_announcement_of_the_full_node": round(
            1e6 * (before.others_processor + after.others_processor) / after.held, 1
        ),
        "killed_at": before.held,
        "had_when_started_again": after.had,
        "ready_again_seconds": round(after.ready, 2),
        "read_again_seconds": round(after.read, 2),
        "went_on_after_ready_seconds": round(after.began - after.ready, 2),
        "same_digest_after_the_restart_seconds": round(after.ended, 1),
        "filled_in_seconds": round(seconds, 1),
        "told_how_far_before_the_kill": f"{before.told} of {before.asked} times",
        "told_how_far_after_the_kill": f"{after.told} of {after.asked} times",
        "not_shown_yet": waiting,
        "memory_mb_peak": max(before.peak_mb, after.peak_mb),
        "memory_mb_peak_of_the_full_node": others_peak,
        "memory_mb_of_the_full_node_before": others_before,
        "backup_seconds": round(copied, 1),
        "restore_seconds": round(restored, 1),
        "load": round(os.getloadavg()[0], 1),
    }


async def _fill(mesh: LocalMesh, newcomer: LocalProcess, full: NodeClient, *, until: int | None) -> Filling:
    """Start the newcomer, and look at it until it has so many announcements, or the full node's digest."""

    async def is_there() -> bool:
        if until is not None:
            return int(status["announcements"]) >= until
        return bool(status["digest"] == (await _mesh_status(full))["digest"])

    others_before, started = costs(mesh.nodes[0])[0], time.perf_counter()
    await newcomer.start()
    ready = time.perf_counter() - started
    client = NodeClient(mesh.outbound, newcomer.url, None)
    status = await _mesh_status(client)
    read = time.perf_counter() - started
    had, began, told, asked = status["announcements"], 0.0, 0, 0
    with trio.fail_after(SECONDS_MAX):
        while not await is_there():
            await trio.sleep(LOOK_SECONDS)
            status = await _mesh_status(client)
            asked, told = asked + 1, told + (status["filling"] is not None)
            began = began or (time.perf_counter() - started if status["announcements"] > had else 0.0)
    ended = time.perf_counter() - started
    processor, peak = costs(newcomer)
    others = costs(mesh.nodes[0])[0] - others_before
    return Filling(ready, read, began, ended, had, status["announcements"], told, asked, processor, others, peak)


async def _mesh_status(client: NodeClient) -> dict[str, Any]:
    """Once it has read what it kept."""
    while (status := (await client.get("health"))["mesh"])["reading"]:
        await trio.sleep(LOOK_SECONDS)
    return dict(status)


def _verified_per_second() -> float:
    at_ms = int(time.time() * 1000)
    told = [signed(version_announcement(number, AUTHORS, PLUGINS, at_ms).raw) for number in range(VERIFIED)]
    started = time.perf_counter()
    verify_only(told)
    return VERIFIED / (time.perf_counter() - started)


def _copy(folder: Path) -> tuple[float, float]:
    """Seconds that a backup of the full node takes, and to make a data folder of it again."""
    started = time.perf_counter()
    make_backup(folder / "node-a", folder / "backup")
    copied = time.perf_counter()
    restore_backup(folder / "backup", folder / "restored")
    return copied - started, time.perf_counter() - copied
