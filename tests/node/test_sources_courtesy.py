"""What can wait gives way to what cannot, one thing after the other."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from pfn_node.sources.courtesy import PASS_SECONDS_MAX, PAUSE_SECONDS, PAUSES_MAX, Courtesy


@pytest.fixture
def others_take(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> Callable[[float, int], None]:
    """Let the next so many passes of the event loop take so long."""
    checkpoint = trio.lowlevel.checkpoint
    left = [0, 0.0]

    async def pass_by() -> None:
        await checkpoint()
        if left[0]:
            left[0] -= 1
            autojump_clock.jump(left[1])

    monkeypatch.setattr(trio.lowlevel, "checkpoint", pass_by)

    def take(seconds: float, passes: int) -> None:
        left[:] = [passes, seconds]

    return take


async def test_nobody_waits_where_there_is_time(mock_clock: MockClock) -> None:
    began = trio.current_time()
    for _ in range(100):
        await Courtesy().give_way()
    assert trio.current_time() == began


async def test_a_busy_event_loop_is_given_time(
    autojump_clock: MockClock, others_take: Callable[[float, int], None]
) -> None:
    long = 2 * PASS_SECONDS_MAX
    others_take(long, 3)
    began = trio.current_time()
    await Courtesy().give_way()
    assert trio.current_time() - began == pytest.approx(3 * (long + PAUSE_SECONDS))


async def test_where_there_is_never_time_everything_goes_on_all_the_same(
    autojump_clock: MockClock, others_take: Callable[[float, int], None]
) -> None:
    others_take(1.0, 1_000)
    began = trio.current_time()
    await Courtesy().give_way()
    assert trio.current_time() - began == pytest.approx(PAUSES_MAX * (1.0 + PAUSE_SECONDS))


async def test_one_goes_on_after_the_other(
    autojump_clock: MockClock, others_take: Callable[[float, int], None]
) -> None:
    polite, began, at = Courtesy(), trio.current_time(), list[float]()

    async def work() -> None:
        await polite.give_way()
        at.append(trio.current_time() - began)

    others_take(1.0, 4 * PAUSES_MAX)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(work)
    turn = PAUSES_MAX * (1.0 + PAUSE_SECONDS)
    assert at == pytest.approx([turn, 2 * turn, 3 * turn, 4 * turn])
