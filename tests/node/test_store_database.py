"""The writer, the readers, and opening the file."""

import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlite_utils
import trio
import trio.testing

from pfn_node.store.activity import record_activity
from pfn_node.store.database import BATCH_JOBS_MAX, Database, DatabaseClosed, StoreError
from pfn_node.store.facts import get_fact, set_fact
from pfn_node.store.log_length import AGAIN_BYTES, LOG_BYTES_MAX
from pfn_node.store.schema import migrations


@pytest.fixture
async def database(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Database]:
    database = Database.open(tmp_path / "node.db")
    await nursery.start(database.run_writer)
    yield database
    database.close()


async def test_what_was_written_is_read_by_every_connection(database: Database) -> None:
    await database.write(lambda db: set_fact(db, "colour", "green"))

    assert await database.read(lambda db: get_fact(db, "colour")) == "green"
    assert database.read_now(lambda db: get_fact(db, "colour")) == "green"


async def test_a_write_gives_back_what_its_work_returns(database: Database) -> None:
    assert await database.write(lambda db: 7) == 7


async def test_the_error_of_one_job_goes_to_its_caller_and_undoes_only_its_own_work(database: Database) -> None:
    def fails(db: sqlite_utils.Database) -> None:
        set_fact(db, "bad", "half done")
        raise ValueError("no")

    async def fail() -> None:
        with pytest.raises(ValueError, match="no"):
            await database.write(fails)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.write, lambda db: set_fact(db, "before", "1"))
        nursery.start_soon(fail)
        nursery.start_soon(database.write, lambda db: set_fact(db, "after", "1"))

    facts = await database.read(lambda db: [get_fact(db, name) for name in ("before", "bad", "after")])
    assert facts == ["1", None, "1"]


async def test_a_cancelled_caller_gives_up_the_answer_and_not_the_commit(database: Database) -> None:
    with trio.CancelScope() as scope:

        def write(db: sqlite_utils.Database) -> None:
            trio.from_thread.run_sync(scope.cancel)
            set_fact(db, "kept", "yes")

        await database.write(write)

    await database.write(lambda db: None)
    assert scope.cancelled_caught
    assert database.read_now(lambda db: get_fact(db, "kept")) == "yes"


async def test_jobs_that_wait_share_one_transaction_up_to_the_limit(database: Database) -> None:
    transactions: list[int] = []

    def note(db: sqlite_utils.Database) -> None:
        transactions.append(db.conn.total_changes)
        set_fact(db, f"fact {len(transactions)}", "x")

    begun: list[str] = []
    database._writer.conn.set_trace_callback(lambda sql: begun.append(sql) if sql.startswith("BEGIN") else None)
    async with trio.open_nursery() as nursery:
        for _ in range(BATCH_JOBS_MAX + 10):
            nursery.start_soon(database.write, note)

    assert len(transactions) == BATCH_JOBS_MAX + 10
    assert len(begun) <= 4


async def test_a_transaction_that_breaks_fails_every_job_in_it(database: Database) -> None:
    def ends_the_transaction(db: sqlite_utils.Database) -> None:
        db.conn.execute("ROLLBACK")

    with pytest.raises(sqlite3.OperationalError):
        await database.write(ends_the_transaction)
    await database.write(lambda db: set_fact(db, "next", "works"))

    assert database.read_now(lambda db: get_fact(db, "next")) == "works"


async def test_a_job_that_quietly_commits_fails_with_a_sentence(database: Database) -> None:
    def commits(db: sqlite_utils.Database) -> None:
        db.conn.execute("COMMIT")
        db.conn.execute("BEGIN")
        db.conn.execute(f"SAVEPOINT {'x'}")

    with pytest.raises(sqlite3.OperationalError, match="savepoint"):
        await database.write(commits)


async def test_a_failed_commit_is_every_callers_error(database: Database) -> None:
    def leaves_an_orphan(db: sqlite_utils.Database) -> None:
        db.execute("PRAGMA defer_foreign_keys = ON")
        db.execute("INSERT INTO subscriptions (source_id, subscriber, created_at) VALUES ('nobody@nowhere', 'key', 1)")

    with pytest.raises(sqlite3.IntegrityError):
        await database.write(leaves_an_orphan)
    await database.write(lambda db: set_fact(db, "next", "works"))

    assert database.read_now(lambda db: get_fact(db, "next")) == "works"


async def test_reading_connections_cannot_write(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match=r"readonly|read-only"):
        await database.read(lambda db: set_fact(db, "colour", "red"))
    with pytest.raises(sqlite3.OperationalError, match=r"readonly|read-only"):
        database.read_now(lambda db: set_fact(db, "colour", "red"))


async def test_all_statements_of_a_read_see_one_state(database: Database) -> None:
    await database.write(lambda db: set_fact(db, "colour", "green"))
    first_was_read, may_go_on = trio.Event(), trio.Event()

    def read_twice(db: sqlite_utils.Database) -> tuple[str | None, str | None]:
        first = get_fact(db, "colour")
        trio.from_thread.run_sync(first_was_read.set)
        trio.from_thread.run(may_go_on.wait)
        return first, get_fact(db, "colour")

    seen: list[tuple[str | None, str | None]] = []

    async def read() -> None:
        seen.append(await database.read(read_twice))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await first_was_read.wait()
        await database.write(lambda db: set_fact(db, "colour", "red"))
        may_go_on.set()

    assert seen == [("green", "green")]


async def test_the_log_begins_anew_also_while_reads_overlap_without_a_pause(database: Database) -> None:
    begun = threading.Condition()
    count, over = 0, False

    def read_until_another_one_reads(db: sqlite_utils.Database) -> None:
        nonlocal count
        db.execute("SELECT count(*) FROM facts").fetchone()
        with begun:
            count += 1
            own = count
            begun.notify_all()
            begun.wait_for(lambda: count > own or over, timeout=5)

    async def read_on() -> None:
        while not over:
            await database.read(read_until_another_one_reads)

    longest = log_bytes = 0.0
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(read_on)
        for number in range(120):
            began = trio.current_time()
            await database.write(lambda db, n=number: set_fact(db, "much", f"{n}" * 2**18))  # type: ignore[misc]
            longest = max(longest, trio.current_time() - began)
            log_bytes = max(log_bytes, (database.path.with_name("node.db-wal")).stat().st_size)
        over = True

    assert log_bytes < LOG_BYTES_MAX + 2 * AGAIN_BYTES
    assert longest < 2.0, "writes wait for no reader any longer"


async def test_waiting_for_activity_ends_when_one_is_committed(database: Database) -> None:
    woken = trio.Event()

    async def wait() -> None:
        await database.wait_for_activity(0)
        woken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await database.write(lambda db: set_fact(db, "no", "activity"))
        assert not woken.is_set()
        await database.write(lambda db: record_activity(db, "federation_event", "it happened", at=1))
        await woken.wait()

    await database.wait_for_activity(0)


@pytest.mark.parametrize("writer_runs", [True, False])
async def test_closing_finishes_what_is_queued_and_refuses_more(tmp_path: Path, writer_runs: bool) -> None:
    path = tmp_path / "node.db"
    database = Database.open(path)
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(database.write, lambda db, number=number: set_fact(db, f"fact {number}", "x"))
        await trio.testing.wait_all_tasks_blocked()
        if writer_runs:
            await nursery.start(database.run_writer)
        database.close()

    with pytest.raises(DatabaseClosed):
        await database.write(lambda db: None)
    with pytest.raises(DatabaseClosed):
        await database.read(lambda db: None)
    with pytest.raises(DatabaseClosed):
        database.read_now(lambda db: None)
    with pytest.raises(DatabaseClosed):
        await database.wait_for_activity(0)
    database.close()
    again = Database.open(path)
    assert again.read_now(lambda db: db.execute("SELECT count(*) FROM facts").fetchone()[0]) == 20
    again.close()


async def test_cancelling_the_writer_finishes_what_is_queued(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    database = Database.open(path)
    async with trio.open_nursery() as callers:
        for number in range(5):
            callers.start_soon(database.write, lambda db, number=number: set_fact(db, f"fact {number}", "x"))
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await database.run_writer()

    again = Database.open(path)
    assert again.read_now(lambda db: db.execute("SELECT count(*) FROM facts").fetchone()[0]) == 5
    again.close()


async def test_a_read_that_ends_after_closing_leaves_no_connection(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "node.db")

    def close_meanwhile(db: sqlite_utils.Database) -> int:
        trio.from_thread.run_sync(database.close)
        return int(db.execute("SELECT 5").fetchone()[0])

    assert await database.read(close_meanwhile) == 5
    assert database._idle_readers == []


async def test_a_reader_that_is_cancelled_as_the_store_closes_hears_only_that(database: Database) -> None:
    with trio.CancelScope() as scope:

        def be_late(db: sqlite_utils.Database) -> None:
            trio.from_thread.run_sync(scope.cancel)
            raise DatabaseClosed

        await database.read(be_late)

    assert scope.cancelled_caught


async def test_inline_it_needs_neither_thread_nor_writer_task(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    database = Database.open(tmp_path / "node.db", inline=True)
    waited = trio.Event()

    async def wait() -> None:
        await database.wait_for_activity(0)
        waited.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await database.write(lambda db: record_activity(db, "security", "something", at=1))
        await waited.wait()

    assert await database.read(lambda db: db.execute("SELECT count(*) FROM activity").fetchone()[0]) == 1
    with pytest.raises(KeyError):
        await database.write(lambda db: {"here": 1}["missing"])
    database.close()
    with pytest.raises(DatabaseClosed):
        await database.write(lambda db: None)


async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    Database.open(tmp_path / "node.db").close()

    assert stat.S_IMODE((tmp_path / "node.db").stat().st_mode) == 0o600


async def test_integrity_finds_nothing_in_a_sound_file_and_names_what_is_broken(database: Database) -> None:
    assert await database.integrity() == []

    def break_it(db: sqlite_utils.Database) -> None:
        db.execute("INSERT INTO subscriptions (source_id, subscriber, created_at) VALUES ('nobody@nowhere', 'key', 1)")

    database._writer.execute("PRAGMA foreign_keys = OFF")
    await database.write(break_it)

    assert await database.integrity() == ["subscriptions: row 1 refers to a missing row of sources"]


def test_a_file_that_is_no_database_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "node.db").write_bytes(b"this is a letter to my aunt, and no database at all" * 100)

    with pytest.raises(StoreError, match="cannot be used as the node's database"):
        Database.open(tmp_path / "node.db")


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Database.open(tmp_path / "missing" / "node.db")


def _all_migrations() -> list[str]:
    return [migration.name for migration in migrations.pending(sqlite_utils.Database(memory=True))]


def _schema(db: sqlite_utils.Database) -> list[tuple[str, str]]:
    rows = db.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE '%migrations%' ORDER BY name")
    return [(name, sql) for name, sql in rows.fetchall()]


@pytest.mark.parametrize("first_missing", [*_all_migrations(), None])
def test_a_database_of_every_earlier_version_is_brought_to_the_same_tables(
    tmp_path: Path, first_missing: str | None
) -> None:
    earlier = sqlite_utils.Database(tmp_path / "node.db")
    migrations.apply(earlier, stop_before=first_missing)
    earlier.close()
    fresh = sqlite_utils.Database(memory=True)
    migrations.apply(fresh)

    database = Database.open(tmp_path / "node.db")

    assert database.read_now(_schema) == _schema(fresh)
    assert database.read_now(lambda db: migrations.pending(db)) == []
    database.close()


def test_what_nodes_said_of_sources_in_the_form_before_oracles_is_forgotten_and_the_rest_stays(tmp_path: Path) -> None:
    earlier = sqlite_utils.Database(tmp_path / "node.db")
    migrations.apply(earlier, stop_before="m002_oracle_of_attestations")
    rest = {"author": b"a", "subject": "", "epoch": 0, "seq": 1, "place": "set", "received_at": 1, "raw": b""}
    for kind in ("source", "node"):
        earlier.table("announcements").insert({"id": kind.encode(), "kind": kind, **rest})
    earlier.close()

    database = Database.open(tmp_path / "node.db")

    assert database.read_now(lambda db: db.execute("SELECT kind FROM announcements").fetchall()) == [("node",)]
    database.close()


def test_a_database_of_a_newer_version_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    Database.open(path).close()
    newer = sqlite_utils.Database(path)
    newer.table("_sqlite_migrations").insert({"migration_set": "node", "name": "m999_future", "applied_at": "later"})
    newer.close()

    with pytest.raises(StoreError, match=r"newer version .*m999_future.*; start that version, or restore a backup"):
        Database.open(path)


def test_the_original_tables_have_the_original_columns(tmp_path: Path) -> None:
    db = sqlite_utils.Database(memory=True)
    migrations.apply(db)
    originals = {
        "sources": "id instance_url username public_key status trust_score created_at last_sync asset_domain "
        "asset_naming_scheme",
        "source_verifications": "id source_id verifier verification_type result details verified_at",
        "version_updates": "id plugin_id source_id old_version new_version update_time notified",
        "mirrored_plugins": "id plugin_id source_id name version description local_path signature mirror_date",
        "subscriptions": "id source_id subscriber filters created_at",
        "sync_failures": "id source_id error_message retry_count next_retry created_at",
    }

    for table, columns in originals.items():
        names = [column.name for column in db.table(table).columns]
        assert names[: len(columns.split())] == columns.split()
