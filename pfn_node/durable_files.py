"""Files that are whole or not there, also after a power cut."""

import os
from pathlib import Path


def move_durably(path: Path, target: Path) -> None:
    """Give a flushed file its name, for good; makes the folder that it needs. Blocks, as does everything here."""
    if not target.parent.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        flush_folder(target.parent.parent)
    path.rename(target)
    flush_folder(target.parent)


def flush_folder(folder: Path) -> None:
    """A rename is durable once its folder is flushed."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
