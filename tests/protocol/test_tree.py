"""The tree of pushes: what is pruned, pulled, offered and grafted, and what is left to reconciliation."""

from itertools import pairwise
from random import Random

import pytest

from pfn_node.simulation.network import Network
from pfn_protocol.address_groups import address_group
from pfn_protocol.announcements import Kind
from pfn_protocol.effects import SendRequest
from pfn_protocol.gossip import Gossip
from pfn_protocol.gossip_links import GossipLink
from pfn_protocol.messages import SetStatus
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.pulls import Pulls
from pfn_protocol.registry import Registry
from pfn_protocol.slots import Entry

PEER, OTHER, THIRD = b"p" * 32, b"o" * 32, b"t" * 32
ONE, TWO = b"1" * 32, b"2" * 32
NOW = 1_000_000
EMPTY = SetStatus(0, bytes(32), bytes(8))


def test_an_id_that_was_told_is_asked_for_after_a_second_or_more_and_then_of_the_next_one() -> None:
    pulls = Pulls(Random(1))
    pulls.heard(ONE, PEER, NOW)
    pulls.heard(ONE, OTHER, NOW + 10)
    due_ms = pulls.wake_at
    assert due_ms is not None and NOW + 1_000 <= due_ms <= NOW + 1_500

    assert pulls.take_due(due_ms - 1, {PEER: True, OTHER: True}) == {}
    assert pulls.take_due(due_ms, {PEER: True, OTHER: True}) == {PEER: [ONE]}
    assert pulls.wake_at is None
    pulls.failed((ONE, TWO), PEER, due_ms, gone=False)
    assert pulls.take_due(due_ms, {PEER: True, OTHER: True}) == {OTHER: [ONE]}
    pulls.failed((ONE,), PEER, due_ms, gone=False)  # it is not the one that was asked
    pulls.failed((ONE,), OTHER, due_ms, gone=True)
    assert pulls.take_due(due_ms, {PEER: True, OTHER: True}) == {PEER: [ONE]}
    assert pulls.arrived(ONE) is not None and pulls.arrived(ONE) is None


def test_when_nobody_is_left_to_ask_the_next_one_that_tells_it_is_asked_at_once() -> None:
    pulls = Pulls(Random(1))
    pulls.heard(ONE, PEER, NOW)
    pulls.take_due(NOW + 1_500, {PEER: True})
    pulls.failed((ONE,), PEER, NOW + 1_500, gone=True)
    assert pulls.take_due(NOW + 1_500, {}) == {}

    pulls.heard(ONE, OTHER, NOW + 1_600)

    assert pulls.take_due(NOW + 1_600, {OTHER: True}) == {OTHER: [ONE]}


def test_a_busy_neighbour_is_asked_a_little_later() -> None:
    pulls = Pulls(Random(1))
    pulls.heard(ONE, PEER, NOW)

    assert pulls.take_due(NOW + 1_500, {PEER: False}) == {}
    assert pulls.take_due(NOW + 1_600, {PEER: True}) == {PEER: [ONE]}


def test_ids_that_wait_for_a_busy_neighbour_are_looked_at_together_ten_times_a_second_at_most() -> None:
    pulls = Pulls(Random(1))
    pulls.hop_delay_ms = 1  # a neighbour next door, which is silent for seconds all the same
    ids = [bytes([number]) * 32 for number in range(50)]
    for number, one in enumerate(ids):
        pulls.heard(one, PEER, number)

    looks = 0
    while pulls.wake_at is not None and pulls.wake_at < 10_000:
        assert not pulls.take_due(pulls.wake_at, {PEER: False})
        looks += 1

    assert looks <= 50 + 100
    assert sorted(pulls.take_due(10_000, {PEER: True})[PEER]) == ids


def test_after_some_attempts_an_id_is_left_to_reconciliation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.pulls.pulls_per_id_max", 2)
    pulls = Pulls(Random(1))
    assert pulls.wants(ONE, PEER, NOW)
    assert not pulls.wants(ONE, OTHER, NOW)
    assert pulls.take_due(NOW + 1_500, {PEER: True})
    pulls.failed((ONE,), PEER, NOW + 1_500, gone=False)

    assert pulls.take_due(NOW + 1_500, {PEER: True}) == {}
    pulls.heard(ONE, OTHER, NOW + 1_600)
    assert not pulls.wants(ONE, OTHER, NOW + 1_600)
    assert pulls.wake_at is None


def test_only_so_many_ids_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.pulls.pulls_waiting_max", 1)
    pulls = Pulls(Random(1))
    for number in range(8):
        pulls.heard(bytes([number]) * 32, PEER, NOW)

    assert pulls.take_due(NOW + 1_500, {PEER: True}) == {PEER: [bytes([7]) * 32]}


def test_queues_of_a_link_are_bounded_and_what_waits_when_it_is_pruned_goes_as_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pfn_protocol.gossip_links.outbox_ids_max", 1)
    link = GossipLink(PEER, "http://peer.test", (), False, True, False, NOW, NOW)
    for announcement_id in (ONE, TWO):
        link.put_body(announcement_id)
        link.put_offer(announcement_id)

    link.make_lazy()
    link.put_id(TWO)

    assert not link.eager and not link.bodies
    assert link.offers == {ONE: None} and link.ids == {ONE: None}
    link.holds(ONE)
    assert not link.offers and not link.ids


@pytest.mark.parametrize(
    ("url", "hosts_shared", "group"),
    [
        ("https://203.0.113.7:444", False, "203.0.0.0/16"),
        ("https://[2001:db8:1::7]", False, "2001:db8::/32"),
        ("http://127.0.0.1:8000", True, "http://127.0.0.1:8000"),
        ("http://10.1.2.3", False, "10.1.0.0/16"),
        ("http://localhost", True, "http://localhost"),
        ("http://node.local", True, "http://node.local"),
        ("http://localhost", False, "localhost"),
        ("https://a.b.example.org", True, "example.org"),
        ("https://a.plugins.co.uk", False, "plugins.co.uk"),
    ],
)
def test_addresses_of_one_network_or_domain_are_one_group(url: str, hosts_shared: bool, group: str) -> None:
    assert address_group(url, hosts_shared=hosts_shared) == group


def test_in_a_ring_the_second_copy_is_pruned_and_the_tree_still_reaches_everybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pfn_protocol.tree.arrivals_remembered_max", 4)
    network = Network()
    nodes = [network.node(f"node-{number}") for number in range(4)]
    for one, other in pairwise([*nodes, nodes[0]]):
        one.pin(other)
        other.pin(one)
        one.join(other)
    network.elapse(seconds=10)
    for number in range(6):
        nodes[number % 4].sees(f"plugin-{number}")
        network.elapse(seconds=2)

    assert all(len(node.versions()) == 6 for node in nodes)
    pruned = [answer for node in nodes for answer in node.answers if getattr(answer.message, "prune", False)]
    assert pruned
    assert nodes[0].mesh.status().digest == nodes[1].mesh.status().digest


def test_what_waits_for_a_neighbour_that_moved_is_sent_to_its_new_address() -> None:
    registry, outgoing = Registry(PEER), Outgoing()
    gossip = Gossip(registry, outgoing, lambda peer: EMPTY, Random(1), has_url=True)
    gossip.open(OTHER, "http://old.test", (), NOW, asked=True)
    gossip.flush(NOW)
    gossip.offer(OTHER, [ONE])

    gossip.open(OTHER, "http://new.test", (), NOW + 1, asked=False)
    gossip.flush(NOW + 1)

    requests = [effect for effect in outgoing.drain() if isinstance(effect, SendRequest)]
    assert [one.url for one in requests] == ["http://old.test", "http://new.test"]


def test_news_that_comes_over_a_link_that_ended_meanwhile_has_no_parent() -> None:
    registry, outgoing = Registry(PEER), Outgoing()
    gossip = Gossip(registry, outgoing, lambda peer: EMPTY, Random(1), has_url=True)
    entry = Entry(ONE, THIRD, Kind.VERSION, "dev@pub.test/hello/1.0", 0, NOW, 400)
    gossip.open(OTHER, "http://other.test", (), NOW, asked=True)

    gossip.tell([entry], THIRD, NOW)
    gossip.flush(NOW)

    (request,) = [effect for effect in outgoing.drain() if isinstance(effect, SendRequest)]
    assert request.peer == OTHER


def test_what_a_new_branch_told_before_is_asked_of_it_at_once() -> None:
    pulls = Pulls(Random(1))
    three, four, five = b"3" * 32, b"4" * 32, b"5" * 32
    for one in (ONE, TWO):
        pulls.heard(one, OTHER, NOW)
    pulls.heard(ONE, PEER, NOW)
    pulls.heard(three, PEER, NOW)
    assert pulls.take_due(NOW + 1_500, {PEER: True, OTHER: False}) == {PEER: [ONE, three]}  # these are asked for
    pulls.heard(four, OTHER, NOW + 1_500)
    pulls.heard(four, PEER, NOW + 1_500)

    assert pulls.wants(five, OTHER, NOW + 1_500)  # this one is on its way
    pulls.heard(five, PEER, NOW + 1_500)

    pulls.hasten(PEER, NOW + 1_510)

    assert pulls.take_due(NOW + 1_510, {PEER: True, OTHER: True}) == {PEER: [four]}
    assert pulls.take_due(NOW + 1_600, {PEER: True, OTHER: True}) == {OTHER: [TWO]}


def test_a_neighbour_whose_link_is_over_is_no_longer_remembered_for_what_it_told() -> None:
    """Who links under one name after the other and tells the same ids would fill the memory."""
    gossip = Gossip(Registry(PEER), Outgoing(), lambda peer: EMPTY, Random(1), has_url=True)
    pulls = gossip._pulls
    for number in range(20):
        eve = bytes([number]) * 32
        gossip.open(eve, "http://eve.test", (), NOW, asked=False)
        pulls.heard(ONE, eve, NOW)
        pulls.heard(TWO, OTHER, NOW)
        gossip.close(eve)

    holders = [missing.holders for one in (ONE, TWO) if (missing := pulls.arrived(one)) is not None]
    assert holders == [{}, {OTHER: None}]


def test_what_is_overdue_is_not_put_off_by_haste() -> None:
    pulls = Pulls(Random(1))
    pulls.heard(ONE, PEER, NOW)
    due_ms = pulls.wake_at
    assert due_ms is not None

    pulls.hasten(PEER, due_ms + 100)

    assert pulls.wake_at == due_ms


def test_an_answer_is_waited_for_four_round_trips_a_second_at_least_and_longer_after_failures() -> None:
    link = GossipLink(PEER, "http://peer.test", (), False, True, False, NOW, NOW)
    assert link.patience_ms() == 1_000  # nothing was measured yet
    for round_trip_ms, patience_ms in ((0, 1_000), (250, 1_000), (400, 1_600), (2_500, 10_000), (9_000, 10_000)):
        link.round_trip_ms = round_trip_ms
        assert link.patience_ms() == patience_ms

    link.round_trip_ms = 400
    for failures, patience_ms in enumerate((1_600, 3_200, 6_400, 10_000, 10_000, 10_000)):
        link.failures = failures
        assert link.patience_ms() == patience_ms
        assert link.patience_ms(first=True) == 1_600  # a pull goes to the next neighbour instead


def test_a_neighbour_that_refuses_everything_is_told_the_status_no_oftener_than_one_that_listens() -> None:
    registry, outgoing = Registry(PEER), Outgoing()
    gossip = Gossip(registry, outgoing, lambda peer: EMPTY, Random(1), has_url=True)
    gossip.open(THIRD, "", (), NOW, asked=False)
    gossip.tell([Entry(ONE, THIRD, Kind.NODE, "", 0, NOW, 400)], THIRD, NOW)  # so there is a parent
    gossip.open(OTHER, "http://other.test", (), NOW, asked=True)
    moments: list[int] = []
    now_ms: int | None = NOW
    while now_ms is not None and now_ms < NOW + 100_000:
        gossip.flush(now_ms)
        for effect in outgoing.drain():
            assert isinstance(effect, SendRequest)
            in_flight = outgoing.take(effect.request_id, effect.peer)
            assert in_flight is not None
            moments.append(now_ms)
            gossip.failed(in_flight, now_ms + 10)
        now_ms = max(now_ms + 10, gossip.wake_at or 0)

    waits_ms = [later - earlier for earlier, later in pairwise(moments)]
    assert waits_ms[:3] == [10, 1_010, 1_010]  # until a link is over if nothing was answered at all
    assert {*waits_ms[3:]} == {10_000}
