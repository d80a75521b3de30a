"""One sync of a source at a time, whoever asks for it.

A sync runs in the room's own nursery: a client that hangs up, or stops waiting, stops nothing. Who asks while one runs
gets that one, unless it has to be a sync that begins after the asking (a subscriber whose new filters it must see):
then one more is put behind it, which all who ask meanwhile share.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import sqlite_utils
import structlog
import trio

from pfn_node.sources.announcing import Announcer
from pfn_node.sources.courtesy import Courtesy
from pfn_node.sources.filtering import matches
from pfn_node.sources.mirroring import Mirroring
from pfn_node.sources.outcomes import AuthorInfo, PublisherFailed, SyncResult
from pfn_node.sources.progress import Progress, SyncProgress
from pfn_node.sources.publisher_answers import AuthorData
from pfn_node.sources.standing import remember_skipped, settle, skipped_of
from pfn_node.store.database import Database, StoreTrouble
from pfn_node.store.rows import Filters, Source
from pfn_node.store.sources import get_source, update_source
from pfn_node.store.subscriptions import clear_failures, failures, record_failure, subscriptions

log = structlog.get_logger()


@dataclass(slots=True)
class SyncFlight:
    """One sync, waiting, under way or over. `finished` is False for one that the node's shutdown cut short."""

    source_id: str
    progress: SyncProgress = field(default_factory=SyncProgress)
    done: trio.Event = field(default_factory=trio.Event)
    finished: bool = False
    failure: Exception | None = None  # PublisherFailed, or what the disk failed with


class Syncing:
    """Runs syncs in the nursery that `run_in` is given."""

    def __init__(
        self,
        database: Database,
        mirroring: Mirroring,
        announcer: Announcer,
        progress: Progress,
        courtesy: Courtesy,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._mirroring = mirroring
        self._announcer = announcer
        self._progress = progress
        self._courtesy = courtesy
        self._clock = clock
        self._nursery: trio.Nursery | None = None
        self._current: dict[str, SyncFlight] = {}
        self._next: dict[str, SyncFlight] = {}

    def run_in(self, nursery: trio.Nursery) -> None:
        """Run syncs in this nursery from now on."""
        self._nursery = nursery

    def request(self, source_id: str, *, fresh: bool = False, author_data: AuthorData | None = None) -> SyncFlight:
        """The sync to wait for. `fresh`: it must begin after this call. `author_data`: used if it begins at once."""
        current = self._current.get(source_id)
        if current is None:
            return self._start(SyncFlight(source_id, SyncProgress(author_data)))
        if not fresh:
            return current
        return self._next.setdefault(source_id, SyncFlight(source_id))

    def _start(self, flight: SyncFlight) -> SyncFlight:
        assert self._nursery is not None, "Sources.run must be running"
        self._current[flight.source_id] = flight
        self._nursery.start_soon(self._fly, flight)
        return flight

    async def _fly(self, flight: SyncFlight) -> None:
        try:
            with self._progress.syncing(flight.source_id, flight.progress.steps):
                await self._sync(flight)
            flight.finished = True
        except (*StoreTrouble, OSError) as error:
            log.error("store_failed", doing="sync", source=flight.source_id, reason=str(error))
            flight.failure = error
        except Exception as error:  # The task boundary: one source's trouble must not stop the node.
            log.exception("sync_failed", source=flight.source_id, error=str(error))
            flight.failure = PublisherFailed("the sync failed inside this node; its log says why", ours=True)
        finally:
            del self._current[flight.source_id]
            following = self._next.pop(flight.source_id, None)
            if following is not None:
                self._start(following)
            flight.done.set()

    async def _sync(self, flight: SyncFlight) -> None:
        source_id = flight.source_id
        source = await self._database.read(lambda db: get_source(db, source_id))
        subscribed = await self._database.read(lambda db: subscriptions(db, source_id=source_id))
        if source is None or not subscribed:
            return
        flight.progress.steps.source_status = source.status
        if not await self._database.read(lambda db: _went_well(db, source)):
            await self._courtesy.give_way()
        try:
            await self._mirroring.sync(source, [one.filters for one in subscribed], flight.progress)
        except PublisherFailed as failure:
            flight.failure = failure
            flight.progress.steps.problem = failure.sentence
            if not failure.ours:
                await self.record_failed(source_id, failure)
        else:
            await self._database.write(lambda db: self._record_done(db, flight))
        await self._announcer.mirror(source_id)

    async def record_failed(self, source_id: str, failure: PublisherFailed) -> None:
        """Write down that the publisher did not give what a sync needs, and when it is asked again."""

        def record(db: sqlite_utils.Database) -> None:
            now = int(self._clock())
            if get_source(db, source_id) is not None:
                record_failure(db, source_id, failure.sentence, now)
                settle(db, source_id, now)

        await self._database.write(record)

    def _record_done(self, db: sqlite_utils.Database, flight: SyncFlight) -> None:
        now = int(self._clock())
        if get_source(db, flight.source_id) is None:
            return
        update_source(db, flight.source_id, last_sync=now)
        clear_failures(db, flight.source_id)
        remember_skipped(db, flight.source_id, _skipped(flight.progress), now)
        settle(db, flight.source_id, now)


def result_of(flight: SyncFlight, filters: Filters) -> SyncResult:
    """What a sync, perhaps one that still runs, has brought to a subscriber with these filters."""
    data, outcomes = flight.progress.author_data, flight.progress.outcomes
    running = not flight.finished
    if data is None:
        return SyncResult(success=True, running=running, author_info=AuthorInfo())
    wanted = [entry for entry in data.entries if matches(filters, entry.slug, entry.tags)]
    mirrored = [entry for entry in wanted if outcomes.get(entry.slug, "") is None]
    reasons = ((entry.slug, outcomes.get(entry.slug)) for entry in wanted)
    skipped = [(slug, reason) for slug, reason in reasons if reason is not None]
    return SyncResult(
        success=running or bool(mirrored) or not wanted,
        running=running,
        mirrored_count=len(mirrored),
        total_plugins=len(wanted),
        skipped=(*skipped, *((entry.slug, entry.reason) for entry in data.skipped)),
        author_info=data.author,
    )


def _went_well(db: sqlite_utils.Database, source: Source) -> bool:
    """Whether the last sync of a source brought all that was wanted."""
    return source.last_sync is not None and not failures(db, source.id) and not skipped_of(db, source.id)


def _skipped(progress: SyncProgress) -> list[tuple[str, str, str]]:
    """(slug, version, reason) of everything that the sync left out."""
    data = progress.author_data
    assert data is not None, "a sync that is done has read the list"
    versions = {entry.slug: entry.version for entry in data.entries}
    refused = [(slug, versions[slug], reason) for slug, reason in progress.outcomes.items() if reason is not None]
    return [*refused, *((entry.slug, "", entry.reason) for entry in data.skipped)]
