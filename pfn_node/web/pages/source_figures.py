"""The charts of a source's page, as numbers: where each piece of an SVG begins and how long it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlite_utils

from pfn_node.sources.trust import WEIGHTS
from pfn_node.store import source_history
from pfn_node.store.source_history import HealthSpan

DAY_SECONDS: Final = 86_400
HOUR_SECONDS: Final = 3_600
SPANS: Final = 30
# While nothing older than this is known, hours say more than days.
HOURS_SHOWN_SECONDS: Final = SPANS * HOUR_SECONDS
TRUST_WIDTH: Final = 1_000
CHART_HEIGHT: Final = 48
MINUTE_SECONDS: Final = 60
_GOOD_UPTIME, _POOR_UPTIME = 0.99, 0.9
_PART_WORDS: Final = {
    "verifications": "Verifications",
    "uptime": "Uptime and speed",
    "signatures": "Signatures",
    "age": "Age",
    "subscribers": "Subscribers",
    "gate": "Doubts about the key",
    "cap": "Limit",
}


@dataclass(frozen=True, slots=True)
class TrustPart:
    """One part of the score, in words, and its place in the bar. `full`: its share of what it could give."""

    name: str
    title: str
    means: str
    value: float
    weight: float | None
    would_raise: str | None
    x: float = 0.0
    width: float = 0.0
    full: float = 0.0


@dataclass(frozen=True, slots=True)
class TrustBar:
    """The score as a stacked bar. What doubts take away lies between `score_x` and `sum_x`."""

    parts: tuple[TrustPart, ...]
    doubts: tuple[TrustPart, ...]
    score_x: float
    sum_x: float

    @property
    def taken(self) -> float:
        """How much doubts take away."""
        return -sum(part.value for part in self.doubts)


@dataclass(frozen=True, slots=True)
class Column:
    """One span of time in the charts of health. Heights in units of the chart; None of `time`: no answer."""

    at: int
    began: int
    span: HealthSpan
    kind: str
    up: float
    time: float | None


@dataclass(frozen=True, slots=True)
class HealthChart:
    """Uptime and response time, span by span."""

    unit: str
    since: int
    columns: tuple[Column, ...]
    checks: int
    uptime: float | None
    seconds: float | None
    slowest: float


def trust_bar(score: float, explained: Sequence[Mapping[str, Any]]) -> TrustBar:
    """Place the parts of a score one after another."""
    parts: list[TrustPart] = []
    doubts: list[TrustPart] = []
    x = 0.0
    for one in explained:
        part = TrustPart(
            name=one["part"],
            title=_PART_WORDS.get(one["part"], one["part"]),
            means=one["means"],
            value=one["value"],
            weight=one["weight"],
            would_raise=one["would_raise"],
            x=round(x, 1),
            width=round(max(0.0, one["value"]) * TRUST_WIDTH, 1),
            full=round(100 * one["value"] / one["weight"], 1) if one["weight"] else 0.0,
        )
        if one["part"] in WEIGHTS:
            parts.append(part)
            x += part.width
        else:
            doubts.append(part)
    return TrustBar(tuple(parts), tuple(doubts), round(score * TRUST_WIDTH, 1), round(x, 1))


def health_chart(db: sqlite_utils.Database, source_id: str, now: int) -> HealthChart:
    """The health of the last 30 days; of the last 30 hours while no more is known."""
    month = now - SPANS * DAY_SECONDS
    first = source_history.first_check(db, source_id, month)
    young = first is None or now - first < HOURS_SHOWN_SECONDS
    unit, seconds = ("hour", HOUR_SECONDS) if young else ("day", DAY_SECONDS)
    since = now - SPANS * seconds + 1
    spans = source_history.health_spans(db, source_id, since, seconds)
    slowest = max((span.seconds for span in spans if span.seconds is not None), default=0.0)
    checks, answered = sum(span.checks for span in spans), sum(span.answered for span in spans)
    times = [(span.seconds, span.answered) for span in spans if span.seconds is not None]
    return HealthChart(
        unit=unit,
        since=since,
        columns=tuple(_column(span, since, seconds, slowest) for span in spans),
        checks=checks,
        uptime=answered / checks if checks else None,
        seconds=sum(mean * count for mean, count in times) / answered if answered else None,
        slowest=slowest,
    )


def _column(span: HealthSpan, since: int, seconds: int, slowest: float) -> Column:
    kind = "good" if span.uptime >= _GOOD_UPTIME else "warn" if span.uptime >= _POOR_UPTIME else "bad"
    # Never nothing: a span in which all failed is there to be seen.
    up = max(3.0, round(span.uptime * CHART_HEIGHT, 1))
    time = None if span.seconds is None else max(2.0, round(CHART_HEIGHT * span.seconds / slowest, 1) if slowest else 2)
    return Column((span.began - since) // seconds, span.began, span, kind, up, time)


def duration(seconds: float) -> str:
    """A short time as people say it: "12 ms", "1.4 s", "3 min"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < MINUTE_SECONDS else f"{seconds / MINUTE_SECONDS:.0f} min"
