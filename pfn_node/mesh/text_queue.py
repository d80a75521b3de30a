"""Signed texts that are to be fetched, in an order that no single author can hold up.

Fetching a text means waiting for a node that may be anybody's, and an author may name as many as it has announcements.
So authors take turns, however much each of them has waiting, and those that the operator pins go before all others.
"""

from collections import OrderedDict, deque

import trio

# Ids of announcements; what does not fit is found again by the sweep.
WAITING_MAX = 20_000
OF_ONE_AUTHOR_MAX = 5_000


class TextQueue:
    """Announcements whose texts are wanted. `put` never waits."""

    def __init__(self) -> None:
        self._lanes: tuple[OrderedDict[bytes, deque[bytes]], ...] = (OrderedDict(), OrderedDict())
        self._waiting = 0
        self._came = trio.Event()

    def __len__(self) -> int:
        return self._waiting

    def put(self, author: bytes, announcement_id: bytes, *, pinned: bool) -> None:
        """Queue an announcement behind the others of its author, unless there is no room."""
        lane = self._lanes[0 if pinned else 1]
        of_author = lane.get(author, deque())
        if self._waiting >= WAITING_MAX or len(of_author) >= OF_ONE_AUTHOR_MAX:
            return
        of_author.append(announcement_id)
        lane[author] = of_author
        self._waiting += 1
        self._came.set()

    async def next(self) -> bytes:
        """The next announcement, waiting for one if need be."""
        while not self._waiting:
            self._came = trio.Event()
            await self._came.wait()
        lane = next(lane for lane in self._lanes if lane)
        author, of_author = lane.popitem(last=False)
        if len(of_author) > 1:
            lane[author] = of_author
        self._waiting -= 1
        return of_author.popleft()
