"""Says how far the filling of a node has come: it may take minutes, and looks like nothing from outside.

That is so for a new node, and for one that was stopped while it was filled or was away for long. Whatever way the
announcements come, there are as many to have as the trusted neighbour has that has most. What neighbours have more may
be what this node does not want; so it is filled only while more comes in.

Every few seconds a line in the log; what it began and ended with in the activity. The figures of the moment are in the
mesh's status all the time.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import structlog
import trio

from pfn_node.mesh.traffic import Traffic
from pfn_protocol.mesh import Mesh

log = structlog.get_logger()

LOOK_SECONDS = 5.0
# The rate is that of the last minute: looks at it, and the one that they are compared with.
_LOOKS = 13
# Fewer are here before anybody has read that they are missing.
LACKING_MIN = 1_000
# Fewer say nothing about how fast the others will come.
_CAME_MIN = 100


@dataclass(frozen=True, slots=True)
class Filling:
    """How far it has come, in announcements."""

    held: int
    expected: int
    per_second: int  # in the last minute
    seconds_left: int | None  # None: too few came in the last minute to say it


class FillingReport:
    """Watches the progress. `record` puts a sentence into the activity.

    Only those that `is_trusted` count for what there is to have: a stranger could say any number.
    """

    def __init__(
        self, traffic: Traffic, is_trusted: Callable[[bytes], bool], record: Callable[[str], Awaitable[None]]
    ) -> None:
        self._traffic = traffic
        self._is_trusted = is_trusted
        self._record = record
        self._held: deque[tuple[float, int]] = deque(maxlen=_LOOKS)  # at which time so many were here
        self.filling: Filling | None = None  # None: that is not under way

    async def run(self, mesh: Mesh) -> None:
        """Report, for ever."""
        while True:
            former, self.filling = self.filling, self._look_at(mesh)
            if self.filling is not None:
                await self._report(self.filling, is_first=former is None)
            elif former is not None:
                await self._record(f"This node was filled by others: it has {self._held[-1][1]} announcements now.")
            await trio.sleep(LOOK_SECONDS)

    async def _report(self, now: Filling, *, is_first: bool) -> None:
        log.info("filled_by_neighbours", **asdict(now))
        if is_first:
            await self._record(
                f"Other nodes began to fill this one: it has {now.held} of {now.expected} announcements."
            )

    def _look_at(self, mesh: Mesh) -> Filling | None:
        status, now = mesh.status(), trio.current_time()
        trusted = [self._traffic.of(peer).announcements for peer in mesh.neighbours() if self._is_trusted(peer)]
        if status.snapshot is not None and not any(trusted):  # what there is to go by; it may be a stranger's word
            trusted.append(status.snapshot.expected)
        held, expected = status.announcements, max(trusted, default=0)
        self._held.append((now, held))
        then, had = self._held[0]
        came = held - had
        if status.snapshot is None and (expected - held < LACKING_MIN or came <= 0):
            return None
        rate = came / (now - then) if came >= _CAME_MIN else 0.0
        left = round(max(0, expected - held) / rate) if rate else None
        return Filling(held, max(expected, held), round(rate), left)
