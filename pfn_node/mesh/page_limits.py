"""Bounds on what others may have this node read out: pages of authors, of ids, and of bodies, and cells.

Such a question is small and its answer is up to a megabyte, gathered by the machine and read from the disk. So few are
prepared at a time, one for each asker, and nodes that the operator does not pin have a budget of bytes that fills again
over a day. Beyond the budget the answer is a refusal, `busy`: nothing is wrong with the question, and the asker's next
status begins a new round. Whoever is to be filled from nothing needs each body once, so `fetch` has no budget.

Cells of announcements wait in the machine until they are made, one request of each neighbour, and so take none of these
places: their making is bounded there. Their bytes are counted like those of pages. Cells of mirror sets are pages.

Whoever finds no place waits for one a little, in the order in which they came: an honest node may well ask for two
things at once (it reads back its own slots while it reconciles), and a refusal would put its round off to its next
status. Pinned nodes have places of their own, so that strangers who ask without end take none from them. And everybody
stands in line with one question at a time, so that a few who ask without end come after whoever came before them.
"""

from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import trio

from pfn_node.mesh.admission import BUSY, NotHeard
from pfn_protocol.message_fields import ReceivedRequest
from pfn_protocol.messages import AuthorsRequest, CellsRequest, IdsRequest, Request, SnapshotRequest

# For strangers, and again for pinned nodes. Enough that a slow disk under one does not hold up all others; at 1 MB each
# they never fill the memory.
IN_PREPARATION_MAX = 2
# A page is ready in milliseconds. Who waited that long would only give up, and its connection is wanted by others.
WAIT_SECONDS_MAX = 2.0
# Of one asker, the one that is prepared included: an honest node reads back and reconciles, and may have asked again
# just before its first question was given up.
OF_ONE_ASKER_MAX = 3
# Of all strangers, and again of all pinned nodes: what is prepared, and who waits.
ASKED_AT_ONCE_MAX = 64
# A million announcements have 500 MB, and a newcomer, whom nobody pins, may have one neighbour alone to be filled by.
# Their ids have 16 MB, and what a node reads back of its own 20 MB at most.
BYTES_A_DAY_MAX = 768 * 2**20
# What a page is charged at least, unless it is of cells: to find out that hardly anything is left for somebody takes
# the machine tens of milliseconds too. Who is filled asks for full ones.
PAGE_BYTES_MIN = 64 * 2**10
# Nodes whose budget is remembered: far more than a node has links in a day. Who is forgotten begins anew.
BUDGETS_MAX = 4096

_DAY_MS = 86_400_000


@dataclass(slots=True)
class _Line:
    """Those who share places: each asker with one question at a time, first come, first served."""

    places: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(IN_PREPARATION_MAX))
    asked: Counter[bytes] = field(default_factory=Counter)  # questions by asker, those that wait included
    turns: dict[bytes, trio.Lock] = field(default_factory=dict)

    def is_full_for(self, asker: bytes) -> bool:
        return self.asked[asker] >= OF_ONE_ASKER_MAX or self.asked.total() >= ASKED_AT_ONCE_MAX

    def enter(self, asker: bytes) -> trio.Lock:
        """Stand in the line; the asker's own turn."""
        self.asked[asker] += 1
        return self.turns.setdefault(asker, trio.Lock())

    def leave(self, asker: bytes) -> None:
        self.asked[asker] -= 1
        if not self.asked[asker]:
            del self.asked[asker], self.turns[asker]


class PageLimits:
    """Who may have a page now. `is_pinned` tells whose word counts here: their bytes are not counted."""

    def __init__(self, *, is_pinned: Callable[[bytes], bool], now_ms: Callable[[], int]) -> None:
        self._is_pinned = is_pinned
        self._now_ms = now_ms
        self._strangers = _Line()
        self._pinned = _Line()
        self._budgets: OrderedDict[bytes, tuple[float, int]] = OrderedDict()  # bytes left, and when that was

    @asynccontextmanager
    async def place(self, request: ReceivedRequest) -> AsyncIterator[None]:
        """Hold a place while the answer is prepared, after waiting for one at most `WAIT_SECONDS_MAX`.

        Raises NotHeard if none became free, too many wait already, or the budget is spent.
        """
        if self._is_counted(request) and self._left(request.sender) <= 0:
            raise NotHeard(429, BUSY, "You had your pages for today; more come with time.", request.nonce)
        if not _is_prepared(request.message):
            yield
            return
        line = self._pinned if self._is_pinned(request.sender) else self._strangers
        if line.is_full_for(request.sender):
            raise _no_place(request)
        async with AsyncExitStack() as held:
            turn = line.enter(request.sender)
            held.callback(line.leave, request.sender)
            with trio.move_on_after(WAIT_SECONDS_MAX) as waiting:
                await held.enter_async_context(turn)
                await held.enter_async_context(line.places)
            if waiting.cancelled_caught:
                raise _no_place(request)
            yield

    def charge(self, request: ReceivedRequest, size: int) -> None:
        """An answer of this many bytes went out. The last page of a budget may overdraw it."""
        if self._is_counted(request):
            if not isinstance(request.message, CellsRequest):
                size = max(size, PAGE_BYTES_MIN)
            self._budgets[request.sender] = (self._left(request.sender) - size, self._now_ms())
            self._budgets.move_to_end(request.sender)
            if len(self._budgets) > BUDGETS_MAX:
                self._budgets.popitem(last=False)

    def _is_counted(self, request: ReceivedRequest) -> bool:
        return isinstance(request.message, CellsRequest | IdsRequest | SnapshotRequest) and not self._is_pinned(
            request.sender
        )

    def _left(self, sender: bytes) -> float:
        now_ms = self._now_ms()
        left, at_ms = self._budgets.get(sender, (BYTES_A_DAY_MAX, now_ms))
        if at_ms > now_ms:  # the clock was set back: who has nothing left would not be charged, and so wait that long
            self._budgets[sender] = (left, now_ms)
        return min(BYTES_A_DAY_MAX, left + max(0, now_ms - at_ms) * BYTES_A_DAY_MAX / _DAY_MS)


def _is_prepared(message: Request) -> bool:
    """Whether the answer takes a place: pages, and the cells of a mirror set, which are made at once."""
    if isinstance(message, CellsRequest):
        return bool(message.set_name)
    return isinstance(message, AuthorsRequest | IdsRequest | SnapshotRequest)


def _no_place(request: ReceivedRequest) -> NotHeard:
    return NotHeard(503, BUSY, "Pages are being prepared for others; try again later.", request.nonce)
