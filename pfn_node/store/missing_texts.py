"""Of which versions a signed text is not here, and whether it would say anything.

A publisher's signature counts for something only under a key that is known; what else is announced would have this node
fetch and keep whatever strangers like. Pinned nodes may be earlier with a version than with its source, so what they
announce is believed to matter.
"""

from dataclasses import dataclass

import sqlite_utils

from pfn_node.store.queries import select, value
from pfn_node.store.sources import get_source


@dataclass(frozen=True, slots=True)
class Matter:
    """Whether the texts that a node names for a source matter here, and whether that node is pinned."""

    at_all: bool
    pinned: bool


def texts_matter(db: sqlite_utils.Database, author: bytes, source_id: str) -> Matter:
    """Say whether the texts of what a node announces about a source are worth fetching."""
    pinned = value(db, "SELECT 1 FROM peers WHERE node_id = ? AND pinned AND NOT blocked", (author,)) is not None
    source = get_source(db, source_id)
    return Matter(pinned or (source is not None and source.key_known), pinned)


def lacking_text(db: sqlite_utils.Database, limit: int) -> list[tuple[bytes, bytes, bool]]:
    """Return author, id, and whether the author is pinned, of announcements whose signature could not be judged.

    Those of pinned nodes come first; the others in no order, so that nobody can crowd anybody out for good.
    """
    rows = select(
        db,
        """
        SELECT observer, announcement_id, coalesce(pinned, 0) AS pinned
        FROM observations LEFT JOIN peers ON node_id = observer
        WHERE signed IS NULL AND admitted AND announcement_id IS NOT NULL AND NOT coalesce(blocked, 0)
          AND (coalesce(pinned, 0) OR source_id IN (
            SELECT id FROM known_sources
            WHERE status NOT IN ('revoked', 'conflict') AND (verified_at IS NOT NULL OR attested)
          ))
        ORDER BY pinned DESC, random() LIMIT ?
        """,
        (limit,),
    )
    return [(row["observer"], row["announcement_id"], bool(row["pinned"])) for row in rows]


def source_of_text(db: sqlite_utils.Database, sha256: bytes) -> str | None:
    """Return the id of a source whose evidence names a signed text (slow: everything is looked through)."""
    found: str | None = value(
        db, "SELECT source_id FROM observations WHERE instr(evidence, ?) ORDER BY admitted DESC LIMIT 1", (sha256,)
    )
    return found
