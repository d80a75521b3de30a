"""Since when a release is seen here, for cooling down (R146): since somebody was there whose word backs its bytes.

A name, a version and a digest cost a stranger nothing, and a thief knows all three of the release that he is going to
sign: that they were announced before he changed the key must not save his release from cooling down. Nor must that it
was signed before by a key which did not speak yet.
"""

import sqlite_utils

from pfn_node.store.evidence import open_keybind
from pfn_node.store.observations import observation_from
from pfn_node.store.queries import Row, select, value
from pfn_node.store.safety import seen_at
from pfn_protocol.announcements import EvidenceForm
from pfn_protocol.backing import Judgement, Relation, Sighting
from pfn_protocol.errors import Refusal
from pfn_protocol.publisher_notices import Rotation, open_notice


def first_counted(
    db: sqlite_utils.Database, source_id: str, judgement: Judgement, seen: list[tuple[Row, Sighting]]
) -> int:
    """When the first of those was there who see the judged bytes and whose word could back them; in seconds.

    Of bytes that nobody backs: when they were first announced.
    """
    trusted = Relation.DEPTH if judgement.backed_by == "depth" else Relation.PIN
    moments = [row["received_at"] for row, sighting in seen if sighting.relation >= trusted]
    if judgement.backed_by == "release":
        moments += [_signed_since(db, source_id, row) for row, sighting in seen if sighting.release]
    return int(min(moments or [row["received_at"] for row, _ in seen]))


def _signed_since(db: sqlite_utils.Database, source_id: str, row: Row) -> int:
    """When a release statement was there, and the keys that it stands on spoke."""
    signer = row["release_key"]
    identity = signer
    for piece in observation_from(row).evidence:
        if piece.form is EvidenceForm.KEYBIND:
            try:
                bound, release_key = open_keybind(piece.data)
            except Refusal:
                continue
            if release_key == signer:
                identity = bound.identity_key
    bound_at = value(
        db,
        "SELECT seen_at FROM keybinds WHERE source_id = ? AND release_key = ? AND identity_key = ?",
        (source_id, signer, identity),
    )
    return max(seen_at(row), bound_at or 0, _spoke_since(db, source_id, identity))


def _spoke_since(db: sqlite_utils.Database, source_id: str, identity: bytes) -> int:
    """When a key became one that the source is known by; 0: it was from the beginning."""
    chosen_at = value(db, "SELECT chosen_at FROM key_roots WHERE source_id = ? AND root = ?", (source_id, identity))
    rows = select(
        db,
        """
        SELECT raw, seen_at FROM publisher_notices
        WHERE source_id = ? AND kind = 'rotate' AND signer = ? ORDER BY seen_at
        """,
        (source_id, identity),
    )
    for row in rows:
        rotation = open_notice(row["raw"]).notice
        if isinstance(rotation, Rotation) and rotation.old_key != rotation.new_key:
            return int(row["seen_at"])
    return int(chosen_at or 0)
