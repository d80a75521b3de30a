"""When a node looks again, at the publisher, at bytes that it holds on the word of others (R155).

A metadata signature does not cover the file, so one trusted node that turns can put any digest beside a genuine one.
Some of those who hold such a provisional digest therefore fetch it from the publisher themselves; the first honest one
that does finds out, and says so; then everybody who trusts it looks for itself. Moments are drawn at random: nobody can
tell when to behave, and the publisher is not asked by all at once.
"""

from dataclasses import dataclass

from pfn_protocol.limits import (
    refetch_disputed_seconds_max,
    refetch_nodes_wanted,
    refetch_seconds_max,
    refetch_share_min,
)


@dataclass(frozen=True, slots=True)
class Draw:
    """Chance, drawn once for each decision: two numbers from 0 up to, not including, 1."""

    whether: float
    when: float


def refetch_share(holders: int) -> float:
    """Which share of the nodes that hold a provisional digest look at it again; `holders` counts this node."""
    return min(1.0, max(refetch_share_min, refetch_nodes_wanted / max(1, holders)))


def plan_refetch(holders: int, now_s: float, draw: Draw) -> float | None:
    """When to fetch a provisional digest from the publisher, in seconds since 1970; None: that is left to others."""
    if draw.whether >= refetch_share(holders):
        return None
    return now_s + draw.when * refetch_seconds_max


def plan_disputed(planned_s: float | None, now_s: float, draw: Draw) -> float:
    """When to do so once a directly pinned node says another digest; what was `planned_s` for earlier stays so."""
    within_the_hour = now_s + draw.when * refetch_disputed_seconds_max
    return within_the_hour if planned_s is None else min(planned_s, within_the_hour)
