"""Places for requests: who waits for whom, and for how long."""

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from pfn_node.outbound_limits import (
    DOWNLOADS_MAX,
    REQUESTS_MAX,
    SLOW_AFTER_SECONDS,
    Places,
    RequestSlots,
)


async def _hold(places: Places, name: str, seconds: float, order: list[str]) -> None:
    async with places.one():
        order.append(name)
        await trio.sleep(seconds)


async def test_requests_that_hang_do_not_keep_others_waiting(autojump_clock: MockClock) -> None:
    slots = RequestSlots()

    async def ask(origin: str, seconds: float, *, is_download: bool) -> None:
        async with slots.one(origin, is_download=is_download):
            await trio.sleep(seconds)

    async with trio.open_nursery() as nursery:
        for number in range(REQUESTS_MAX):
            is_download = number < DOWNLOADS_MAX
            nursery.start_soon(partial(ask, f"hangs-{number}.example", 600, is_download=is_download))
        await trio.testing.wait_all_tasks_blocked()
        started = trio.current_time()

        await ask("honest.example", 0, is_download=True)
        await ask("honest.example", 0, is_download=False)

        assert trio.current_time() - started <= SLOW_AFTER_SECONDS
        nursery.cancel_scope.cancel()
    assert slots.origins == 0


async def test_places_are_taken_in_the_order_of_asking(autojump_clock: MockClock) -> None:
    places, order = Places(1, 0), list[str]()
    async with trio.open_nursery() as nursery:
        for name in "abcd":
            nursery.start_soon(_hold, places, name, 5, order)
            await trio.testing.wait_all_tasks_blocked()

    assert order == ["a", "b", "c", "d"]
    assert trio.current_time() == 20


async def test_the_slow_ones_are_bounded_too_and_make_room_when_they_end(autojump_clock: MockClock) -> None:
    places, order = Places(1, 2), list[str]()
    async with trio.open_nursery() as nursery:
        for number, name in enumerate("abcd"):
            nursery.start_soon(_hold, places, name, 10 + number, order)
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(9)
        assert order == ["a", "b", "c"]  # two slow ones and a quick one that is slow as well

        await trio.sleep(2)
        assert order == ["a", "b", "c", "d"]


async def test_who_stops_waiting_takes_no_place(autojump_clock: MockClock) -> None:
    places, order = Places(1, 0), list[str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hold, places, "a", 10, order)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(3):
            await _hold(places, "b", 1, order)
        await _hold(places, "c", 1, order)

    assert order == ["a", "c"]
    assert trio.current_time() == pytest.approx(11)
