"""What an admin of this node decides about single releases: to take one down or bring it back, to approve one."""

import sqlite_utils

from pfn_node.store import holding_back, releases
from pfn_node.store.activity import record_activity
from pfn_node.store.queries import change, select_one, storable
from pfn_protocol.limits import reason_chars_max


def take_down(db: sqlite_utils.Database, key: tuple[str, str, str], reason: str, by: str, at: int) -> None:
    """Keep a tombstone for (source, plugin, version): from now on it is not served and not taken in, known or not."""
    source_id, plugin_id, version = key
    change(
        db,
        """
        INSERT INTO tombstones (source_id, plugin_id, version, reason, at) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (source_id, plugin_id, version) DO UPDATE SET reason = excluded.reason
        """,
        (*key, storable(reason, reason_chars_max), at),
    )
    message = f"the key {by} took {plugin_id} {version} down" + (f": {reason}" if reason else "")
    record_activity(db, "security", message, at=at, source_id=source_id, plugin_id=plugin_id, new_version=version)
    releases.refresh_version(db, *key, now=at)


def bring_back(db: sqlite_utils.Database, key: tuple[str, str, str], by: str, at: int) -> bool:
    """Remove a tombstone; return whether there was one."""
    gone = change(db, "DELETE FROM tombstones WHERE source_id = ? AND plugin_id = ? AND version = ?", key)
    if gone:
        source_id, plugin_id, version = key
        message = f"the key {by} took back that {plugin_id} {version} was taken down"
        record_activity(db, "security", message, at=at, source_id=source_id, plugin_id=plugin_id, new_version=version)
        releases.refresh_version(db, *key, now=at)
    return bool(gone)


def approve(db: sqlite_utils.Database, key: tuple[str, str, str], sha256: bytes, by: str, at: int) -> bool:
    """Let a release with these very bytes be served and count as the newest, whatever keeps it from that.

    That is a key of its source that changed just before it (R146), or that it is signed less than versions before it
    (R154). Return whether there was anything to approve.
    """
    source_id, plugin_id, version = key
    kept = select_one(
        db,
        """
        SELECT held_back, cooldown_until FROM releases
        WHERE source_id = ? AND plugin_id = ? AND version = ? AND sha256 = ?
        """,
        (*key, sha256),
    )
    if kept is None or (kept["held_back"] is None and kept["cooldown_until"] is None):
        return False
    holding_back.approve(db, key, sha256, at)
    why = f"though {kept['held_back']}" if kept["held_back"] else "before its time"
    message = f"the key {by} approved {plugin_id} {version}, {why}"
    record_activity(db, "security", message, at=at, source_id=source_id, plugin_id=plugin_id, new_version=version)
    releases.refresh_version(db, *key, now=at)
    return True
