"""Parts of a transaction are undone alone, though their savepoints share one name."""

import sqlite3

import pytest
import sqlite_utils

from pfn_node.store.connection import Connection


@pytest.fixture
def db() -> Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
    connection.execute("CREATE TABLE strict (number INTEGER UNIQUE ON CONFLICT ROLLBACK)")
    return Connection(connection, execute_plugins=False)


def insert(db: sqlite_utils.Database, number: int) -> None:
    db.execute("INSERT INTO numbers VALUES (?)", (number,))


def numbers(db: sqlite_utils.Database) -> list[int]:
    return [row[0] for row in db.execute("SELECT number FROM numbers ORDER BY number")]


def test_a_part_that_fails_takes_along_its_own_parts_and_nothing_else(db: Connection) -> None:
    with db.atomic():
        insert(db, 1)
        with pytest.raises(ZeroDivisionError), db.atomic():
            insert(db, 2)
            with db.atomic():
                insert(db, 3)
            raise ZeroDivisionError
        with db.atomic():
            insert(db, 4)
            with pytest.raises(sqlite3.IntegrityError), db.atomic():
                insert(db, 5)
                insert(db, 4)

    assert numbers(db) == [1, 4]


def test_a_part_is_undone_with_the_whole(db: Connection) -> None:
    with pytest.raises(ZeroDivisionError), db.atomic():
        with db.atomic():
            insert(db, 1)
        raise ZeroDivisionError

    assert numbers(db) == []
    assert not db.conn.in_transaction


def test_an_error_that_undoes_the_whole_transaction_is_the_one_that_is_raised(db: Connection) -> None:
    db.conn.execute("BEGIN")
    with pytest.raises(sqlite3.IntegrityError), db.atomic():
        insert(db, 1)
        for _ in range(2):
            db.execute("INSERT INTO strict VALUES (1)")

    assert numbers(db) == []


def test_however_many_parts_there_are_their_statements_are_the_same(db: Connection) -> None:
    said: set[str] = set()
    with db.atomic():
        db.conn.set_trace_callback(said.add)
        for number in range(10):
            db.table("numbers").insert({"number": number})
        db.conn.set_trace_callback(None)

    assert numbers(db) == list(range(10))
    assert {text for text in said if "part" in text.lower() or "savepoint" in text.lower()} == {
        "SAVEPOINT part",
        "RELEASE part",
    }
