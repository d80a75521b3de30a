"""Bringing what a sync wants, several plugins at a time: while one is on its way, others are judged and written down.

The publisher is not asked more at once for that (outbound_limits.py), and the store keeps what is ready at the same
time in one transaction, so that a sync of the disk serves several.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import trio

from pfn_node.sources.outcomes import PublisherFailed
from pfn_node.sources.progress import SyncProgress
from pfn_node.sources.publisher_answers import AuthorEntry

# A publisher is asked for four at once (outbound_limits.py): the others are being judged and written, which waits for
# the disk, and the more of them do the fewer syncs of it each of them costs. Their bytes lie on the disk meanwhile.
AT_ONCE_MAX: Final = 32
UNANSWERED_MAX: Final = 3  # zips in a row that nobody answers for: the publisher is down, and the rest would only wait


class Skipped(Exception):
    """A release is not mirrored now; `reason` is what the subscriber gets to read."""

    def __init__(self, reason: str, *, answered: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answered = answered


class _Turns:
    """What is still to be brought, and what came of the rest so far."""

    def __init__(
        self, entries: Iterable[AuthorEntry], bring: Callable[[AuthorEntry], Awaitable[None]], progress: SyncProgress
    ) -> None:
        self._rest = iter(entries)
        self._bring = bring
        self._progress = progress
        self._unanswered = 0
        self.failure: Exception | None = None

    async def take(self, others: trio.CancelScope) -> None:
        """Bring one after the other, until nothing is left or it is given up, for all."""
        try:
            for entry in self._rest:
                await self._take_one(entry)
        except Exception as failure:
            self.failure = self.failure or failure
            others.cancel()

    async def _take_one(self, entry: AuthorEntry) -> None:
        self._progress.steps.current = entry.slug
        try:
            await self._bring(entry)
        except Skipped as skipped:
            self._progress.note(entry.slug, skipped.reason)
            self._unanswered = 0 if skipped.answered else self._unanswered + 1
            if self._unanswered >= UNANSWERED_MAX:
                raise PublisherFailed(f"the sync was given up: {skipped.reason}", answered=False) from skipped
        else:
            self._progress.note(entry.slug, None)
            self._unanswered = 0


async def bring_all(
    entries: Iterable[AuthorEntry], bring: Callable[[AuthorEntry], Awaitable[None]], progress: SyncProgress
) -> None:
    """Bring each entry, and note in `progress` what came of it: `bring` raises Skipped for what stays out.

    Raises PublisherFailed when the publisher answers no more, and whatever else `bring` raises; the rest is given up.
    """
    turns = _Turns(entries, bring, progress)
    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE_MAX):
            nursery.start_soon(turns.take, nursery.cancel_scope)
    if turns.failure is not None:
        raise turns.failure
