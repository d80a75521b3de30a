"""Levels that are kept to: a plugin that was signed is not served unsigned (R154).

A plugin is signed from the least of its versions on that reached A3 while its source's key was bound at its origin
(`origin_bound`; A3 itself asks that the publisher was probed). A version below A3 that is no older is held back: it is
listed with the reason, it is never the newest, and it is served only when an admin has approved these very bytes. Bytes
that were signed once stay what they are, whatever becomes of the source's key: nobody can take a release away from
outside.
"""

from typing import Final

import sqlite_utils

from pfn_node.store.queries import change, select, value
from pfn_protocol.backing import Judgement
from pfn_protocol.versions import compare

SIGNED_LEVELS: Final = ("A3", "A4")

# (source id, plugin id, version)
ReleaseKey = tuple[str, str, str]


def reason_to_hold_back(
    db: sqlite_utils.Database, key: ReleaseKey, judgement: Judgement, signed_sha256: bytes | None
) -> str | None:
    """Say why a release is not to be served though it is backed; None: nothing holds it back."""
    if judgement.backed_by is None or judgement.level in SIGNED_LEVELS or judgement.sha256 == signed_sha256:
        return None
    since = _signed_since(db, key)
    # Two spellings of one version are equal ("1.0" and "1.00"), and so is the same one with other bytes.
    if since is None or compare(key[2], since) < 0 or is_approved(db, key, judgement.sha256):
        return None
    return f"this plugin is signed (A3) since version {since}, and this version is only {judgement.level}"


def note_signed(db: sqlite_utils.Database, key: ReleaseKey, judgement: Judgement) -> list[str]:
    """Note that a version was found signed; return those no older that have to be judged again for it."""
    since = _signed_since(db, key)
    if judgement.level not in SIGNED_LEVELS or (since is not None and compare(key[2], since) >= 0):
        return []
    change(db, "INSERT OR REPLACE INTO signed_since (source_id, plugin_id, version) VALUES (?, ?, ?)", key)
    rows = select(
        db,
        "SELECT version FROM releases WHERE source_id = ? AND plugin_id = ? AND assurance NOT IN ('A3', 'A4')",
        key[:2],
    )
    return [row["version"] for row in rows if row["version"] != key[2] and compare(row["version"], key[2]) >= 0]


def approve(db: sqlite_utils.Database, key: ReleaseKey, sha256: bytes, at: int) -> None:
    """Note that an admin wants these very bytes served, whatever holds them back; `at` in seconds."""
    change(
        db,
        "INSERT OR IGNORE INTO approvals (source_id, plugin_id, version, sha256, approved_at) VALUES (?, ?, ?, ?, ?)",
        (*key, sha256, at),
    )


def is_approved(db: sqlite_utils.Database, key: ReleaseKey, sha256: bytes | None) -> bool:
    """Whether an admin approved these bytes as this release."""
    found = value(
        db,
        "SELECT 1 FROM approvals WHERE source_id = ? AND plugin_id = ? AND version = ? AND sha256 = ?",
        (*key, sha256),
    )
    return found is not None


def _signed_since(db: sqlite_utils.Database, key: ReleaseKey) -> str | None:
    found: str | None = value(db, "SELECT version FROM signed_since WHERE source_id = ? AND plugin_id = ?", key[:2])
    return found
