"""Versions as Composer reads them: `Composer\\Semver\\VersionParser::normalize` of composer/semver 3, for releases.

Later ones read a little more than that of Debian 12, which is the one here: no client shall stumble over a version.
A version that it does not read, or takes for a branch, is no version of a package there: it cannot be listed.
"""

import re
from functools import lru_cache
from typing import Final

_MODIFIER: Final = r"[._-]?(?:(stable|beta|b|RC|alpha|a|patch|pl|p)((?:[.-]?\d+)*+)?)?([.-]?dev)?"
_FLAGS: Final = re.ASCII | re.IGNORECASE
_NUMBERED: Final = re.compile(r"v?(\d{1,5}+)(\.\d++)?(\.\d++)?(\.\d++)?" + _MODIFIER, _FLAGS)
_DATED: Final = re.compile(r"v?(\d{4}(?:[.:-]?\d{2}){1,6}(?:[.:-]?\d{1,3})?)" + _MODIFIER, _FLAGS)
_BUILD: Final = re.compile(r"([^,\s+]++)\+[^\s]++")
_LONG_FORMS: Final = {"a": "alpha", "b": "beta", "p": "patch", "pl": "patch", "rc": "RC"}


@lru_cache(4_096)
def normalize(version: str) -> str | None:
    """Return the version as Composer compares it ("1.1" -> "1.1.0.0"); None if it is none to Composer, or a branch."""
    if build := _BUILD.fullmatch(version):
        version = build[1]
    if found := _NUMBERED.fullmatch(version):
        numbers = found[1] + "".join(found[part] or ".0" for part in (2, 3, 4))
        first = 5
    elif found := _DATED.fullmatch(version):
        numbers, first = re.sub(r"\D", ".", found[1], flags=re.ASCII), 2
    else:
        return None
    word, counted, branch = found[first], found[first + 1], found[first + 2]
    if word == "stable":  # whatever follows it
        return numbers
    if branch:
        return None
    if not word:
        return numbers
    return f"{numbers}-{_LONG_FORMS.get(word.lower(), word.lower())}{(counted or '').lstrip('.-')}"
