"""Who watches which publishers, and who holds how much of them: what nodes say, for the page of the mesh.

Everything is asked for one node at a time, from an index, and up to a limit: a page shows few nodes, of thousands.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import sqlite_utils

from pfn_node.store.queries import select


@dataclass(frozen=True, slots=True)
class Held:
    """What a node says that it mirrors."""

    sources: int
    artifacts: int


def own_sources(db: sqlite_utils.Database, limit: int) -> list[str]:
    """Return sources that this node itself watches, at most `limit`."""
    sql = "SELECT id FROM sources WHERE status IN ('verified', 'pending', 'error') AND registered ORDER BY id LIMIT ?"
    return [row["id"] for row in select(db, sql, (limit,))]


def watched_sources(db: sqlite_utils.Database, node_ids: Iterable[bytes], limit: int) -> dict[bytes, list[str]]:
    """Return for each node sources whose key it says to have verified itself, at most `limit` of each."""
    sql = """
        SELECT source_id FROM attestations WHERE observer = ? AND verified AND admitted ORDER BY source_id LIMIT ?
    """
    return {
        node_id: [row["source_id"] for row in select(db, sql, (node_id, limit))] for node_id in dict.fromkeys(node_ids)
    }


def held(db: sqlite_utils.Database, node_ids: Iterable[bytes], now: int) -> dict[bytes, Held]:
    """Return for each node how much it says to mirror; nothing for those that say nothing."""
    sql = """
        SELECT count(*) AS sources, coalesce(sum(count), 0) AS artifacts FROM mirror_claims
        WHERE node_id = ? AND admitted AND expires_at > ? AND count > 0
    """
    found = {}
    for node_id in dict.fromkeys(node_ids):
        (row,) = select(db, sql, (node_id, now))
        if row["sources"]:
            found[node_id] = Held(row["sources"], row["artifacts"])
    return found
