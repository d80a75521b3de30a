"""Plugin zips by their SHA-256: the only place that writes them, and where consumers read them from.

    FOLDER/ab/cdef...          kept: mirrored on purpose; nothing but `delete` removes one
    FOLDER/cache/ab/cdef...    fetched for somebody without a key; the least recently used make room for the next
    FOLDER/incoming/...        being written; removed at start
    FOLDER/damaged/...         put aside, since it is not what its name says any more (checks.py)
    FOLDER/stored/...          what is known of those that are kept in an object store instead (store.py)

A file appears under its digest by one rename, after it and then its folder were flushed to the disk: whoever sees it
sees all of it, also after a power cut. Files never change, so a reader keeps its descriptor while the name goes away.

With an object store, what is kept is kept there, but for what lay in the folder before (`to_store` moves it) and for
signed texts: they are read while others wait. Whatever is written is written here first, and judged, and sent then.
Everything here blocks and may be called from any thread.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from pfn_node.artifacts.checks import Checks
from pfn_node.artifacts.errors import ArtifactError, ArtifactMismatch, ArtifactMissing, CacheTooSmall
from pfn_node.artifacts.object_store import ObjectStore
from pfn_node.artifacts.store import ArtifactStore, StoredArtifact, listed, place_of
from pfn_node.artifacts.writer import ArtifactWriter
from pfn_node.durable_files import flush_folder, move_durably

_CACHE, _INCOMING, STORED = "cache", "incoming", "stored"
_READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class OpenArtifact:
    """A descriptor for reading, which the caller closes, and the size in bytes.

    `is_sound(number, block)` says whether a block of BLOCK_BYTES still is what it was when the file was checked.
    """

    fd: int
    size: int
    is_sound: Callable[[int, bytes], bool] = lambda number, block: True


class Artifacts:
    """The artifacts of one folder, and of one object store. Call `start` first; one process may use a folder at a time.

    Where there is a store: what asks it raises StoreUnavailable as well.
    """

    def __init__(self, folder: Path, cache_bytes_max: int, store: ObjectStore | None = None) -> None:
        self._folder = folder
        self.store = ArtifactStore(folder / STORED, store) if store is not None else None
        self._cache_bytes_max = cache_bytes_max
        self._lock = threading.Lock()  # held for renames and deletions, never while bytes are copied
        self._kept: dict[bytes, int] = {}
        self._cached: OrderedDict[bytes, int] = OrderedDict()  # least recently used first
        self._evicted: set[bytes] = set()
        self.checks = Checks(folder)

    def start(self) -> None:
        """Makes the folders, removes what a crash left half written, and takes stock.

        Raises ArtifactError if some are listed that lie in another object store than the one given.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in (_CACHE, _INCOMING):
            (self._folder / name).mkdir(exist_ok=True)
        for folder in (self._folder, self._folder.parent):
            flush_folder(folder)
        self.checks.start()
        if self.store is not None:
            self.store.start()
        elif left := len(dict(listed(self._folder / STORED))):
            raise ArtifactError(
                f"{left} artifacts of this node lie in {place_of(self._folder / STORED)}: set PFN_ARTIFACTS to that, "
                "or bring them back first: pfn artifacts move --to folder"
            )
        for left_over in (self._folder / _INCOMING).iterdir():
            left_over.unlink()
        with self._lock:
            self._kept = {digest: entry.stat().st_size for digest, entry in _stored(self._folder)}
            aged = sorted((entry.stat().st_mtime_ns, digest, entry) for digest, entry in _stored(self._folder / _CACHE))
            self._cached = OrderedDict((digest, entry.stat().st_size) for _, digest, entry in aged)
            self._make_room(0)

    def close(self) -> None:
        """Ends what is being sent to an object store; nothing of it is to be seen there."""
        if self.store is not None:
            self.store.close()

    @property
    def store_problem(self) -> str | None:
        """What is wrong with the object store now, as a sentence; None also if there is none."""
        return self.store.problem if self.store is not None else None

    def has(self, sha256: bytes) -> bool:
        """Whether it is kept or cached."""
        return sha256 in self._kept or sha256 in self._cached or self._is_stored(sha256)

    def keeps(self, sha256: bytes) -> bool:
        """Whether it is kept, and not merely cached."""
        return sha256 in self._kept or self._is_stored(sha256)

    def serve(self, sha256: bytes) -> OpenArtifact | StoredArtifact:
        """For sending it; the object store is not asked yet. Raises ArtifactMissing."""
        if self.store is not None and self._is_stored(sha256):
            return self.store.open(sha256)
        return self._open_here(sha256)

    def open(self, sha256: bytes) -> OpenArtifact:
        """For reading it through; what is in the store is brought first, and checked. As `serve` and reading raise."""
        opened = self.serve(sha256)
        if isinstance(opened, OpenArtifact):
            return opened
        with NamedTemporaryFile(dir=self._folder / _INCOMING) as file:
            opened.copy_to(file.write)
            file.flush()
            return OpenArtifact(os.open(file.name, os.O_RDONLY | os.O_CLOEXEC), opened.size)

    def check(self, sha256: bytes, *, again: bool = False) -> None:
        """Reads a file of the folder through, unless that was done since the start; `again`: also then (blocking).

        Raises ArtifactMissing, and ArtifactMismatch once what is damaged has been put aside; OSError if it could not
        be looked at.
        """
        if self._is_stored(sha256) or (not again and self.checks.known(sha256) is not None):
            return
        path = self._path(sha256, cached=sha256 not in self._kept)
        try:
            if self.checks.read_through(sha256, path) is not None:
                return
            with self._lock:
                self.checks.put_aside(sha256, path)
                self._kept.pop(sha256, None)
                self._cached.pop(sha256, None)
        except FileNotFoundError as error:  # it was moved meanwhile, or somebody tidied up by hand
            if not again:
                self.check(sha256, again=True)
                return
            with self._lock:
                self._miss(sha256)
            raise ArtifactMissing(f"The file of artifact {sha256.hex()} has gone.") from error
        raise ArtifactMismatch(f"The artifact {sha256.hex()} is damaged on the disk; it is put aside.")

    def is_checked(self, sha256: bytes) -> bool:
        """Whether it can be served without reading it through first."""
        return self._is_stored(sha256) or self.checks.known(sha256) is not None

    def size(self, sha256: bytes) -> int:
        """How long a file of the folder is; 0 if it is not there."""
        return self._kept.get(sha256) or self._cached.get(sha256, 0)

    def wanted(self) -> tuple[bytes, ...]:
        """What was damaged and is not here again."""
        return tuple(sorted(one for one in self.checks.damaged if not self.has(one)))

    def take_back(self, sha256: bytes, *, cache: bool) -> bool:
        """Bring back what was put aside, if it reads right after all: a disk may fail for a moment (blocking).

        Return whether it is here. Raises OSError if it could not be looked at, CacheTooSmall.
        """
        path = self.checks.place_aside(sha256)
        try:
            found = None if self.has(sha256) else self.checks.read_through(sha256, path)
        except FileNotFoundError:
            return False
        if found is not None:
            self._adopt(path, sha256, found.size, cache=cache, local=True)
            with self._lock:
                if not path.exists():  # neither did it come another way, nor was it put aside again
                    self.checks.let_rest(sha256)
        return self.has(sha256)

    def miss(self, sha256: bytes) -> None:
        """The database lists it as kept, and there is no file: it is wanted again."""
        with self._lock:
            if not self.has(sha256):
                self.checks.note_missing(sha256)

    def take_evicted(self) -> tuple[bytes, ...]:
        """What the cache dropped since this was called last, and has not got again."""
        with self._lock:
            evicted, self._evicted = self._evicted, set()
        return tuple(sorted(one for one in evicted if not self.has(one)))

    def _open_here(self, sha256: bytes) -> OpenArtifact:
        """A file of the folder that was checked; a cached one counts as used."""
        if sha256 in self._kept or sha256 in self._cached:
            self.check(sha256)
        with self._lock:
            cached = sha256 not in self._kept
            if cached and sha256 not in self._cached:
                raise ArtifactMissing(f"The artifact {sha256.hex()} is not here.")
            try:
                fd = os.open(self._path(sha256, cached=cached), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as error:  # somebody tidied up by hand
                self._miss(sha256)
                raise ArtifactMissing(f"The file of artifact {sha256.hex()} has gone.") from error
            if cached:
                self._cached.move_to_end(sha256)
                with suppress(OSError):  # it may belong to somebody else
                    os.utime(fd)  # so that the order survives a restart
        sums, size = self.checks.known(sha256), os.fstat(fd).st_size
        if sums is not None and size != sums.size:  # all blocks that are left may be sound
            os.close(fd)
            self.check(sha256, again=True)
            raise ArtifactMismatch(f"The artifact {sha256.hex()} had another length a moment ago.")

        def is_sound(number: int, block: bytes) -> bool:
            if sums is not None and sums.agree(number, block):
                return True
            with suppress(ArtifactError, OSError):  # out of service at once, if it is the disk
                self.check(sha256, again=True)
            return False

        return OpenArtifact(fd, size, is_sound)

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

    def writer(self, *, local: bool = False) -> ArtifactWriter:
        """For writing one artifact of unknown digest; see ArtifactWriter. `local`: never into the object store."""
        return ArtifactWriter(self._adopt, self._folder / _INCOMING, local=local)

    def promote(self, sha256: bytes, *, local: bool = False) -> None:
        """From the cache to what is kept; nothing to do if it is kept already. Raises ArtifactMissing.

        `local`: never into the object store.
        """
        if self.store is not None and not local and sha256 not in self._kept and sha256 in self._cached:
            self._put_into(self.store, self._path(sha256, cached=True), sha256, self._cached[sha256])
            return
        with self._lock:
            if self.keeps(sha256):
                return
            if sha256 not in self._cached:
                raise ArtifactMissing(f"The artifact {sha256.hex()} is not here.")
            self._move(self._path(sha256, cached=True), sha256, cached=False)
            self._kept[sha256] = self._cached.pop(sha256)

    def delete(self, sha256: bytes) -> None:
        """Removes it wherever it is; nothing to do if it is nowhere. An object store that is down does it later."""
        if self.store is not None:
            self.store.delete(sha256)
        with self._lock:
            self._drop_files(sha256)
            self.checks.give_up(sha256)

    def digests(self) -> tuple[bytes, ...]:
        """What is kept (not what is cached), in the order of the digests."""
        with self._lock:
            return tuple(sorted({*self._kept, *self._stored()}))

    def in_folder(self) -> tuple[bytes, ...]:
        """What is kept in the folder itself, in the order of the digests."""
        with self._lock:
            return tuple(sorted(self._kept))

    def path(self, sha256: bytes) -> Path:
        """Where the file is of what is kept in the folder."""
        return self._path(sha256, cached=False)

    def to_store(self, sha256: bytes) -> int:
        """Moves what is kept in the folder to the object store; its size. As ArtifactStore.put raises."""
        assert self.store is not None, "there is one to move it to"
        size = self._kept[sha256]
        self._put_into(self.store, self.path(sha256), sha256, size)
        return size

    def to_folder(self, sha256: bytes, *, delete: bool) -> int:
        """Moves what is in the object store to the folder; its size. `delete`: there too. As reading raises."""
        assert self.store is not None, "there is one to move it from"
        stored = self.store.open(sha256)
        with self.writer(local=True) as writer:
            stored.copy_to(writer.write)
            writer.keep(expected=sha256)
        (self.store.delete if delete else self.store.forget)(sha256)
        return stored.size

    def files(self) -> tuple[bytes, ...]:
        """What lies in the folder, kept or cached, in the order of the digests."""
        with self._lock:
            return tuple(sorted({*self._kept, *self._cached}))

    def usage(self) -> dict[str, int]:
        """Counts and bytes: kept, kept_bytes, cached, cached_bytes, cache_bytes_max, damaged (and not here again).

        With an object store also what of it is there, stored and stored_bytes; and store_up (0 or 1), store_failures.
        """
        with self._lock:
            stored = dict(self._stored())
            return self._store_figures(stored) | {
                "kept": len(self._kept) + len(stored),
                "kept_bytes": sum(self._kept.values()) + sum(stored.values()),
                "cached": len(self._cached),
                "cached_bytes": sum(self._cached.values()),
                "cache_bytes_max": self._cache_bytes_max,
                "damaged": sum(not self.has(one) for one in self.checks.damaged),
            }

    def _stored(self) -> dict[bytes, int]:
        return self.store.sizes if self.store is not None else {}

    def _is_stored(self, sha256: bytes) -> bool:
        return self.store is not None and sha256 in self.store.sizes

    def _store_figures(self, stored: dict[bytes, int]) -> dict[str, int]:
        if self.store is None:
            return {}
        return {
            "stored": len(stored),
            "stored_bytes": sum(stored.values()),
            "store_up": int(self.store.problem is None),
            "store_failures": self.store.failures,
        }

    def _put_into(self, store: ArtifactStore, path: Path, sha256: bytes, size: int) -> None:
        """Sends a file of the folder to the store; what is here of it goes then."""
        try:
            store.put(path, sha256, size)
        except FileNotFoundError as error:  # the cache made room for another one meanwhile
            raise ArtifactMissing(f"The artifact {sha256.hex()} is not here.") from error
        with self._lock:
            self._drop_files(sha256)

    def _miss(self, sha256: bytes) -> None:
        """A file has gone that nobody deleted; what was kept is wanted again."""
        self._cached.pop(sha256, None)
        if self._kept.pop(sha256, None) is not None:
            self.checks.note_missing(sha256)

    def _drop_files(self, sha256: bytes) -> None:
        for stock, cached in ((self._kept, False), (self._cached, True)):
            if stock.pop(sha256, None) is not None:
                self._path(sha256, cached=cached).unlink(missing_ok=True)

    def _adopt(self, path: Path, sha256: bytes, size: int, *, cache: bool, local: bool) -> None:
        """Takes a flushed file in under its digest; `path` is gone afterwards, unless it was here already."""
        if self._is_stored(sha256) and not local:
            return
        if self.store is not None and not cache and not local and sha256 not in self._kept:
            self._put_into(self.store, path, sha256, size)
            return
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
            self._evicted.add(sha256)
            self.checks.on_loss()

    def _move(self, path: Path, sha256: bytes, *, cached: bool) -> None:
        move_durably(path, self._path(sha256, cached=cached))

    def _path(self, sha256: bytes, *, cached: bool) -> Path:
        name = sha256.hex()
        return (self._folder / _CACHE if cached else self._folder) / name[:2] / name[2:]


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
