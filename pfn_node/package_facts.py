"""What package managers want to know of a zip beside its SHA-256: other digests, and its headers."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from pfn_node.archive import ArchiveRefused, inspect
from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactError
from pfn_node.store.rows import PackageFacts

# Headers are shown, not stored for their own sake; real ones are far shorter.
HEADER_CHARACTERS_MAX = 500
_READ_BYTES = 256 * 1024


class Measuring:
    """Takes the digests of bytes that pass by; with the headers that the gate read, nothing need be read twice."""

    def __init__(self) -> None:
        self._sha1, self._sha384 = hashlib.sha1(usedforsecurity=False), hashlib.sha384()

    def update(self, piece: bytes) -> None:
        self._sha1.update(piece)
        self._sha384.update(piece)

    @property
    def sha384(self) -> bytes:
        """Of what passed by so far."""
        return self._sha384.digest()

    def facts(self, headers: Mapping[str, str]) -> PackageFacts:
        """What was measured, with the headers of the zip."""
        shown = {label: text[:HEADER_CHARACTERS_MAX] for label, text in headers.items()}
        return PackageFacts(self._sha1.digest(), self._sha384.digest(), shown)


def measure(artifacts: Artifacts, sha256: bytes) -> PackageFacts | None:
    """Read an artifact through (blocking; call it in a thread). None if it is not here.

    Bytes that others gave may be no zip that this node would keep itself: they have digests, and no headers.
    """
    try:
        return _measure(artifacts.open(sha256).fd)
    except ArtifactError:
        return None


def measure_file(path: Path, headers: Mapping[str, str]) -> PackageFacts:
    """The same of a file that is not an artifact yet, and whose headers are known (blocking)."""
    with path.open("rb") as file:
        return _read_through(file).facts(headers)


def _measure(fd: int) -> PackageFacts:
    with os.fdopen(fd, "rb") as file:
        return _read_through(file).facts(_headers(file.fileno()))


def _read_through(file: BinaryIO) -> Measuring:
    measuring = Measuring()
    while piece := file.read(_READ_BYTES):
        measuring.update(piece)
    return measuring


def _headers(fd: int) -> dict[str, str]:
    try:
        return inspect(fd).headers
    except ArchiveRefused:
        return {}
