"""How a source has behaved, in figures that a page can show: its health over time, its keys, who follows it, what of
it is here. All are bounded reads by index.
"""

from dataclasses import dataclass
from typing import Final

import sqlite_utils

from pfn_node.store.queries import select, select_one
from pfn_protocol.identity import did_key
from pfn_protocol.publisher_notices import Revocation, Rotation, open_notice

FOLLOWERS_MAX: Final = 100
MIRRORS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class HealthSpan:
    """The health checks of a span of time. `seconds`: the mean time of the answers; None: there was none."""

    began: int
    checks: int
    answered: int
    seconds: float | None

    @property
    def uptime(self) -> float:
        """The share of checks that were answered."""
        return self.answered / self.checks


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key that speaks, or spoke, for a source."""

    key: str  # did:key
    is_identity: bool
    epoch: int
    standing: str
    cutoff: int | None  # what it signed counts only if it was seen before


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A rotation or a revocation that the publisher signed."""

    kind: str
    seen_at: int
    old: str
    new: str | None
    role: str
    reason: str


@dataclass(frozen=True, slots=True)
class Follower:
    """An API key that subscribes to a source."""

    key_id: str
    description: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Holdings:
    """What of a source is here: releases that are listed, those whose bytes are held, and how large these are."""

    releases: int
    held: int
    bytes: int


def counts_by_status(db: sqlite_utils.Database) -> dict[str, int]:
    """Return how many sources have each status."""
    return {
        row["status"]: row["count"]
        for row in select(db, "SELECT status, count(*) AS count FROM sources GROUP BY status")
    }


def first_check(db: sqlite_utils.Database, source_id: str, since: int) -> int | None:
    """Return when the first health check that is kept was made, from a time on."""
    row = select_one(
        db,
        "SELECT min(checked_at) AS at FROM health_checks WHERE source_id = ? AND checked_at >= ?",
        (source_id, since),
    )
    return None if row is None else row["at"]


def health_spans(db: sqlite_utils.Database, source_id: str, since: int, span_seconds: int) -> list[HealthSpan]:
    """Return the health checks from a time on, counted span by span, oldest first; without spans that had none.

    As many checks as are kept of a source are counted: a month of them at the usual interval.
    """
    rows = select(
        db,
        """
        SELECT min(checked_at) AS first, (checked_at - :since) / :span AS span, count(*) AS checks,
               sum(ok) AS answered, avg(CASE WHEN ok THEN seconds END) AS seconds
        FROM health_checks WHERE source_id = :source AND checked_at >= :since GROUP BY span ORDER BY span
        """,
        {"source": source_id, "since": since, "span": span_seconds},
    )
    return [
        HealthSpan(since + row["span"] * span_seconds, row["checks"], row["answered"], row["seconds"]) for row in rows
    ]


def key_records(db: sqlite_utils.Database, source_id: str) -> list[KeyRecord]:
    """Return every key of the source's chain and those it binds, the newest identity first."""
    rows = select(
        db,
        """
        SELECT key, is_identity, epoch, standing, cutoff FROM source_keys WHERE source_id = ?
        ORDER BY is_identity DESC, epoch DESC, key
        """,
        (source_id,),
    )
    return [
        KeyRecord(did_key(row["key"]), bool(row["is_identity"]), row["epoch"], row["standing"], row["cutoff"])
        for row in rows
    ]


def key_changes(db: sqlite_utils.Database, source_id: str) -> list[KeyChange]:
    """Return the rotations and revocations that are kept, newest first."""
    rows = select(
        db,
        """
        SELECT raw, seen_at FROM publisher_notices
        WHERE source_id = ? AND kind IN ('rotate', 'revoke') ORDER BY seen_at DESC
        """,
        (source_id,),
    )
    found = []
    for row in rows:
        match open_notice(row["raw"]).notice:
            case Rotation() as turned:
                old, new = did_key(turned.old_key), did_key(turned.new_key)
                found.append(KeyChange("rotation", row["seen_at"], old, new, turned.role, turned.reason))
            case Revocation() as ended:
                found.append(KeyChange("revocation", row["seen_at"], did_key(ended.key), None, "", ended.reason))
    return found


def followers(db: sqlite_utils.Database, source_id: str) -> list[Follower]:
    """Return the keys that subscribe to a source, oldest first."""
    rows = select(
        db,
        """
        SELECT s.subscriber, coalesce(k.description, '') AS description, s.created_at FROM subscriptions AS s
        LEFT JOIN api_keys AS k ON k.id = s.subscriber WHERE s.source_id = ? ORDER BY s.id LIMIT ?
        """,
        (source_id, FOLLOWERS_MAX),
    )
    return [Follower(row["subscriber"], row["description"], row["created_at"]) for row in rows]


def mirrors(db: sqlite_utils.Database, source_id: str, now: int) -> list[str]:
    """Return the nodes (did:key) that say they hold something of a source, this one aside."""
    rows = select(
        db,
        """
        SELECT m.node_id FROM mirror_claims AS m LEFT JOIN peers ON peers.node_id = m.node_id
        WHERE m.source_id = ? AND m.admitted AND m.count > 0 AND m.expires_at > ? AND NOT coalesce(peers.blocked, 0)
        ORDER BY m.node_id LIMIT ?
        """,
        (source_id, now, MIRRORS_MAX),
    )
    return [did_key(row["node_id"]) for row in rows]


def holdings_of(db: sqlite_utils.Database, source_id: str) -> Holdings:
    """Return how much of a source is here."""
    row = select_one(
        db,
        """
        SELECT count(*) AS releases, coalesce(sum(mirrored), 0) AS held,
               coalesce(sum(CASE WHEN mirrored THEN size END), 0) AS bytes
        FROM releases WHERE source_id = ?
        """,
        (source_id,),
    )
    assert row is not None
    return Holdings(row["releases"], row["held"], row["bytes"])
