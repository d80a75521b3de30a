"""Diversity and movement: how many links one network gets, and how the views of peers change over the minutes."""

from itertools import pairwise
from random import Random

import pytest

from pfn_node.simulation.network import Network
from pfn_node.simulation.world import START_MS, key_of
from pfn_protocol.effects import SendRequest
from pfn_protocol.events import ComparisonWanted
from pfn_protocol.limits import (
    anchors_max,
    compare_again_ms,
    compare_links_max,
    links_max,
    links_outbound_min,
    peers_per_group_max,
)
from pfn_protocol.messages import LinkAnswer, LinkRequest
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.peers import Peers

MINUTE_MS = 60_000


class Table:
    """Alice's peers, without a network; whom she asks for a link says yes at once. By moment: whom she asked."""

    def __init__(self, seed: int = 1) -> None:
        self.dials: dict[int, list[bytes]] = {}
        self.picks: dict[int, list[bytes]] = {}  # to compare sets with
        self.exchanges: dict[int, list[bytes]] = {}  # of views, over links
        self.outgoing = Outgoing()
        self.peers = Peers(key_of("alice").public, "http://alice.test", Random(seed), self.outgoing)

    def pass_until(self, end_ms: int, now_ms: int = START_MS) -> None:
        """Let time pass."""
        while now_ms <= end_ms:
            self.peers.end_links(now_ms)
            self.peers.dial(now_ms)
            for effect in self.outgoing.drain():
                if isinstance(effect, SendRequest) and isinstance(effect.message, LinkRequest):
                    self._agree(now_ms, effect.peer, effect.message)
            wake_at = self.peers.wake_at
            assert wake_at is not None and wake_at > now_ms
            now_ms = wake_at

    def _agree(self, now_ms: int, peer_id: bytes, message: LinkRequest) -> None:
        peer = self.peers.find(peer_id)
        assert peer is not None
        found = self.exchanges if peer.linked else self.picks if message.compare_only else self.dials
        found.setdefault(now_ms, []).append(peer_id)
        self.peers.answered_link(peer, LinkAnswer(True, 0, (), ()), now_ms)

    def ask(self, name: str, url: str) -> bool:
        """Somebody asks Alice for a link. Whether there is one now."""
        answer = self.peers.asked_for_link(key_of(name).public, LinkRequest(url, (), ()), START_MS)
        return isinstance(answer, LinkAnswer) and answer.accepted


def waits_ms(moments: list[int]) -> list[int]:
    return [later - earlier for earlier, later in pairwise(moments)]


@pytest.mark.parametrize(
    ("url_of", "elsewhere"),
    [
        ("http://203.0.113.{}", "http://203.1.113.1"),
        ("http://[2001:db8:{}::1]", "http://[2001:db9::1]"),
        ("http://node-{}.example.org", "http://node.example.net"),
        ("http://node-{}.plugins.co.uk", "http://node.themes.co.uk"),
    ],
)
def test_a_node_takes_two_links_from_one_network_or_domain(url_of: str, elsewhere: str) -> None:
    table = Table()

    taken = [table.ask(f"sybil-{number}", url_of.format(number)) for number in range(6)]

    assert taken == [True] * peers_per_group_max + [False] * (6 - peers_per_group_max)
    assert table.ask("elsewhere", elsewhere)
    assert table.ask("sybil-0", url_of.format(0))  # a link that there is stands


def test_pinned_and_joined_nodes_of_a_network_are_taken_and_do_not_count_there() -> None:
    table = Table()
    pinned, joined = key_of("pinned").public, key_of("joined").public
    table.peers.set_policy([pinned], [], START_MS)
    table.peers.learn(joined, "http://203.0.113.9", joined=True)
    assert table.ask("pinned", "http://203.0.113.8") and table.ask("joined", "http://203.0.113.9")

    assert [table.ask(f"sybil-{number}", f"http://203.0.113.{number}") for number in range(3)] == [True, True, False]


def test_pinned_and_joined_nodes_are_taken_from_a_network_that_has_its_links() -> None:
    table = Table()
    pinned, joined = key_of("pinned").public, key_of("joined").public
    table.peers.set_policy([pinned], [], START_MS)
    table.peers.learn(joined, "http://203.0.113.9", joined=True)
    for number in range(peers_per_group_max):
        assert table.ask(f"sybil-{number}", f"http://203.0.113.{number}")

    assert table.ask("pinned", "http://203.0.113.8") and table.ask("joined", "http://203.0.113.9")
    assert not table.ask("stranger", "http://203.0.113.10")


def test_every_minute_or_a_little_later_views_are_exchanged_with_a_neighbour_that_was_chosen_here() -> None:
    table = Table()
    chosen = [key_of(f"chosen-{number}").public for number in range(7)]
    for number, peer_id in enumerate(chosen):
        table.peers.learn(peer_id, f"http://chosen-{number}.test", reached=True)
    assert table.ask("asker", "http://asker.test")

    table.pass_until(START_MS + 60 * MINUTE_MS)

    assert sum(len(dialled) for dialled in table.dials.values()) == 7
    assert all(MINUTE_MS <= wait_ms <= MINUTE_MS * 5 // 4 for wait_ms in waits_ms([START_MS, *table.exchanges]))
    assert sorted({peer_id for (peer_id,) in table.exchanges.values()}) == sorted(chosen)


def test_a_node_whose_places_are_taken_still_chooses_some_links_itself() -> None:
    table = Table()
    taken = [table.ask(f"asker-{number}", f"http://asker-{number}.test") for number in range(links_max)]
    assert sum(taken) > links_outbound_min and not all(taken)
    for number in range(20):
        table.peers.learn(key_of(f"other-{number}").public, f"http://other-{number}.test", reached=True)

    table.pass_until(START_MS + MINUTE_MS // 2)

    assert sum(len(dialled) for dialled in table.dials.values()) == links_outbound_min


@pytest.mark.parametrize("seed", range(5))
def test_every_ten_minutes_sets_are_compared_with_one_known_for_long_and_any_other(seed: int) -> None:
    table = Table(seed)
    names = [f"node-{number}" for number in range(anchors_max + 60)]
    ids = [key_of(name).public for name in names]
    for name, peer_id in zip(names, ids, strict=True):
        table.peers.learn(peer_id, f"http://{name}.test", reached=True)

    table.pass_until(START_MS + 100 * MINUTE_MS)

    picks = list(table.picks.values())
    assert len(picks) >= 8
    assert MINUTE_MS <= next(iter(table.picks)) - START_MS <= MINUTE_MS * 5 // 4
    assert all(compare_again_ms <= wait_ms <= compare_again_ms * 5 // 4 for wait_ms in waits_ms([*table.picks]))
    assert all(len(picked) == compare_links_max for picked in picks)
    assert all(any(one in ids[:anchors_max] for one in picked) for picked in picks)
    assert len({one for picked in picks for one in picked}) > 2 * compare_links_max
    comparing = [peer.node_id for peer in table.peers.linked() if peer.compare_only]
    assert sorted(comparing) == sorted(picks[-1])  # those before are over


def test_sets_that_are_never_compared_by_themselves_are_compared_when_that_is_wanted() -> None:
    network = Network(status_every_ms=None)
    alice, bob, stranger = network.node("alice"), network.node("bob"), key_of("stranger").public
    bob.sees("before-the-link")
    alice.pin(bob)
    alice.join(bob)
    network.elapse(seconds=3_600)
    assert alice.is_linked(bob) and not alice.has_seen("before-the-link")

    alice.report(ComparisonWanted(stranger))
    alice.report(ComparisonWanted(bob.id))
    network.elapse(seconds=2)

    assert alice.has_seen("before-the-link")


def test_operators_are_shown_what_each_link_is_there_for() -> None:
    network = Network()
    nodes = [network.node(f"node-{number}") for number in range(3)]
    for node in nodes:
        for other in nodes:
            if other is not node:
                node.pin(other)
                node.join(other)
    network.elapse(seconds=10)
    for number in range(6):
        nodes[number % 3].sees(f"plugin-{number}")
        network.elapse(seconds=3)
    nodes[0].block(nodes[2])

    roles = {(node.name, view.peer): view.role for node in nodes for view in node.mesh.links()}

    assert len(roles) == 6 and {*roles.values()} == {"eager", "lazy", ""}
    assert roles["node-0", nodes[1].id] == roles["node-1", nodes[0].id] != ""
    assert roles["node-0", nodes[2].id] == ""
