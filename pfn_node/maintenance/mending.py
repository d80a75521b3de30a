"""The running node finds what the disk has damaged, and gets it again.

One task reads every file of an artifact again, slowly, one at a time and from a random place on, so that a node which
is often restarted comes to all of them too. Another one gets what was put aside, by whomever it was found: from where
it was put, if the disk gives it back after all; from the mesh, where its digest is all that has to be known; else from
its publisher. Until then it is not here: it is neither promised to other nodes nor listed as mirrored, and who wants it
is served what was fetched for him. So it is with files that went while the node was down; and what the cache dropped is
not listed any more either.

The pages of the database are looked at as slowly. Nothing can be done about a damaged one while the node runs; but the
operator is told before somebody needs it.
"""

import math
import random
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Final

import sqlite_utils
import structlog
import trio

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactError
from pfn_node.maintenance.ways import FetchArtifact, FetchRelease, InThread
from pfn_node.store import catalogue, registry, releases
from pfn_node.store.activity import record_activity
from pfn_node.store.database import Database, DatabaseClosed, StoreError
from pfn_node.store.missing_texts import source_of_text
from pfn_node.store.outlasting import note, outlast
from pfn_node.store.queries import Row, read_once, select, value
from pfn_node.store.rows import Release

log = structlog.get_logger()

# Nobody may have it now: it is asked for again after so long, then twice as long, and so on.
RETRY_SECONDS: Final = 5.0
RETRY_SECONDS_MAX: Final = 600.0
# What a file costs beside its bytes; also what keeps a scrub of very many tiny ones slow.
SCRUB_BYTES_MIN: Final = 256 * 2**10
# How much longer the database is left alone than it took to read a table of it through: a twentieth of a core.
DATABASE_REST: Final = 20
# All of it was read; a small node does not begin again at once.
SCRUB_PAUSE_SECONDS: Final = 3600.0


class Mending:
    """Scrubs and mends. `clock` in seconds since 1970."""

    def __init__(
        self,
        database: Database,
        artifacts: Artifacts,
        fetch_artifact: FetchArtifact,
        fetch_release: FetchRelease,
        *,
        scrub_bytes_per_second: int,
        clock: Callable[[], float],
        rng: random.Random,
        in_thread: InThread,
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._fetch_artifact = fetch_artifact
        self._fetch_release = fetch_release
        self._rate = scrub_bytes_per_second
        self._clock = clock
        self._rng = rng
        self._in_thread = in_thread
        self._found = trio.Event()
        self._cached: dict[bytes, bool] = {}  # what is being mended, and whether it lay in the cache
        self._next: dict[bytes, tuple[float, float]] = {}  # when it is tried again (in trio's time), and the pause then

    async def run(self) -> None:
        """Until it is cancelled, or the node stops."""
        token = trio.lowlevel.current_trio_token()

        def wake() -> None:
            try:
                token.run_sync_soon(self._wake, idempotent=True)
            except trio.RunFinishedError:
                pass  # a thread that nobody waits for any more

        self._artifacts.checks.on_loss = wake
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._mend_for_ever)
                if self._rate:
                    nursery.start_soon(self._scrub_for_ever)
                    nursery.start_soon(self._scrub_database_for_ever)
        except* DatabaseClosed:
            pass

    def _wake(self) -> None:
        self._found.set()

    async def _mend_for_ever(self) -> None:
        await outlast(self._compare, "mend")
        while True:
            self._found = trio.Event()
            await self._unlist(self._artifacts.take_evicted())
            wanted = self._artifacts.wanted()
            for sha256 in wanted:
                if sha256 not in self._cached:
                    await self._take_out(sha256)
            now = trio.current_time()
            for sha256 in wanted:
                if self._next.get(sha256, (0.0, 0.0))[0] <= now:
                    await self._mend(sha256)
            for sha256 in set(self._cached) - set(self._artifacts.wanted()):  # also what another way brought back
                await self._tell_of_return(sha256)
            with trio.move_on_at(min((at for at, _ in self._next.values()), default=math.inf)):
                await self._found.wait()

    async def _compare(self) -> None:
        """What went while the node was down, by whomever, is not here either."""

        def gone(db: sqlite_utils.Database) -> list[Row]:
            rows = select(db, "SELECT sha256, cached FROM artifacts ORDER BY sha256")
            return [row for row in rows if not self._artifacts.has(row["sha256"])]

        rows = await self._database.read(gone)
        for row in rows:
            if not row["cached"]:
                await self._in_thread(partial(self._artifacts.miss, row["sha256"]))
        await self._unlist(tuple(row["sha256"] for row in rows if row["cached"]))

    async def _unlist(self, evicted: tuple[bytes, ...]) -> None:
        """What the cache dropped is not mirrored any more, and nobody wants it again."""
        at = int(self._clock())

        def work(db: sqlite_utils.Database, sha256: bytes) -> None:
            if not self._artifacts.has(sha256):
                releases.mark_mirrored(db, sha256, False, at=at)

        for sha256 in evicted:
            await outlast(lambda sha256=sha256: self._database.write(partial(work, sha256=sha256)), "evict")  # type: ignore[misc]

    async def _take_out(self, sha256: bytes) -> None:
        """It is not here: nobody is told otherwise from now on."""
        at = int(self._clock())

        def work(db: sqlite_utils.Database) -> bool:
            release = catalogue.release_by_digest(db, sha256)
            kept = value(db, "SELECT cached FROM artifacts WHERE sha256 = ?", (sha256,))
            if kept is None:  # taken out before a restart, or a text
                followed = release is None or registry.subscriber_count(db, release.source_id) > 0
                return not followed
            releases.mark_mirrored(db, sha256, False, at=at, damaged=True)
            record_activity(db, "federation_event", f"{_named(release, sha256)} is damaged on the disk", at=at)
            return bool(kept)

        self._cached[sha256] = await outlast(lambda: self._database.write(work), "damage")
        log.error("artifact_damaged", sha256=sha256.hex())

    async def _mend(self, sha256: bytes) -> None:
        if await self._in_thread(partial(self._take_back, sha256)):
            return
        release, text_of = await outlast(
            lambda: self._database.read(
                lambda db: (catalogue.release_by_digest(db, sha256), source_of_text(db, sha256))
            ),
            "mend",
        )
        if release is not None:
            await self._fetch(release, sha256)
        elif text_of is not None:
            size = self._artifacts.checks.size_put_aside(sha256)
            await self._fetch_artifact(sha256, size, text_of, cache=self._cached[sha256])
        else:  # nobody knows any more what it was
            self._artifacts.checks.let_rest(sha256)
        if self._artifacts.has(sha256):
            return
        pause = min(RETRY_SECONDS_MAX, 2 * self._next.get(sha256, (0.0, RETRY_SECONDS / 2))[1])
        self._next[sha256] = (trio.current_time() + pause, pause)

    def _take_back(self, sha256: bytes) -> bool:
        try:
            return self._artifacts.take_back(sha256, cache=self._cached[sha256])
        except (OSError, ArtifactError) as error:
            log.error("artifact_not_read", sha256=sha256.hex(), error=str(error))
            return False

    async def _fetch(self, release: Release, sha256: bytes) -> None:
        cache = self._cached[sha256]
        if not await self._fetch_artifact(sha256, release.size, release.source_id, cache=cache):
            await self._fetch_release(release.source_id, release.plugin_id, release.version, cache=cache)

    async def _tell_of_return(self, sha256: bytes) -> None:
        cached = self._cached.pop(sha256)
        self._next.pop(sha256, None)
        if not self._artifacts.has(sha256):
            return
        at = int(self._clock())

        def work(db: sqlite_utils.Database) -> None:
            release = catalogue.release_by_digest(db, sha256)
            if release is not None:
                releases.mark_mirrored(db, sha256, True, cached=cached, at=at)
            record_activity(db, "federation_event", f"{_named(release, sha256)} was damaged, and is here again", at=at)

        await outlast(lambda: self._database.write(work), "mend")
        log.info("artifact_mended", sha256=sha256.hex())

    async def _scrub_for_ever(self) -> None:
        while True:
            digests = self._artifacts.files()
            first = self._rng.randrange(len(digests)) if digests else 0
            for sha256 in (*digests[first:], *digests[:first]):
                size = await self._in_thread(lambda sha256=sha256: self._scrub(sha256))  # type: ignore[misc]
                await trio.sleep(max(size, SCRUB_BYTES_MIN) / self._rate)
            await trio.sleep(SCRUB_PAUSE_SECONDS)

    async def _scrub_database_for_ever(self) -> None:
        """Damaged pages are met before anybody asks for what is on them, where the pages have checksums."""
        while True:
            for table in await outlast(lambda: self._database.read(lambda db: db.table_names()), "scrub"):
                began = trio.current_time()
                try:
                    await self._database.read(lambda db, table=table: _read_through(db, table))  # type: ignore[misc]
                except (sqlite3.DatabaseError, StoreError) as error:
                    if self._database.damage is not None:
                        await self._tell_of_pages()
                        return
                    log.error("store_failed", doing="scrub", reason=str(error))  # the next round comes to it again
                await trio.sleep(DATABASE_REST * (trio.current_time() - began))
            await trio.sleep(SCRUB_PAUSE_SECONDS)

    async def _tell_of_pages(self) -> None:
        sentence, at = self._database.damage or "the database is damaged", int(self._clock())
        log.error("database_damaged", sentence=sentence)
        await note(self._database, lambda db: record_activity(db, "federation_event", sentence, at=at))

    def _scrub(self, sha256: bytes) -> int:
        """Read one through; its size. What is damaged is put aside, and that wakes the other task."""
        try:
            self._artifacts.check(sha256, again=True)
        except ArtifactError:
            return 0
        except OSError as error:  # nothing is known of it; the next round comes to it again
            log.error("artifact_not_read", sha256=sha256.hex(), error=str(error))
            return 0
        sums = self._artifacts.checks.known(sha256)
        return sums.size if sums is not None else 0


def _read_through(db: sqlite_utils.Database, table: str) -> None:
    """Have SQLite read every page of a table and its indices; raises sqlite3.DatabaseError at one that is damaged."""
    with read_once(db):
        found = db.execute(f"PRAGMA quick_check({table})").fetchone()[0]
    if found != "ok":
        error = sqlite3.DatabaseError(found)
        error.sqlite_errorname = "SQLITE_CORRUPT"  # as SQLite says it where it meets that by itself
        raise error


def _named(release: Release | None, sha256: bytes) -> str:
    return f"{release.plugin_id} {release.version}" if release is not None else f"the artifact {sha256.hex()[:16]}"
