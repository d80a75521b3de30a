"""When a provisional digest is looked at again: the share, the moments, and what a dispute changes."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfn_protocol.limits import refetch_disputed_seconds_max, refetch_seconds_max
from pfn_protocol.refetching import Draw, plan_disputed, plan_refetch, refetch_share

NOW = 1_800_000_000.0
numbers = st.floats(0, 1, exclude_max=True)
draws = st.builds(Draw, numbers, numbers)


@pytest.mark.parametrize(
    ("holders", "share"), [(0, 1), (1, 1), (5, 1), (10, 0.5), (20, 0.25), (50, 0.1), (10_000, 0.1)]
)
def test_about_five_of_all_holders_look_again_and_never_less_than_a_tenth(holders: int, share: float) -> None:
    assert refetch_share(holders) == pytest.approx(share)


@given(st.integers(0, 10_000), draws)
def test_who_looks_again_does_so_within_a_day(holders: int, draw: Draw) -> None:
    due = plan_refetch(holders, NOW, draw)

    assert (due is None) == (draw.whether >= refetch_share(holders))
    assert due is None or NOW <= due <= NOW + refetch_seconds_max


@given(st.none() | st.floats(NOW - 86_400, NOW + 86_400), draws)
def test_after_a_dispute_everybody_looks_within_the_hour_or_as_early_as_planned(
    planned: float | None, draw: Draw
) -> None:
    due = plan_disputed(planned, NOW, draw)

    assert due <= NOW + refetch_disputed_seconds_max < NOW + 3_600
    assert planned is None or due <= planned


def test_of_five_nodes_all_look_and_of_fifty_about_five_at_moments_spread_over_the_day() -> None:
    rng = random.Random(7)
    fifty = [plan_refetch(50, NOW, Draw(rng.random(), rng.random())) for _ in range(10_000)]
    moments = [due - NOW for due in fifty if due is not None]

    assert all(plan_refetch(5, NOW, Draw(rng.random(), rng.random())) is not None for _ in range(100))
    assert math.isclose(len(moments) / 10_000, 0.1, abs_tol=0.01)
    assert math.isclose(sum(moments) / len(moments), refetch_seconds_max / 2, rel_tol=0.05)
