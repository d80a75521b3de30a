"""How much of its set a node reads out to others at a time, and in a day."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.mesh import page_limits
from pfn_node.mesh.admission import Admission, NotHeard
from pfn_node.mesh.bodies import Bodies
from pfn_node.mesh.incoming import Incoming
from pfn_node.mesh.page_limits import BYTES_A_DAY_MAX, OF_ONE_ASKER_MAX, WAIT_SECONDS_MAX, PageLimits
from pfn_node.mesh.traffic import Traffic
from pfn_node.store.database import Database
from pfn_protocol.effects import SendAnswer
from pfn_protocol.events import RequestReceived
from pfn_protocol.identity import PrivateKey
from pfn_protocol.message_fields import ReceivedRequest, open_answer, seal_request
from pfn_protocol.messages import (
    AuthorsRequest,
    CellsRequest,
    FetchRequest,
    IdsAnswer,
    IdsRequest,
    RefusedAnswer,
    Request,
    SnapshotRequest,
)
from tests.node.mirrors import no_mirrors

ME, ALICE, BOB, CAROL = (PrivateKey(bytes([number]) * 32) for number in range(1, 5))
NOW_MS = 1_900_000_000_000
DAY_MS = 86_400_000
IDS = IdsRequest(bytes(32), 10, b"")
CELLS = CellsRequest("", bytes(4), bytes(8), 0, 32)


class Desk:
    """Page limits whose clock and pins a test sets."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.pinned: set[bytes] = set()
        self.limits = PageLimits(is_pinned=self.pinned.__contains__, now_ms=lambda: self.now_ms)

    async def serve(self, asker: PrivateKey, message: Request, size: int = 0) -> None:
        request = request_of(asker, message)
        async with self.limits.place(request):
            pass
        self.limits.charge(request, size)

    async def refusal(self, asker: PrivateKey, message: Request) -> NotHeard:
        with pytest.raises(NotHeard) as caught:
            await self.serve(asker, message)
        return caught.value

    async def hold(self, asker: PrivateKey, *, task_status: trio.TaskStatus[trio.Event]) -> None:
        """Hold a place until the event is set."""
        async with self.limits.place(request_of(asker, IDS)):
            let_go = trio.Event()
            task_status.started(let_go)
            await let_go.wait()


def request_of(asker: PrivateKey, message: Request) -> ReceivedRequest:
    return ReceivedRequest(asker.public, bytes(16), message)


PAGES: list[Request] = [AuthorsRequest(b""), IDS, SnapshotRequest(b"", b"")]


@pytest.mark.parametrize("message", PAGES)
async def test_two_pages_are_prepared_at_a_time_and_the_third_asker_gets_its_page_after_one_of_them(
    message: Request, autojump_clock: MockClock
) -> None:
    desk = Desk()
    served: list[bytes] = []

    async def third() -> None:
        await desk.serve(CAROL, message)
        served.append(CAROL.public)

    async with trio.open_nursery() as nursery:
        first: trio.Event = await nursery.start(desk.hold, ALICE)
        second: trio.Event = await nursery.start(desk.hold, BOB)
        nursery.start_soon(third)
        await trio.testing.wait_all_tasks_blocked()
        before = list(served)
        first.set()
        await trio.testing.wait_all_tasks_blocked()
        after = list(served)
        second.set()

    assert (before, after) == ([], [CAROL.public])


@pytest.mark.parametrize("message", PAGES)
async def test_who_waited_in_vain_is_told_to_come_again(message: Request, autojump_clock: MockClock) -> None:
    desk = Desk()

    async with trio.open_nursery() as nursery:
        held: list[trio.Event] = [await nursery.start(desk.hold, asker) for asker in (ALICE, BOB)]
        began = trio.current_time()
        refusal = await desk.refusal(CAROL, message)
        waited = trio.current_time() - began
        for let_go in held:
            let_go.set()

    assert (refusal.status, refusal.rule) == (503, "busy")
    assert waited == pytest.approx(WAIT_SECONDS_MAX)
    await desk.serve(CAROL, message)


async def test_one_asker_has_one_page_prepared_at_a_time_and_a_second_waits_for_it(autojump_clock: MockClock) -> None:
    desk = Desk()

    async with trio.open_nursery() as nursery:
        held: trio.Event = await nursery.start(desk.hold, ALICE)
        nursery.start_soon(desk.serve, ALICE, AuthorsRequest(b""))
        await trio.testing.wait_all_tasks_blocked()
        await desk.serve(BOB, IDS)
        held.set()


async def test_an_asker_with_too_many_questions_is_refused_at_once(autojump_clock: MockClock) -> None:
    desk = Desk()

    async with trio.open_nursery() as nursery:
        held: trio.Event = await nursery.start(desk.hold, ALICE)
        for _ in range(OF_ONE_ASKER_MAX - 1):
            nursery.start_soon(desk.serve, ALICE, IDS)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        refusal = await desk.refusal(ALICE, IDS)
        waited = trio.current_time() - began
        held.set()

    assert (refusal.status, waited) == (503, 0)
    await desk.serve(ALICE, IDS)


async def test_only_so_many_wait(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_limits, "ASKED_AT_ONCE_MAX", 2)
    desk = Desk()

    async with trio.open_nursery() as nursery:
        held: list[trio.Event] = [await nursery.start(desk.hold, asker) for asker in (ALICE, BOB)]
        refusal = await desk.refusal(CAROL, IDS)
        for let_go in held:
            let_go.set()

    assert refusal.status == 503


async def test_strangers_who_ask_without_end_take_no_place_from_a_pinned_node(autojump_clock: MockClock) -> None:
    desk = Desk()
    desk.pinned.add(CAROL.public)

    async with trio.open_nursery() as nursery:
        held: list[trio.Event] = [await nursery.start(desk.hold, asker) for asker in (ALICE, BOB)]
        began = trio.current_time()
        await desk.serve(CAROL, IDS)
        waited = trio.current_time() - began
        for let_go in held:
            let_go.set()

    assert waited == 0


async def test_an_honest_stranger_gets_its_turn_among_strangers_who_ask_without_end(autojump_clock: MockClock) -> None:
    desk = Desk()

    async def ask_without_end(asker: PrivateKey) -> None:
        while True:
            async with desk.limits.place(request_of(asker, IDS)):
                await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        for asker in (ALICE, BOB):
            for _ in range(OF_ONE_ASKER_MAX):
                nursery.start_soon(ask_without_end, asker)
        await trio.sleep(0.05)
        for _ in range(20):
            await desk.serve(CAROL, IDS)
        nursery.cancel_scope.cancel()


async def test_what_is_no_page_needs_no_place(autojump_clock: MockClock) -> None:
    desk = Desk()

    async with trio.open_nursery() as nursery:
        held: list[trio.Event] = [await nursery.start(desk.hold, asker) for asker in (ALICE, BOB)]
        began = trio.current_time()
        await desk.serve(CAROL, FetchRequest((bytes(32),)), BYTES_A_DAY_MAX)
        await desk.serve(CAROL, CELLS)  # it waits in the machine until they are made
        waited = trio.current_time() - began
        for let_go in held:
            let_go.set()

    assert waited == 0
    await desk.serve(CAROL, IDS)


async def test_a_place_is_free_again_when_the_answer_could_not_be_prepared(autojump_clock: MockClock) -> None:
    desk = Desk()

    for _ in range(4):
        with pytest.raises(LookupError):
            async with desk.limits.place(request_of(ALICE, IDS)):
                raise LookupError

    await desk.serve(ALICE, IDS)


@pytest.mark.parametrize("message", [CELLS, IDS, SnapshotRequest(b"", b"")])
async def test_who_had_its_bytes_for_the_day_waits_until_some_come_back(message: Request) -> None:
    desk = Desk()
    await desk.serve(ALICE, message, BYTES_A_DAY_MAX)

    refusal = await desk.refusal(ALICE, message)

    assert (refusal.status, refusal.rule) == (429, "busy")
    await desk.serve(BOB, message)
    await desk.serve(ALICE, AuthorsRequest(b""))
    desk.now_ms += DAY_MS // 24
    await desk.serve(ALICE, message, BYTES_A_DAY_MAX // 24)
    assert (await desk.refusal(ALICE, message)).status == 429


async def test_pages_with_next_to_nothing_on_them_are_charged_too_and_cells_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page_limits, "BYTES_A_DAY_MAX", 10 * page_limits.PAGE_BYTES_MIN)
    desk = Desk()
    for _ in range(10):
        await desk.serve(ALICE, SnapshotRequest(b"", b""), 100)
        await desk.serve(BOB, CELLS, 100)

    assert (await desk.refusal(ALICE, IDS)).status == 429
    await desk.serve(BOB, CELLS)


async def test_a_budget_never_grows_beyond_a_day_and_a_clock_that_is_set_back_takes_nothing() -> None:
    desk = Desk()
    await desk.serve(ALICE, IDS, 1)
    desk.now_ms += 30 * DAY_MS
    await desk.serve(ALICE, IDS, BYTES_A_DAY_MAX)
    assert (await desk.refusal(ALICE, IDS)).status == 429

    desk.now_ms -= 60 * DAY_MS
    await desk.serve(BOB, IDS, 1)
    await desk.serve(BOB, IDS)


async def test_who_had_its_bytes_before_the_clock_was_set_back_gets_more_as_soon_as_anybody() -> None:
    desk = Desk()
    await desk.serve(ALICE, IDS, BYTES_A_DAY_MAX + 1)
    desk.now_ms -= 30 * DAY_MS
    assert (await desk.refusal(ALICE, IDS)).status == 429

    desk.now_ms += DAY_MS // 24

    await desk.serve(ALICE, IDS)


async def test_pinned_nodes_have_no_budget() -> None:
    desk = Desk()
    desk.pinned.add(ALICE.public)

    for _ in range(3):
        await desk.serve(ALICE, SnapshotRequest(b"", b""), BYTES_A_DAY_MAX)


async def test_the_budgets_of_those_who_ask_no_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_limits, "BUDGETS_MAX", 1)
    desk = Desk()

    await desk.serve(ALICE, IDS, BYTES_A_DAY_MAX)
    await desk.serve(BOB, IDS, BYTES_A_DAY_MAX)

    assert (await desk.refusal(BOB, IDS)).status == 429
    await desk.serve(ALICE, IDS)


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
        mirror_cells=no_mirrors,
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
