"""What Composer asks for: plugins by its names for them, what was read in their zips, and how often they were had."""

from typing import Final

import sqlite_utils

from pfn_node.composer_names import composer_name
from pfn_node.store.queries import change, select

_TABLES: Final = (
    "CREATE INDEX plugins_by_composer_name ON plugins (composer_name)",
    """
    CREATE TABLE package_facts (
        sha256 BLOB PRIMARY KEY,
        sha1 BLOB NOT NULL,
        sha384 BLOB NOT NULL,
        headers TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE download_counts (
        source_id TEXT NOT NULL,
        plugin_id TEXT NOT NULL,
        version TEXT NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (source_id, plugin_id, version)
    ) STRICT, WITHOUT ROWID
    """,
)


def add_composer(db: sqlite_utils.Database) -> None:
    """Add the tables, and name the plugins that are listed already."""
    db.execute("ALTER TABLE plugins ADD COLUMN composer_name TEXT NOT NULL DEFAULT ''")
    for row in select(db, "SELECT id, source_id, plugin_id FROM plugins"):
        name = composer_name(row["source_id"], row["plugin_id"])
        change(db, "UPDATE plugins SET composer_name = ? WHERE id = ?", (name, row["id"]))
    for statement in _TABLES:
        db.execute(statement)
