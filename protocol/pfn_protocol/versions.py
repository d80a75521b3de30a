"""The order of versions: PHP's `version_compare`, because WordPress decides by it which version is newer.

A version is first put into canonical form: every character that is no letter or digit becomes one `.`, and a `.` is
put wherever digits meet letters. Then the parts are compared one by one: numbers as numbers; words by the rank dev <
alpha = a < beta = b < RC = rc < (a number, or the end) < pl = p, any other word below all. Words are recognised by
how they begin. The text is taken as UTF-8 bytes, as PHP takes it.

Two versions of one canonical form are equal, whatever they end with.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, Protocol

# In this order: the first form that a part begins with counts.
_FORMS: Final = (
    (b"dev", 0),
    (b"alpha", 1),
    (b"a", 1),
    (b"beta", 2),
    (b"b", 2),
    (b"RC", 3),
    (b"rc", 3),
    (b"#", 4),
    (b"pl", 5),
    (b"p", 5),
)
_UNKNOWN_RANK: Final = -1
_NUMBER_RANK: Final = 4
# PHP's own name for "some number", to which words are compared.
_ANY_NUMBER: Final = b"#N#"
_DIGITS: Final = frozenset(b"0123456789")
_LETTERS: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_SEPARATORS: Final = frozenset(b"-_+")
_DOT: Final = ord(".")
# C's strtol stops at the greatest long; so two longer numbers are equal.
_LONG_MAX: Final = 2**63 - 1
_LONG_DIGITS: Final = len(str(_LONG_MAX))
# All versions of a plugin are compared whenever one is added; no plugin has more. They take some 2 MB.
_KEYS_REMEMBERED_MAX: Final = 2**13


class Sortable(Protocol):
    """What `sorted`, `min` and `max` ask of a key."""

    def __lt__(self, other: Any, /) -> Any: ...


def compare(a: str, b: str) -> int:
    """Return -1, 0 or 1: whether version `a` is older than, the same as, or newer than `b`."""
    return _compare(_key_of(a).form, _key_of(b).form)


def sort_key(version: str) -> Sortable:
    """Return a key for `sorted`, `min` and `max`; older versions come first."""
    return _key_of(version)


def newest(versions: Iterable[str]) -> str | None:
    """Return the newest version, the first of several equal ones; None of none."""
    return max(versions, key=sort_key, default=None)


class _Key:
    """A version in its order. `numbers`: its parts, if all are numbers, as nearly always; they are quickly compared."""

    __slots__ = ("form", "numbers")

    def __init__(self, form: bytes) -> None:
        self.form = form
        parts = form.split(b".")
        self.numbers = tuple(map(_number, parts)) if all(map(bytes.isdigit, parts)) else None

    def __lt__(self, other: "_Key") -> bool:
        if self.numbers is not None and other.numbers is not None:
            return self.numbers < other.numbers
        return _compare(self.form, other.form) < 0


@lru_cache(_KEYS_REMEMBERED_MAX)
def _key_of(version: str) -> _Key:
    return _Key(_canonical(version.encode("utf-8", "surrogatepass")))


def _canonical(text: bytes) -> bytes:
    if text.startswith(b"#"):
        return text
    parts = bytearray(text[:1])
    for before, byte in pairwise(text):
        starts_word = before in _DIGITS and byte not in _DIGITS and byte not in _SEPARATORS and byte != _DOT
        starts_number = byte in _DIGITS and before not in _DIGITS and before != _DOT
        is_sign = byte not in _DIGITS and byte not in _LETTERS
        if (starts_word or starts_number or is_sign) and parts[-1] != _DOT:
            parts.append(_DOT)
        if starts_word or not is_sign:
            parts.append(byte)
    return bytes(parts)


def _compare(a: bytes, b: bytes) -> int:
    """Compare two canonical forms."""
    if a == b:
        return 0
    if not a or not b:
        return 1 if a else -1
    rest_a, rest_b = a, b
    more_a = more_b = b"."
    while rest_a and rest_b and more_a and more_b:
        part_a, more_a, after_a = rest_a.partition(b".")
        part_b, more_b, after_b = rest_b.partition(b".")
        if order := _compare_parts(part_a, part_b):
            return order
        rest_a, rest_b = after_a, after_b
    # All common parts are equal: what one has more decides, by how it stands to a number.
    if more_a:
        return 1 if rest_a[:1].isdigit() else _compare(_canonical(rest_a), _ANY_NUMBER)
    if more_b:
        return -1 if rest_b[:1].isdigit() else _compare(_ANY_NUMBER, _canonical(rest_b))
    return 0


def _compare_parts(a: bytes, b: bytes) -> int:
    if a[:1].isdigit() and b[:1].isdigit():
        return _sign(_number(a) - _number(b))
    return _sign(_rank(a) - _rank(b))


def _rank(part: bytes) -> int:
    if part[:1].isdigit():
        return _NUMBER_RANK
    return next((rank for form, rank in _FORMS if part.startswith(form)), _UNKNOWN_RANK)


def _number(part: bytes) -> int:
    # As strtol reads it: up to what is no digit, which a text that begins with "#" may have here.
    digits = part[: len(part) - len(part.lstrip(b"0123456789"))].lstrip(b"0") or b"0"
    return min(int(digits), _LONG_MAX) if len(digits) <= _LONG_DIGITS else _LONG_MAX


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
