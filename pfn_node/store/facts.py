"""Single values that outlive a restart: who this node is, how far it trusts, and what it announced last."""

from typing import Final

import sqlite_utils

from pfn_node.store.queries import change, value

NODE_ID: Final = "node_id"
TRUST_DEPTH: Final = "trust_depth"
TRUST_DEPTH_DEFAULT: Final = 1


def get_fact(db: sqlite_utils.Database, name: str) -> str | None:
    """Return a value, or None if it was never set."""
    found: str | None = value(db, "SELECT value FROM facts WHERE name = ?", (name,))
    return found


def set_fact(db: sqlite_utils.Database, name: str, text: str) -> None:
    """Set a value, replacing the one before."""
    change(
        db,
        "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, text),
    )


def delete_fact(db: sqlite_utils.Database, name: str) -> None:
    """Forget a value."""
    change(db, "DELETE FROM facts WHERE name = ?", (name,))


def set_identity(db: sqlite_utils.Database, node_id: bytes, trust_depth: int) -> bool:
    """Record who this node is and how far it trusts; called at every start, before anything is judged.

    Return whether either changed: then every conclusion has to be drawn again (`releases.refresh_all`).
    """
    before = (get_fact(db, NODE_ID), get_fact(db, TRUST_DEPTH))
    set_fact(db, NODE_ID, node_id.hex())
    set_fact(db, TRUST_DEPTH, str(trust_depth))
    return before != (node_id.hex(), str(trust_depth))


def own_id(db: sqlite_utils.Database) -> bytes:
    """Return this node's id, or empty bytes before it was recorded."""
    return bytes.fromhex(get_fact(db, NODE_ID) or "")


def trust_depth(db: sqlite_utils.Database) -> int:
    """Return how many pins away an observer may be to help backing bytes."""
    return int(get_fact(db, TRUST_DEPTH) or TRUST_DEPTH_DEFAULT)
