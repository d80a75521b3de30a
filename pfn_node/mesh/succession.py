"""Pins that the store moved, or took away, by what it was told (successions.py), and the machine that has to know.

Keys that are convicted cost nothing to make. So however many come, the opinions are read by one task, once for all that
came meanwhile; and nothing else is done unless they differ from what the machine was told.
"""

from collections.abc import Awaitable, Callable

import trio

from pfn_node.mesh.opinions import Opinions
from pfn_node.mesh.turns import Kept, Stopped
from pfn_node.store.outlasting import outlast
from pfn_protocol.announcements import Conviction, SuccessionStatement
from pfn_protocol.effects import ChangeAdmission, KeepAnnouncement, KeepConviction
from pfn_protocol.events import PeerFound


def moves_pins(kept: Kept, is_pinned: Callable[[bytes], bool]) -> bool:
    """Whether the pins in the database may differ now: `is_pinned` tells of those before.

    Somebody admitted may have told of a conviction that waited, which takes pins away by then.
    """
    if isinstance(kept, KeepConviction):
        return True
    if isinstance(kept, ChangeAdmission):
        return bool(kept.admitted)
    if not isinstance(kept, KeepAnnouncement):
        return False
    statement = kept.announcement.statement
    if isinstance(statement, SuccessionStatement):
        return is_pinned(statement.old_key)
    return kept.admitted and isinstance(statement, Conviction)


class FollowPins:
    """`tell` tells the machine of the opinions as they are at hand, `report` of a node that was joined."""

    def __init__(
        self, opinions: Opinions, tell: Callable[[], Awaitable[None]], report: Callable[[PeerFound], Awaitable[None]]
    ) -> None:
        self._opinions = opinions
        self._tell = tell
        self._report = report
        self._due = trio.Event()

    def soon(self) -> None:
        """The pins in the database may differ now."""
        self._due.set()

    async def run(self) -> None:
        """Follow them, for ever."""
        while True:
            await self._due.wait()
            self._due = trio.Event()
            try:
                await outlast(self._follow, "follow pins")
            except Stopped:
                return  # the next start reads them

    async def _follow(self) -> None:
        before = self._opinions.known
        await self._opinions.read()
        if self._opinions.policy() == self._opinions.told:
            return
        await self._tell()
        for node_id, peer in self._opinions.known.items():
            if peer.joined and peer.url and node_id not in before:
                await self._report(PeerFound(node_id, peer.url))
