"""Removing a source: its rows in one transaction, and then the files that nothing else here is.

Which files those are is written down in that transaction, so that a stop between the two leaves none for ever.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import sqlite_utils
import structlog

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.sources.blocking import RunBlocking
from pfn_node.sources.outcomes import UnknownSource
from pfn_node.sources.standing import settle_sharing
from pfn_node.store import doomed, holdings, releases
from pfn_node.store.activity import record_activity
from pfn_node.store.database import Database, DatabaseClosed, StoreTrouble
from pfn_node.store.outlasting import outlast
from pfn_node.store.sources import delete_source, get_source
from pfn_protocol.identity import parse_public_key

log = structlog.get_logger()


class Purging:
    """Forgets sources. `clock` in seconds since 1970."""

    def __init__(
        self, database: Database, artifacts: Artifacts, run_blocking: RunBlocking, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._run_blocking = run_blocking
        self._clock = clock

    async def run(self) -> None:
        """Finish what a stop cut off."""
        with suppress(DatabaseClosed):
            await outlast(self.delete_files, "purge")

    async def remove(self, source_id: str, purge: bool) -> None:
        """Forget a source; with `purge` also what was mirrored of it. Raises UnknownSource."""
        await self._database.write(lambda db: _forget(db, source_id, purge, int(self._clock())))
        try:
            await self.delete_files()
        except StoreTrouble as error:  # the source is removed, and its files go after the next start
            log.error("store_failed", doing="purge", reason=str(error))

    async def delete_files(self) -> None:
        """Delete the files of what was purged, also those that a stop left. What does not go now goes another time."""
        for sha256 in await self._database.read(doomed.doomed):
            if not await self._database.read(partial(doomed.is_wanted, sha256=sha256)):
                try:
                    await self._run_blocking(partial(self._artifacts.delete, sha256))
                except OSError as error:  # the operator's business; it is gone from every list
                    log.error("artifact_not_deleted", sha256=sha256.hex(), error=str(error))
                    continue
            await self._database.write(partial(doomed.spare, sha256=sha256))


def _forget(db: sqlite_utils.Database, source_id: str, purge: bool, now: int) -> None:
    """Delete the rows, and note the digests that no other source's releases have."""
    source = get_source(db, source_id)
    if source is None:
        raise UnknownSource(source_id)
    held = holdings.held_digests(db, source_id) if purge else []
    delete_source(db, source_id, purge)
    record_activity(db, "federation_event", f"{source_id} was removed", at=now, source_id=source_id)
    settle_sharing(db, parse_public_key(source.public_key), now)
    for sha256 in held:
        if not holdings.is_of_another(db, sha256, source_id):
            releases.mark_mirrored(db, sha256, False, at=now)
            doomed.doom(db, sha256)
