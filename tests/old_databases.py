"""Databases as every earlier version of the schema left them: tests/data/databases/*.db.gz, one for each migration.

They are made once, by `python -m tests.old_databases`, which makes those that are missing and never touches one that is
there: a fixture is what a database was, not what today's code makes of it. Rows are those of a small world of today,
in the tables and columns that there were then, and one row in each table that the world leaves empty.
"""

import gzip
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final

import sqlite_utils

from pfn_node.store import audit
from pfn_node.store.activity import record_activity
from pfn_node.store.schema import migrations
from pfn_protocol.announcements import YankStatement
from tests.node.store_world import (
    NOW,
    Publisher,
    World,
    empty_database,
    mirror_statement,
    node_statement,
    source_statement,
)

FOLDER: Final = Path(__file__).parent / "data" / "databases"
# Tables that SQLite or sqlite-utils keep for themselves, and those behind the index of words.
NOT_OURS: Final = ("sqlite_", "_sqlite_migrations", "plugin_texts_")


def names() -> list[str]:
    """The migrations in their order."""
    return [migration.name for migration in migrations.pending(sqlite_utils.Database(memory=True))]


def unpack(name: str, path: Path) -> Path:
    """Write the database that a version left to `path`."""
    path.write_bytes(gzip.decompress((FOLDER / f"{name}.db.gz").read_bytes()))
    return path


def tables(connection: sqlite3.Connection) -> list[str]:
    """Our tables, in the order in which they were made."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid").fetchall()
    return [name for (name,) in rows if not name.startswith(NOT_OURS)]


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})").fetchall()]


def _world() -> sqlite_utils.Database:
    """A node with a source, pins, releases that are backed, reported and yanked, keys, and a log."""
    world = World(db=empty_database())
    publisher = Publisher()
    world.add_source(publisher, verified=True)
    for name in ("anna", "bert"):
        world.pin(name)
        world.say(name, source_statement(publisher))
        world.say(name, node_statement(url=f"https://{name}.example", pins=("carl",)))
        world.say(name, mirror_statement(publisher))
    for number in range(5):
        world.fetch(f"1.{number}", f"zip {number}", description="Says hello, and more.", tags=("greeting", "tools"))
        world.saw("anna", f"1.{number}", f"zip {number}", tags=("greeting", "tools"))
    world.saw("carl", "2.0", "reported", admitted=False)
    world.say("anna", YankStatement(publisher.source_id, "hello", "1.1", reason="it loses posts"))
    record_activity(world.db, "federation_event", "something happened", at=NOW)
    for number in range(3):
        audit.append(world.db, at=NOW, actor="system", action=f"act-{number}")
    return world.db


def _copy(new: sqlite_utils.Database, old: sqlite3.Connection) -> None:
    """The rows of a database of today, as far as the tables and columns were there."""
    for table in tables(old):
        shared = [name for name in columns(old, table) if name in columns(new.conn, table)]
        if table == "plugin_texts":
            shared = ["rowid", *shared]
        rows = new.execute(f"SELECT {', '.join(shared)} FROM {table}").fetchall()
        marks = ", ".join("?" * len(shared))
        old.executemany(f"INSERT OR IGNORE INTO {table} ({', '.join(shared)}) VALUES ({marks})", rows)


def _fill_empty(old: sqlite3.Connection) -> list[str]:
    """One row in each table that is empty, if a row of plain values is allowed there; the names of the others."""
    left = []
    source = old.execute("SELECT id FROM sources").fetchone()[0]
    for table in tables(old):
        if table == "plugin_texts" or old.execute(f"SELECT count(*) FROM {table}").fetchone()[0]:
            continue
        info = old.execute(f"PRAGMA table_info({table})").fetchall()
        plain = {"INTEGER": 1, "TEXT": "word", "BLOB": bytes(32), "REAL": 0.5}
        given = {row[1]: source if row[1] == "source_id" else plain[row[2]] for row in info}
        marks = ", ".join("?" * len(given))
        try:
            old.execute(f"INSERT INTO {table} ({', '.join(given)}) VALUES ({marks})", tuple(given.values()))
        except sqlite3.DatabaseError:
            left.append(table)
    return left


def make(name: str, path: Path) -> list[str]:
    """Make the database that the version which ended with this migration would have; names of empty tables."""
    all_names = names()
    following = all_names[all_names.index(name) + 1 :]
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        migrations.apply(sqlite_utils.Database(old), stop_before=following[:1] or None)
        old.execute("BEGIN")
        _copy(_world(), old)
        left = _fill_empty(old)
        old.execute("COMMIT")
        old.execute("VACUUM")
    return left


def main() -> None:
    """Make what is missing."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names():
        target = FOLDER / f"{name}.db.gz"
        if target.exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "node.db"
            left = make(name, made)
            target.write_bytes(gzip.compress(made.read_bytes(), 9, mtime=0))
        sys.stderr.write(f"{target.name}: {target.stat().st_size} bytes, without rows: {', '.join(left) or 'none'}\n")


if __name__ == "__main__":
    main()
