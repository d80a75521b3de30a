"""What is listed: one row for each (source, plugin), and its words in the full-text index.

The row is that of the newest *backed* version, in PHP's order of versions; one that was yanked, or that cools down
after a change of key, only where there is no other. Only where none is backed it is that of the newest reported one. A
newer version that is only reported is named beside it.
"""

import json
from typing import Final

import sqlite_utils

from pfn_node.composer_names import composer_name
from pfn_node.store.changes import note_change, released_rows
from pfn_node.store.queries import Row, change, select_one
from pfn_protocol.versions import compare, newest

# In their order: a filter by assurance compares ranks.
ASSURANCE_RANKS: Final = {"reported": 0, "A0": 1, "A1": 2, "A2": 3, "A3": 4, "A4": 5}
# Long names that begin alike are sorted by when they were listed; nobody reads that far.
_NAME_KEY_CHARACTERS: Final = 100


def list_plugin(db: sqlite_utils.Database, source_id: str, plugin_id: str, now: int) -> None:
    """Write the row of a plugin from its releases; take it off the list if there are none. `now` in seconds."""
    before = select_one(db, "SELECT * FROM plugins WHERE source_id = ? AND plugin_id = ?", (source_id, plugin_id))
    releases = released_rows(db, source_id, plugin_id)
    note_change(db, source_id, plugin_id, releases, now)
    if not releases:
        if before is not None:
            _unlist(db, before["id"])
        return
    backed = _newest_backed(releases)
    reported = newest(version for version, row in releases.items() if not row["backed"])
    version = backed or reported
    assert version is not None, "every version is one of both"
    entry = {
        "source_id": source_id,
        "plugin_id": plugin_id,
        "version": version,
        "reported_version": reported if backed and reported and compare(reported, backed) > 0 else None,
        "versions": len(releases),
        "type": releases[version]["type"],
        "name_key": releases[version]["name"].casefold()[:_NAME_KEY_CHARACTERS],
        "assurance_rank": ASSURANCE_RANKS[releases[version]["assurance"]],
        "updated_at": releases[version]["observed_at"],
        "composer_name": composer_name(source_id, plugin_id),
    }
    if before is not None and before["version"] != version:
        # A new id: ids run in the order of change, and searches look at the newest first.
        _unlist(db, before["id"])
        before = None
    _write_texts(db, _write_entry(db, before, entry), source_id, plugin_id, releases[version])


def _newest_backed(releases: dict[str, Row]) -> str | None:
    # The first of several that are equal is the newest: of two spellings of one version the one that is signed better.
    best_first = sorted(releases.items(), key=lambda item: (-ASSURANCE_RANKS[item[1]["assurance"]], item[0]))
    backed = {version: row for version, row in best_first if row["backed"]}
    sound = [version for version, row in backed.items() if row["yanked"] is None]
    calm = [version for version in sound if backed[version]["cooldown_until"] is None]
    return newest(calm) or newest(sound) or newest(backed)


def _write_entry(db: sqlite_utils.Database, before: Row | None, entry: Row) -> int:
    if before is None:
        cursor = db.execute(
            """
            INSERT INTO plugins (source_id, plugin_id, version, reported_version, versions, type, name_key,
                                 assurance_rank, updated_at, composer_name)
            VALUES (:source_id, :plugin_id, :version, :reported_version, :versions, :type, :name_key,
                    :assurance_rank, :updated_at, :composer_name)
            """,
            entry,
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid
    identity: int = before["id"]
    if any(before[name] != content for name, content in entry.items()):
        change(
            db,
            """
            UPDATE plugins SET version = :version, reported_version = :reported_version, versions = :versions,
                type = :type, name_key = :name_key, assurance_rank = :assurance_rank, updated_at = :updated_at
            WHERE source_id = :source_id AND plugin_id = :plugin_id
            """,
            entry,
        )
    return identity


def _write_texts(db: sqlite_utils.Database, identity: int, source_id: str, plugin_id: str, release: Row) -> None:
    tags: list[str] = json.loads(release["tags"])
    texts = {
        "name": release["name"],
        "description": release["description"] or "",
        "tags": "\n".join(tags),
        "plugin_id": plugin_id,
        "username": source_id.partition("@")[0],
    }
    before = select_one(
        db,
        "SELECT name, description, tags, plugin_id, username FROM plugin_texts WHERE rowid = ?",
        (identity,),
    )
    if before == texts:
        return
    change(db, "DELETE FROM plugin_texts WHERE rowid = ?", (identity,))
    change(
        db,
        """
        INSERT INTO plugin_texts (rowid, name, description, tags, plugin_id, username)
        VALUES (:id, :name, :description, :tags, :plugin_id, :username)
        """,
        {"id": identity, **texts},
    )
    change(db, "DELETE FROM plugin_tags WHERE plugin = ?", (identity,))
    for tag in dict.fromkeys(tag.casefold() for tag in tags):
        change(db, "INSERT INTO plugin_tags (tag, plugin) VALUES (?, ?)", (tag, identity))


def _unlist(db: sqlite_utils.Database, identity: int) -> None:
    change(db, "DELETE FROM plugin_texts WHERE rowid = ?", (identity,))
    change(db, "DELETE FROM plugin_tags WHERE plugin = ?", (identity,))
    change(db, "DELETE FROM plugins WHERE id = ?", (identity,))
