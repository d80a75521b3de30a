"""What package managers want to know of a zip beside its SHA-256: other digests, and its headers."""

import hashlib
import os
from pathlib import Path

from pfn_node.archive import ArchiveRefused, inspect
from pfn_node.artifacts import ArtifactError, Artifacts
from pfn_node.store.rows import PackageFacts

# Headers are shown, not stored for their own sake; real ones are far shorter.
HEADER_CHARACTERS_MAX = 500
_READ_BYTES = 256 * 1024


def measure(artifacts: Artifacts, sha256: bytes) -> PackageFacts | None:
    """Read an artifact through (blocking; call it in a thread). None if it is not here.

    Bytes that others gave may be no zip that this node would keep itself: they have digests, and no headers.
    """
    try:
        return _measure(artifacts.open(sha256).fd)
    except ArtifactError:
        return None


def measure_file(path: Path) -> PackageFacts:
    """The same of a file that is not an artifact yet (blocking)."""
    return _measure(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


def _measure(fd: int) -> PackageFacts:
    sha1, sha384 = hashlib.sha1(usedforsecurity=False), hashlib.sha384()
    with os.fdopen(fd, "rb") as file:
        while piece := file.read(_READ_BYTES):
            sha1.update(piece)
            sha384.update(piece)
        headers = _headers(file.fileno())
    return PackageFacts(sha1.digest(), sha384.digest(), headers)


def _headers(fd: int) -> dict[str, str]:
    try:
        found = inspect(fd).headers
    except ArchiveRefused:
        return {}
    return {label: text[:HEADER_CHARACTERS_MAX] for label, text in found.items()}
