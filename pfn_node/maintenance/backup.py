"""`pfn backup`: a consistent copy of a node's data folder, also while the node runs.

The database is copied through SQLite's own backup interface inside one read transaction, so it is one committed state,
whatever is written meanwhile; everything that was acknowledged before is in it. Artifacts never change, so those that
are there afterwards are copied file by file, and each is checked against its name on the way: what is damaged here is
left out and reported. The copy appears under its name when it is whole and on the disk.

The node's key is left out unless that is asked for. Not because a node that is restored with it would contradict
itself: every start begins a new epoch, so it never does (R29). But who has the key can speak in the node's name, and
two nodes that run with it silence each other (R35).
"""

import hashlib
import io
import os
import secrets
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Protocol

from pfn_node.data_folder import KEY_FILE, DataFolderError, load_or_make_key
from pfn_node.durable_files import flush_folder, is_lost, move_durably, remove_folder
from pfn_node.maintenance.backup_format import (
    ARTIFACTS,
    DATABASE,
    KEY_FILES,
    MANIFEST,
    PIECE_BYTES,
    STORED,
    BackupError,
    Manifest,
    artifact_files,
)
from pfn_node.maintenance.stored_listing import pack_listing
from pfn_node.store import page_checksums
from pfn_protocol.identity import did_key

# Told of what was done so far and what there is to do, in bytes.
Progress = Callable[[int, int], None]
# Pages that are copied between two looks at the progress.
_PAGES: Final = 1_000
# How long a connection waits for a lock, that only another maintenance command could hold.
_BUSY_SECONDS: Final = 10.0


@dataclass(slots=True)
class Backup:
    """What was copied, and what could not be: digests of artifacts that are damaged here."""

    manifest: Manifest
    path: Path
    damaged: list[bytes] = field(default_factory=list)


class _Target(Protocol):
    """Where files of a backup go: a folder or a tar file."""

    def add_bytes(self, name: str, data: bytes) -> None: ...
    def add_file(self, name: str, file: Path, *, link: bool) -> None: ...


def make_backup(
    data: Path,
    target: Path,
    *,
    with_artifacts: bool = True,
    with_key: bool = False,
    link: bool = False,
    progress: Progress = lambda done, total: None,
) -> Backup:
    """Copy the data folder `data` to `target`: a tar file if its name ends in .tar, else a new folder.

    `link`: artifacts are hard links where that is possible, which is fast, but no protection against a dying disk.
    Raises BackupError, OSError.
    """
    if not (data / DATABASE).is_file():
        raise BackupError(f"{data} is not a node's data folder: there is no {DATABASE} in it")
    if target.exists():
        raise BackupError(f"{target} exists already; give --to a name that is free")
    node_id = _node_id(data)
    damaged: list[bytes] = []
    count = size = 0
    with _new_target(target) as (files, scratch):
        copied = scratch / DATABASE
        _copy_database(data / DATABASE, copied, progress)
        described = {DATABASE: _digest_and_size(copied)}
        files.add_file(DATABASE, copied, link=True)
        for name in KEY_FILES:
            if with_key and (data / name).exists():
                described[name] = _digest_and_size(data / name)
                files.add_bytes(name, (data / name).read_bytes())
        if pack_listing(data, scratch / STORED):
            described[STORED] = _digest_and_size(scratch / STORED)
            files.add_file(STORED, scratch / STORED, link=False)
        if with_artifacts:
            for digest, file, bytes_ in _sound_artifacts(data, damaged, progress):
                files.add_file(f"{ARTIFACTS}/{digest.hex()[:2]}/{digest.hex()[2:]}", file, link=link)
                count, size = count + 1, size + bytes_
        manifest = Manifest(int(time.time()), node_id, KEY_FILE in described, count, size, with_artifacts, described)
        files.add_bytes(MANIFEST, manifest.to_bytes())
    return Backup(manifest, target, damaged)


def _node_id(data: Path) -> str:
    if not (data / KEY_FILE).exists():
        return ""
    try:
        return did_key(load_or_make_key(data).public)
    except DataFolderError as error:
        raise BackupError(str(error)) from error


def _copy_database(source: Path, target: Path, progress: Progress) -> None:
    """One committed state of the database; the writer of a running node is not kept waiting."""

    def report(_: int, remaining: int, total: int) -> None:
        progress(total - remaining, total)

    if page_checksums.has_checksums(source) and page_checksums.load():
        # Verified while it is copied; and the copy has checksums too, which SQLite has to know before its first write.
        target.write_bytes(page_checksums.empty_database())
    try:
        uri = f"{source.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as read:
            # In a transaction of its own the copying sees no later commit, and never has to begin again.
            read.execute("BEGIN")
            read.execute("SELECT count(*) FROM sqlite_master").fetchone()
            with closing(sqlite3.connect(target, isolation_level=None)) as written:
                read.backup(written, pages=_PAGES, progress=report)
                written.execute("PRAGMA journal_mode = DELETE")  # one file, whole
                found = written.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise BackupError(
            f"the database cannot be read: {error}; look with: pfn fsck --data {source.parent}"
        ) from error
    if found != "ok":
        raise BackupError(f"the database is damaged: {found}; see what with: pfn fsck --data {source.parent}")


def _sound_artifacts(data: Path, damaged: list[bytes], progress: Progress) -> Iterator[tuple[bytes, Path, int]]:
    """(digest, file, size) of every artifact that is kept and is what its name says."""
    found = list(artifact_files(data))
    for done, (digest, file) in enumerate(found):
        progress(done, len(found))
        try:
            sha256, size = _digest_and_size(file)
        except FileNotFoundError:  # deleted meanwhile: nobody misses it
            continue
        except OSError as error:
            if not is_lost(error):
                raise
            damaged.append(digest)
            continue
        if sha256 == digest.hex():
            yield digest, file, size
        else:
            damaged.append(digest)
    progress(len(found), len(found))


def _digest_and_size(file: Path) -> tuple[str, int]:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), os.fstat(stream.fileno()).st_size


@contextmanager
def _new_target(target: Path) -> Iterator[tuple[_Target, Path]]:
    """Where the files go, and a folder for scratch; what is there at the end gets its name at once, or it never was."""
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(4)}.scratch")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        scratch.mkdir(mode=0o700)
        with ExitStack() as stack:
            if target.suffix == ".tar":
                descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                stream = stack.enter_context(os.fdopen(descriptor, "wb"))
                with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
                    yield _TarTarget(tar), scratch
                stream.flush()
                os.fsync(stream.fileno())
            else:
                partial.mkdir(mode=0o700)
                yield _FolderTarget(partial), scratch
                for folder in sorted({file.parent for file in partial.rglob("*")}, reverse=True):
                    flush_folder(folder)
        move_durably(partial, target)
    finally:
        remove_folder(scratch)
        if partial.is_dir():
            remove_folder(partial)
        elif partial.exists():
            partial.unlink()


class _FolderTarget:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add_bytes(self, name: str, data: bytes) -> None:
        self._write(name, io.BytesIO(data))

    def add_file(self, name: str, file: Path, *, link: bool) -> None:
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if link:
            try:
                os.link(file, target)
                return
            except OSError:  # another file system, or one without links
                pass
        with file.open("rb") as stream:
            self._write(name, stream)

    def _write(self, name: str, stream: IO[bytes]) -> None:
        descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as written:
            shutil.copyfileobj(stream, written, PIECE_BYTES)
            written.flush()
            os.fsync(descriptor)


class _TarTarget:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add_bytes(self, name: str, data: bytes) -> None:
        self._add(name, io.BytesIO(data), len(data))

    def add_file(self, name: str, file: Path, *, link: bool) -> None:
        with file.open("rb") as stream:
            self._add(name, stream, os.fstat(stream.fileno()).st_size)

    def _add(self, name: str, stream: IO[bytes], size: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = size, 0o600, int(time.time())
        self._tar.addfile(entry, stream)
