"""Cursors of pages of plugins: where the last row stood in its order, as text that clients only give back."""

import base64
import json
from typing import Final

CURSOR_CHARACTERS_MAX: Final = 1_024


def write(sort: str, after: str | float, after_id: int) -> str:
    """Return the cursor of what follows a row: by its sort key, and its id where those are equal."""
    text = json.dumps([sort, after, after_id])
    return base64.urlsafe_b64encode(text.encode("utf-8")).decode("ascii").rstrip("=")


def read(cursor: str, sort: str) -> tuple[str | float, int]:
    """Return the sort key and the id in a cursor. Raise ValueError for one that was not made for this order."""
    try:
        # Whatever is no base64 of a list of these three kinds raises one of these errors.
        if len(cursor) > CURSOR_CHARACTERS_MAX:
            raise ValueError
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        made_for, after, after_id = parts
        if made_for != sort or not _is_sort_key(sort, after) or not _is_integer(after_id):
            raise ValueError
        str(after).encode("utf-8")  # JSON can name half a character, which SQLite does not take
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"no cursor of the order {sort}") from None
    return after, after_id


def _is_sort_key(sort: str, key: object) -> bool:
    if sort == "updated":
        return _is_integer(key)
    return isinstance(key, str if sort == "name" else float)


def _is_integer(number: object) -> bool:
    """Whether this is an integer that SQLite can hold."""
    return type(number) is int and -(2**63) <= number < 2**63
