"""How fast signed announcements are taken in: decode, verify, keep; against PyNaCl's verification alone on one core."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

import msgpack
import sqlite_utils
import trio
from nacl.signing import VerifyKey

from pfn_node.store import announcements, facts
from pfn_node.store.database import Database
from pfn_protocol import acceptance
from pfn_protocol.announcements import AcceptedAnnouncement, VersionStatement
from pfn_protocol.encoding import preimage
from pfn_protocol.identity import PrivateKey

ANNOUNCEMENTS = 5_000
AUTHORS = 20
NOW_MS = 1_800_000_000_000
MESH = "main"


def run() -> dict[str, float | int | str]:
    """Measure; rates are announcements per second."""
    raws = [announcement(number).raw for number in range(ANNOUNCEMENTS)]
    signed = [_signed(raw) for raw in raws]
    raw_seconds = _timed(lambda: _verify_only(signed))
    accept_seconds = _timed(lambda: [acceptance.accept(raw, mesh=MESH, now_ms=NOW_MS + 60_000) for raw in raws])
    accepted = [acceptance.accept(raw, mesh=MESH, now_ms=NOW_MS + 60_000) for raw in raws]
    keep_seconds = trio.run(_keep, accepted)
    return {
        "announcements": ANNOUNCEMENTS,
        "pynacl_verify_per_second": round(ANNOUNCEMENTS / raw_seconds),
        "accept_per_second": round(ANNOUNCEMENTS / accept_seconds),
        "accept_and_keep_per_second": round(ANNOUNCEMENTS / (accept_seconds + keep_seconds)),
        "accept_ratio_to_pynacl": round(raw_seconds / accept_seconds, 3),
        "accept_and_keep_ratio_to_pynacl": round(raw_seconds / (accept_seconds + keep_seconds), 3),
    }


def announcement(number: int) -> AcceptedAnnouncement:
    """One of many versions, by one of a few authors."""
    key = PrivateKey(sha256(f"author {number % AUTHORS}".encode()).digest())
    statement = VersionStatement(
        source_id=f"author-{number % AUTHORS}@plugins.example",
        plugin_id=f"plugin-{number % 1000}",
        version=f"1.{number}.0",
        type="plugin",
        name=f"Plugin {number}",
        description="Keeps two calendars in step.",
        tags=("calendar", "sync"),
        sha256=sha256(str(number).encode()).digest(),
        size=4_821_312,
        observed_at=NOW_MS // 1000,
        evidence=(),
    )
    return acceptance.announce(key, MESH, statement, 0, NOW_MS + number)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _signed(raw: bytes) -> tuple[VerifyKey, bytes, bytes]:
    """What PyNaCl alone would be given of this announcement."""
    _, domain, author, body, signature = msgpack.unpackb(raw)
    return VerifyKey(author), preimage(domain, MESH, body), signature


def _verify_only(signed: list[tuple[VerifyKey, bytes, bytes]]) -> None:
    for key, message, signature in signed:
        key.verify(message, signature)


def _keep_one(one: AcceptedAnnouncement, db: sqlite_utils.Database) -> None:
    announcements.keep(db, one, True, NOW_MS // 1000)


async def _keep(accepted: list[AcceptedAnnouncement]) -> float:
    with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
        database = Database.open(Path(folder) / "node.db")
        async with trio.open_nursery() as nursery:
            await nursery.start(database.run_writer)
            await database.write(lambda db: facts.set_identity(db, bytes(32), 1))
            started = time.perf_counter()
            async with trio.open_nursery() as writes:
                for one in accepted:
                    writes.start_soon(database.write, partial(_keep_one, one))
            seconds = time.perf_counter() - started
            database.close()
    return seconds
