"""Plugins in the order in which they changed, and what of it is worth telling: for those who mirror, or follow.

A plugin has changed where what is told of its releases is not what it was. It then gets a new number, greater than
all before: a time in milliseconds, or one more than the last. So who has read up to a number, and asks for what is
after it, is given each plugin once, as it is now; and a client that knows no number yet begins with its clock. What is
no longer listed keeps a row for a while, so that those who mirror it learn of that.

News are single events: a release that may be installed was added, one was yanked, an advisory was given, a source
changed. Each is told once; a yank or an advisory that was taken back and given again is told again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import sqlite_utils

from pfn_node.composer_names import composer_name
from pfn_node.store.facts import get_fact, set_fact
from pfn_node.store.queries import Row, change, select, value
from pfn_node.store.rows import Release

NewsType = Literal["release.added", "release.yanked", "advisory.added", "source.changed"]

# Later than any time in milliseconds that a client may know; keeps numbers far from the edge of SQLite's integers.
CHANGE_MAX: Final = 2**50
# Plugins that are gone: who asks less often than that many go begins anew.
GONE_KEPT_MAX: Final = 50_000
_PRUNE_EVERY: Final = 100
SOURCE_NEWS_MAX: Final = 10_000  # news of releases are as many as releases
_FORGOTTEN: Final = "changes_forgotten_up_to"

# Backed by metadata signatures at least, nothing speaks against it, and its key is not new.
LISTABLE: Final = """
    r.backed AND r.assurance IN ('A1', 'A2', 'A3', 'A4') AND r.sha256 IS NOT NULL AND r.yanked IS NULL
    AND r.taken_down IS NULL AND NOT r.revoked_key AND r.held_back IS NULL AND r.cooldown_until IS NULL
"""


def is_listable(release: Release) -> bool:
    """Whether `LISTABLE` holds for a release that was read already."""
    return (
        release.backed
        and release.assurance in ("A1", "A2", "A3", "A4")
        and release.sha256 is not None
        and (release.yanked, release.taken_down, release.held_back, release.cooldown_until) == (None,) * 4
        and not release.revoked_key
    )


@dataclass(frozen=True, slots=True)
class Change:
    """A plugin that changed; `seq` says when (milliseconds since 1970, or a little later)."""

    seq: int
    source_id: str
    plugin_id: str
    gone: bool

    @property
    def composer_name(self) -> str:
        return composer_name(self.source_id, self.plugin_id)


def released_rows(db: sqlite_utils.Database, source_id: str, plugin_id: str) -> dict[str, Row]:
    """Return of each version of a plugin what is told of it."""
    return {row["version"]: row for row in select(db, _RELEASED, (source_id, plugin_id))}


_RELEASED: Final = " ".join(
    (
        "SELECT version, backed, assurance, type, name, description, tags, sha256, size, icons, observed_at, yanked,",
        "cooldown_until, taken_down, revoked_key, held_back, advisories,",
        LISTABLE,
        "AS listable FROM releases AS r WHERE source_id = ? AND plugin_id = ? ORDER BY version",
    )
)


def _digest_of(releases: Mapping[str, Row]) -> bytes:
    """Return what is the same as long as nothing that is told of these releases changes."""
    return hashlib.sha256(repr(list(releases.values())).encode("utf-8", "surrogatepass")).digest()


def note_change(
    db: sqlite_utils.Database, source_id: str, plugin_id: str, releases: Mapping[str, Row], now: int
) -> None:
    """Say how a plugin is now; without releases it is gone. `now` in seconds."""
    key = (source_id, plugin_id)
    digest = _digest_of(releases)
    before = select(db, "SELECT digest FROM plugin_changes WHERE source_id = ? AND plugin_id = ?", key)
    if before[0]["digest"] == digest if before else not releases:
        return
    seq = max(newest_change(db) + 1, (now + 1) * 1000)
    change(db, "INSERT OR REPLACE INTO plugin_changes VALUES (?, ?, ?, ?, ?)", (seq, *key, digest, not releases))
    if releases:
        _note_news(db, key, releases, now)
        return
    change(db, "DELETE FROM news WHERE source_id = ? AND plugin_id = ?", key)
    if seq % _PRUNE_EVERY == 0:
        _forget_oldest(db)


def note_source_change(db: sqlite_utils.Database, source_id: str, about: str, now: int) -> None:
    """Tell that a source changed: to which status, or that a key of it did. Of each kind the last stands."""
    key = (source_id, "", "source.changed", about)
    change(db, "DELETE FROM news WHERE source_id = ? AND plugin_id = ? AND type = ? AND about = ?", key)
    change(db, "INSERT INTO news (source_id, plugin_id, type, about, at) VALUES (?, ?, ?, ?, ?)", (*key, now))
    change(db, _FORGET_SOURCE_NEWS, (SOURCE_NEWS_MAX,))


_FORGET_SOURCE_NEWS: Final = """
    DELETE FROM news WHERE type = 'source.changed' AND id <= (
        SELECT id FROM news WHERE type = 'source.changed' ORDER BY id DESC LIMIT 1 OFFSET ?)
"""


def newest_change(db: sqlite_utils.Database) -> int:
    """Return the number of the last change; 0: nothing ever changed."""
    return int(value(db, "SELECT max(seq) FROM plugin_changes") or 0)


def changes_after(db: sqlite_utils.Database, after: int, limit: int, up_to: int | None = None) -> list[Change]:
    """Return the plugins that changed after a number, oldest change first."""
    rows = select(
        db,
        "SELECT seq, source_id, plugin_id, gone FROM plugin_changes WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        (after, newest_change(db) if up_to is None else up_to, limit),
    )
    return [Change(row["seq"], row["source_id"], row["plugin_id"], bool(row["gone"])) for row in rows]


def last_change(db: sqlite_utils.Database, source_id: str, plugin_id: str) -> Change | None:
    """Return when a plugin changed last."""
    sql = "SELECT seq, gone FROM plugin_changes WHERE source_id = ? AND plugin_id = ?"
    rows = select(db, sql, (source_id, plugin_id))
    return Change(rows[0]["seq"], source_id, plugin_id, bool(rows[0]["gone"])) if rows else None


def forgotten_up_to(db: sqlite_utils.Database) -> int:
    """Return the number up to which plugins that went were forgotten: who read no further has to begin anew."""
    return int(get_fact(db, _FORGOTTEN) or 0)


def _forget_oldest(db: sqlite_utils.Database) -> None:
    last = value(db, "SELECT seq FROM plugin_changes WHERE gone ORDER BY seq DESC LIMIT 1 OFFSET ?", (GONE_KEPT_MAX,))
    if last is not None:
        change(db, "DELETE FROM plugin_changes WHERE gone AND seq <= ?", (last,))
        set_fact(db, _FORGOTTEN, str(last))


def _note_news(db: sqlite_utils.Database, key: tuple[str, str], releases: Mapping[str, Row], now: int) -> None:
    told = {(row["type"], row["about"]) for row in select(db, _TOLD, key)}
    to_tell = _news_of(releases)
    for type, about in to_tell:
        if (type, about) not in told:
            change(
                db,
                "INSERT INTO news (type, source_id, plugin_id, about, at) VALUES (?, ?, ?, ?, ?)",
                (type, *key, about, now),
            )
    for type, about in told - to_tell.keys():
        if type != "release.added" or about not in releases:  # what is not offered for a while is not new after it
            change(db, f"{_TAKEN_BACK} AND type = ? AND about = ?", (*key, type, about))


_TOLD: Final = "SELECT type, about FROM news WHERE source_id = ? AND plugin_id = ?"
_TAKEN_BACK: Final = "DELETE FROM news WHERE source_id = ? AND plugin_id = ?"


def _news_of(releases: Mapping[str, Row]) -> dict[tuple[str, str], None]:
    """Return (type, about) of everything that is to be told of these releases, in its order."""
    found: dict[tuple[str, str], None] = {}
    for version, row in releases.items():
        if row["listable"]:
            found["release.added", version] = None
        if row["backed"] and row["yanked"] is not None:
            found["release.yanked", version] = None
        if row["backed"] and row["advisories"] != "[]":
            found |= {("advisory.added", one["advisory_id"]): None for one in json.loads(row["advisories"])}
    return found
