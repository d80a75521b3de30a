"""Whether a publisher is up, and how quickly it says so.

A health check asks for /federation-info, the cheapest question, and measures the time to the whole answer. Whether the
answer is worth anything is part of it: a parked domain answers 200 to everything.
"""

from collections.abc import Callable

import sqlite_utils
import trio

from pfn_node.sources.outcomes import PublisherFailed
from pfn_node.sources.publisher_client import PublisherClient
from pfn_node.sources.standing import settle
from pfn_node.store.activity import record_activity
from pfn_node.store.database import Database
from pfn_node.store.rows import HealthCheck, Source
from pfn_node.store.sources import get_source, health_checks, record_health


class HealthMonitor:
    """Checks one source at a time, records the check, and settles the source's standing by it."""

    def __init__(self, database: Database, client: PublisherClient, clock: Callable[[], float]) -> None:
        self._database = database
        self._client = client
        self._clock = clock

    async def check(self, source: Source) -> HealthCheck | None:
        """Check now; None if this node was too busy to ask, or the source went away meanwhile."""
        started = trio.current_time()
        try:
            await self._client.federation_info(source.instance_url)
        except PublisherFailed as failure:
            if failure.ours:
                return None
            check = self._made(source, failure.sentence, None)
        else:
            check = self._made(source, None, trio.current_time() - started)
        return await self._database.write(lambda db: _record(db, check))

    def _made(self, source: Source, problem: str | None, seconds: float | None) -> HealthCheck:
        return HealthCheck(source.id, problem is None, seconds, problem, int(self._clock()))


def _record(db: sqlite_utils.Database, check: HealthCheck) -> HealthCheck | None:
    if get_source(db, check.source_id) is None:
        return None
    before = next(iter(health_checks(db, check.source_id)), None)
    record_health(db, check)
    if (before is None or before.ok) != check.ok:
        message = "the publisher answers again" if check.ok else f"the publisher is down: {check.details}"
        record_activity(db, "source_health", message, at=check.checked_at, source_id=check.source_id)
    settle(db, check.source_id, check.checked_at)
    return check
