"""How often each version of a plugin was had from this node, or with its help. Who it was is neither asked nor kept."""

from collections.abc import Mapping
from typing import Final

import sqlite_utils

from pfn_node.store.queries import change, select, value

# Versions that are counted; beyond it those that are no release any more make room.
COUNTED_MAX: Final = 100_000

Version = tuple[str, str, str]  # source, plugin, version


def add_downloads(db: sqlite_utils.Database, counted: Mapping[Version, int]) -> None:
    """Add what was counted; versions for which there is no room left are not counted."""
    for key, count in counted.items():
        if not change(db, _ADD, (count, *key)) and _has_room(db):
            change(db, "INSERT INTO download_counts VALUES (?, ?, ?, ?)", (*key, count))


_ADD: Final = "UPDATE download_counts SET count = count + ? WHERE source_id = ? AND plugin_id = ? AND version = ?"


def _has_room(db: sqlite_utils.Database) -> bool:
    if value(db, "SELECT count(*) FROM download_counts") < COUNTED_MAX:
        return True
    return bool(change(db, _FORGET_UNKNOWN))


_FORGET_UNKNOWN: Final = """
    DELETE FROM download_counts WHERE NOT EXISTS (
        SELECT 1 FROM releases AS r WHERE r.source_id = download_counts.source_id
          AND r.plugin_id = download_counts.plugin_id AND r.version = download_counts.version)
"""


def downloads_of(db: sqlite_utils.Database, source_id: str, plugin_id: str) -> dict[str, int]:
    """Return how often each version of a plugin was had."""
    rows = select(
        db,
        "SELECT version, count FROM download_counts WHERE source_id = ? AND plugin_id = ?",
        (source_id, plugin_id),
    )
    return {row["version"]: row["count"] for row in rows}


def downloads_in_all(db: sqlite_utils.Database) -> int:
    """Return how often anything was had."""
    return int(value(db, "SELECT total(count) FROM download_counts"))


def most_downloaded(db: sqlite_utils.Database, limit: int) -> list[tuple[str, str, int]]:
    """Return (source id, plugin id, downloads) of the plugins that were had most, in all their versions."""
    rows = select(
        db,
        """
        SELECT source_id, plugin_id, sum(count) AS downloads FROM download_counts
        GROUP BY source_id, plugin_id ORDER BY downloads DESC, source_id, plugin_id LIMIT ?
        """,
        (limit,),
    )
    return [(row["source_id"], row["plugin_id"], row["downloads"]) for row in rows]
