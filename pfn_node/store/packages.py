"""Plugins as packages: what package managers are told of, under their own names.

A name is a digest's worth of a source's id, so somebody may find another id with the same name. What two plugins are
called is nobody's: it is answered as unknown, never with a guess.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlite_utils

from pfn_node.store.catalogue import observations_of, release_from
from pfn_node.store.changes import LISTABLE, Change, changes_after, newest_change
from pfn_node.store.queries import Row, change, select, to_json, value
from pfn_node.store.rows import PackageFacts, Release, Source
from pfn_node.store.safety import advisories_in_force, subject_of_notice
from pfn_node.store.sources import get_source
from pfn_protocol.announcements import EvidenceForm
from pfn_protocol.versions import sort_key

# Versions of one package that are told of; the newest ones.
VERSIONS_MAX: Final = 500
NAMES_MAX: Final = 100_000
# Plugins of one name whose advisories are shown: there is one, unless somebody looked for another.
NAMESAKES_MAX: Final = 8
# Versions of one package that are the same bytes; beyond this they were published again and again.
SAME_BYTES_MAX: Final = 32
# Signatures over one zip that are tried: its publisher makes one, nodes may report others.
SIGNATURES_MAX: Final = 8
# Zips: each row has up to a few kilobytes.
FACTS_MAX: Final = 200_000
# Digests are spread evenly: so many times those below this one are about all of them. To count them all would mean to
# read the whole table for each zip.
SAMPLE: Final = (b"\x00\x40", 1_024)
_COUNT_BELOW: Final = "SELECT count(*) FROM package_facts WHERE sha256 < ?"

OF_PLUGIN: Final = "r.source_id = p.source_id AND r.plugin_id = p.plugin_id"


@dataclass(frozen=True, slots=True)
class Package:
    """A plugin with the releases that may be installed, newest first, and what is known of their zips by digest."""

    source: Source | None
    releases: list[Release]
    facts: dict[bytes, PackageFacts]
    advisories: list[dict[str, Any]]


def package_named(db: sqlite_utils.Database, name: str) -> Package | None:
    """Return the one plugin of this Composer name that has something to install; None: there is none, or several."""
    sql = " ".join(
        (
            "SELECT r.* FROM plugins AS p JOIN releases AS r ON",
            OF_PLUGIN,
            "WHERE p.composer_name = ? AND",
            LISTABLE,
        )
    )
    releases = [release_from(row) for row in select(db, sql, (name,))]
    if len({(one.source_id, one.plugin_id) for one in releases}) != 1:
        return None
    releases = sorted(releases, key=lambda one: sort_key(one.version), reverse=True)[:VERSIONS_MAX]
    source_id, plugin_id = releases[0].source_id, releases[0].plugin_id
    return Package(
        source=get_source(db, source_id),
        releases=releases,
        facts=facts_of(db, source_id, plugin_id),
        advisories=advisories_in_force(db, source_id, plugin_id),
    )


def package_names(db: sqlite_utils.Database) -> list[str]:
    """Return the names of all that has something to install, at most `NAMES_MAX`, in their order."""
    sql = " ".join(
        (
            "SELECT DISTINCT p.composer_name FROM plugins AS p WHERE EXISTS (SELECT 1 FROM releases AS r WHERE",
            OF_PLUGIN,
            "AND",
            LISTABLE,
            ") ORDER BY 1 LIMIT ?",
        )
    )
    return [row["composer_name"] for row in select(db, sql, (NAMES_MAX,))]


@dataclass(slots=True)
class Names:
    """The names of all packages, read once for each change of what is told of plugins: that takes a third of a second
    where there are 60,000."""

    _change: int = -1
    _names: list[str] = field(default_factory=list)

    def read(self, db: sqlite_utils.Database) -> list[str]:
        """Return what `package_names` does."""
        change = newest_change(db)
        if change != self._change:
            self._names, self._change = package_names(db), change
        return self._names


def named_plugins(db: sqlite_utils.Database) -> list[tuple[str, str, str]]:
    """Return (Composer name, source id, plugin id) of every plugin that is listed, in the order of the names."""
    rows = select(db, "SELECT composer_name, source_id, plugin_id FROM plugins ORDER BY 1, 2, 3")
    return [(row["composer_name"], row["source_id"], row["plugin_id"]) for row in rows]


def changed_packages(db: sqlite_utils.Database, after: int, limit: int) -> list[tuple[Change, bool]]:
    """Return the packages that changed after a number, oldest change first, and whether each may be installed."""
    found = changes_after(db, after, limit)
    if not found:
        return []
    offered = " ".join(
        (
            "SELECT c.seq FROM plugin_changes AS c WHERE c.seq > ? AND c.seq <= ? AND EXISTS (",
            "SELECT 1 FROM releases AS r WHERE r.source_id = c.source_id AND r.plugin_id = c.plugin_id AND",
            LISTABLE,
            ")",
        )
    )
    installable = {row["seq"] for row in select(db, offered, (after, found[-1].seq))}
    return [(one, one.seq in installable) for one in found]


def versions_named(db: sqlite_utils.Database, name: str) -> tuple[str, str, list[str]] | None:
    """Return (source id, plugin id, versions that may be installed) of the one plugin of this Composer name.

    None: there is none, or several. Of very many versions `VERSIONS_MAX`, whichever.
    """
    sql = " ".join(
        (
            "SELECT r.source_id, r.plugin_id, r.version FROM plugins AS p JOIN releases AS r ON",
            OF_PLUGIN,
            "WHERE p.composer_name = ? AND",
            LISTABLE,
            "LIMIT ?",
        )
    )
    rows = select(db, sql, (name, VERSIONS_MAX))
    if len({(row["source_id"], row["plugin_id"]) for row in rows}) != 1:
        return None
    return rows[0]["source_id"], rows[0]["plugin_id"], [row["version"] for row in rows]


def advisories_named(db: sqlite_utils.Database, name: str) -> list[tuple[dict[str, Any], str, str, int]]:
    """Return (advisory, source id, plugin id, when it was heard) of all that has this name.

    Also of what may not be installed (any more): somebody has it.
    """
    found = []
    rows = select(db, "SELECT source_id, plugin_id FROM plugins WHERE composer_name = ? LIMIT ?", (name, NAMESAKES_MAX))
    for row in rows:
        key = (row["source_id"], row["plugin_id"])
        for one in advisories_in_force(db, *key):
            heard = _heard_at(db, *key, one["advisory_id"])
            found.append((one, *key, heard))
    return found


def _heard_at(db: sqlite_utils.Database, source_id: str, plugin_id: str, advisory_id: str) -> int:
    """Return when this node first heard of an advisory that is in force."""
    return int(
        value(
            db,
            """
            SELECT min(at) FROM (
                SELECT seen_at AS at FROM publisher_notices
                WHERE source_id = :source AND kind = 'advisory' AND subject = :subject
                UNION ALL SELECT received_at FROM notice_claims
                WHERE source_id = :source AND kind = 'advisory' AND plugin_id = :plugin AND about = :about)
            """,
            {
                "source": source_id,
                "plugin": plugin_id,
                "about": advisory_id,
                "subject": subject_of_notice(plugin_id, advisory_id),
            },
        )
        or 0
    )


def releases_of_bytes(db: sqlite_utils.Database, name: str, sha256: bytes) -> list[Release]:
    """Return the releases of a package that have this digest, whatever is known of them.

    By the package first: anybody may report that other releases, any number of them, have these bytes as well.
    """
    sql = " ".join(
        (
            "SELECT r.* FROM plugins AS p CROSS JOIN releases AS r ON",
            OF_PLUGIN,
            "AND +r.sha256 = ? WHERE p.composer_name = ? LIMIT ?",
        )
    )
    return [release_from(row) for row in select(db, sql, (sha256, name, SAME_BYTES_MAX))]


def facts_of(db: sqlite_utils.Database, source_id: str, plugin_id: str) -> dict[bytes, PackageFacts]:
    """Return what is known of the zips of a plugin, by their SHA-256."""
    rows = select(
        db,
        """
        SELECT f.* FROM releases AS r JOIN package_facts AS f ON f.sha256 = r.sha256
        WHERE r.source_id = ? AND r.plugin_id = ?
        """,
        (source_id, plugin_id),
    )
    return {row["sha256"]: _facts_from(row) for row in rows}


def facts_about(db: sqlite_utils.Database, releases: Sequence[Release]) -> dict[bytes, PackageFacts]:
    """Return the same of a few releases: a plugin may have thousands."""
    sql = "SELECT * FROM package_facts WHERE sha256 = ?"
    rows = (row for one in releases for row in select(db, sql, (one.sha256,)))
    return {row["sha256"]: _facts_from(row) for row in rows}


def _facts_from(row: Row) -> PackageFacts:
    return PackageFacts(row["sha1"], row["sha384"], json.loads(row["headers"]))


def sha384_signatures(db: sqlite_utils.Database, release: Release) -> tuple[bytes, ...]:
    """Return the signatures over the SHA-384 of a release's zip as they came; whether they hold is not looked at."""
    given = [
        piece.data
        for observation in observations_of(db, release.source_id, release.plugin_id, release.version)
        if observation.sha256 == release.sha256
        for piece in observation.evidence
        if piece.form is EvidenceForm.SHA384
    ]
    return tuple(dict.fromkeys(given))[:SIGNATURES_MAX]


def keep_facts(db: sqlite_utils.Database, facts: dict[bytes, PackageFacts]) -> None:
    """Remember what was read in zips, by their SHA-256; about `FACTS_MAX`, and of those that are releases first."""
    if _is_full(db):
        change(
            db,
            "DELETE FROM package_facts WHERE NOT EXISTS (SELECT 1 FROM releases WHERE sha256 = package_facts.sha256)",
        )
        if _is_full(db):
            return
    for sha256, one in facts.items():
        change(
            db,
            "INSERT OR REPLACE INTO package_facts (sha256, sha1, sha384, headers) VALUES (?, ?, ?, ?)",
            (sha256, one.sha1, one.sha384, to_json(one.headers)),
        )


def _is_full(db: sqlite_utils.Database) -> bool:
    below, times = SAMPLE
    return int(value(db, _COUNT_BELOW, (below,))) * times >= FACTS_MAX
