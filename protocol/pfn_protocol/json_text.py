"""JSON as bytes that somebody signed: writing what JavaScript writes, and cutting out what was written.

Publishers sign `JSON.stringify(…)` of an object, or the text of one member of an answer. Encoding again what was
decoded gives other bytes (spaces, escapes, the order of members), so nothing here does that: `stringify` writes four
kinds of text member exactly as JavaScript does, and `raw_member` returns the slice of the text as it came.
"""

import json
import re
from collections.abc import Iterable
from typing import Final, NoReturn

from pfn_protocol.errors import Refusal
from pfn_protocol.limits import evidence_text_bytes_max

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_MUST_ESCAPE: Final = re.compile('["\\\\\x00-\x1f\ud800-\udfff]')
_SHORT_ESCAPES: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
}
_WHITE_SPACE: Final = re.compile(r"[ \t\n\r]*")


def stringify(members: Iterable[tuple[str, str]]) -> bytes:
    """Return the bytes of JavaScript's JSON.stringify of an object of these text members, in this order (R51)."""
    written = ",".join(f"{_stringify_text(name)}:{_stringify_text(value)}" for name, value in members)
    return f"{{{written}}}".encode()


def raw_member(text: str, name: str) -> str:
    """Return the text of a member's value in a JSON object, exactly as it was written (R52).

    Raise `Refusal` if the text is not one JSON object with exactly one such member.
    """
    if len(text) > evidence_text_bytes_max:
        raise Refusal("R52", f"the JSON text has more than {evidence_text_bytes_max} characters")
    try:
        slices = [text[start:end] for found, start, end in _members(text) if found == name]
    except (ValueError, RecursionError) as error:
        raise Refusal("R52", "the text is not one well-formed JSON object") from error
    if len(slices) != 1:
        raise Refusal("R52", f"the JSON object must have exactly one member {name!r}, it has {len(slices)}")
    return slices[0]


def _stringify_text(text: str) -> str:
    if _SURROGATE.search(text):
        # Two halves that stand side by side are one character to JavaScript.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return f'"{_MUST_ESCAPE.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return _SHORT_ESCAPES.get(character) or f"\\u{ord(character):04x}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Numbers stay texts: their value is of no interest, and converting a long one costs quadratic time.
_DECODER: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant)


def _members(text: str) -> list[tuple[str, int, int]]:
    """Return (name, start, end) of each member of the object that the text is; raise `ValueError` if it is none."""
    members: list[tuple[str, int, int]] = []
    at = _expect(text, _skip(text, 0), "{")
    if text[at : at + 1] == "}":
        _expect_end(text, at + 1)
        return members
    while True:
        _expect(text, at, '"', skip=False)
        name, after_name = _DECODER.raw_decode(text, at)
        start = _expect(text, _skip(text, after_name), ":")
        _, end = _DECODER.raw_decode(text, start)
        members.append((name, start, end))
        at = _skip(text, end)
        if text[at : at + 1] == "}":
            _expect_end(text, at + 1)
            return members
        at = _expect(text, at, ",")


def _skip(text: str, at: int) -> int:
    match = _WHITE_SPACE.match(text, at)
    assert match is not None, "the pattern matches nothing at all, too"
    return match.end()


def _expect(text: str, at: int, character: str, *, skip: bool = True) -> int:
    """Return where the next thing begins after this character; raise `ValueError` if another one stands here."""
    if text[at : at + 1] != character:
        raise ValueError(f"{character!r} is missing at {at}")
    return _skip(text, at + 1) if skip else at + 1


def _expect_end(text: str, at: int) -> None:
    if _skip(text, at) != len(text):
        raise ValueError(f"something follows the object at {at}")
