"""What a backup consists of: the database, the artifacts under their digests, and a manifest that is written last.

    backup.json               when, of which node, and SHA-256 and size of every file that is not named by its digest
    node.db                   one consistent state of the database
    node.key ...              only if that was asked for
    stored.tar                what is known of artifacts in an object store, which stay there (stored_listing.py)
    artifacts/ab/cdef...      every artifact that was kept; its name is its SHA-256

It is a folder, or the same in one uncompressed tar file (zips do not get smaller). Without a manifest it is none.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pfn_node.data_folder import KEY_FILE, NEXT_KEY_FILE, SUCCESSION_FILE

MANIFEST: Final = "backup.json"
DATABASE: Final = "node.db"
ARTIFACTS: Final = "artifacts"
# What makes a node the one that it is; who has these can speak in its name.
KEY_FILES: Final = (KEY_FILE, NEXT_KEY_FILE, SUCCESSION_FILE)
STORED: Final = "stored.tar"
FORMAT: Final = 1
# With what the first format has not: who knows only that one shall not restore half of a node.
FORMAT_WITH_STORED: Final = 2
MANIFEST_BYTES_MAX: Final = 2**20
PIECE_BYTES: Final = 2**20


class BackupError(Exception):
    """A backup cannot be made or put back; the sentence says why and what to do."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself."""

    made_at: int  # seconds since 1970
    node_id: str  # did:key, empty if the folder had no key yet
    has_key: bool
    artifacts: int  # how many are in it
    artifact_bytes: int
    with_artifacts: bool
    files: Mapping[str, tuple[str, int]]  # SHA-256 in hex and size, by name

    def to_bytes(self) -> bytes:
        """As it stands in the backup."""
        files = {name: {"sha256": sha256, "size": size} for name, (sha256, size) in self.files.items()}
        facts = {
            "format": FORMAT_WITH_STORED if STORED in self.files else FORMAT,
            "made_at": self.made_at,
            "node_id": self.node_id,
            "has_key": self.has_key,
            "with_artifacts": self.with_artifacts,
            "artifacts": self.artifacts,
            "artifact_bytes": self.artifact_bytes,
            "files": files,
        }
        return json.dumps(facts, indent=1).encode() + b"\n"


def parse_manifest(raw: bytes) -> Manifest:
    """Read a manifest. Raises BackupError."""
    try:
        facts: Any = json.loads(raw)
        if facts["format"] not in (FORMAT, FORMAT_WITH_STORED):
            raise BackupError(
                f"this backup has format {facts['format']}; this version of pfn reads {FORMAT} to {FORMAT_WITH_STORED}"
            )
        files = {str(name): (str(one["sha256"]), int(one["size"])) for name, one in facts["files"].items()}
        if DATABASE not in files or not set(files) <= {DATABASE, STORED, *KEY_FILES}:
            raise ValueError("unexpected files")
        return Manifest(
            made_at=int(facts["made_at"]),
            node_id=str(facts["node_id"]),
            has_key=bool(facts["has_key"]),
            artifacts=int(facts["artifacts"]),
            artifact_bytes=int(facts["artifact_bytes"]),
            with_artifacts=bool(facts["with_artifacts"]),
            files=files,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupError(f"{MANIFEST} is not what `pfn backup` writes: the backup is damaged") from error


def digest_named(name: str) -> bytes | None:
    """The SHA-256 that the path of an artifact inside a backup names; None: it is none."""
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != ARTIFACTS or len(parts[1]) != 2:
        return None
    try:
        digest = bytes.fromhex(parts[1] + parts[2])
    except ValueError:
        return None
    return digest if digest.hex() == parts[1] + parts[2] and len(digest) == 32 else None


def artifact_files(data: Path) -> Iterator[tuple[bytes, Path]]:
    """(digest, file) of every artifact that a data folder keeps, not those of its cache."""
    for shelf in sorted((data / ARTIFACTS).glob("??")):
        for file in sorted(shelf.iterdir()) if shelf.is_dir() else ():
            digest = digest_named(file.relative_to(data).as_posix())
            if digest is not None:
                yield digest, file
