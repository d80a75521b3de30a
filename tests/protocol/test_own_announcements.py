"""A node's own voice: its order, reading back what it forgot, two nodes with one key, the node announcement."""

from dataclasses import replace

import pytest

from pfn_node.simulation.actor import Node
from pfn_node.simulation.network import Network
from pfn_node.simulation.world import MESH, START_MS, key_of, version_statement
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import Kind, MirrorStatement, NodeStatement
from pfn_protocol.events import PeerUnreachable, RequestReceived, StatementMade
from pfn_protocol.messages import GossipRequest, LinkRequest, SnapshotRequest


def linked_pair(network: Network) -> tuple[Node, Node]:
    alice, bob = network.node("alice"), network.node("bob")
    alice.pin(bob)
    alice.join(bob)
    network.elapse(seconds=5)
    return alice, bob


def push(to: Node, sender: Node, *raws: bytes) -> None:
    """A push arrives, as if the sender had made it."""
    token = to.network.reply_to(lambda answer: None)
    to.report(RequestReceived(token, sender.id, GossipRequest(raws, (), None, 0)))


def test_every_own_announcement_has_a_later_place_than_the_one_before() -> None:
    network = Network()
    bob = network.node("bob")

    for number in range(5):
        bob.sees(f"plugin-{number}")

    places = [(one.epoch, one.seq) for one in bob.announcements()]
    assert places == sorted(places) and len(set(places)) == 6
    assert {epoch for epoch, _ in places} == {bob.last[0]} and places[0][1] == START_MS
    assert bob.mesh.status().last == places[-1]


def test_a_node_alone_speaks_at_once() -> None:
    network = Network()
    bob = network.node("bob")

    bob.sees("hello")

    assert bob.has_seen("hello")


def test_after_a_start_statements_wait_until_the_own_order_is_read_back() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    bob.crash()
    bob.start()

    bob.sees("hello", content="first thought")
    bob.sees("hello", content="second thought")
    assert not bob.versions()
    network.elapse(seconds=3)

    assert [one.sha256 for one in bob.versions()] == [version_statement("hello", content="second thought").sha256]
    assert bob.requests(SnapshotRequest, alice)
    assert alice.has_seen("hello")


def test_a_node_restored_from_a_backup_keeps_again_what_it_forgot_and_goes_on_from_there() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    bob.sees("in-the-backup")
    network.elapse(seconds=1)
    backup, last = dict(bob.kept), bob.last
    bob.sees("after-the-backup", content="as released")
    network.elapse(seconds=1)
    newest = bob.last

    bob.crash()
    bob.kept, bob.last = backup, last
    bob.start()
    bob.sees("after-the-backup", content="changed")
    network.elapse(seconds=5)

    assert not bob.alerts and not alice.alerts
    own_node = next(one for one in bob.announcements() if (one.author, one.kind) == (bob.id, Kind.NODE))
    assert (own_node.epoch, own_node.seq) > newest
    assert len(alice.versions(bob)) == len(bob.versions()) == 3
    assert [bool(one.replaces) for one in bob.versions() if one.plugin_id == "after-the-backup"] == [False, True]
    assert network.agree()


def test_when_nobody_answers_the_node_goes_on_after_some_seconds_and_reads_back_at_the_next_link() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    bob.sees("forgotten")
    network.elapse(seconds=1)
    bob.crash()
    bob.kept = {one: kept for one, kept in bob.kept.items() if kept[0].kind is not Kind.VERSION}
    network.cut(alice, bob)
    bob.start()
    bob.sees("hello")
    network.elapse(seconds=4.5)
    assert not bob.versions()

    network.elapse(seconds=1)
    assert bob.has_seen("hello")
    network.heal()
    network.elapse(seconds=300)

    assert bob.has_seen("forgotten")
    assert not bob.alerts


def test_a_neighbour_that_does_not_answer_the_reading_back_is_replaced_by_another() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    bob.crash()
    bob.start()
    network.elapse_until(lambda: bool(bob.requests(SnapshotRequest, alice)), seconds=3)
    request = bob.requests(SnapshotRequest, alice)[-1]

    bob.report(PeerUnreachable(request.request_id, alice.id, "no answer in time"))
    bob.sees("hello")
    network.elapse(seconds=6)

    assert bob.has_seen("hello")


def test_what_was_said_is_read_back_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    alice, bob = linked_pair(network)
    for number in range(20):
        bob.sees(f"plugin-{number}")
    network.elapse(seconds=2)
    monkeypatch.setattr("pfn_protocol.pages.page_bytes_max", 2_000)

    bob.crash()
    bob.kept.clear()
    bob.start()
    network.elapse(seconds=5)

    assert len(bob.versions()) == 20
    assert len(bob.requests(SnapshotRequest, alice)) > 3


def test_another_node_with_the_same_key_silences_this_one_and_the_operator_is_told() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    twin = Node(network, "twin", "http://twin.test", bob.key)
    network.nodes["twin"] = twin
    network.elapse(seconds=5)

    twin.start()
    twin.sees("from-the-twin")
    push(bob, alice, *(one.raw for one in twin.announcements()))
    network.elapse(seconds=2)
    assert not bob.alerts  # it may have lost them
    beyond = announce(bob.key, MESH, version_statement("beyond"), bob.last[0] + 1, network.now_ms)
    push(bob, alice, beyond.raw)
    bob.sees("hello")
    bob.sees("hello-again")
    network.elapse(seconds=1_000)

    assert bob.alert_kinds() == ["two-nodes-one-key"]
    assert bob.mesh.status().muted
    assert not bob.has_seen("hello") and bob.has_seen("from-the-twin")


def test_what_was_lost_before_a_start_with_a_slow_clock_is_nobody_elses() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    bob.crash()
    bob.clock_ahead_ms = -60_000
    bob.start()
    network.elapse_until(lambda: alice.is_linked(bob), seconds=10)
    network.elapse(seconds=10)
    bob.clock_ahead_ms = 0
    lost = announce(bob.key, MESH, version_statement("lost"), bob.last[0] + 1, START_MS - 5_000)

    push(bob, alice, lost.raw)
    bob.sees("hello")
    network.elapse(seconds=20)

    assert bob.has_seen("lost") and bob.has_seen("hello")
    assert "two-nodes-one-key" not in bob.alert_kinds() and not bob.mesh.status().muted
    # It said at once that it goes on above what it had lost.
    assert max((one.epoch, one.seq) for one in alice.announcements() if one.author == bob.id) == bob.last
    assert bob.last > (lost.epoch, lost.seq)


def test_what_lies_in_the_future_is_no_sign_of_another_node_with_the_same_key() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    bob.crash()
    bob.start()
    network.elapse_until(lambda: alice.is_linked(bob), seconds=10)
    network.elapse(seconds=10)
    for number in range(3):
        ahead = network.now_ms + 3_600_000 * (number + 1)
        lost = announce(bob.key, MESH, version_statement(f"lost-{number}"), bob.last[0] + 10_000_000, ahead)
        push(bob, alice, lost.raw)
        bob.sees(f"hello-{number}")
        network.elapse(seconds=2)
        assert bob.last[0] > lost.epoch and bob.has_seen(f"hello-{number}")

    assert not bob.alerts


def test_old_own_announcements_that_come_back_are_kept_without_an_alert() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    bob.sees("hello")
    network.elapse(seconds=1)
    known = [one.raw for one in bob.announcements()]
    lost = announce(bob.key, MESH, version_statement("lost"), 0, START_MS - 5_000)

    push(bob, alice, *known, lost.raw)
    network.elapse(seconds=20)

    assert bob.has_seen("lost") and alice.has_seen("lost")
    assert not bob.alerts


def test_a_last_place_far_ahead_of_the_clock_begins_a_new_epoch() -> None:
    network = Network()
    bob = network.node("bob", clock_ahead_ms=10_000_000)
    wrong = bob.last
    bob.crash()
    bob.clock_ahead_ms = 0

    bob.start()
    bob.sees("hello")

    assert bob.last > wrong
    assert bob.last[1] == START_MS + 1


def test_an_own_announcement_from_the_future_moves_the_order_into_a_new_epoch() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    bob.crash()
    bob.start()
    ahead = bob.last[0] + 10_000_000
    future = announce(bob.key, MESH, version_statement("future"), ahead, network.now_ms + 3_600_000)
    network.elapse_until(lambda: alice.is_linked(bob), seconds=5)

    push(bob, alice, future.raw)
    bob.sees("hello")
    network.elapse(seconds=6)

    assert bob.last[0] > ahead
    assert bob.last[1] <= network.now_ms
    assert bob.has_seen("hello")


def test_an_own_announcement_from_the_future_comes_back_when_its_time_has_come() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    bob.crash()
    bob.start()
    future = announce(bob.key, MESH, version_statement("future"), bob.last[0], network.now_ms + 1_200_000)
    network.elapse_until(lambda: alice.is_linked(bob), seconds=5)

    push(alice, bob, future.raw)
    push(bob, alice, future.raw)
    network.elapse(seconds=20)
    assert not bob.has_seen("future")
    network.elapse(seconds=700)

    assert bob.has_seen("future")
    assert not bob.alerts


def test_a_node_without_a_url_announces_no_mirrors() -> None:
    network = Network()
    hub, leaf = network.node("hub"), network.node("leaf", polls=True)
    mirror = MirrorStatement("dev@pub.test", 1, bytes(32))

    hub.report(StatementMade(mirror))
    leaf.report(StatementMade(mirror))

    assert hub.statement_of(hub, Kind.MIRROR, "dev@pub.test") == mirror
    assert leaf.statement_of(leaf, Kind.MIRROR, "dev@pub.test") is None


def test_a_statement_that_nobody_would_accept_is_not_announced_and_the_operator_is_told() -> None:
    network = Network()
    bob = network.node("bob")
    long = replace(version_statement("hello"), name="x" * 1_000)

    bob.report(StatementMade(long))

    assert bob.alert_kinds() == ["statement-refused"]
    assert not bob.versions()


def test_more_than_a_node_may_announce_is_told_to_the_operator_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.admission.slots_pinned_max", 5)
    network = Network()
    bob = network.node("bob")

    for number in range(20):
        bob.sees(f"plugin-{number}")

    assert len(bob.versions()) == 5
    assert bob.alert_kinds() == ["too-many-announcements"]


def test_the_queue_of_a_starting_node_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.own_announcements.statements_waiting_max", 3)
    network = Network()
    _, bob = linked_pair(network)
    bob.crash()
    bob.start()

    for number in range(6):
        bob.sees(f"plugin-{number}")
    network.elapse(seconds=10)

    assert len(bob.versions()) == 3
    assert bob.alert_kinds() == ["too-many-statements"]


def test_the_node_announcement_names_url_pins_and_sponsored_nodes_and_summarises_the_rest() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    bob.sees("hello")
    carol = network.node("carol")
    bob.pin(carol)
    bob.pin(alice)
    network.elapse(seconds=2)

    statement = alice.statement_of(bob, Kind.NODE)

    assert isinstance(statement, NodeStatement)
    assert statement.url == "http://bob.test"
    assert statement.pins == tuple(sorted((alice.id, carol.id)))
    assert statement.sponsored == ()  # she is pinned now
    assert statement.count == 1


def test_changes_within_a_second_are_announced_once() -> None:
    network = Network()
    bob = network.node("bob")
    network.elapse(seconds=10)
    before = bob.last

    for number in range(10):
        bob.pin(network.node(f"other-{number}"))
    network.elapse(seconds=5)

    assert bob.last == (before[0], START_MS + 11_000)
    assert before < bob.last


def test_the_node_announcement_is_renewed_every_six_hours() -> None:
    network = Network()
    bob = network.node("bob")

    network.elapse(seconds=6 * 3_600)

    assert bob.last[1] == START_MS + 6 * 3_600_000


def test_sponsored_nodes_keep_their_places_over_a_restart() -> None:
    network = Network()
    alice, bob = network.node("alice"), network.node("bob")
    alice.join(bob)
    alice.sees("hello")
    network.elapse(seconds=5)
    assert bob.has_seen("hello")

    alice.crash()
    bob.crash()
    bob.start()
    network.elapse(seconds=20)

    assert bob.has_seen("hello")
    statement = bob.statement_of(bob, Kind.NODE)
    assert isinstance(statement, NodeStatement) and statement.sponsored == (alice.id,)


def test_at_most_three_neighbours_are_asked_for_the_own_past() -> None:
    network = Network()
    bob = network.node("bob")
    others = [network.node(f"other-{number}") for number in range(6)]
    for other in others:
        bob.join(other)
    network.elapse(seconds=5)
    bob.crash()
    before = len(bob.requests(SnapshotRequest))
    bob.start()

    network.elapse(seconds=10)

    assert len(bob.requests(LinkRequest)) >= 6
    assert len(bob.requests(SnapshotRequest)) - before == 3
    assert key_of("bob").public == bob.id
