"""Thousands of mesh machines in one process: how far, how fast and how often news goes, under loss and churn.

These are the machines of production, told the same events and asked for the same effects, in virtual time. Only three
things are left out, because ten thousand of them would not fit a minute: signatures (accepting an announcement means to
look it up), envelopes (messages pass as objects; their bytes are counted from the real encoding), and every node's
announcement of itself (ten thousand times ten thousand deliveries that are not what is measured).

A run builds a network, lets it link, sends warm-up broadcasts from random nodes, kills some nodes at once, and then
measures more broadcasts, each from another node. Sets are not compared until the end: first it is counted what the
push alone delivered, then every live node compares once with one neighbour. The same options give the same trace.
"""

from array import array
from dataclasses import dataclass
from hashlib import sha256
from heapq import heappop, heappush
from random import Random
from typing import cast

from pfn_node.simulation.message_bytes import MessageBytes
from pfn_protocol.announcements import AcceptedAnnouncement, NodeStatement, Statement, VersionStatement
from pfn_protocol.effects import SendAnswer, SendRequest
from pfn_protocol.errors import Refusal
from pfn_protocol.events import (
    AnswerReceived,
    ComparisonWanted,
    Event,
    PeerUnreachable,
    RequestReceived,
    StatementMade,
    TimePassed,
)
from pfn_protocol.identity import PrivateKey
from pfn_protocol.mesh import Mesh, MeshOptions, Restored
from pfn_protocol.messages import (
    Answer,
    FetchAnswer,
    GossipAnswer,
    GossipRequest,
    PeerAddress,
    Request,
    SnapshotAnswer,
)

START_MS = 1_800_000_000_000
# What a link takes, one way; it stays the same for a pair of nodes.
DELAY_MS_MIN, DELAY_MS_MAX = 10, 100
# How long a sender waits before it takes a request for lost; a production node waits up to ten seconds.
TIMEOUT_MS = 1_000
# The network links, and reads back what neighbours remember, in this time.
LINKING_MS = 40_000
# From one broadcast to the next, and from the last one to the count.
INTERVAL_MS = 5_000
SETTLING_MS = 20_000
COMPARING_MS = 30_000
# Addresses that a node knows from before the start.
ADDRESSES_KNOWN = 16
# Nodes that broadcast; all others pin them, so that what they say belongs to everybody's set.
SENDERS_MAX = 64
_MASK = (1 << 64) - 1

_REQUEST, _ANSWER, _FAILURE, _WAKE = range(4)
# What happens, to which node, from which other one, which request, and what is said.
_Happening = tuple[int, int, int, int, Request | Answer | None]


@dataclass(frozen=True, slots=True)
class ScaleOptions:
    """What is simulated. `loss` per leg of an exchange; `churn` = the part of nodes that die before measuring."""

    nodes: int = 1_000
    seed: int = 1
    messages: int = 20
    warmup: int = 30
    loss: float = 0.0
    churn: float = 0.0


@dataclass(slots=True)
class _Broadcast:
    """One announcement on its way."""

    id: bytes
    origin: int
    hops: "array[int]"  # by node; -1 = it has not come
    copies: "array[int]"  # by node: bodies received, by push or pull


class _Node:
    __slots__ = ("alive", "id", "index", "mesh", "url", "wake_ms")

    def __init__(self, index: int, key: PrivateKey) -> None:
        self.index = index
        self.id = key.public
        self.url = f"http://n{index}.test"
        self.alive = True
        self.wake_ms: int | None = None
        self.mesh: Mesh


@dataclass(slots=True)
class _Pending:
    """A request that waits for its answer."""

    asker: int
    answerer: int
    request_id: int
    delay_ms: int


class ScaleNetwork:
    """The machines, and what is on its way between them."""

    def __init__(self, options: ScaleOptions) -> None:
        self.options = options
        self.rng = Random(f"scale {options.seed}")
        self._salt = self.rng.getrandbits(32)
        self.now_ms = START_MS
        self.loss = 0.0
        self.events = 0
        self.trace = 0
        self.violations = 0
        self.control_bytes = 0
        self.broadcasts: dict[bytes, _Broadcast] = {}
        self._accepted: dict[bytes, AcceptedAnnouncement] = {}
        self._sizes = MessageBytes()
        self._buckets: dict[int, list[_Happening]] = {}
        self._moments: list[int] = []
        self._pending: dict[int, _Pending] = {}
        self._last_token = 0
        keys = [PrivateKey(sha256(f"{options.seed} {index}".encode()).digest()) for index in range(options.nodes)]
        self.nodes = [_Node(index, key) for index, key in enumerate(keys)]
        self._index_of = {node.id: node.index for node in self.nodes}
        self.senders = self.rng.sample(range(options.nodes), min(SENDERS_MAX, options.nodes))
        pins = tuple(self.nodes[index].id for index in self.senders)
        for node, key in zip(self.nodes, keys, strict=True):
            self._start(node, key, pins)

    # Time.

    def elapse(self, duration_ms: int) -> None:
        """Let time pass, and everything happen that is due in it."""
        until_ms = self.now_ms + duration_ms
        buckets, moments = self._buckets, self._moments
        while moments and moments[0] <= until_ms:
            moment = self.now_ms = heappop(moments)
            for event in buckets[moment]:  # it grows while it is worked off
                self._happen(event, moment)
            del buckets[moment]
        self.now_ms = until_ms

    def _at(self, moment: int, event: _Happening) -> None:
        bucket = self._buckets.get(moment)
        if bucket is None:
            self._buckets[moment] = [event]
            heappush(self._moments, moment)
        else:
            bucket.append(event)

    # What nodes do.

    def broadcast(self, origin: int) -> _Broadcast:
        """A node saw a release."""
        number = len(self.broadcasts)
        statement = VersionStatement(
            source_id="dev@pub.test",
            plugin_id=f"plugin-{number}",
            version="1.0",
            type="plugin",
            name="Plugin",
            description=None,
            tags=(),
            sha256=sha256(str(number).encode()).digest(),
            size=1_000,
            observed_at=START_MS // 1_000,
            evidence=(),
        )
        self._report(self.nodes[origin], StatementMade(statement))
        return next(reversed(self.broadcasts.values()))

    def kill(self, part: float) -> None:
        """This part of the nodes is gone, at once."""
        for index in self.rng.sample(range(len(self.nodes)), int(part * len(self.nodes))):
            self.nodes[index].alive = False

    def compare_once(self) -> None:
        """Every live node hears how the set of one of its live neighbours stands, and may look into it."""
        for node in self.nodes:
            if not node.alive:
                continue
            linked = [self._index_of[link.peer] for link in node.mesh.links() if link.state == "linked"]
            living = [index for index in linked if self.nodes[index].alive]
            if living:
                neighbour = self.nodes[self.rng.choice(living)]
                self._report(node, ComparisonWanted(neighbour.id))

    def _start(self, node: _Node, key: PrivateKey, pins: tuple[bytes, ...]) -> None:
        count = len(self.nodes)
        known: dict[int, None] = {}
        while len(known) < min(ADDRESSES_KNOWN, count - 1):
            index = self.rng.randrange(count)
            if index != node.index:
                known[index] = None
        peers = tuple(PeerAddress(self.nodes[index].id, self.nodes[index].url) for index in known)
        options = MeshOptions(node.url, "simulated/1", (), status_every_ms=None)
        rng = Random(f"{self.options.seed} {node.index}")
        restored = Restored((), peers, pins, (), (0, 0))
        node.mesh = Mesh(key, "main", options, rng, restored, self.now_ms, accept=self._accept, announce=self._announce)
        self._wake(node, self.now_ms + self.rng.randrange(1_000))

    def _accept(self, raw: bytes, *, mesh: str, now_ms: int) -> AcceptedAnnouncement:
        return self._accepted[raw]

    def _announce(self, key: PrivateKey, mesh: str, statement: Statement, epoch: int, seq: int) -> AcceptedAnnouncement:
        if isinstance(statement, NodeStatement):
            raise Refusal("R0", "nodes do not announce themselves in this simulation")
        announcement_id = sha256(key.public + seq.to_bytes(8, "big")).digest()
        announcement = AcceptedAnnouncement(announcement_id, announcement_id, key.public, epoch, seq, statement)
        self._accepted[announcement_id] = announcement
        hops = array("h", [-1]) * len(self.nodes)
        origin = self._index_of[key.public]
        hops[origin] = 0
        copies = array("h", [0]) * len(self.nodes)
        self.broadcasts[announcement_id] = _Broadcast(announcement_id, origin, hops, copies)
        return announcement

    # What happens.

    def _happen(self, event: _Happening, moment: int) -> None:
        kind, index, other, request_id, message = event
        node = self.nodes[index]
        if kind == _WAKE:
            if node.wake_ms == moment and node.alive:
                node.wake_ms = None
                self._note(kind, index, moment)
                self._report(node, TimePassed())
            return
        self._note(kind, index, moment)
        if kind == _REQUEST:
            self._request_arrives(node, other, request_id, message)
        elif not node.alive:
            return
        elif kind == _ANSWER:
            if type(message) is GossipAnswer:
                self._bodies_arrive(node, other, message.push)
            elif type(message) is FetchAnswer:
                self._bodies_arrive(node, other, message.announcements)
            self._report(node, AnswerReceived(request_id, self.nodes[other].id, cast(Answer, message)))
        else:
            self._report(node, PeerUnreachable(request_id, self.nodes[other].id, "no answer in time"))

    def _note(self, kind: int, index: int, moment: int) -> None:
        self.events += 1
        self.trace = (self.trace * 1_000_003 ^ moment * 4_294_967_291 ^ index * 4 + kind) & _MASK

    def _request_arrives(self, node: _Node, asker: int, request_id: int, message: Request | Answer | None) -> None:
        delay_ms = self._delay_ms(asker, node.index)
        if not node.alive:
            if request_id:
                self._at(self.now_ms + TIMEOUT_MS - delay_ms, (_FAILURE, asker, node.index, request_id, None))
            return
        if type(message) is GossipRequest:
            self._bodies_arrive(node, asker, message.push)
        self._last_token += 1
        self._pending[self._last_token] = _Pending(asker, node.index, request_id, delay_ms)
        self._report(node, RequestReceived(self._last_token, self.nodes[asker].id, cast(Request, message)))

    def _bodies_arrive(self, node: _Node, sender: int, ids: tuple[bytes, ...]) -> None:
        for announcement_id in ids:
            broadcast = self.broadcasts[announcement_id]
            if node.index == broadcast.origin:
                continue
            broadcast.copies[node.index] += 1
            if broadcast.hops[node.index] < 0:
                broadcast.hops[node.index] = broadcast.hops[sender] + 1

    def _report(self, node: _Node, event: Event) -> None:
        now_ms = self.now_ms
        mesh = node.mesh
        for effect in mesh.handle(event, now_ms):
            if type(effect) is SendRequest:
                self._send_request(node, effect)
            elif type(effect) is SendAnswer:
                self._send_answer(node, effect)
        wake_at = mesh.wake_at
        if wake_at is not None and (node.wake_ms is None or wake_at < node.wake_ms):
            self.violations += wake_at <= now_ms
            self._wake(node, max(wake_at, now_ms + 1))

    def _wake(self, node: _Node, moment: int) -> None:
        node.wake_ms = moment
        self._at(moment, (_WAKE, node.index, 0, 0, None))

    def _send_request(self, node: _Node, effect: SendRequest) -> None:
        answerer = self._index_of[effect.peer]
        message = effect.message
        if type(message) is GossipRequest:
            self.control_bytes += self._sizes.of_request(message)
            if effect.bodies:
                self._check_held(node, effect.bodies)
                message = GossipRequest(effect.bodies, message.have, message.status, 0, message.offer, message.graft)
        delay_ms = self._delay_ms(node.index, answerer)
        if self.loss and self.rng.random() < self.loss:
            self._at(self.now_ms + TIMEOUT_MS, (_FAILURE, node.index, answerer, effect.request_id, None))
        else:
            self._at(self.now_ms + delay_ms, (_REQUEST, answerer, node.index, effect.request_id, message))

    def _send_answer(self, node: _Node, effect: SendAnswer) -> None:
        pending = self._pending.pop(effect.token)
        if not pending.request_id:
            return
        message: Answer = effect.message
        if type(message) is GossipAnswer:
            self.control_bytes += self._sizes.of_answer(message)
        if effect.bodies:
            self._check_held(node, effect.bodies)
            if type(message) is FetchAnswer:
                message = FetchAnswer(effect.bodies, message.missing)
            elif type(message) is SnapshotAnswer:
                message = SnapshotAnswer(effect.bodies, message.after)
            elif type(message) is GossipAnswer:
                message = GossipAnswer(effect.bodies, message.want, message.status, message.prune)
        if self.loss and self.rng.random() < self.loss:
            wait_ms = TIMEOUT_MS - pending.delay_ms
            self._at(self.now_ms + wait_ms, (_FAILURE, pending.asker, pending.answerer, pending.request_id, None))
        else:
            event = (_ANSWER, pending.asker, pending.answerer, pending.request_id, message)
            self._at(self.now_ms + pending.delay_ms, event)

    def _check_held(self, node: _Node, ids: tuple[bytes, ...]) -> None:
        """Nothing is told that was not kept before."""
        for announcement_id in ids:
            self.violations += self.broadcasts[announcement_id].hops[node.index] < 0

    def _delay_ms(self, one: int, other: int) -> int:
        if one > other:
            one, other = other, one
        mixed = (one * 2_654_435_761 ^ other * 2_246_822_519 ^ self._salt) & 0xFFFF_FFFF
        mixed = (mixed ^ mixed >> 15) * 0x85EB_CA6B & 0xFFFF_FFFF
        return DELAY_MS_MIN + (mixed >> 8) % (DELAY_MS_MAX - DELAY_MS_MIN + 1)
