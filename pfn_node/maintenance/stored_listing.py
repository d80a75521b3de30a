"""What a node knows of its artifacts in an object store, as one file of a backup.

The artifacts themselves stay where they are; without this nobody would know which of them are there, and all of them
would be brought from the mesh and the publishers again.
"""

import os
import re
import tarfile
from pathlib import Path
from typing import Final

from pfn_node.maintenance.backup_format import ARTIFACTS, PIECE_BYTES, BackupError

_FOLDER: Final = "stored"
# As artifacts/store.py has them; what was still being written is left out.
_NAME: Final = re.compile(r"place|[0-9a-f]{2}/[0-9a-f]{62}\.[0-9]{1,16}|doomed/[0-9a-f]{64}")
_ENTRY_BYTES_MAX: Final = 64 * 2**20


def pack_listing(data: Path, target: Path) -> bool:
    """Write what the data folder has to `target`; False if it never had an object store. Raises OSError."""
    folder = data / ARTIFACTS / _FOLDER
    if not (folder / "place").exists():
        return False
    with tarfile.open(target, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder).as_posix()
            if not _NAME.fullmatch(name):
                continue
            try:
                with file.open("rb") as stream:
                    entry = tarfile.TarInfo(name)
                    entry.size, entry.mode = os.fstat(stream.fileno()).st_size, 0o600
                    tar.addfile(entry, stream)
            except FileNotFoundError:  # deleted meanwhile: nobody misses it
                continue
    return True


def unpack_listing(source: Path, data: Path) -> None:
    """Put it into a data folder. Raises BackupError for anything that is no such listing, OSError."""
    folder = data / ARTIFACTS / _FOLDER
    try:
        with tarfile.open(source, mode="r:") as tar:
            for entry in tar:
                stream = tar.extractfile(entry) if entry.isreg() and _NAME.fullmatch(entry.name) else None
                if stream is None or entry.size > _ENTRY_BYTES_MAX:
                    raise BackupError(f"the backup is damaged: {entry.name[:100]!r} does not belong into {source.name}")
                target = folder / entry.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as written:
                    while piece := stream.read(PIECE_BYTES):
                        written.write(piece)
                    written.flush()
                    os.fsync(written.fileno())
    except (tarfile.TarError, FileExistsError) as error:
        raise BackupError(f"the backup is damaged: {source.name}: {error}") from error
