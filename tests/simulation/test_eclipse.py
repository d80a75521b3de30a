"""A small number of the trials of `scripts/bench eclipse`."""

import pytest

from tests.benchmarks.eclipse import VARIANTS, Trial, Variant

# With 621, of the first thousand the only one, the joined node goes in the last minute, and nobody else was linked.
SEEDS = (*range(1, 6), 621)


@pytest.mark.parametrize("variant", [one for one in VARIANTS if one.bar is not None], ids=lambda one: one.name)
def test_a_node_among_four_times_as_many_attackers_keeps_an_honest_link_over_restarts(variant: Variant) -> None:
    outcomes = [Trial(variant, seed).play() for seed in SEEDS]

    assert [one.seed for one in outcomes if not one.kept_soon] == []
    assert [one.seed for one in outcomes if not one.has_news] == []
    assert sum(one.restarts for one in outcomes) >= 15 and sum(one.returns for one in outcomes) > 0
    assert sum(one.returns_kept for one in outcomes) == sum(one.returns for one in outcomes)
    assert max(one.worst_gap_minutes for one in outcomes) <= 15
