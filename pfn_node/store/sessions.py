"""Sessions of the web interface: each stands for an API key for some hours. Only a hash of its token is stored."""

from typing import Final

import sqlite_utils

from pfn_node.store.queries import change, select_one
from pfn_node.store.rows import Session

# People with one key and several browsers; who begins one more than that ends the oldest.
SESSIONS_PER_KEY_MAX: Final = 20
# Of all keys together: some 100 bytes each.
SESSIONS_MAX: Final = 2_000


def insert_session(db: sqlite_utils.Database, token_hash: bytes, key_id: str, created: int, expires: int) -> Session:
    """Begin a session; times in seconds. What has expired goes, and the oldest where there are too many."""
    change(db, "DELETE FROM sessions WHERE expires <= ?", (created,))
    change(
        db,
        """
        DELETE FROM sessions WHERE token_hash IN (
            SELECT token_hash FROM sessions WHERE key_id = ? ORDER BY created DESC, token_hash LIMIT -1 OFFSET ?
        )
        """,
        (key_id, SESSIONS_PER_KEY_MAX - 1),
    )
    change(
        db,
        """
        DELETE FROM sessions WHERE token_hash IN (
            SELECT token_hash FROM sessions ORDER BY created DESC, token_hash LIMIT -1 OFFSET ?
        )
        """,
        (SESSIONS_MAX - 1,),
    )
    change(
        db,
        "INSERT INTO sessions (token_hash, key_id, created, expires) VALUES (?, ?, ?, ?)",
        (token_hash, key_id, created, expires),
    )
    return Session(token_hash, key_id, created, expires)


def find_session(db: sqlite_utils.Database, token_hash: bytes) -> Session | None:
    """Return a session, also if it or its key has ended: the caller judges that."""
    row = select_one(db, "SELECT * FROM sessions WHERE token_hash = ?", (token_hash,))
    return None if row is None else Session(**row)


def delete_session(db: sqlite_utils.Database, token_hash: bytes) -> bool:
    """End a session; return whether there was one."""
    return change(db, "DELETE FROM sessions WHERE token_hash = ?", (token_hash,)) == 1


def delete_sessions_of(db: sqlite_utils.Database, key_id: str) -> int:
    """End every session of a key; return how many there were."""
    return change(db, "DELETE FROM sessions WHERE key_id = ?", (key_id,))
