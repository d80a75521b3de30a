"""Which advisories are shown with which versions of a plugin; worked out for all of its versions in one go.

A plugin may have a thousand of each, so neither is asked about every one of the other: versions are put in their order
once, a range is a piece of that, and a version that has as many as are shown is passed over.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, Final

import sqlite_utils

from pfn_node.store.queries import change, select, to_json
from pfn_protocol.versions import sort_key

# Shown with one release; a plugin with more weaknesses than this needs no longer list.
ADVISORIES_SHOWN_MAX: Final = 32

Advisories = list[dict[str, Any]]


def advisories_by_version(advisories: Advisories, versions: Iterable[str]) -> dict[str, Advisories]:
    """Return for each version the first of the advisories, in their order, that have it in one of their ranges."""
    ordered = [(sort_key(version), version) for version in versions]
    ordered.sort(key=lambda pair: pair[0])
    keys = [key for key, _ in ordered]
    shown: list[Advisories] = [[] for _ in ordered]
    room = _Room(len(ordered))
    for one in advisories:
        for span in one["ranges"]:
            end = bisect_left(keys, sort_key(span["until"])) if span["until"] else len(keys)
            at = room.at_or_after(bisect_left(keys, sort_key(span["from"])) if span["from"] else 0)
            while at < end:
                if not shown[at] or shown[at][-1] is not one:
                    shown[at].append(one)
                if len(shown[at]) == ADVISORIES_SHOWN_MAX:
                    room.fill(at)
                at = room.at_or_after(at + 1)
    return {version: about for (_, version), about in zip(ordered, shown, strict=True)}


def mark_advisories(db: sqlite_utils.Database, source_id: str, plugin_id: str, advisories: Advisories) -> None:
    """Store with every release of a plugin which of these, the advisories that count here, are about it."""
    rows = select(
        db,
        "SELECT version, advisories FROM releases WHERE source_id = ? AND plugin_id = ?",
        (source_id, plugin_id),
    )
    about = advisories_by_version(advisories, [row["version"] for row in rows])
    for row in rows:
        text = to_json(about[row["version"]])
        if text != row["advisories"]:
            change(
                db,
                "UPDATE releases SET advisories = ? WHERE source_id = ? AND plugin_id = ? AND version = ?",
                (text, source_id, plugin_id, row["version"]),
            )


class _Room:
    """Which places are not full yet; finding the next one takes hardly longer the more of them are full."""

    def __init__(self, count: int) -> None:
        self._next = list(range(count + 1))

    def fill(self, place: int) -> None:
        self._next[place] = place + 1

    def at_or_after(self, place: int) -> int:
        """Return the first place from here on that has room; the count of places if there is none."""
        while self._next[place] != place:
            self._next[place] = self._next[self._next[place]]
            place = self._next[place]
        return place
