"""A soak as one picture: memory, descriptors and latency over time, as SVG."""

from collections.abc import Sequence
from html import escape
from typing import Final, Protocol

_WIDTH, _LEFT, _RIGHT, _TOP = 760, 64, 24, 56
_PANEL, _GAP, _BELOW = 130, 52, 44
_TICKS: Final = 4
_STYLE = """
svg { font: 13px system-ui, sans-serif; }
.paper { fill: #ffffff; } text { fill: #1f2328; } .title { font-weight: 600; font-size: 15px; }
.grid { stroke: #d0d7de; } .warm { fill: #eaeef2; } .bar { stroke: #bc4c00; stroke-dasharray: 5 4; }
.curve { fill: none; stroke: #7c3aed; stroke-width: 2; stroke-linejoin: round; } .second { stroke: #0969da; }
.note { fill: #7c3aed; } .note.second { fill: #0969da; stroke: none; } .note.limit { fill: #bc4c00; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117; } text { fill: #e6edf3; } .grid { stroke: #30363d; } .warm { fill: #161b22; }
  .curve { stroke: #a78bfa; } .second { stroke: #58a6ff; } .bar { stroke: #f0883e; }
  .note { fill: #a78bfa; } .note.second { fill: #58a6ff; } .note.limit { fill: #f0883e; }
}
""".strip()


class Sample(Protocol):
    """The node at one moment."""

    at: float
    rss_mib: float
    descriptors: int
    median_ms: float
    p99_ms: float


def picture(samples: Sequence[Sample], warm_up_part: float, p99_ms_max: float) -> str:
    """The whole SVG; it follows the reader's light or dark theme."""
    title = f"A node under load for {samples[-1].at / 60:.0f} minutes"
    height = _TOP + 3 * (_PANEL + _GAP) + _BELOW - _GAP
    minutes = [one.at / 60 for one in samples]
    latencies = [[one.p99_ms for one in samples], [one.median_ms for one in samples]]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
        _text(_LEFT - 44, 26, f"{title} (grey: warming up)", "title"),
        *_panel(0, "memory (MiB resident)", minutes, [[one.rss_mib for one in samples]], warm_up_part),
        *_panel(1, "open descriptors", minutes, [[float(one.descriptors) for one in samples]], warm_up_part),
        *_panel(2, "latency (ms)", minutes, latencies, warm_up_part, p99_ms_max),
        *_legend(),
        *_minutes(minutes[-1], _TOP + 3 * _PANEL + 2 * _GAP + 18),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _panel(
    number: int,
    what: str,
    minutes: Sequence[float],
    curves: Sequence[Sequence[float]],
    warm_up_part: float,
    limit: float | None = None,
) -> list[str]:
    """One figure over time, from nothing up, so that a slope looks as steep as it is."""
    top, width = _TOP + number * (_PANEL + _GAP), _WIDTH - _LEFT - _RIGHT
    highest = 1.1 * max([limit or 0.0, 1.0, *(value for curve in curves for value in curve)])
    step = _step(highest)

    def place(minute: float, value: float) -> str:
        return f"{_LEFT + width * minute / minutes[-1]:.1f},{top + _PANEL * (1 - value / highest):.1f}"

    drawn = [
        f'<rect class="warm" x="{_LEFT}" y="{top}" width="{width * warm_up_part:.1f}" height="{_PANEL}"/>',
        _text(_LEFT, top - 8, what),
    ]
    for tick in range(int(highest / step) + 1):
        y = top + _PANEL * (1 - tick * step / highest)
        drawn.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(_text(_LEFT - 6, y + 4, f"{tick * step:,.0f}", "end"))
    if limit is not None:
        y = top + _PANEL * (1 - limit / highest)
        drawn.append(f'<line class="bar" x1="{_LEFT}" x2="{_LEFT + width}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for curve, name in zip(curves, ("curve", "curve second"), strict=False):
        points = " ".join(place(minute, value) for minute, value in zip(minutes, curve, strict=True))
        drawn.append(f'<polyline class="{name}" points="{points}"/>')
    return drawn


def _legend() -> list[str]:
    y = _TOP + 2 * (_PANEL + _GAP) - 8
    return [
        _text(_LEFT + 150, y, "99 of 100 within", "note"),
        _text(_LEFT + 290, y, "half within", "note second"),
        _text(_LEFT + 400, y, "goal for 99 of 100", "note limit"),
    ]


def _minutes(last: float, y: float) -> list[str]:
    step = max(_step(last), 0.5)
    width = _WIDTH - _LEFT - _RIGHT
    moments = [tick * step for tick in range(int(last / step) + 1)]
    drawn = [_text(_LEFT + width * moment / last, y, f"{moment:g}", "middle") for moment in moments]
    return [*drawn, _text(_LEFT + width / 2, y + 18, "minutes", "middle")]


def _step(highest: float) -> float:
    """A round number that divides the axis into a few parts."""
    rough = highest / _TICKS
    power = 10.0 ** (len(f"{int(rough)}") - 1)
    return next(power * one for one in (1, 2, 5, 10) if power * one >= rough)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
