"""Reading one field of a decoded list: its kind and its bounds, or a refusal that names field and rule."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from pfn_protocol.encoding import Value
from pfn_protocol.errors import Refusal
from pfn_protocol.limits import digest_bytes, integer_max


class FieldReader:
    """Takes the fields of one structure in their order. `rule` is the rule of its table in SPEC.md."""

    __slots__ = ("_fields", "_index", "_rule", "_what")

    def __init__(self, value: Value, count: int, rule: str, what: str) -> None:
        """Raise `Refusal` unless the value is a list of exactly `count` fields."""
        if not isinstance(value, tuple) or len(value) != count:
            raise Refusal(rule, f"{what} is a list of {count} fields")
        self._fields: Sequence[Value] = value
        self._index = 0
        self._rule = rule
        self._what = what

    def refusal(self, field: str, expected: str) -> Refusal:
        """Return the refusal that says what the field must be."""
        return Refusal(self._rule, f"the field {field} of {self._what} must be {expected}")

    def value(self) -> Value:
        """Take the next field as it is."""
        value = self._fields[self._index]
        self._index += 1
        return value

    def boolean(self, field: str) -> bool:
        value = self.value()
        if not isinstance(value, bool):
            raise self.refusal(field, "true or false")
        return value

    def integer(self, field: str, minimum: int = 0, maximum: int = integer_max) -> int:
        value = self.value()
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            raise self.refusal(field, f"an integer from {minimum} to {maximum}")
        return value

    def text(self, field: str, chars_max: int, *, chars_min: int = 0, lines: bool = False) -> str:
        """Take a text; `lines` allows line breaks and tabs, no other control character is ever allowed."""
        return self._checked_text(self.value(), field, chars_min, chars_max, lines)

    def optional_text(self, field: str, chars_max: int, *, lines: bool = False) -> str | None:
        value = self.value()
        return None if value is None else self._checked_text(value, field, 0, chars_max, lines)

    def texts(self, field: str, items_max: int, chars_max: int) -> tuple[str, ...]:
        return tuple(self._checked_text(item, field, 1, chars_max, False) for item in self.items(field, items_max))

    def byte_string(self, field: str, bytes_max: int, *, bytes_min: int = 0) -> bytes:
        return self._checked_bytes(self.value(), field, bytes_min, bytes_max)

    def digest(self, field: str) -> bytes:
        return self._checked_bytes(self.value(), field, digest_bytes, digest_bytes)

    def optional_digest(self, field: str) -> bytes:
        """Take 32 bytes, or none at all."""
        value = self.value()
        return b"" if value == b"" else self._checked_bytes(value, field, digest_bytes, digest_bytes)

    def digests(self, field: str, items_max: int) -> tuple[bytes, ...]:
        return tuple(
            self._checked_bytes(item, field, digest_bytes, digest_bytes) for item in self.items(field, items_max)
        )

    def sorted_digests(self, field: str, items_max: int) -> tuple[bytes, ...]:
        """Take a list of 32-byte strings, ascending, none of them twice."""
        found = self.digests(field, items_max)
        self.check_ascending(field, found)
        return found

    def check_ascending(self, field: str, keys: Sequence[bytes]) -> None:
        """Raise `Refusal` unless the keys of a list ascend, none of them twice."""
        if any(first >= second for first, second in pairwise(keys)):
            raise self.refusal(field, "in ascending order, without duplicates")

    def byte_strings(self, field: str, items_max: int, bytes_max: int) -> tuple[bytes, ...]:
        return tuple(self._checked_bytes(item, field, 1, bytes_max) for item in self.items(field, items_max))

    def items(self, field: str, items_max: int) -> tuple[Value, ...]:
        value = self.value()
        if not isinstance(value, tuple) or len(value) > items_max:
            raise self.refusal(field, f"a list of at most {items_max}")
        return value

    def _checked_text(self, value: Value, field: str, chars_min: int, chars_max: int, lines: bool) -> str:
        if not isinstance(value, str) or not chars_min <= len(value) <= chars_max:
            raise self.refusal(field, f"a text of {chars_min} to {chars_max} characters")
        if has_control(value, lines=lines):
            raise self.refusal(field, "without control characters")
        return value

    def _checked_bytes(self, value: Value, field: str, bytes_min: int, bytes_max: int) -> bytes:
        if not isinstance(value, bytes) or not bytes_min <= len(value) <= bytes_max:
            size = str(bytes_max) if bytes_min == bytes_max else f"{bytes_min} to {bytes_max}"
            raise self.refusal(field, f"{size} bytes")
        return value


# NUL, C0, DEL, C1; with and without tab and line breaks.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_BUT_LINES: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def has_control(value: str, *, lines: bool) -> bool:
    """Whether the text holds a control character (NUL, C0, DEL, C1); tabs and line breaks pass where `lines` is set."""
    return (_CONTROL_BUT_LINES if lines else _CONTROL).search(value) is not None
