"""The newest head of each release key: an author's word on all releases that the key has signed (R54, R151).

A head comes with the publisher's own answers, or as evidence beside any announcement. The greatest seq that was ever
seen of a key stays, over restarts too, so that an older head never takes its place and nothing can be rolled back; once
it has expired it no longer counts, and says so (`stale`). Judging asks no clock: `counted` is taken away when a head
expires, and what rested on it is judged again (releases.py).
"""

from dataclasses import dataclass
from typing import Final

import sqlite_utils

from pfn_node.store.evidence import open_head, open_keybind, unpack_evidence
from pfn_node.store.queries import Row, change, select, select_one
from pfn_protocol.announcements import EvidenceForm
from pfn_protocol.errors import Refusal
from pfn_protocol.limits import future_ms_max, heads_per_source_max
from pfn_protocol.names import source_id_of
from pfn_protocol.publisher import HeadStatement, head_is_fresh
from pfn_protocol.set_digest import SetDigest

_KNOWN: Final = "SELECT 1 FROM heads WHERE source_id = ? AND raw = ? AND identity_key = ?"
_OF_KEY: Final = "SELECT seq, counted, identity_key FROM heads WHERE source_id = ? AND release_key = ?"


@dataclass(frozen=True, slots=True)
class HeadComparison:
    """What the newest head of a key says, beside what is known here of that key's releases."""

    release_key: bytes
    named: int
    known: int
    agrees: bool  # root and count are those of the releases that are known here
    expired: bool


def take_head(
    db: sqlite_utils.Database, source_id: str, raw: bytes, keybind: bytes | None, now: int
) -> list[tuple[str, str]]:
    """Keep a head if it is the newest of a key that speaks for the source; `now` in seconds.

    Return the (plugin id, version) that are to be judged again for it. What is not worth keeping changes nothing: a
    head of other keys, an expired one, one of a seq that is not reached yet, and one that is no newer.
    """
    identity_key = _identity_key(db, source_id)
    if identity_key is None or select_one(db, _KNOWN, (source_id, raw, identity_key)):
        return []
    try:
        head, release_key = open_head(raw)
        speaks = release_key == identity_key or _is_bound(source_id, identity_key, release_key, keybind)
    except Refusal:
        return []
    if not speaks or not head_is_fresh(head, now * 1000) or head.seq > now * 1000 + future_ms_max:
        return []
    before = select_one(db, _OF_KEY, (source_id, release_key))
    # Whichever identity bound the key: a rotation must not let older heads in again.
    is_bound_anew = before is not None and before["identity_key"] != identity_key
    if before is not None and (head.seq < before["seq"] or (head.seq == before["seq"] and not is_bound_anew)):
        return []
    _store(db, source_id, identity_key, release_key, raw, head)
    counted_to = before["seq"] if before is not None and before["counted"] and not is_bound_anew else -1
    return _signed_by(db, source_id, release_key, counted_to, head.seq)


def is_headed(db: sqlite_utils.Database, source_id: str, identity_key: bytes, release_key: bytes, seq: int) -> bool:
    """Whether a head that counts, of a release key that is not the identity key, is no older than a release."""
    if release_key == identity_key:
        return False
    head = _newest(db, source_id, identity_key, release_key)
    return head is not None and bool(head["counted"]) and head["seq"] >= seq


def expiring(db: sqlite_utils.Database) -> list[tuple[str, int]]:
    """Return each source of which a head counts, and when the first of them expires (seconds since 1970)."""
    rows = select(db, "SELECT source_id, min(expires_at) AS at FROM heads WHERE counted GROUP BY source_id")
    return [(row["source_id"], row["at"]) for row in rows]


def expire(db: sqlite_utils.Database, source_id: str, now: int) -> list[tuple[str, str]]:
    """Let the source's expired heads count no more; return the (plugin id, version) that are to be judged again."""
    rows = select(
        db,
        "SELECT release_key, seq FROM heads WHERE source_id = ? AND counted AND expires_at <= ?",
        (source_id, now),
    )
    for row in rows:
        change(
            db,
            "UPDATE heads SET counted = 0 WHERE source_id = ? AND release_key = ?",
            (source_id, row["release_key"]),
        )
    return [one for row in rows for one in _signed_by(db, source_id, row["release_key"], -1, row["seq"])]


def compare_heads(db: sqlite_utils.Database, source_id: str, now: int) -> list[HeadComparison]:
    """Compare each newest head of the source with the releases that are known here, the newest head first."""
    identity_key = _identity_key(db, source_id)
    rows = select(
        db,
        "SELECT * FROM heads WHERE source_id = ? AND identity_key = ? ORDER BY seq DESC",
        (source_id, identity_key),
    )
    return [_compared(db, row, now) for row in rows]


def _compared(db: sqlite_utils.Database, head: Row, now: int) -> HeadComparison:
    releases = select(
        db,
        """
        SELECT DISTINCT release_id FROM observations
        WHERE source_id = ? AND released AND release_key = ? AND checked_key = ?
        """,
        (head["source_id"], head["release_key"], head["identity_key"]),
    )
    # Adding up is needed only where the counts agree already.
    agrees = len(releases) == head["count"]
    agrees = agrees and SetDigest(row["release_id"] for row in releases).digest() == head["root"]
    return HeadComparison(head["release_key"], head["count"], len(releases), agrees, head["expires_at"] <= now)


def has_expired_head(db: sqlite_utils.Database, source_id: str, now: int) -> bool:
    """Whether the newest of the source's heads has expired; False if there never was one."""
    identity_key = _identity_key(db, source_id)
    newest = select_one(
        db,
        "SELECT expires_at FROM heads WHERE source_id = ? AND identity_key = ? ORDER BY expires_at DESC LIMIT 1",
        (source_id, identity_key),
    )
    return newest is not None and newest["expires_at"] <= now


def _identity_key(db: sqlite_utils.Database, source_id: str) -> bytes | None:
    row = select_one(db, "SELECT key_raw FROM sources WHERE id = ?", (source_id,))
    return None if row is None else row["key_raw"]


def _is_bound(source_id: str, identity_key: bytes, release_key: bytes, keybind: bytes | None) -> bool:
    if keybind is None:
        return False
    bound, _ = open_keybind(keybind)
    is_of_source = source_id_of(bound.origin, source_id.partition("@")[0]) == source_id
    return is_of_source and (bound.identity_key, bound.release_key) == (identity_key, release_key)


def _newest(db: sqlite_utils.Database, source_id: str, identity_key: bytes, release_key: bytes) -> Row | None:
    # What was bound to a key that the source no longer has does not count.
    return select_one(
        db,
        "SELECT seq, counted FROM heads WHERE source_id = ? AND release_key = ? AND identity_key = ?",
        (source_id, release_key, identity_key),
    )


def _store(
    db: sqlite_utils.Database, source_id: str, identity_key: bytes, release_key: bytes, raw: bytes, head: HeadStatement
) -> None:
    change(
        db,
        """
        INSERT OR REPLACE INTO heads (source_id, identity_key, release_key, raw, root, count, seq, expires_at, counted)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1)
        """,
        (source_id, identity_key, release_key, raw, head.root, head.count, head.seq, head.expires_s),
    )
    change(
        db,
        """
        DELETE FROM heads WHERE source_id = :source AND release_key NOT IN (
            SELECT release_key FROM heads WHERE source_id = :source ORDER BY expires_at DESC LIMIT :kept)
        """,
        {"source": source_id, "kept": heads_per_source_max},
    )


def _signed_by(
    db: sqlite_utils.Database, source_id: str, release_key: bytes, after: int, up_to: int
) -> list[tuple[str, str]]:
    rows = select(
        db,
        """
        SELECT DISTINCT plugin_id, version FROM observations
        WHERE source_id = ? AND released AND release_key = ? AND release_seq > ? AND release_seq <= ?
        """,
        (source_id, release_key, after, up_to),
    )
    return [(row["plugin_id"], row["version"]) for row in rows]


def take_unchecked(db: sqlite_utils.Database, source_id: str) -> None:
    """Look for heads in evidence that came before the source's key of today; everything is judged again after it."""
    rows = select(
        db,
        """
        SELECT evidence, received_at FROM observations JOIN sources ON sources.id = source_id
        WHERE source_id = ? AND checked_key IS NOT key_raw
        """,
        (source_id,),
    )
    for row in rows:
        pieces = {piece.form: piece.data for piece in unpack_evidence(row["evidence"])}
        if EvidenceForm.HEAD in pieces:
            # As of then; one that has expired since is found by those who look for that (`expire_heads`).
            take_head(db, source_id, pieces[EvidenceForm.HEAD], pieces.get(EvidenceForm.KEYBIND), row["received_at"])
