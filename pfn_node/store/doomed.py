"""Artifacts whose files are still to be deleted: noted in the transaction that takes them out of every list."""

from typing import Final

import sqlite_utils

from pfn_node.store.facts import delete_fact, set_fact
from pfn_node.store.queries import select, value

_NAME: Final = "doomed:"


def doom(db: sqlite_utils.Database, sha256: bytes) -> None:
    """Note that the file goes."""
    set_fact(db, f"{_NAME}{sha256.hex()}", "")


def doomed(db: sqlite_utils.Database) -> list[bytes]:
    """Return what is noted, in ascending order."""
    rows = select(db, "SELECT name FROM facts WHERE name >= ? AND name < ? ORDER BY name", (_NAME, f"{_NAME}g"))
    return [bytes.fromhex(row["name"].removeprefix(_NAME)) for row in rows]


def is_wanted(db: sqlite_utils.Database, sha256: bytes) -> bool:
    """Return whether somebody wanted it meanwhile, so that it is listed again."""
    return value(db, "SELECT 1 FROM artifacts WHERE sha256 = ?", (sha256,)) is not None


def spare(db: sqlite_utils.Database, sha256: bytes) -> None:
    """Take the note away."""
    delete_fact(db, f"{_NAME}{sha256.hex()}")
