"""Bounds on what others may have this node read out: pages of authors, of ids, and of bodies.

Such a question is small and its answer is up to a megabyte, gathered by the machine and read from the disk. So few are
prepared at a time, one for each asker, and nodes that the operator does not pin have a budget of bytes that fills again
over a day. Beyond either the answer is a refusal, `busy`: nothing is wrong with the question, and the asker's next
status begins a new round. Whoever is to be filled from nothing needs each body once, so `fetch` has no budget.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pfn_node.mesh.admission import BUSY, NotHeard
from pfn_protocol.message_fields import ReceivedRequest
from pfn_protocol.messages import AuthorsRequest, IdsRequest, SnapshotRequest

# Enough that a slow disk under one does not hold up all others; at 1 MB each they never fill the memory.
IN_PREPARATION_MAX = 2
# A million ids have 34 MB and what a node reads back of its own 20 MB at most: that more than three times a day.
BYTES_A_DAY_MAX = 192 * 2**20
# Nodes whose budget is remembered: far more than a node has links in a day. Who is forgotten begins anew.
BUDGETS_MAX = 4096

_DAY_MS = 86_400_000


class PageLimits:
    """Who may have a page now. `is_pinned` tells whose word counts here: those are not counted."""

    def __init__(self, *, is_pinned: Callable[[bytes], bool], now_ms: Callable[[], int]) -> None:
        self._is_pinned = is_pinned
        self._now_ms = now_ms
        self._askers: list[bytes] = []  # whose pages are being prepared
        self._budgets: OrderedDict[bytes, tuple[float, int]] = OrderedDict()  # bytes left, and when that was

    @contextmanager
    def place(self, request: ReceivedRequest) -> Iterator[None]:
        """Hold a place while the answer is prepared. Raises NotHeard if there is none, or the budget is spent."""
        if not isinstance(request.message, AuthorsRequest | IdsRequest | SnapshotRequest):
            yield
            return
        if len(self._askers) >= IN_PREPARATION_MAX or request.sender in self._askers:
            raise NotHeard(503, BUSY, "Pages are being prepared for others; try again later.", request.nonce)
        if self._is_counted(request) and self._left(request.sender) <= 0:
            raise NotHeard(429, BUSY, "You had your pages for today; more come with time.", request.nonce)
        self._askers.append(request.sender)
        try:
            yield
        finally:
            self._askers.remove(request.sender)

    def charge(self, request: ReceivedRequest, size: int) -> None:
        """An answer of this many bytes went out. The last page of a budget may overdraw it."""
        if self._is_counted(request):
            self._budgets[request.sender] = (self._left(request.sender) - size, self._now_ms())
            self._budgets.move_to_end(request.sender)
            if len(self._budgets) > BUDGETS_MAX:
                self._budgets.popitem(last=False)

    def _is_counted(self, request: ReceivedRequest) -> bool:
        return isinstance(request.message, IdsRequest | SnapshotRequest) and not self._is_pinned(request.sender)

    def _left(self, sender: bytes) -> float:
        left, at_ms = self._budgets.get(sender, (BYTES_A_DAY_MAX, 0))
        return min(BYTES_A_DAY_MAX, left + max(0, self._now_ms() - at_ms) * BYTES_A_DAY_MAX / _DAY_MS)
