"""Other nodes: their addresses, and the operator's opinion of them (joined, pinned, blocked).

Whom this node pins and blocks decides whose observations back bytes, so a change of either judges again, in the same
transaction, whatever rests on that node's word.
"""

from collections.abc import Sequence
from typing import Final

import sqlite_utils

from pfn_node.store import audit, discovery, releases
from pfn_node.store.queries import Row, change, select, select_one, to_json, value
from pfn_node.store.rows import Peer
from pfn_protocol.identity import did_key

# Addresses of nodes without an opinion about them; beyond, those seen longest ago are forgotten.
PEERS_MAX: Final = 10_000
JOIN_TARGETS_MAX: Final = 100
# Who was reached before what is known of it was reached by a clock that was set back since; or the newest nodes would
# be forgotten for those of its future. What happened at once may be told in another order.
LATE_SECONDS_MAX: Final = 60


def save_peer(
    db: sqlite_utils.Database,
    node_id: bytes,
    *,
    url: str | None = None,
    seen: int | None = None,
    introduced: bool = False,
) -> None:
    """Remember a node's address and when it was last reached (seconds); what is None stays as it was.

    `introduced`: a node that was joined or is pinned named it; that stays.
    """
    is_new = value(db, "SELECT 1 FROM peers WHERE node_id = ?", (node_id,)) is None
    change(
        db,
        """
        INSERT INTO peers (node_id, url, last_seen, introduced) VALUES (?, ?, ?, ?)
        ON CONFLICT (node_id) DO UPDATE SET
            url = coalesce(excluded.url, url),
            last_seen = CASE WHEN excluded.last_seen < last_seen - ? THEN excluded.last_seen
                        ELSE coalesce(max(excluded.last_seen, last_seen), excluded.last_seen, last_seen) END,
            introduced = max(excluded.introduced, introduced)
        """,
        (node_id, url, seen, introduced, LATE_SECONDS_MAX),
    )
    if is_new:
        change(
            db,
            """
            DELETE FROM peers WHERE node_id IN (
                SELECT node_id FROM peers WHERE node_id <> ? AND NOT (joined OR pinned OR blocked OR unpinned)
                ORDER BY last_seen DESC LIMIT -1 OFFSET ?)
            """,
            (node_id, PEERS_MAX - 1),
        )


def set_peer_policy(
    db: sqlite_utils.Database,
    node_id: bytes,
    *,
    pinned: bool | None = None,
    blocked: bool | None = None,
    joined: bool | None = None,
    provisional: bool | None = None,
) -> Peer:
    """Set the operator's opinion of a node (None: as it was), and judge again what rests on its word.

    Taking a pin away is remembered as `unpinned`, until somebody pins the node again.
    """
    before = get_peer(db, node_id)
    if before is None:
        save_peer(db, node_id)
    unpinned = None if pinned is None else not pinned
    change(
        db,
        """
        UPDATE peers SET pinned = coalesce(?, pinned), unpinned = coalesce(?, unpinned), blocked = coalesce(?, blocked),
                         joined = coalesce(?, joined), provisional = coalesce(?, provisional)
        WHERE node_id = ?
        """,
        (pinned, unpinned, blocked, joined, provisional, node_id),
    )
    after = get_peer(db, node_id)
    assert after is not None
    trusted_before = before is not None and before.pinned and not before.blocked
    heard_before = before is None or not before.blocked
    if (trusted_before, heard_before) != (after.pinned and not after.blocked, not after.blocked):
        for name in (node_id, *former_names(db, node_id)):
            discovery.reconsider_observer(db, name)
            releases.refresh_observer(db, name)
    return after


def former_names(db: sqlite_utils.Database, node_id: bytes) -> list[bytes]:
    """Return the keys that a node had before (successions.py): what they saw counts as its own word."""
    rows = select(
        db, "SELECT old FROM node_successions WHERE heir = ? AND moved_at IS NOT NULL ORDER BY old", (node_id,)
    )
    return [row["old"] for row in rows]


def pin_on_join(db: sqlite_utils.Database, node_id: bytes, provisional: bool, at: int) -> bool:
    """Pin a node that was joined, unless the operator said otherwise of it; return whether it is pinned only now."""
    known = get_peer(db, node_id)
    if known is not None and (known.pinned or known.unpinned or known.blocked):
        return False
    set_peer_policy(db, node_id, pinned=True, provisional=provisional)
    facts = {"provisional": provisional}
    audit.append(db, at=at, actor=audit.SYSTEM, action="pin on join", target=did_key(node_id), details=facts)
    return True


def get_peer(db: sqlite_utils.Database, node_id: bytes) -> Peer | None:
    """Return what is known of a node, or None."""
    row = select_one(db, "SELECT * FROM peers WHERE node_id = ?", (node_id,))
    return None if row is None else peer_from(row)


def peers(db: sqlite_utils.Database) -> list[Peer]:
    """Return every node that this one knows an address of or has an opinion about, the longest known first."""
    return [peer_from(row) for row in select(db, "SELECT * FROM peers ORDER BY rowid")]


def peers_of_opinion(db: sqlite_utils.Database) -> list[Peer]:
    """Return those of `peers` that the operator joined, pinned or blocked."""
    return [
        peer_from(row) for row in select(db, "SELECT * FROM peers WHERE joined OR pinned OR blocked ORDER BY rowid")
    ]


def first_peers(db: sqlite_utils.Database, linked: Sequence[bytes], limit: int) -> list[Peer]:
    """Return those of `peers` with an opinion about them, then the linked ones, then by last seen; at most `limit`."""
    rows = select(
        db,
        """
        SELECT * FROM peers ORDER BY joined OR pinned OR blocked DESC,
            lower(hex(node_id)) IN (SELECT value FROM json_each(?)) DESC, last_seen DESC, node_id LIMIT ?
        """,
        (to_json([node_id.hex() for node_id in linked]), limit),
    )
    return [peer_from(row) for row in rows]


def forget_peer(db: sqlite_utils.Database, node_id: bytes) -> bool:
    """Forget a node that has not answered for too long, unless the operator has an opinion about it."""
    return (
        change(
            db,
            "DELETE FROM peers WHERE node_id = ? AND NOT (joined OR pinned OR blocked OR unpinned)",
            (node_id,),
        )
        == 1
    )


def join_targets(db: sqlite_utils.Database) -> list[tuple[str, bytes | None]]:
    """Return the URLs that the operator joined, each with the node expected there (None: whoever answers first)."""
    rows = db.execute("SELECT url, node_id FROM join_targets ORDER BY rowid").fetchall()
    return [(url, node_id) for url, node_id in rows]


def add_join_target(db: sqlite_utils.Database, url: str, node_id: bytes | None = None) -> bool:
    """Remember to join a URL; a known target keeps its key unless one is given. Return False past the limit."""
    known = value(db, "SELECT 1 FROM join_targets WHERE url = ?", (url,))
    if known is None and value(db, "SELECT count(*) FROM join_targets") >= JOIN_TARGETS_MAX:
        return False
    change(
        db,
        """
        INSERT INTO join_targets (url, node_id) VALUES (?, ?)
        ON CONFLICT (url) DO UPDATE SET node_id = coalesce(excluded.node_id, node_id)
        """,
        (url, node_id),
    )
    return True


def leave(db: sqlite_utils.Database, *, url: str | None, node_id: bytes | None) -> tuple[list[str], list[bytes]]:
    """Take back that a URL, or a node wherever it is, was joined. Return the URLs and nodes that are joined no more.

    A pin stays, and so does a node that is joined at another URL as well.
    """
    rows = select(
        db,
        """
        SELECT url, node_id FROM join_targets
        WHERE (:url IS NULL OR url = :url) AND (:node IS NULL OR node_id = :node) ORDER BY rowid
        """,
        {"url": url, "node": node_id},
    )
    for row in rows:
        change(db, "DELETE FROM join_targets WHERE url = ?", (row["url"],))
    nodes = {row["node_id"] for row in rows if row["node_id"] is not None}
    if url is None and node_id is not None:
        nodes.add(node_id)  # joined by a pin that moved, or by a target that is gone
    left = []
    for node in sorted(nodes):
        known = get_peer(db, node)
        elsewhere = value(db, "SELECT 1 FROM join_targets WHERE node_id = ?", (node,))
        if known is not None and known.joined and not elsewhere:
            set_peer_policy(db, node, joined=False)
            left.append(node)
    return [row["url"] for row in rows], left


def peer_from(row: Row) -> Peer:
    """Make a `Peer` of a row of the table."""
    return Peer(
        node_id=row["node_id"],
        url=row["url"],
        joined=bool(row["joined"]),
        pinned=bool(row["pinned"]),
        provisional=bool(row["provisional"]),
        blocked=bool(row["blocked"]),
        last_seen=row["last_seen"],
        unpinned=bool(row["unpinned"]),
        introduced=bool(row["introduced"]),
    )
