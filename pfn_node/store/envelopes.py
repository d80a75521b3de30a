"""The announcements that speak of one release or of its source's key, as they were received: each proves itself.

Where there are more than are asked for, those come first that say most to somebody who trusts as this node does.
"""

import sqlite_utils

from pfn_node.store.facts import own_id
from pfn_node.store.observations import counted_observations
from pfn_node.store.queries import select, value
from pfn_node.store.rows import Release


def version_envelopes(db: sqlite_utils.Database, release: Release, limit: int) -> tuple[bytes, ...]:
    """Return what nodes announced of a release, of its digest or another: this node, pinned ones, then the others."""
    own = own_id(db)
    rows = counted_observations(db, own, release.source_id, release.plugin_id, release.version)
    rows.sort(key=lambda row: (row["observer"] != own, not row["pinned"], row["sha256"] != release.sha256))
    announced = (
        value(db, "SELECT raw FROM announcements WHERE id = ?", (row["announcement_id"],))
        for row in rows
        if row["announcement_id"] is not None
    )
    # What this node announced of late may not be kept yet.
    found = (raw for raw in announced if raw is not None)
    return tuple(raw for raw, _ in zip(found, range(limit), strict=False))


def key_envelopes(db: sqlite_utils.Database, source_id: str, public_key: bytes, limit: int) -> tuple[bytes, ...]:
    """Return the source announcements of nodes that verified this key, or warn of it: own, pinned, then the others."""
    rows = select(
        db,
        """
        SELECT announcements.raw FROM attestations
        JOIN announcements ON announcements.id = attestations.announcement_id
        LEFT JOIN peers ON peers.node_id = attestations.observer
        WHERE attestations.source_id = ? AND attestations.public_key = ? AND attestations.admitted
          AND (attestations.verified OR attestations.oracle = 'raw') AND NOT coalesce(peers.blocked, 0)
        ORDER BY attestations.observer <> ?, coalesce(peers.pinned, 0) DESC, attestations.received_at,
                 attestations.observer
        LIMIT ?
        """,
        (source_id, public_key, own_id(db), limit),
    )
    return tuple(row["raw"] for row in rows)
