"""Templates, and how times, numbers and ids are written on pages. All text is escaped; there are no inline scripts or
styles, so the policy of a page (gate.py) allows none."""

import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import jinja2
from markupsafe import Markup, escape

from pfn_node.web.federation_peers import VERSION
from pfn_node.web.pages.assets import Assets
from pfn_node.web.schemas import ACTIVITY_TYPES
from pfn_protocol.identity import short_did

_UNITS = ((86_400 * 365, "year"), (86_400 * 30, "month"), (86_400, "day"), (3600, "hour"), (60, "minute"))
_MINUTE_SECONDS = 60
_MINUTES_MAX = 90  # more are said in hours
_SHORT_HEAD, _SHORT_TAIL = 8, 4
LETTER_TONES = 6

# A word, a sentence: what each level of assurance says of a release (SPEC.md, chapter 6).
LEVELS = {
    "reported": (
        "reported only",
        "Only other nodes report it; nobody whose word counts here backs its bytes. Not served.",
    ),
    "A0": ("observed", "Somebody whose word counts here saw these bytes at the publisher; nothing is signed."),
    "A1": ("claimed", "Observed, and the publisher signed its metadata, but not its bytes."),
    "A2": ("witnessed", "Several independent nodes whose word counts here saw the very same bytes."),
    "A3": ("proved", "The publisher's own key signed the digest of these bytes."),
    "A4": ("proved, newest", "Proved, and the publisher says, freshly signed, that nothing newer is withheld."),
}


def exact_time(seconds: float) -> str:
    """A time with its zone."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def relative_time(seconds: float, now: float) -> str:
    """A time as people say it: "3 minutes ago", "in 2 days", "just now"."""
    distance = now - seconds
    for unit, name in _UNITS:
        count = int(abs(distance) // unit)
        if count:
            words = f"{count} {name}{'s' if count > 1 else ''}"
            return f"{words} ago" if distance > 0 else f"in {words}"
    return "just now" if distance >= 0 else "in a moment"


def short_id(text: str) -> str:
    """The first 8 and last 4 characters of an id or digest; the whole is in its title."""
    if text.startswith("did:key:"):
        return short_did(text)
    if len(text) <= _SHORT_HEAD + _SHORT_TAIL + 1:
        return text
    return f"{text[:_SHORT_HEAD]}…{text[-_SHORT_TAIL:]}"


def size(count: int) -> str:
    """A number of bytes as people say it, in powers of 1,000."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def number(value: float) -> str:
    """With a separator of thousands."""
    return f"{value:,}"


def duration(seconds: float) -> str:
    """How long something takes, about: "40 s", "12 min", "3 h"."""
    if seconds < _MINUTE_SECONDS:
        return f"{seconds:.0f} s"
    minutes = seconds / _MINUTE_SECONDS
    return f"{minutes:.0f} min" if minutes < _MINUTES_MAX else f"{minutes / 60:.0f} h"


def ago(seconds: float | None, now: float) -> Markup:
    """A time element: relative, the exact time in its title, and for programs in `datetime`."""
    if seconds is None:
        return Markup('<span class="quiet">never</span>')
    iso = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        iso, exact_time(seconds), relative_time(seconds, now)
    )


def with_code(text: str) -> Markup:
    """A text whose parts between backticks are code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # one of them is a mere character
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(each) if at % 2 else each for at, each in enumerate(pieces))


def tone(text: str) -> int:
    """Which of the colours of letter tiles a name has: always the same one."""
    return zlib.crc32(text.encode("utf-8", "replace")) % LETTER_TONES


def sparkline(values: list[float], width: int = 96, height: int = 24) -> str:
    """The points of an SVG polyline that shows values over time, newest last; empty for fewer than two."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = width / (len(values) - 1)
    return " ".join(
        f"{at * step:.1f},{height - 1 - (value - low) / span * (height - 2):.1f}" for at, value in enumerate(values)
    )


def environment(assets: Assets) -> jinja2.Environment:
    """Templates with everything escaped, and missing values an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pfn_node.web", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "duration": duration,
        "exact_time": exact_time,
        "short_id": short_id,
        "size": size,
        "number": number,
        "sparkline": sparkline,
        "tone": tone,
        "with_code": with_code,
    }
    made.globals |= {"version": VERSION, "asset": assets.path_of, "levels": LEVELS, "ago": ago}
    made.globals["activity_types"] = ACTIVITY_TYPES
    return made


def render(templates: jinja2.Environment, template: str, context: Mapping[str, Any]) -> str:
    """A page's text."""
    return templates.get_template(template).render(context)
