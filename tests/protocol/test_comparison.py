"""How a set stands against a neighbour's: when both are the same, and when there is something to look into."""

from dataclasses import replace

from pfn_node.simulation.network import Network
from pfn_node.simulation.world import START_MS
from pfn_protocol.comparison import Comparison
from pfn_protocol.limits import offered_ids_max
from pfn_protocol.link_set import LinkSet
from pfn_protocol.messages import AuthorsRequest, CellsRequest
from pfn_protocol.registry import Registry
from tests.protocol.sets import ALICE, BOB, CAROL, DAVE, fake_versions

OTHER_SCOPE = b"another!"


def compared() -> tuple[Registry, Comparison]:
    registry = Registry(ALICE.public, [BOB.public])
    for one in fake_versions(BOB.public, 3):
        registry.offer(one)
    comparison = Comparison("http://bob.test", LinkSet(registry, ()))
    comparison.their_status = comparison.link_set.status()
    return registry, comparison


def test_two_sets_are_the_same_whomever_each_side_would_admit_besides() -> None:
    registry, comparison = compared()
    assert comparison.their_status is not None
    assert comparison.is_same() and comparison.agrees(registry, START_MS)

    comparison.their_status = replace(comparison.their_status, scope=OTHER_SCOPE)
    assert comparison.is_same() and comparison.agrees(registry, START_MS)

    registry.set_policy([BOB.public, CAROL.public], [DAVE.public])  # who said nothing changes no set
    assert comparison.is_same() and comparison.agrees(registry, START_MS)


def test_sets_that_differ_are_looked_into_whatever_the_scopes_are() -> None:
    registry, comparison = compared()
    status = comparison.their_status
    assert status is not None
    for theirs in (
        replace(status, digest=bytes(32)),
        replace(status, digest=bytes(32), scope=OTHER_SCOPE),
        replace(status, count=4, scope=OTHER_SCOPE),
    ):
        comparison.their_status = theirs
        assert not comparison.is_same() and not comparison.agrees(registry, START_MS)


def test_a_difference_that_is_known_to_stay_counts_under_the_scope_alone_in_which_it_was_found() -> None:
    registry, comparison = compared()
    status = comparison.their_status
    assert status is not None
    (late,) = fake_versions(CAROL.public, 1)
    total = registry.total()
    total.add(late.id)
    comparison.their_status = replace(status, count=total.count, digest=total.digest())
    comparison.keep_unresolved([late.id], [], START_MS)
    assert not comparison.is_same() and comparison.agrees(registry, START_MS)

    comparison.their_status = replace(comparison.their_status, scope=OTHER_SCOPE)

    assert not comparison.agrees(registry, START_MS)


def test_of_a_neighbour_that_has_said_nothing_yet_nothing_is_known() -> None:
    registry, comparison = compared()
    comparison.their_status = None

    assert not comparison.is_same() and comparison.agrees(registry, START_MS)


def test_neighbours_with_one_set_ask_nothing_although_they_admit_each_other_to_different_degrees() -> None:
    network = Network(self_announcing=False)
    alice, bob = network.node("alice"), network.node("bob")
    alice.pin(bob)  # who only sponsors her
    alice.join(bob)
    network.elapse(seconds=60)
    for number in range(4):
        (alice, bob)[number % 2].sees(f"plugin-{number}")
        network.elapse(seconds=60)

    mine, theirs = (one.mesh._reconciliation.status(other.id) for one, other in ((alice, bob), (bob, alice)))
    assert mine.scope != theirs.scope
    assert (mine.count, mine.digest) == (theirs.count, theirs.digest) and mine.count == 4
    asked = [one.message for node in (alice, bob) for one in node.sent]
    assert not [one for one in asked if isinstance(one, AuthorsRequest | CellsRequest)]


def test_of_a_million_ids_that_a_neighbour_seems_to_lack_no_more_are_looked_at_than_are_offered() -> None:
    _, comparison = compared()
    ids = iter([number.to_bytes(32) for number in range(3 * offered_ids_max)])

    assert len(comparison.not_yet_offered(ids)) == offered_ids_max
    assert len(list(ids)) == 2 * offered_ids_max
