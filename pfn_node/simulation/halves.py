"""A large network in two processes, each with every second node, so that both cores of a small machine work.

Both play the same run step by step. Whatever goes from one node to another takes at least `delay_ms[0]`; so each half
plays so many milliseconds alone, and then they hand each other what crosses between them. What happens follows from
the options alone, not from how fast either of the two is: one seed gives one trace, as in one process.

Of the other half's nodes a half knows who they are and whether they are up. What it must know of the other's doings
besides, it is told: `agree_on`, `total`, `pool`.
"""

import pickle
from collections.abc import Callable
from hashlib import sha256
from multiprocessing.connection import Connection
from typing import Any

import msgpack

from pfn_node.simulation.actor import Node
from pfn_node.simulation.carrying import Exchange
from pfn_node.simulation.measuring import Measures
from pfn_node.simulation.network import Network
from pfn_node.simulation.world import InvariantBroken
from pfn_protocol.effects import SendRequest
from pfn_protocol.messages import Answer, GossipAnswer, GossipRequest, Request

HALVES = 2
# What crosses: a request, its answer, its failure, and that its sender may wait in vain.
_REQUEST, _ANSWER, _FAILURE, _SILENCE = range(4)
_BROKEN, _WELL = b"\x00", b"\x01"

Crossing = tuple[Any, ...]


class HalfNetwork(Network):
    """One half, `half` by number; the other one is at the other end of `connection`."""

    def __init__(self, half: int, connection: Connection, seed: int, **options: Any) -> None:
        super().__init__(seed, **options)
        self.rng.seed(f"network {seed} {half}")
        self._half = half
        self._connection = connection
        self._crossing: list[Crossing] = []
        self._away: dict[int, Exchange] = {}  # requests that went to the other half
        self._by_number: list[Node] = []

    def node(self, name: str, **options: Any) -> Node:
        """A new node, of this half or of the other."""
        node = super().node(name, **options)
        node.is_here = node.number % HALVES == self._half
        self._by_number.append(node)
        return node

    def elapse(self, *, seconds: float) -> None:
        """Let time pass in both halves."""
        until_ms = self.now_ms + int(seconds * 1_000)
        while self.now_ms < until_ms:
            self._hand_over()
            self.agenda.pass_until(min(until_ms, self.now_ms + self.faults.delay_ms[0]), 2**62)
            self.trace.tidy()

    # What both halves know.

    def agree_on(self, origin: Node, action: Callable[[], bytes | None]) -> bytes | None:
        """What came of something that a node of either half does."""
        mine = action() if origin.is_here else None
        theirs: bytes | None = self._swap(mine)
        return mine or theirs

    def total(self, mine: float) -> float:
        """The sum of what both halves counted."""
        theirs: float = self._swap(mine)
        return mine + theirs

    def pool(self) -> Measures:
        """What both halves have measured, put together."""
        theirs: Measures = self._swap(self.measures)
        return self.measures.joined(theirs, 1 - self._half, HALVES)

    @property
    def trace_hash(self) -> str:
        """The digest of everything that was sent in both halves, and when. Both must ask for it."""
        theirs: str = self._swap(self.trace.hash)
        hashes = [self.trace.hash, theirs] if self._half == 0 else [theirs, self.trace.hash]
        return sha256("".join(hashes).encode()).hexdigest()

    def tell_broken(self, sentence: str) -> None:
        """The second half cannot go on, so the first need not; it speaks first, as always, and then hears so."""
        self._connection.recv_bytes()
        self._connection.send_bytes(_BROKEN + sentence.encode())

    # What crosses.

    def _send(self, exchange: Exchange, arrival_ms: int) -> None:
        receiver, sender = exchange.receiver, exchange.sender
        assert receiver is not None, "only what has a receiver is sent"
        if receiver.is_here:
            super()._send(exchange, arrival_ms)
            return
        self._away[exchange.number] = exchange
        what, ids = _pack(exchange.request), exchange.effect.bodies
        numbers = (exchange.number, sender.number, ids)
        self._crossing.append((_REQUEST, arrival_ms, *numbers, what, receiver.number, exchange.deadline_ms))

    def _send_back(self, exchange: Exchange, arrival_ms: int) -> None:
        if exchange.sender.is_here:
            super()._send_back(exchange, arrival_ms)
            return
        receiver = exchange.receiver
        assert receiver is not None, "only a receiver answers"
        numbers = (exchange.origin, receiver.number, exchange.answer_ids)
        self._crossing.append((_ANSWER, arrival_ms, *numbers, _pack(exchange.answer)))

    def _watch(self, exchange: Exchange) -> None:
        if exchange.sender.is_here:
            super()._watch(exchange)
        elif not exchange.watched:
            exchange.watched = True
            self._crossing.append((_SILENCE, self.now_ms, exchange.origin))

    def _fail_later(self, exchange: Exchange, moment_ms: int) -> None:
        if exchange.sender.is_here:
            super()._fail_later(exchange, moment_ms)
        else:
            self._crossing.append((_FAILURE, moment_ms, exchange.origin))

    def _hand_over(self) -> None:
        crossing, self._crossing = self._crossing, []
        # How the bodies in it came to who sends them is known only now: it passed them on before it was counted.
        marks = [(one[3], one[4], self.measures.marks(one[3], one[4])) for one in crossing if len(one) > 4 and one[4]]
        theirs = msgpack.unpackb(self._exchange_bytes(msgpack.packb((marks, crossing))), use_list=False)
        for mark in theirs[0]:
            self.measures.note_marks(*mark)
        for kind, moment_ms, number, *rest in theirs[1]:
            if kind == _REQUEST:
                self._take_request(moment_ms, number, *rest)
            elif kind == _ANSWER:
                exchange, (_, exchange.answer_ids, packed) = self._away.pop(number), rest
                exchange.answer = _unpack(packed)
                super()._send_back(exchange, moment_ms)
            elif kind == _FAILURE:
                super()._fail_later(self._away.pop(number), moment_ms)
            elif number in self._away:
                super()._watch(self._away[number])

    def _take_request(
        self,
        arrival_ms: int,
        origin: int,
        sender_number: int,
        ids: tuple[bytes, ...],
        packed: Crossing,
        receiver_number: int,
        deadline_ms: int,
    ) -> None:
        sender, receiver = self._by_number[sender_number], self._by_number[receiver_number]
        message: Any = _unpack(packed)
        exchange = self._exchange(sender, SendRequest(0, receiver.id, receiver.url, message, ids))
        exchange.origin, exchange.deadline_ms, exchange.request = origin, deadline_ms, message
        super()._send(exchange, arrival_ms)

    # The connection.

    def _swap(self, mine: Any) -> Any:
        """Tell the other half a value and hear its own, at the same step of the run."""
        return pickle.loads(self._exchange_bytes(pickle.dumps(mine)))  # noqa: S301 (from this very run)

    def _exchange_bytes(self, mine: bytes) -> bytes:
        """One half speaks first and the other hears first, so neither waits for room in a full pipe."""
        try:
            if self._half == 0:
                self._connection.send_bytes(_WELL + mine)
                theirs = self._connection.recv_bytes()
            else:
                theirs = self._connection.recv_bytes()
                self._connection.send_bytes(_WELL + mine)
        except (EOFError, OSError) as lost:
            raise InvariantBroken("the other half of the network is gone") from lost
        if theirs[:1] == _BROKEN:
            raise InvariantBroken(theirs[1:].decode())
        return theirs[1:]


def _pack(message: object) -> Crossing:
    """Most messages are gossip, and cross as their fields."""
    if type(message) is GossipRequest and message.status is None:
        return (0, message.push, message.have, message.wait_seconds, message.offer, message.graft)
    if type(message) is GossipAnswer and message.status is None:
        return (1, message.push, message.want, message.prune)
    return (2, pickle.dumps(message))


def _unpack(packed: Crossing) -> Request | Answer:
    kind, *fields = packed
    if kind == 0:
        push, have, wait_seconds, offer, graft = fields
        return GossipRequest(push, have, None, wait_seconds, offer, graft)
    if kind == 1:
        push, want, prune = fields
        return GossipAnswer(push, want, None, prune)
    message: Request | Answer = pickle.loads(fields[0])  # noqa: S301 (from this very run)
    return message
