"""`pfn restore`: put a backup in place as a new data folder, if it is whole.

Everything is written beside the folder that is wanted, and checked there: every digest, the database by SQLite itself,
and that this version knows its schema. Then one rename makes it the data folder. What is restored with its key may
start at once: each start begins a new epoch, and what the node said since the backup it reads back from its
neighbours (R29, R35).
"""

import hashlib
import os
import secrets
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Final

from pfn_node.durable_files import flush_folder, move_durably, remove_folder
from pfn_node.maintenance.backup_format import (
    ARTIFACTS,
    DATABASE,
    KEY_FILES,
    MANIFEST,
    MANIFEST_BYTES_MAX,
    PIECE_BYTES,
    STORED,
    BackupError,
    Manifest,
    digest_named,
    parse_manifest,
)
from pfn_node.maintenance.stored_listing import unpack_listing
from pfn_node.store import page_checksums
from pfn_node.store.schema import unknown_migrations

Progress = Callable[[int, int], None]
# A file of a backup: its name in it, and its bytes, which are read once.
_Entry = tuple[str, IO[bytes]]
_DAMAGED: Final = "the backup is damaged"


def restore_backup(source: Path, data: Path, *, progress: Progress = lambda done, total: None) -> Manifest:
    """Make `data` a node's data folder out of the backup `source`, a folder or tar file; return what that says.

    Raises BackupError, OSError; then `data` is as it was.
    """
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise BackupError(f"{data} is not empty; restore into a new folder, then start the node there")
    data.parent.mkdir(parents=True, exist_ok=True)
    partial = data.with_name(f".{data.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir(mode=0o700)
        with _opened(source) as entries:
            manifest = _write_checked(entries, partial, progress)
        _check_database(partial / DATABASE)
        if (partial / STORED).exists():
            unpack_listing(partial / STORED, partial)
            (partial / STORED).unlink()
        for folder in sorted({file.parent for file in partial.rglob("*")}, reverse=True):
            flush_folder(folder)
        try:
            move_durably(partial, data)
        except OSError as error:
            raise BackupError(
                f"{data} cannot be put in place ({error.strerror}); if it is a mount, give a folder inside of it"
            ) from error
        return manifest
    finally:
        remove_folder(partial)


def _write_checked(entries: Iterator[_Entry], folder: Path, progress: Progress) -> Manifest:
    """Write what belongs into a data folder, and check it against the manifest, which may come last."""
    manifest: Manifest | None = None
    found: dict[str, tuple[str, int]] = {}
    artifacts = bytes_ = 0
    for name, stream in entries:
        wanted = digest_named(name)
        if name == MANIFEST:
            manifest = parse_manifest(stream.read(MANIFEST_BYTES_MAX))
        elif name in (DATABASE, STORED, *KEY_FILES):
            found[name] = _write(stream, folder / name)
        elif wanted is not None:
            sha256, size = _write(stream, folder / name)
            if sha256 != wanted.hex():
                raise BackupError(f"{_DAMAGED}: {name} is not what its name says")
            artifacts, bytes_ = artifacts + 1, bytes_ + size
            progress(bytes_, manifest.artifact_bytes if manifest else 0)
        else:
            raise BackupError(f"this is no backup of a node: {name[:100]!r} does not belong into one")
    if manifest is None:
        raise BackupError(f"there is no {MANIFEST}: this is no backup of a node, or one that was never finished")
    for name in {*manifest.files, *found}:
        if found.get(name) != manifest.files.get(name):
            raise BackupError(f"{_DAMAGED}: {name} is not what the manifest says")
    if artifacts != manifest.artifacts:
        raise BackupError(f"{_DAMAGED}: it has {artifacts} artifacts, and says that it has {manifest.artifacts}")
    return manifest


def _write(stream: IO[bytes], target: Path) -> tuple[str, int]:
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o644 if target.parent.parent.name == ARTIFACTS else 0o600
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    digest, size = hashlib.sha256(), 0
    with os.fdopen(descriptor, "wb") as written:
        while piece := stream.read(PIECE_BYTES):
            digest.update(piece)
            written.write(piece)
            size += len(piece)
        written.flush()
        os.fsync(descriptor)
    return digest.hexdigest(), size


@contextmanager
def _opened(source: Path) -> Iterator[Iterator[_Entry]]:
    """The files of a backup; of a folder the manifest first."""
    if source.is_dir():
        yield _in_folder(source)
        return
    try:
        with tarfile.open(source, mode="r:") as tar:
            yield _in_tar(tar)
    except tarfile.TarError as error:
        raise BackupError(f"{source} is neither a backup's folder nor its whole tar file: {error}") from error


def _in_folder(source: Path) -> Iterator[_Entry]:
    files = (file for file in sorted(source.rglob("*")) if not file.is_dir())
    for file in sorted(files, key=lambda file: file.name != MANIFEST):
        with file.open("rb") as stream:
            yield file.relative_to(source).as_posix(), stream


def _in_tar(tar: tarfile.TarFile) -> Iterator[_Entry]:
    names: set[str] = set()
    for entry in tar:
        stream = tar.extractfile(entry) if entry.isreg() else None
        if stream is None or entry.name in names:
            raise BackupError(f"this is no backup of a node: {entry.name[:100]!r} does not belong into one")
        names.add(entry.name)
        yield entry.name, stream


def _check_database(path: Path) -> None:
    page_checksums.load()
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise BackupError(f"{_DAMAGED}: the database says: {found}")
            unknown = unknown_migrations(db)
    except sqlite3.DatabaseError as error:
        raise BackupError(f"{_DAMAGED}: the database cannot be read: {error}") from error
    if unknown:
        raise BackupError(
            f"the backup was made by a newer version of pfn (it knows {', '.join(unknown)}); restore it with that one"
        )
