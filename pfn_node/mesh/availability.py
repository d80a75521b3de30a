"""Which artifacts another node has: many questions, few requests.

A question goes out at once if none is on its way to that node; what is asked meanwhile goes together in the next
request. So a single fetch waits for nothing, and a hundred of them make a handful of requests to each node.
"""

from dataclasses import dataclass, field

import trio

from pfn_node.mesh.peer_client import PeerClient, PeerFailure
from pfn_node.store.rows import Peer
from pfn_protocol.limits import have_max
from pfn_protocol.messages import HaveAnswer, HaveRequest

# A node that does not answer such a small question by then is not the one to fetch from.
QUESTION_SECONDS_MAX = 5.0


@dataclass(slots=True)
class _Question:
    sha256: bytes
    answered: trio.Event = field(default_factory=trio.Event)
    yes: bool = False


@dataclass(slots=True)
class _Line:
    """The questions to one node: at most one request is under way."""

    turn: trio.Lock = field(default_factory=trio.Lock)
    waiting: list[_Question] = field(default_factory=list)
    users: int = 0


class Availability:
    """Asks other nodes which artifacts they have, in batches."""

    def __init__(self, client: PeerClient) -> None:
        self._client = client
        self._lines: dict[bytes, _Line] = {}

    async def has(self, peer: Peer, sha256: bytes) -> bool:
        """Whether `peer` says that it serves this artifact; no answer is a no."""
        question = _Question(sha256)
        line = self._lines.setdefault(peer.node_id, _Line())
        line.waiting.append(question)
        line.users += 1
        try:
            async with line.turn:
                while not question.answered.is_set():
                    await self._ask(peer, line)
            return question.yes
        finally:
            line.users -= 1
            if question in line.waiting:  # given up before it was asked
                line.waiting.remove(question)
            if not line.users:
                del self._lines[peer.node_id]

    async def _ask(self, peer: Peer, line: _Line) -> None:
        """One request for all that wait; whoever holds the turn asks for the others too."""
        batch, line.waiting = line.waiting[:have_max], line.waiting[have_max:]
        try:
            held = await self._held(peer, tuple(dict.fromkeys(question.sha256 for question in batch)))
        except trio.Cancelled:
            line.waiting[:0] = batch  # the next one in turn asks for those that still want to know
            raise
        for question in batch:
            question.yes = question.sha256 in held
            question.answered.set()

    async def _held(self, peer: Peer, digests: tuple[bytes, ...]) -> frozenset[bytes]:
        assert peer.url is not None, "only nodes with a URL are asked"
        try:
            exchange = await self._client.send(peer.node_id, peer.url, HaveRequest(digests), QUESTION_SECONDS_MAX)
        except PeerFailure:
            return frozenset()
        return frozenset(exchange.answer.digests) if isinstance(exchange.answer, HaveAnswer) else frozenset()
