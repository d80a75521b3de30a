"""Whom trusted nodes name, and what a node does that has a link to none of them."""

from random import Random

import pytest

from pfn_node.simulation.network import Network
from pfn_node.simulation.world import START_MS, key_of
from pfn_protocol.effects import ForgetPeer, RememberPeer, SendRequest
from pfn_protocol.limits import compare_links_max, compare_links_taken_max, links_max
from pfn_protocol.messages import FetchRequest, LinkAnswer, LinkRequest, PeerAddress
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.peers import Peers

MINUTE_MS = 60_000
JOINED = key_of("joined").public


class Table:
    """Alice's peers, without a network. She joined one node."""

    def __init__(self) -> None:
        self.outgoing = Outgoing()
        self.peers = Peers(key_of("alice").public, "http://alice.test", Random(1), self.outgoing)
        self.peers.learn(JOINED, "http://joined.test", joined=True)

    def named_by(self, speaker: str, *urls: str) -> None:
        """A neighbour names nodes, each after the URL at which it is said to be."""
        view = tuple(PeerAddress(key_of(url).public, url) for url in urls)
        self.peers.asked_for_link(key_of(speaker).public, LinkRequest(f"http://{speaker}.test", view, ()), START_MS)

    def knows(self, url: str) -> bool:
        return self.peers.find(key_of(url).public) is not None

    def prove(self, url: str) -> None:
        self.peers.learn(key_of(url).public, url, reached=True)

    def asked(self, kind: type[LinkRequest | FetchRequest]) -> list[SendRequest]:
        effects = self.outgoing.drain()
        return [one for one in effects if isinstance(one, SendRequest) and isinstance(one.message, kind)]

    def compares_with(self, now_ms: int) -> list[bytes]:
        """Let the time pass, and find whom she asks for a link for comparing."""
        self.peers.dial(now_ms)
        return [one.peer for one in self.asked(LinkRequest) if getattr(one.message, "compare_only", False)]


def test_hearsay_that_a_trusted_node_names_takes_the_place_of_other_hearsay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.known_peers.peers_unlinked_max", 3)
    table = Table()
    table.named_by("mallory", *(f"http://flood-{number}.test" for number in range(9)))

    table.named_by("joined", "http://honest-1.test", "http://honest-2.test")
    table.named_by("mallory", "http://flood-10.test")

    assert table.knows("http://honest-1.test") and table.knows("http://honest-2.test")
    assert not table.knows("http://flood-10.test")


def test_a_proven_peer_that_nobody_trusted_named_gives_way_where_there_is_no_hearsay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pfn_protocol.known_peers.peers_unlinked_max", 3)
    table = Table()
    for number in range(3):
        table.prove(f"http://proven-{number}.test")

    table.named_by("joined", *(f"http://honest-{number}.test" for number in range(9)))

    assert not any(table.knows(f"http://proven-{number}.test") for number in range(3))
    assert [number for number in range(9) if table.knows(f"http://honest-{number}.test")] == [0, 1, 2]


def test_names_at_a_nodes_own_domain_do_not_keep_it_from_being_introduced() -> None:
    table = Table()
    table.named_by("mallory", "http://one.honest.test", "http://two.honest.test")
    assert table.knows("http://two.honest.test")

    table.named_by("joined", "http://three.honest.test", "http://four.honest.test", "http://five.honest.test")

    assert table.knows("http://three.honest.test") and table.knows("http://four.honest.test")
    assert not table.knows("http://five.honest.test")  # introduced ones do not displace each other


def test_a_newly_proven_peer_that_was_introduced_displaces_one_that_was_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.peers.passive_max", 1)
    table = Table()
    table.prove("http://old.test")
    table.named_by("joined", "http://honest.test")
    table.peers.dial(START_MS)
    table.outgoing.drain()
    table.peers.dial(START_MS + 2 * MINUTE_MS)
    peer = table.peers.find(key_of("http://honest.test").public)
    assert peer is not None
    table.peers._set_state(peer, peer.state.KNOWN)
    table.peers._feel(peer, START_MS + 2 * MINUTE_MS)
    (feeler,) = [one for one in table.asked(FetchRequest) if one.peer == peer.node_id][-1:]
    in_flight = table.outgoing.take(feeler.request_id, feeler.peer)
    assert in_flight is not None
    old = table.peers.find(key_of("http://old.test").public)
    assert old is not None
    table.peers._set_state(old, old.state.KNOWN)

    table.peers.answered(peer, in_flight, START_MS + 2 * MINUTE_MS)

    assert not table.knows("http://old.test") and peer.reached
    effects = table.outgoing.drain()
    assert ForgetPeer(key_of("http://old.test").public) in effects
    assert RememberPeer(peer.node_id, "http://honest.test", START_MS + 2 * MINUTE_MS, introduced=True) in effects


def test_that_a_proven_peer_was_introduced_is_remembered_once() -> None:
    table = Table()
    table.prove("http://honest.test")
    table.outgoing.drain()

    table.named_by("joined", "http://honest.test")
    table.named_by("joined", "http://honest.test")

    remembered = [one for one in table.outgoing.drain() if isinstance(one, RememberPeer)]
    assert remembered == [RememberPeer(key_of("http://honest.test").public, "http://honest.test", 0, introduced=True)]


def test_who_was_introduced_is_so_after_a_restart() -> None:
    network = Network()
    alice, bob, carol = network.node("alice"), network.node("bob"), network.node("carol")
    carol.join(bob)
    network.elapse(seconds=5)
    alice.pin(bob)
    alice.join(bob)
    network.elapse(seconds=200)
    assert carol.id in alice.introduced

    alice.crash()
    alice.start()

    peer = alice.mesh._peers.find(carol.id)
    assert peer is not None and peer.introduced


def test_a_node_without_a_link_to_its_own_nodes_compares_with_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.comparing_links.compare_links_alone_max", 6)
    monkeypatch.setattr("pfn_protocol.peers.links_wanted_max", 0)
    table = Table()
    for number in range(9):
        table.prove(f"http://other-{number}.test")
    honest = [f"http://honest-{number}.test" for number in range(4)]
    for url in honest:
        table.peers.learn(key_of(url).public, url, introduced=True)
    table.peers.dial(START_MS)
    table.outgoing.drain()

    first = table.compares_with(START_MS + 5 * MINUTE_MS)
    for peer_id in first[:2]:
        peer = table.peers.find(peer_id)
        assert peer is not None
        table.peers.answered_link(peer, LinkAnswer(False, 600, (), ()), START_MS + 5 * MINUTE_MS)
    again = table.compares_with(START_MS + 8 * MINUTE_MS)

    assert len(first) == 6 and {key_of(url).public for url in honest} <= {*first}
    assert len(again) == 2 and not {*again} & {*first}


def test_a_node_with_a_link_to_one_of_its_own_nodes_compares_with_few() -> None:
    table = Table()
    for number in range(9):
        table.prove(f"http://other-{number}.test")
    table.named_by("joined")
    table.peers.dial(START_MS)

    assert len(table.compares_with(START_MS + 5 * MINUTE_MS)) == compare_links_max


def test_links_for_comparing_that_others_ask_for_leave_room_for_newcomers() -> None:
    table = Table()
    answers = [
        table.peers.asked_for_link(
            key_of(f"asker-{number}").public,
            LinkRequest(f"http://asker-{number}.test", (), (), compare_only=True),
            START_MS,
        )
        for number in range(links_max)
    ]

    assert sum(isinstance(one, LinkAnswer) and one.accepted for one in answers) == compare_links_taken_max
    table.named_by("newcomer")
    assert table.peers.is_linked(key_of("newcomer").public)


def test_links_for_comparing_that_a_node_asked_for_itself_take_no_place_from_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pfn_protocol.peers.links_max", 1)
    table = Table()
    table.prove("http://compared.test")
    peer = table.peers.find(key_of("http://compared.test").public)
    assert peer is not None
    table.peers._dial(peer, START_MS, compare_only=True)
    table.peers.answered_link(peer, LinkAnswer(True, 0, (), ()), START_MS)

    table.named_by("newcomer")

    assert peer.linked and table.peers.is_linked(key_of("newcomer").public)
