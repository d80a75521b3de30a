"""A damaged database written anew: every row that can still be read, and what follows from them.

Rows that lie on damaged pages cannot be read; everything around them can. What is lost is counted by table, so that an
operator knows: announcements come back from the mesh, and what is concluded from them is concluded again; keys, pins,
subscriptions and sources do not, and are in a backup or have to be made again.

The new file takes the place of the old one once it is whole and on the disk, and reads back as it was written. The old
one is put aside under another name, never deleted. What does not work because the disk is full, say, is no loss: then
the old one stays where it is.
"""

import itertools
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import sqlite_utils

from pfn_node.durable_files import flush_folder
from pfn_node.maintenance.database_checks import agrees, marks_agree, verified_announcements
from pfn_node.store import claims, page_checksums, releases
from pfn_node.store.damage import is_unreadable
from pfn_node.store.database import StoreError, writer
from pfn_node.store.listing import list_plugin
from pfn_node.store.queries import change, select, value
from pfn_protocol.announcements import VersionStatement
from pfn_protocol.errors import Refusal

# Written anew from the others, at the next start if not here; or SQLite's own.
_NOT_COPIED: Final = ("plugin_texts", "set_sums", "sqlite_", "_sqlite_migrations")


def rewrite(path: Path, mesh: str) -> tuple[Path, list[str]]:
    """Write the database anew. Returns where the old file is now, and sentences about what was lost.

    Raises StoreError, sqlite3.DatabaseError, OSError; then the old file is where it was.
    """
    page_checksums.load()
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("SELECT count(*) FROM sqlite_master").fetchone()  # else nothing can be read of it
    fresh = path.with_name(f"{path.name}.rewritten")
    _remove(fresh)
    try:
        lost, counts = _write_anew(path, fresh, mesh)
        _check_whole(fresh, counts)
        return _take_place(fresh, path), lost
    finally:  # once it has its place: files beside it that SQLite could not remove
        with suppress(OSError):  # the next attempt removes them
            _remove(fresh)


def _write_anew(path: Path, fresh: Path, mesh: str) -> tuple[list[str], dict[str, int]]:
    """Sentences about what was lost, and how many rows each table of the new file has."""
    lost: list[str] = []
    with writer(fresh) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            for table in _tables(db):
                lost += _copy(old, db, table)
            lost += _copy_sequences(old, db)
        with db.atomic():
            lost += _without_parents(db)
            lost += conclude_again(db, mesh)
        db.execute("PRAGMA foreign_keys = ON")
        counts = _counts(db.conn)
        # Closing does this as well, and is silent when the disk is full: the rows would stay behind in the log.
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreError(f"{fresh} is in use")
    return lost, counts


def _check_whole(fresh: Path, counts: dict[str, int]) -> None:
    """Raise StoreError unless the closed file, all by itself, is what was written."""
    log = _all_files(fresh)[1]
    if log.exists() and log.stat().st_size > 0:
        raise StoreError(f"what was written stayed in {log}")
    uri = f"{fresh.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as db:
        found = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
        if found != "ok":
            raise StoreError(f"the new file is not sound: {found}")
        if _counts(db) != counts:
            raise StoreError("the new file does not have all rows that were written")


def _counts(db: sqlite3.Connection) -> dict[str, int]:
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()]
    return {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}  # noqa: S608 - our own


def _take_place(fresh: Path, path: Path) -> Path:
    """Put the old file aside and the new one in its place, so that there is one at any moment; where the old one is."""
    now = int(time.time())
    names = (path.with_name(f"{path.name}.damaged-{now + late}") for late in itertools.count())
    aside = next(name for name in names if not any(file.exists() for file in _all_files(name)))
    try:
        os.link(path, aside)
    except OSError:  # a file system without links
        shutil.copyfile(path, aside)
    for old_name, new_name in zip(_all_files(path)[1:], _all_files(aside)[1:], strict=True):
        if old_name.exists():  # never beside the new one: SQLite would take it for its own log
            old_name.rename(new_name)
    flush_folder(path.parent)
    fresh.replace(path)
    flush_folder(path.parent)
    return aside


def _remove(path: Path) -> None:
    for name in _all_files(path):
        name.unlink(missing_ok=True)


def conclude_again(db: sqlite_utils.Database, mesh: str) -> list[str]:
    """Drop what is no announcement, take in again what the others say, and conclude and list everything anew."""
    bad = [
        row["id"]
        for row, announcement in verified_announcements(db, mesh)
        if isinstance(announcement, Refusal) or not agrees(row, announcement)
    ]
    for announcement_id in bad:
        change(db, "DELETE FROM announcements WHERE id = ?", (announcement_id,))
        change(db, "UPDATE observations SET announcement_id = NULL WHERE announcement_id = ?", (announcement_id,))
    for row, announcement in list(verified_announcements(db, mesh)):
        if isinstance(announcement, Refusal):
            continue
        if not marks_agree(row, announcement):
            marks = (announcement.content, announcement.replaces, row["id"])
            change(db, "UPDATE announcements SET content = ?, replaces = ? WHERE id = ?", marks)
        if not isinstance(announcement.statement, VersionStatement):
            continue
        received = value(db, "SELECT received_at FROM announcements WHERE id = ?", (row["id"],))
        claims.add(db, announcement, row["place"] == "set", received)
    change(
        db,
        "DELETE FROM releases WHERE (source_id, plugin_id, version) NOT IN (SELECT source_id, plugin_id, version "
        "FROM observations)",
    )
    releases.refresh_all(db)
    change(db, "DELETE FROM plugin_texts")
    change(db, "DELETE FROM plugin_tags")
    now = int(time.time())
    known = select(db, "SELECT source_id, plugin_id FROM plugins UNION SELECT source_id, plugin_id FROM releases")
    for plugin in known:
        list_plugin(db, plugin["source_id"], plugin["plugin_id"], now)
    return [f"{len(bad)} announcements were none any more; others have them"] if bad else []


def _copy(old: sqlite3.Connection, db: sqlite_utils.Database, table: str) -> list[str]:
    """Every row of a table that can be read, by the columns that both know."""
    try:
        there = [row[1] for row in old.execute(f"PRAGMA table_info({table})").fetchall()]
    except sqlite3.DatabaseError as error:
        _pass_on(error)
        return [f"{table}: nothing can be read of it ({error})"]
    columns = [name for name in (column.name for column in db[table].columns) if name in there]
    if not columns:
        return []
    gaps, refused = _Gaps(), 0
    names = ", ".join(columns)
    insert = f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
    with db.atomic():
        for row in _readable(old, table, names, gaps):
            refused += db.execute(insert, row).rowcount == 0
    if gaps.count:
        return [f"{table}: {gaps.count} stretches of rows cannot be read"]
    return [f"{table}: {refused} rows contradict others, or are none any more"] if refused else []


def _copy_sequences(old: sqlite3.Connection, db: sqlite_utils.Database) -> list[str]:
    """Numbers that were given away are never given again, also those of rows that are gone."""
    try:
        given = old.execute("SELECT name, seq FROM sqlite_sequence").fetchall()
    except sqlite3.DatabaseError as error:
        _pass_on(error)
        return [f"sqlite_sequence: numbers of rows that are gone may be given again ({error})"]
    for name, seq in given:
        if change(db, "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (seq, name)) == 0:
            change(db, "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, seq))
    return []


class _Gaps:
    """How often reading had to jump."""

    count = 0


def _readable(old: sqlite3.Connection, table: str, names: str, gaps: _Gaps) -> Iterator[tuple[Any, ...]]:
    """The rows from the first on, as far as that goes; then from the last one back; and what lies between damages."""
    has_rowid = True
    try:
        old.execute(f"SELECT rowid FROM {table} LIMIT 0")  # noqa: S608
    except sqlite3.DatabaseError as error:
        _pass_on(error)
        has_rowid = False
    if has_rowid:
        yield from _by_rowid(old, table, names, gaps)
        return
    key = _primary_key(old, table)
    broken = False
    for order in ("ASC", "DESC"):
        by = ", ".join(f"{name} {order}" for name in key)
        try:
            yield from old.execute(f"SELECT {names} FROM {table} ORDER BY {by}")  # noqa: S608
        except sqlite3.DatabaseError as error:
            _pass_on(error)
            broken = True
            continue
        break
    gaps.count += broken


def _by_rowid(old: sqlite3.Connection, table: str, names: str, gaps: _Gaps) -> Iterator[tuple[Any, ...]]:
    after, step = -(2**62), 1
    forward = f"SELECT rowid, {names} FROM {table} WHERE rowid > ? ORDER BY rowid"  # noqa: S608
    back = f"SELECT rowid, {names} FROM {table} WHERE rowid > ? AND rowid <= ? ORDER BY rowid DESC"  # noqa: S608
    last = _last_rowid(old, table)
    sound_after = after
    while after <= last:
        try:
            for rowid, *row in old.execute(forward, (after,)):
                if sound_after != after:  # we jumped too far: from here back to the damage
                    yield from _back(old, back, sound_after, rowid - 1)
                after = sound_after = rowid
                step = 1
                yield tuple(row)
            return
        except sqlite3.DatabaseError as error:
            _pass_on(error)
            gaps.count += step == 1
            after, step = max(after, 0) + step, step * 2


def _back(old: sqlite3.Connection, sql: str, after: int, until: int) -> Iterator[tuple[Any, ...]]:
    try:
        for _, *row in old.execute(sql, (after, until)):
            yield tuple(row)
    except sqlite3.DatabaseError as error:
        _pass_on(error)


def _last_rowid(old: sqlite3.Connection, table: str) -> int:
    try:
        return int(old.execute(f"SELECT coalesce(max(rowid), 0) FROM {table}").fetchone()[0])  # noqa: S608
    except sqlite3.DatabaseError as error:
        _pass_on(error)
        return 2**40


def _pass_on(error: sqlite3.DatabaseError) -> None:
    """Raise again what is no loss: the row is there, and can be read another time."""
    if not is_unreadable(error):
        raise error


def _primary_key(old: sqlite3.Connection, table: str) -> list[str]:
    columns = old.execute(f"PRAGMA table_info({table})").fetchall()
    return [row[1] for row in sorted(columns, key=lambda row: row[5]) if row[5]]


def _tables(db: sqlite_utils.Database) -> list[str]:
    return [name for name in db.table_names() if not name.startswith(_NOT_COPIED)]


def _without_parents(db: sqlite_utils.Database) -> list[str]:
    """Rows that refer to rows that are lost go too."""
    broken = db.execute("PRAGMA foreign_key_check").fetchall()
    for table, rowid, _, _ in broken:
        if rowid is not None:
            change(db, f"DELETE FROM {table} WHERE rowid = ?", (rowid,))  # noqa: S608 - our own name
    return [f"{len(broken)} rows referred to rows that are lost"] if broken else []


def _all_files(path: Path) -> list[Path]:
    return [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))]
