"""What happened here that an operator or subscriber wants to know; also the stream of events. The newest stay."""

from typing import Final

import sqlite_utils

from pfn_node.logs import without_keys
from pfn_node.store.queries import Row, change, select, storable, value
from pfn_node.store.rows import Activity

# About 30 MB; a node with a thousand sources fills it in months.
ACTIVITIES_MAX: Final = 100_000
# Deleting one row at each insert would double the cost of an insert; so the table may run over by this many.
_PRUNE_EVERY: Final = 100
MESSAGE_CHARACTERS_MAX: Final = 1_000


def record_activity(
    db: sqlite_utils.Database,
    type: str,
    message: str,
    *,
    at: int,
    source_id: str | None = None,
    plugin_id: str | None = None,
    plugin_name: str | None = None,
    old_version: str | None = None,
    new_version: str | None = None,
) -> int:
    """Add a row and return its id; `at` in seconds. The username comes from the source's id."""
    username = None if source_id is None else source_id.partition("@")[0]
    cursor = db.execute(
        """
        INSERT INTO activity (type, source_id, plugin_id, plugin_name, source_username, old_version, new_version,
                              message, timestamp)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            type,
            source_id,
            plugin_id,
            None if plugin_name is None else storable(plugin_name, MESSAGE_CHARACTERS_MAX),
            username,
            old_version,
            new_version,
            without_keys(storable(message, MESSAGE_CHARACTERS_MAX)),
            at,
        ),
    )
    added = cursor.lastrowid
    assert added is not None
    if added % _PRUNE_EVERY == 0:
        change(db, "DELETE FROM activity WHERE id <= ?", (added - ACTIVITIES_MAX,))
    return added


def activities(
    db: sqlite_utils.Database,
    type: str | None = None,
    source_id: str | None = None,
    since: int | None = None,
    before_id: int | None = None,
    after_id: int | None = None,
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[Activity], int]:
    """Return a page of the activity, and how many rows the filters match.

    Newest first; with `after_id` (for streams that resume) oldest first, from the next row on. `since` in seconds.
    """
    narrowed = {"type": type, "source": source_id, "since": since, "before": before_id, "after": after_id}
    filters = narrowed | {"limit": limit, "offset": offset}
    rows = select(db, _OLDEST_FIRST if after_id is not None else _NEWEST_FIRST, filters)
    total = value(db, _TOTAL, narrowed)
    return [_activity_from(row) for row in rows], int(total)


_NEWEST_FIRST: Final = """
    SELECT * FROM activity
    WHERE (:type IS NULL OR type = :type) AND (:since IS NULL OR timestamp >= :since)
      AND (:after IS NULL OR id > :after) AND (:before IS NULL OR id < :before)
      AND (:source IS NULL OR source_id = :source)
    ORDER BY id DESC LIMIT :limit OFFSET :offset
"""
_OLDEST_FIRST: Final = """
    SELECT * FROM activity
    WHERE (:type IS NULL OR type = :type) AND (:since IS NULL OR timestamp >= :since) AND id > :after
      AND (:before IS NULL OR id < :before) AND (:source IS NULL OR source_id = :source)
    ORDER BY id LIMIT :limit OFFSET :offset
"""
_TOTAL: Final = """
    SELECT count(*) FROM activity
    WHERE (:type IS NULL OR type = :type) AND (:since IS NULL OR timestamp >= :since)
      AND (:after IS NULL OR id > :after) AND (:before IS NULL OR id < :before)
      AND (:source IS NULL OR source_id = :source)
"""


def _activity_from(row: Row) -> Activity:
    return Activity(**row)


def activity_page(
    db: sqlite_utils.Database,
    type: str | None = None,
    source_id: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Activity]:
    """Return activity newest first, from the row before the id `before` on: a page costs the same wherever it is."""
    narrowed = _OF_SOURCE if source_id is not None else _OF_ANYBODY
    asked = {"type": type, "source": source_id, "before": _LAST_ID if before is None else before, "limit": limit}
    if source_id is None:
        del asked["source"]
    return [_activity_from(row) for row in select(db, narrowed, asked)]


_LAST_ID: Final = 2**62
_OF_SOURCE: Final = """
    SELECT * FROM activity WHERE source_id = :source AND id < :before AND (:type IS NULL OR type = :type)
    ORDER BY id DESC LIMIT :limit
"""
_OF_ANYBODY: Final = """
    SELECT * FROM activity WHERE id < :before AND (:type IS NULL OR type = :type) ORDER BY id DESC LIMIT :limit
"""
