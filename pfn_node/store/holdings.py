"""What this node holds and saw itself, source by source: what the room of sources asks before it speaks."""

import json
from typing import Final

import sqlite_utils

from pfn_node.store.queries import Row, select, value
from pfn_node.store.rows import Listed, Source
from pfn_node.store.sources import source_from

# Sources that share one key; more than these would change nothing about the conflict.
SHARING_MAX: Final = 100
# What a page can say about one source; beyond it the figures are at least these.
LISTED_MAX: Final = 20_000


def sources_with_key(db: sqlite_utils.Database, public_key: bytes) -> list[Source]:
    """Return the sources, discovered ones too, that have this public key (32 bytes)."""
    rows = select(db, "SELECT * FROM known_sources WHERE key_raw = ? ORDER BY id LIMIT ?", (public_key, SHARING_MAX))
    return [source_from(row) for row in rows]


def held_digests(db: sqlite_utils.Database, source_id: str) -> list[bytes]:
    """Return the sha256 of the source's artifacts that are kept here, in ascending order, none twice.

    What only lies in the cache may go at any time, and is nothing to promise to others.
    """
    rows = select(
        db,
        """
        SELECT DISTINCT releases.sha256 FROM releases JOIN artifacts ON artifacts.sha256 = releases.sha256
        WHERE source_id = ? AND mirrored AND NOT cached ORDER BY releases.sha256
        """,
        (source_id,),
    )
    return [row["sha256"] for row in rows]


def is_kept(db: sqlite_utils.Database, sha256: bytes) -> bool:
    """Return whether it is noted that these bytes are here to stay."""
    return value(db, "SELECT 1 FROM artifacts WHERE sha256 = ? AND NOT cached", (sha256,)) is not None


def is_of_another(db: sqlite_utils.Database, sha256: bytes, source_id: str) -> bool:
    """Return whether these bytes are a release of another source as well."""
    found = value(db, "SELECT 1 FROM releases WHERE sha256 = ? AND source_id <> ? LIMIT 1", (sha256, source_id))
    return found is not None


def sources_with_holdings(db: sqlite_utils.Database) -> list[str]:
    """Return the ids of the sources of which at least one artifact is here."""
    return [row["source_id"] for row in select(db, "SELECT DISTINCT source_id FROM releases WHERE mirrored ORDER BY 1")]


def assurances_seen_by(db: sqlite_utils.Database, source_id: str, observer: bytes) -> list[str]:
    """Return the assurance level of each release of the source whose bytes `observer` saw at the publisher."""
    rows = select(
        db,
        """
        SELECT assurance FROM releases WHERE source_id = ? AND backed AND EXISTS (
            SELECT 1 FROM observations WHERE observations.source_id = releases.source_id
              AND observations.plugin_id = releases.plugin_id AND observations.version = releases.version
              AND observations.sha256 = releases.sha256 AND observer = ?)
        """,
        (source_id, observer),
    )
    return [row["assurance"] for row in rows]


def pinned_witnesses(db: sqlite_utils.Database, source_id: str, plugin_id: str, version: str, sha256: bytes) -> int:
    """Return how many directly pinned nodes announce this digest of a release."""
    return int(
        value(
            db,
            """
            SELECT count(*) FROM observations JOIN peers ON peers.node_id = observations.observer
            WHERE source_id = ? AND plugin_id = ? AND version = ? AND sha256 = ?
              AND announcement_id IS NOT NULL AND admitted AND pinned AND NOT blocked
            """,
            (source_id, plugin_id, version, sha256),
        )
    )


def listed_of(db: sqlite_utils.Database, source_id: str) -> list[Listed]:
    """Return the versions of the source's plugins that are known here."""
    return [
        _listed_from(row)
        for row in select(
            db,
            "SELECT plugin_id, version, name, tags, size, mirrored FROM releases WHERE source_id = ? LIMIT ?",
            (source_id, LISTED_MAX),
        )
    ]


def newest_of(db: sqlite_utils.Database, source_id: str) -> list[Listed]:
    """Return the version of each of the source's plugins that is listed here."""
    return [
        _listed_from(row)
        for row in select(
            db,
            """
            SELECT r.plugin_id, r.version, r.name, r.tags, r.size, r.mirrored FROM plugins AS p JOIN releases AS r
              ON r.source_id = p.source_id AND r.plugin_id = p.plugin_id AND r.version = p.version
            WHERE p.source_id = ? ORDER BY p.plugin_id LIMIT ?
            """,
            (source_id, LISTED_MAX),
        )
    ]


def _listed_from(row: Row) -> Listed:
    tags = tuple(json.loads(row["tags"]))
    return Listed(row["plugin_id"], row["version"], row["name"], tags, row["size"], bool(row["mirrored"]))
