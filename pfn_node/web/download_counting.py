"""Counting downloads: in memory first, and kept in batches, since a write costs more than sending a small zip.

What is counted is that somebody began to read a zip: a whole one, or its first bytes. So a HEAD, a 304 and the
continuation of a download that broke off are not; nor is what other nodes fetch.
"""

import sqlite3
from collections import Counter
from typing import Final

import structlog
import trio
from quart import Response, request

from pfn_node.store import downloads
from pfn_node.store.database import Database, StoreError
from pfn_node.store.downloads import Version
from pfn_node.store.rows import Release

log = structlog.get_logger()

# What a crash may lose of the counts.
KEEP_SECONDS: Final = 10.0
# Versions that wait to be kept, a few hundred bytes each; more in ten seconds are not counted.
WAITING_MAX: Final = 10_000


class Downloads:
    """What was counted since it was last kept."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: Counter[Version] = Counter()

    def count(self, release: Release) -> None:
        """Count one more."""
        self.add((release.source_id, release.plugin_id, release.version), 1)

    def add(self, version: Version, times: int) -> None:
        """Count so many more."""
        if version in self._waiting or len(self._waiting) < WAITING_MAX:
            self._waiting[version] += times

    def take(self) -> Counter[Version]:
        """What was counted; from now on that is for the caller to keep."""
        counted, self._waiting = self._waiting, Counter()
        return counted

    async def keep(self) -> None:
        """Write down what waits."""
        counted = self.take()
        try:
            if counted:
                await self._database.write(lambda db: downloads.add_downloads(db, counted))
        except (
            sqlite3.Error,
            StoreError,
        ) as error:  # a full disk, for one: what is counted is no reason to stop serving
            self._waiting.update(counted)
            log.warning("downloads_not_kept", versions=len(counted), reason=str(error))

    async def run(self) -> None:
        """Keep what was counted, again and again."""
        while True:
            await trio.sleep(KEEP_SECONDS)
            await self.keep()


def begins_download(response: Response) -> bool:
    """Whether the answer to the request of now hands out the first bytes of a zip."""
    if request.method != "GET":
        return False
    if response.status_code == 302:  # to an object store
        return request.headers.get("Range", "bytes=0-").startswith("bytes=0-")
    return response.status_code == 200 or (
        response.status_code == 206 and response.headers.get("Content-Range", "").startswith("bytes 0-")
    )
