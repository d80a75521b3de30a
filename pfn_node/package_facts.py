"""What package managers want to know of a zip beside its SHA-256: other digests, and its headers."""

import os
from collections.abc import Mapping

from pfn_node.archive import ArchiveRefused, inspect
from pfn_node.archive_process import Examined, other_digests
from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactError
from pfn_node.store.rows import PackageFacts

# Headers are shown, not stored for their own sake; real ones are far shorter.
HEADER_CHARACTERS_MAX = 500


def facts_of(examined: Examined) -> PackageFacts:
    """Of a zip that passed the gate."""
    return _facts(bytes.fromhex(examined.sha1), bytes.fromhex(examined.sha384), examined.facts.headers)


def measure(artifacts: Artifacts, sha256: bytes) -> PackageFacts | None:
    """Read an artifact through (blocking; call it in a thread). None if it is not here.

    Bytes that others gave may be no zip that this node would keep itself: they have digests, and no headers.
    """
    try:
        return _measure(artifacts.open(sha256).fd)
    except ArtifactError:
        return None


def _measure(fd: int) -> PackageFacts:
    with os.fdopen(fd, "rb") as file:
        sha1, sha384 = other_digests(file)
        return _facts(sha1, sha384, _headers(file.fileno()))


def _facts(sha1: bytes, sha384: bytes, headers: Mapping[str, str]) -> PackageFacts:
    return PackageFacts(sha1, sha384, {label: text[:HEADER_CHARACTERS_MAX] for label, text in headers.items()})


def _headers(fd: int) -> dict[str, str]:
    try:
        return inspect(fd).headers
    except ArchiveRefused:
        return {}
