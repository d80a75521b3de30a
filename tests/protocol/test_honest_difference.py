"""Two honest nodes that cannot agree about everything: same set, or a difference that the link knows and subtracts."""

from random import Random

import pytest

from pfn_node.simulation.actor import Node
from pfn_node.simulation.network import Network
from pfn_node.simulation.world import key_of, version_statement
from pfn_protocol.announcements import AcceptedAnnouncement
from pfn_protocol.events import RequestReceived
from pfn_protocol.messages import AuthorsRequest, CellsRequest, FetchRequest, GossipRequest, IdsRequest
from tests.protocol.sets import said

AUTHORS = [key_of(f"author-{number}") for number in range(5)]
REPAIRS = (AuthorsRequest, CellsRequest, FetchRequest, IdsRequest)


def world(rng: Random, now_ms: int) -> list[AcceptedAnnouncement]:
    """What five authors said: more than fits, some of it early, some of it contradicting."""
    everything: list[AcceptedAnnouncement] = []
    for author in AUTHORS:
        for number in range(rng.randrange(5, 20)):
            ahead_ms = 1_200_000 if rng.random() < 0.1 else 0
            first = said(author, version_statement(f"plugin-{number}"), now_ms + ahead_ms + number)
            everything.append(first)
            if rng.random() < 0.2:  # another story about the same version
                changed = version_statement(f"plugin-{number}", content="changed")
                everything.append(said(author, changed, now_ms + ahead_ms + 1_000 + number))
    return everything


def repairs(*nodes: Node) -> int:
    return sum(len(node.requests(kind)) for node in nodes for kind in REPAIRS)


@pytest.mark.parametrize("seed", range(12))
def test_two_honest_nodes_agree_or_know_their_difference_and_come_to_rest(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pfn_protocol.admission.slots_pinned_max", 12)
    monkeypatch.setattr("pfn_protocol.admission.slots_sponsored_max", 6)
    network = Network(seed)
    rng = network.rng
    alice, bob = network.node("alice"), network.node("bob")
    for node, other in ((alice, bob), (bob, alice)):
        node.pins = (other.id, *(key.public for key in rng.sample(AUTHORS, rng.randrange(2, 6))))
        node.blocked = tuple(key.public for key in rng.sample(AUTHORS, rng.randrange(3)))
        node.crash()
        node.start()
    alice.join(bob)
    network.elapse(seconds=5)
    everything = world(rng, network.now_ms)
    for node, other in ((alice, bob), (bob, alice)):
        heard = [one for one in everything if rng.random() < 0.7]
        rng.shuffle(heard)
        for one in heard:
            token = network.reply_to(lambda answer: None)
            node.report(_pushed(token, other, one))
    network.elapse(seconds=3_000)

    mine, theirs = (node.mesh._reconciliation for node in (alice, bob))
    comparison = mine._comparisons[bob.id]
    comparison.their_status = theirs.status(alice.id)
    assert comparison.agrees(alice.mesh._registry, network.now_ms)
    before = repairs(alice, bob)
    network.elapse(seconds=3_000)
    assert repairs(alice, bob) - before <= 8


def _pushed(token: int, sender: Node, announcement: AcceptedAnnouncement) -> RequestReceived:
    return RequestReceived(token, sender.id, GossipRequest((announcement.raw,), (), None, 0))
