"""API keys. Only a hash of the secret is ever stored; whoever reads this file cannot act as anybody."""

import json
from typing import Final

import sqlite_utils

from pfn_node.store.queries import Row, change, select, select_one, storable, to_json
from pfn_node.store.rows import ApiKey

DESCRIPTION_CHARACTERS_MAX: Final = 200


def insert_key(
    db: sqlite_utils.Database,
    id: str,
    secret_hash: bytes,
    description: str,
    scopes: tuple[str, ...],
    created: int,
    expires: int | None,
) -> ApiKey:
    """Add a key; times in seconds, `expires` None: never."""
    description = storable(description, DESCRIPTION_CHARACTERS_MAX)
    change(
        db,
        "INSERT INTO api_keys (id, secret_hash, description, scopes, created, expires) VALUES (?, ?, ?, ?, ?, ?)",
        (id, secret_hash, description, to_json(scopes), created, expires),
    )
    return ApiKey(id, description, tuple(scopes), created, expires, None, None)


def find_key(db: sqlite_utils.Database, id: str) -> tuple[ApiKey, bytes] | None:
    """Return a key and the hash of its secret, also if it is revoked or has expired: the caller judges that."""
    row = select_one(db, "SELECT * FROM api_keys WHERE id = ?", (id,))
    return None if row is None else (_key_from(row), row["secret_hash"])


def list_keys(db: sqlite_utils.Database) -> list[ApiKey]:
    """Return all keys, oldest first."""
    return [_key_from(row) for row in select(db, "SELECT * FROM api_keys ORDER BY created, id")]


def revoke_key(db: sqlite_utils.Database, id: str, at: int) -> bool:
    """End a key at a time (seconds); return whether there was one that was not revoked yet."""
    return change(db, "UPDATE api_keys SET revoked = ? WHERE id = ? AND revoked IS NULL", (at, id)) == 1


def expire_key(db: sqlite_utils.Database, id: str, at: int) -> bool:
    """Let a key end at a time at the latest (a rotated key overlaps with its successor); return whether it is known."""
    return change(db, "UPDATE api_keys SET expires = min(coalesce(expires, ?), ?) WHERE id = ?", (at, at, id)) == 1


def touch_key(db: sqlite_utils.Database, id: str, at: int) -> None:
    """Note that a key was used."""
    change(db, "UPDATE api_keys SET last_used = ? WHERE id = ?", (at, id))


def _key_from(row: Row) -> ApiKey:
    return ApiKey(
        id=row["id"],
        description=row["description"],
        scopes=tuple(json.loads(row["scopes"])),
        created=row["created"],
        expires=row["expires"],
        last_used=row["last_used"],
        revoked=row["revoked"],
    )
