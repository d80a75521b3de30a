"""Whom trusted nodes name, and what a node does that has a link to none of them."""

from random import Random

import pytest

from pfn_node.simulation.network import Network
from pfn_node.simulation.world import START_MS, key_of
from pfn_protocol.effects import ForgetPeer, RememberPeer, SendRequest
from pfn_protocol.limits import (
    compare_links_max,
    compare_links_reserve_max,
    compare_links_taken_max,
    dial_again_ms_min,
    link_young_ms,
    links_max,
    peer_memory_ms,
)
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

    def answers(self, peer_id: bytes, now_ms: int, *, accepted: bool) -> None:
        """Whom she asked for a link answers."""
        peer = self.peers.find(peer_id)
        assert peer is not None
        self.peers.answered_link(peer, LinkAnswer(accepted, 600, (), ()), now_ms)

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


def table_with_a_link(monkeypatch: pytest.MonkeyPatch, *named: str) -> Table:
    """Alice linked with nodes that her operator named, and wants no more; she knows 40 others by hearsay, half of them
    introduced."""
    monkeypatch.setattr("pfn_protocol.peers.links_wanted_max", 0)
    table = Table()
    table.peers.set_policy([key_of(name).public for name in named], [], START_MS)
    for number in range(20):
        table.prove(f"http://other-{number}.test")
        table.peers.learn(
            key_of(f"http://honest-{number}.test").public, f"http://honest-{number}.test", introduced=True
        )
    for name in named:
        table.named_by(name)
    table.peers.dial(START_MS)
    table.outgoing.drain()
    return table


def test_a_node_with_a_young_link_to_its_only_own_node_keeps_links_in_reserve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = table_with_a_link(monkeypatch, "joined")

    asked = table.compares_with(START_MS + 2 * MINUTE_MS)

    introduced = {key_of(f"http://honest-{number}.test").public for number in range(20)}
    assert len(asked) == compare_links_reserve_max
    assert len(introduced & {*asked}) >= compare_links_reserve_max - 1  # one may be known for long instead


def test_links_in_reserve_that_came_to_nothing_are_looked_for_within_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_with_a_link(monkeypatch, "joined")
    first = table.compares_with(START_MS + 2 * MINUTE_MS)
    for peer_id in first[:5]:
        table.answers(peer_id, START_MS + 2 * MINUTE_MS, accepted=False)

    again = table.compares_with(START_MS + 4 * MINUTE_MS)

    assert len(again) == 5 and not {*again} & {*first}


@pytest.mark.parametrize(
    ("named", "after_ms"), [(("joined",), link_young_ms + 10 * MINUTE_MS), (("joined", "pinned"), 2 * MINUTE_MS)]
)
def test_a_node_whose_links_to_its_own_nodes_are_two_or_old_compares_with_few(
    monkeypatch: pytest.MonkeyPatch, named: tuple[str, ...], after_ms: int
) -> None:
    table = table_with_a_link(monkeypatch, *named)

    assert len(table.compares_with(START_MS + after_ms)) == compare_links_max
    assert table.compares_with(START_MS + after_ms + 2 * MINUTE_MS) == []


def test_a_node_that_has_another_one_of_its_own_to_turn_to_keeps_no_links_in_reserve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = table_with_a_link(monkeypatch, "joined")
    table.peers.set_policy([key_of("pinned").public], [], START_MS)

    assert len(table.compares_with(START_MS + 2 * MINUTE_MS)) == compare_links_max


def test_a_node_whose_link_to_its_own_node_ends_looks_for_others_before_the_next_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = table_with_a_link(monkeypatch, "joined")
    now_ms = START_MS + 2 * MINUTE_MS
    reserve = table.compares_with(now_ms)
    now_ms += MINUTE_MS // 2
    assert table.compares_with(now_ms) == []  # and there is nothing more to do before the next minute
    joined = table.peers.find(JOINED)
    assert joined is not None

    table.peers.close(joined, now_ms)
    wake_at = table.peers.wake_at
    found = table.compares_with(now_ms + 3 * dial_again_ms_min)

    assert wake_at is not None and wake_at <= now_ms + 3 * dial_again_ms_min
    assert len(found) == 40 - len(reserve)  # all that there are


def test_a_named_node_that_is_silent_for_ever_is_dialled_for_ever() -> None:
    table = Table()
    now_ms = START_MS
    while now_ms < START_MS + 2 * peer_memory_ms:
        table.peers.dial(now_ms)
        for request in table.asked(LinkRequest):
            peer, in_flight = table.peers.find(request.peer), table.outgoing.take(request.request_id, request.peer)
            assert peer is not None and in_flight is not None
            table.peers.request_failed(peer, in_flight, now_ms)
        joined = table.peers.find(JOINED)
        assert joined is not None
        now_ms = max(now_ms + 1, joined.next_dial_ms)


def test_every_second_exchange_of_views_is_with_a_node_that_the_operator_named(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_with_a_link(monkeypatch, "joined")
    for number in range(8):
        peer = table.peers.find(key_of(f"http://other-{number}.test").public)
        assert peer is not None
        table.peers._dial(peer, START_MS, compare_only=number >= 4)
        table.answers(peer.node_id, START_MS, accepted=True)
    table.outgoing.drain()

    asked: list[bytes] = []
    for minute in range(2, 202, 2):
        table.peers._shuffle(START_MS + minute * MINUTE_MS)
        asked += [one.peer for one in table.asked(LinkRequest)]

    assert len(asked) == 100 and 40 <= asked.count(JOINED) <= 60
    assert {*asked} == {JOINED, *(key_of(f"http://other-{number}.test").public for number in range(4))}


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
