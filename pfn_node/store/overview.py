"""What an administrator looks over: updates, releases that wait, publishers' health, shared slugs, what is stored.

Read side only. Every list is bounded, continued by a key where it is long, and found through an index: a page costs
the same with sixty thousand plugins.
"""

from dataclasses import dataclass
from typing import Final

import sqlite_utils

from pfn_node.store.catalogue import release_from
from pfn_node.store.mirrored import NO_VERSION
from pfn_node.store.queries import Row, select, value
from pfn_node.store.rows import Release

_LAST_ID: Final = 2**62


@dataclass(frozen=True, slots=True)
class Update:
    """A version that came to be mirrored here after an older one. `old_version` None: it is the first."""

    id: int
    source_id: str
    plugin_id: str
    old_version: str | None
    new_version: str
    at: int
    release: Release | None  # as it stands now


def updates(
    db: sqlite_utils.Database, source_id: str | None = None, before: int | None = None, limit: int = 50
) -> list[Update]:
    """Return version updates, newest first, from the one before the id `before` on."""
    rows = select(
        db,
        """
        SELECT u.id AS update_id, u.source_id AS of_source, u.plugin_id AS of_plugin, u.old_version, u.new_version,
               u.update_time, r.*
        FROM version_updates AS u LEFT JOIN releases AS r
          ON r.source_id = u.source_id AND r.plugin_id = u.plugin_id AND r.version = u.new_version
        WHERE u.id < :before AND (:source IS NULL OR u.source_id = :source) ORDER BY u.id DESC LIMIT :limit
        """,
        {"source": source_id, "before": _LAST_ID if before is None else before, "limit": limit},
    )
    return [_update_from(row) for row in rows]


def _update_from(row: Row) -> Update:
    return Update(
        row["update_id"],
        row["of_source"],
        row["of_plugin"],
        None if row["old_version"] == NO_VERSION else row["old_version"],
        row["new_version"],
        row["update_time"],
        None if row["version"] is None else release_from(row),
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """Releases that are known and not what a consumer is given, by what they wait for."""

    held_back: list[Release]  # for their author to sign them, or for an admin
    cooling: list[Release]  # a key of their source changed just before
    reported: list[Release]  # for somebody whose word counts here
    parked: list[Row]  # announcements of nodes that nothing here vouches for: kind, subject, author, received_at


def waiting(db: sqlite_utils.Database, limit: int) -> Waiting:
    """Return what waits, of each kind the newest."""
    return Waiting(
        [release_from(row) for row in select(db, _HELD_BACK, (limit,))],
        [release_from(row) for row in select(db, _COOLING, (limit,))],
        [release_from(row) for row in select(db, _REPORTED, (limit,))],
        select(db, _PARKED, (limit,)),
    )


_HELD_BACK: Final = """
    SELECT * FROM releases WHERE held_back IS NOT NULL AND taken_down IS NULL ORDER BY observed_at DESC LIMIT ?
"""
_COOLING: Final = "SELECT * FROM releases WHERE cooldown_until IS NOT NULL ORDER BY cooldown_until LIMIT ?"
_REPORTED: Final = """
    SELECT * FROM releases WHERE NOT backed AND taken_down IS NULL ORDER BY observed_at DESC LIMIT ?
"""
_PARKED: Final = "SELECT kind, subject, author, received_at FROM announcements WHERE place = 'parked' LIMIT ?"


@dataclass(frozen=True, slots=True)
class PublisherHealth:
    """How a registered source answers. Times in seconds since 1970, `seconds` oldest first."""

    source_id: str
    status: str
    healthy: bool | None  # None: never checked
    checked_at: int | None
    details: str | None  # of the last check
    seconds: list[float]  # response times of the last checks that went well
    uptime: float | None  # share of the last checks that went well
    failure: Row | None  # the newest sync failure: error_message, retry_count, next_retry, created_at


CHECKS_SHOWN: Final = 48
_HEALTHY: Final = """
    (SELECT ok FROM health_checks WHERE source_id = sources.id ORDER BY checked_at DESC, id DESC LIMIT 1)
"""


def health_counts(db: sqlite_utils.Database) -> dict[str, int]:
    """Return how many registered sources are up, down, or were never checked (unknown)."""
    found = {"up": 0, "down": 0, "unknown": 0}
    sql = " ".join(("SELECT", _HEALTHY, "AS ok, count(*) AS count FROM sources WHERE registered GROUP BY 1"))
    for row in select(db, sql):
        found["unknown" if row["ok"] is None else "up" if row["ok"] else "down"] = row["count"]
    return found


def publishers_health(db: sqlite_utils.Database, limit: int, offset: int = 0) -> list[PublisherHealth]:
    """Return registered sources, those that are down first; as many as an admin added, so an offset costs little."""
    order = "ORDER BY ok IS NULL, ok, id LIMIT ? OFFSET ?"
    sql = " ".join(("SELECT id, status,", _HEALTHY, "AS ok FROM sources WHERE registered", order))
    return [_health_of(db, row) for row in select(db, sql, (limit, offset))]


def _health_of(db: sqlite_utils.Database, source: Row) -> PublisherHealth:
    checks = select(
        db,
        """
        SELECT ok, seconds, details, checked_at FROM health_checks
        WHERE source_id = ? ORDER BY checked_at DESC, id DESC LIMIT ?
        """,
        (source["id"], CHECKS_SHOWN),
    )
    failures = select(db, "SELECT * FROM sync_failures WHERE source_id = ? ORDER BY id DESC LIMIT 1", (source["id"],))
    last = checks[0] if checks else None
    return PublisherHealth(
        source["id"],
        source["status"],
        None if last is None else bool(last["ok"]),
        None if last is None else last["checked_at"],
        None if last is None else last["details"],
        [check["seconds"] for check in reversed(checks) if check["ok"] and check["seconds"] is not None],
        sum(bool(check["ok"]) for check in checks) / len(checks) if checks else None,
        failures[0] if failures else None,
    )


def shared_slugs(db: sqlite_utils.Database, limit: int, after: str = "") -> list[str]:
    """Return bare slugs that several sources list, in their order, from the one after `after` on."""
    rows = select(
        db,
        "SELECT plugin_id FROM plugins WHERE plugin_id > ? GROUP BY plugin_id HAVING count(*) > 1 "
        "ORDER BY plugin_id LIMIT ?",
        (after, limit),
    )
    return [row["plugin_id"] for row in rows]


@dataclass(frozen=True, slots=True)
class Stock:
    """What is kept of one source. `freed`: bytes that nothing else here needs, which go when it is purged."""

    source_id: str
    releases: int
    bytes: int
    freed: int


def largest_stocks(db: sqlite_utils.Database, limit: int) -> list[Stock]:
    """Return the sources of which most bytes are kept."""
    rows = select(
        db,
        """
        SELECT source_id, count(*) AS releases, sum(size) AS bytes FROM releases WHERE mirrored
        GROUP BY source_id ORDER BY bytes DESC, source_id LIMIT ?
        """,
        (limit,),
    )
    return [Stock(**row, freed=_freed(db, row["source_id"])) for row in rows]


def _freed(db: sqlite_utils.Database, source_id: str) -> int:
    return int(
        value(
            db,
            """
            SELECT coalesce(sum(size), 0) FROM (
                SELECT DISTINCT r.sha256, r.size FROM releases AS r
                WHERE r.source_id = :source AND r.mirrored AND NOT EXISTS (
                    SELECT 1 FROM releases AS o WHERE o.sha256 = r.sha256 AND o.source_id <> :source))
            """,
            {"source": source_id},
        )
    )


def database_sizes(db: sqlite_utils.Database) -> dict[str, int]:
    """Return the bytes of the database, and how many of them wait for new rows."""
    page = int(value(db, "PRAGMA page_size"))
    return {
        "bytes": page * int(value(db, "PRAGMA page_count")),
        "free_bytes": page * int(value(db, "PRAGMA freelist_count")),
    }
