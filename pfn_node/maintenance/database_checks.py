"""Whether a node's database is whole, and says what the announcements in it say.

Announcements prove themselves: each is verified again as if it came over the wire. What is concluded from them and
what is found by words is compared with them; the audit log is a chain of hashes. The rest (keys, pins, subscriptions)
nothing vouches for but the file, so of that the pages are looked at, and what SQLite knows of its own structure.
"""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import sqlite_utils

from pfn_node.maintenance.findings import Progress, Report
from pfn_node.store import audit, page_checksums
from pfn_node.store.damage import is_unreadable
from pfn_node.store.queries import iterate, value
from pfn_protocol.acceptance import verified
from pfn_protocol.announcements import AcceptedAnnouncement, Conviction, VersionStatement
from pfn_protocol.errors import Refusal

REPAIR: Final = "stop the node, and run: pfn fsck --repair"
_REBUILT: Final = f"it follows from the announcements: {REPAIR}"
# Findings of SQLite that are listed.
_STRUCTURE_MAX: Final = 100
_STATEMENTS: Final = (
    (
        "versions are listed, which nobody saw",
        "SELECT source_id || ' ' || plugin_id || ' ' || version FROM releases AS r WHERE NOT EXISTS (SELECT 1 FROM "
        "observations AS o WHERE o.source_id = r.source_id AND o.plugin_id = r.plugin_id AND o.version = r.version)",
    ),
    (
        "plugins are listed in a version that is not there",
        "SELECT source_id || ' ' || plugin_id FROM plugins AS p WHERE NOT EXISTS (SELECT 1 FROM releases AS r "
        "WHERE r.source_id = p.source_id AND r.plugin_id = p.plugin_id AND r.version = p.version)",
    ),
    (
        "plugins have versions, and are not listed",
        "SELECT DISTINCT source_id || ' ' || plugin_id FROM releases AS r WHERE NOT EXISTS (SELECT 1 FROM plugins AS p "
        "WHERE r.source_id = p.source_id AND r.plugin_id = p.plugin_id)",
    ),
    (
        "versions are said to be mirrored or not, other than they are",
        "SELECT source_id || ' ' || plugin_id || ' ' || version FROM releases AS r WHERE mirrored <> EXISTS "
        "(SELECT 1 FROM artifacts WHERE artifacts.sha256 = r.sha256)",
    ),
)
_SEARCH: Final = (
    (
        "plugins cannot be found by their words",
        "SELECT source_id || ' ' || plugin_id FROM plugins WHERE id NOT IN (SELECT rowid FROM plugin_texts)",
    ),
    (
        "texts belong to no plugin",
        "SELECT plugin_id FROM plugin_texts WHERE rowid NOT IN (SELECT id FROM plugins)",
    ),
)


def check_pages(path: Path, report: Report, progress: Progress) -> None:
    """Look at every page of the file, if they have checksums."""
    if not page_checksums.has_checksums(path):
        report.add(
            "database",
            "its pages have no checksums: what is damaged there may be served",
            "to add them: stop the node, and run: pfn fsck --repair --rewrite",
            damage=False,
        )
        return
    damaged: list[str] = []
    for done, pages, found in page_checksums.damaged_pages(path):
        damaged += [f"page {number}" for number in found]
        report.looked_at["pages"] = pages
        progress(done, pages)
    report.add("database", "pages are not what was written", REPAIR, damaged)


def check_database(db: sqlite_utils.Database, mesh: str, report: Report, progress: Progress, *, is_ours: bool) -> None:
    """Look at the structure and at what is in it; `is_ours`: no node uses it now.

    Raises sqlite3.DatabaseError for what is no damage: it can be looked at another time.
    """
    parts: list[tuple[str, Callable[[], None]]] = [
        ("database", lambda: _check_structure(db, report)),
        ("announcements", lambda: _check_announcements(db, mesh, report, progress)),
        ("catalogue", lambda: _check_lists(db, "catalogue", _STATEMENTS, report)),
        ("search", lambda: _check_search(db, report, is_ours)),
        ("audit", lambda: _check_audit(db, report)),
    ]
    for where, look in parts:
        try:
            look()
        except sqlite3.DatabaseError as error:
            if not is_unreadable(error):
                raise
            report.add(where, f"it cannot be read: {error}", REPAIR)


def _check_structure(db: sqlite_utils.Database, report: Report) -> None:
    found = [str(row[0]) for row in db.execute(f"PRAGMA integrity_check({_STRUCTURE_MAX})").fetchall()]
    report.add("database", "things are wrong with its structure", REPAIR, [one for one in found if one != "ok"])
    broken = db.execute("PRAGMA foreign_key_check").fetchmany(_STRUCTURE_MAX)
    named = [f"{table} {rowid} without {parent}" for table, rowid, parent, _ in broken]
    report.add("database", "rows refer to rows that are missing", REPAIR, named)


def _check_announcements(db: sqlite_utils.Database, mesh: str, report: Report, progress: Progress) -> None:
    there = int(value(db, "SELECT count(*) FROM announcements"))
    forged, other, unlisted, foreign = [], [], [], 0
    for done, (row, announcement) in enumerate(verified_announcements(db, mesh)):
        progress(done, there)
        if isinstance(announcement, Refusal):
            foreign += announcement.rule == "R5"
            forged.append(f"{row['id'].hex()[:16]} ({announcement.rule})")
        elif not agrees(row, announcement) or not marks_agree(row, announcement):
            other.append(row["id"].hex()[:16])
        elif isinstance(announcement.statement, VersionStatement) and not _is_listed(db, announcement):
            unlisted.append(f"{row['id'].hex()[:16]} ({announcement.subject})")
    report.looked_at["announcements"] = there
    if foreign and foreign == there:
        report.add("announcements", f"none is of the mesh {mesh!r}", "name the node's own mesh: --mesh NAME")
        return
    report.add("announcements", "do not bear the signature that they need", f"others have them: {REPAIR}", forged)
    report.add("announcements", "do not say what is noted about them", f"others have them: {REPAIR}", other)
    report.add("catalogue", "announced versions are not in the catalogue", _REBUILT, unlisted)


def verified_announcements(
    db: sqlite_utils.Database, mesh: str
) -> Iterator[tuple[dict[str, Any], AcceptedAnnouncement | Refusal]]:
    """Every row, with what it is; a refusal if it is none."""
    for row in iterate(db, "SELECT * FROM announcements"):
        try:
            yield row, verified(row["raw"], mesh)
        except Refusal as refusal:
            yield row, refusal


def agrees(row: dict[str, Any], announcement: AcceptedAnnouncement) -> bool:
    """Whether the columns beside an announcement say what it says itself."""
    names = ("id", "author", "subject") if isinstance(announcement.statement, Conviction) else _COLUMNS
    return str(announcement.kind) == row["kind"] and all(row[name] == getattr(announcement, name) for name in names)


_COLUMNS: Final = ("id", "author", "subject", "epoch", "seq")


def marks_agree(row: dict[str, Any], announcement: AcceptedAnnouncement) -> bool:
    """Whether the marks beside an announcement are its own. A version of this software that knew none kept none."""
    kept = (row.get("content"), row.get("replaces"))
    return kept[0] is None or kept == (announcement.content, announcement.replaces)


def _is_listed(db: sqlite_utils.Database, announcement: AcceptedAnnouncement) -> bool:
    said = announcement.statement
    assert isinstance(said, VersionStatement)
    key = (said.source_id, said.plugin_id, said.version, announcement.author, said.sha256)
    found = value(
        db,
        "SELECT size FROM observations WHERE source_id = ? AND plugin_id = ? AND version = ? AND observer = ? "
        "AND sha256 = ?",
        key,
    )
    return found is not None


def _check_lists(
    db: sqlite_utils.Database, where: str, statements: tuple[tuple[str, str], ...], report: Report
) -> None:
    for what, sql in statements:
        report.add(where, what, _REBUILT, [str(row[0]) for row in db.execute(sql).fetchall()])


def _check_search(db: sqlite_utils.Database, report: Report, is_ours: bool) -> None:
    _check_lists(db, "search", _SEARCH, report)
    if not is_ours:
        return  # SQLite takes this check for a write
    try:
        db.execute("INSERT INTO plugin_texts (plugin_texts, rank) VALUES ('integrity-check', 1)")
    except sqlite3.DatabaseError as error:
        if not is_unreadable(error):
            raise
        report.add("search", f"the index of words is not that of the texts: {error}", _REBUILT)


def _check_audit(db: sqlite_utils.Database, report: Report) -> None:
    report.looked_at["audit entries"] = int(value(db, "SELECT count(*) FROM audit"))
    found = audit.broken(audit.AuditEntry(**row) for row in iterate(db, "SELECT * FROM audit ORDER BY seq"))
    found = found or audit.cut_off(db)
    if found is not None:
        report.add("audit", found, "somebody changed it, or the disk did; a backup has it as it was")
