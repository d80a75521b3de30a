"""The mesh machine, as conversations between named nodes."""

from itertools import pairwise

import pytest

from pfn_node.simulation.actor import Node
from pfn_node.simulation.faults import Faults
from pfn_node.simulation.network import Network
from pfn_node.simulation.world import START_MS, key_of
from pfn_protocol.announcements import Kind, NodeStatement, SourceStatement
from pfn_protocol.events import RequestReceived, StatementMade
from pfn_protocol.messages import AuthorsRequest, CellsRequest, FetchRequest, GossipRequest, LinkRequest, RefusedAnswer


def linked_pair(network: Network) -> tuple[Node, Node]:
    """Alice pins and joined bob; bob has let her in."""
    alice, bob = network.node("alice"), network.node("bob")
    alice.pin(bob)
    alice.join(bob)
    network.elapse(seconds=5)
    return alice, bob


def test_what_one_node_sees_its_neighbour_that_pins_it_knows_at_once() -> None:
    network = Network()
    alice, bob = linked_pair(network)

    bob.sees("hello")
    network.elapse(seconds=0.1)

    assert alice.has_seen("hello")
    assert alice.is_linked(bob) and bob.is_linked(alice)


def test_what_was_seen_before_the_link_is_found_by_reconciliation() -> None:
    network = Network()
    alice, bob = network.node("alice"), network.node("bob")
    for number in range(30):
        bob.sees(f"plugin-{number}")
    alice.pin(bob)
    alice.join(bob)

    network.elapse(seconds=1)

    assert len(alice.versions(bob)) == 30


def test_a_newcomer_that_joins_is_sponsored_and_what_it_sees_goes_round() -> None:
    network = Network()
    bob, carol = network.node("bob"), network.node("carol")
    carol.pin(bob)
    carol.join(bob)
    network.elapse(seconds=5)

    newcomer = network.node("newcomer")
    newcomer.pin(bob)
    newcomer.join(bob)
    newcomer.sees("fresh")
    network.elapse(seconds=5)

    assert carol.has_seen("fresh")
    statement = carol.statement_of(bob, Kind.NODE)
    assert isinstance(statement, NodeStatement)
    assert newcomer.id in statement.sponsored


def test_news_crosses_a_chain_of_pins_hop_by_hop() -> None:
    network = Network()
    nodes = [network.node(f"node-{number}") for number in range(5)]
    for one, other in pairwise(nodes):
        one.pin(other)
        other.pin(one)
        one.join(other)
    for one in nodes:
        for other in nodes:
            if abs(nodes.index(one) - nodes.index(other)) > 1:
                network.cut(one, other)
    network.elapse(seconds=20)

    nodes[0].sees("hello")
    network.elapse(seconds=1)

    assert all(node.has_seen("hello") for node in nodes)
    assert network.agree()


def test_a_neighbour_without_a_url_is_told_while_its_request_hangs() -> None:
    network = Network()
    hub, leaf = network.node("hub"), network.node("leaf", polls=True)
    leaf.pin(hub)
    leaf.join(hub)
    network.elapse(seconds=10)

    hub.sees("hello")
    network.elapse(seconds=0.2)

    assert leaf.has_seen("hello")
    assert not hub.requests(GossipRequest, leaf)


def test_a_node_without_a_url_pushes_what_it_sees_and_offers_what_it_saw() -> None:
    network = Network()
    hub, leaf = network.node("hub"), network.node("leaf", polls=True)
    leaf.sees("before")
    leaf.pin(hub)
    leaf.join(hub)
    network.elapse(seconds=25)

    leaf.sees("after")
    network.elapse(seconds=0.2)

    assert hub.has_seen("before")
    assert hub.has_seen("after")


def test_a_hanging_request_is_answered_when_its_time_is_over() -> None:
    network = Network()
    hub, leaf = network.node("hub"), network.node("leaf", polls=True)
    leaf.join(hub)

    network.elapse(seconds=120)

    polls = [one for one in leaf.requests(GossipRequest, hub) if one.message.wait_seconds]  # type: ignore[union-attr]
    assert 4 <= len(polls) <= 12
    assert leaf.is_linked(hub) and hub.is_linked(leaf)


def test_a_neighbour_without_a_url_that_went_away_is_no_longer_linked() -> None:
    network = Network()
    hub, leaf = network.node("hub"), network.node("leaf", polls=True)
    leaf.join(hub)
    network.elapse(seconds=5)

    leaf.crash()
    network.elapse(seconds=120)

    assert not hub.is_linked(leaf)


def test_links_come_back_after_a_restart_and_nothing_is_lost() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    bob.sees("before")
    network.elapse(seconds=1)

    alice.crash()
    bob.sees("meanwhile")
    network.elapse(seconds=60)
    alice.start()
    network.elapse(seconds=3)

    assert alice.is_linked(bob) and bob.is_linked(alice)
    assert alice.has_seen("before") and alice.has_seen("meanwhile")


def test_a_neighbour_that_forgot_the_link_is_asked_for_a_new_one() -> None:
    network = Network()
    alice, bob = linked_pair(network)

    bob.crash()
    bob.peers.clear()
    bob.start()
    network.elapse(seconds=15)

    assert alice.is_linked(bob) and bob.is_linked(alice)


def test_a_dead_neighbour_is_noticed_and_dialled_ever_more_rarely() -> None:
    network = Network()
    alice, bob = linked_pair(network)

    bob.crash()
    network.elapse(seconds=3_600)

    view = alice.link(bob)
    assert view is not None and view.state in ("unreachable", "linking")
    dials = len(alice.requests(LinkRequest, bob))
    assert 15 < dials < 30


def test_a_joined_node_that_comes_back_after_a_day_is_linked_again() -> None:
    network = Network()
    alice, bob = linked_pair(network)

    bob.crash()
    network.elapse(seconds=86_400)
    bob.start()
    network.elapse(seconds=400)

    assert alice.is_linked(bob)


def test_a_newcomer_finds_the_other_nodes_through_the_one_it_joined() -> None:
    network = Network()
    bob = network.node("bob")
    others = [network.node(f"other-{number}") for number in range(4)]
    for other in others:
        other.join(bob)
    network.elapse(seconds=10)

    newcomer = network.node("newcomer")
    newcomer.join(bob)
    network.elapse(seconds=10)

    assert all(newcomer.is_linked(other) for other in others)


def test_a_blocked_node_is_refused_and_its_announcements_are_left_out() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    mallory = network.node("mallory")
    bob.pin(mallory)
    mallory.join(bob)
    mallory.join(alice)
    network.elapse(seconds=5)

    alice.block(mallory)
    network.elapse(seconds=5)
    mallory.sees("spam")
    network.elapse(seconds=30)

    assert bob.has_seen("spam")
    assert not alice.has_seen("spam")
    assert not alice.is_linked(mallory)
    view = alice.link(mallory)
    assert view is not None and view.state == "blocked"


def test_sets_that_cannot_agree_are_compared_once_and_not_for_ever() -> None:
    network = Network()
    alice, bob = network.node("alice"), network.node("bob")
    stranger = network.node("stranger", polls=True)
    bob.pin(stranger)
    stranger.join(bob)
    alice.join(bob)  # she pins nobody: what bob and the stranger say is not in her set
    stranger.sees("hello")
    network.elapse(seconds=120)

    before = len(alice.requests(AuthorsRequest)), len(alice.requests(FetchRequest))
    network.elapse(seconds=600)

    assert not network.agree(alice, bob)
    assert (len(alice.requests(AuthorsRequest)), len(alice.requests(FetchRequest))) == before


def test_what_an_unadmitted_author_pushed_is_parked_and_admitted_with_its_pin() -> None:
    network = Network()
    alice, bob = network.node("alice"), network.node("bob")
    alice.join(bob)
    network.elapse(seconds=5)
    bob.sees("hello")
    network.elapse(seconds=1)
    assert not alice.has_seen("hello")
    assert alice.parked()

    alice.pin(bob)

    assert alice.has_seen("hello")


def test_unpinning_parks_what_was_admitted_and_pinning_again_brings_it_back() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    for number in range(100):
        bob.sees(f"plugin-{number}")
    network.elapse(seconds=2)
    assert len(alice.versions(bob)) == 100

    alice.unpin(bob)
    assert not alice.versions(bob)
    assert len(alice.parked()) == 64

    alice.pin(bob)
    network.elapse(seconds=5)
    assert len(alice.versions(bob)) == 100


def test_a_burst_beyond_an_authors_rate_is_completed_by_reconciliation() -> None:
    network = Network()
    alice, bob = linked_pair(network)

    for number in range(600):
        bob.sees(f"plugin-{number}")
    network.elapse(seconds=1)
    pushed = len(alice.versions(bob))
    network.elapse(seconds=30)

    assert 200 <= pushed < 600
    assert len(alice.versions(bob)) == 600
    assert alice.requests(CellsRequest, bob) or bob.requests(CellsRequest, alice)


def test_an_outbox_that_overflows_leaves_the_rest_to_reconciliation() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    network.cut(alice, bob)

    for number in range(1_500):
        bob.sees(f"plugin-{number}")
    network.elapse(seconds=2)
    network.heal()
    network.elapse(seconds=30)

    assert len(alice.versions(bob)) == 1_500


def test_a_release_that_changed_keeps_its_first_announcement_in_the_set() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    bob.sees("hello", "1.0", "as released")
    network.elapse(seconds=1)

    bob.sees("hello", "1.0", "changed")
    bob.sees("hello", "1.0", "changed again")
    network.elapse(seconds=1)

    first, last = sorted(alice.versions(bob), key=lambda one: bool(one.replaces))
    assert not first.replaces
    assert last.replaces
    assert not alice.alerts
    assert network.agree()


def test_source_announcements_leave_the_set_after_a_week_and_node_announcements_are_renewed() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    source = SourceStatement(
        "dev@pub.test", "https://pub.test", "dev", key_of("dev").public, "", "", True, START_MS // 1_000
    )
    bob.report(StatementMade(source))
    network.elapse(seconds=1)
    assert alice.statement_of(bob, Kind.SOURCE, "dev@pub.test") == source

    network.cut(alice, bob)
    network.elapse(seconds=7 * 86_400)

    assert alice.statement_of(bob, Kind.SOURCE, "dev@pub.test") is None
    assert alice.statement_of(bob, Kind.NODE) is None
    assert isinstance(bob.statement_of(bob, Kind.NODE), NodeStatement)


def test_a_hostile_push_ends_the_link_for_a_while() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    bob.sees("hello")
    network.elapse(seconds=1)
    genuine = bob.announcements()[-1].raw
    forged = genuine[:-1] + bytes([genuine[-1] ^ 1])

    replies: list[object] = []
    alice.report(RequestReceived(network.reply_to(replies.append), bob.id, GossipRequest((forged,), (), None, 0)))
    network.elapse(seconds=300)

    assert isinstance(replies[0], RefusedAnswer)
    assert not alice.is_linked(bob)
    network.elapse(seconds=600)
    assert alice.is_linked(bob)


def test_when_a_node_stops_the_requests_that_hang_at_it_are_answered() -> None:
    network = Network()
    hub, leaf = network.node("hub"), network.node("leaf", polls=True)
    leaf.join(hub)
    network.elapse(seconds=10)
    answered = len(hub.answers)

    hub.shut_down()

    assert len(hub.answers) == answered + 1
    assert hub.mesh.wake_at is None
    network.elapse(seconds=60)
    assert len(hub.requests(GossipRequest)) == 0


@pytest.mark.parametrize("seed", range(6))
def test_with_losses_partitions_and_restarts_everyone_agrees_after_the_healing(seed: int) -> None:
    network = Network(seed, Faults(loss=0.1))
    nodes = [network.node(f"node-{number}", polls=number % 5 == 4) for number in range(8)]
    reachable = [node for node in nodes if node.url]
    for node in nodes:
        node.pin(*network.rng.sample([one for one in nodes if one is not node], 4), reachable[0])
        node.join(reachable[1] if node is not reachable[1] else reachable[0])
    for step in range(40):
        network.rng.choice(nodes).sees(f"plugin-{step % 25}", content=f"{step // 30}")
        if step % 10 == 3:
            network.cut(*network.rng.sample(nodes, 2))
        if step % 10 == 5:
            network.rng.choice(nodes).crash()
        if step % 10 == 9:
            for node in nodes:
                if not node.up:
                    node.start()
        network.elapse(seconds=network.rng.random() * 3)

    network.heal()
    for node in nodes:
        if not node.up:
            node.start()

    network.elapse_until(network.agree, seconds=400)
    assert all(len(node.announcements()) == node.mesh.status().announcements for node in nodes)
