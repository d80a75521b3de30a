"""Fields as PHP nests them in a query or a form: `request[fields][name]=1` is `{"request": {"fields": {"name": "1"}}}`.

Of a field given twice the last one counts, as in PHP. `a[]` gets the numbers from 0 on as its names.
"""

import re
from binascii import a2b_qp
from typing import Any, Final
from urllib.parse import unquote_to_bytes

# A site with hundreds of plugins names each of them where it asks for what is recommended.
FIELDS_MAX: Final = 2_000
# WordPress nests twice.
DEPTH_MAX: Final = 4
_NAME: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_PART: Final = re.compile(r"\[([^\[\]]*)\]")
_EXPECTED: Final = f"percent-encoded UTF-8 is expected, and at most {FIELDS_MAX} fields"


class NoForm(ValueError):
    """Not percent-encoded UTF-8, or too many fields."""


def read_form(raw: bytes) -> dict[str, Any]:
    """Return the fields, nested; names that are not well-formed are left out. Raise `NoForm`."""
    fields: dict[str, Any] = {}
    for name, text in _pairs(raw):
        if (found := _NAME.fullmatch(name)) is not None:
            _put(fields, [found[1], *_PART.findall(found[2])], text)
    return fields


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    if raw.count(b"&") >= FIELDS_MAX or not raw.isascii():
        raise NoForm(_EXPECTED)
    parted = [pair.partition(b"=") for pair in raw.split(b"&") if pair]
    try:
        return [(_decoded(name).decode("utf-8"), _decoded(text).decode("utf-8")) for name, _, text in parted]
    except UnicodeDecodeError:
        raise NoForm(_EXPECTED) from None


def _decoded(text: bytes) -> bytes:
    """Percent-encoded bytes as they were.

    The JSON in a form is kilobytes, every fifth byte of it escaped: `urllib` takes a third of a millisecond for that.
    Quoted-printable escapes bytes in the same way but for its sign, and is read in one go. Text that is special there
    (its own sign, ends of lines), or where not every escape is one, is left to `urllib`.
    """
    text = text.replace(b"+", b" ")
    if b"=" in text or b"\r" in text or b"\n" in text:
        return unquote_to_bytes(text)
    decoded = a2b_qp(text.replace(b"%", b"="))
    return decoded if len(text) - len(decoded) == 2 * text.count(b"%") else unquote_to_bytes(text)


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
