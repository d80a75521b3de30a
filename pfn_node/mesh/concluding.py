"""Has concluded what was kept in bulk: a little at a time, and while more comes in only now and then.

Concluding takes the same processor as taking in, and many times as long. So while pages of announcements arrive it lets
them, for a while, also if it had begun already; after that both go on side by side. What waits stands in the database,
so a restart goes on with it.
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
# A node that was stopped while it was filled has links again, and the first page, after so long.
START_SECONDS = 5.0
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
        self.waiting = 0  # how many announcements are kept and not shown yet, about

    def kept(self, count: int) -> None:
        """So many announcements were kept that wait to be concluded."""
        self.waiting += count
        self._kept_at = trio.current_time()
        self._due.set()

    async def run(self) -> None:
        """Conclude what waits, for ever."""
        self._kept_at = trio.current_time() + START_SECONDS - QUIET_SECONDS
        while True:
            self._due = trio.Event()
            await outlast(self._conclude_waiting, "conclude")
            await self._due.wait()

    async def _conclude_waiting(self) -> None:
        self.waiting = await self._database.read(concluding.waiting)
        if self.waiting:
            log.info("announcements_not_shown_yet", waiting=self.waiting)
            await self._conclude_all()
            self.waiting = await self._database.read(concluding.waiting)
            self._concluded()

    async def _conclude_all(self) -> None:
        patient_until = trio.current_time() + PATIENCE_SECONDS
        after, at = "", 0

        def work(db: sqlite_utils.Database) -> str:
            return concluding.conclude_some(db, after, CONCLUDED_AT_ONCE, at)

        while True:
            await self._pages_end(patient_until)
            at = int(self._clock())
            after = await self._database.write(work)
            if not after:
                return
            self.waiting = max(0, self.waiting - CONCLUDED_AT_ONCE)

    async def _pages_end(self, patient_until: float) -> None:
        with trio.move_on_at(patient_until):
            while (quiet_at := self._kept_at + QUIET_SECONDS) > trio.current_time():
                await trio.sleep_until(quiet_at)
