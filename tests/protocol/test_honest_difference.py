"""Two honest nodes that cannot agree about everything: same set, or a difference that the link knows and subtracts."""

from dataclasses import dataclass
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pfn_node.simulation.actor import Node
from pfn_node.simulation.network import Network
from pfn_node.simulation.world import key_of, version_statement
from pfn_protocol.announcements import AcceptedAnnouncement
from pfn_protocol.events import RequestReceived
from pfn_protocol.messages import AuthorsRequest, CellsRequest, FetchRequest, GossipRequest, IdsRequest, SnapshotRequest
from tests.protocol.sets import said

AUTHORS = [key_of(f"author-{number}") for number in range(5)]
REPAIRS = (AuthorsRequest, CellsRequest, FetchRequest, IdsRequest, SnapshotRequest)
# A cap that most authors fill, so that it decides what of them is in the set.
CAP, SPONSORED_CAP = 8, 4
MINUTES_20, HOURS_20 = 1_200_000, 72_000_000


@dataclass(frozen=True)
class Said:
    """One announcement: whose, of which plugin, how far ahead of the clock, and whether it tells another story."""

    author: int
    plugin: int
    ahead_ms: int
    changed: bool

    def announced(self, now_ms: int) -> AcceptedAnnouncement:
        statement = version_statement(f"plugin-{self.plugin}", content="changed" if self.changed else "")
        return said(AUTHORS[self.author], statement, now_ms + self.ahead_ms + self.plugin + 1_000 * self.changed)


@dataclass(frozen=True)
class Operator:
    """Whom a node pins and blocks, and what it hears, in this order; the rest it has to get from the other node."""

    pins: frozenset[int]
    blocked: frozenset[int]
    hears: tuple[Said, ...]


WORDS = st.builds(
    Said,
    st.integers(0, len(AUTHORS) - 1),
    st.integers(0, 2 * CAP),
    st.sampled_from([0, 0, 0, 0, 0, 0, MINUTES_20, HOURS_20]),
    st.booleans(),
)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Operator, Operator]:
    words = draw(st.lists(WORDS, min_size=30, max_size=90, unique=True))
    some = st.frozensets(st.integers(0, len(AUTHORS) - 1), max_size=2)

    def operator() -> Operator:
        pins = draw(st.frozensets(st.integers(0, len(AUTHORS) - 1), min_size=2))
        order = draw(st.permutations(words))
        return Operator(pins, draw(some), tuple(order[: draw(st.integers(0, len(words)))]))

    return operator(), operator()


def keys(numbers: frozenset[int]) -> tuple[bytes, ...]:
    return tuple(AUTHORS[number].public for number in sorted(numbers))


def repairs(*nodes: Node) -> int:
    return sum(len(node.requests(kind)) for node in nodes for kind in REPAIRS)


def knows_the_difference(node: Node, other: Node) -> bool:
    """Whether its set is the other's, but for a difference that it knows and subtracts."""
    comparison = node.mesh._reconciliation._comparisons[other.id]
    comparison.their_status = other.mesh._reconciliation.status(node.id)
    now_ms = node.network.now_ms
    return comparison.agrees(node.mesh._registry, now_ms) or comparison.settled == comparison.digests()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
def test_two_honest_nodes_agree_or_know_their_difference_and_come_to_rest(world: tuple[Operator, Operator]) -> None:
    with (
        patch("pfn_protocol.admission.slots_pinned_max", CAP),
        patch("pfn_protocol.admission.slots_sponsored_max", SPONSORED_CAP),
        patch("pfn_protocol.registry.slots_sponsored_max", SPONSORED_CAP),
    ):
        network = Network(0)
        alice, bob = network.node("alice"), network.node("bob")
        for node, other, operator in ((alice, bob, world[0]), (bob, alice, world[1])):
            node.pins = (other.id, *keys(operator.pins))
            node.blocked = keys(operator.blocked)
            node.crash()
            node.start()
        alice.join(bob)
        network.elapse(seconds=5)
        now_ms = network.now_ms
        for node, other, operator in ((alice, bob, world[0]), (bob, alice, world[1])):
            for one in operator.hears:
                token = network.reply_to(lambda answer: None)
                node.report(RequestReceived(token, other.id, GossipRequest((one.announced(now_ms).raw,), (), None, 0)))
        network.elapse(seconds=3_000)

        assert knows_the_difference(alice, bob) and knows_the_difference(bob, alice)
        before = repairs(alice, bob)
        network.elapse(seconds=3_000)
        assert repairs(alice, bob) - before <= 8
