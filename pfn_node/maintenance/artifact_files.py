"""Whether the files of artifacts are what their names say, and all of them are there."""

import hashlib
import os
from pathlib import Path
from typing import Final

import sqlite_utils

from pfn_node.artifacts.checks import note_missing, put_aside_in
from pfn_node.artifacts.store import listed
from pfn_node.durable_files import is_lost, move_durably
from pfn_node.maintenance.backup_format import ARTIFACTS, artifact_files
from pfn_node.maintenance.findings import Progress, Report
from pfn_node.store.evidence import unpack_evidence
from pfn_node.store.queries import iterate, select
from pfn_protocol.errors import Refusal

_REPAIR: Final = "a running node finds and replaces them by itself; at once: stop it, and run: pfn fsck --repair"
_CACHE, _INCOMING, _STORED, _DAMAGED = "cache", "incoming", "stored", "damaged"


def check_files(
    data: Path, db: sqlite_utils.Database | None, report: Report, progress: Progress, *, repair: bool, is_ours: bool
) -> None:
    """Read every file through. `repair`: what is damaged is put aside, and wanted again like what is missing.

    `db`: None if it cannot be read; then nobody knows what should be there. Raises OSError if a file cannot be looked
    at now.
    """
    folder = data / ARTIFACTS
    kept = dict(artifact_files(data))
    cached = dict(_cached(folder))
    files = [*kept.items(), *cached.items()]
    damaged: list[str] = []
    for done, (digest, file) in enumerate(files):
        progress(done, len(files))
        if _is_sound(digest, file):
            continue
        damaged.append(digest.hex())
        if repair:
            move_durably(file, folder / _DAMAGED / digest.hex())
    report.looked_at["artifacts"] = len(files)
    report.add("artifacts", "files are not what their names say", _REPAIR, damaged)
    if repair and damaged:
        report.repaired.append(
            f"{len(damaged)} damaged files were put aside ({folder / _DAMAGED}); the node gets them again when it runs"
        )
    if db is not None:
        _compare(folder, db, kept, cached, report, repair=repair)
    waiting = [digest.hex() for digest in put_aside_in(folder) if digest not in kept and digest not in cached]
    report.add("artifacts", "were damaged or lost, and are wanted again", "start the node", waiting, damage=False)
    if is_ours and (folder / _INCOMING).is_dir():
        rests = sorted(file.name for file in (folder / _INCOMING).iterdir())
        report.add("artifacts", "files were never finished", "the node removes them at its start", rests, damage=False)


def _compare(
    folder: Path,
    db: sqlite_utils.Database,
    kept: dict[bytes, Path],
    cached: dict[bytes, Path],
    report: Report,
    *,
    repair: bool,
) -> None:
    """What the database says is here, and what is."""
    noted = {row["sha256"]: row["cached"] for row in select(db, "SELECT sha256, cached FROM artifacts")}
    stored = dict(listed(folder / _STORED))
    wanted = set(put_aside_in(folder))
    missing = [
        digest
        for digest, is_cached in noted.items()
        if not is_cached and digest not in kept and digest not in cached and digest not in stored
    ]
    report.add("artifacts", "files are missing", _REPAIR, [one.hex() for one in missing if one not in wanted])
    if repair:
        for digest in missing:
            note_missing(folder, digest)
    strange = {*kept, *cached} - set(noted)
    if strange:
        strange -= _texts(db)
    named = [digest.hex() for digest in sorted(strange)]
    report.add("artifacts", "files belong to nothing that is known", "they do no harm", named, damage=False)


def _texts(db: sqlite_utils.Database) -> set[bytes]:
    """The digests of signed texts that evidence names."""
    found: set[bytes] = set()
    for row in iterate(db, "SELECT DISTINCT evidence FROM observations"):
        try:
            found |= {piece.text_sha256 for piece in unpack_evidence(row["evidence"])}
        except (Refusal, ValueError):  # damaged; it is said elsewhere
            continue
    return found


def _cached(folder: Path) -> list[tuple[bytes, Path]]:
    found = []
    for file in sorted((folder / _CACHE).glob("??/*")):
        name = file.parent.name + file.name
        if len(name) == 2 * hashlib.sha256().digest_size:
            found.append((bytes.fromhex(name), file))
    return found


def _is_sound(digest: bytes, file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            # What the system holds in memory may be right while the disk is not.
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return hashlib.file_digest(stream, "sha256").digest() == digest
    except FileNotFoundError:  # deleted meanwhile, by a running node
        return True
    except OSError as error:
        if not is_lost(error):
            raise
        return False
