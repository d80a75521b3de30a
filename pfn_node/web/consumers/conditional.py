"""Answers that a client need not read again: by ETag, or by the time since which an answer is as it is.

What an answer is made of has no one time of change (a yank has none of its own), so the node remembers what it
answered last and since when. After a restart it has forgotten: then clients read it once more.

Several processes may answer for one node, and each remembers for itself. So a time is told only when its second is
over, and counts only for the very answer that this process would give with it: else a client that has what another
process answered before a yank could be told that it is still so.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

from werkzeug.datastructures import Headers

# Answers that are remembered, 200 bytes each; those used least recently go first.
REMEMBERED_MAX: Final = 50_000


@dataclass(slots=True)
class Answered:
    """What was answered last at each path, and since when."""

    _last: OrderedDict[str, tuple[str, int]] = field(default_factory=OrderedDict)

    def since(self, path: str, etag: str, now: int) -> int:
        """Return since when (seconds since 1970) the answer at a path has this tag; it never goes back."""
        before = self._last.get(path)
        if before is None or before[0] != etag:
            # Never the same second for two answers: a client that has the first would keep it.
            self._last[path] = (etag, now if before is None else max(now, before[1] + 1))
        self._last.move_to_end(path)
        while len(self._last) > REMEMBERED_MAX:
            self._last.popitem(last=False)
        return self._last[path][1]


def tag_of(body: bytes) -> str:
    """Return the ETag of an answer."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def is_current(headers: Headers, etag: str, since: int) -> bool:
    """Whether the client that sent these headers has this very answer (RFC 9110: If-None-Match decides if given)."""
    tags = headers.get("If-None-Match")
    if tags is not None:
        return tags.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in tags.split(","))
    try:
        given = parsedate_to_datetime(headers.get("If-Modified-Since", ""))
    except (ValueError, OverflowError):  # the second for numbers beyond all dates
        return False
    return given.replace(tzinfo=given.tzinfo or UTC).timestamp() == since


def http_date(seconds: int) -> str:
    """Return a time as HTTP writes it."""
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)
