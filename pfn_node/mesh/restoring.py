"""The machine as it was when the node stopped: its announcements streamed out of the database into it."""

import gc
import random
from collections.abc import Sequence
from typing import Final, TypeVar

import sqlite_utils
import structlog
import trio

from pfn_node.settings import Settings
from pfn_node.store import announcements, facts, releases, set_sums
from pfn_node.store import peers as peer_store
from pfn_node.store.database import Database, DatabaseClosed, StoreTrouble, Work
from pfn_node.store.outlasting import AGAIN_SECONDS, note
from pfn_node.store.queries import read_once
from pfn_node.store.rows import Peer
from pfn_protocol.identity import PrivateKey
from pfn_protocol.intake import Accept
from pfn_protocol.mesh import Mesh, MeshOptions, Restored
from pfn_protocol.messages import PeerAddress

T = TypeVar("T")

log = structlog.get_logger()

# A read that fails ends the node at last: without what it said before it may not speak.
READS_MAX: Final = 3
# The young are at most 40,000 objects: of less than half a second, so that few requests outlast it.
_YOUNG_ONLY: Final = (2000, 20, 2**30)


async def identify(key: PrivateKey, settings: Settings, database: Database) -> None:
    """Whose the database is, before anybody asks it; if that has changed, everything is judged anew."""

    def work(db: sqlite_utils.Database) -> None:
        if facts.set_identity(db, key.public, settings.trust_depth):
            releases.refresh_all(db)

    await database.write(work)


async def restore_mesh(
    key: PrivateKey,
    settings: Settings,
    options: MeshOptions,
    database: Database,
    rng: random.Random,
    now_ms: int,
    accept: Accept,
) -> Mesh:
    """The machine; `accept` is its one door."""

    def build(db: sqlite_utils.Database) -> tuple[Mesh, set_sums.RememberedSums]:
        known = peer_store.peers(db)
        sums = set_sums.remembered(db)
        restored = Restored(
            announcements=announcements.restore(db),
            peers=tuple(PeerAddress(peer.node_id, peer.url) for peer in known if peer.url and not peer.blocked),
            introduced=frozenset(peer.node_id for peer in known if peer.introduced),
            pins=pinned(known),
            blocked=blocked(known),
            last=announcements.own_last(db, key.public),
            sum_of=sums.sum_of,
        )
        with read_once(db):
            return Mesh(key, settings.mesh, options, rng, restored, now_ms, accept=accept), sums

    # What is remembered of a million announcements is no garbage, and walking over it stops everything for a second. So
    # meanwhile only what is young is looked at, for requests are answered and leave garbage; and what is old by then
    # never again.
    thresholds = gc.get_threshold()
    gc.set_threshold(*_YOUNG_ONLY)
    try:
        mesh, sums = await _read(database, build)
    finally:
        gc.freeze()
        gc.set_threshold(*thresholds)
    if sums.is_changed:
        await note(database, sums.keep)
    return mesh


async def _read(database: Database, build: Work[T]) -> T:
    """Read a few times before giving up, as a disk may fail for a moment; but what is damaged stays it."""
    for _ in range(READS_MAX - 1):
        try:
            return await database.read(build)
        except DatabaseClosed:
            raise
        except StoreTrouble as error:
            if database.damage is not None:
                raise
            log.error("store_failed", doing="restore", reason=str(error), again_seconds=AGAIN_SECONDS)
        await trio.sleep(AGAIN_SECONDS)
    return await database.read(build)


def pinned(known: Sequence[Peer]) -> tuple[bytes, ...]:
    """The ids of those whose word backs bytes here."""
    return tuple(sorted(peer.node_id for peer in known if peer.pinned and not peer.blocked))


def blocked(known: Sequence[Peer]) -> tuple[bytes, ...]:
    """The ids of those who are not listened to."""
    return tuple(sorted(peer.node_id for peer in known if peer.blocked))
