"""What nodes announced and the publisher signed of one release and its source's keys, as received: it proves itself.

Where there are more than are asked for, those come first that say most to somebody who trusts as this node does.
"""

import sqlite_utils

from pfn_node.store.facts import own_id
from pfn_node.store.observations import counted_observations
from pfn_node.store.queries import select, value
from pfn_node.store.rows import Release
from pfn_node.store.safety import subject_of_notice
from pfn_protocol.notice_fields import affects
from pfn_protocol.publisher_notices import Advisory, Rotation, open_notice


def version_envelopes(db: sqlite_utils.Database, release: Release, limit: int) -> tuple[bytes, ...]:
    """Return what nodes announced of a release, of its digest or another: this node, pinned ones, then the others."""
    own = own_id(db)
    rows = counted_observations(db, own, release.source_id, release.plugin_id, release.version)
    rows.sort(
        key=lambda row: (
            row["observer"] != own,
            not row["pinned"],
            row["sha256"] != release.sha256,
            row["observed_at"] == 0,  # who did not fetch it witnesses nothing (R163)
        )
    )
    announced = (
        value(db, "SELECT raw FROM announcements WHERE id = ?", (row["announcement_id"],))
        for row in rows
        if row["announcement_id"] is not None
    )
    # What this node announced of late may not be kept yet.
    found = (raw for raw in announced if raw is not None)
    return tuple(raw for raw, _ in zip(found, range(limit), strict=False))


def key_envelopes(db: sqlite_utils.Database, source_id: str, public_key: bytes, limit: int) -> tuple[bytes, ...]:
    """Return the source announcements of nodes that verified this key, or warn of it: own, pinned, then the others.

    Warnings of keys that it follows come along: who signs anything with one of them signs himself into the next.
    """
    rows = select(
        db,
        """
        SELECT announcements.raw FROM attestations
        JOIN announcements ON announcements.id = attestations.announcement_id
        LEFT JOIN peers ON peers.node_id = attestations.observer
        WHERE attestations.source_id = :source AND attestations.admitted AND NOT coalesce(peers.blocked, 0)
          AND (attestations.public_key = :key AND attestations.verified
               OR attestations.oracle = 'raw' AND (attestations.public_key = :key OR attestations.public_key IN (
                   SELECT key FROM source_keys WHERE source_id = :source AND is_identity)))
        ORDER BY attestations.observer <> :own, coalesce(peers.pinned, 0) DESC, attestations.received_at,
                 attestations.observer
        LIMIT :limit
        """,
        {"source": source_id, "key": public_key, "own": own_id(db), "limit": limit},
    )
    return tuple(row["raw"] for row in rows)


def identity_keys(db: sqlite_utils.Database, source_id: str) -> tuple[bytes, ...]:
    """Return every key that was, or is, the identity of a source; the newest first, and revoked ones too."""
    rows = select(
        db, "SELECT key FROM source_keys WHERE source_id = ? AND is_identity ORDER BY epoch DESC, key", (source_id,)
    )
    return tuple(row["key"] for row in rows)


def keybind_envelopes(db: sqlite_utils.Database, source_id: str) -> tuple[bytes, ...]:
    """Return how identity keys of a source bound its release keys, the newest first."""
    rows = select(db, "SELECT raw FROM keybinds WHERE source_id = ? ORDER BY seen_at DESC, raw", (source_id,))
    return tuple(row["raw"] for row in rows)


def key_change_envelopes(db: sqlite_utils.Database, source_id: str) -> tuple[bytes, ...]:
    """Return the rotations and revocations of a source; not what was settled when an admin chose its key (R140)."""
    settled = value(db, "SELECT epoch FROM key_roots WHERE source_id = ?", (source_id,)) or 0
    rows = select(
        db,
        "SELECT raw FROM publisher_notices WHERE source_id = ? AND kind IN ('rotate', 'revoke') ORDER BY seen_at, raw",
        (source_id,),
    )
    notices = ((row["raw"], open_notice(row["raw"]).notice) for row in rows)
    return tuple(raw for raw, notice in notices if not (isinstance(notice, Rotation) and notice.epoch <= settled))


def word_envelopes(db: sqlite_utils.Database, release: Release, limit: int) -> tuple[bytes, ...]:
    """Return the publisher's yank of a release, and its advisories about it: those in force, the newest first."""
    rows = select(
        db,
        """
        SELECT raw FROM publisher_notices
        WHERE source_id = :source AND (kind = 'yank' AND subject = :yank
            OR kind = 'advisory' AND substr(subject, 1, length(:plugin)) = :plugin)
        ORDER BY kind = 'advisory', withdrawn, epoch DESC, seq DESC
        """,
        {
            "source": release.source_id,
            "yank": subject_of_notice(release.plugin_id, release.version),
            "plugin": subject_of_notice(release.plugin_id, ""),
        },
    )
    opened = ((row["raw"], open_notice(row["raw"]).notice) for row in rows)
    about = [raw for raw, word in opened if not isinstance(word, Advisory) or affects(word.ranges, release.version)]
    return tuple(about[:limit])
