"""What was told lately (changes.py writes it): releases for feeds, and everything in its order for webhooks."""

from dataclasses import dataclass
from typing import Final

import sqlite_utils

from pfn_node.store.catalogue import release_from
from pfn_node.store.changes import LISTABLE
from pfn_node.store.queries import select, value
from pfn_node.store.rows import Release

# Of which the newest that are still offered are shown: what is taken back by the thousand leaves a feed short.
LOOKED_AT_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class News:
    """One event: `about` is a version, the id of an advisory, or what of a source changed."""

    id: int
    type: str
    source_id: str
    plugin_id: str  # empty where it is about a source
    about: str
    at: int


def newest_news(db: sqlite_utils.Database) -> int:
    """Return the id of the newest; 0: there are none."""
    return int(value(db, "SELECT max(id) FROM news") or 0)


def news_after(db: sqlite_utils.Database, after: int, limit: int) -> list[News]:
    """Return what came after an id, oldest first."""
    return [News(**row) for row in select(db, "SELECT * FROM news WHERE id > ? ORDER BY id LIMIT ?", (after, limit))]


@dataclass(frozen=True, slots=True)
class Added:
    """A release that may be installed, and when that became so here (seconds since 1970)."""

    release: Release
    at: int


def releases_added(db: sqlite_utils.Database, source_id: str | None, tag: str | None, limit: int) -> list[Added]:
    """Return the releases that were added last and may be installed, newest first; of a source, with a tag."""
    chosen = _WITH_TAG if tag is not None else _OF_SOURCE if source_id is not None else _OF_ANYBODY
    asked = {"source": source_id, "tag": None if tag is None else tag.casefold(), "rows": LOOKED_AT_MAX, "limit": limit}
    named = {name: given for name, given in asked.items() if f":{name}" in chosen or name == "limit"}
    rows = select(db, " ".join((_BEGIN, chosen, _END)), named)
    return [Added(release_from(row), row["told_at"]) for row in rows]


_BEGIN: Final = "SELECT r.*, n.at AS told_at FROM ("
_OF_ANYBODY: Final = "SELECT * FROM news WHERE type = 'release.added' ORDER BY id DESC LIMIT :rows"
_OF_SOURCE: Final = """
    SELECT * FROM news WHERE source_id = :source AND type = 'release.added' ORDER BY id DESC LIMIT :rows
"""
_WITH_TAG: Final = """
    SELECT told.* FROM (SELECT plugin FROM plugin_tags WHERE tag = :tag ORDER BY plugin DESC LIMIT :rows) AS tagged
    JOIN plugins AS p ON p.id = tagged.plugin
    JOIN news AS told ON told.source_id = p.source_id AND told.plugin_id = p.plugin_id AND told.type = 'release.added'
    WHERE :source IS NULL OR p.source_id = :source ORDER BY told.id DESC LIMIT :rows
"""
_END: Final = " ".join(
    (
        ") AS n JOIN releases AS r",
        "ON r.source_id = n.source_id AND r.plugin_id = n.plugin_id AND r.version = n.about WHERE",
        LISTABLE,
        "ORDER BY n.id DESC LIMIT :limit",
    )
)
