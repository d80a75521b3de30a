"""Whether what is known of a source is fresh: a mirror that hides a publisher's news cannot hide that (R152)."""

import sqlite_utils

from pfn_node.store.heads import has_expired_head
from pfn_node.store.queries import value
from pfn_protocol.limits import stale_seconds


def is_stale(db: sqlite_utils.Database, source_id: str, now: int) -> bool:
    """Whether neither this node nor a pinned one has verified the source lately, or its newest head has expired."""
    return now - last_verified(db, source_id) > stale_seconds or has_expired_head(db, source_id, now)


def last_verified(db: sqlite_utils.Database, source_id: str) -> int:
    """Return when the source's key was last verified here or, as it says, by a pinned node; 0: never.

    A node's word is no younger than its announcement, whatever it says.
    """
    found = value(
        db,
        """
        SELECT max(coalesce(verified_at, 0), coalesce((
            SELECT max(min(a.verified_at, a.seq / 1000)) FROM attestations AS a JOIN peers ON peers.node_id = a.observer
            WHERE a.source_id = sources.id AND a.public_key = sources.key_raw AND a.verified AND a.admitted
              AND peers.pinned AND NOT peers.blocked), 0))
        FROM sources WHERE id = ?
        """,
        (source_id,),
    )
    return int(found or 0)
