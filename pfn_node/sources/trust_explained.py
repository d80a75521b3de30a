"""The parts of the trust score in words: what each is, and what would raise it, with numbers.

For each part the smallest step is named that brings it at least half of the way to its weight: near enough to be worth
trying, and true, since it is found by asking the score's own functions.
"""

import bisect
import math
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from pfn_node.sources.trust import (
    NEWCOMER_SECONDS,
    ORACLE_CAP,
    QUICK_SECONDS,
    RELEASE_CREDIT,
    WEIGHTS,
    History,
    Tally,
    Trust,
    is_newcomer,
    parts_of,
    tally_of,
    under_oracle,
)

STEPS_MAX: Final = 1_024  # farther than this no number means anything to anybody
NEAR_ENOUGH: Final = 0.005  # a part that is this near to its weight rounds to it
_MEANS: Final = {
    "verifications": "how surely the publisher proves its key: verifications of 90 days, one sample per 6 h",
    "uptime": "how surely, and how quickly, the publisher answers health checks: those of the last week",
    "signatures": "how well the releases that this node saw itself are signed",
    "age": "on how many days this node verified the source with success",
    "subscribers": "how many keys of this node subscribe to the source",
}


@dataclass(frozen=True, slots=True)
class Explained:
    """One part; see `TrustPart` of the API for the fields."""

    part: str
    means: str
    weight: float | None
    value: float
    would_raise: str | None = None
    until: int | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def explain(history: History, trust: Trust, now: float) -> list[Explained]:
    """Explain every part of a score that `trust_score` gave for this history at this time."""
    tally = tally_of(history, now)
    raises = {
        "verifications": _said(
            _step(tally, "verifications", ("samples", "samples_succeeded")),
            "more successful verification",
            ", one per 6 h,",
        ),
        "uptime": _uptime(tally),
        "signatures": _signatures(history),
        "age": _said(_step(tally, "age", ("days",)), "more day", " with a successful verification"),
        "subscribers": _said(_step(tally, "subscribers", ("subscribers",)), "more subscriber", " at this node"),
    }
    parts = [Explained(part, _MEANS[part], WEIGHTS[part], trust.parts[part], raises[part]) for part in _MEANS]
    return [*parts, _gate(history, trust), _cap(history, trust, now)]


def _step(tally: Tally, part: str, counts: tuple[str, ...]) -> tuple[int, float] | None:
    """How many more of these counts bring a part half of the way to its weight, and its value then.

    None if it is there already. With more of them the part never falls, so halving finds the smallest number.
    """

    def value(more: int) -> float:
        return parts_of(replace(tally, **{count: getattr(tally, count) + more for count in counts}))[part]

    if math.isclose(value(0), WEIGHTS[part], abs_tol=NEAR_ENOUGH):
        return None
    wanted = (value(0) + WEIGHTS[part]) / 2
    enough = bisect.bisect_left(range(1, STEPS_MAX), wanted, key=value) + 1
    return enough, value(enough)


def _uptime(tally: Tally) -> str | None:
    if tally.seconds is not None and tally.seconds > QUICK_SECONDS:
        better = parts_of(replace(tally, seconds=QUICK_SECONDS))["uptime"]
        return f"answers within {QUICK_SECONDS} s instead of {tally.seconds:.1f} s would raise it to {better:.2f}"
    quick = replace(tally, seconds=QUICK_SECONDS)
    return _said(_step(quick, "uptime", ("probes", "answered")), "more answered health check", "")


def _signatures(history: History) -> str | None:
    weight = WEIGHTS["signatures"]
    if not history.releases:
        return "no release was seen at the publisher yet; subscribing to the source lets this node see them"
    for level, how in (("A3", "signed over their bytes"), ("A4", "also witnessed, by a separate key and a fresh head")):
        below = sum(RELEASE_CREDIT.get(one, 0.0) < RELEASE_CREDIT[level] for one in history.releases)
        if below:
            # Those that are better already stay so.
            credits = [max(RELEASE_CREDIT.get(one, 0.0), RELEASE_CREDIT[level]) for one in history.releases]
            value = weight * math.fsum(credits) / len(credits)
            return f"{below} of {len(credits)} releases are below {level}; all {how} would raise it to {value:.2f}"
    return None


def _said(step: tuple[int, float] | None, what: str, how: str) -> str | None:
    if step is None:
        return None
    count, value = step
    return f"{count} {what}{'' if count == 1 else 's'}{how} would raise it to {value:.2f}"


def _gate(history: History, trust: Trust) -> Explained:
    words = {
        "revoked": ("the key was revoked: nothing counts any more", None),
        "conflict": (
            "the key was proved at another host as well: everything counts half",
            "removing the source that is wrong, then verifying this one again, would lift it",
        ),
    }
    means, would_raise = words.get(history.status, ("no doubt about whose key it is", None))
    return Explained("gate", means, None, trust.parts["gate"], would_raise)


def _cap(history: History, trust: Trust, now: float) -> Explained:
    value = trust.parts["cap"]
    if is_newcomer(history, now):
        until = math.ceil(history.created_at + NEWCOMER_SECONDS)
        day = datetime.fromtimestamp(until, UTC).date().isoformat()
        means = "a source is worth at most 0.50 in its first 14 days: a new identity is cheap"
        return Explained("cap", means, None, value, f"time alone lifts it, on {day}", until)
    if under_oracle(history):
        means = f"at most {ORACLE_CAP:.2f}: the publisher signs other texts for anybody ({history.oracle})"
        return Explained(
            "cap", means, None, value, "a release signed over its bytes (A3), by a key that does not do so, lifts it"
        )
    return Explained("cap", "no limit", None, value)
