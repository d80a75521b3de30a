"""Writing one artifact whose digest is not known before: whole and flushed before it gets its name, or it never was."""

import hashlib
import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import Protocol, Self

from pfn_node.artifacts.errors import ArtifactMismatch


class Adopt(Protocol):
    """Takes a flushed file in under its digest."""

    def __call__(self, path: Path, sha256: bytes, size: int, *, cache: bool, local: bool) -> None: ...


class ArtifactWriter:
    """A context: `write` pieces, look at `size`, `digest()` and the file at `path`, then `keep`, or it never was."""

    def __init__(self, adopt: Adopt, folder: Path, *, local: bool = False) -> None:
        self._adopt = adopt
        self._local = local
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

        Raises ArtifactMismatch if another digest was expected, CacheTooSmall, OSError (disk full), StoreUnavailable.
        """
        sha256 = self.digest()
        if expected is not None and sha256 != expected:
            raise ArtifactMismatch(f"The bytes have the SHA-256 {sha256.hex()}, but {expected.hex()} was wanted.")
        os.fchmod(self._file.fileno(), 0o644)
        os.fsync(self._file.fileno())
        self._adopt(self.path, sha256, self.size, cache=cache, local=self._local)
        return sha256
