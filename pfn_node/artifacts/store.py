"""Artifacts in an object store, and what is known of each of them here.

    URL/ab/cdef...                    the artifact, under its SHA-256
    FOLDER/ab/cdef....SIZE            what is known of it: its ETag there, and the SHA-256 of each of its blocks
    FOLDER/doomed/abcdef...           it was deleted here, and has still to be deleted there
    FOLDER/place                      the URL

The store is not believed. An artifact is read block by block, and no byte of a block leaves before the block has the
digest that it had when it was put there: so also a part of an artifact is known to be right, and nothing is read that
was not asked for. What is damaged or gone there is not listed here any more, as if it had never come: whoever wants it
has it brought from the mesh or its publisher again, and that puts the damage right.

Something is listed once it is whole in the store, and no sooner. Several nodes may share a store: what is there already
is read through instead of sent again. But who deletes there deletes for all; the others notice, and bring it again.
"""

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final, NamedTuple

from pfn_node.artifacts.errors import ArtifactError, ArtifactMismatch, ArtifactMissing, StoreUnavailable
from pfn_node.artifacts.object_store import MARK, ObjectStore
from pfn_node.durable_files import move_durably

BLOCK_BYTES: Final = 256 * 2**10  # what a stalled reader holds in memory
CHECKED_AT_ONCE_BYTES: Final = 16 * BLOCK_BYTES
# Who is sent to the store begins his download at once, and his range requests soon after.
SIGNED_URL_SECONDS: Final = 300

_DIGEST_BYTES: Final = hashlib.sha256().digest_size
_DOOMED, _INCOMING, _PLACE = "doomed", "incoming", "place"
_HEX_DIGEST: Final = re.compile("[0-9a-f]{64}")


class _Known(NamedTuple):
    """What was true when it was put there."""

    etag: str
    blocks: tuple[bytes, ...]


class ArtifactStore:
    """The artifacts of one node in one store. Call `start` before anything else. Everything blocks, from any thread.

    What a method says of a digest is what is listed here; only those that say so ask the store.
    """

    def __init__(self, folder: Path, store: ObjectStore) -> None:
        self._folder = folder
        self._store = store
        self._lock = threading.Lock()  # for what is listed, never held while the store is asked
        self.sizes: dict[bytes, int] = {}

    @property
    def url(self) -> str:
        """Where it is."""
        return self._store.url

    @property
    def problem(self) -> str | None:
        """What is wrong with the store now, as a sentence."""
        return self._store.problem

    @property
    def failures(self) -> int:
        """How many calls failed since start."""
        return self._store.failures

    def start(self) -> None:
        """Takes stock, without asking the store. Raises ArtifactError if what is listed lies in another one."""
        for folder in (self._folder, self._folder / _DOOMED, self._folder / _INCOMING):
            folder.mkdir(parents=True, exist_ok=True)
        for left_over in (self._folder / _INCOMING).iterdir():
            left_over.unlink()
        self.sizes = dict(listed(self._folder))
        for sha256 in self._doomed():  # a power cut may bring its first name back
            self.forget(sha256)
        before = place_of(self._folder)
        if before != self.url:
            if self.sizes:
                raise ArtifactError(
                    f"{len(self.sizes)} artifacts of this node lie in {before}, not in {self.url}. Bring them back "
                    f"first: pfn artifacts move --to folder. If it is the same place under another name, write that "
                    f"into {self._folder / _PLACE}."
                )
            self._write(self._folder / _PLACE, self.url.encode())
        self._store.may_mark = not self.sizes

    def close(self) -> None:
        """Ends uploads as soon as can be."""
        self._store.close()

    def look(self) -> None:
        """Ask the store whether it is well, and delete there what could not be deleted before. As ObjectStore.look."""
        self._store.look()
        for sha256 in self._doomed():
            self._delete_there(sha256)

    def open(self, sha256: bytes) -> "StoredArtifact":
        """For reading; the store is not asked yet. Raises ArtifactMissing."""
        try:
            size = self.sizes[sha256]
            known = _parse(self._entry(sha256, size).read_bytes())
        except (KeyError, FileNotFoundError):
            raise ArtifactMissing(f"The artifact {sha256.hex()} is not here.") from None
        if len(known.blocks) != -(-size // BLOCK_BYTES):  # the disk lost some, and nothing could be compared with them
            self.forget(sha256)
            raise ArtifactMissing(f"What was known here of the artifact {sha256.hex()} is damaged.")
        return StoredArtifact(self, sha256, size, known)

    def put(self, path: Path, sha256: bytes, size: int) -> None:
        """Stores a file and lists it. Raises ArtifactMismatch if the file is damaged, StoreUnavailable."""
        blocks = _blocks_of(path, sha256)
        etag = self._already_there(sha256, size, blocks)
        if etag is None:
            self._store.put(_key(sha256), path)
            there, etag = self._store.facts(_key(sha256))
            if there != size:
                raise StoreUnavailable(f"{self.url} kept {there} of the {size} bytes of an artifact.", 0.0)
        with self._lock:
            (self._folder / _DOOMED / sha256.hex()).unlink(missing_ok=True)
            self._write(self._entry(sha256, size), etag.encode() + b"\n" + b"".join(blocks))
            self.sizes[sha256] = size

    def read(self, stored: "StoredArtifact", begin: int, end: int) -> bytes:
        """From the beginning of a block to the end of another one, as they were put there; asks the store.

        Raises StoreUnavailable, and ArtifactMissing or ArtifactMismatch, after which it is not listed any more.
        """
        for _ in range(2):  # once more, so that an accident on the way costs nothing
            try:
                data = self._store.read(_key(stored.sha256), begin, end)
            except ArtifactMissing:
                self.forget(stored.sha256)
                raise
            if _agrees(data, end - begin, stored.known.blocks[begin // BLOCK_BYTES :]):
                return data
        self.forget(stored.sha256)
        raise ArtifactMismatch(f"The artifact {stored.sha256.hex()} is damaged in {self.url}.")

    def signed_url(self, stored: "StoredArtifact") -> str | None:
        """A URL that gives these bytes to anybody for a while, if it is still what was put there; asks the store.

        None if this kind of store has no such URLs. Raises as `read` does.
        """
        try:
            there = self._store.facts(_key(stored.sha256))
        except ArtifactMissing:
            self.forget(stored.sha256)
            raise
        if there != (stored.size, stored.known.etag):
            self.forget(stored.sha256)
            raise ArtifactMismatch(f"The artifact {stored.sha256.hex()} was replaced in {self.url}.")
        return self._store.signed_url(_key(stored.sha256), SIGNED_URL_SECONDS)

    def delete(self, sha256: bytes) -> None:
        """Here at once; there now, or as soon as the store answers again."""
        with self._lock:
            size = self.sizes.pop(sha256, None)
            if size is None:
                return
            move_durably(self._entry(sha256, size), self._folder / _DOOMED / sha256.hex())
        with suppress(StoreUnavailable):
            self._delete_there(sha256)

    def forget(self, sha256: bytes) -> None:
        """It is not listed any more; in the store it stays."""
        with self._lock:
            size = self.sizes.pop(sha256, None)
            if size is not None:
                self._entry(sha256, size).unlink(missing_ok=True)

    def strangers(self) -> Iterator[tuple[str, int]]:
        """(key, size) of what is in the store and not listed here: other nodes', or left behind; asks the store."""
        known = {MARK, *map(_key, self.sizes)}
        return ((key, size) for key, size in self._store.everything() if key not in known)

    def _already_there(self, sha256: bytes, size: int, blocks: tuple[bytes, ...]) -> str | None:
        """The ETag of an object that was read through and is right; None if it has to be put there."""
        try:
            there, etag = self._store.facts(_key(sha256))
            if there != size:
                return None
            for begin in range(0, size, CHECKED_AT_ONCE_BYTES):
                end = min(size, begin + CHECKED_AT_ONCE_BYTES)
                if not _agrees(self._store.read(_key(sha256), begin, end), end - begin, blocks[begin // BLOCK_BYTES :]):
                    return None
        except ArtifactMissing:
            return None
        return etag

    def _doomed(self) -> list[bytes]:
        """What is still to be deleted in the store; other files are left alone."""
        names = (entry.name for entry in (self._folder / _DOOMED).iterdir())
        return [bytes.fromhex(name) for name in names if _HEX_DIGEST.fullmatch(name)]

    def _delete_there(self, sha256: bytes) -> None:
        """Unless it was put there again meanwhile."""
        if sha256 not in self.sizes:
            self._store.delete(_key(sha256))
        (self._folder / _DOOMED / sha256.hex()).unlink(missing_ok=True)

    def _write(self, target: Path, data: bytes) -> None:
        with NamedTemporaryFile(dir=self._folder / _INCOMING, delete=False) as file:
            written = Path(file.name)
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                move_durably(written, target)
            finally:
                written.unlink(missing_ok=True)

    def _entry(self, sha256: bytes, size: int) -> Path:
        name = sha256.hex()
        return self._folder / name[:2] / f"{name[2:]}.{size}"


class StoredArtifact:
    """An artifact in the store, for reading block by block; each call asks the store, and raises as it does."""

    def __init__(self, place: ArtifactStore, sha256: bytes, size: int, known: _Known) -> None:
        self._place = place
        self.sha256 = sha256
        self.size = size
        self.known = known

    block_bytes: Final = BLOCK_BYTES

    def blocks(self, first: int, count: int) -> bytes:
        """So many blocks from one on, or up to the end; the last one is shorter."""
        begin = first * BLOCK_BYTES
        return self._place.read(self, begin, min(self.size, begin + count * BLOCK_BYTES))

    def copy_to(self, write: Callable[[bytes], object]) -> None:
        """The whole of it."""
        for begin in range(0, self.size, CHECKED_AT_ONCE_BYTES):
            write(self._place.read(self, begin, min(self.size, begin + CHECKED_AT_ONCE_BYTES)))

    def signed_url(self) -> str | None:
        """As ArtifactStore.signed_url."""
        return self._place.signed_url(self)


def listed(folder: Path) -> Iterator[tuple[bytes, int]]:
    """(digest, size) of what this folder lists; other files are left alone."""
    for shelf in sorted(folder.glob("[0-9a-f][0-9a-f]")):
        for entry in shelf.iterdir():
            digest, _, size = (shelf.name + entry.name).partition(".")
            if _HEX_DIGEST.fullmatch(digest) and size.isdecimal():
                yield bytes.fromhex(digest), int(size)


def place_of(folder: Path) -> str | None:
    """The URL of the store that the folder is about, if there ever was one."""
    try:
        return (folder / _PLACE).read_text().strip()
    except FileNotFoundError:
        return None


def _key(sha256: bytes) -> str:
    name = sha256.hex()
    return f"{name[:2]}/{name[2:]}"


def _parse(data: bytes) -> _Known:
    etag, _, digests = data.partition(b"\n")
    blocks = range(0, len(digests), _DIGEST_BYTES)
    return _Known(etag.decode(errors="replace"), tuple(digests[at : at + _DIGEST_BYTES] for at in blocks))


def _blocks_of(path: Path, sha256: bytes) -> tuple[bytes, ...]:
    whole = hashlib.sha256()
    blocks = []
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            whole.update(block)
            blocks.append(hashlib.sha256(block).digest())
    if whole.digest() != sha256:
        raise ArtifactMismatch(f"The artifact {sha256.hex()} is damaged on the disk.")
    return tuple(blocks)


def _agrees(data: bytes, size: int, blocks: tuple[bytes, ...]) -> bool:
    """Whether these are so many bytes, and each block of them the right one."""
    view = memoryview(data)
    pieces = (view[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES))
    return len(data) == size and all(
        hashlib.sha256(piece).digest() == block for piece, block in zip(pieces, blocks, strict=False)
    )
