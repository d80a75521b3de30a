"""Has concluded what was kept in bulk: a little at a time, and while more comes in only now and then.

Concluding takes the same processor as taking in, and many times as long. So while pages of announcements arrive it lets
them, for a while; after that both go on side by side. What waits stands in the database, so a restart goes on with it.
"""

import math
from collections.abc import Callable

import sqlite_utils
import structlog
import trio

from pfn_node.store import concluding
from pfn_node.store.database import Database
from pfn_node.store.outlasting import outlast

log = structlog.get_logger()

# One transaction, during which other writes wait: some tens of milliseconds.
CONCLUDED_AT_ONCE = 128
# Pages have ended if none came for so long.
QUIET_SECONDS = 1.0
# What came in is shown after this time at the latest, however much more comes.
PATIENCE_SECONDS = 300.0


class Concluding:
    """Concludes in the background. `concluded` is called when nothing waits any more; it never waits."""

    def __init__(self, *, database: Database, clock: Callable[[], float], concluded: Callable[[], None]) -> None:
        self._database = database
        self._clock = clock
        self._concluded = concluded
        self._due = trio.Event()
        self._kept_at = -math.inf  # in trio's time

    def kept(self) -> None:
        """Announcements were kept that wait to be concluded."""
        self._kept_at = trio.current_time()
        self._due.set()

    async def run(self) -> None:
        """Conclude what waits, for ever."""
        while True:
            self._due = trio.Event()
            await outlast(self._conclude_waiting, "conclude")
            await self._due.wait()

    async def _conclude_waiting(self) -> None:
        waiting = await self._database.read(concluding.waiting)
        if waiting:
            log.info("announcements_not_shown_yet", waiting=waiting)
            await self._pages_end()
            await self._conclude_all()
            self._concluded()

    async def _pages_end(self) -> None:
        with trio.move_on_after(PATIENCE_SECONDS):
            while (quiet_at := self._kept_at + QUIET_SECONDS) > trio.current_time():
                await trio.sleep_until(quiet_at)

    async def _conclude_all(self) -> None:
        after, at = "", int(self._clock())

        def work(db: sqlite_utils.Database) -> str:
            return concluding.conclude_some(db, after, CONCLUDED_AT_ONCE, at)

        while after := await self._database.write(work):
            at = int(self._clock())
