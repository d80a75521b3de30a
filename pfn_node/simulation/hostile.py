"""Nodes that behave badly, through the same wire as everybody else.

A hostile node runs the same machine as honest ones: so it finds neighbours, holds links, and looks like a node. Its
tricks (tricks.py) see what that machine wants to send and may change or withhold it, and every few seconds they may do
something of their own. One node may have several tricks.

    mallory = infiltrate(network, "mallory", Forge(), Withhold())
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from pfn_node.simulation.actor import Node
from pfn_node.simulation.network import Network
from pfn_node.simulation.world import MESH, key_of
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import AcceptedAnnouncement, Statement
from pfn_protocol.effects import Effect, SendRequest
from pfn_protocol.errors import Refusal
from pfn_protocol.events import Event, RequestReceived
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import gossip_push_max
from pfn_protocol.message_fields import ReceivedRequest
from pfn_protocol.messages import Answer, GossipRequest, Request

# How often a hostile node does something of its own, on average.
ACT_MS = 20_000
# Requests of others that it remembers, to replay them.
OVERHEARD_MAX = 50


class Trick:
    """One kind of misbehaviour. The default behaves well."""

    def alter(self, node: "Hostile", effect: Effect, event: Event) -> Effect | None:
        """What is sent instead of what the machine wants to send because of the event; None: nothing."""
        return effect

    def act(self, node: "Hostile") -> None:
        """Something of its own."""


@dataclass(eq=False)
class Hostile(Node):
    """One hostile actor."""

    tricks: tuple[Trick, ...] = ()
    act_ms: int = ACT_MS
    quiet: bool = False  # it does nothing of its own, and its machine is as honest as any
    overheard: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=OVERHEARD_MAX))
    dice: Random = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.dice = Random(f"{self.network.seed} hostile {self.name}")

    def open(self, path: str, raw: bytes) -> ReceivedRequest:
        self.overheard.append((path, raw))
        return super().open(path, raw)

    def report(self, event: Event) -> None:
        if not self.up:
            return
        effects = self.mesh.handle(event, self.now_ms)
        if not self.quiet:
            effects = [altered for effect in effects if (altered := self._altered(effect, event)) is not None]
        self.perform(effects)

    def _keep(self, announcement: AcceptedAnnouncement, admitted: bool) -> None:
        self.kept[announcement.id] = (announcement, admitted)  # it may well have used a place twice

    def _altered(self, effect: Effect, event: Event) -> Effect | None:
        altered: Effect | None = effect
        for trick in self.tricks:
            if altered is not None:
                altered = trick.alter(self, altered, event)
        return altered

    def go_on(self) -> None:
        """Act now unless it is quiet, and again after a while."""
        if self.up and not self.quiet:
            for trick in self.tricks:
                trick.act(self)
        self.network.later(self.dice.randint(self.act_ms // 2, self.act_ms * 3 // 2), self.go_on)

    # What tricks are made of.

    def victims(self) -> list[Node]:
        """The honest nodes that it has a link to."""
        linked = frozenset(self.mesh.neighbours())
        return [one for one in self.honest() if one.id in linked]

    def honest(self) -> list[Node]:
        """All honest nodes, linked or not."""
        return [one for one in self.network.nodes.values() if not isinstance(one, Hostile)]

    def sign(self, statement: Statement, seq: int, key: PrivateKey | None = None, mesh: str = MESH) -> bytes:
        """The envelope of any statement at any place."""
        return announce(key or self.key, mesh, statement, 0, seq).raw

    def push(self, victim: Node, raws: Iterable[bytes]) -> None:
        """Push these to a neighbour, whatever they are."""
        self.ask(victim, GossipRequest(tuple(raws)[:gossip_push_max], (), None, 0))

    def ask(self, victim: Node, message: Request) -> None:
        """Send a request that its machine knows nothing of; the answer is of no interest."""
        if victim.url:
            self.network.carry_request(self, SendRequest(0, victim.id, victim.url, message))

    def ask_as(
        self, key: PrivateKey, victim: Node, message: Request, heard: Callable[[Answer], None] = lambda _: None
    ) -> None:
        """Send a request with another key. It is not sealed: such a key signs as well as any."""
        if not self.network.faults.connects(self.name, victim.name):
            return

        def arrive() -> None:
            if victim.up:
                victim.report(RequestReceived(self.network.reply_to(heard), key.public, message))

        self.network.later(self.dice.randint(*self.network.faults.delay_ms), arrive)

    def knock(self, victim: Node, path: str, raw: bytes) -> bool:
        """Any bytes at all at a node's door. Returns whether they were heard."""
        if not victim.up:
            return False
        try:
            received = victim.open(path, raw)
        except Refusal:
            return False
        victim.report(RequestReceived(self.network.reply_to(lambda _: None), received.sender, received.message))
        return True


def infiltrate(network: Network, name: str, *tricks: Trick, act_ms: int = ACT_MS) -> Hostile:
    """A hostile node in the network, started. It is pinned by nobody, and joins nobody, until it is told to."""
    node = Hostile(network, name, f"http://{name}.test", key_of(name), tricks=tricks, act_ms=act_ms)
    network.nodes[name] = node
    node.start()
    network.later(node.dice.randint(1, act_ms), node.go_on)
    return node
