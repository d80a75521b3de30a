"""Filling a nearly empty node: bodies in the order of their ids, from several neighbours at once.

The ids are cut into parts of equal width, and every neighbour that has enough gives one part at a time. A part knows
how far it came, so whoever takes it over goes on from there and nothing is fetched twice. A neighbour gives its part
back if it does not answer, if it takes too long, or if it has much less of it than of the whole by its own word; then
it rests while others go on. So one that is slow for ever holds up the end for half a minute, and one that withholds is
found out, or by the rounds of cells that follow. One whose pages never end gets no part any more, and what one says to
have is held against itself alone. If all links end, the parts wait for the next one.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pfn_protocol.comparison import Comparison, Round, goes_on
from pfn_protocol.limits import (
    digest_bytes,
    peers_known_max,
    snapshot_idle_ms_max,
    snapshot_page_ms_max,
    snapshot_pages_max,
    snapshot_part_min,
    snapshot_part_ms_max,
    snapshot_parts_max,
    snapshot_ratio_min,
    snapshot_rest_ms,
    snapshot_set_min,
    snapshot_withheld_min,
)
from pfn_protocol.messages import SnapshotRequest
from pfn_protocol.outgoing import InFlight, Outgoing, earliest
from pfn_protocol.registry import Registry


@dataclass(frozen=True, slots=True)
class SnapshotProgress:
    """How far the filling of a nearly empty node has come."""

    received: int  # announcements
    expected: int  # as many as the neighbour that it began with has
    neighbours: int  # that give a part at this moment


@dataclass(slots=True)
class _Part:
    """The ids after one and up to another one: what is still to be fetched of them."""

    after: bytes
    until: bytes


@dataclass(slots=True)
class _Giver:
    """A neighbour that gives parts."""

    part: _Part | None = None
    since_ms: int = 0  # when it took the part
    took_at: bytes = b""  # the id that the part began after then
    received: int = 0  # announcements, of this part
    pages: int = 0  # in all
    rests_until_ms: int = 0
    gives_no_more: bool = False  # it withholds, or brought as many pages as one neighbour may


class Snapshot:
    """The parts, and who gives them."""

    def __init__(self, registry: Registry, outgoing: Outgoing, comparisons: Mapping[bytes, Comparison]) -> None:
        self._registry = registry
        self._outgoing = outgoing
        self._comparisons = comparisons
        self._waiting: deque[_Part] = deque()
        self._givers: dict[bytes, _Giver] = {}
        self._is_under_way = False
        self._least = 0  # who has fewer announcements gives no part
        self._expected = 0
        self._received = 0
        self._gained = 0
        self._pages: dict[bytes, int] = {}  # of those whose link is over: it may be made anew
        self._brought_ms = 0  # when a page brought something, or the first neighbour came

    @property
    def progress(self) -> SnapshotProgress | None:
        """How far it has come; None if none is under way."""
        if not self._is_under_way:
            return None
        giving = sum(giver.part is not None for giver in self._givers.values())
        return SnapshotProgress(self._received, max(self._expected, self._received), giving)

    @property
    def wake_at(self) -> int | None:
        """When `flush` has something to do next."""
        if not self._givers:
            return None
        overdue = [self._overdue_ms(peer) for peer, giver in self._givers.items() if giver.part is not None]
        if not self._waiting:
            return earliest(*overdue)
        rested = [giver.rests_until_ms for peer, giver in self._givers.items() if self._is_free(peer, giver)]
        return earliest(*overdue, *rested)

    def is_worth_it(self, comparison: Comparison) -> bool:
        """Whether so much is lacking here that the bodies are all that is worth sending."""
        status = comparison.their_status
        if status is None or comparison.snapshot_taken == comparison.link_set.scope():
            return False
        mine = comparison.link_set.status().count
        least = self._least if self._is_under_way else max(snapshot_set_min, mine * snapshot_ratio_min)
        return status.count >= least

    def take(self, peer: bytes, comparison: Comparison, now_ms: int) -> bool:
        """Have a part from this neighbour, now or when one is free. False: it is not worth it."""
        status = comparison.their_status
        if status is None or not self.is_worth_it(comparison):
            return False
        if not self._is_under_way:
            self._begin(comparison.link_set.status().count, status.count)
        comparison.round = None
        if not self._givers:
            self._brought_ms = now_ms
        giver = self._givers.setdefault(peer, _Giver(pages=self._pages.pop(peer, 0)))
        giver.gives_no_more = giver.gives_no_more or giver.pages >= snapshot_pages_max
        self.flush(now_ms)
        return True

    def gives(self, peer: bytes) -> bool:
        """Whether this neighbour was asked for a part, and has not given it yet."""
        giver = self._givers.get(peer)
        return giver is not None and giver.part is not None

    def answered(self, in_flight: InFlight, after: bytes, delivered: Mapping[bytes, bool], now_ms: int) -> bool:
        """A page of a part came. Returns whether it goes on from where it was asked to, and within the part."""
        peer, request = in_flight.peer, in_flight.message
        comparison, giver = self._comparisons[peer], self._givers[peer]
        assert isinstance(request, SnapshotRequest) and giver.part is not None, "who answers was asked for a part"
        if after and not (goes_on(request.after, [after]) and (not request.until or after <= request.until)):
            return False
        part = giver.part
        giver.pages += 1
        giver.gives_no_more = giver.pages >= snapshot_pages_max  # who brings ever more ends the filling for nobody else
        self._received += len(delivered)
        self._brought_ms = now_ms if delivered else self._brought_ms
        self._gained += sum(came and one in self._registry for one, came in delivered.items())
        giver.received += len(delivered)
        if not after:
            self._end_part(peer, giver, part, now_ms)
        elif not delivered or giver.gives_no_more or now_ms - giver.since_ms >= snapshot_part_ms_max:
            part.after = after if delivered else part.after
            self.give_back(peer, now_ms)
        else:
            part.after = after
            comparison.ask(self._outgoing, peer, _request(part), now_ms)
        self.flush(now_ms)
        return True

    def give_back(self, peer: bytes, now_ms: int) -> None:
        """This neighbour did not bring its part: another one goes on with it."""
        giver = self._givers[peer]
        assert giver.part is not None, "it was asked for a part"
        if self._withheld(peer, giver, _place(giver.part.after)):
            giver.gives_no_more, giver.part.after = True, giver.took_at
        self._waiting.appendleft(giver.part)
        giver.part, giver.rests_until_ms = None, now_ms + snapshot_rest_ms
        self._comparisons[peer].round = None

    def leave(self, peer: bytes, now_ms: int) -> None:
        """The link is about to end, or to be made anew."""
        if self.gives(peer):
            self.give_back(peer, now_ms)
        giver = self._givers.pop(peer, None)
        if giver is not None:
            if len(self._pages) >= peers_known_max:
                del self._pages[next(iter(self._pages))]
            self._pages[peer] = giver.pages

    def flush(self, now_ms: int) -> None:
        """Take parts from who does not answer, give them to who is free, and see whether anything is left to do."""
        if not self._givers:
            return
        for peer, giver in self._givers.items():
            if giver.part is not None and now_ms >= self._overdue_ms(peer):
                self.give_back(peer, now_ms)
        for peer, giver in self._givers.items():
            if self._waiting and self._is_free(peer, giver) and now_ms >= giver.rests_until_ms:
                comparison = self._comparisons[peer]
                giver.part, giver.since_ms = self._waiting.popleft(), now_ms
                giver.took_at, giver.received = giver.part.after, 0
                comparison.round, comparison.due_ms = Round(now_ms), None
                comparison.ask(self._outgoing, peer, _request(giver.part), now_ms)
        is_idle = now_ms - self._brought_ms >= snapshot_idle_ms_max
        if is_idle or not any(map(self._may_give, self._givers.values())):
            self._end(now_ms)

    def _is_free(self, peer: bytes, giver: _Giver) -> bool:
        return giver.part is None and self._comparisons[peer].round is None and not giver.gives_no_more

    def _may_give(self, giver: _Giver) -> bool:
        """Whether something is still to be expected of it."""
        return giver.part is not None or (bool(self._waiting) and not giver.gives_no_more)

    def _overdue_ms(self, peer: bytes) -> int:
        return self._comparisons[peer].asked_ms + snapshot_page_ms_max

    def _begin(self, mine: int, theirs: int) -> None:
        parts = max(1, min(snapshot_parts_max, theirs // snapshot_part_min))
        borders = [number * 256 // parts for number in range(1, parts)]
        ends = [bytes([border - 1]) + b"\xff" * (digest_bytes - 1) for border in borders]
        self._waiting = deque(_Part(after, until) for after, until in zip((b"", *ends), (*ends, b""), strict=True))
        self._givers.clear()
        self._is_under_way = True
        self._least = max(snapshot_set_min, mine * snapshot_ratio_min)
        self._expected, self._received, self._gained = theirs, 0, 0
        self._pages.clear()

    def _end_part(self, peer: bytes, giver: _Giver, part: _Part, now_ms: int) -> None:
        """The neighbour says that this was all. If that cannot be, others are asked for the same."""
        if self._withheld(peer, giver, _place(part.until) or _PLACES):
            giver.gives_no_more = True
            part.after = giver.took_at
            self.give_back(peer, now_ms)
        else:
            giver.part = None
            self._comparisons[peer].round = None

    def _withheld(self, peer: bytes, giver: _Giver, place: int) -> bool:
        """Whether it brought much less of what it went through than it has by its own word: ids are spread evenly."""
        status = self._comparisons[peer].their_status
        expected = (status.count if status else 0) * (place - _place(giver.took_at)) // _PLACES
        return expected >= snapshot_withheld_min and giver.received * 2 < expected

    def _end(self, now_ms: int) -> None:
        """Whatever is still different now, rounds of cells or of pages find."""
        self._is_under_way = False
        self._waiting.clear()
        for peer, giver in self._givers.items():
            comparison = self._comparisons[peer]
            if giver.part is not None:
                comparison.round = None
            status = comparison.their_status
            if status is None or self._gained * 2 < status.count:  # or it might go on for ever
                comparison.snapshot_taken = comparison.link_set.scope()
            comparison.due_ms = now_ms
        self._givers.clear()


_PLACES: Final = 1 << (8 * digest_bytes)


def _place(announcement_id: bytes) -> int:
    """Where an id lies among all that there can be."""
    return int.from_bytes(announcement_id)


def _request(part: _Part) -> SnapshotRequest:
    return SnapshotRequest(part.after, b"", part.until)
