"""Checking what others sent before the machine looks at it: in batches, in threads, while the machine does other work.

Whatever is kept passes the one door, `acceptance.accept`. Its signature check takes most of its time, and follows from
the bytes alone. PyNaCl lets other threads run meanwhile, so an answer with many announcements is checked here first;
the machine then asks for each of them, by its bytes, and finds what came of it. What it does not find it checks as
ever, so nothing depends on this but speed. A few announcements are not worth the way to a thread.
"""

from collections.abc import Sequence

import trio

from pfn_node.mesh.blocking import InThread
from pfn_protocol.acceptance import accept, check_time, verified
from pfn_protocol.announcements import AcceptedAnnouncement
from pfn_protocol.errors import Refusal
from pfn_protocol.events import AnswerReceived, Event
from pfn_protocol.messages import FetchAnswer, SnapshotAnswer

# One thread would leave the other processors idle, more than two only wait for each other to let go of Python.
THREADS_MAX = 2
# Fewer are checked in less time than a thread takes to begin.
WORTH_A_THREAD = 16
# What a thread takes at a time: a hundredth of a second.
CHUNK = 128
# What was found and not asked for yet, in announcements: pages of sixteen neighbours, some ten megabytes.
FOUND_MAX = 8_192


class Verifying:
    """Results of checks that were made ahead. `mesh` is the mesh's name."""

    def __init__(self, mesh: str, in_thread: InThread) -> None:
        self._mesh = mesh
        self._in_thread = in_thread
        self._found: dict[bytes, AcceptedAnnouncement | Refusal] = {}  # by their bytes, oldest first

    async def ahead(self, event: Event) -> None:
        """Check the announcements that an answer brings, if they are many; returns when that is done."""
        if not isinstance(event, AnswerReceived) or not isinstance(event.message, SnapshotAnswer | FetchAnswer):
            return
        raws = [raw for raw in dict.fromkeys(event.message.announcements) if raw not in self._found]
        if len(raws) < WORTH_A_THREAD:
            return
        async with trio.open_nursery() as nursery:
            for start in range(0, len(raws), CHUNK):
                nursery.start_soon(self._check, raws[start : start + CHUNK])

    async def _check(self, raws: Sequence[bytes]) -> None:
        self._found.update(await self._in_thread(lambda: [(raw, _checked(raw, self._mesh)) for raw in raws]))
        while len(self._found) > FOUND_MAX:
            del self._found[next(iter(self._found))]

    def accept(self, raw: bytes, *, mesh: str, now_ms: int) -> AcceptedAnnouncement:
        """What `acceptance.accept` does, with the part that takes long done already where it could be."""
        found = self._found.pop(raw, None)
        if found is None or mesh != self._mesh:
            return accept(raw, mesh=mesh, now_ms=now_ms)
        if isinstance(found, Refusal):
            raise found
        check_time(found, now_ms)
        return found


def _checked(raw: bytes, mesh: str) -> AcceptedAnnouncement | Refusal:
    try:
        return verified(raw, mesh)
    except Refusal as refusal:
        return refusal
