"""Fields as PHP nests them in a query or a form: `request[fields][name]=1` is `{"request": {"fields": {"name": "1"}}}`.

Of a field given twice the last one counts, as in PHP. `a[]` gets the numbers from 0 on as its names.
"""

import re
from typing import Any, Final

from pfn_node.web.percent import read_fields

# A site with hundreds of plugins names each of them where it asks for what is recommended.
FIELDS_MAX: Final = 2_000
# WordPress nests twice.
DEPTH_MAX: Final = 4
_NAME: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_PART: Final = re.compile(r"\[([^\[\]]*)\]")


class NoForm(ValueError):
    """Not percent-encoded UTF-8, or too many fields."""


def read_form(raw: bytes) -> dict[str, Any]:
    """Return the fields, nested; names that are not well-formed are left out. Raise `NoForm`."""
    try:
        pairs = read_fields(raw, FIELDS_MAX)
    except ValueError:
        raise NoForm(f"percent-encoded UTF-8 is expected, and at most {FIELDS_MAX} fields") from None
    fields: dict[str, Any] = {}
    for name, text in pairs:
        if (found := _NAME.fullmatch(name)) is not None:
            _put(fields, [found[1], *_PART.findall(found[2])], text)
    return fields


def _put(fields: dict[str, Any], path: list[str], text: str) -> None:
    if len(path) > DEPTH_MAX:
        return
    for part in path[:-1]:
        inner = fields.get(part or str(len(fields)))
        if not isinstance(inner, dict):
            inner = fields[part or str(len(fields))] = {}
        fields = inner
    fields[path[-1] or str(len(fields))] = text


def text_of(fields: dict[str, Any], name: str, characters_max: int) -> str | None:
    """Return a field that is text, cut to a bound; None: it is not given, empty, or something else."""
    given = fields.get(name)
    return given.strip()[:characters_max] or None if isinstance(given, str) else None


def number_of(fields: dict[str, Any], name: str, default: int, most: int) -> int:
    """Return a field that is a number, at least 1 and at most `most`; `default` where it is none."""
    given = fields.get(name)
    if not isinstance(given, str) or not given.isdecimal() or not given.isascii():
        return default
    return max(1, min(int(given[:9]), most))


def parts_of(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a field that has parts; {} where it has none."""
    given = fields.get(name)
    return given if isinstance(given, dict) else {}
