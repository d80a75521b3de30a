"""One node of a simulated network: its machine, and what its engine, its disk and its operator would do.

Effects are performed as the engine performs them. A crash takes the machine and everything in flight; what was kept
(`kept`, `peers`, `last`, and the operator's word) is what the next start goes on from.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING, assert_never

from pfn_node.simulation.world import MESH, InvariantBroken, version_statement
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import (
    AcceptedAnnouncement,
    Conviction,
    Kind,
    NodeStatement,
    Statement,
    VersionStatement,
)
from pfn_protocol.effects import (
    BuildPrefix,
    ChangeAdmission,
    DecodeCells,
    DropAnnouncements,
    Effect,
    ForgetPeer,
    KeepAnnouncement,
    KeepConviction,
    RaiseAlert,
    RememberPeer,
    SendAnswer,
    SendRequest,
)
from pfn_protocol.equivocation import convict
from pfn_protocol.errors import Refusal, Severity
from pfn_protocol.events import (
    CellsDecoded,
    Event,
    PeerFound,
    PolicyChanged,
    PrefixBuilt,
    ShutdownRequested,
    StatementMade,
    TimePassed,
)
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import nonce_memory_ms
from pfn_protocol.mesh import LinkView, Mesh, MeshOptions, Restored
from pfn_protocol.message_fields import ReceivedRequest, open_request
from pfn_protocol.messages import PeerAddress, Request
from pfn_protocol.sketch import build_cells
from pfn_protocol.slots import entry_of

if TYPE_CHECKING:
    from pfn_node.simulation.network import Network

# How long the cells of a sketch are in the making.
BUILD_MS = 20
# The clock may be set back or ahead while a node sleeps until a moment of it; the engine looks at least this often.
CLOCK_CHECK_MS = 10_000
_TIME_PASSED = TimePassed()


@dataclass(eq=False)
class Node:
    """One actor."""

    network: "Network"
    name: str
    url: str
    key: PrivateKey
    pins: tuple[bytes, ...] = ()
    blocked: tuple[bytes, ...] = ()
    joined: dict[bytes, str] = field(default_factory=dict)
    clock_ahead_ms: int = 0
    software: str = "test/1"
    features: tuple[str, ...] = ()
    up: bool = False
    is_here: bool = True  # otherwise it lives in the other half of a large network (halves.py)
    is_silent: bool = False  # while down: its whole machine is gone, so nobody is even refused
    incarnation: int = 0
    last: tuple[int, int] = (0, 0)
    kept: dict[bytes, tuple[AcceptedAnnouncement, bool]] = field(default_factory=dict)  # with whether admitted
    peers: dict[bytes, str] = field(default_factory=dict)
    introduced: set[bytes] = field(default_factory=set)  # those of the peers that were introduced
    alerts: list[RaiseAlert] = field(default_factory=list)
    sent: list[SendRequest] = field(default_factory=list)
    answers: list[SendAnswer] = field(default_factory=list)
    builds: list[BuildPrefix] = field(default_factory=list)
    next_turn: int = 0  # the first turn of its machine that no request has taken
    id: bytes = field(init=False)
    number: int = field(init=False)  # the how-manieth of the network
    salt: int = field(init=False)  # what its distance to others follows from
    _mesh: Mesh | None = None
    _wake_ms: int | None = None  # when it is woken, in the network's time
    _heard: dict[tuple[bytes, bytes], int] = field(default_factory=dict)  # sender and nonce -> until when

    def __post_init__(self) -> None:
        self.id = self.key.public
        self.number = len(self.network.nodes)
        self.salt = int.from_bytes(sha256(f"{self.network.seed} {self.name}".encode()).digest()[:4], "big")

    @property
    def mesh(self) -> Mesh:
        assert self._mesh is not None, f"{self.name} was never started"
        return self._mesh

    @property
    def now_ms(self) -> int:
        """The time as this node's clock shows it."""
        return self.network.agenda.now_ms + self.clock_ahead_ms

    # What an operator or a publisher does.

    def start(self) -> None:
        """Start, or start again with what was kept."""
        self.up = True
        self.incarnation += 1
        if not self.is_here:
            return
        self._wake_ms = None
        self.next_turn = 0
        self._heard.clear()
        peers = tuple(PeerAddress(node_id, url) for node_id, url in self.peers.items())
        kept = [(entry_of(one), admitted) for one, admitted in self.kept.values()]
        introduced = frozenset(self.introduced)
        restored = Restored(kept, peers, self.pins, self.blocked, self.last, introduced)
        network = self.network
        options = MeshOptions(self.url, self.software, self.features, status_every_ms=network.status_every_ms)
        rng = Random(f"{network.seed} {self.name} {self.incarnation}")
        accept = network.carrying.accept
        self._mesh = Mesh(self.key, MESH, options, rng, restored, self.now_ms, accept=accept, announce=self._announce)
        self.report(TimePassed())
        for node_id, url in self.joined.items():
            self.report(PeerFound(node_id, url))

    def crash(self, *, silently: bool = False) -> None:
        """Gone at once; whoever waits for an answer waits in vain.

        Who asks from now on is told that nobody is there; or not even that, if its whole machine is gone.
        """
        self.up = False
        self.is_silent = silently

    def shut_down(self) -> None:
        """Stop as one who is asked to."""
        self.report(ShutdownRequested())

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

    def sees(self, slug: str, version: str = "1.0", content: str = "") -> bytes | None:
        """It saw a release at the publisher. Returns the id of what it announced; None if it does not, or not yet."""
        statement = version_statement(slug, version, content)
        self.report(StatementMade(statement))
        for announcement, _ in reversed(self.kept.values()):
            said = announcement.statement
            if announcement.author == self.id and isinstance(said, VersionStatement):
                return announcement.id if said.sha256 == statement.sha256 else None
        return None

    def report(self, event: Event) -> None:
        """Something happened to it; what the machine decides is done."""
        if self.up and self.is_here:
            assert self._mesh is not None, "who is up was started"
            effects = self._mesh.handle(event, self.network.agenda.now_ms + self.clock_ahead_ms)
            if effects:
                self.perform(effects)
            self._set_alarm()
            if self.network.watch is not None:
                self.network.watch.after(self, event, effects)

    # What can be seen from outside.

    def announcements(self) -> list[AcceptedAnnouncement]:
        """What is in its set, as its disk has it."""
        return [announcement for announcement, admitted in self.kept.values() if admitted]

    def parked(self) -> list[AcceptedAnnouncement]:
        return [announcement for announcement, admitted in self.kept.values() if not admitted]

    def holds(self, announcement_id: bytes) -> bool:
        """Whether the announcement is in its set."""
        return self.kept.get(announcement_id, (None, False))[1]

    def versions(self, author: "Node | None" = None) -> list[VersionStatement]:
        statements = [one.statement for one in self.announcements() if author is None or one.author == author.id]
        return [statement for statement in statements if isinstance(statement, VersionStatement)]

    def has_seen(self, slug: str, version: str = "1.0") -> bool:
        """Whether anybody's word about this release is in its set."""
        return any((one.plugin_id, one.version) == (slug, version) for one in self.versions())

    def statement_of(self, author: "Node", kind: Kind, subject: str = "") -> Statement | Conviction | None:
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

    # What its engine does.

    def open(self, path: str, raw: bytes) -> ReceivedRequest:
        """The request in these bytes, which is heard once. Raises Refusal."""
        now_ms = self.now_ms
        received = open_request(raw, mesh=MESH, path=path, me=self.id, now_ms=now_ms)
        while self._heard and next(iter(self._heard.values())) <= now_ms:
            del self._heard[next(iter(self._heard))]
        mark = (received.sender, received.nonce)
        if mark in self._heard:
            raise Refusal("R74", "This request was here before.", Severity.HARMLESS)
        self._heard[mark] = now_ms + nonce_memory_ms
        return received

    def bodies(self, ids: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """What these ids stand for. Nothing is told that was not kept before."""
        kept = self.kept
        if not all(one in kept for one in ids):
            raise InvariantBroken(f"{self.name} tells what it did not keep")
        return tuple([kept[one][0].raw for one in ids])

    def perform(self, effects: list[Effect]) -> None:
        """Do what the machine decided, in its order."""
        network = self.network
        for effect in effects:
            if type(effect) is SendRequest:
                network.carry_request(self, effect)
            elif type(effect) is SendAnswer:
                network.carry_answer(self, effect)
            else:
                self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case KeepAnnouncement():
                self._keep(effect.announcement, effect.admitted)
            case KeepConviction():
                self._keep(convict(self.kept[effect.one][0], self.kept[effect.other][0]), True)
            case DropAnnouncements():
                for announcement_id in effect.ids:
                    del self.kept[announcement_id]
            case ChangeAdmission():
                for announcement_id in effect.admitted:
                    self.kept[announcement_id] = (self.kept[announcement_id][0], True)
                for announcement_id in effect.parked:
                    self.kept[announcement_id] = (self.kept[announcement_id][0], False)
            case RememberPeer():
                self.peers[effect.peer] = effect.url
                if effect.introduced:
                    self.introduced.add(effect.peer)
            case ForgetPeer():
                self.peers.pop(effect.peer, None)
                self.introduced.discard(effect.peer)
            case SendRequest():
                self.network.carry_request(self, effect)
            case SendAnswer():
                self.network.carry_answer(self, effect)
            case RaiseAlert():
                self.alerts.append(effect)
            case BuildPrefix():
                self._build(effect)
            case DecodeCells():
                self._report_later(CellsDecoded(effect.decode_id, effect.cells.decode(effect.salt)))
            case _:
                assert_never(effect)

    def _announce(self, key: PrivateKey, mesh: str, statement: Statement, epoch: int, seq: int) -> AcceptedAnnouncement:
        """`acceptance.announce`, unless it says something about itself in a network where nobody shall."""
        if isinstance(statement, NodeStatement) and not self.network.self_announcing:
            raise Refusal("R0", "nodes do not announce themselves in this simulation")
        return announce(key, mesh, statement, epoch, seq)

    def _keep(self, announcement: AcceptedAnnouncement, admitted: bool) -> None:
        self.kept[announcement.id] = (announcement, admitted)
        if announcement.author == self.id:
            self.last = max(self.last, (announcement.epoch, announcement.seq))
            self.network.check_place(announcement)

    def _build(self, effect: BuildPrefix) -> None:
        """As the engine's worker thread would: the outcome comes later, and not at all after a crash."""
        if self.network.records:
            self.builds.append(effect)
        cells = build_cells(effect.ids, effect.without, effect.salt, effect.length)
        self._report_later(PrefixBuilt(effect.build_id, cells))

    def _report_later(self, event: PrefixBuilt | CellsDecoded) -> None:
        incarnation = self.incarnation

        def report() -> None:
            if self.incarnation == incarnation:
                self.report(event)

        self.network.later(BUILD_MS, report)

    def _set_alarm(self) -> None:
        """Have the machine woken. A node has one alarm that counts; when it rings early it is put further on."""
        assert self._mesh is not None, "only who was started decides"
        wake_at = self._mesh.wake_at
        if wake_at is None:
            return
        wake_ms = wake_at - self.clock_ahead_ms
        if self._wake_ms is not None and self._wake_ms <= wake_ms:
            return
        agenda = self.network.agenda
        if wake_ms <= agenda.now_ms:
            raise InvariantBroken(f"{self.name} wants to be woken in the past")
        self._wake_ms = wake_ms = min(wake_ms, agenda.now_ms + CLOCK_CHECK_MS)
        agenda.put(wake_ms, self._ring, wake_ms)

    def _ring(self, wake_ms: int) -> None:
        if not self.up or self._wake_ms != wake_ms:
            return
        self._wake_ms = None
        self.report(_TIME_PASSED)  # too early perhaps: then it only learns what its clock shows
