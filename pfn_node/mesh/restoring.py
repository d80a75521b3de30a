"""The machine as it was when the node stopped: its announcements streamed out of the database into it."""

import random
from collections.abc import Iterable, Iterator, Sequence

import sqlite_utils

from pfn_node.artifacts import Artifacts
from pfn_node.settings import Settings
from pfn_node.store import announcements, facts, releases
from pfn_node.store import peers as peer_store
from pfn_node.store.database import Database
from pfn_node.store.rows import Peer
from pfn_protocol.announcements import AcceptedAnnouncement, VersionStatement
from pfn_protocol.identity import PrivateKey
from pfn_protocol.intake import Accept
from pfn_protocol.mesh import Mesh, MeshOptions, Restored
from pfn_protocol.messages import PeerAddress


async def restore_mesh(
    key: PrivateKey,
    settings: Settings,
    options: MeshOptions,
    database: Database,
    artifacts: Artifacts,
    rng: random.Random,
    now_ms: int,
    accept: Accept,
) -> tuple[Mesh, list[bytes]]:
    """The machine, and the ids of versions of which a signed text is not here (yet). `accept` is its one door."""
    texts_missing: list[bytes] = []

    def identify(db: sqlite_utils.Database) -> None:
        if facts.set_identity(db, key.public, settings.trust_depth):
            releases.refresh_all(db)

    def noting(restored: Iterable[tuple[AcceptedAnnouncement, bool]]) -> Iterator[tuple[AcceptedAnnouncement, bool]]:
        for announcement, admitted in restored:
            if admitted and _lacks_text(announcement, artifacts):
                texts_missing.append(announcement.id)
            yield announcement, admitted

    def build(db: sqlite_utils.Database) -> Mesh:
        known = peer_store.peers(db)
        restored = Restored(
            announcements=noting(announcements.restore(db)),
            peers=tuple(PeerAddress(peer.node_id, peer.url) for peer in known if peer.url and not peer.blocked),
            introduced=frozenset(peer.node_id for peer in known if peer.introduced),
            pins=pinned(known),
            blocked=blocked(known),
            last=announcements.own_last(db, key.public),
        )
        return Mesh(key, settings.mesh, options, rng, restored, now_ms, accept=accept)

    await database.write(identify)
    return await database.read(build), texts_missing


def _lacks_text(announcement: AcceptedAnnouncement, artifacts: Artifacts) -> bool:
    statement = announcement.statement
    return isinstance(statement, VersionStatement) and any(
        piece.text_sha256 and not artifacts.has(piece.text_sha256) for piece in statement.evidence
    )


def pinned(known: Sequence[Peer]) -> tuple[bytes, ...]:
    """The ids of those whose word backs bytes here."""
    return tuple(sorted(peer.node_id for peer in known if peer.pinned and not peer.blocked))


def blocked(known: Sequence[Peer]) -> tuple[bytes, ...]:
    """The ids of those who are not listened to."""
    return tuple(sorted(peer.node_id for peer in known if peer.blocked))
