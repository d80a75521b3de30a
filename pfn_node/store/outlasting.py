"""Work on the store that nobody waits for, and that is to be done all the same: again, until the disk takes it.

A request that finds the disk full is refused, and comes again when its client likes. What the node does by itself has
no such client, and would end the node with what it raises.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
import trio

from pfn_node.store.database import Database, DatabaseClosed, StoreTrouble, Work

T = TypeVar("T")

log = structlog.get_logger()

# A disk that is full or fails costs little to be asked again, and a node shall be back soon after it was mended.
AGAIN_SECONDS: Final = 1.0


async def outlast(work: Callable[[], Awaitable[T]], what: str) -> T:
    """Do the work, again after a second for as long as the store is in trouble. Raises DatabaseClosed at the end."""
    while True:
        try:
            return await work()
        except DatabaseClosed:
            raise
        except StoreTrouble as error:
            log.error("store_failed", doing=what, reason=str(error), again_seconds=AGAIN_SECONDS)
        await trio.sleep(AGAIN_SECONDS)


async def note(database: Database, work: Work[object]) -> None:
    """Write what is worth a line in the log, but no waiting, where it cannot be written."""
    try:
        await database.write(work)
    except StoreTrouble as error:
        log.error("store_failed", doing="note", reason=str(error))
