"""Running one statement, and reading its answer as dictionaries. Statements are constants; values are parameters."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import sqlite_utils

Row: TypeAlias = dict[str, Any]
Parameters: TypeAlias = Sequence[Any] | dict[str, Any]


@contextmanager
def read_once(db: sqlite_utils.Database) -> Iterator[None]:
    """Reads of what is read through once: its pages are not worth the memory, nor those that they would push out."""
    kept = int(db.execute("PRAGMA cache_size").fetchone()[0])
    db.execute("PRAGMA cache_size = -500")
    try:
        yield
    finally:
        db.execute(f"PRAGMA cache_size = {kept}")


def iterate(db: sqlite_utils.Database, sql: str, parameters: Parameters = ()) -> Iterator[Row]:
    """Yield the rows of a statement; read them all before writing to the tables that they come from."""
    cursor = db.execute(sql, parameters)
    names = [column[0] for column in cursor.description]
    for values in cursor:
        yield dict(zip(names, values, strict=True))


def select(db: sqlite_utils.Database, sql: str, parameters: Parameters = ()) -> list[Row]:
    """Return every row of a statement."""
    return list(iterate(db, sql, parameters))


def select_one(db: sqlite_utils.Database, sql: str, parameters: Parameters = ()) -> Row | None:
    """Return the first row of a statement, or None if it has none."""
    return next(iterate(db, sql, parameters), None)


def value(db: sqlite_utils.Database, sql: str, parameters: Parameters = ()) -> Any:
    """Return the first column of the first row, or None."""
    row = db.execute(sql, parameters).fetchone()
    return None if row is None else row[0]


def change(db: sqlite_utils.Database, sql: str, parameters: Parameters = ()) -> int:
    """Run an INSERT, UPDATE or DELETE; return how many rows it touched."""
    return int(db.execute(sql, parameters).rowcount)


def to_json(data: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return lists and small objects as the text that they are stored as; half surrogate pairs become '?'."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace").decode("utf-8")


def storable(text: str, characters_max: int) -> str:
    """Return the text as UTF-8 can hold it (half surrogate pairs become '?'), cut to a bound.

    For words that remote software chose and this node only shows: an error message must not fail to be recorded because
    of what stands in it.
    """
    return text[:characters_max].encode("utf-8", "replace").decode("utf-8")
