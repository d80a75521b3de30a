"""Looking again, at the publisher, at what is served here on the word of others (R155; pfn_protocol/refetching.py).

A pinned node that turns can put any digest beside a genuine metadata signature. So some of those who mirror it look for
themselves, at a random moment; what this node sees itself then decides, is told to the mesh, and makes everybody who
pins this node look within the hour. The publisher has little to bear: one download a minute and host at most, and only
releases that somebody here subscribes to.
"""

import json
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import sqlite_utils
import structlog

from pfn_node.sources.bringing import Skipped
from pfn_node.sources.filtering import matches
from pfn_node.sources.mirroring import Mirroring
from pfn_node.sources.outcomes import PublisherFailed
from pfn_node.sources.standing import RETRY_SECONDS
from pfn_node.store import catalogue, refetches
from pfn_node.store.activity import record_activity
from pfn_node.store.database import Database
from pfn_node.store.refetches import Provisional, Refetch
from pfn_node.store.rows import Filters, Release, Source
from pfn_node.store.sources import get_source, host_of
from pfn_node.store.subscriptions import subscriptions
from pfn_protocol.limits import refetch_host_seconds_min
from pfn_protocol.refetching import Draw, plan_disputed, plan_refetch

log = structlog.get_logger()

HOSTS_REMEMBERED_MAX: Final = 10_000
FAILURES_MAX: Final = 10  # over a week: then the publisher no longer has that version in a form that can be judged
REPORTERS_NAMED_MAX: Final = 3


class Refetching:
    """Draws who looks at what and when, and looks."""

    def __init__(
        self, database: Database, mirroring: Mirroring, clock: Callable[[], float], rng: random.Random
    ) -> None:
        self._database = database
        self._mirroring = mirroring
        self._clock = clock
        self._rng = rng
        self._hosts_free: OrderedDict[str, float] = OrderedDict()

    def due(self, db: sqlite_utils.Database) -> dict[str, float]:
        """When each source has something to be decided (0: now) or to be fetched."""
        found: dict[str, float] = {}
        for refetch in refetches.planned(db):
            due = max(refetch.due, self._hosts_free.get(host_of(refetch.source_id), 0.0))
            found[refetch.source_id] = min(due, found.get(refetch.source_id, due))
        filters: dict[str, list[Filters]] = {}
        for release in refetches.undecided(db):
            if release.source_id not in filters:
                filters[release.source_id] = _filters(db, release.source_id)
            if _is_wanted(release, filters[release.source_id]):
                found[release.source_id] = 0.0
        return found

    async def work(self, source_id: str) -> None:
        """Decide what is undecided of a source, then fetch the one release that is due longest, if its host may be."""
        await self._database.write(lambda db: self._decide(db, source_id))
        now = self._clock()
        source = await self._database.read(lambda db: get_source(db, source_id))
        planned = await self._database.read(lambda db: refetches.planned(db, source_id))
        is_free = self._hosts_free.get(host_of(source_id), 0.0) <= now
        if source is not None and planned and planned[0].due <= now and is_free:
            self._occupy(host_of(source_id), now)
            await self._fetch(source, planned[0])

    def _decide(self, db: sqlite_utils.Database, source_id: str) -> None:
        filters = _filters(db, source_id)
        for release in refetches.undecided(db, source_id):
            if not _is_wanted(release, filters):
                continue
            draw, now = Draw(self._rng.random(), self._rng.random()), self._clock()
            if release.disputed:
                due: float | None = plan_disputed(release.due, now, draw)
            else:
                due = plan_refetch(refetches.holders(db, release), now, draw)
            refetches.decide(db, release, due)

    async def _fetch(self, source: Source, refetch: Refetch) -> None:
        before = await self._release(refetch)
        try:
            listed = await self._mirroring.author_data(source)
            key = (refetch.plugin_id, refetch.version)
            entry = next((one for one in listed.entries if (one.slug, one.version) == key), None)
            if entry is not None:
                await self._mirroring.refetch(source, entry)
        except (PublisherFailed, Skipped) as failure:
            if isinstance(failure, PublisherFailed) and failure.ours:
                raise
            after = await self._release(refetch)
            if after is None or after.backed_by in ("pin", "depth"):
                log.info("refetch_failed", source=source.id, plugin=refetch.plugin_id, reason=str(failure))
                await self._database.write(lambda db: self._put_off(db, refetch))
                return
        await self._database.write(lambda db: self._finish(db, refetch, before))

    def _put_off(self, db: sqlite_utils.Database, refetch: Refetch) -> None:
        wait = RETRY_SECONDS[min(refetch.failures, len(RETRY_SECONDS) - 1)]
        gives_up = refetch.failures + 1 >= FAILURES_MAX
        refetches.put_off(db, refetch, None if gives_up else int(self._clock()) + wait)

    def _finish(self, db: sqlite_utils.Database, refetch: Refetch, before: Release | None) -> None:
        refetches.done(db, refetch)
        after = catalogue.get_release(db, refetch.source_id, refetch.plugin_id, refetch.version)
        if before is None or after is None or after.sha256 == before.sha256:
            return
        record_activity(
            db,
            "security",
            f"the publisher serves other bytes as {refetch.plugin_id} {refetch.version} than those that were served "
            f"here on the word of {', '.join(before.reported_by[:REPORTERS_NAMED_MAX])}; they are replaced",
            at=int(self._clock()),
            source_id=refetch.source_id,
            plugin_id=refetch.plugin_id,
            plugin_name=after.name,
            new_version=refetch.version,
        )

    async def _release(self, refetch: Refetch) -> Release | None:
        key = (refetch.source_id, refetch.plugin_id, refetch.version)
        return await self._database.read(lambda db: catalogue.get_release(db, *key))

    def _occupy(self, host: str, now: float) -> None:
        self._hosts_free[host] = now + refetch_host_seconds_min
        self._hosts_free.move_to_end(host)
        while len(self._hosts_free) > HOSTS_REMEMBERED_MAX:
            self._hosts_free.popitem(last=False)


def _filters(db: sqlite_utils.Database, source_id: str) -> list[Filters]:
    return [one.filters for one in subscriptions(db, source_id=source_id)]


def _is_wanted(release: Provisional, filters: list[Filters]) -> bool:
    tags = tuple(json.loads(release.tags))
    return any(matches(one, release.plugin_id, tags) for one in filters)
