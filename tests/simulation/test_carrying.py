"""How messages travel: their bytes are exact without being made, and what breaks on the way has one outcome."""

import pytest

from pfn_node.simulation.actor import Node
from pfn_node.simulation.agenda import Agenda
from pfn_node.simulation.carrying import Plain
from pfn_node.simulation.faults import Faults
from pfn_node.simulation.measuring import is_of_push
from pfn_node.simulation.message_bytes import MessageBytes
from pfn_node.simulation.network import REQUESTS_WAITING_MAX, Network
from pfn_node.simulation.world import MESH, START_MS, InvariantBroken, key_of, version_statement
from pfn_protocol.acceptance import announce
from pfn_protocol.effects import SendAnswer, SendRequest
from pfn_protocol.errors import Parked, Refusal
from pfn_protocol.events import AnswerReceived, Event, PeerUnreachable, RequestReceived
from pfn_protocol.message_fields import seal_answer, seal_request
from pfn_protocol.messages import (
    Answer,
    AuthorsAnswer,
    AuthorsRequest,
    AuthorSummary,
    CellsAnswer,
    CellsRequest,
    FetchAnswer,
    FetchRequest,
    GossipAnswer,
    GossipRequest,
    HaveAnswer,
    HaveRequest,
    IdsAnswer,
    IdsRequest,
    LinkAnswer,
    LinkRequest,
    PeerAddress,
    RefusedAnswer,
    Request,
    SetStatus,
    SnapshotAnswer,
    SnapshotRequest,
)

ALICE, BOB = key_of("alice"), key_of("bob")
IDS = tuple(sorted(bytes([number]) * 32 for number in range(40)))
BODIES = tuple(announce(ALICE, MESH, version_statement("x" * n), 0, START_MS + n).raw for n in range(1, 30))
VIEW = tuple(PeerAddress(key_of(name).public, f"http://{name}.test") for name in ("carol", "dave"))

REQUESTS: list[Request] = [
    *(GossipRequest(BODIES[:n], IDS[:m], None, 0, IDS[:k]) for n in (0, 1, 20) for m in (0, 1, 20) for k in (0, 2)),
    *(GossipRequest((), (), SetStatus(count, IDS[0]), 25, graft=True) for count in (0, 127, 128, 70_000)),
    FetchRequest(IDS), FetchRequest(()), FetchRequest((IDS[0][:16],)),
    LinkRequest("", (), ()), LinkRequest("http://alice.test", VIEW, IDS[:2], IDS[3], bytes(16), compare_only=True),
    AuthorsRequest(b"", tuple((one, 5_000) for one in IDS)), AuthorsRequest(IDS[0], (), is_last=True),
    IdsRequest(IDS[0], 5_000, b""), CellsRequest("", bytes(4), bytes(8), 32, 300),
    SnapshotRequest(b"", IDS[0]), HaveRequest(IDS[:3]),
]  # fmt: skip
ANSWERS: list[Answer] = [
    *(GossipAnswer(BODIES[:n], IDS[:m], None, prune=n > 1) for n in (0, 1, 20) for m in (0, 20)),
    *(GossipAnswer((), (), SetStatus(count, IDS[0])) for count in (0, 127, 128, 70_000)),
    FetchAnswer(BODIES[:2], IDS[:1]), LinkAnswer(True, 0, VIEW, ()), LinkAnswer(False, 300, (), IDS[:1]),
    AuthorsAnswer(tuple(AuthorSummary(one, 5_000, 3, IDS[0]) for one in IDS), more=True),
    IdsAnswer(tuple(one[:16] for one in IDS), more=False),
    CellsAnswer(bytes(21 * 30), 1_000, IDS[0]), SnapshotAnswer(BODIES, IDS[0]),
    HaveAnswer(IDS[:3]), RefusedAnswer("R77", "no", START_MS),
]  # fmt: skip


def test_the_bytes_of_every_kind_of_message_are_those_of_the_wire() -> None:
    sizes = MessageBytes()

    for _ in range(2):  # learned, then remembered
        for request in REQUESTS:
            sealed = seal_request(ALICE, mesh=MESH, to=BOB.public, message=request, now_ms=START_MS, nonce16=bytes(16))
            assert sizes.of_request(request) == len(sealed), request
        for answer in ANSWERS:
            assert sizes.of_answer(answer) == len(seal_answer(ALICE, mesh=MESH, nonce=bytes(16), message=answer)), (
                answer
            )


def test_shapes_beyond_what_is_remembered_are_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_node.simulation.message_bytes._SHAPES_MAX", 2)
    sizes = MessageBytes()

    for count in (1, 200, 70_000, 1):
        message = GossipRequest((), (), SetStatus(count, IDS[0]), 0)
        sealed = seal_request(ALICE, mesh=MESH, to=BOB.public, message=message, now_ms=START_MS, nonce16=bytes(16))
        assert sizes.of_request(message) == len(sealed)


def test_an_announcement_is_opened_once_for_all_and_judged_by_every_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_node.simulation.carrying._VERIFIED_MAX", 1)
    carrying = Plain()

    first = carrying.accept(BODIES[0], mesh=MESH, now_ms=START_MS)

    assert carrying.accept(BODIES[0], mesh=MESH, now_ms=START_MS + 1) is first
    with pytest.raises(Parked):
        carrying.accept(BODIES[0], mesh=MESH, now_ms=START_MS - 3_600_000)
    with pytest.raises(Refusal):
        carrying.accept(BODIES[0][:-1], mesh=MESH, now_ms=START_MS)
    assert carrying.accept(BODIES[1], mesh=MESH, now_ms=START_MS).raw == BODIES[1]
    assert carrying.accept(BODIES[0], mesh=MESH, now_ms=START_MS) == first


def pair(*, sealed: bool = False, faults: Faults | None = None) -> tuple[Network, Node, Node]:
    """Two nodes that are linked."""
    network = Network(sealed=sealed, faults=faults)
    alice, bob = network.node("alice"), network.node("bob")
    alice.pin(bob)
    bob.pin(alice)
    alice.join(bob)
    network.elapse_until(lambda: alice.is_linked(bob) and bob.is_linked(alice), seconds=10)
    return network, alice, bob


def test_plain_messages_bring_everything_that_sealed_ones_bring() -> None:
    network, alice, bob = pair()
    alice.sees("hello")

    network.elapse_until(lambda: bob.has_seen("hello"), seconds=5)
    network.elapse_until(network.agree, seconds=60)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_request_that_arrives_twice_is_heard_once(sealed: bool) -> None:
    network, alice, bob = pair(sealed=sealed, faults=Faults(duplication=1.0))
    before = len(bob.answers)
    alice.sees("hello")

    network.elapse(seconds=3)

    assert bob.has_seen("hello")
    assert len(bob.answers) - before <= len(alice.sent)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_node_that_was_restarted_hears_what_is_repeated_to_it(sealed: bool) -> None:
    network, alice, bob = pair(sealed=sealed)
    network.faults = Faults(duplication=1.0, delay_ms=(500, 501))
    alice.perform([SendRequest(10_000, bob.id, bob.url, FetchRequest(()))])
    network.elapse(seconds=0.5)
    answers = len(bob.answers)
    network.faults = Faults()

    bob.crash()
    bob.start()
    network.elapse(seconds=0.002)

    assert len(bob.answers) == answers + 1  # to nobody


def test_one_who_sits_at_the_url_of_another_is_not_believed() -> None:
    network, alice, bob = pair()
    bob.crash()
    thief = network.node("thief")
    bob.url, thief.url = "http://elsewhere.test", "http://bob.test"
    answered, heard = len(thief.answers), len(thief.kept)

    alice.sees("hello")
    network.elapse(seconds=30)

    assert len(thief.answers) == answered and len(thief.kept) == heard
    assert not alice.is_linked(thief)


def test_a_node_with_more_requests_than_it_can_hold_is_busy_and_the_others_wait_their_turn() -> None:
    network, alice, bob = pair()
    asked = REQUESTS_WAITING_MAX + 100
    answers = len(bob.answers)

    alice.perform([SendRequest(10_000 + n, bob.id, bob.url, FetchRequest(())) for n in range(asked)])
    network.elapse(seconds=0.3)
    assert len(bob.answers) - answers < REQUESTS_WAITING_MAX  # some still wait
    network.elapse(seconds=1)

    assert 1 <= len(bob.answers) - answers - REQUESTS_WAITING_MAX < 20


def test_a_crash_empties_the_queue_of_those_who_wait() -> None:
    network, alice, bob = pair()
    answers = len(bob.answers)
    alice.perform([SendRequest(10_000 + n, bob.id, bob.url, FetchRequest(())) for n in range(500)])
    network.elapse_until(lambda: len(bob.answers) > answers + 20, seconds=1)

    bob.crash()
    bob.start()
    answers = len(bob.answers)
    network.elapse(seconds=0.04)

    assert len(bob.answers) - answers < 5


def test_whoever_is_gone_with_its_machine_lets_others_wait_in_vain() -> None:
    network, alice, bob = pair()
    bob.crash(silently=True)
    now_ms = network.now_ms
    alice.perform([SendRequest(10_000, bob.id, bob.url, FetchRequest(()))])

    network.elapse(seconds=1)

    assert network.now_ms == now_ms + 1_000
    assert alice.is_linked(bob)


def test_an_answer_that_comes_after_its_time_is_none() -> None:
    network, alice, bob = pair()
    network.faults, network.answer_ms_max = Faults(delay_ms=(600, 600)), 1_000
    events: list[Event] = []
    report = alice.report

    def recorded(event: Event) -> None:
        events.append(event)
        report(event)

    alice.report = recorded  # type: ignore[method-assign]
    answers = len(bob.answers)

    alice.perform([SendRequest(10_000, bob.id, bob.url, FetchRequest(()))])
    network.elapse(seconds=2)

    assert len(bob.answers) > answers
    outcomes = [event for event in events if isinstance(event, AnswerReceived | PeerUnreachable)]
    assert [one for one in outcomes if one.request_id == 10_000] == [
        PeerUnreachable(10_000, bob.id, "no answer in time")
    ]


def test_an_answer_that_cannot_carry_bodies_carries_none() -> None:
    network, alice, _ = pair()
    alice.sees("hello")
    token = network.reply_to(lambda _: None)

    with pytest.raises(InvariantBroken, match="no other answer"):
        alice.perform([SendAnswer(token, HaveAnswer(()), tuple(alice.kept)[:1])])


def fetches(node: Node) -> list[tuple[FetchRequest, bool]]:
    """What it fetched, and whether that counts as a part of the push."""
    messages = [one.message for one in node.requests(FetchRequest)]
    return [(one, is_of_push(one)) for one in messages if isinstance(one, FetchRequest) and one.ids]


def test_a_fetch_of_a_round_is_no_pull() -> None:
    network, alice, bob = pair()
    network.cut(alice, bob)
    for number in range(3):
        alice.sees(f"plugin-{number}")
    network.elapse(seconds=30)
    alice.sent.clear()
    bob.sent.clear()

    network.heal()
    network.elapse_until(network.agree, seconds=600)

    fetched = fetches(alice) + fetches(bob)
    assert fetched and not any(of_push for _, of_push in fetched)
    assert bob.requests(CellsRequest) or alice.requests(CellsRequest)


def test_a_pull_is_no_fetch_of_a_round() -> None:
    network, alice, bob = pair()
    missing = announce(key_of("bob"), MESH, version_statement("other"), 0, START_MS + 99_999)
    token = network.reply_to(lambda _: None)

    alice.report(RequestReceived(token, bob.id, GossipRequest((), (missing.id,), None, 0)))
    network.elapse(seconds=5)

    assert (FetchRequest((missing.id,)), True) in fetches(alice)


def test_what_is_put_into_a_millisecond_that_has_passed_happens_at_once() -> None:
    agenda = Agenda(1_000)
    happened: list[int] = []
    agenda.put(1_010, lambda _: agenda.put(1_005, lambda _: happened.append(agenda.now_ms), None), None)

    assert agenda.pass_until(1_020, 100)

    assert (happened, agenda.now_ms, agenda.events) == ([1_010], 1_020, 2)


def test_time_stops_after_so_many_events() -> None:
    agenda = Agenda(0)
    for moment in (1, 2, 3):
        agenda.put(moment, lambda _: None, None)

    assert not agenda.pass_until(10, 2)
    assert (agenda.now_ms, agenda.events) == (2, 2)
    assert agenda.pass_until(10, 2)
