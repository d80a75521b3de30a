"""Real mesh machines that speak to each other in virtual time, with real signatures and the real message codec.

    network = Network(seed=1)
    alice, bob = network.node("alice"), network.node("bob")
    alice.pin(bob)
    alice.join(bob)
    bob.sees("hello", "1.0")
    network.elapse(seconds=1)
    assert alice.has_seen("hello", "1.0")

Everything that will happen stands in one agenda, ordered by its moment and then by when it was put there; nothing else
moves time. While it runs, the network watches what must always hold: nothing is told that was not kept before, no node
uses a place in its order twice, nobody wants to be woken in the past, and every request has exactly one outcome. What
breaks that raises `InvariantBroken`.

Everything that goes over the wire goes into the trace, byte for byte. Two runs with one seed have one `trace_hash`.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import sha256
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from pfn_node.simulation.actor import Node
from pfn_node.simulation.faults import RULE_BUSY, Faults
from pfn_node.simulation.measuring import Measures
from pfn_node.simulation.world import MESH, START_MS, InvariantBroken, key_of
from pfn_protocol.announcements import AcceptedAnnouncement
from pfn_protocol.effects import SendAnswer, SendRequest
from pfn_protocol.errors import Refusal
from pfn_protocol.events import AnswerReceived, PeerUnreachable, RequestReceived
from pfn_protocol.limits import wait_seconds_max
from pfn_protocol.message_fields import open_answer, seal_answer, seal_request
from pfn_protocol.messages import (
    Answer,
    FetchAnswer,
    GossipAnswer,
    GossipRequest,
    RefusedAnswer,
    SnapshotAnswer,
)

if TYPE_CHECKING:
    from pfn_node.simulation.invariants import Watch

# How long a sender waits for an answer; a hanging request may take its own time on top of it.
ANSWER_MS_MAX = 5_000
HANGING_ANSWER_MS_MAX = wait_seconds_max * 1_000 + 10_000
# How often `elapse_until` looks.
LOOK_SECONDS = 0.02

Reply = Callable[[Answer, tuple[bytes, ...]], None]


class Network:
    """Delivers between the nodes, in virtual time, as well as its faults allow."""

    def __init__(self, seed: int = 1, faults: Faults | None = None, measures: Measures | None = None) -> None:
        self.seed = seed
        self.faults = faults or Faults()
        self.measures = measures or Measures()
        self.rng = Random(f"network {seed}")
        self.now_ms = START_MS
        self.nodes: dict[str, Node] = {}
        self.events = 0  # how many things have happened
        self.eavesdropper: Callable[[Node, str, bytes], None] | None = None  # hears each request that is sent to a node
        self.records = True  # whether nodes remember what they sent; long runs need the memory for themselves
        self.watch: Watch | None = None  # sees every turn of every node
        self._by_url: dict[str, Node] = {}
        self._trace = sha256()
        self._order = count()
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._tokens = count(1)
        self._replies: dict[int, Reply] = {}
        self._places: dict[tuple[bytes, int, int], bytes] = {}

    def node(self, name: str, *, polls: bool = False, pins: Iterable[Node] = (), clock_ahead_ms: int = 0) -> Node:
        """A new node, started. One that polls has no URL."""
        url = "" if polls else f"http://{name}.test"
        node = Node(self, name, url, key_of(name), tuple(pin.id for pin in pins), clock_ahead_ms=clock_ahead_ms)
        self.nodes[name] = node
        node.start()
        return node

    # Faults.

    def cut(self, one: Node, other: Node) -> None:
        """No request between the two arrives any more."""
        both = {(one.name, other.name), (other.name, one.name)}
        self.faults = replace(self.faults, cuts=self.faults.cuts | both)

    def isolate(self, *nodes: Node) -> None:
        """These reach each other and nobody else."""
        island = frozenset(node.name for node in nodes)
        self.faults = replace(self.faults, islands=(*self.faults.islands, island))

    def heal(self) -> None:
        """All paths work again, and nothing is lost or doubled."""
        self.faults = Faults(delay_ms=self.faults.delay_ms)

    # Time.

    def elapse(self, *, seconds: float) -> None:
        """Let time pass, and everything happen that is due in it."""
        until_ms = self.now_ms + int(seconds * 1_000)
        while self._agenda and self._agenda[0][0] <= until_ms:
            self.now_ms, _, action = heappop(self._agenda)
            self.events += 1
            action()
        self.now_ms = until_ms

    def comes_about(self, condition: Callable[[], bool], *, seconds: float, look: float = LOOK_SECONDS) -> bool:
        """Let time pass until the condition holds; returns whether it does within so many seconds."""
        until_ms = self.now_ms + int(seconds * 1_000)
        while not condition():
            if self.now_ms >= until_ms:
                return False
            self.elapse(seconds=look)
        return True

    def elapse_until(self, condition: Callable[[], bool], *, seconds: float, look: float = LOOK_SECONDS) -> float:
        """The same for what must come about; returns the seconds that it took."""
        start_ms = self.now_ms
        if not self.comes_about(condition, seconds=seconds, look=look):
            raise InvariantBroken(f"what must come about did not within {seconds} s (seed {self.seed})")
        return (self.now_ms - start_ms) / 1_000

    def later(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Put something into the agenda."""
        heappush(self._agenda, (self.now_ms + delay_ms, next(self._order), action))

    # What can be seen from outside.

    def agree(self, *nodes: Node) -> bool:
        """Whether these nodes (by default all that are up) hold the same set."""
        return len({node.mesh.status().digest for node in nodes or self.nodes.values() if node.up}) == 1

    @property
    def trace_hash(self) -> str:
        """The digest of everything that went over the wire, and when."""
        return self._trace.hexdigest()

    def check_place(self, announcement: AcceptedAnnouncement) -> None:
        """A node kept an announcement of its own: its place must be new."""
        place = (announcement.author, announcement.epoch, announcement.seq)
        if self._places.setdefault(place, announcement.id) != announcement.id:
            raise InvariantBroken(f"a place in an author's order was used twice (seed {self.seed})")

    # Delivering.

    def carry_request(self, sender: Node, effect: SendRequest) -> None:
        """A machine wants a request to be sent."""
        if self.records:
            sender.sent.append(effect)
        self.measures.asked(sender, effect, self.now_ms)
        message = effect.message
        bodies = sender.bodies(effect.bodies)
        if bodies:
            assert isinstance(message, GossipRequest), "only gossip pushes bodies in a request"
            message = replace(message, push=bodies)
        nonce = self.rng.randbytes(16)
        raw = seal_request(sender.key, mesh=MESH, to=effect.peer, message=message, now_ms=sender.now_ms, nonce16=nonce)
        self._note(sender.name, effect.url, raw)
        receiver = self._at(effect.url)
        exchange = _Exchange(self, sender, receiver, effect, nonce)
        hangs = isinstance(message, GossipRequest) and message.wait_seconds
        self.later(HANGING_ANSWER_MS_MAX if hangs else ANSWER_MS_MAX, exchange.time_out)
        if receiver is None or not receiver.up or not self.faults.connects(sender.name, receiver.name):
            self.later(self._delay(), exchange.fail)
            return
        self.measures.sent(len(raw), bodies)
        if self.eavesdropper is not None:
            self.eavesdropper(receiver, message.path, raw)
        if self.arrives():
            self.later(self._delay(), lambda: exchange.arrive(raw))
        if self.faults.duplication and self.rng.random() < self.faults.duplication:
            self.later(self._delay(), lambda: exchange.arrive(raw))

    def carry_answer(self, node: Node, effect: SendAnswer) -> None:
        """A machine answers a request."""
        if self.records:
            node.answers.append(effect)
        message = effect.message
        bodies = node.bodies(effect.bodies)
        if bodies and isinstance(message, GossipAnswer):
            message = replace(message, push=bodies)
        elif bodies:
            assert isinstance(message, FetchAnswer | SnapshotAnswer), "no other answer carries bodies"
            message = replace(message, announcements=bodies)
        reply = self._replies.pop(effect.token, None)
        if reply is None:
            raise InvariantBroken(f"{node.name} answers a request twice (seed {self.seed})")
        reply(message, effect.bodies)

    def reply_to(self, reply: Callable[[Answer], None]) -> int:
        """The token of a request that did not come over the network; its answer goes to `reply`."""
        return self.expect(lambda message, _: reply(message))

    def expect(self, reply: Reply) -> int:
        """The token of a request; its answer, and the ids of what it carries, go to `reply`."""
        token = next(self._tokens)
        self._replies[token] = reply
        return token

    def carry_raw_answer(self, node: Node, to: str, raw: bytes, action: Callable[[], None]) -> None:
        """An answer goes back to who asked, unless it is lost."""
        self._note(node.name, to, raw)
        if self.arrives():
            self.later(self._delay() + self.faults.slow.get(node.name, 0), action)

    def arrives(self) -> bool:
        """Whether what is sent now is not lost."""
        return self.rng.random() >= self.faults.loss

    def _at(self, url: str) -> Node | None:
        """Who is at this URL. Nodes may move, so what was found once is only a hint."""
        node = self._by_url.get(url)
        if node is None or node.url != url:
            node = next((one for one in self.nodes.values() if one.url == url), None)
            if node is not None:
                self._by_url[url] = node
        return node

    def _delay(self) -> int:
        return self.faults.draw_delay_ms(self.rng)

    def _note(self, sender: str, to: str, raw: bytes) -> None:
        self._trace.update(f"\n{self.now_ms} {sender} {to} {len(raw)} ".encode())
        self._trace.update(raw)


class _Exchange:
    """A request on its way, and its answer: exactly one outcome is reported to its sender."""

    def __init__(
        self, network: Network, sender: Node, receiver: Node | None, effect: SendRequest, nonce: bytes
    ) -> None:
        self._network = network
        self._sender = sender
        self._receiver = receiver
        self._effect = effect
        self._nonce = nonce
        self._incarnation = sender.incarnation
        self._done = False

    def arrive(self, raw: bytes) -> None:
        """The request is at the receiver's door."""
        receiver = self._receiver
        assert receiver is not None, "only what has a receiver is sent"
        if not receiver.up:
            self.fail()
            return
        if self._network.faults.refuses(receiver.name, self._network.rng):
            self._reply(RefusedAnswer(RULE_BUSY, "Too many requests are waiting.", receiver.now_ms), ())
            return
        try:
            received = receiver.open(self._effect.message.path, raw)
        except Refusal as refusal:
            self._reply(RefusedAnswer(refusal.rule, refusal.sentence, receiver.now_ms), ())
            return
        token = self._network.expect(self._reply)
        receiver.report(RequestReceived(token, received.sender, received.message))
        self._network.measures.carried(self._sender, receiver, self._effect.bodies, self._network.now_ms, pushed=True)

    def _reply(self, message: Answer, bodies: tuple[bytes, ...]) -> None:
        receiver = self._receiver
        assert receiver is not None, "only a receiver answers"
        raw = seal_answer(receiver.key, mesh=MESH, nonce=self._nonce, message=message)
        self._network.measures.sent(len(raw), receiver.bodies(bodies))
        self._network.carry_raw_answer(receiver, self._sender.name, raw, lambda: self._answered(raw, receiver, bodies))

    def _answered(self, raw: bytes, receiver: Node, bodies: tuple[bytes, ...]) -> None:
        effect = self._effect
        try:
            answer = open_answer(
                raw, mesh=MESH, nonce=self._nonce, sender_expected=effect.peer, path=effect.message.path
            )
        except Refusal as refusal:
            self._report(PeerUnreachable(effect.request_id, effect.peer, refusal.sentence))
            return
        pushed = not self._network.measures.is_of_round(self._sender, effect)  # a pull belongs to the push
        if self._report(AnswerReceived(effect.request_id, effect.peer, answer)):
            now_ms = self._network.now_ms
            self._network.measures.carried(receiver, self._sender, bodies, now_ms, pushed=pushed)

    def fail(self) -> None:
        """Nobody is there."""
        self._report(PeerUnreachable(self._effect.request_id, self._effect.peer, "no connection"))

    def time_out(self) -> None:
        """The sender does not wait any longer."""
        self._report(PeerUnreachable(self._effect.request_id, self._effect.peer, "no answer in time"))

    def _report(self, event: AnswerReceived | PeerUnreachable) -> bool:
        """Returns whether this was the outcome."""
        if self._done or self._sender.incarnation != self._incarnation or not self._sender.up:
            return False
        self._done = True
        self._sender.report(event)
        answered = isinstance(event, AnswerReceived) and not isinstance(event.message, RefusedAnswer)
        self._network.measures.ended(self._sender, self._effect, self._network.now_ms, answered=answered)
        return True
