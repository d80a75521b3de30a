"""Where an export stands: a folder, or anything that obstore knows (S3, GCS, Azure).

A folder's files appear by a rename, whole; an object store's by the end of its upload. Everything here blocks.
"""

import errno
import fcntl
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, Final, Protocol

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from pfn_node.artifacts.errors import ArtifactError
from pfn_node.artifacts.object_store import PART_BYTES, PARTS_AT_ONCE, connect
from pfn_node.store_urls import check_store_url
from pfn_node.web.routes import KEPT_BY_DIGEST

# Names of what is being written in a folder: no path of an export begins like that (R172).
_WRITING: Final = ".writing-"
# What file systems say that have no second names, or not so many.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EXDEV})
_TYPES: Final = {
    ".json": "application/json",
    ".ndjson": "application/x-ndjson",
    ".zip": "application/zip",
    ".atom": "application/atom+xml; charset=utf-8",
    ".svg": "image/svg+xml",
    ".sig": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}
# Files whose name has the digest of what is in them.
_NAMED_BY_DIGEST: Final = re.compile(r"composer/mirror/.*|pfn-export/files-.*")
# A cache in front learns of a yank or a takedown after ten minutes at the latest.
_CHANGING: Final = "public, max-age=300, stale-while-revalidate=300"


class PlaceError(Exception):
    """The place cannot be read or written; `args[0]` is a sentence."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is there: its size in bytes, and when it was written by the place's own clock (nanoseconds)."""

    size: int
    written: int


class Place(Protocol):
    """Paths are those of R172. Whatever goes wrong is a PlaceError."""

    writers: int  # how many may write at once

    def found(self) -> Mapping[str, Found]:
        """All that is there."""

    def read(self, path: str) -> bytes | None:
        """A file as a whole; None: it is not there."""

    def pieces(self, path: str) -> Iterator[bytes]:
        """A file, piece by piece; nothing where there is none."""

    def write(self, path: str, content: bytes | IO[bytes]) -> None:
        """Put a file there, over the one that was. Of a stream what comes from its beginning."""

    def link(self, path: str, to: str) -> bool:
        """Give a file a second name where that costs nothing; whether it has it now."""

    def remove(self, paths: Iterable[str]) -> None:
        """Take files away; those that are not there are none less."""

    def settle(self) -> None:
        """Return when all that was written will outlast a power cut."""


class Folder:
    """A folder of this machine, for one export at a time."""

    writers = 1

    def __init__(self, folder: Path, *, tidies: bool = False) -> None:
        """`tidies`: take away what a stopped export left half written; for the only one that writes here."""
        self._folder = folder
        self._tidies = tidies

    def found(self) -> dict[str, Found]:
        with _failures(str(self._folder)):
            return dict(self._walk(self._folder, ""))

    def _walk(self, folder: Path, prefix: str) -> Iterator[tuple[str, Found]]:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(Path(entry.path), f"{prefix}{entry.name}/")
                elif entry.name.startswith(_WRITING):
                    if self._tidies:
                        os.unlink(entry.path)
                else:
                    known = entry.stat(follow_symlinks=False)
                    yield sys.intern(prefix + entry.name), Found(known.st_size, known.st_mtime_ns)

    def read(self, path: str) -> bytes | None:
        with _failures(path):
            try:
                return (self._folder / path).read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def pieces(self, path: str) -> Iterator[bytes]:
        with _failures(path):
            try:
                file = (self._folder / path).open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
            with file:
                while piece := file.read(_PIECE_BYTES):
                    yield piece

    def write(self, path: str, content: bytes | IO[bytes]) -> None:
        def fill(temporary: IO[bytes]) -> None:
            if isinstance(content, bytes):
                temporary.write(content)
                return
            content.seek(0)
            while piece := content.read(_PIECE_BYTES):
                temporary.write(piece)

        self._put(path, fill)

    def link(self, path: str, to: str) -> bool:
        target = self._folder / to
        temporary = target.parent / f"{_WRITING}{os.getpid()}"
        with _failures(to):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self._folder / path, temporary)
            except OSError as error:
                if error.errno in _NO_LINKS:
                    return False
                raise
            temporary.replace(target)
            temporary.unlink(missing_ok=True)  # a rename onto another name of the same file does nothing
            return True

    def _put(self, path: str, fill: Callable[[IO[bytes]], object]) -> None:
        target = self._folder / path
        with _failures(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=target.parent, prefix=_WRITING, delete=False) as temporary:
                try:
                    fill(temporary)
                    os.fchmod(temporary.fileno(), 0o644)
                    temporary.flush()
                    os.replace(temporary.name, target)
                except BaseException:
                    os.unlink(temporary.name)
                    raise

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            with _failures(path):
                target = self._folder / path
                target.unlink(missing_ok=True)
                self._remove_empty(target.parent)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._folder:
            try:
                folder.rmdir()
            except OSError:  # something is left in it
                return
            folder = folder.parent

    def settle(self) -> None:
        """One flush for hundreds of thousands of files, where one for each would take minutes."""
        os.sync()


class Bucket:
    """A bucket, or what is below a prefix of it."""

    writers = 16

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def found(self) -> dict[str, Found]:
        with _failures("the list of what is there"):
            return {
                sys.intern(one["path"]): Found(one["size"], int(one["last_modified"].timestamp() * 1_000_000) * 1_000)
                for page in obstore.list(self._store)
                for one in page
            }

    def read(self, path: str) -> bytes | None:
        with _failures(path):
            try:
                return bytes(obstore.get(self._store, path).bytes())
            except FileNotFoundError:
                return None

    def pieces(self, path: str) -> Iterator[bytes]:
        with _failures(path):
            try:
                got = obstore.get(self._store, path)
            except FileNotFoundError:
                return
            yield from map(bytes, got.stream())

    def write(self, path: str, content: bytes | IO[bytes]) -> None:
        attributes: Any = {
            "Content-Type": _TYPES.get(os.path.splitext(path)[1], "application/octet-stream"),
            "Cache-Control": KEPT_BY_DIGEST if _NAMED_BY_DIGEST.fullmatch(path) else _CHANGING,
        }
        if not isinstance(content, bytes):
            content.seek(0)
        with _failures(path):
            obstore.put(
                self._store,
                path,
                content,
                attributes=attributes,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )

    def link(self, path: str, to: str) -> bool:
        return False

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            with _failures(path):
                try:
                    obstore.delete(self._store, path)
                except FileNotFoundError:
                    continue

    def settle(self) -> None:
        """What a store has said to have, it has."""


_PIECE_BYTES: Final = 256 * 1024


@contextmanager
def place_named(text: str, *, make: bool) -> Iterator[Place]:
    """The folder, or what a URL names (`s3://bucket/prefix`; access as AWS_* and the like in the environment say).

    `make`: a folder that is not there, and keep others from exporting to it. Raises PlaceError.
    """
    if "://" in text and not text.startswith("file://"):
        with _failures(text):
            store = connect(check_store_url(text))
        yield Bucket(store)
        return
    folder = Path(text.removeprefix("file://"))
    with _failures(text):
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if make:
            _lock(descriptor, folder)
        yield Folder(folder, tidies=make)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PlaceError(f"another export writes to {folder}; wait for its end, or stop it") from error


@contextmanager
def _failures(what: str) -> Iterator[None]:
    """What the place says of a failure, as a PlaceError."""
    try:
        yield
    except (BaseError, ArtifactError, OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PlaceError(f"{what}: {said.splitlines()[0] if said else type(error).__name__}") from error
