"""Says how far the filling of a nearly empty node has come: it may take minutes, and looks like nothing from outside.

Every few seconds a line in the log; what it began and ended with in the activity. The figures of the moment are in the
mesh's status all the time.
"""

from collections.abc import Awaitable, Callable

import structlog
import trio

from pfn_protocol.snapshot import SnapshotProgress

log = structlog.get_logger()

LOOK_SECONDS = 5.0


class FillingReport:
    """Watches the progress. `record` puts a sentence into the activity."""

    def __init__(
        self, *, progress: Callable[[], SnapshotProgress | None], record: Callable[[str], Awaitable[None]]
    ) -> None:
        self._progress = progress
        self._record = record

    async def run(self) -> None:
        """Report, for ever."""
        former: SnapshotProgress | None = None
        while True:
            await trio.sleep(LOOK_SECONDS)
            now = self._progress()
            if now is not None:
                log.info(
                    "filled_by_neighbours",
                    received=now.received,
                    expected=now.expected,
                    neighbours=now.neighbours,
                )
                if former is None:
                    await self._record(
                        f"Other nodes began to fill this one: {now.received} of {now.expected} announcements so far."
                    )
            elif former is not None:
                await self._record(f"This node was filled by others: {former.received} announcements or more came.")
            former = now
