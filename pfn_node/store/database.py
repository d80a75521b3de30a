"""One SQLite file: one writer that commits in groups, and a few connections that can only read.

Durability first: WAL with synchronous=FULL, and the answer to a write is given only after its commit. A commit costs
a sync of the disk whatever is in it, so the one writer task takes all jobs that wait (at most `BATCH_JOBS_MAX`) into
one transaction. Each job runs in a savepoint of its own: what it raises goes to its caller and undoes only its own
work.

A job that was queued is done, whoever waits for it: a caller that is cancelled gives up the answer, not the commit.
The queue is bounded, so that a flood of announcements slows those who send them instead of filling the memory.
`close` lets the queue run empty, and so does the cancellation of the writer task.

The writer is also the only one that checkpoints. SQLite before 3.51.3 can lose a checkpoint that races with another
connection's; connections that are `query_only` never start one.

Reads run in worker threads, each on a connection and inside a transaction of its own (so that several statements see
one state). A read by primary key takes 10-20 us, less than a thread hop; `read_now` does it in the event loop.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlite_utils
import trio

from pfn_node.metrics import Metrics
from pfn_node.store import page_checksums
from pfn_node.store.connection import Connection
from pfn_node.store.damage import is_damaged_page
from pfn_node.store.log_length import LogLength
from pfn_node.store.queries import value
from pfn_node.store.schema import migrations, unknown_migrations

T = TypeVar("T")
Work = Callable[[sqlite_utils.Database], T]

# A transaction of this many announcements takes about 25 ms: enough to share the cost of a sync, short to wait for.
BATCH_JOBS_MAX: Final = 256
# Jobs that may wait before their callers do; some tens of megabytes at the most.
QUEUE_JOBS_MAX: Final = 10_000
# Searches in flight at once; more would only take the processor from each other.
READERS_MAX: Final = 4
# How long a connection waits for a lock that, with one writer, only `pfn` maintenance commands could hold.
BUSY_SECONDS: Final = 5.0
# The file holds hashes of API keys and the graph of trust: for its owner alone.
FILE_MODE: Final = 0o600
# Findings that `integrity` returns at most; the first of them says what is broken.
FINDINGS_MAX: Final = 100


class StoreError(Exception):
    """The database cannot be used as it is; the sentence says why, and what to do."""


# What reading or writing raises while the disk is full or fails, and will not raise any more when that is mended.
StoreTrouble: Final = (sqlite3.OperationalError, StoreError)


class DatabaseClosed(StoreError):
    """Something was asked of the database after it was closed."""

    def __init__(self) -> None:
        super().__init__("the database is closed; the node is stopping")


@dataclass(slots=True, eq=False)
class _Job:
    work: Work[Any]
    done: trio.Event = field(default_factory=trio.Event)
    answer: Any = None
    error: Exception | None = None
    asked: float = field(default_factory=time.perf_counter)


class Database:
    """The node's database. Opened by `Database.open`, closed by `close`; writes are done while `run_writer` runs."""

    def __init__(self, path: Path, writer: sqlite_utils.Database, inline: bool, metrics: Metrics) -> None:
        self.path = path
        self._metrics = metrics
        self._writer = writer
        self._inline = inline
        self._log_length = LogLength(path)
        self._closed = trio.Event()
        self._writer_runs = False
        self._send, self._receive = trio.open_memory_channel[_Job](QUEUE_JOBS_MAX)
        metrics.writes_waiting.set_function(lambda: self._receive.statistics().current_buffer_used)
        self._idle_readers: list[sqlite_utils.Database] = []
        self._loop_reader = _connect_reader(path)
        self._readers_limit = trio.CapacityLimiter(READERS_MAX)
        self._writer_limit = trio.CapacityLimiter(1)
        self._last_activity = _last_activity(writer)
        self._activity_added = trio.Event()
        self.damage: str | None = None  # a sentence, once a read met a damaged page

    @classmethod
    def open(cls, path: Path, *, inline: bool = False, metrics: Metrics | None = None) -> "Database":
        """Open the file, creating it if it is missing, and bring its tables up to date.

        `inline` runs all work in the calling task, without threads: for tests under a mock clock, which jumps ahead
        while a thread works. Raise `StoreError` if the file is no database, or was written by a newer version.
        """
        path = path.absolute()
        writer = _connect_writer(path)
        try:
            _migrate(writer, path)
            return cls(path, writer, inline, metrics or Metrics())
        except sqlite3.DatabaseError as error:
            writer.close()
            raise StoreError(f"{path} cannot be used as the node's database: {error}") from error
        except StoreError:
            writer.close()
            raise

    async def run_writer(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do the queued writes until `close` is called; when cancelled, first finish what is queued."""
        self._writer_runs = True
        task_status.started()
        try:
            async for job in self._receive:
                await self._commit_group([job, *self._waiting(BATCH_JOBS_MAX - 1)])
        finally:
            self._closed.set()
            self._send.close()
            # Their callers were promised that a queued job is done.
            while jobs := self._waiting(BATCH_JOBS_MAX):
                await self._commit_group(jobs)
            self._writer_runs = False
            self._disconnect()

    def close(self) -> None:
        """Take no more work; the writer finishes what is queued, then all connections close. Safe to call twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._send.close()
        if not self._writer_runs:
            while jobs := self._waiting(BATCH_JOBS_MAX):
                self._settle(jobs, self._commit(jobs))
            self._disconnect()

    async def write(self, work: Work[T]) -> T:
        """Run the work in a transaction; return its answer, or raise what it raised, after the commit (or roll-back).

        Raise `DatabaseClosed` if the node is stopping. Other errors of SQLite mean that nothing of it was kept.
        """
        job = _Job(work)
        if self._inline:
            await trio.lowlevel.checkpoint()
            self._check_open()
            self._settle([job], self._commit([job]))
        else:
            try:
                await self._send.send(job)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                raise DatabaseClosed from None
            await job.done.wait()
        if job.error is not None:
            raise job.error
        answer: T = job.answer
        return answer

    async def read(self, work: Work[T]) -> T:
        """Run the work on a connection that only reads, in a worker thread; all its statements see one state."""
        if self._inline:
            await trio.lowlevel.checkpoint()
            return self.read_now(work)
        try:
            return await trio.to_thread.run_sync(self._read_in_thread, work, limiter=self._readers_limit)
        except DatabaseClosed:
            # At the node's end the store may be faster than the thread: whoever is cancelled has made no mistake.
            await trio.lowlevel.checkpoint_if_cancelled()
            raise

    def read_now(self, work: Work[T]) -> T:
        """Run the work in the event loop: only for reads by primary key, which are faster than a thread hop."""
        self._check_open()
        with self._snapshot(self._loop_reader):
            return work(self._loop_reader)

    def version(self) -> int:
        """Return a number that is another one after every commit that changed anything, whichever process made it.

        Numbers of two connections or processes have nothing to do with each other.
        """
        self._check_open()
        return int(self._loop_reader.conn.execute("PRAGMA data_version").fetchone()[0])

    async def wait_for_activity(self, after_id: int) -> None:
        """Return as soon as an activity with a greater id has been committed; raise `DatabaseClosed` at the end."""
        while self._last_activity <= after_id:
            self._check_open()
            await self._activity_added.wait()
        await trio.lowlevel.checkpoint()

    async def integrity(self) -> list[str]:
        """Let SQLite check the whole file (slow); return what it found, an empty list if all is well."""

        def check(db: sqlite_utils.Database) -> list[str]:
            findings = [str(row[0]) for row in db.execute("PRAGMA quick_check(100)").fetchall()]
            broken = db.execute("PRAGMA foreign_key_check").fetchmany(FINDINGS_MAX)
            findings += [
                f"{table}: row {rowid} refers to a missing row of {parent}" for table, rowid, parent, _ in broken
            ]
            return [finding for finding in findings if finding != "ok"][:FINDINGS_MAX]

        return await self.read(check)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise DatabaseClosed

    def _waiting(self, jobs_max: int) -> list[_Job]:
        jobs: list[_Job] = []
        while len(jobs) < jobs_max:
            try:
                jobs.append(self._receive.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        return jobs

    async def _commit_group(self, jobs: list[_Job]) -> None:
        began = time.perf_counter()
        with trio.CancelScope(shield=True):
            last_activity = await trio.to_thread.run_sync(self._commit, jobs, limiter=self._writer_limit)
        self._settle(jobs, last_activity)
        ended = time.perf_counter()
        self._metrics.batch_seconds.observe(ended - began)
        self._metrics.batch_jobs.observe(len(jobs))
        for job in jobs:
            self._metrics.write_seconds.observe(ended - job.asked)
        if self._log_length.is_due():
            with trio.CancelScope(shield=True):
                shorten = partial(self._log_length.begin_anew, self._writer.conn, BUSY_SECONDS)
                await trio.to_thread.run_sync(shorten, limiter=self._writer_limit)

    def _commit(self, jobs: list[_Job]) -> int:
        """Do the jobs in one transaction; leave answers and errors in them; return the newest activity's id."""
        db = self._writer
        try:
            db.conn.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._attempt(job)
                if not db.conn.in_transaction:
                    # A full disk, for one, makes SQLite roll everything back, also the jobs before.
                    raise job.error or StoreError("a write ended the transaction that it was part of")
            db.conn.execute("COMMIT")
        except Exception as raised:  # the task boundary: every caller is told
            error = _named(raised)
            if db.conn.in_transaction:
                with suppress(sqlite3.Error):  # SQLite rolls back by itself when the disk does not let it go on
                    db.conn.execute("ROLLBACK")
            for job in jobs:
                job.answer, job.error = None, error
            return self._last_activity
        try:
            return _last_activity(db)
        except sqlite3.Error:  # what was committed is, whether or not it can be read now
            return self._last_activity

    def _attempt(self, job: _Job) -> None:
        try:
            with self._writer.atomic():
                job.answer = job.work(self._writer)
        except Exception as error:  # belongs to the caller who gave us the job, and is raised there
            self._note_damage(error)
            job.error = _named(error)

    def _settle(self, jobs: list[_Job], last_activity: int) -> None:
        for job in jobs:
            job.done.set()
        if last_activity > self._last_activity:
            self._last_activity = last_activity
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        self._activity_added.set()
        self._activity_added = trio.Event()

    def _read_in_thread(self, work: Work[T]) -> T:
        self._check_open()
        # list.pop and list.append are atomic; the limiter bounds how many connections come about.
        try:
            reader = self._idle_readers.pop()
        except IndexError:
            reader = _connect_reader(self.path)
        try:
            with self._snapshot(reader):
                return work(reader)
        finally:
            self._idle_readers.append(reader)
            if self._closed.is_set():
                self._close_idle_readers()

    @contextmanager
    def _snapshot(self, db: sqlite_utils.Database) -> Iterator[None]:
        try:
            with snapshot(db):
                yield
        except sqlite3.DatabaseError as error:
            self._note_damage(error)
            raise _named(error) from error

    def _note_damage(self, error: Exception) -> None:
        """Remember that the file is damaged; whoever asked for what is on that page gets the error, and no row."""
        if is_damaged_page(error):
            self.damage = f"{self.path} is damaged ({error}); stop the node, then: pfn fsck --repair"

    def _close_idle_readers(self) -> None:
        while self._idle_readers:
            self._idle_readers.pop().close()

    def _disconnect(self) -> None:
        self._wake_waiters()
        self._close_idle_readers()
        self._loop_reader.close()
        self._writer.close()


@contextmanager
def writer(path: Path) -> Iterator[sqlite_utils.Database]:
    """The connection that writes, where no node runs on this database. Raise `StoreError` as `Database.open` does."""
    database = Database.open(path)
    try:
        yield database._writer
    finally:
        database.close()


@contextmanager
def reader(path: Path) -> Iterator[sqlite_utils.Database]:
    """A connection of another process than the node's, that only reads: the node may run, and is not kept waiting.

    Raise `StoreError` if there is no database, or it is not of this version.
    """
    try:
        db = _connect_reader(path.absolute())
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"the database {path} cannot be opened: {error}; is this the data folder of a node?"
        ) from error
    try:
        if unknown_migrations(db.conn) or migrations.pending(db):
            raise StoreError(f"{path} is not of this version of the software; start the node with this one first")
        yield db
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    finally:
        db.close()


def _connect_writer(path: Path) -> sqlite_utils.Database:
    if page_checksums.has_checksums(path) and not page_checksums.load():
        raise StoreError(
            f"the pages of {path} have checksums, which cannot be kept here: install APSW (apsw) for this Python, or "
            "start the node where it was"
        )
    try:
        # SQLite gives its -wal and -shm files the mode of the main one.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        with os.fdopen(descriptor, "r+b") as file:
            if page_checksums.load() and os.fstat(descriptor).st_size == 0:
                file.write(page_checksums.empty_database())
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
    except (OSError, sqlite3.OperationalError) as error:
        raise StoreError(f"the database {path} cannot be opened: {error}; check the folder and its owner") from error
    try:
        _prepare(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the schema itself may be what is damaged
        connection.close()
        raise StoreError(f"{path} cannot be used as the node's database: {error}") from error
    return Connection(connection, execute_plugins=False)


def _connect_reader(path: Path) -> sqlite_utils.Database:
    page_checksums.load()
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None
    )
    _prepare(connection)
    connection.execute("PRAGMA query_only = ON")
    return Connection(connection, execute_plugins=False)


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA cache_size = -16000")
    connection.execute("PRAGMA temp_store = MEMORY")


def _migrate(writer: sqlite_utils.Database, path: Path) -> None:
    unknown = unknown_migrations(writer.conn)
    if unknown:
        raise StoreError(
            f"{path} was written by a newer version of this software (it knows {', '.join(unknown)}); "
            "start that version, or restore a backup made by this one"
        )
    migrations.apply(writer)


@contextmanager
def snapshot(db: sqlite_utils.Database) -> Iterator[None]:
    """All statements in the block see one state."""
    db.conn.execute("BEGIN")
    try:
        yield
    finally:
        if db.conn.in_transaction:  # an I/O error may have ended it
            db.conn.execute("ROLLBACK")


def _named(error: Exception) -> Exception:
    """The error, as a StoreError where SQLite says that what it read is no database: so it has no name of its own."""
    if type(error) is not sqlite3.DatabaseError:
        return error
    return StoreError(f"the database is damaged, or was not read whole: {error}")


def _last_activity(db: sqlite_utils.Database) -> int:
    return int(value(db, "SELECT max(id) FROM activity") or 0)
