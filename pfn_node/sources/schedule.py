"""What is done for sources without being asked: health checks, verifications, syncs, mirror statements.

When something is due follows from the record in the database, so a restart neither forgets a turn nor does everything
at once. Every interval is lengthened or shortened by up to a tenth, anew each time: nodes that started together must
not ask a publisher together for ever.

    health check   of registered sources, and of those that somebody subscribes to
    verification   of the same; after a failure again after 1, 2, 4, 8, 16 hours, at most as late as usual; at once
                   where another key has followed the one that was probed
    sync           of subscribed sources whose last verification succeeded; after a failure as `sync_failures` says
    mirror         statements that are due (announcing.py)
    refetch        what is served on others' word, from the publisher itself (refetching.py)
    heads          publishers' heads that have expired no longer count (store/heads.py)

A few sources are worked on at once, never one twice at the same time by the same kind of work. What the shutdown of
this node cuts short is recorded nowhere, and so is nobody's failure.
"""

import math
import random
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import sqlite_utils
import structlog
import trio

from pfn_node.settings import Settings
from pfn_node.sources.announcing import Announcer
from pfn_node.sources.health import HealthMonitor
from pfn_node.sources.outcomes import SourcesError
from pfn_node.sources.refetching import Refetching
from pfn_node.sources.standing import RETRY_SECONDS, failed_in_a_row, last_verification
from pfn_node.sources.syncing import Syncing
from pfn_node.sources.verification import VerificationType
from pfn_node.store import heads, holdings, releases
from pfn_node.store.database import Database
from pfn_node.store.key_changes import key_changed_at
from pfn_node.store.outlasting import outlast
from pfn_node.store.rows import Source
from pfn_node.store.sources import get_source, health_checks, list_sources
from pfn_node.store.subscriptions import failures, subscriptions

log = structlog.get_logger()

AT_ONCE_MAX: Final = 8
# A sync that takes longer goes on, and lets the next one begin: eight publishers that dribble must not keep all others
# from being synced. Then the limits on requests are what bounds them (outbound_limits.py).
SYNC_TURN_SECONDS: Final = 60.0
JITTER: Final = 0.1
SOURCES_MAX: Final = (
    10_000  # beyond it the rest waits until somebody raises the number, rather than the node falling over
)
LOOKS_PER_INTERVAL: Final = 10  # how often is looked for what nobody told the schedule of: new sources, subscriptions
LOOK_SECONDS_MAX: Final = 300.0
MIRROR_LOOK_SECONDS: Final = 600.0
LONG_LOOK_SECONDS: Final = LOOK_SECONDS_MAX * LOOKS_PER_INTERVAL  # for what is known beforehand, or may take an hour
REFETCHES_AT_ONCE_MAX: Final = 4
PUT_OFF_SECONDS: Final = 600.0  # after work that failed inside this node: it is still due, and would fail at once again

Verify = Callable[[str, VerificationType], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Turn:
    """Something that is to be done for a source at a time (seconds since 1970)."""

    source_id: str
    due: float


class Rota:
    """When the next turn of each source comes. The chance in it is drawn once for each turn, not at each look."""

    def __init__(self, seconds: float, rng: random.Random) -> None:
        self._seconds = seconds
        self._rng = rng
        self._drawn: dict[str, tuple[float, float]] = {}

    def due_after(self, source_id: str, last: float) -> float:
        """When the turn after the one at `last` comes."""
        drawn = self._drawn.get(source_id)
        if drawn is None or drawn[0] != last:
            drawn = (last, last + self._seconds * self._rng.uniform(1 - JITTER, 1 + JITTER))
            self._drawn[source_id] = drawn
        return drawn[1]

    def keep_only(self, source_ids: Set[str]) -> None:
        """Forget the sources that are no longer there."""
        for source_id in self._drawn.keys() - source_ids:
            del self._drawn[source_id]


@dataclass(slots=True)
class Duty:
    """One kind of work: when it is due, how it is done, how many sources it may be done for at once."""

    name: str
    seconds: float
    look: Callable[[sqlite_utils.Database], list[Turn]]
    work: Callable[[str], Awaitable[trio.Event | None]]  # what is still to be waited for, without holding a place
    at_once: trio.CapacityLimiter
    under_way: set[str] = field(default_factory=set)
    put_off: dict[str, float] = field(default_factory=dict)  # by source id, until when
    wake: trio.Event = field(default_factory=trio.Event)


class Schedule:
    """The loops. `run` never returns."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        health: HealthMonitor,
        verify: Verify,
        syncing: Syncing,
        announcer: Announcer,
        refetching: Refetching,
        *,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._database = database
        self._settings = settings
        self._health = health
        self._verify = verify
        self._syncing = syncing
        self._announcer = announcer
        self._refetching = refetching
        self._clock = clock
        self._rng = rng
        self._health_rota = Rota(settings.health_check_seconds, rng)
        self._verification_rota = Rota(settings.verification_seconds, rng)
        self._sync_rota = Rota(settings.sync_seconds, rng)
        # Syncs may take long, and must not keep short questions waiting.
        questions, syncs = trio.CapacityLimiter(AT_ONCE_MAX), trio.CapacityLimiter(AT_ONCE_MAX)
        self._verification = Duty(
            "verification", settings.verification_seconds, self._verifications_due, self._verify_one, questions
        )
        self._health_check = Duty("health", settings.health_check_seconds, self._checks_due, self._check_one, questions)
        refetches = trio.CapacityLimiter(REFETCHES_AT_ONCE_MAX)
        self._refetch = Duty("refetch", LONG_LOOK_SECONDS, self._refetches_due, self._refetch_one, refetches)
        self._duties = (
            self._verification,
            self._health_check,
            Duty("sync", settings.sync_seconds, self._syncs_due, self._sync_one, syncs),
            Duty("mirror", MIRROR_LOOK_SECONDS, self._mirrors_due, self._tell_mirror, questions),
            self._refetch,
            Duty("heads", LONG_LOOK_SECONDS, self._heads_due, self._expire_heads, questions),
        )

    def look_soon(self) -> None:
        """Look at once for sources that were never verified, or never asked whether they are up."""
        self._verification.wake.set()
        self._health_check.wake.set()

    async def run(self) -> None:
        """Do what is due, for ever."""
        async with trio.open_nursery() as nursery:
            for duty in self._duties:
                nursery.start_soon(self._loop, nursery, duty)

    async def _loop(self, nursery: trio.Nursery, duty: Duty) -> None:
        pause = min(duty.seconds / LOOKS_PER_INTERVAL, LOOK_SECONDS_MAX)
        while True:
            duty.wake = trio.Event()
            turns = await outlast(partial(self._database.read, duty.look), f"{duty.name}: what is due")
            now = self._clock()
            duty.put_off = {source_id: until for source_id, until in duty.put_off.items() if until > now}
            for turn in sorted(turns, key=lambda turn: turn.due):
                if turn.due <= now and turn.source_id not in duty.under_way | duty.put_off.keys():
                    duty.under_way.add(turn.source_id)
                    nursery.start_soon(self._do, duty, turn.source_id)
            next_due = min((turn.due for turn in turns if turn.due > now), default=math.inf)
            with trio.move_on_after(min(next_due - now, pause * self._rng.uniform(1 - JITTER, 1 + JITTER))):
                await duty.wake.wait()

    async def _do(self, duty: Duty, source_id: str) -> None:
        try:
            async with duty.at_once:
                rest = await duty.work(source_id)
            if rest is not None:
                await rest.wait()
        except SourcesError as error:
            # The source went away meanwhile, or this node has too much under way.
            duty.put_off[source_id] = self._clock() + PUT_OFF_SECONDS
            log.info("source_work_put_off", work=duty.name, source=source_id, reason=error.sentence)
        except Exception as error:  # The task boundary: trouble with one source must not end the care for the others.
            duty.put_off[source_id] = self._clock() + PUT_OFF_SECONDS
            log.exception("source_work_failed", work=duty.name, source=source_id, error=str(error))
        finally:
            duty.under_way.discard(source_id)

    async def _verify_one(self, source_id: str) -> None:
        if await self._database.read(lambda db: self._is_verification_due(db, source_id)):
            await self._verify(source_id, "periodic")

    async def _check_one(self, source_id: str) -> None:
        source = await self._database.read(lambda db: get_source(db, source_id))
        if source is not None:
            await self._health.check(source)

    async def _sync_one(self, source_id: str) -> trio.Event:
        done = self._syncing.request(source_id).done
        with trio.move_on_after(SYNC_TURN_SECONDS):
            await done.wait()
        return done

    async def _tell_mirror(self, source_id: str) -> None:
        await self._announcer.mirror(source_id)

    async def _refetch_one(self, source_id: str) -> None:
        await self._refetching.work(source_id)
        self._refetch.wake.set()  # what is left of this source is due as soon as its host may be asked again

    async def _expire_heads(self, source_id: str) -> None:
        now = int(self._clock())
        await self._database.write(lambda db: releases.expire_heads(db, source_id, now))

    def _refetches_due(self, db: sqlite_utils.Database) -> list[Turn]:
        return [Turn(source_id, due) for source_id, due in self._refetching.due(db).items()]

    def _heads_due(self, db: sqlite_utils.Database) -> list[Turn]:
        return [Turn(source_id, expires_at) for source_id, expires_at in heads.expiring(db)]

    def _checks_due(self, db: sqlite_utils.Database) -> list[Turn]:
        sources = _looked_after(db)
        self._health_rota.keep_only(sources.keys())
        horizon = int(self._clock() - 2 * self._settings.health_check_seconds)
        turns = []
        for source_id in sources:
            last = next(iter(health_checks(db, source_id, since=horizon)), None)
            due = 0.0 if last is None else self._health_rota.due_after(source_id, last.checked_at)
            turns.append(Turn(source_id, due))
        return turns

    def _verifications_due(self, db: sqlite_utils.Database) -> list[Turn]:
        sources = _looked_after(db)
        self._verification_rota.keep_only(sources.keys())
        return [Turn(source.id, self._verification_due(db, source)) for source in sources.values()]

    def _is_verification_due(self, db: sqlite_utils.Database, source_id: str) -> bool:
        """Whether it still is: somebody may have asked for one while this one waited for its turn."""
        source = get_source(db, source_id)
        return source is not None and self._verification_due(db, source) <= self._clock()

    def _verification_due(self, db: sqlite_utils.Database, source: Source) -> float:
        last = last_verification(db, source)
        if last is None:
            return 0.0
        usual = self._verification_rota.due_after(source.id, last.verified_at)
        if last.result == "success":
            return usual if source.oracle is not None else min(usual, self._probe_due(db, source, last.verified_at))
        # At least one has failed: the last one did.
        retry = RETRY_SECONDS[max(1, failed_in_a_row(db, source)) - 1]
        return min(usual, last.verified_at + retry)

    def _probe_due(self, db: sqlite_utils.Database, source: Source, verified_at: int) -> float:
        """When a key is probed of which it is not known what else it signs: at once if it followed another one."""
        changed_at = key_changed_at(db, source.id)
        return 0.0 if changed_at is not None and verified_at <= changed_at else verified_at + RETRY_SECONDS[0]

    def _syncs_due(self, db: sqlite_utils.Database) -> list[Turn]:
        subscribed = {one.source_id for one in subscriptions(db)}
        self._sync_rota.keep_only(subscribed)
        found = (get_source(db, source_id) for source_id in sorted(subscribed))
        return [Turn(source.id, self._sync_due(db, source)) for source in found if source and _may_sync(db, source)]

    def _sync_due(self, db: sqlite_utils.Database, source: Source) -> float:
        failed = failures(db, source.id)
        if failed:
            return failed[0].next_retry
        return 0.0 if source.last_sync is None else self._sync_rota.due_after(source.id, source.last_sync)

    def _mirrors_due(self, db: sqlite_utils.Database) -> list[Turn]:
        return [Turn(source_id, 0.0) for source_id in holdings.sources_with_holdings(db)]


def _looked_after(db: sqlite_utils.Database) -> dict[str, Source]:
    """The sources that this node cares for by itself: what is only heard of is left in peace."""
    wanted = {one.source_id for one in subscriptions(db)}
    listed = {source.id: source for source in list_sources(db, limit=SOURCES_MAX) if source.status != "revoked"}
    also = (get_source(db, source_id) for source_id in sorted(wanted - listed.keys()))
    return {**listed, **{source.id: source for source in also if source is not None and source.status != "revoked"}}


def _may_sync(db: sqlite_utils.Database, source: Source) -> bool:
    """A publisher that cannot prove its key gives nothing worth having; one that merely fails is tried again."""
    last = last_verification(db, source)
    return source.status in ("verified", "error") and last is not None and last.result == "success"
