"""`pfn fsck`: looks at everything that a node keeps, says what is wrong and what to do, and repairs what it can.

While the node runs it only looks: a running node replaces damaged artifacts by itself (mending.py). With the node
stopped, `repair` puts damaged files aside so that the node gets them again, draws conclusions anew from the
announcements, and writes a damaged database anew from what can still be read of it (rewriting.py).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import sqlite_utils

from pfn_node.data_folder import hold_lock
from pfn_node.maintenance.artifact_files import check_files
from pfn_node.maintenance.backup_format import DATABASE
from pfn_node.maintenance.database_checks import REPAIR, check_database, check_pages
from pfn_node.maintenance.findings import Progress, Report
from pfn_node.maintenance.rewriting import conclude_again, rewrite
from pfn_node.store import page_checksums
from pfn_node.store.damage import is_unreadable
from pfn_node.store.database import StoreError, writer
from pfn_node.store.schema import unknown_migrations

_BUSY_SECONDS: Final = 10.0


class FsckError(Exception):
    """The folder cannot be looked at, or not be repaired now; the sentence says what to do."""


def check(
    data: Path,
    mesh: str,
    *,
    repair: bool = False,
    rewrite_always: bool = False,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Look at a data folder. `repair`: put right what can be. `rewrite_always`: also write a sound database anew.

    Raises FsckError, OSError.
    """
    path = data / DATABASE
    if not path.is_file():
        raise FsckError(f"{data} is not a node's data folder: there is no {DATABASE} in it")
    with hold_lock(data) as is_ours:
        if repair and not is_ours:
            raise FsckError("the node runs: stop it first. While it runs it replaces damaged artifacts by itself.")
        report = Report()
        _look(data, mesh, report, progress, repair=repair, is_ours=is_ours)
        if repair:
            _repair(path, mesh, report, rewrite_always)
        return report


def _look(data: Path, mesh: str, report: Report, progress: Progress, *, repair: bool, is_ours: bool) -> None:
    path = data / DATABASE
    check_pages(path, report, progress)
    db = None
    try:
        with _opened(path, is_ours) as db:
            unknown = unknown_migrations(db.conn)
            if unknown:
                raise FsckError(
                    f"{path} was written by a newer version of pfn (it knows {', '.join(unknown)}); use that one"
                )
            check_database(db, mesh, report, progress, is_ours=is_ours)
            check_files(data, db, report, progress, repair=repair, is_ours=is_ours)
            return
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        _pass_on(path, error)
        report.add("database", f"it cannot be read: {error}", REPAIR)
    check_files(data, None, report, progress, repair=repair, is_ours=is_ours)


def _pass_on(path: Path, error: Exception) -> None:
    """Raise FsckError for what is no damage, so that nothing sound is repaired away."""
    if not is_unreadable(error):
        raise FsckError(f"{path} cannot be looked at now: {error}; nothing of that is damage") from error


@contextmanager
def _opened(path: Path, is_ours: bool) -> Iterator[sqlite_utils.Database]:
    page_checksums.load()
    uri = f"{path.absolute().as_uri()}?mode={'rw' if is_ours else 'ro'}"
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
        yield sqlite_utils.Database(connection, execute_plugins=False)


def _repair(path: Path, mesh: str, report: Report, rewrite_always: bool) -> None:
    try:
        if report.has("database") or rewrite_always:
            aside, lost = _rewrite(path, mesh)
            report.repaired.append(f"the database was written anew; the old one is {aside}")
            report.repaired += [f"lost: {sentence}" for sentence in lost]
        elif report.has("announcements") or report.has("catalogue") or report.has("search"):
            with writer(path) as db, db.atomic():
                lost = conclude_again(db, mesh)
            report.repaired.append("the catalogue and the index of words were made again from the announcements")
            report.repaired += lost
    except (StoreError, sqlite3.DatabaseError) as error:
        raise FsckError(f"{path} cannot be repaired now: {error}; nothing was changed") from error


def _rewrite(path: Path, mesh: str) -> tuple[Path, list[str]]:
    try:
        return rewrite(path, mesh)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if not is_unreadable(error):
            raise
        raise FsckError(
            f"the database cannot be written anew ({error}). Put a backup in place, or take {path} away: then the node "
            "begins with an empty one and its own key, and announcements and zips come back from the mesh"
        ) from error
