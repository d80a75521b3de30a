"""The machine as it was when the node stopped: its announcements streamed out of the database into it."""

import gc
import random
from collections.abc import Sequence
from contextlib import suppress

import sqlite_utils

from pfn_node.settings import Settings
from pfn_node.store import announcements, facts, releases, set_sums
from pfn_node.store import peers as peer_store
from pfn_node.store.database import Database, StoreError
from pfn_node.store.queries import read_once
from pfn_node.store.rows import Peer
from pfn_protocol.identity import PrivateKey
from pfn_protocol.intake import Accept
from pfn_protocol.mesh import Mesh, MeshOptions, Restored
from pfn_protocol.messages import PeerAddress


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

    # What is remembered of a million announcements is no garbage, and walking over it takes a second each time. Once it
    # is done: requests are answered meanwhile, and what they leave is not to be kept for ever.
    gc.disable()
    try:
        mesh, sums = await database.read(build)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()
    if sums.is_changed:
        with suppress(StoreError):  # then the next start adds up again
            await database.write(sums.keep)
    return mesh


def pinned(known: Sequence[Peer]) -> tuple[bytes, ...]:
    """The ids of those whose word backs bytes here."""
    return tuple(sorted(peer.node_id for peer in known if peer.pinned and not peer.blocked))


def blocked(known: Sequence[Peer]) -> tuple[bytes, ...]:
    """The ids of those who are not listened to."""
    return tuple(sorted(peer.node_id for peer in known if peer.blocked))
