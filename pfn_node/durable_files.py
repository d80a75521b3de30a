"""Files that are whole or not there, also after a power cut."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

# What a file system says of what it cannot give back: a sector, a checksum of its own, a folder where a file was.
_LOST: Final = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.ENODATA, errno.EISDIR, errno.ENOTDIR})


def move_durably(path: Path, target: Path) -> None:
    """Give a flushed file or folder its name, for good; makes the folder that it needs. Blocks, as all does here.

    Raises OSError; then a name that was free is free again.
    """
    if not target.parent.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        flush_folder(target.parent.parent)
    was_free = not target.exists()
    path.rename(target)
    try:
        flush_folder(target.parent)
    except OSError:
        if was_free:  # nobody counts on it, so nobody would ever take it away
            with suppress(OSError):
                target.rename(path)
        raise


def flush_folder(folder: Path) -> None:
    """A rename is durable once its folder is flushed."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_folder(folder: Path) -> None:
    """Leave nothing of a folder, as far as the disk lets us, which may fail for a moment: so it is tried twice."""
    for _ in range(2):
        shutil.rmtree(folder, ignore_errors=True)


def is_lost(error: OSError) -> bool:
    """Whether an error of reading says that the file is damaged, rather than that something here ran out."""
    return error.errno in _LOST
