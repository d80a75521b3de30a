"""The zips of a node that may be running: read, never written, moved or counted as used."""

import os
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from pfn_node.artifacts.artifacts import Artifacts, OpenArtifact
from pfn_node.artifacts.errors import ArtifactMismatch, ArtifactMissing, StoreUnavailable
from pfn_node.artifacts.object_store import ObjectStore
from pfn_node.artifacts.store import listed

_READ_BYTES: Final = 4 * 2**20


class ZipsUnavailable(Exception):
    """The object store of the node's zips does not give them now; `args[0]` is a sentence.

    No ArtifactError: what cannot be asked for is not missing, and nothing may be left out because of it.
    """


class KeptZips(Artifacts):
    """A node's artifacts as they lie in its folder and object store. What would change them is not for this one.

    Bytes from the object store are as it gave them: whoever reads them compares their digest, as always.
    """

    def __init__(self, folder: Path, store: ObjectStore | None) -> None:
        super().__init__(folder, 0)
        self._object_store = store
        self._sizes: dict[bytes, int] = {}

    def start(self) -> None:
        """Takes stock of what lies in the object store. Raises ZipsUnavailable if none was named, and some does."""
        self._sizes = dict(listed(self._folder / "stored"))
        if self._sizes and self._object_store is None:
            raise ZipsUnavailable(
                f"{len(self._sizes)} zips of this node lie in an object store: set PFN_ARTIFACTS as for the node itself"
            )

    def has(self, sha256: bytes) -> bool:
        """Whether it is kept or cached now, or was in the object store at the start."""
        return sha256 in self._sizes or any(self._path(sha256, cached=cached).exists() for cached in (False, True))

    def open(self, sha256: bytes) -> OpenArtifact:
        """Opens it for reading. Raises ArtifactMissing, ZipsUnavailable."""
        for cached in (False, True):
            try:
                fd = os.open(self._path(sha256, cached=cached), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            return OpenArtifact(fd, os.fstat(fd).st_size)
        if self._object_store is None or sha256 not in self._sizes:
            raise ArtifactMissing(f"The artifact {sha256.hex()} is not here.")
        try:
            return self._brought(self._object_store, sha256, self._sizes[sha256])
        except StoreUnavailable as error:
            raise ZipsUnavailable(error.args[0]) from error

    def read_text(self, sha256: bytes, bytes_max: int) -> bytes:
        """As that of Artifacts; ArtifactMismatch as well if it cannot be read."""
        try:
            return super().read_text(sha256, bytes_max)
        except OSError as error:
            raise ArtifactMismatch(f"The artifact {sha256.hex()} cannot be read: {error.strerror}.") from error

    def _brought(self, store: ObjectStore, sha256: bytes, size: int) -> OpenArtifact:
        name = sha256.hex()
        with TemporaryFile() as file:
            for begin in range(0, size, _READ_BYTES):
                file.write(store.read(f"{name[:2]}/{name[2:]}", begin, min(size, begin + _READ_BYTES)))
            file.seek(0)  # also writes out what is buffered
            return OpenArtifact(os.dup(file.fileno()), size)
