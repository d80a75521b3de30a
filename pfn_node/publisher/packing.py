"""Makes the same zip from the same files, always: a version is known by the digest of its bytes.

Names are sorted; times, owners and modes are fixed; what version control and desktops leave behind stays out. A link
is followed only within the folder, so that nothing else of this machine is ever published.
"""

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

FILES_MAX = 10_000  # the gate for zips takes no more
_LEFT_OUT = frozenset((".git", ".svn", ".hg", ".bzr", "CVS", ".DS_Store", "Thumbs.db", "__MACOSX", "__pycache__"))
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can say
_PLAIN_FILE = 0o100644 << 16
_COPY_BYTES = 256 * 1024


class Unpackable(Exception):
    """The files cannot be published as they are; `args[0]` is a sentence."""


@dataclass(frozen=True, slots=True, order=True)
class PackedFile:
    """One file: its path in the zip below the top folder, where it lies, and how it is recognised as unchanged."""

    name: str
    path: Path
    size: int
    changed_ns: int


def list_files(folder: Path) -> tuple[PackedFile, ...]:
    """The files below a folder that belong in its zip, by name. Raises Unpackable, OSError."""
    return tuple(sorted(_walk(folder.resolve())))


def _walk(root: Path) -> Iterator[PackedFile]:
    count = 0
    pending = [(root, "")]
    while pending:
        at, above = pending.pop()
        with os.scandir(at) as entries:
            for entry in entries:
                if entry.name in _LEFT_OUT:
                    continue
                name = above + entry.name
                path = _checked(root, entry, name)
                if path.is_dir():
                    pending.append((path, f"{name}/"))
                    continue
                count += 1
                if count > FILES_MAX:
                    raise Unpackable(f"it holds more than {FILES_MAX} files.")
                status = path.stat()
                yield PackedFile(name, path, status.st_size, status.st_mtime_ns)


def _checked(root: Path, entry: os.DirEntry[str], name: str) -> Path:
    """Where a file or folder really lies, if it may be published."""
    path = Path(entry.path)
    shown = os.fsencode(name).decode("utf-8", "replace")
    if shown.encode() != os.fsencode(name):
        raise Unpackable(f"the name {shown} is not UTF-8.")
    if entry.is_symlink():
        path = path.resolve()
        if not path.is_relative_to(root) or path.is_dir():
            raise Unpackable(f"{shown} is a link out of its folder, or to a folder.")
    if not path.is_dir() and not path.is_file():
        raise Unpackable(f"{shown} is neither a file nor a folder.")
    return path


def pack(files: tuple[PackedFile, ...], top: str, target: IO[bytes]) -> None:
    """Writes the zip of `files` below the folder `top`."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in files:
            info = zipfile.ZipInfo(f"{top}/{file.name}", _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = _PLAIN_FILE
            info.create_system = 3  # Unix, also where this runs on something else
            with file.path.open("rb") as source, archive.open(info, "w") as entry:
                while chunk := source.read(_COPY_BYTES):
                    entry.write(chunk)
