"""Provisional digests, and when each is fetched from its publisher: what was drawn outlives a restart (R155).

Provisional is what is served on the word of others alone. One decision is drawn for each such digest, and another one
if a directly pinned node comes to say a different digest.
"""

from dataclasses import dataclass
from typing import Final

import sqlite_utils

from pfn_node.store.facts import own_id
from pfn_node.store.queries import change, select, value

# Digests that are decided on in one look; the others wait for the next one.
DECIDED_AT_ONCE_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Provisional:
    """A release that is served here on the word of others; `due`: what was drawn for this digest before."""

    source_id: str
    plugin_id: str
    version: str
    sha256: bytes
    tags: str  # JSON
    disputed: bool  # a directly pinned node says another digest
    due: float | None


@dataclass(frozen=True, slots=True)
class Refetch:
    """A provisional release that is to be fetched from its publisher."""

    source_id: str
    plugin_id: str
    version: str
    sha256: bytes
    due: int  # seconds since 1970
    failures: int


def undecided(db: sqlite_utils.Database, source_id: str | None = None) -> list[Provisional]:
    """Return the provisional releases of subscribed sources (or of one) about which nothing was drawn yet."""
    rows = select(
        db,
        """
        WITH provisional AS (
            SELECT r.source_id, r.plugin_id, r.version, r.sha256, r.tags, EXISTS (
                SELECT 1 FROM observations AS o JOIN peers ON peers.node_id = o.observer
                WHERE o.source_id = r.source_id AND o.plugin_id = r.plugin_id AND o.version = r.version
                  AND o.sha256 <> r.sha256 AND o.admitted AND peers.pinned AND NOT peers.blocked) AS disputed
            FROM releases AS r INDEXED BY releases_provisional
            WHERE r.backed AND r.backed_by IN ('pin', 'depth') AND (:source IS NULL OR r.source_id = :source)
              AND r.source_id IN (SELECT source_id FROM subscriptions))
        SELECT p.*, f.due FROM provisional AS p LEFT JOIN refetches AS f
          ON f.source_id = p.source_id AND f.plugin_id = p.plugin_id AND f.version = p.version AND f.sha256 = p.sha256
        WHERE f.sha256 IS NULL OR p.disputed > f.disputed LIMIT :limit
        """,
        {"source": source_id, "limit": DECIDED_AT_ONCE_MAX},
    )
    return [Provisional(**{**row, "disputed": bool(row["disputed"])}) for row in rows]


def decide(db: sqlite_utils.Database, release: Provisional, due: float | None) -> None:
    """Keep what was drawn; None: others look."""
    change(
        db,
        """
        INSERT OR REPLACE INTO refetches (source_id, plugin_id, version, sha256, due, disputed, failures)
        VALUES (?, ?, ?, ?, ?, ?, 0)
        """,
        (
            release.source_id,
            release.plugin_id,
            release.version,
            release.sha256,
            None if due is None else int(due),
            release.disputed,
        ),
    )


def holders(db: sqlite_utils.Database, release: Provisional) -> int:
    """Return how many nodes are known to hold a digest: its observers, those that mirror its source, and this one."""
    found = value(
        db,
        """
        SELECT count(*) FROM (
            SELECT observer FROM observations
            WHERE source_id = :source AND plugin_id = :plugin AND version = :version AND sha256 = :sha256 AND admitted
            UNION SELECT node_id FROM mirror_claims WHERE source_id = :source AND admitted AND count > 0
            UNION SELECT :own)
        """,
        {
            "source": release.source_id,
            "plugin": release.plugin_id,
            "version": release.version,
            "sha256": release.sha256,
            "own": own_id(db),
        },
    )
    return int(found)


def planned(db: sqlite_utils.Database, source_id: str | None = None) -> list[Refetch]:
    """Return what is still to be fetched, of all sources or of one, the earliest first."""
    rows = select(
        db,
        """
        SELECT f.source_id, f.plugin_id, f.version, f.sha256, f.due, f.failures
        FROM refetches AS f INDEXED BY refetches_by_due JOIN releases AS r
          ON r.source_id = f.source_id AND r.plugin_id = f.plugin_id AND r.version = f.version AND r.sha256 = f.sha256
        WHERE f.due IS NOT NULL AND r.backed AND r.backed_by IN ('pin', 'depth')
          AND (:source IS NULL OR f.source_id = :source) AND f.source_id IN (SELECT source_id FROM subscriptions)
        ORDER BY f.due
        """,
        {"source": source_id},
    )
    return [Refetch(**row) for row in rows]


def put_off(db: sqlite_utils.Database, refetch: Refetch, due: int | None) -> None:
    """Note that a fetch brought nothing, and when it is tried again; None: never."""
    change(
        db,
        """
        UPDATE refetches SET due = ?, failures = failures + 1
        WHERE source_id = ? AND plugin_id = ? AND version = ? AND sha256 = ?
        """,
        (due, refetch.source_id, refetch.plugin_id, refetch.version, refetch.sha256),
    )


def done(db: sqlite_utils.Database, refetch: Refetch) -> None:
    """Note that the publisher was asked; what it gave has been judged."""
    change(
        db,
        "UPDATE refetches SET due = NULL WHERE source_id = ? AND plugin_id = ? AND version = ?",
        (refetch.source_id, refetch.plugin_id, refetch.version),
    )
