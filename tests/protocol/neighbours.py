"""One side with several neighbours in virtual time: answers take a while, some never come, and some are lies."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from pfn_node.simulation.world import START_MS
from pfn_protocol.effects import BuildPrefix, DecodeCells, SendAnswer, SendRequest
from pfn_protocol.events import CellsDecoded
from pfn_protocol.messages import Answer, FetchAnswer, LinkAnswer, LinkRequest, RefusedAnswer, Request, SnapshotAnswer
from tests.protocol.parties import Party

# What a neighbour says instead of its honest answer, and after how long; None: nothing at all.
Manner = Callable[[Request, Answer], tuple[Answer, int] | None]
STATUS_MS = 10_000
ENGINE_WAITS_MS = 10_000


def honest(request: Request, answer: Answer) -> tuple[Answer, int]:
    return answer, 50


def silent(request: Request, answer: Answer) -> None:
    return None


def busy(request: Request, answer: Answer) -> tuple[Answer, int]:
    return RefusedAnswer("busy", "come again", START_MS), 20


def trickling(request: Request, answer: Answer) -> tuple[Answer, int]:
    """One announcement at a time, just before the asker would stop waiting."""
    if isinstance(answer, SnapshotAnswer) and len(answer.announcements) > 1:
        return SnapshotAnswer(answer.announcements[:1], answer.announcements[0]), 9_000
    return answer, 9_000


def withholding(request: Request, answer: Answer) -> tuple[Answer, int]:
    return (SnapshotAnswer((), b"") if isinstance(answer, SnapshotAnswer) else answer), 20


class Neighbourhood:
    """The asker, and who is linked to it."""

    def __init__(self, asker: Party, **manners: Manner) -> None:
        self.asker = asker
        self.now_ms = START_MS
        self.neighbours: dict[bytes, Party] = {}
        self.manners: dict[bytes, Manner] = {}
        self.bodies: dict[bytes, list[bytes]] = {}  # ids of the bodies that each neighbour sent
        self.pages: dict[bytes, int] = {}
        self._later: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()

    def link(self, neighbour: Party, manner: Manner = honest) -> None:
        request = LinkRequest("", (), (), *self.asker.secrets.offer(neighbour.id, is_linked=False))
        answer = LinkAnswer(True, 0, (), (), *neighbour.secrets.answer(self.asker.id, request))
        self.asker.secrets.answered(neighbour.id, request, answer)
        self.asker.machine.open(neighbour.id, "http://neighbour.test", (), self.now_ms)
        neighbour.machine.open(self.asker.id, "", (), self.now_ms)
        self.neighbours[neighbour.id], self.manners[neighbour.id] = neighbour, manner
        self.bodies.setdefault(neighbour.id, [])
        self.pages.setdefault(neighbour.id, 0)
        self._tell_status(neighbour)

    def unlink(self, neighbour: Party) -> None:
        del self.neighbours[neighbour.id]
        self.asker.machine.close(neighbour.id, self.now_ms)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass, until something holds. Returns whether it does."""
        end_ms = self.now_ms + int(seconds * 1_000)
        while not until():
            self._settle()
            wake_at = self.asker.machine.wake_at
            following = min(
                self._later[0][0] if self._later else end_ms, wake_at if wake_at is not None else end_ms, end_ms
            )
            if following >= end_ms:
                self.now_ms = end_ms
                return until()
            assert following >= self.now_ms, "nobody is woken in the past"
            self.now_ms = following
            while self._later and self._later[0][0] <= self.now_ms:
                heappop(self._later)[2]()
        return True

    def _settle(self) -> None:
        self.asker.machine.flush(self.now_ms)
        assert (self.asker.machine.wake_at or self.now_ms + 1) > self.now_ms, "what was due was done"
        for effect in self.asker.outgoing.drain():
            if isinstance(effect, SendRequest):
                self._carry(effect)
            elif isinstance(effect, BuildPrefix):
                self.asker.build(effect, self.now_ms)
                self._settle()
            elif isinstance(effect, DecodeCells):
                decoded = CellsDecoded(effect.decode_id, effect.cells.decode(effect.salt))
                self.asker.machine.computed(decoded, self.now_ms)
                self._settle()

    def _at(self, delay_ms: int, what: Callable[[], None]) -> None:
        heappush(self._later, (self.now_ms + delay_ms, next(self._numbers), what))

    def _carry(self, effect: SendRequest) -> None:
        self.asker.asked.append(effect.message)
        in_flight = self.asker.outgoing.take(effect.request_id, effect.peer)
        neighbour = self.neighbours.get(effect.peer)
        assert in_flight is not None
        said = self._answer(neighbour, effect) if neighbour is not None else None
        if neighbour is None or said is None:
            self._at(ENGINE_WAITS_MS, lambda: self.asker.machine.failed(in_flight, "", self.now_ms))
            return
        answer, delay_ms = said
        if isinstance(answer, SnapshotAnswer | FetchAnswer):
            self.bodies[effect.peer] += answer.announcements
            self.pages[effect.peer] += isinstance(answer, SnapshotAnswer)
        giver = neighbour
        self._at(delay_ms, lambda: self.asker.take(in_flight, answer, giver, self.now_ms))

    def _answer(self, neighbour: Party | None, effect: SendRequest) -> tuple[Answer, int] | None:
        assert neighbour is not None
        neighbour.answer(self.asker.id, effect.request_id, effect.message, self.now_ms)
        answer: Answer | None = None
        while effects := neighbour.outgoing.drain():
            for one in effects:
                if isinstance(one, BuildPrefix):
                    neighbour.build(one, self.now_ms)
                elif isinstance(one, SendAnswer):
                    answer = one.message
        assert answer is not None, "every request is answered"
        return self.manners[neighbour.id](effect.message, answer)

    def _tell_status(self, neighbour: Party) -> None:
        if self.neighbours.get(neighbour.id) is neighbour:
            status = neighbour.machine.status(self.asker.id)
            self.asker.machine.heard_status(neighbour.id, status, self.now_ms)
            self._at(STATUS_MS, lambda: self._tell_status(neighbour))
