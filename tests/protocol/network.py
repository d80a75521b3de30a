"""A small network of real mesh machines in virtual time: named actors, real signatures, the real message codec.

    network = Network(seed=1)
    alice, bob = network.node("alice"), network.node("bob")
    alice.pin(bob)
    alice.join(bob)
    bob.sees("hello", "1.0")
    network.elapse(seconds=1)
    assert alice.has_seen("hello", "1.0")

Every effect is performed as the engine would. While it runs, the network watches what must always hold: nothing is
told that was not kept before, and no node uses a place in its order twice. The seed is printed, so a failure can be
repeated.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import assert_never

from pfn_protocol.announcements import AcceptedAnnouncement, Kind, Statement, VersionStatement
from pfn_protocol.effects import (
    BuildPrefix,
    ChangeAdmission,
    DropAnnouncements,
    Effect,
    ForgetPeer,
    KeepAnnouncement,
    RaiseAlert,
    RememberPeer,
    SendAnswer,
    SendRequest,
)
from pfn_protocol.errors import Refusal
from pfn_protocol.events import (
    AnswerReceived,
    Event,
    PeerFound,
    PeerUnreachable,
    PolicyChanged,
    PrefixBuilt,
    RequestReceived,
    ShutdownRequested,
    StatementMade,
    TimePassed,
)
from pfn_protocol.identity import PrivateKey
from pfn_protocol.mesh import LinkView, Mesh, MeshOptions, Restored
from pfn_protocol.message_fields import open_answer, open_request, seal_answer, seal_request
from pfn_protocol.messages import (
    Answer,
    FetchAnswer,
    GossipAnswer,
    GossipRequest,
    PeerAddress,
    RefusedAnswer,
    Request,
    SnapshotAnswer,
)
from pfn_protocol.sketch import build_cells

START_MS = 1_800_000_000_000
MESH = "test"


def key_of(name: str) -> PrivateKey:
    """Everybody's key follows from the name, so ids are the same in every run."""
    return PrivateKey(sha256(name.encode()).digest())


def version_statement(
    slug: str, version: str = "1.0", content: str = "", source: str = "dev@pub.test"
) -> VersionStatement:
    return VersionStatement(
        source_id=source,
        plugin_id=slug,
        version=version,
        type="plugin",
        name=slug.title(),
        description=None,
        tags=(),
        sha256=sha256(f"{slug} {version} {content}".encode()).digest(),
        size=1_000,
        observed_at=START_MS // 1_000,
        evidence=(),
    )


@dataclass
class Node:
    """One actor: its machine, and what its engine and disk would hold."""

    network: "Network"
    name: str
    url: str
    key: PrivateKey
    pins: tuple[bytes, ...] = ()
    blocked: tuple[bytes, ...] = ()
    joined: dict[bytes, str] = field(default_factory=dict)
    clock_ahead_ms: int = 0
    up: bool = False
    incarnation: int = 0
    last: tuple[int, int] = (0, 0)
    kept: dict[bytes, tuple[AcceptedAnnouncement, bool]] = field(default_factory=dict)
    peers: dict[bytes, str] = field(default_factory=dict)
    alerts: list[RaiseAlert] = field(default_factory=list)
    sent: list[SendRequest] = field(default_factory=list)
    answers: list[SendAnswer] = field(default_factory=list)
    builds: list[BuildPrefix] = field(default_factory=list)
    _mesh: Mesh | None = None
    _wake_at: int | None = None

    @property
    def id(self) -> bytes:
        return self.key.public

    @property
    def mesh(self) -> Mesh:
        assert self._mesh is not None, f"{self.name} was never started"
        return self._mesh

    @property
    def now_ms(self) -> int:
        return self.network.now_ms + self.clock_ahead_ms

    # What an operator or a publisher does.

    def start(self) -> None:
        """Start, or start again with what was kept."""
        self.up = True
        self.incarnation += 1
        self._wake_at = None
        peers = tuple(PeerAddress(node_id, url) for node_id, url in self.peers.items())
        restored = Restored(tuple(self.kept.values()), peers, self.pins, self.blocked, self.last)
        options = MeshOptions(self.url, "test/1", ())
        rng = Random(f"{self.network.seed} {self.name} {self.incarnation}")
        self._mesh = Mesh(self.key, MESH, options, rng, restored, self.now_ms)
        self.report(TimePassed())
        for node_id, url in self.joined.items():
            self.report(PeerFound(node_id, url))

    def crash(self) -> None:
        """Gone at once; whoever waits for an answer waits in vain."""
        self.up = False

    def join(self, other: "Node") -> None:
        self.joined[other.id] = other.url
        self.report(PeerFound(other.id, other.url))

    def pin(self, *others: "Node") -> None:
        self.pins = tuple(dict.fromkeys((*self.pins, *(other.id for other in others))))
        self.report(PolicyChanged(self.pins, self.blocked))

    def unpin(self, other: "Node") -> None:
        self.pins = tuple(pin for pin in self.pins if pin != other.id)
        self.report(PolicyChanged(self.pins, self.blocked))

    def block(self, other: "Node") -> None:
        self.blocked = (*self.blocked, other.id)
        self.report(PolicyChanged(self.pins, self.blocked))

    def sees(self, slug: str, version: str = "1.0", content: str = "") -> None:
        """It saw a release at the publisher."""
        self.report(StatementMade(version_statement(slug, version, content)))

    def report(self, event: Event) -> None:
        if self.up:
            self.network.perform(self, self.mesh.handle(event, self.now_ms))

    def shut_down(self) -> None:
        self.report(ShutdownRequested())

    # What can be seen from outside.

    def announcements(self) -> list[AcceptedAnnouncement]:
        """What is in its set, as its disk has it."""
        return [announcement for announcement, admitted in self.kept.values() if admitted]

    def parked(self) -> list[AcceptedAnnouncement]:
        return [announcement for announcement, admitted in self.kept.values() if not admitted]

    def versions(self, author: "Node | None" = None) -> list[VersionStatement]:
        statements = [one.statement for one in self.announcements() if author is None or one.author == author.id]
        return [statement for statement in statements if isinstance(statement, VersionStatement)]

    def has_seen(self, slug: str, version: str = "1.0") -> bool:
        """Whether anybody's word about this release is in its set."""
        return any((one.plugin_id, one.version) == (slug, version) for one in self.versions())

    def statement_of(self, author: "Node", kind: Kind, subject: str = "") -> Statement | None:
        for one in self.announcements():
            if (one.author, one.kind, one.subject) == (author.id, kind, subject):
                return one.statement
        return None

    def link(self, other: "Node") -> LinkView | None:
        return next((view for view in self.mesh.links() if view.peer == other.id), None)

    def is_linked(self, other: "Node") -> bool:
        view = self.link(other)
        return view is not None and view.state == "linked"

    def requests(self, kind: type[Request], to: "Node | None" = None) -> list[SendRequest]:
        return [one for one in self.sent if isinstance(one.message, kind) and (to is None or one.peer == to.id)]

    def alert_kinds(self) -> list[str]:
        return [alert.kind for alert in self.alerts]


class Network:
    """Delivers between the nodes, with delay, loss and broken paths, in virtual time."""

    def __init__(self, seed: int = 1, *, delay_ms: tuple[int, int] = (5, 50), loss: float = 0.0) -> None:
        sys.stdout.write(f"network seed {seed}\n")  # shown when a test fails
        self.seed = seed
        self.rng = Random(f"network {seed}")
        self.now_ms = START_MS
        self.delay_ms = delay_ms
        self.loss = loss
        self.build_ms = 20
        self.nodes: dict[str, Node] = {}
        self.trace: list[str] = []
        self._cut: dict[tuple[str, str], None] = {}
        self._order = count()
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._tokens = count(1)
        self._replies: dict[int, Callable[[Answer], None]] = {}
        self._places: dict[tuple[bytes, int, int], bytes] = {}

    def node(self, name: str, *, polls: bool = False, pins: Iterable[Node] = (), clock_ahead_ms: int = 0) -> Node:
        """A new node, started."""
        url = "" if polls else f"http://{name}.test"
        node = Node(self, name, url, key_of(name), tuple(pin.id for pin in pins), clock_ahead_ms=clock_ahead_ms)
        self.nodes[name] = node
        node.start()
        return node

    def cut(self, one: Node, other: Node) -> None:
        """No request between the two arrives any more."""
        self._cut[one.name, other.name] = self._cut[other.name, one.name] = None

    def heal(self) -> None:
        """All paths work again, and nothing is lost."""
        self._cut.clear()
        self.loss = 0.0

    def elapse(self, *, seconds: float) -> None:
        """Let time pass, and everything happen that is due in it."""
        until_ms = self.now_ms + int(seconds * 1_000)
        while self._agenda and self._agenda[0][0] <= until_ms:
            self.now_ms, _, action = heappop(self._agenda)
            action()
        self.now_ms = until_ms

    def elapse_until(self, condition: Callable[[], bool], *, seconds: float) -> float:
        """Let time pass until the condition holds; returns the seconds that it took."""
        start_ms = self.now_ms
        while not condition():
            assert self.now_ms - start_ms < seconds * 1_000, f"not within {seconds} s (seed {self.seed})"
            self.elapse(seconds=0.02)
        return (self.now_ms - start_ms) / 1_000

    def agree(self, *nodes: Node) -> bool:
        """Whether these nodes hold the same set."""
        return len({node.mesh.status().digest for node in nodes or self.nodes.values() if node.up}) == 1

    def later(self, delay_ms: int, action: Callable[[], None]) -> None:
        heappush(self._agenda, (self.now_ms + delay_ms, next(self._order), action))

    # Performing effects.

    def perform(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            self._perform(node, effect)
        self._set_alarm(node)

    def _perform(self, node: Node, effect: Effect) -> None:
        match effect:
            case KeepAnnouncement():
                self._keep(node, effect)
            case DropAnnouncements():
                for announcement_id in effect.ids:
                    del node.kept[announcement_id]
            case ChangeAdmission():
                for announcement_id in effect.admitted:
                    node.kept[announcement_id] = (node.kept[announcement_id][0], True)
                for announcement_id in effect.parked:
                    node.kept[announcement_id] = (node.kept[announcement_id][0], False)
            case RememberPeer():
                node.peers[effect.peer] = effect.url
            case ForgetPeer():
                node.peers.pop(effect.peer, None)
            case SendRequest():
                self._send_request(node, effect)
            case SendAnswer():
                self._send_answer(node, effect)
            case RaiseAlert():
                node.alerts.append(effect)
            case BuildPrefix():
                self._build(node, effect)
            case _:
                assert_never(effect)

    def _build(self, node: Node, effect: BuildPrefix) -> None:
        """As the engine's worker thread would: the outcome comes later, and not at all after a crash."""
        node.builds.append(effect)
        cells = build_cells(effect.ids, effect.without, effect.salt, effect.length)
        incarnation = node.incarnation

        def report() -> None:
            if node.incarnation == incarnation:
                node.report(PrefixBuilt(effect.build_id, cells))

        self.later(self.build_ms, report)

    def _keep(self, node: Node, effect: KeepAnnouncement) -> None:
        announcement = effect.announcement
        node.kept[announcement.id] = (announcement, effect.admitted)
        if announcement.author == node.id:
            node.last = max(node.last, (announcement.epoch, announcement.seq))
            place = (announcement.author, announcement.epoch, announcement.seq)
            if self._places.setdefault(place, announcement.id) != announcement.id:
                raise AssertionError(f"{node.name} used a place twice (seed {self.seed})")

    def _bodies(self, node: Node, ids: tuple[bytes, ...]) -> tuple[bytes, ...]:
        assert all(one in node.kept for one in ids), f"{node.name} tells what it did not keep (seed {self.seed})"
        return tuple(node.kept[one][0].raw for one in ids)

    def _send_request(self, sender: Node, effect: SendRequest) -> None:
        sender.sent.append(effect)
        message = effect.message
        if effect.bodies:
            assert isinstance(message, GossipRequest)
            message = replace(message, push=self._bodies(sender, effect.bodies))
        receiver = next((one for one in self.nodes.values() if one.url == effect.url), None)
        to = receiver.name if receiver else effect.url
        self._note(f"{sender.name} -> {to} {message.path} {effect.request_id}", effect.bodies)
        nonce = self.rng.randbytes(16)
        raw = seal_request(sender.key, mesh=MESH, to=effect.peer, message=message, now_ms=sender.now_ms, nonce16=nonce)
        pending = _Pending(self, sender, receiver, effect, nonce)
        self.later(35_000 if isinstance(message, GossipRequest) and message.wait_seconds else 5_000, pending.time_out)
        if receiver is None or not receiver.up or (sender.name, receiver.name) in self._cut:
            self.later(self._delay(), pending.fail)
        elif self.rng.random() >= self.loss:
            self.later(self._delay(), lambda: pending.arrive(raw))

    def _send_answer(self, node: Node, effect: SendAnswer) -> None:
        node.answers.append(effect)
        message = effect.message
        if effect.bodies:
            bodies = self._bodies(node, effect.bodies)
            if isinstance(message, GossipAnswer):
                message = replace(message, push=bodies)
            else:
                assert isinstance(message, FetchAnswer | SnapshotAnswer)
                message = replace(message, announcements=bodies)
        self._note(f"{node.name} answers {type(message).__name__} {effect.token}", effect.bodies)
        self._replies.pop(effect.token)(message)

    def reply_to(self, reply: Callable[[Answer], None]) -> int:
        token = next(self._tokens)
        self._replies[token] = reply
        return token

    def _delay(self) -> int:
        return self.rng.randint(*self.delay_ms)

    def answer_arrives(self, action: Callable[[], None]) -> None:
        if self.rng.random() >= self.loss:
            self.later(self._delay(), action)

    def _note(self, what: str, ids: tuple[bytes, ...]) -> None:
        self.trace.append(f"{self.now_ms - START_MS} {what} {' '.join(one.hex()[:8] for one in ids)}")

    def _set_alarm(self, node: Node) -> None:
        wake_at = node.mesh.wake_at
        assert wake_at is None or wake_at > node.now_ms, f"{node.name} wants to be woken in the past (seed {self.seed})"
        if wake_at is None or wake_at == node._wake_at:
            return
        node._wake_at = wake_at
        incarnation = node.incarnation

        def ring() -> None:
            if node.up and node.incarnation == incarnation and node._wake_at == wake_at:
                node._wake_at = None
                node.report(TimePassed())

        self.later(max(0, wake_at - node.now_ms), ring)


class _Pending:
    """A request on its way: exactly one outcome is reported to its sender."""

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
        receiver = self._receiver
        assert receiver is not None
        if not receiver.up:
            self.fail()
            return
        try:
            received = open_request(
                raw, mesh=MESH, path=self._effect.message.path, me=receiver.id, now_ms=receiver.now_ms
            )
        except Refusal as refusal:
            self._reply(RefusedAnswer(refusal.rule, refusal.sentence, receiver.now_ms))
            return
        token = self._network.reply_to(self._reply)
        receiver.report(RequestReceived(token, received.sender, received.message))

    def _reply(self, message: Answer) -> None:
        assert self._receiver is not None
        raw = seal_answer(self._receiver.key, mesh=MESH, nonce=self._nonce, message=message)
        self._network.answer_arrives(lambda: self._answered(raw))

    def _answered(self, raw: bytes) -> None:
        effect = self._effect
        try:
            answer = open_answer(
                raw, mesh=MESH, nonce=self._nonce, sender_expected=effect.peer, path=effect.message.path
            )
        except Refusal as refusal:
            self._report(PeerUnreachable(effect.request_id, effect.peer, refusal.sentence))
            return
        self._report(AnswerReceived(effect.request_id, effect.peer, answer))

    def fail(self) -> None:
        self._report(PeerUnreachable(self._effect.request_id, self._effect.peer, "no connection"))

    def time_out(self) -> None:
        self._report(PeerUnreachable(self._effect.request_id, self._effect.peer, "no answer in time"))

    def _report(self, event: Event) -> None:
        if not self._done and self._sender.incarnation == self._incarnation:
            self._done = True
            self._sender.report(event)
