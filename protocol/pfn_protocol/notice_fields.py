"""What a yank and an advisory are made of, whether a publisher signs them or a node says them (R68, R69, R137, R138).

An advisory names the versions that it is about by ranges: (from, until), in PHP's order of versions, `from` among
them and `until` not. An empty `from` is the very first version, an empty `until` every version still to come.
"""

import re
from typing import Final

from pfn_protocol.encoding import Value
from pfn_protocol.errors import Refusal
from pfn_protocol.fields import FieldReader
from pfn_protocol.limits import (
    advisory_aliases_max,
    advisory_id_chars_max,
    advisory_ranges_max,
    url_chars_max,
    version_chars_max,
    word_chars_max,
)
from pfn_protocol.names import check_version
from pfn_protocol.versions import compare

SEVERITIES: Final = ("low", "medium", "high", "critical")
Ranges = tuple[tuple[str, str], ...]

_ADVISORY_ID: Final = re.compile(rf"[0-9A-Za-z][0-9A-Za-z._:-]{{0,{advisory_id_chars_max - 1}}}")
_SHOWN_URL: Final = re.compile(r"https?://[^\s\"<>\\^`{|}]+")


def affects(ranges: Ranges, version: str) -> bool:
    """Whether a version lies in one of the ranges."""
    return any(
        (first == "" or compare(version, first) >= 0) and (until == "" or compare(version, until) < 0)
        for first, until in ranges
    )


def read_advisory_id(reader: FieldReader) -> str:
    advisory_id = reader.text("advisory_id", advisory_id_chars_max)
    if _ADVISORY_ID.fullmatch(advisory_id) is None:
        raise reader.refusal("advisory_id", "letters, digits, '.', '_', ':' and '-', beginning with a letter or digit")
    return advisory_id


def read_severity(reader: FieldReader) -> str:
    severity = reader.text("severity", word_chars_max)
    if severity not in SEVERITIES:
        raise reader.refusal("severity", "one of " + ", ".join(SEVERITIES))
    return severity


def read_ranges(reader: FieldReader, rule: str) -> Ranges:
    """Take at least one range; each is of versions that ascend."""
    items = reader.items("ranges", advisory_ranges_max)
    if not items:
        raise reader.refusal("ranges", "at least one range of versions")
    return tuple(_read_range(item, rule) for item in items)


def _read_range(item: Value, rule: str) -> tuple[str, str]:
    reader = FieldReader(item, 2, rule, "a range of versions")
    first, until = (reader.text(field, version_chars_max) for field in ("from", "until"))
    for version in (first, until):
        if version:
            check_version(version)
    if first and until and compare(first, until) >= 0:
        raise reader.refusal("until", "a later version than from")
    return first, until


def read_shown_url(reader: FieldReader) -> str:
    """Take a URL that is shown to people and never fetched; it may be empty."""
    url = reader.text("url", url_chars_max)
    if url and _SHOWN_URL.fullmatch(url) is None:
        raise reader.refusal("url", "empty, or begin with https:// or http:// and hold no white space or quotes")
    return url


def read_aliases(reader: FieldReader) -> tuple[str, ...]:
    aliases = reader.texts("aliases", advisory_aliases_max, advisory_id_chars_max)
    if any(_ADVISORY_ID.fullmatch(alias) is None for alias in aliases):
        raise reader.refusal("aliases", "names such as CVE-2026-1234")
    return aliases


def check_notice_size(size: int, size_max: int, rule: str) -> None:
    """Raise `Refusal` for an envelope of one's own that is longer than others accept."""
    if size > size_max:
        raise Refusal(rule, f"the envelope would have {size} bytes, and {size_max} are accepted; shorten its texts")
