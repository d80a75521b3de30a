"""A picture of a run, as SVG: how a message spreads over time, and how many copies of it come to a node."""

from html import escape

from pfn_node.simulation.figures import Curves, part

_WIDTH, _HEIGHT = 760, 340
_PANEL_WIDTH, _PANEL_HEIGHT = 300, 210
_LEFT, _TOP, _GAP = 56, 72, 68
# More copies than this are drawn as one bar.
_COPIES_MAX = 6
# Steps of a time axis, in milliseconds: the first that gives at most `_TICKS_MAX` of them is taken.
_STEPS_MS = (50, 100, 200, 250, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 60_000)
_TICKS_MAX = 6
_STYLE = """
svg { font: 13px system-ui, sans-serif; }
.paper { fill: #ffffff; } text { fill: #1f2328; } .title { font-weight: 600; font-size: 15px; }
.grid { stroke: #d0d7de; } .bar { fill: #7c3aed; }
.curve { fill: none; stroke: #7c3aed; stroke-width: 2; stroke-linejoin: round; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117; } text { fill: #e6edf3; } .grid { stroke: #30363d; }
  .bar { fill: #a78bfa; } .curve { stroke: #a78bfa; }
}
""".strip()


def picture(curves: Curves, title: str) -> str:
    """The whole SVG; it follows the reader's light or dark theme."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}"/>',
        _text(_LEFT - 36, 28, title, "title"),
        *_coverage(curves, _LEFT, _TOP),
        *_copies(curves, _LEFT + _PANEL_WIDTH + _GAP, _TOP),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _coverage(curves: Curves, left: int, top: int) -> list[str]:
    """The part of the nodes that has a message, over the milliseconds since it was made."""
    last_ms = max(curves.arrivals_ms, default=1)
    step = next((one for one in _STEPS_MS if last_ms <= one * _TICKS_MAX), _STEPS_MS[-1])
    end_ms = step * (last_ms // step + 1)
    drawn = [_text(left, top - 16, "nodes that have a message, over time (ms)")]
    for percent in (0, 25, 50, 75, 100):
        y = top + _PANEL_HEIGHT * (1 - percent / 100)
        drawn.append(f'<line class="grid" x1="{left}" x2="{left + _PANEL_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(_text(left - 6, y + 4, f"{percent} %", "end"))
    for moment in range(0, end_ms + 1, step):
        drawn.append(_text(left + _PANEL_WIDTH * moment / end_ms, top + _PANEL_HEIGHT + 18, f"{moment:,}", "middle"))
    points, arrived = [f"{left},{top + _PANEL_HEIGHT}"], 0
    for moment, count in sorted(curves.arrivals_ms.items()):
        arrived += count
        y = top + _PANEL_HEIGHT * (1 - part(arrived, curves.pairs))
        points.append(f"{left + _PANEL_WIDTH * moment / end_ms:.1f},{y:.1f}")
    points.append(f"{left + _PANEL_WIDTH},{points[-1].partition(',')[2]}")
    drawn.append(f'<polyline class="curve" points="{" ".join(points)}"/>')
    return drawn


def _copies(curves: Curves, left: int, top: int) -> list[str]:
    """How often a node got so many copies of a message."""
    bars = [curves.copies[number] for number in range(_COPIES_MAX)]
    bars.append(sum(count for number, count in curves.copies.items() if number >= _COPIES_MAX))
    width = _PANEL_WIDTH / len(bars)
    floor = top + _PANEL_HEIGHT
    drawn = [_text(left, top - 16, "copies of a message that a node gets")]
    drawn.append(f'<line class="grid" x1="{left}" x2="{left + _PANEL_WIDTH}" y1="{floor}" y2="{floor}"/>')
    for number, count in enumerate(bars):
        share = part(count, curves.pairs)
        middle, height = left + width * (number + 0.5), _PANEL_HEIGHT * share
        x, y = middle - width * 0.35, floor - height
        drawn.append(f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{width * 0.7:.1f}" height="{height:.1f}"/>')
        drawn.append(_text(middle, floor - height - 5, f"{share:.1%}" if count else "", "middle"))
        drawn.append(_text(middle, floor + 18, f"{number}{'+' if number == _COPIES_MAX else ''}", "middle"))
    return drawn


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'
