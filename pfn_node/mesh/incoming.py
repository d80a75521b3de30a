"""Requests of other nodes: opened here, answered by the machine, or by the disk where they ask for artifacts.

Each request that was opened becomes one event with a token, and its HTTP handler waits here for the answer to that
token. Every answer is signed over the request's nonce, a refusal too wherever the nonce could be read; only a request
that is not even an envelope gets a plain JSON error. A full queue is an honest 503: the sender tries again.
"""

import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
import trio

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.mesh.admission import BUSY, Admission, NotHeard
from pfn_node.mesh.bodies import Bodies
from pfn_node.mesh.page_limits import PageLimits
from pfn_node.mesh.peer_client import REQUEST_SECONDS_MAX
from pfn_node.mesh.traffic import Traffic
from pfn_protocol.effects import SendAnswer
from pfn_protocol.errors import Refusal
from pfn_protocol.events import RequestReceived
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import refusal_sentence_chars_max
from pfn_protocol.message_fields import ReceivedRequest, seal_answer
from pfn_protocol.messages import (
    Answer,
    CellsRequest,
    GossipRequest,
    HaveAnswer,
    HaveRequest,
    RefusedAnswer,
)

log = structlog.get_logger()

# What a refused sender is told to wait, in seconds, with 429 and 503.
# Handlers that wait for the machine, those of hanging requests included; and what their requests may take together.
WAITING_MAX = 512
WAITING_BYTES_MAX = 32 * 2**20

STATUS_OK = 200
STATUS_BUSY = 503


class Busy(Exception):
    """The machine cannot take this event now."""


@dataclass(slots=True)
class _Waiting:
    """A handler that waits for the answer to its token."""

    answered: trio.Event = field(default_factory=trio.Event)
    effect: SendAnswer | None = None


class Incoming:
    """Opens requests and gives their answers. `submit` hands an event to the machine, or raises Busy.

    `mirror_cells` answers what is asked of a mirror set.
    """

    def __init__(
        self,
        *,
        key: PrivateKey,
        mesh: str,
        admission: Admission,
        pages: PageLimits,
        bodies: Bodies,
        artifacts: Artifacts,
        mirror_cells: Callable[[bytes, CellsRequest], Awaitable[Answer]],
        traffic: Traffic,
        clock: Callable[[], float],
        submit: Callable[[RequestReceived], None],
    ) -> None:
        self._key = key
        self._mesh = mesh
        self._admission = admission
        self._pages = pages
        self._bodies = bodies
        self._artifacts = artifacts
        self._mirror_cells = mirror_cells
        self._traffic = traffic
        self._clock = clock
        self._submit = submit
        self._tokens = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._waiting_bytes = 0
        self._closed = False

    async def handle(self, path: str, raw: bytes) -> tuple[int, bytes]:
        """The HTTP status and body that answer a request: a signed envelope, or (it begins with `{`) a JSON error."""
        try:
            received = self._admission.open(path, raw)
            async with self._pages.place(received):
                answer = await self._answer_to(received, len(raw))
        except NotHeard as refused:
            self._traffic.metrics.refused.labels(refused.rule).inc()
            return refused.status, self._refusal(refused.rule, refused.sentence, refused.nonce)
        except Busy as busy:
            self._traffic.metrics.refused.labels(BUSY).inc()
            return STATUS_BUSY, self._refusal(BUSY, str(busy), received.nonce)
        body = self._seal(received.nonce, answer)
        self._pages.charge(received, len(body))
        self._traffic.count(received.message.path, "in")
        self._traffic.record(received.sender, sent=len(body), received=len(raw), at=self._clock())
        self._traffic.hear(received.sender, received.message)
        return STATUS_OK, body

    async def _answer_to(self, received: ReceivedRequest, size: int) -> Answer:
        if isinstance(received.message, HaveRequest):
            return HaveAnswer(tuple(filter(self._artifacts.has, received.message.digests)))
        if self._closed:
            raise Busy("This node is stopping.")
        if isinstance(received.message, CellsRequest) and received.message.set_name:
            return await self._mirror_cells(received.sender, received.message)
        if len(self._waiting) >= WAITING_MAX or self._waiting_bytes + size > WAITING_BYTES_MAX:
            raise Busy("Too many requests are waiting for an answer; try again later.")
        token = next(self._tokens)
        waiting = self._waiting[token] = _Waiting()
        self._waiting_bytes += size
        try:
            self._submit(RequestReceived(token, received.sender, received.message))
            waits = received.message.wait_seconds if isinstance(received.message, GossipRequest) else 0
            with trio.move_on_after(REQUEST_SECONDS_MAX + waits):
                await waiting.answered.wait()
        finally:
            del self._waiting[token]
            self._waiting_bytes -= size
        if waiting.effect is None:
            raise Busy("This node could not answer in time; try again later.")
        return await self._bodies.into_answer(waiting.effect.message, waiting.effect.bodies)

    def deliver(self, effect: SendAnswer) -> None:
        """Hand the machine's answer to the handler that waits for it, if it still does."""
        waiting = self._waiting.get(effect.token)
        if waiting is not None:
            waiting.effect = effect
            waiting.answered.set()

    def close(self) -> None:
        """The machine answers nobody any more: those who wait are told so now."""
        self._closed = True
        self.put_off()

    def put_off(self) -> None:
        """The machine answers nobody for now: those who wait are to ask again later."""
        for waiting in self._waiting.values():
            waiting.answered.set()

    def _seal(self, nonce: bytes, answer: Answer) -> bytes:
        try:
            return seal_answer(self._key, mesh=self._mesh, nonce=nonce, message=answer)
        except Refusal as refusal:  # our own answer breaks a rule: a mistake of ours that must not end the node
            log.error("answer_not_written", answer=type(answer).__name__, reason=str(refusal))
            return self._refusal("R78", "This node could not write its answer.", nonce)

    def _refusal(self, rule: str, sentence: str, nonce: bytes | None) -> bytes:
        if nonce is None:
            return json.dumps({"error": sentence, "details": {"rule": rule}}).encode()
        refused = RefusedAnswer(rule, sentence[:refusal_sentence_chars_max], int(self._clock() * 1000))
        return seal_answer(self._key, mesh=self._mesh, nonce=nonce, message=refused)
