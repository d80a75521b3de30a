"""When a pin moves to another key: to the one whose hash its node committed to long before, and to no other.

How long before is counted from this node's own first sight of the commitment, never by the author's clock. Commitments
and successions are write-once here: a second, different one voids both, for it may be a thief's, or the first may.
Then, and whenever else a succession is not followed, the operator is told, and may pin the new key by hand.

What the old key said before its name was passed on counts on as its heir's word (observations.py), once; what it
signs afterwards is a stranger's.
"""

from hashlib import sha256

import sqlite_utils

from pfn_node.store import audit
from pfn_node.store.activity import record_activity
from pfn_node.store.facts import own_id
from pfn_node.store.peers import get_peer, save_peer, set_peer_policy
from pfn_node.store.queries import Row, change, select, select_one, value
from pfn_node.store.rows import Peer
from pfn_protocol.announcements import AcceptedAnnouncement, SuccessionStatement, SuccessorStatement
from pfn_protocol.identity import did_key, short_did
from pfn_protocol.limits import succession_age_seconds_min

# A commitment is kept as long as its announcement; of a pinned node for ever, so that no other takes its place.
FORGET_COMMITMENT = """
    DELETE FROM node_commitments
    WHERE announcement_id = ? AND author NOT IN (SELECT node_id FROM peers WHERE pinned)
"""


def keep_commitment(
    db: sqlite_utils.Database, announcement: AcceptedAnnouncement, statement: SuccessorStatement, at: int
) -> None:
    """Remember which next key a node committed to, and since when this one knows; `at` in seconds."""
    change(
        db,
        """
        INSERT INTO node_commitments (author, hash, first_seen, announcement_id) VALUES (?, ?, ?, ?)
        ON CONFLICT (author) DO UPDATE SET
            void = max(void, hash <> excluded.hash), announcement_id = excluded.announcement_id
        """,
        (announcement.author, statement.key_sha256, at, announcement.id),
    )


def commitment(db: sqlite_utils.Database, author: bytes) -> Row | None:
    """Return what an author committed to, as far as this node knows: `hash`, `first_seen` (seconds), `void`."""
    return select_one(db, "SELECT hash, first_seen, void FROM node_commitments WHERE author = ?", (author,))


def committed_since(db: sqlite_utils.Database, author: bytes, new: bytes) -> int | None:
    """Since when (seconds) this node knows that an author committed to a key; None: it did not, or not only to it."""
    found: int | None = value(
        db,
        "SELECT first_seen FROM node_commitments WHERE author = ? AND hash = ? AND NOT void",
        (author, sha256(new).digest()),
    )
    return found


def keep_succession(
    db: sqlite_utils.Database, announcement: AcceptedAnnouncement, statement: SuccessionStatement, at: int
) -> None:
    """Move the pin of the old key to the new one if everything speaks for it, or else tell the operator, once."""
    old, new = statement.old_key, announcement.author
    known = select_one(db, "SELECT new, void, moved_at FROM node_successions WHERE old = ?", (old,))
    peer = get_peer(db, old)
    if peer is None or not peer.pinned or (known is not None and (known["void"] or known["moved_at"] is not None)):
        return
    if known is None:
        change(
            db,
            "INSERT INTO node_successions (old, new, heir, first_seen) VALUES (?, ?, ?, ?)",
            (old, new, new, at),
        )
    elif known["new"] != new:
        change(db, "UPDATE node_successions SET void = 1 WHERE old = ?", (old,))
        _tell(db, f"{_name(old)} names two successors; its pin stays where it is until you decide", at)
        return
    obstacle = _obstacle(db, peer, new, at)
    if obstacle is None:
        _move(db, peer, new, at)
    elif known is None:
        _tell(
            db,
            f"{_name(old)} wants to pass its name to {did_key(new)}, but {obstacle}; pin it yourself if that is right",
            at,
        )


def take_over(db: sqlite_utils.Database, old: bytes, new: bytes, at: int) -> None:
    """This node itself has a new key: what it saw under the old one it saw, and it says so again under the new one."""
    if value(db, "SELECT 1 FROM node_successions WHERE old = ? AND moved_at IS NOT NULL", (old,)):
        return
    change(
        db,
        """
        UPDATE OR IGNORE observations SET observer = ?, announcement_id = NULL, epoch = 0, seq = 0, admitted = 1
        WHERE observer = ?
        """,
        (new, old),
    )
    _record(db, old, new, at)


def disinherit(db: sqlite_utils.Database, convicted: bytes, at: int) -> None:
    """Take the pin from the heir of a convicted key: one node, whatever it is called."""
    heir = value(db, "SELECT heir FROM node_successions WHERE old = ? AND moved_at IS NOT NULL", (convicted,))
    if heir is None or heir == own_id(db):
        return
    peer = get_peer(db, heir)
    if peer is not None and peer.pinned:
        set_peer_policy(db, heir, pinned=False)
        _tell(db, f"{_name(heir)} is no longer pinned: the key whose name it took over told two stories", at)


def successors(db: sqlite_utils.Database) -> dict[bytes, bytes]:
    """Return who has the names of keys that were succeeded."""
    rows = select(db, "SELECT old, heir FROM node_successions WHERE moved_at IS NOT NULL")
    return {row["old"]: row["heir"] for row in rows}


def _obstacle(db: sqlite_utils.Database, old: Peer, new: bytes, at: int) -> str | None:
    """What speaks against moving the pin, for people; None: nothing."""
    heir = get_peer(db, new)
    if new == own_id(db):
        return "that is this node itself"
    if old.blocked or (heir is not None and heir.blocked):
        return "one of the two is blocked"
    if heir is not None and (heir.pinned or heir.unpinned):
        return "you have decided about that key yourself"
    if value(db, "SELECT 1 FROM convictions WHERE node_id IN (?, ?)", (old.node_id, new)):
        return "one of the two told two stories"
    since = committed_since(db, old.node_id, new)
    if since is None:
        return "it did not commit to this key, and to no other, before"
    if at - since < succession_age_seconds_min:
        return f"this node has known of that for less than {succession_age_seconds_min // 3_600} hours"
    return None


def _move(db: sqlite_utils.Database, old: Peer, new: bytes, at: int) -> None:
    save_peer(db, new, url=old.url)
    _record(db, old.node_id, new, at)
    set_peer_policy(db, new, pinned=True, joined=old.joined or None, provisional=old.provisional)
    set_peer_policy(db, old.node_id, pinned=False, joined=False)
    change(db, "UPDATE join_targets SET node_id = ? WHERE node_id = ?", (new, old.node_id))
    facts = {"old": did_key(old.node_id)}
    audit.append(db, at=at, actor=audit.SYSTEM, action="pin successor", target=did_key(new), details=facts)
    _tell(db, f"{_name(old.node_id)} passed its name to {did_key(new)}, as it had committed to; the pin follows", at)


def _record(db: sqlite_utils.Database, old: bytes, new: bytes, at: int) -> None:
    change(
        db,
        """
        INSERT INTO node_successions (old, new, heir, first_seen, moved_at) VALUES (:old, :new, :new, :at, :at)
        ON CONFLICT (old) DO UPDATE SET new = excluded.new, heir = excluded.heir, moved_at = excluded.moved_at
        """,
        {"old": old, "new": new, "at": at},
    )
    change(db, "UPDATE node_successions SET heir = ? WHERE heir = ? AND moved_at IS NOT NULL", (new, old))


def _name(node: bytes) -> str:
    return f"The pinned node {short_did(did_key(node))}"


def _tell(db: sqlite_utils.Database, sentence: str, at: int) -> None:
    record_activity(db, "security", sentence, at=at)
