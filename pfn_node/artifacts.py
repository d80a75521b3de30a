"""Plugin zips by their SHA-256: the only place that writes them, and where consumers read them from.

    FOLDER/ab/cdef...          kept: mirrored on purpose; nothing but `delete` removes one
    FOLDER/cache/ab/cdef...    fetched for somebody without a key; the least recently used make room for the next
    FOLDER/incoming/...        being written; removed at start

A file appears under its digest by one rename, after it and then its folder were flushed to the disk: whoever sees it
sees all of it, also after a power cut. Files never change, so a reader keeps its descriptor while the name goes away.
Everything here blocks and may be called from any thread.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import Self

_CACHE, _INCOMING = "cache", "incoming"
_READ_BYTES = 256 * 1024


class ArtifactError(Exception):
    """An artifact cannot be had or kept; `args[0]` is a sentence."""


class ArtifactMissing(ArtifactError):
    """It is not here (any more: the cache may have dropped it between two calls)."""


class ArtifactMismatch(ArtifactError):
    """The bytes are not those that the digest names."""


class CacheTooSmall(ArtifactError):
    """It is larger than the whole cache."""


@dataclass(frozen=True, slots=True)
class OpenArtifact:
    """A descriptor for reading, which the caller closes, and the size in bytes."""

    fd: int
    size: int


class Artifacts:
    """The store in one folder. Call `start` before anything else; one process may use a folder at a time."""

    def __init__(self, folder: Path, cache_bytes_max: int) -> None:
        self._folder = folder
        self._cache_bytes_max = cache_bytes_max
        self._lock = threading.Lock()  # held for renames and deletions, never while bytes are copied
        self._kept: dict[bytes, int] = {}
        self._cached: OrderedDict[bytes, int] = OrderedDict()  # least recently used first

    def start(self) -> None:
        """Makes the folders, removes what a crash left half written, and takes stock."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in (_CACHE, _INCOMING):
            (self._folder / name).mkdir(exist_ok=True)
        for folder in (self._folder, self._folder.parent):
            _flush_folder(folder)
        for left_over in (self._folder / _INCOMING).iterdir():
            left_over.unlink()
        with self._lock:
            self._kept = {digest: entry.stat().st_size for digest, entry in _stored(self._folder)}
            aged = sorted((entry.stat().st_mtime_ns, digest, entry) for digest, entry in _stored(self._folder / _CACHE))
            self._cached = OrderedDict((digest, entry.stat().st_size) for _, digest, entry in aged)
            self._make_room(0)

    def has(self, sha256: bytes) -> bool:
        """Whether it is kept or cached."""
        return sha256 in self._kept or sha256 in self._cached

    def open(self, sha256: bytes) -> OpenArtifact:
        """Opens it for reading; a cached one counts as used. Raises ArtifactMissing."""
        with self._lock:
            cached = sha256 not in self._kept
            if cached and sha256 not in self._cached:
                raise ArtifactMissing(f"The artifact {sha256.hex()} is not here.")
            try:
                fd = os.open(self._path(sha256, cached=cached), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as error:  # somebody tidied up by hand
                self._kept.pop(sha256, None)
                self._cached.pop(sha256, None)
                raise ArtifactMissing(f"The file of artifact {sha256.hex()} has gone.") from error
            if cached:
                self._cached.move_to_end(sha256)
                os.utime(fd)  # so that the order survives a restart
        return OpenArtifact(fd, os.fstat(fd).st_size)

    def read_text(self, sha256: bytes, bytes_max: int) -> bytes:
        """A small artifact as a whole, checked against its digest. Raises ArtifactMissing, ArtifactMismatch."""
        artifact = self.open(sha256)
        with os.fdopen(artifact.fd, "rb") as file:
            if artifact.size > bytes_max:
                raise ArtifactMismatch(f"The artifact {sha256.hex()} is larger than {bytes_max} bytes.")
            data = file.read()
        if hashlib.sha256(data).digest() != sha256:
            raise ArtifactMismatch(f"The artifact {sha256.hex()} is damaged on the disk.")
        return data

    def put_bytes(self, data: bytes) -> bytes:
        """Keeps `data`; -> its SHA-256."""
        with self.writer() as writer:
            writer.write(data)
            return writer.keep()

    def writer(self) -> "ArtifactWriter":
        """For writing one artifact of unknown digest; see ArtifactWriter."""
        return ArtifactWriter(self, self._folder / _INCOMING)

    def promote(self, sha256: bytes) -> None:
        """From the cache to what is kept; nothing to do if it is kept already. Raises ArtifactMissing."""
        with self._lock:
            if sha256 in self._kept:
                return
            if sha256 not in self._cached:
                raise ArtifactMissing(f"The artifact {sha256.hex()} is not here.")
            self._move(self._path(sha256, cached=True), sha256, cached=False)
            self._kept[sha256] = self._cached.pop(sha256)

    def delete(self, sha256: bytes) -> None:
        """Removes it wherever it is; nothing to do if it is nowhere."""
        with self._lock:
            for stock, cached in ((self._kept, False), (self._cached, True)):
                if stock.pop(sha256, None) is not None:
                    self._path(sha256, cached=cached).unlink(missing_ok=True)

    def digests(self) -> tuple[bytes, ...]:
        """What is kept (not what is cached), in the order of the digests."""
        with self._lock:
            return tuple(sorted(self._kept))

    def usage(self) -> dict[str, int]:
        """Counts and bytes: kept, kept_bytes, cached, cached_bytes, cache_bytes_max."""
        with self._lock:
            return {
                "kept": len(self._kept),
                "kept_bytes": sum(self._kept.values()),
                "cached": len(self._cached),
                "cached_bytes": sum(self._cached.values()),
                "cache_bytes_max": self._cache_bytes_max,
            }

    def _adopt(self, path: Path, sha256: bytes, size: int, *, cache: bool) -> None:
        """Takes a flushed file in under its digest; `path` is gone afterwards, unless it was here already."""
        with self._lock:
            if sha256 in self._kept or (cache and sha256 in self._cached):
                return
            if cache:
                self._make_room(size)
            self._move(path, sha256, cached=cache)
            if cache:
                self._cached[sha256] = size
            else:
                self._kept[sha256] = size
                if self._cached.pop(sha256, None) is not None:
                    self._path(sha256, cached=True).unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Drops what was used least recently until `size` more bytes fit."""
        if size > self._cache_bytes_max:
            raise CacheTooSmall(
                f"An artifact of {size} bytes does not fit the cache (cache_bytes_max = {self._cache_bytes_max})."
            )
        held = sum(self._cached.values())
        while held + size > self._cache_bytes_max:
            sha256, dropped = self._cached.popitem(last=False)
            self._path(sha256, cached=True).unlink(missing_ok=True)
            held -= dropped

    def _move(self, path: Path, sha256: bytes, *, cached: bool) -> None:
        target = self._path(sha256, cached=cached)
        if not target.parent.exists():
            target.parent.mkdir(parents=True)
            _flush_folder(target.parent.parent)
        path.rename(target)
        _flush_folder(target.parent)

    def _path(self, sha256: bytes, *, cached: bool) -> Path:
        name = sha256.hex()
        return (self._folder / _CACHE if cached else self._folder) / name[:2] / name[2:]


class ArtifactWriter:
    """A context: `write` pieces, look at `size`, `digest()` and the file at `path`, then `keep`, or it never was."""

    def __init__(self, artifacts: Artifacts, folder: Path) -> None:
        self._artifacts = artifacts
        self._folder = folder
        self._hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> Self:
        self._file = NamedTemporaryFile(dir=self._folder, delete=False, buffering=0)
        self.path = Path(self._file.name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        """Appends; what was written can be read at `path` at once."""
        rest = memoryview(chunk)
        while rest:  # an unbuffered file may take less than it is given
            rest = rest[self._file.write(rest) :]
        self._hash.update(chunk)
        self.size += len(chunk)

    def digest(self) -> bytes:
        """SHA-256 of what was written so far."""
        return self._hash.digest()

    def keep(self, *, cache: bool = False, expected: bytes | None = None) -> bytes:
        """Makes it durable and lists it; -> its SHA-256.

        Raises ArtifactMismatch if another digest was expected, CacheTooSmall, OSError (disk full).
        """
        sha256 = self.digest()
        if expected is not None and sha256 != expected:
            raise ArtifactMismatch(f"The bytes have the SHA-256 {sha256.hex()}, but {expected.hex()} was wanted.")
        os.fchmod(self._file.fileno(), 0o644)
        os.fsync(self._file.fileno())
        self._artifacts._adopt(self.path, sha256, self.size, cache=cache)
        return sha256


def _stored(folder: Path) -> Iterator[tuple[bytes, Path]]:
    """(digest, path) of every artifact directly in an area; other files are left alone."""
    for shelf in sorted(folder.iterdir()):
        if len(shelf.name) == 2 and shelf.is_dir():
            for entry in shelf.iterdir():
                try:
                    digest = bytes.fromhex(shelf.name + entry.name)
                except ValueError:
                    continue
                if len(digest) == hashlib.sha256().digest_size:
                    yield digest, entry


def _flush_folder(folder: Path) -> None:
    """A rename is durable once its folder is flushed."""
    with _opened(folder) as fd:
        os.fsync(fd)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
