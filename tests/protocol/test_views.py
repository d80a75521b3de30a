"""The views of peers: feelers, the passive view, diversity, and links that only compare."""

from random import Random

import pytest

from pfn_node.simulation.network import Network
from pfn_node.simulation.world import START_MS, key_of
from pfn_protocol.effects import ForgetPeer, SendRequest
from pfn_protocol.events import RequestReceived
from pfn_protocol.messages import FetchRequest, LinkAnswer, LinkRequest, PeerAddress, RefusedAnswer
from pfn_protocol.outgoing import InFlight, Outgoing
from pfn_protocol.peers import LinkState, Peers

MINUTE_MS = 60_000


class Table:
    """Alice's peers, without a network."""

    def __init__(self) -> None:
        self.outgoing = Outgoing()
        self.peers = Peers(key_of("alice").public, "http://alice.test", Random(1), self.outgoing)

    def sent(self, kind: type) -> list[SendRequest]:
        effects = self.outgoing.drain()
        return [one for one in effects if isinstance(one, SendRequest) and isinstance(one.message, kind)]

    def in_flight(self, request: SendRequest) -> InFlight:
        found = self.outgoing.take(request.request_id, request.peer)
        assert found is not None
        return found

    def feel(self, now_ms: int) -> SendRequest:
        """Let the time for a feeler come, and find it."""
        self.peers.dial(now_ms)
        (feeler,) = self.sent(FetchRequest)
        return feeler


def full_table() -> Table:
    """Eight links that were asked for, so no more are wanted."""
    table = Table()
    for number in range(8):
        table.peers.learn(key_of(f"linked-{number}").public, f"http://linked-{number}.test", reached=True)
    table.peers.dial(START_MS)
    table.peers.dial(START_MS + 5_000)
    for request in table.sent(LinkRequest):
        peer = table.peers.find(request.peer)
        assert peer is not None
        table.peers.answered_link(peer, LinkAnswer(True, 0, (), ()), START_MS + 5_000)
    assert len(table.peers.linked()) == 8
    table.peers.dial(START_MS + 80_000)  # the first look for somebody to compare with finds nobody
    table.outgoing.drain()
    return table


def test_an_address_from_hearsay_is_tried_and_any_answer_proves_it() -> None:
    table = full_table()
    bob = key_of("bob").public
    table.peers.learn(bob, "http://bob.test")

    feeler = table.feel(START_MS + 3 * MINUTE_MS)
    in_flight = table.in_flight(feeler)
    peer = table.peers.find(bob)
    assert feeler.peer == bob and peer is not None and table.peers.is_feeler(in_flight)
    table.peers.answered(peer, in_flight, START_MS + 3 * MINUTE_MS)

    assert peer.reached and not peer.linked


def test_hearsay_that_does_not_answer_a_feeler_is_tried_later_and_then_forgotten() -> None:
    table = full_table()
    bob = key_of("bob").public
    table.peers.learn(bob, "http://bob.test")
    peer = table.peers.find(bob)
    assert peer is not None

    feeler = table.in_flight(table.feel(START_MS + 3 * MINUTE_MS))
    for attempt in range(6):
        assert table.peers.find(bob) is peer, attempt
        assert not table.peers.request_failed(peer, feeler, START_MS + 3 * MINUTE_MS)

    assert table.peers.find(bob) is None


def test_a_newcomer_does_not_displace_a_proven_peer_that_still_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.peers.passive_max", 1)
    table = full_table()
    old, new = key_of("old").public, key_of("new").public
    table.peers.learn(old, "http://old.test", reached=True)
    table.peers.learn(new, "http://new.test")
    now_ms = START_MS + 3 * MINUTE_MS

    in_flight = table.in_flight(table.feel(now_ms))
    peer = table.peers.find(new)
    assert in_flight.peer == new and peer is not None
    table.peers.answered(peer, in_flight, now_ms)
    assert table.peers.find(new) is None and table.peers.find(old) is not None

    (test_of_old,) = table.sent(FetchRequest)
    in_flight = table.in_flight(test_of_old)
    peer = table.peers.find(old)
    assert in_flight.peer == old and peer is not None
    table.peers.request_failed(peer, in_flight, now_ms)
    assert table.peers.find(old) is None
    assert ForgetPeer(old) in table.outgoing.drain()


def test_only_so_many_feelers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    table = full_table()
    monkeypatch.setattr("pfn_protocol.peers.passive_max", 1)
    table.peers.learn(key_of("bob").public, "http://bob.test")

    first = table.in_flight(table.feel(START_MS + 3 * MINUTE_MS))
    table.in_flight(table.feel(START_MS + 5 * MINUTE_MS))

    assert not table.peers.is_feeler(first)


def test_of_one_network_few_are_noted_and_few_links_are_taken() -> None:
    table = Table()
    askers = [key_of(f"sybil-{number}").public for number in range(5)]
    for number, asker in enumerate(askers[:4]):
        table.peers.learn(asker, f"http://203.0.113.{number}")
    assert len(table.peers.view(lambda _: "")) == 2

    for number, asker in enumerate(askers):
        table.peers.asked_for_link(asker, LinkRequest(f"http://203.0.113.{number}", (), ()), START_MS)

    assert len(table.peers.linked()) == 2


def test_hearsay_without_end_is_not_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.known_peers.peers_unlinked_max", 3)
    table = Table()

    for number in range(9):
        table.peers.learn(key_of(f"node-{number}").public, f"http://node-{number}.test")

    assert len(table.peers.view(lambda _: "")) == 3


def test_links_that_only_compare_are_made_beside_a_full_view_and_change() -> None:
    table = full_table()
    for number in range(6):
        table.peers.learn(key_of(f"spare-{number}").public, f"http://spare-{number}.test", reached=True)

    table.peers.dial(START_MS + 15 * MINUTE_MS)
    asked = [one for one in table.sent(LinkRequest) if one.message.compare_only]  # type: ignore[union-attr]
    assert len(asked) == 2
    for request in asked:
        peer = table.peers.find(request.peer)
        assert peer is not None
        table.peers.answered_link(peer, LinkAnswer(True, 0, (), ()), START_MS + 15 * MINUTE_MS)
    assert len(table.peers.linked()) == 10

    ended = table.peers.end_links(START_MS + 30 * MINUTE_MS)

    assert sorted(ended) == sorted(request.peer for request in asked)
    assert len(table.peers.linked()) == 8


def test_a_link_that_only_compares_becomes_an_ordinary_one_when_it_is_asked_for() -> None:
    table = Table()
    carol = key_of("carol").public

    answer = table.peers.asked_for_link(carol, LinkRequest("http://carol.test", (), (), compare_only=True), START_MS)
    peer = table.peers.find(carol)

    assert isinstance(answer, LinkAnswer) and answer.accepted
    assert peer is not None and peer.compare_only
    table.peers.asked_for_link(carol, LinkRequest("http://carol.test", (), ()), START_MS)
    assert not peer.compare_only


def test_nothing_is_pushed_over_a_link_that_only_compares_and_the_sets_agree_all_the_same() -> None:
    network = Network()
    alice, bob = network.node("alice"), network.node("bob")
    alice.pin(bob)
    replies: list[object] = []
    bob.report(
        RequestReceived(network.reply_to(replies.append), alice.id, LinkRequest(alice.url, (), (), compare_only=True))
    )
    alice.report(
        RequestReceived(network.reply_to(replies.append), bob.id, LinkRequest(bob.url, (), (), compare_only=True))
    )
    network.elapse(seconds=2)

    bob.sees("hello")
    network.elapse(seconds=1)
    assert not alice.has_seen("hello")
    network.elapse(seconds=15)
    assert alice.has_seen("hello")


def test_a_node_that_is_full_still_names_others() -> None:
    table = full_table()
    for number in range(8):
        url = f"http://asker-{number}.test"
        table.peers.asked_for_link(key_of(f"asker-{number}").public, LinkRequest(url, (), ()), START_MS)

    late = table.peers.asked_for_link(key_of("late").public, LinkRequest("http://late.test", (), ()), START_MS)

    assert len(table.peers.linked()) == 12
    assert not isinstance(late, RefusedAnswer) and not late.accepted
    assert all(isinstance(one, PeerAddress) for one in late.view) and late.view


def test_a_feeler_that_fails_while_its_node_is_asked_for_a_link_says_nothing_about_that() -> None:
    table = Table()
    bob = key_of("bob").public
    table.peers.learn(bob, "http://bob.test")
    peer = table.peers.find(bob)
    assert peer is not None
    table.peers._feel(peer, START_MS)
    (feeler,) = table.sent(FetchRequest)
    table.peers.dial(START_MS)
    assert peer.state is LinkState.LINKING

    table.peers.request_failed(peer, table.in_flight(feeler), START_MS)

    assert peer.state is LinkState.LINKING


def test_forgetting_a_peer_makes_room_for_another_one_of_its_network() -> None:
    table = Table()
    first, second, third, poller = (key_of(name).public for name in ("first", "second", "third", "poller"))
    table.peers.learn(first, "http://203.0.113.1")
    table.peers.learn(second, "http://203.0.113.2")
    table.peers.asked_for_link(poller, LinkRequest("", (), ()), START_MS)

    table.peers.forget(first)
    table.peers.forget(poller)
    table.peers.learn(third, "http://203.0.113.3")

    assert [view.peer for view in table.peers.view(lambda _: "")] == [second, third]


def test_in_a_network_a_node_that_was_only_heard_of_is_proven_without_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.peers.links_wanted_max", 1)
    monkeypatch.setattr("pfn_protocol.comparing_links.compare_links_max", 0)
    monkeypatch.setattr("pfn_protocol.comparing_links.compare_links_reserve_max", 0)
    network = Network()
    alice, bob, carol = network.node("alice"), network.node("bob"), network.node("carol")
    carol.join(bob)
    network.elapse(seconds=5)
    alice.join(bob)
    network.elapse(seconds=200)

    assert carol.id in alice.peers
    assert not alice.is_linked(carol)
