"""What follows changes: plugins in the order in which they changed, and what is worth telling about them."""

from typing import Final

import sqlite_utils

_TABLES: Final = (
    """
    CREATE TABLE plugin_changes (
        seq INTEGER PRIMARY KEY,
        source_id TEXT NOT NULL,
        plugin_id TEXT NOT NULL,
        digest BLOB NOT NULL,
        gone INTEGER NOT NULL,
        UNIQUE (source_id, plugin_id)
    ) STRICT
    """,
    "CREATE INDEX plugin_changes_gone ON plugin_changes (seq) WHERE gone",
    # AUTOINCREMENT: whoever has read up to an id shall not miss one that is used again.
    """
    CREATE TABLE news (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        type TEXT NOT NULL,
        source_id TEXT NOT NULL,
        plugin_id TEXT NOT NULL,
        about TEXT NOT NULL,
        at INTEGER NOT NULL,
        UNIQUE (source_id, plugin_id, type, about)
    ) STRICT
    """,
    "CREATE INDEX news_by_type ON news (type, id)",
    "CREATE INDEX news_by_source ON news (source_id, type, id)",
)
# Without a digest: each of them counts as changed when it is next judged.
_PLUGINS: Final = """
    INSERT INTO plugin_changes (source_id, plugin_id, digest, gone)
    SELECT source_id, plugin_id, x'', 0 FROM plugins ORDER BY id
"""
# What is here already is no news to anybody who asks to be told; feeds show it as it came.
_RELEASES: Final = """
    INSERT INTO news (type, source_id, plugin_id, about, at)
    SELECT 'release.added', source_id, plugin_id, version, observed_at FROM releases
    WHERE backed AND assurance IN ('A1', 'A2', 'A3', 'A4') AND sha256 IS NOT NULL AND yanked IS NULL
      AND taken_down IS NULL AND NOT revoked_key AND held_back IS NULL AND cooldown_until IS NULL
    ORDER BY observed_at, source_id, plugin_id, version
"""
_YANKS: Final = """
    INSERT INTO news (type, source_id, plugin_id, about, at)
    SELECT 'release.yanked', source_id, plugin_id, version, observed_at FROM releases
    WHERE backed AND yanked IS NOT NULL
"""
_ADVISORIES: Final = """
    INSERT INTO news (type, source_id, plugin_id, about, at)
    SELECT 'advisory.added', source_id, plugin_id, json_extract(one.value, '$.advisory_id'), min(observed_at)
    FROM releases, json_each(advisories) AS one WHERE backed GROUP BY 1, 2, 3, 4
"""


def add_feeds(db: sqlite_utils.Database) -> None:
    """Add the tables, and fill them with what is listed, in the order in which it came."""
    for statement in (*_TABLES, _PLUGINS, _RELEASES, _YANKS, _ADVISORIES):
        db.execute(statement)
