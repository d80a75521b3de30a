"""Requests to other nodes, as the machine asks for them: bounded tasks, each of which ends in exactly one event.

The machine never waits for a request, and neither does the engine: `start` takes it on, or reports at once that it
cannot be sent. A deadline counts from that moment, waiting for a turn included, so the machine can rely on it.
Requests that hang on purpose (a node without a URL waits for news) have turns of their own and starve nobody.

A neighbour may also hang out of malice. So nodes that the operator joined or pins have turns that no other node can
take, one stranger has a few at most, and whoever let its last request run out is given little time for the next one.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog
import trio

from pfn_node.mesh.bodies import Bodies
from pfn_node.mesh.peer_client import REQUEST_SECONDS_MAX, AnotherKey, PeerClient, PeerFailure
from pfn_node.mesh.traffic import Traffic
from pfn_node.mesh.views import shown
from pfn_node.store.database import StoreTrouble
from pfn_protocol.effects import SendRequest
from pfn_protocol.errors import Refusal
from pfn_protocol.events import AnswerReceived, PeerUnreachable
from pfn_protocol.messages import CellsRequest, GossipRequest

log = structlog.get_logger()

# One client does most requests a second at 16 in flight; more only wait for each other.
IN_FLIGHT_MAX = 16
# The same for nodes that the operator has no opinion about; together they leave the way out room for publishers.
STRANGERS_IN_FLIGHT_MAX = 12
# Of one stranger: a push, and a question about its set.
OF_ONE_STRANGER_MAX = 2
# For whoever let its last request run out; an honest node that was busy answers within this, and has ten again.
IMPATIENT_SECONDS = 2.0
# Nodes that are remembered for having let one run out.
UNANSWERED_MAX = 1024
# Twice the active view of a large mesh.
HANGING_MAX = 24
# Requests taken on and not yet ended; the machine asks for a few per link.
TAKEN_ON_MAX = 512


@dataclass(slots=True)
class _Line:
    """The turns of one stranger, and how many tasks use or await one."""

    turns: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(OF_ONE_STRANGER_MAX))
    users: int = 0


class Outgoing:
    """Performs SendRequest. `report` takes the event that ends it; `report_impostor` hears of wrong keys.

    `is_trusted` tells the nodes that the operator joined or pins from strangers.
    """

    def __init__(
        self,
        *,
        client: PeerClient,
        bodies: Bodies,
        traffic: Traffic,
        clock: Callable[[], float],
        report: Callable[[AnswerReceived | PeerUnreachable], Awaitable[None]],
        report_impostor: Callable[[AnotherKey], Awaitable[None]],
        is_trusted: Callable[[bytes], bool],
    ) -> None:
        self._client = client
        self._bodies = bodies
        self._traffic = traffic
        self._clock = clock
        self._report = report
        self._report_impostor = report_impostor
        self._is_trusted = is_trusted
        self._taken_on = 0
        self._turns = trio.CapacityLimiter(IN_FLIGHT_MAX)
        self._strangers_turns = trio.CapacityLimiter(STRANGERS_IN_FLIGHT_MAX)
        self._lines: dict[bytes, _Line] = {}
        self._unanswered: OrderedDict[bytes, None] = OrderedDict()
        self._hanging_turns = trio.CapacityLimiter(HANGING_MAX)

    def start(self, nursery: trio.Nursery, request: SendRequest) -> PeerUnreachable | None:
        """Take a request on; or the event that says that it cannot be. Never waits."""
        if self._taken_on >= TAKEN_ON_MAX:
            return PeerUnreachable(request.request_id, request.peer, "too many requests are under way here")
        self._taken_on += 1
        nursery.start_soon(self._carry_out, request)
        return None

    async def _carry_out(self, request: SendRequest) -> None:
        waits = request.message.wait_seconds if isinstance(request.message, GossipRequest) else 0
        event: AnswerReceived | PeerUnreachable
        try:
            with trio.fail_after(REQUEST_SECONDS_MAX + waits):
                async with self._turn(request.peer, hangs=waits > 0):
                    event = await self._answered_in_time(request, waits)
        except trio.TooSlowError:
            event = self._unreachable(request, "no answer in time")
        except AnotherKey as failure:
            await self._report_impostor(failure)
            event = self._unreachable(request, failure.reason)
        except PeerFailure as failure:
            event = self._unreachable(request, failure.reason)
        except StoreTrouble as error:
            log.error("store_failed", doing="request", path=request.message.path, reason=str(error))
            event = self._unreachable(request, "what it was to be told cannot be read here")
        except Refusal as refusal:  # our own message breaks a rule: a mistake of ours that must not end the node
            log.error("request_not_written", path=request.message.path, reason=str(refusal))
            event = self._unreachable(request, "the request could not be written")
        finally:
            self._taken_on -= 1
        await self._report(event)

    @asynccontextmanager
    async def _turn(self, peer: bytes, *, hangs: bool) -> AsyncIterator[None]:
        """Wait for a turn, and hold it. Of several limits the narrowest is taken first."""
        if hangs or self._is_trusted(peer):
            async with self._hanging_turns if hangs else self._turns:
                yield
            return
        line = self._lines.setdefault(peer, _Line())
        line.users += 1
        try:
            async with line.turns, self._strangers_turns:
                yield
        finally:
            line.users -= 1
            if not line.users:
                del self._lines[peer]

    async def _answered_in_time(self, request: SendRequest, waits: int) -> AnswerReceived:
        """Ask, and note whether the node lets the request run out. Raises what `_exchange` does, and TooSlowError."""
        impatient = request.peer in self._unanswered and not waits
        patience = REQUEST_SECONDS_MAX + waits if request.patience_ms is None else request.patience_ms / 1000
        began = trio.current_time()
        try:
            with trio.fail_after(min(IMPATIENT_SECONDS, patience) if impatient else patience):
                answer = await self._exchange(request, waits)
        except (trio.TooSlowError, trio.Cancelled):
            if trio.current_time() - began >= IMPATIENT_SECONDS:
                self._note_unanswered(request.peer)
            raise
        self._unanswered.pop(request.peer, None)
        return answer

    def _note_unanswered(self, peer: bytes) -> None:
        self._unanswered[peer] = None
        if len(self._unanswered) > UNANSWERED_MAX:
            self._unanswered.popitem(last=False)

    async def _exchange(self, request: SendRequest, waits: int) -> AnswerReceived:
        message = await self._bodies.into_request(request.message, request.bodies)
        began = trio.current_time()
        exchange = await self._client.send(request.peer, request.url, message, REQUEST_SECONDS_MAX + waits)
        self._traffic.record(
            request.peer,
            sent=exchange.bytes_sent,
            received=exchange.bytes_received,
            at=self._clock(),
            round_trip_seconds=None if waits or isinstance(message, CellsRequest) else trio.current_time() - began,
        )
        self._traffic.count(message.path, "out")
        self._traffic.hear(request.peer, exchange.answer)
        return AnswerReceived(request.request_id, request.peer, exchange.answer)

    def _unreachable(self, request: SendRequest, reason: str) -> PeerUnreachable:
        self._traffic.metrics.unanswered.labels(request.message.path).inc()
        log.debug("peer_unanswered", peer=shown(request.peer), path=request.message.path, reason=reason)
        return PeerUnreachable(request.request_id, request.peer, reason)
