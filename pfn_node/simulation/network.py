"""Real mesh machines that speak to each other in virtual time, a handful or thousands of them.

    network = Network(seed=1)
    alice, bob = network.node("alice"), network.node("bob")
    alice.pin(bob)
    alice.join(bob)
    bob.sees("hello", "1.0")
    network.elapse(seconds=1)
    assert alice.has_seen("hello", "1.0")

Messages travel sealed (every byte of the wire, every signature) or plain (carrying.py): long and large runs need that.
What a pair of nodes needs for one way stays the same. A node takes a turn for each request that it hears; who comes
when too many wait is told that it is busy, as production does.

Everything that will happen stands in one agenda; nothing else moves time. While it runs, the network watches what must
always hold: nothing is told that was not kept before, no node uses a place in its order twice, nobody wants to be woken
in the past, and every request has exactly one outcome. What breaks that raises `InvariantBroken`.

Everything that is sent goes into the trace. Two runs with one seed have one `trace_hash`.
"""

from collections.abc import Callable, Iterable
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from pfn_node.simulation.actor import Node
from pfn_node.simulation.agenda import Agenda
from pfn_node.simulation.carrying import (
    Carrying,
    Exchange,
    Plain,
    Sealed,
    answer_with_bodies,
    with_bodies,
)
from pfn_node.simulation.faults import Faults
from pfn_node.simulation.measuring import Measures, is_of_push
from pfn_node.simulation.trace import Trace
from pfn_node.simulation.world import START_MS, InvariantBroken, key_of
from pfn_protocol.announcements import AcceptedAnnouncement
from pfn_protocol.effects import SendAnswer, SendRequest
from pfn_protocol.errors import Refusal
from pfn_protocol.events import AnswerReceived, PeerUnreachable, RequestReceived
from pfn_protocol.limits import status_interval_ms, wait_seconds_max
from pfn_protocol.messages import Answer, GossipRequest, RefusedAnswer

if TYPE_CHECKING:
    from pfn_node.simulation.invariants import Watch

# How long a sender waits for an answer; a hanging request may take its own time on top of it.
ANSWER_MS_MAX = 5_000
HANGING_ANSWER_MS_MAX = wait_seconds_max * 1_000 + 10_000
# How many events a production node deals with in a millisecond, and how many requests may wait for that.
EVENTS_PER_MS = 2
REQUESTS_WAITING_MAX = 1_024
# How often `elapse_until` looks.
LOOK_SECONDS = 0.02
# After so many events the trace is digested.
_PASS_EVENTS = 20_000
_BUSY = "busy"  # what production says, too
# What is noted of a message, beside when, from whom, to whom, and its size.
_REQUEST, _ANSWER, _UNCONNECTED, _LOST = range(4)

Reply = Callable[[Answer, tuple[bytes, ...]], None]


class Network:
    """Delivers between the nodes, in virtual time, as well as its faults allow.

    `status_every_ms` is how often neighbours tell each other how their sets stand; None: only when that is wanted.
    Without `self_announcing` the nodes say nothing about themselves. `answer_ms_max` is how long a sender waits that
    does not say.
    """

    def __init__(
        self,
        seed: int = 1,
        faults: Faults | None = None,
        measures: Measures | None = None,
        *,
        sealed: bool = True,
        status_every_ms: int | None = status_interval_ms,
        self_announcing: bool = True,
        answer_ms_max: int = ANSWER_MS_MAX,
    ) -> None:
        self.seed = seed
        self._faults = faults or Faults()
        self.measures = measures or Measures()
        self.carrying: Carrying = Sealed() if sealed else Plain()
        self.status_every_ms = status_every_ms
        self.self_announcing = self_announcing
        self.answer_ms_max = answer_ms_max
        self.rng = Random(f"network {seed}")
        self.agenda = Agenda(START_MS)
        self.trace = Trace()
        self._note = self.trace.note
        self._put = self.agenda.put
        self.nodes: dict[str, Node] = {}
        self.eavesdropper: Callable[[Node, str, bytes], None] | None = None  # hears each sealed request to a node
        self.records = True  # whether nodes remember what they sent; long runs need the memory for themselves
        self.watch: Watch | None = None  # sees every turn of every node
        self._by_url: dict[str, Node] = {}
        self._numbers = count(1)
        self._places: dict[tuple[bytes, int, int], bytes] = {}
        self._replies: dict[int, Exchange | Reply] = {}

    def node(
        self,
        name: str,
        *,
        polls: bool = False,
        pins: Iterable[Node] = (),
        clock_ahead_ms: int = 0,
        start_in_ms: int | None = None,
    ) -> Node:
        """A new node, started, or to be started in a moment. One that polls has no URL."""
        url = "" if polls else f"http://{name}.test"
        node = Node(self, name, url, key_of(name), tuple(pin.id for pin in pins), clock_ahead_ms=clock_ahead_ms)
        self.nodes[name] = node
        if url:
            self._by_url[url] = node
        if start_in_ms is None:
            node.start()
        else:
            self.later(start_in_ms, node.start)
        return node

    # Faults.

    @property
    def faults(self) -> Faults:
        """What goes wrong from now on. Clocks jump when it is set."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        former, self._faults = self._faults, faults
        for name, node in self.nodes.items():
            node.clock_ahead_ms += faults.clocks_ahead_ms.get(name, 0) - former.clocks_ahead_ms.get(name, 0)

    def cut(self, one: Node, other: Node) -> None:
        """No request between the two arrives any more."""
        self.faults = self.faults.without(one.name, other.name).without(other.name, one.name)

    def isolate(self, *nodes: Node) -> None:
        """These reach each other and nobody else."""
        self.faults = self.faults.with_island(node.name for node in nodes)

    def heal(self) -> None:
        """All paths work again, and nothing is lost or doubled."""
        self.faults = Faults(delay_ms=self.faults.delay_ms)

    # Time.

    @property
    def now_ms(self) -> int:
        return self.agenda.now_ms

    @property
    def events(self) -> int:
        """How many things have happened."""
        return self.agenda.events

    def elapse(self, *, seconds: float) -> None:
        """Let time pass, and everything happen that is due in it."""
        until_ms = self.agenda.now_ms + int(seconds * 1_000)
        while not self.agenda.pass_until(until_ms, _PASS_EVENTS):
            self.trace.tidy()

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
        self._put(self.now_ms + delay_ms, _call, action)

    # What can be seen from outside.

    def agree(self, *nodes: Node) -> bool:
        """Whether these nodes (by default all that are up) hold the same set."""
        return len({node.mesh.status().digest for node in nodes or self.nodes.values() if node.up}) == 1

    @property
    def trace_hash(self) -> str:
        """The digest of everything that was sent, and when."""
        return self.trace.hash

    # What a large network in two halves (halves.py) has to put together.

    def agree_on(self, origin: Node, action: Callable[[], bytes | None]) -> bytes | None:
        """What came of something that a node does."""
        return action()

    def total(self, mine: float) -> float:
        """The sum of what was counted."""
        return mine

    def pool(self) -> Measures:
        """What was measured."""
        return self.measures

    def check_place(self, announcement: AcceptedAnnouncement) -> None:
        """A node kept an announcement of its own: its place must be new."""
        place = (announcement.author, announcement.epoch, announcement.seq)
        if self._places.setdefault(place, announcement.id) != announcement.id:
            raise InvariantBroken(f"a place in an author's order was used twice (seed {self.seed})")

    def reply_to(self, reply: Callable[[Answer], None]) -> int:
        """The token of a request that did not come over the network; its answer goes to `reply`."""
        return self.expect(lambda message, _: reply(message))

    def expect(self, reply: Reply) -> int:
        """The token of a request; its answer, and the ids of what it carries, go to `reply`."""
        token = next(self._numbers)
        self._replies[token] = reply
        return token

    # The way there.

    def carry_request(self, sender: Node, effect: SendRequest) -> None:
        """A machine wants a request to be sent."""
        if self.records:
            sender.sent.append(effect)
        exchange, faults = self._exchange(sender, effect), self._faults
        message, receiver = effect.message, exchange.receiver
        if effect.bodies:
            message = with_bodies(message, sender.bodies(effect.bodies))
        size = self.carrying.send_request(exchange, message)
        now_ms = self.agenda.now_ms
        is_cut = (faults.cuts or faults.islands) and receiver and not faults.connects(sender.name, receiver.name)
        if receiver is None or not receiver.up or is_cut:
            self._note((now_ms, _UNCONNECTED, sender.number, receiver.number if receiver else -1, size))
            self._fail_unconnected(exchange)
            return
        if self.measures.is_open:
            self.measures.sent(size, sender.bodies(effect.bodies) if effect.bodies else ())
        if self.eavesdropper is not None and isinstance(exchange.request, bytes):
            self.eavesdropper(receiver, message.path, exchange.request)
        if faults.duplication and self.rng.random() < faults.duplication:
            self._put(now_ms + self.rng.randint(*faults.delay_ms), self._arrive, exchange)
        if faults.loss and self.rng.random() < faults.loss:
            self._note((now_ms, _LOST, sender.number, receiver.number, size))
            self._watch(exchange)
        else:
            self._note((now_ms, _REQUEST, sender.number, receiver.number, size))
            late_ms = faults.draw_late_ms(self.rng) if faults.reordering else 0
            self._send(exchange, now_ms + exchange.delay_ms + late_ms)

    def _send(self, exchange: Exchange, arrival_ms: int) -> None:
        self._put(arrival_ms, self._arrive, exchange)

    def _exchange(self, sender: Node, effect: SendRequest) -> Exchange:
        """How a request is on its way, until its answer has come back."""
        receiver = self._by_url.get(effect.url)
        if receiver is None or receiver.url != effect.url:
            receiver = self._at(effect.url)
        exchange = Exchange(next(self._numbers), sender, receiver, effect)
        least_ms, most_ms = self._faults.delay_ms
        # What a pair needs for one way follows from the two.
        mixed = sender.salt * (receiver or sender).salt >> 20
        exchange.delay_ms = least_ms + mixed % (most_ms - least_ms + 1)
        exchange.deadline_ms = self.agenda.now_ms + (effect.patience_ms or self.answer_ms_max)
        message = effect.message
        if type(message) is GossipRequest and message.wait_seconds:
            exchange.deadline_ms = self.agenda.now_ms + HANGING_ANSWER_MS_MAX
        return exchange

    def _arrive(self, exchange: Exchange) -> None:
        """The request is at the receiver's door."""
        receiver = exchange.receiver
        assert receiver is not None, "only what has a receiver is sent"
        if not receiver.up:
            self._fail_unconnected(exchange)
            return
        turn, faults = self.agenda.now_ms * EVENTS_PER_MS, self._faults
        waiting = receiver.next_turn - turn
        if waiting >= REQUESTS_WAITING_MAX or (faults.full and faults.refuses(receiver.name, self.rng)):
            self._refuse(exchange, receiver, _BUSY, "This node has too many requests to answer; try again later.")
            return
        receiver.next_turn = receiver.next_turn + 1 if waiting > 0 else turn + 1
        if waiting < EVENTS_PER_MS:
            self._hear(exchange, receiver)
        else:
            self._watch(exchange)
            moment_ms = self.agenda.now_ms + waiting // EVENTS_PER_MS
            self._put(moment_ms, self._take_turn, (exchange, receiver.incarnation))

    def _refuse(self, exchange: Exchange, receiver: Node, rule: str, sentence: str) -> None:
        self._answer(exchange, RefusedAnswer(rule, sentence, receiver.now_ms), ())

    def _take_turn(self, waiting: tuple[Exchange, int]) -> None:
        """It waited in the receiver's queue, which a crash empties."""
        exchange, incarnation = waiting
        receiver = exchange.receiver
        if receiver is not None and receiver.up and receiver.incarnation == incarnation:
            self._hear(exchange, receiver)

    def _hear(self, exchange: Exchange, receiver: Node) -> None:
        try:
            message = self.carrying.open_request(exchange)
        except Refusal as refusal:
            if not exchange.heard:  # who repeats what another one said is answered, but that is not who said it
                self._refuse(exchange, receiver, refusal.rule, refusal.sentence)
            return
        if exchange.heard:
            receiver.report(RequestReceived(self.expect(lambda answer, ids: None), exchange.sender.id, message))
            return
        exchange.heard = receiver.incarnation
        number = exchange.number
        self._replies[number] = exchange
        receiver.report(RequestReceived(number, exchange.sender.id, message))
        if number in self._replies:
            self._watch(exchange)
        ids = exchange.effect.bodies
        if ids and self.measures.is_open:
            self.measures.carried(exchange.sender, receiver, ids, self.agenda.now_ms, pushed=True)

    # The way back.

    def carry_answer(self, node: Node, effect: SendAnswer) -> None:
        """A machine answers a request."""
        if self.records:
            node.answers.append(effect)
        message = effect.message
        if effect.bodies:
            message = answer_with_bodies(message, node.bodies(effect.bodies))
        reply = self._replies.pop(effect.token, None)
        if reply is None:
            raise InvariantBroken(f"{node.name} answers a request twice (seed {self.seed})")
        if type(reply) is Exchange:
            self._answer(reply, message, effect.bodies)
        else:
            assert callable(reply)
            reply(message, effect.bodies)

    def _answer(self, exchange: Exchange, message: Answer, ids: tuple[bytes, ...]) -> None:
        size = self.carrying.send_answer(exchange, message)
        receiver = exchange.receiver
        assert receiver is not None, "only a receiver answers"
        if self.measures.is_open:
            self.measures.sent(size, receiver.bodies(ids) if ids else ())
        now_ms, faults = self.agenda.now_ms, self._faults
        late_ms = faults.draw_late_ms(self.rng, receiver.name) if faults.slow or faults.reordering else 0
        arrival_ms = now_ms + exchange.delay_ms + late_ms
        if arrival_ms >= exchange.deadline_ms or (faults.loss and self.rng.random() < faults.loss):
            self._note((now_ms, _LOST, receiver.number, exchange.sender.number, size))
            self._watch(exchange)
            return
        self._note((now_ms, _ANSWER, receiver.number, exchange.sender.number, size))
        exchange.answer_ids = ids
        self._send_back(exchange, arrival_ms)

    def _send_back(self, exchange: Exchange, arrival_ms: int) -> None:
        self._put(arrival_ms, self._answered, exchange)

    def _answered(self, exchange: Exchange) -> None:
        sender, effect = exchange.sender, exchange.effect
        if exchange.done or not sender.up or sender.incarnation != exchange.incarnation:
            return
        exchange.done = True
        try:
            answer = self.carrying.open_answer(exchange)
        except Refusal as refusal:
            sender.report(PeerUnreachable(effect.request_id, effect.peer, refusal.sentence))
            return
        sender.report(AnswerReceived(effect.request_id, effect.peer, answer))
        receiver = exchange.receiver
        if exchange.answer_ids and self.measures.is_open and receiver is not None:
            pushed = is_of_push(effect.message)
            self.measures.carried(receiver, sender, exchange.answer_ids, self.agenda.now_ms, pushed=pushed)

    # What comes to nothing.

    def _fail_unconnected(self, exchange: Exchange) -> None:
        """Who asks is told so, unless the machine that it asks is gone with all its programs."""
        receiver = exchange.receiver
        if receiver is not None and not receiver.up and receiver.is_silent:
            self._watch(exchange)
        else:
            self._fail_later(exchange, self.agenda.now_ms + exchange.delay_ms)

    def _fail_later(self, exchange: Exchange, moment_ms: int) -> None:
        self._put(moment_ms, self._fail, exchange)

    def _watch(self, exchange: Exchange) -> None:
        """Its sender may wait in vain. Most requests are answered, so their deadlines are nothing that happens."""
        if not exchange.watched:
            exchange.watched = True
            self._put(exchange.deadline_ms, self._time_out, exchange)

    def _fail(self, exchange: Exchange) -> None:
        self._report_failure(exchange, "no connection")

    def _time_out(self, exchange: Exchange) -> None:
        self._report_failure(exchange, "no answer in time")

    @staticmethod
    def _report_failure(exchange: Exchange, reason: str) -> None:
        sender = exchange.sender
        if exchange.done or not sender.up or sender.incarnation != exchange.incarnation:
            return
        exchange.done = True
        sender.report(PeerUnreachable(exchange.effect.request_id, exchange.effect.peer, reason))

    # Paths.

    def _at(self, url: str) -> Node | None:
        """Who is at this URL. Nodes may move, so what was found once is only a hint."""
        node = next((one for one in self.nodes.values() if one.url == url), None)
        if node is not None:
            self._by_url[url] = node
        return node


def _call(action: Callable[[], None]) -> None:
    action()
