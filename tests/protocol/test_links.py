"""Links: whom a node looks for, whom it takes, when it gives up, and what it does with addresses."""

from random import Random

import pytest

from pfn_node.simulation.actor import Node
from pfn_node.simulation.network import Network
from pfn_node.simulation.world import MESH, START_MS, key_of, version_statement
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import NodeStatement
from pfn_protocol.effects import ForgetPeer
from pfn_protocol.events import RequestReceived, StatementMade
from pfn_protocol.messages import (
    Answer,
    GossipRequest,
    LinkAnswer,
    LinkRequest,
    PeerAddress,
    RefusedAnswer,
    Request,
)
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.peer import LinkState
from pfn_protocol.peers import Peers


def linked_pair(network: Network) -> tuple[Node, Node]:
    alice, bob = network.node("alice"), network.node("bob")
    alice.pin(bob)
    alice.join(bob)
    network.elapse(seconds=5)
    return alice, bob


def ask(node: Node, sender: bytes, message: Request) -> list[Answer]:
    """A request arrives; the answers, as soon as there are any."""
    replies: list[Answer] = []
    node.report(RequestReceived(node.network.reply_to(replies.append), sender, message))
    return replies


def test_a_node_takes_a_limited_number_of_links_and_names_others_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.peers.links_max", 3)
    network = Network()
    hub = network.node("hub")
    for number in range(5):
        network.node(f"leaf-{number}", polls=True).join(hub)
    network.elapse(seconds=5)
    assert hub.mesh.status().links == 3

    refused = ask(hub, key_of("one-more").public, LinkRequest("", (), ()))

    assert isinstance(refused[0], LinkAnswer) and not refused[0].accepted
    assert refused[0].back_off_seconds == 60


def test_a_pinned_node_is_taken_even_when_all_links_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.peers.links_max", 1)
    network = Network()
    hub, leaf, friend = network.node("hub"), network.node("leaf", polls=True), network.node("friend", polls=True)
    hub.pin(friend)
    leaf.join(hub)
    network.elapse(seconds=5)

    friend.join(hub)
    network.elapse(seconds=5)

    assert hub.is_linked(leaf) and hub.is_linked(friend)


def test_a_refused_asker_comes_back_when_it_was_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.peers.links_max", 1)
    network = Network()
    hub, leaf, late = network.node("hub"), network.node("leaf", polls=True), network.node("late", polls=True)
    leaf.join(hub)
    network.elapse(seconds=5)
    late.join(hub)
    network.elapse(seconds=5)
    assert len(late.requests(LinkRequest, hub)) == 1

    leaf.crash()
    network.elapse(seconds=200)

    assert hub.is_linked(late)


def test_a_node_looks_for_a_limited_number_of_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.peers.links_wanted_max", 4)
    network = Network()
    others = [network.node(f"other-{number}") for number in range(8)]
    network.elapse(seconds=1)
    bob = network.node("bob")
    bob.pin(*others[:3])
    bob.crash()
    bob.peers = {other.id: other.url for other in others}
    bob.start()
    network.elapse(seconds=10)

    chosen = [link for link in bob.mesh.links() if link.state == "linked" and link.outbound]
    assert len(chosen) == 4
    assert sum(bob.is_linked(other) for other in others[:3]) >= 2  # pinned; not all, or pins would be overrun

    bob.join(others[7])
    bob.join(others[6])
    bob.join(others[5])
    network.elapse(seconds=10)
    assert all(bob.is_linked(other) for other in others[5:])


def test_a_node_never_links_to_itself() -> None:
    network = Network()
    bob = network.node("bob")

    bob.join(bob)
    bob.pin(bob)
    network.elapse(seconds=5)

    assert bob.link(bob) is None
    assert isinstance(ask(bob, bob.id, LinkRequest("", (), ()))[0], RefusedAnswer)


def test_hearsay_that_never_answers_is_forgotten() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    ghost = key_of("ghost").public

    ask(alice, bob.id, LinkRequest(bob.url, (PeerAddress(ghost, "http://ghost.test"),), ()))
    assert any(view.peer == ghost for view in alice.mesh.links())
    network.elapse(seconds=120)

    assert not any(view.peer == ghost for view in alice.mesh.links())


def test_a_node_once_reached_is_forgotten_after_a_long_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.peers.peer_memory_ms", 1_800_000)
    network = Network()
    alice, bob, carol = network.node("alice"), network.node("bob"), network.node("carol")
    alice.join(bob)
    network.elapse(seconds=5)
    carol.join(bob)
    network.elapse(seconds=10)
    assert carol.id in alice.peers

    carol.crash()
    network.elapse(seconds=1_500)
    assert carol.id in alice.peers
    network.elapse(seconds=1_000)

    assert carol.id not in alice.peers
    assert alice.link(carol) is None


def test_a_node_that_says_that_it_leaves_is_forgotten() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    carol = network.node("carol")
    carol.join(bob)
    network.elapse(seconds=10)
    bob.pin(carol)
    network.elapse(seconds=10)
    assert alice.is_linked(carol)
    farewell = announce(
        carol.key, MESH, NodeStatement("", "test/1", (), (), (), 0, bytes(32), left=True), carol.last[0], network.now_ms
    )
    carol.crash()

    ask(alice, bob.id, GossipRequest((farewell.raw,), (), None, 0))
    network.elapse(seconds=1)

    assert alice.link(carol) is None
    assert carol.id not in alice.peers
    assert ask(alice, bob.id, GossipRequest((farewell.raw,), (), None, 0))


def test_a_joined_or_pinned_node_that_leaves_is_still_waited_for() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    farewell = announce(
        bob.key, MESH, NodeStatement("", "test/1", (), (), (), 0, bytes(32), left=True), 0, network.now_ms
    )

    ask(alice, bob.id, GossipRequest((farewell.raw,), (), None, 0))

    assert alice.link(bob) is not None


def test_a_node_that_moved_is_found_at_the_address_it_announced() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    carol = network.node("carol")
    bob.pin(carol)
    alice.pin(carol)
    carol.join(bob)
    network.elapse(seconds=10)
    alice.crash()
    carol.crash()
    carol.url = "http://carol-moved.test"
    carol.start()
    network.elapse(seconds=20)

    alice.start()
    network.elapse(seconds=200)

    view = alice.link(carol)
    assert view is not None and (view.url, view.state) == ("http://carol-moved.test", "linked")


def test_of_many_addresses_of_one_node_the_joined_one_is_never_forgotten() -> None:
    outgoing = Outgoing()
    peers = Peers(key_of("alice").public, "", Random(1), outgoing)
    bob = key_of("bob").public
    peers.learn(bob, "http://joined.test", joined=True)

    for number in range(10):
        peers.learn(bob, f"http://heard-{number}.test")
    peers.learn(bob, "")

    peer = peers.find(bob)
    assert peer is not None
    assert peer.url == "http://joined.test"
    assert list(peer.addresses) == ["http://joined.test", "http://heard-0.test", "http://heard-9.test"]


def test_addresses_are_bounded_and_needed_ones_push_out_hearsay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.known_peers.peers_known_max", 3)
    peers = Peers(key_of("alice").public, "", Random(1), Outgoing())
    names = [key_of(f"node-{number}").public for number in range(6)]
    for number, name in enumerate(names[:3]):
        peers.learn(name, f"http://hearsay-{number}.test")

    peers.learn(names[3], "http://needed.test", joined=True)
    assert peers.find(names[0]) is None and peers.find(names[3]) is not None
    peers.set_policy(names[4:], [], START_MS)
    assert len(peers.view(lambda _: "")) == 3
    peers.learn(names[0], "http://hearsay.test")
    assert peers.find(names[0]) is None
    assert isinstance(peers.asked_for_link(names[0], LinkRequest("", (), ()), START_MS), LinkAnswer)
    assert peers.find(names[0]) is None
    peers.learn(names[0], "http://reached.test", reached=True)
    assert peers.find(names[0]) is not None


def test_a_link_that_was_blocked_while_it_was_asked_for_is_not_made() -> None:
    network = Network()
    alice, bob = network.node("alice"), network.node("bob")
    alice.join(bob)

    alice.block(bob)
    network.elapse(seconds=60)

    assert not alice.is_linked(bob)
    assert len(alice.requests(LinkRequest)) == 1
    refused = ask(alice, bob.id, GossipRequest((), (), None, 0))[0]
    assert isinstance(refused, RefusedAnswer) and refused.rule == "R86"


def test_blocking_somebody_closes_links_to_nodes_without_a_url_until_they_ask_again() -> None:
    network = Network()
    hub, leaf, mallory = network.node("hub"), network.node("leaf", polls=True), network.node("mallory")
    leaf.join(hub)
    network.elapse(seconds=5)

    hub.block(mallory)
    assert not hub.is_linked(leaf)
    network.elapse(seconds=40)

    assert hub.is_linked(leaf)


def test_a_trusted_nodes_other_time_is_told_to_the_operator_once() -> None:
    network = Network()
    alice, bob = network.node("alice"), network.node("bob", clock_ahead_ms=600_000)
    carol = network.node("carol", clock_ahead_ms=-600_000)
    alice.join(bob)
    network.elapse(seconds=60)
    assert alice.alert_kinds() == ["clock-behind"]

    alice.crash()
    alice.start()
    alice.alerts.clear()
    alice.joined.clear()
    alice.start()
    alice.join(carol)
    network.elapse(seconds=60)
    assert alice.alert_kinds() == ["clock-ahead"]


def test_a_stopped_node_takes_no_links_and_sends_nothing() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    bob.shut_down()
    sent = len(bob.sent)

    answer = ask(bob, key_of("late").public, LinkRequest("", (), ()))[0]
    bob.report(StatementMade(version_statement("late")))
    network.elapse(seconds=60)

    assert isinstance(answer, LinkAnswer) and not answer.accepted
    assert len(bob.sent) == sent
    assert isinstance(ask(bob, alice.id, GossipRequest((), (), None, 5))[0], RefusedAnswer)


def test_an_answer_that_comes_after_the_stop_changes_nothing() -> None:
    network = Network()
    alice, bob = network.node("alice"), network.node("bob")
    alice.join(bob)

    alice.shut_down()
    network.elapse(seconds=5)

    assert not alice.is_linked(bob)


def test_an_address_is_passed_on_only_if_its_node_proved_its_key_there() -> None:
    outgoing = Outgoing()
    peers = Peers(key_of("alice").public, "http://alice.test", Random(1), outgoing)
    bob, carol = key_of("bob").public, key_of("carol").public
    peers.learn(bob, "http://bob.test", reached=True)
    peers.learn(bob, "http://hearsay.test")
    peer = peers.find(bob)
    assert peer is not None
    peers.dial(START_MS)
    in_flight = outgoing.take(outgoing.last_request_id, bob)
    assert in_flight is not None
    peers.request_failed(peer, in_flight, START_MS)

    answer = peers.asked_for_link(carol, LinkRequest("http://carol.test", (), ()), START_MS)

    assert peer.url == "http://hearsay.test"
    assert isinstance(answer, LinkAnswer) and answer.view == (PeerAddress(bob, "http://bob.test"),)


def test_only_a_link_that_was_asked_for_can_be_implied() -> None:
    peers = Peers(key_of("alice").public, "", Random(1), Outgoing())
    peers.learn(key_of("bob").public, "http://bob.test")
    peer = peers.find(key_of("bob").public)
    assert peer is not None and peer.state is LinkState.KNOWN

    with pytest.raises(AssertionError):
        peers.implied_link(peer, START_MS)


def test_forgetting_an_unknown_peer_does_nothing() -> None:
    outgoing = Outgoing()
    peers = Peers(key_of("alice").public, "", Random(1), outgoing)

    peers.forget(key_of("bob").public)

    assert not [effect for effect in outgoing.drain() if isinstance(effect, ForgetPeer)]


def test_a_refusal_that_crosses_a_link_made_meanwhile_does_not_end_it() -> None:
    outgoing = Outgoing()
    peers = Peers(key_of("alice").public, "http://alice.test", Random(1), outgoing)
    bob = key_of("bob").public
    peers.learn(bob, "http://bob.test")
    peers.dial(START_MS)
    peers.asked_for_link(bob, LinkRequest("http://bob.test", (), ()), START_MS)
    peer = peers.find(bob)
    assert peer is not None

    assert not peers.answered_link(peer, LinkAnswer(False, 60, (), ()), START_MS)

    assert peers.is_linked(bob)


def test_a_node_known_by_hearsay_that_leaves_is_forgotten_too() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    carol = key_of("carol")
    bob.pin(network.node("carol"))
    network.elapse(seconds=5)
    network.nodes["carol"].crash()
    ask(alice, bob.id, LinkRequest(bob.url, (PeerAddress(carol.public, "http://carol-was-here.test"),), ()))
    network.elapse(seconds=2)
    farewell = announce(
        carol, MESH, NodeStatement("", "test/1", (), (), (), 0, bytes(32), left=True), 0, network.now_ms
    )

    ask(alice, bob.id, GossipRequest((farewell.raw,), (), None, 0))

    assert not any(view.peer == carol.public for view in alice.mesh.links())


def test_a_place_of_a_linked_newcomer_is_not_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.sponsoring.sponsored_max", 1)
    network = Network()
    hub, first, second = network.node("hub"), network.node("first", polls=True), network.node("second", polls=True)
    first.join(hub)
    network.elapse(seconds=5)
    second.join(hub)
    first.sees("first")
    second.sees("second")
    network.elapse(seconds=20)

    assert hub.is_linked(second)
    assert hub.has_seen("first") and not hub.has_seen("second")
