"""For how long the words of publishers are kept: as long as their source, or for good once it was relied on here.

Notices, keybinds, heads and what follows from them stand in the way of older ones (R140, R143, R151). Of a source that
an admin registered, or that proved its key here, they outlive the source: who deletes it and hears of it again must not
meet keys that were revoked. Of one that was only heard of, strangers may have made them up, and as many as they like:
there they go with the source.
"""

from typing import Final

import sqlite_utils

from pfn_node.store.queries import change, value

# At most `notices_per_source_max`, `keybinds_max`, `heads_per_source_max` and the keys that these name.
_STATEMENTS: Final = (
    "DELETE FROM publisher_notices WHERE source_id = ?",
    "DELETE FROM keybinds WHERE source_id = ?",
    "DELETE FROM heads WHERE source_id = ?",
    "DELETE FROM source_keys WHERE source_id = ?",
    "DELETE FROM key_roots WHERE source_id = ?",
)


def was_relied_on(db: sqlite_utils.Database, source_id: str) -> bool:
    """Whether the keys of a source were relied on when an admin removed it."""
    return bool(value(db, "SELECT relied FROM key_roots WHERE source_id = ?", (source_id,)))


def note_relied_on(db: sqlite_utils.Database, source_id: str) -> None:
    """Remember of a source that is about to be removed whether it is relied on, if anything is kept of its keys."""
    change(
        db,
        """
        UPDATE key_roots SET relied = 1 WHERE source_id = :id
          AND EXISTS (SELECT 1 FROM sources WHERE id = :id AND (registered OR verified_at IS NOT NULL))
        """,
        {"id": source_id},
    )


def forget_statements(db: sqlite_utils.Database, source_id: str) -> None:
    """Delete what was kept of the keys and notices of a source that is gone, unless it was relied on."""
    if was_relied_on(db, source_id):
        return
    for statement in _STATEMENTS:
        change(db, statement, (source_id,))
