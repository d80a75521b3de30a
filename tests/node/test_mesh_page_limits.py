"""How much of its set a node reads out to others at a time, and in a day."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.artifacts import Artifacts
from pfn_node.mesh import page_limits
from pfn_node.mesh.admission import Admission, NotHeard
from pfn_node.mesh.bodies import Bodies
from pfn_node.mesh.incoming import Incoming
from pfn_node.mesh.page_limits import BYTES_A_DAY_MAX, PageLimits
from pfn_node.mesh.traffic import Traffic
from pfn_node.store.database import Database
from pfn_protocol.effects import SendAnswer
from pfn_protocol.events import RequestReceived
from pfn_protocol.identity import PrivateKey
from pfn_protocol.message_fields import ReceivedRequest, open_answer, seal_request
from pfn_protocol.messages import (
    AuthorsRequest,
    FetchRequest,
    IdsAnswer,
    IdsRequest,
    RefusedAnswer,
    Request,
    SnapshotRequest,
)

ME, ALICE, BOB, CAROL = (PrivateKey(bytes([number]) * 32) for number in range(1, 5))
NOW_MS = 1_900_000_000_000
DAY_MS = 86_400_000
IDS = IdsRequest(bytes(32), 10, b"")


class Desk:
    """Page limits whose clock and pins a test sets."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.pinned: set[bytes] = set()
        self.limits = PageLimits(is_pinned=self.pinned.__contains__, now_ms=lambda: self.now_ms)

    def serve(self, asker: PrivateKey, message: Request, size: int = 0) -> None:
        request = request_of(asker, message)
        with self.limits.place(request):
            pass
        self.limits.charge(request, size)

    def refusal(self, asker: PrivateKey, message: Request) -> NotHeard:
        with pytest.raises(NotHeard) as caught:
            self.serve(asker, message)
        return caught.value


def request_of(asker: PrivateKey, message: Request) -> ReceivedRequest:
    return ReceivedRequest(asker.public, bytes(16), message)


@pytest.mark.parametrize("message", [AuthorsRequest(b""), IDS, SnapshotRequest(b"", b"")])
def test_two_pages_are_prepared_at_a_time_and_the_third_asker_is_told_to_come_again(message: Request) -> None:
    desk = Desk()

    with desk.limits.place(request_of(ALICE, message)), desk.limits.place(request_of(BOB, IDS)):
        refusal = desk.refusal(CAROL, message)

    assert (refusal.status, refusal.rule) == (503, "busy")
    desk.serve(CAROL, message)


def test_one_asker_has_one_page_prepared_at_a_time() -> None:
    desk = Desk()

    with desk.limits.place(request_of(ALICE, IDS)):
        assert desk.refusal(ALICE, AuthorsRequest(b"")).status == 503
        desk.serve(BOB, IDS)


def test_what_is_no_page_needs_no_place() -> None:
    desk = Desk()

    with desk.limits.place(request_of(ALICE, IDS)), desk.limits.place(request_of(BOB, IDS)):
        desk.serve(CAROL, FetchRequest((bytes(32),)), BYTES_A_DAY_MAX)

    desk.serve(CAROL, IDS)


def test_a_place_is_free_again_when_the_answer_could_not_be_prepared() -> None:
    desk = Desk()

    for _ in range(3):
        with pytest.raises(LookupError), desk.limits.place(request_of(ALICE, IDS)):
            raise LookupError

    desk.serve(ALICE, IDS)


@pytest.mark.parametrize("message", [IDS, SnapshotRequest(b"", b"")])
def test_who_had_its_bytes_for_the_day_waits_until_some_come_back(message: Request) -> None:
    desk = Desk()
    desk.serve(ALICE, message, BYTES_A_DAY_MAX)

    refusal = desk.refusal(ALICE, message)

    assert (refusal.status, refusal.rule) == (429, "busy")
    desk.serve(BOB, message)
    desk.serve(ALICE, AuthorsRequest(b""))
    desk.now_ms += DAY_MS // 24
    desk.serve(ALICE, message, BYTES_A_DAY_MAX // 24)
    assert desk.refusal(ALICE, message).status == 429


def test_a_budget_never_grows_beyond_a_day_and_a_clock_that_is_set_back_takes_nothing() -> None:
    desk = Desk()
    desk.serve(ALICE, IDS, 1)
    desk.now_ms += 30 * DAY_MS
    desk.serve(ALICE, IDS, BYTES_A_DAY_MAX)
    assert desk.refusal(ALICE, IDS).status == 429

    desk.now_ms -= 60 * DAY_MS
    desk.serve(BOB, IDS, 1)
    desk.serve(BOB, IDS)


def test_pinned_nodes_have_no_budget() -> None:
    desk = Desk()
    desk.pinned.add(ALICE.public)

    for _ in range(3):
        desk.serve(ALICE, SnapshotRequest(b"", b""), BYTES_A_DAY_MAX)


def test_the_budgets_of_those_who_ask_no_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_limits, "BUDGETS_MAX", 1)
    desk = Desk()

    desk.serve(ALICE, IDS, BYTES_A_DAY_MAX)
    desk.serve(BOB, IDS, BYTES_A_DAY_MAX)

    assert desk.refusal(BOB, IDS).status == 429
    desk.serve(ALICE, IDS)


async def test_a_request_beyond_the_limits_is_refused_in_writing(tmp_path: Path, autojump_clock: MockClock) -> None:
    database = Database.open(tmp_path / "node.db", inline=True)
    received: list[RequestReceived] = []
    incoming = Incoming(
        key=ME,
        mesh="main",
        admission=Admission(
            me=ME.public, mesh="main", now_ms=lambda: NOW_MS, is_known=lambda _: True, is_blocked=lambda _: False
        ),
        pages=PageLimits(is_pinned=lambda _: False, now_ms=lambda: NOW_MS),
        bodies=Bodies(database),
        artifacts=Artifacts(tmp_path / "artifacts", 0),
        traffic=Traffic(),
        clock=lambda: NOW_MS / 1000,
        submit=received.append,
    )
    answers: dict[bytes, tuple[int, bytes]] = {}

    async def ask(asker: PrivateKey) -> None:
        raw = seal_request(asker, mesh="main", to=ME.public, message=IDS, now_ms=NOW_MS, nonce16=bytes(16))
        answers[asker.public] = await incoming.handle("ids", raw)

    async with trio.open_nursery() as nursery:
        for asker in (ALICE, BOB):
            nursery.start_soon(ask, asker)
        await trio.testing.wait_all_tasks_blocked()
        await ask(CAROL)
        for event in received:
            incoming.deliver(SendAnswer(event.token, IdsAnswer((), False)))
    database.close()

    status, body = answers[CAROL.public]
    refused = open_answer(body, mesh="main", nonce=bytes(16), sender_expected=ME.public, path="ids")
    assert status == 503
    assert isinstance(refused, RefusedAnswer) and refused.rule == "busy"
    assert [answers[asker.public][0] for asker in (ALICE, BOB)] == [200, 200]
