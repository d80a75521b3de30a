"""How a mesh spreads news, beside the goals: medians over several seeds, each printed, of whole simulated runs.

Every row is one goal under one kind of trouble. A figure is the median of the seeds; a run in which something happens
that must never happen fails the benchmark.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from pfn_node.simulation.figures import LARGE, Options, Report, warmup_for
from pfn_node.simulation.sweep import sweep

NODES = 1_000
SEEDS = 10

Row = dict[str, float | int | str]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What the mesh of a few goals goes through."""

    name: str
    loss: float
    churn: float


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure, and how great it may be at the most, or must be at the least."""

    trouble: Trouble
    figure: str
    bar: float
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        return value >= self.bar if self.at_least else value <= self.bar


NONE = Trouble("none", 0.0, 0.0)
DEATHS = Trouble("10 % die", 0.0, 0.1)
SOME = Trouble("5 % loss, 10 % die", 0.05, 0.1)
MUCH = Trouble("20 % loss, 10 % die", 0.2, 0.1)


def goals(nodes: int) -> list[Goal]:
    """The goals of the mesh, at this size."""
    return [
        Goal(NONE, "copies_per_node", 1.02),
        Goal(NONE, "hops_p99", 16 if nodes < LARGE else 20),
        Goal(DEATHS, "first_message_copies", 1.05),
        Goal(DEATHS, "first_message_delivery", 1.0, at_least=True),
        Goal(SOME, "copies_per_node", 1.15),
        Goal(MUCH, "delivery_after_push", 0.9999, at_least=True),
        Goal(MUCH, "delivery_after_one_reconciliation", 1.0, at_least=True),
    ]


def run(nodes: int = NODES, seeds: int = SEEDS, report: Callable[[str], object] = sys.stderr.write) -> list[Row]:
    """Measure; one row for each goal. `report` is told of each run when it has ended."""
    wanted = goals(nodes)
    played: dict[str, list[Report]] = {}
    for trouble in dict.fromkeys(goal.trouble for goal in wanted):
        options = Options(nodes, 1, warmup=warmup_for(nodes), loss=trouble.loss, churn=trouble.churn)
        for one, figures in sweep(options, seeds):
            report(f"{trouble.name}: seed {one.seed}, {figures.wall_seconds:.1f} s\n")
            assert not figures.violations, f"{figures.violations}: {one.replay}"
            played.setdefault(trouble.name, []).append(figures)
    return [_row(nodes, goal, played[goal.trouble.name]) for goal in wanted]


def _row(nodes: int, goal: Goal, reports: list[Report]) -> Row:
    values = [getattr(report, goal.figure) for report in reports]
    middle = median(values)
    return {
        "nodes": nodes,
        "trouble": goal.trouble.name,
        "figure": goal.figure,
        "median": round(middle, 6),
        "bar": f"{'>=' if goal.at_least else '<='} {goal.bar}",
        "met": "yes" if goal.is_met(middle) else "no",
        "seeds": " ".join(f"{value:.4f}".rstrip("0").rstrip(".") for value in values),
    }
