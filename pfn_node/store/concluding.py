"""Announcements that come by the thousand: kept at once, and concluded later.

To keep an announcement takes one row; to judge anew the version that it speaks of takes fifty times as long. Where
thousands come together, as when other nodes fill an empty one, they are kept first, so that they are durable and can be
told, and marked: the table of their kind and the catalogue do not show them yet. They are concluded in the order of
their subjects, so that a plugin is listed once for all its versions. Only versions wait like this; what is said for
somebody's safety, and whatever comes alone, is concluded in the transaction that keeps it.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import sqlite_utils

from pfn_node.store import claims, releases
from pfn_node.store.announcements import IN_SET, PARKED, announcement_from
from pfn_node.store.queries import change, select, value
from pfn_node.store.standpoint import standpoint
from pfn_protocol.announcements import AcceptedAnnouncement, Evidence, VersionStatement

_KEEP: Final = """
    INSERT INTO announcements
        (id, raw, author, kind, subject, epoch, seq, content, replaces, place, received_at, concluded)
    VALUES (?, ?, ?, 'version', ?, ?, ?, ?, ?, ?, ?, 0)
    ON CONFLICT (id) DO UPDATE SET place = excluded.place, concluded = 0 WHERE place <> excluded.place
"""
_WAITING: Final = """
    SELECT id, raw, author, kind, place, received_at, subject FROM announcements
    WHERE NOT concluded AND subject >= ? ORDER BY subject, received_at LIMIT ?
"""


def keep_versions(db: sqlite_utils.Database, kept: Sequence[tuple[AcceptedAnnouncement, bool]], at: int) -> None:
    """Keep versions of others, each with whether its author is admitted, to be concluded later; `at` in seconds."""
    db.conn.executemany(
        _KEEP,
        [
            (
                one.id,
                one.raw,
                one.author,
                one.subject,
                one.epoch,
                one.seq,
                one.content,
                one.replaces,
                IN_SET if admitted else PARKED,
                at,
            )
            for one, admitted in kept
        ],
    )


def waiting(db: sqlite_utils.Database) -> int:
    """Return how many announcements are kept and not concluded yet."""
    return int(value(db, "SELECT count(*) FROM announcements WHERE NOT concluded"))


def conclude_some(db: sqlite_utils.Database, after: str, limit: int, now: int) -> str:
    """Conclude what waits, from this subject on, at most so many; `now` in seconds.

    Return the subject to go on from; empty at the end.
    """
    rows = select(db, _WAITING, (after, limit))
    point = standpoint(db, now=now)
    heads: list[tuple[str, tuple[Evidence, ...]]] = []
    seen: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for row in rows:
        announcement = announcement_from(db, row)
        statement = announcement.statement
        assert isinstance(statement, VersionStatement), "only versions wait"
        claims.store_version(db, announcement, statement, row["place"] == IN_SET, row["received_at"])
        if row["place"] == IN_SET:
            seen[statement.source_id, statement.plugin_id][statement.version] = None
            heads.append((statement.source_id, statement.evidence))
        change(db, "UPDATE announcements SET concluded = 1 WHERE id = ?", (row["id"],))
    for (source_id, plugin_id), versions in seen.items():
        releases.refresh_versions(db, point, source_id, plugin_id, versions)
    for source_id, evidence in heads:
        releases.take_heads(db, source_id, evidence, now)
    return rows[-1]["subject"] if len(rows) == limit else ""
