"""Which artifacts another node has: many questions, few requests.

What a node said to mirror of a source (mirror_sets.py) is believed for a while, and not asked again. Another question
goes out at once if none is on its way to that node; what is asked meanwhile goes together in the next request. So a
single fetch waits for nothing, and a hundred of them make a handful of requests to each node.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

import trio

from pfn_node.mesh.peer_client import PeerClient, PeerFailure
from pfn_node.store.rows import Peer
from pfn_protocol.limits import have_max
from pfn_protocol.messages import HaveAnswer, HaveRequest
from pfn_protocol.sketch_walk import shortened

# A node that does not answer such a small question by then is not the one to fetch from.
QUESTION_SECONDS_MAX = 5.0
# For so long a node is believed to have what it said that it mirrors: as long as fetching many artifacts takes.
BELIEVED_SECONDS = 600.0
# Nodes that are believed at a time, each with one source; as many as are asked about one, twice.
BELIEVED_MAX = 32


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
        self._mirrored: OrderedDict[bytes, tuple[float, frozenset[bytes]]] = OrderedDict()  # until when, and what

    def learn(self, node_id: bytes, short_digests: Iterable[bytes]) -> None:
        """The node says that it mirrors these (the first 16 bytes of each sha256)."""
        self._mirrored[node_id] = (trio.current_time() + BELIEVED_SECONDS, frozenset(short_digests))
        self._mirrored.move_to_end(node_id)
        if len(self._mirrored) > BELIEVED_MAX:
            self._mirrored.popitem(last=False)

    def disbelieve(self, node_id: bytes) -> None:
        """The node did not bring what it said to have: it is asked again from now on."""
        self._mirrored.pop(node_id, None)

    def _is_known_to_have(self, node_id: bytes, sha256: bytes) -> bool:
        until, digests = self._mirrored.get(node_id, (0.0, frozenset[bytes]()))
        return trio.current_time() < until and shortened(sha256) in digests

    async def has(self, peer: Peer, sha256: bytes) -> bool:
        """Whether `peer` says that it serves this artifact; no answer is a no."""
        if self._is_known_to_have(peer.node_id, sha256):
            return True
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
