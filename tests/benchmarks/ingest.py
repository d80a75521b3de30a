"""How fast an empty node takes in signed announcements: decode, verify, keep; against PyNaCl's verification alone.

The node's engine is as in production, with its database on the disk; three neighbours fill it (neighbours.py). PyNaCl's
rate is of one core and the engine may use two, so what one second of processor time takes in stands beside it. Both are
measured in turn, and the medians compared. What was kept is concluded afterwards (mesh/concluding.py): until then the
catalogue does not show it. That is measured apart.
"""

import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgpack
import sqlite_utils
import trio
from nacl.signing import VerifyKey

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.mesh.engine import Engine
from pfn_node.settings import Settings
from pfn_node.store import announcements, concluding, facts, peers
from pfn_node.store.database import Database
from pfn_protocol.encoding import preimage
from pfn_protocol.identity import PrivateKey
from tests.benchmarks.neighbours import MESH, Neighbour, WayToNeighbours, version_announcement

ANNOUNCEMENTS = 20_000
AUTHORS = 20
PLUGINS = 4_000
NEIGHBOURS = 3
ROUNDS = 3
BAR = 0.70
ME = PrivateKey(bytes(32))
POLL_SECONDS = 0.005


@dataclass
class Taken:
    """What one node took, in seconds."""

    wall: float = 0.0
    processor: float = 0.0
    neighbours: float = 0.0  # the part of it that the neighbours had
    concluded: float = 0.0


def run() -> dict[str, float | int | str]:
    """Measure; rates are announcements per second."""
    now_ms = int(time.time() * 1000) - 3_600_000
    told = [version_announcement(number, AUTHORS, PLUGINS, now_ms) for number in range(ANNOUNCEMENTS)]
    neighbours = [Neighbour(f"n{n}", f"http://n{n}.test", told, now_ms) for n in range(NEIGHBOURS)]
    sample = [signed(one.raw) for one in told[: ANNOUNCEMENTS // 4]]
    alone: list[float] = []
    alone_processor: list[float] = []
    taken: list[Taken] = []
    for _ in range(ROUNDS):
        started, used = time.perf_counter(), time.process_time()
        verify_only(sample)
        alone.append(len(sample) / (time.perf_counter() - started))
        alone_processor.append(len(sample) / (time.process_time() - used))
        with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
            taken.append(trio.run(_take_in, Path(folder), neighbours))
    processor = [ANNOUNCEMENTS / one.processor for one in taken]
    rates = [ANNOUNCEMENTS / one.wall for one in taken]
    return {
        "announcements": ANNOUNCEMENTS,
        "neighbours": NEIGHBOURS,
        "rounds": ROUNDS,
        "pynacl_verify_per_second_one_core": round(median(alone)),
        "pynacl_verify_per_processor_second": round(median(alone_processor)),
        "kept_per_second": round(median(rates)),
        "kept_per_processor_second": round(median(processor)),
        "kept_per_processor_second_without_the_neighbours": round(
            median(ANNOUNCEMENTS / (one.processor - one.neighbours) for one in taken)
        ),
        "kept_ratio_to_pynacl": round(median(rate / by for rate, by in zip(rates, alone, strict=True)), 3),
        "bar": BAR,
        # What two cores could do at most, if all of it ran on both at once and nothing else did.
        "kept_ratio_to_pynacl_of_two_idle_cores": round(
            median(2 * each / by for each, by in zip(processor, alone_processor, strict=True)), 3
        ),
        "concluded_per_second": round(median(ANNOUNCEMENTS / one.concluded for one in taken)),
        "kept_and_concluded_per_second": round(median(ANNOUNCEMENTS / (one.wall + one.concluded) for one in taken)),
    }


def signed(raw: bytes) -> tuple[VerifyKey, bytes, bytes]:
    """What PyNaCl alone would be given of this announcement."""
    _, domain, author, body, signature = msgpack.unpackb(raw)
    return VerifyKey(author), preimage(domain, MESH, body), signature


def verify_only(signed: Sequence[tuple[VerifyKey, bytes, bytes]]) -> None:
    for key, message, signature in signed:
        key.verify(message, signature)


async def _take_in(folder: Path, neighbours: Sequence[Neighbour]) -> Taken:
    """From the first page that the node asks for, until everything is kept; then until all is concluded."""
    begun: list[tuple[float, float, float]] = []

    def asked(path: str) -> None:
        if path == "snapshot" and not begun:
            begun.append((time.perf_counter(), time.process_time(), way.spent))

    database = Database.open(folder / "node.db")
    artifacts = Artifacts(folder / "artifacts", 2**20)
    artifacts.start()
    join = tuple(neighbour.url for neighbour in neighbours)
    settings = Settings(data=folder, join=join, allow_private_networks=True)
    way = WayToNeighbours(neighbours, asked)
    engine = Engine(ME, settings, database, artifacts, way, "http://me.test", random.Random(1))
    taken = Taken()
    async with trio.open_nursery() as nursery:
        await nursery.start(database.run_writer)
        await database.write(lambda db: _know(db, neighbours))
        await nursery.start(engine.run)
        while _announcements(engine) < ANNOUNCEMENTS:
            await trio.sleep(POLL_SECONDS)
        wall, processor, spent = begun[0]
        taken.wall, taken.processor = time.perf_counter() - wall, time.process_time() - processor
        taken.neighbours = way.spent - spent
        started = time.perf_counter()
        while await database.read(concluding.waiting):
            await trio.sleep(POLL_SECONDS)
        taken.concluded = time.perf_counter() - started
        await engine.shutdown()
        database.close()
        nursery.cancel_scope.cancel()
    return taken


def _know(db: sqlite_utils.Database, neighbours: Sequence[Neighbour]) -> None:
    """The node knows already whom its neighbours pin, so it admits the authors from the start."""
    facts.set_identity(db, ME.public, 1)
    for neighbour in neighbours:
        assert neighbour.said is not None, "it announced itself"
        peers.pin_on_join(db, neighbour.key.public, False, int(time.time()))
        announcements.keep(db, neighbour.said, True, int(time.time()))


def _announcements(engine: Engine) -> int:
    known = engine.status().get("announcements", 0)
    assert isinstance(known, int)
    return known
