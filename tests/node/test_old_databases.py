"""Databases of every earlier version open with today's code, with everything that was in them."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pfn_node.maintenance.fsck import check
from pfn_node.store.database import Database, StoreError
from tests.node.store_world import MESH
from tests.old_databases import columns, names, tables, unpack

# What an upgrade makes anew, and may change: conclusions.
CONCLUDED = frozenset({"plugin_texts", "plugin_changes", "package_facts"})
# What migrations take away on purpose: source announcements of a form that was given up (m002); a fact without which
# everything is judged again at the next start (m004).
GIVEN_UP = frozenset({("announcements", "source"), ("attestations", "bilbo@shop.example"), ("facts", "trust_depth")})
KILLS_IN_CI = 12

Rows = dict[str, set[tuple[Any, ...]]]


def rows_of(path: Path, wanted: dict[str, list[str]] | None = None) -> tuple[dict[str, list[str]], Rows]:
    """The columns of each table, and its rows in these columns."""
    with closing(sqlite3.connect(path)) as connection:
        shape = wanted or {table: columns(connection, table) for table in tables(connection)}
        return shape, {
            table: set(connection.execute(f"SELECT {', '.join(names_)} FROM {table}").fetchall())
            for table, names_ in shape.items()
        }


def lost(before: Rows, after: Rows) -> Rows:
    """What is not there any more, and should be."""
    gone = {
        table: {row for row in rows - after[table] if not any((table, one) in GIVEN_UP for one in row)}
        for table, rows in before.items()
        if table not in CONCLUDED
    }
    return {table: rows for table, rows in gone.items() if rows}


@pytest.mark.parametrize("name", names())
def test_a_database_of_every_earlier_version_opens_with_all_its_rows(tmp_path: Path, name: str) -> None:
    path = unpack(name, tmp_path / "node.db")
    shape, before = rows_of(path)

    Database.open(path).close()

    _, after = rows_of(path, shape)
    assert lost(before, after) == {}
    if name > "m002":
        assert before["attestations"] == after["attestations"]
    assert len(before["announcements"]) >= 10 and len(before["releases"]) >= 5
    report = check(tmp_path, MESH)
    found = [(one.where, one.what) for one in report.findings if one.is_damage and one.where != "artifacts"]
    assert found == [], "the zips are not in the fixtures"


def test_every_version_of_the_schema_has_its_fixture() -> None:
    """Make the one that is missing: python -m tests.old_databases."""
    folder = Path(__file__).parent.parent / "data" / "databases"

    assert sorted(file.name.removesuffix(".db.gz") for file in folder.iterdir()) == names()


def test_a_database_of_a_newer_version_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = unpack(names()[-1], tmp_path / "node.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('node', 'm999_beyond', '')"
        )
    _, before = rows_of(path)

    with pytest.raises(StoreError, match=r"newer version of this software.*m999_beyond.*backup"):
        Database.open(path)

    assert rows_of(path)[1] == before


# Opens the database, and kills itself at the statement with this number, as a power cut would end the upgrade.
_UPGRADE = """
import os, signal, sys
from pathlib import Path
import sqlite_utils
from pfn_node.store.database import Database

execute, left = sqlite_utils.Database.execute, int(sys.argv[2])

def counted(self, sql, *arguments, **named):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(self, sql, *arguments, **named)

sqlite_utils.Database.execute = counted
Database.open(Path(sys.argv[1])).close()
print(int(sys.argv[2]) - left)
"""


def _upgrade(path: Path, die_at: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _UPGRADE, str(path), str(die_at)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("kills", [KILLS_IN_CI, pytest.param(10_000, marks=pytest.mark.long)])
def test_an_upgrade_that_is_killed_goes_on_at_the_next_start(tmp_path: Path, kills: int) -> None:
    path = unpack(names()[0], tmp_path / "node.db")
    shape, before = rows_of(path)
    whole = _upgrade(unpack(names()[0], tmp_path / "whole.db"), 0)
    statements = -int(whole.stdout) if whole.stdout.startswith("-") else int(whole.stdout)
    done = 0

    for die_at in sorted({max(1, statements * number // (kills + 1)) for number in range(1, kills + 1)}):
        unpack(names()[0], path)
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        killed = _upgrade(path, die_at)
        done += killed.returncode == -signal.SIGKILL
        Database.open(path).close()

        _, after = rows_of(path, shape)
        assert lost(before, after) == {}
        with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(tmp_path / "whole.db")) as other:
            schema = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
            assert connection.execute(schema).fetchall() == other.execute(schema).fetchall()

    assert done >= min(kills, statements) * 0.9
