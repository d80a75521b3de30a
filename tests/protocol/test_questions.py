"""Questions over links: who is answered, what a page holds, and answers that nobody waited for."""

from random import Random

import pytest

from pfn_node.simulation.actor import Node
from pfn_node.simulation.faults import Faults
from pfn_node.simulation.network import Network
from pfn_node.simulation.world import START_MS, key_of
from pfn_protocol.events import AnswerReceived, CellsDecoded, PeerUnreachable, PrefixBuilt, RequestReceived
from pfn_protocol.link_secrets import LinkSecrets
from pfn_protocol.messages import (
    Answer,
    AuthorsAnswer,
    AuthorsRequest,
    CellsAnswer,
    FetchAnswer,
    FetchRequest,
    GossipAnswer,
    GossipRequest,
    HaveRequest,
    IdsAnswer,
    IdsRequest,
    LinkAnswer,
    LinkRequest,
    RefusedAnswer,
    Request,
    SnapshotAnswer,
    SnapshotRequest,
)
from pfn_protocol.outgoing import InFlight, Outgoing
from pfn_protocol.reconciliation import Reconciliation
from pfn_protocol.registry import Registry
from pfn_protocol.sketch import Cells


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


def test_questions_are_answered_over_links_only() -> None:
    network = Network()
    bob = network.node("bob")
    stranger = key_of("stranger").public

    for message in (GossipRequest((), (), None, 0), AuthorsRequest(b""), SnapshotRequest(b"", b""), HaveRequest(())):
        answer = ask(bob, stranger, message)[0]
        assert isinstance(answer, RefusedAnswer) and answer.rule == "R96"


def test_which_artifacts_are_here_is_not_asked_of_the_machine() -> None:
    network = Network()
    alice, bob = linked_pair(network)

    answer = ask(alice, bob.id, HaveRequest((bytes(32),)))[0]

    assert isinstance(answer, RefusedAnswer) and answer.rule == "R77"


def test_outcomes_of_requests_that_were_never_made_change_nothing() -> None:
    network = Network()
    alice, bob = linked_pair(network)

    alice.report(AnswerReceived(4_711, bob.id, LinkAnswer(True, 0, (), ())))
    alice.report(PeerUnreachable(4_711, bob.id, "no connection"))
    request = alice.requests(LinkRequest, bob)[0]
    alice.report(AnswerReceived(request.request_id, key_of("other").public, LinkAnswer(True, 0, (), ())))

    assert alice.is_linked(bob)


def test_an_answer_of_the_wrong_kind_counts_as_a_failure() -> None:
    network = Network()
    alice, bob = network.node("alice"), network.node("bob")
    network.cut(alice, bob)
    alice.join(bob)
    request = alice.requests(LinkRequest, bob)[0]

    alice.report(AnswerReceived(request.request_id, bob.id, GossipAnswer((), (), None)))

    view = alice.link(bob)
    assert view is not None and view.state == "unreachable"


def test_too_many_faulty_announcements_end_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    alice, bob = linked_pair(network)
    monkeypatch.setattr("pfn_protocol.known_peers.link_faults_max", 3)

    for number in range(3):
        ask(alice, bob.id, GossipRequest((b"rubbish %d" % number,), (), None, 0))
    assert alice.is_linked(bob)
    ask(alice, bob.id, GossipRequest((b"rubbish",), (), None, 0))

    assert not alice.is_linked(bob)
    assert isinstance(ask(alice, bob.id, LinkRequest(bob.url, (), ()))[0], RefusedAnswer)


def test_a_node_that_was_left_out_by_the_other_side_is_not_named_to_it() -> None:
    network = Network()
    alice, bob = linked_pair(network)
    carol = network.node("carol")
    bob.pin(carol)
    carol.join(bob)
    carol.sees("hello")
    network.elapse(seconds=10)
    ask(bob, alice.id, LinkRequest(alice.url, (), (carol.id,)))
    (of_carol,) = [one.id for one in bob.announcements() if one.author == carol.id and one.subject]

    fetched = ask(bob, alice.id, FetchRequest((of_carol,)))[0]
    snapshot = ask(bob, alice.id, SnapshotRequest(b"", b""))[0]
    everything = ask(bob, alice.id, SnapshotRequest(b"", carol.id))[0]
    ids = ask(bob, alice.id, IdsRequest(carol.id, 5_000, b""))[0]

    assert fetched == FetchAnswer((), (of_carol,))
    assert isinstance(snapshot, SnapshotAnswer) and snapshot.announcements
    assert everything == SnapshotAnswer((), b"")
    assert ids == IdsAnswer((), False)


def test_a_fetch_that_does_not_fit_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    alice, bob = linked_pair(network)
    for number in range(10):
        bob.sees(f"plugin-{number}")
    monkeypatch.setattr("pfn_protocol.pages.page_bytes_max", 1_500)

    answer = ask(bob, alice.id, FetchRequest(tuple(one.id for one in bob.announcements())))[0]

    assert isinstance(answer, FetchAnswer)
    assert 1 < len(answer.announcements) < 10
    assert not answer.missing


def test_what_did_not_fit_into_one_fetch_is_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.pages.page_bytes_max", 1_500)
    network = Network()
    alice, bob = network.node("alice", polls=True), network.node("bob")
    for number in range(30):
        bob.sees(f"plugin-{number}")

    alice.pin(bob)
    alice.join(bob)
    network.elapse(seconds=5)

    assert len(alice.versions(bob)) == 30
    assert len(alice.requests(FetchRequest)) > 5


def test_authors_and_ids_come_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.pages.authors_page_max", 2)
    monkeypatch.setattr("pfn_protocol.pages.ids_page_max", 4)
    network = Network()
    alice, bob = network.node("alice"), network.node("bob")
    others = [network.node(f"other-{number}", polls=True) for number in range(5)]
    bob.pin(*others)
    for other in others:
        other.join(bob)
    for number in range(20):
        bob.sees(f"plugin-{number}")
    network.elapse(seconds=10)

    alice.pin(bob)
    alice.join(bob)
    network.elapse(seconds=10)

    assert len(alice.versions(bob)) == 20
    assert network.agree(alice, bob)


def test_the_view_shows_how_each_link_does() -> None:
    network = Network()
    alice, bob = network.node("alice"), network.node("bob")
    bob.sees("before")
    alice.pin(bob)
    alice.join(bob)
    network.elapse(seconds=5)
    bob.sees("after")
    network.elapse(seconds=20)

    view, other_side = alice.link(bob), bob.link(alice)

    assert view is not None and other_side is not None
    assert (view.state, view.outbound, other_side.outbound) == ("linked", True, False)
    assert view.received >= 3 and other_side.sent >= 1
    assert view.differences_found >= 1
    assert view.round_trip_ms is not None and 10 <= view.round_trip_ms <= 100
    assert view.last_heard_ms is not None and network.now_ms - view.last_heard_ms < 11_000
    assert alice.mesh.trusted_via([bob.id]) == {bob.id: [alice.id]}
    assert alice.mesh.announced_by(bob.id) == 3
    assert (alice.mesh.status().authors, alice.mesh.status().parked) == (2, 0)


def test_of_two_hanging_requests_of_one_node_the_earlier_is_answered_at_once() -> None:
    network = Network()
    hub, leaf = network.node("hub"), network.node("leaf", polls=True)
    leaf.join(hub)
    network.elapse(seconds=5)

    earlier = ask(hub, leaf.id, GossipRequest((), (), None, 25))
    later = ask(hub, leaf.id, GossipRequest((), (), None, 25))

    assert len(earlier) == 1 and not later


def test_answers_to_a_round_that_is_over_change_nothing() -> None:
    registry, outgoing, bob = Registry(key_of("alice").public), Outgoing(), key_of("bob").public
    offers: list[bytes] = []
    reconciliation = Reconciliation(
        registry,
        outgoing,
        LinkSecrets(Random(1)),
        lambda peer, ids: offers.extend(ids),
        has_url=False,
    )
    reconciliation.open(bob, "http://bob.test", (), START_MS)
    stale = InFlight(1, bob, "http://bob.test", AuthorsRequest(b""), (), START_MS)

    reconciliation.answered_authors(stale, AuthorsAnswer((), False), START_MS)
    reconciliation.answered_ids(stale, IdsAnswer((), False), START_MS)
    reconciliation.answered_cells(stale, CellsAnswer(b"", 0, bytes(32)), START_MS)
    reconciliation.answered_snapshot(stale, bytes(32), {bytes(32): True}, START_MS)
    reconciliation.fetched(stale, (), {}, START_MS)
    reconciliation.failed(stale, "", START_MS)
    reconciliation.computed(PrefixBuilt(1, Cells(0)), START_MS)
    reconciliation.computed(CellsDecoded(1, None), START_MS)

    assert not offers
    assert outgoing.drain() == [] and reconciliation.wake_at is None


def test_a_newcomer_takes_a_snapshot_and_then_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    alice, bob = network.node("alice"), network.node("bob")
    for number in range(300):
        bob.sees(f"plugin-{number}")

    alice.pin(bob)
    alice.join(bob)
    network.elapse(seconds=10)

    assert len(alice.versions(bob)) == 300
    messages = [one.message for one in alice.requests(SnapshotRequest, bob)]
    assert len([one for one in messages if isinstance(one, SnapshotRequest) and not one.author]) == 2
    assert network.agree(alice, bob)


def test_what_comes_after_the_link_was_closed_is_taken_in_all_the_same() -> None:
    network = Network(faults=Faults(delay_ms=(500, 500)))
    alice, bob = network.node("alice"), network.node("bob")
    bob.sees("hello")
    alice.pin(bob)
    alice.join(bob)
    network.elapse_until(lambda: bool(alice.requests(SnapshotRequest, bob)), seconds=30)

    alice.block(bob)
    network.elapse(seconds=3)

    assert not alice.is_linked(bob)
