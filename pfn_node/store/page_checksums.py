"""Checksums of the database's pages: SQLite's own checksum VFS, which verifies each page whenever it is read.

SQLite believes its disk. Its checksum VFS (cksumvfs) keeps eight bytes at the end of every page and fails a read with
SQLITE_IOERR_DATA if they do not fit: so a page that was damaged gives an error, and never a wrong row. The extension is
not in Python's SQLite; the wheel of APSW carries it, compiled, for the usual platforms, and nothing else of APSW is
used or imported (a second SQLite in one process would be one too many).

A database has checksums from its first page on, or not at all: those that are made where the extension is here have
them. Whatever writes to such a file has to have it too, so where it is missing such a file is not opened.

What this does not see: a page that the disk wrote nowhere, or in another place (its old state is sound), and a page
full of zeros, whose checksum is zero. Of those SQLite itself knows all but the ends of very long values.
"""

import ctypes
import functools
import importlib.util
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

# A row of little-endian words for each page.
_Words: TypeAlias = npt.NDArray[np.uint32]

PAGE_BYTES: Final = 4096
CHECKSUM_BYTES: Final = 8
# Where the header of the first page says how many bytes at the end of each page are not SQLite's own.
_RESERVED_AT: Final = 20
_HEADER_BYTES: Final = 100
# Pages that are looked at at once.
_PAGES: Final = 1024


@functools.cache
def load() -> bool:
    """Have SQLite keep and verify checksums in this process, from now on; False where that cannot be had."""
    extension = _extension()
    if extension is None:
        return False
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            if hasattr(connection, "enable_load_extension"):
                connection.enable_load_extension(True)
                connection.load_extension(str(extension))
            else:
                _load_around_python(extension)
            with closing(sqlite3.connect("file:?vfs=cksmvfs&mode=memory", uri=True)):
                return True
        except (sqlite3.Error, OSError, AttributeError):
            return False


def has_checksums(path: Path) -> bool:
    """Whether the pages of a database have checksums; False also for what is no database (yet)."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return False
    return header.startswith(b"SQLite format 3\0") and header[_RESERVED_AT] == CHECKSUM_BYTES


def empty_database() -> bytes:
    """A database without tables, whose pages have checksums: SQLite keeps to what its first page says."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA user_version = 1")  # else there is no page
        page = bytearray(connection.serialize())
    page[_RESERVED_AT] = CHECKSUM_BYTES
    # No table is there yet, and the space for rows begins at the end of what is SQLite's own.
    page[_HEADER_BYTES + 5 : _HEADER_BYTES + 7] = (PAGE_BYTES - CHECKSUM_BYTES).to_bytes(2, "big")
    page[-CHECKSUM_BYTES:] = _sums(np.frombuffer(bytes(page), "<u4").reshape(1, -1)).tobytes()
    return bytes(page)


def damaged_pages(path: Path) -> Iterator[tuple[int, int, list[int]]]:
    """Go through the pages of a file that has checksums: (done, of how many, numbers of damaged ones) again and again.

    Reads the file itself, so also what no query comes to. A page that is written in that moment is looked at twice.
    Never in a process that has the database open: closing the file would take away SQLite's own locks on it.
    """
    pages = path.stat().st_size // PAGE_BYTES
    with path.open("rb") as file:
        for first in range(0, pages, _PAGES):
            file.seek(first * PAGE_BYTES)
            found = _damaged(file.read(_PAGES * PAGE_BYTES))
            again = []
            for number in found:
                file.seek((first + number) * PAGE_BYTES)
                again += [first + number + 1] if _damaged(file.read(PAGE_BYTES)) else []
            yield min(first + _PAGES, pages), pages, again


def _damaged(data: bytes) -> list[int]:
    whole = len(data) // PAGE_BYTES
    words = np.frombuffer(data, "<u4", count=whole * PAGE_BYTES // 4).reshape(whole, -1)
    differ = (_sums(words) != words[:, -2:]).any(axis=1)
    return [int(number) for number in np.nonzero(differ)[0]]


def _sums(words: _Words) -> _Words:
    """As cksumvfs computes it over all but the last eight bytes of each row, modulo 2**32."""
    one = np.zeros(len(words), "<u4")
    other = np.zeros(len(words), "<u4")
    for at in range(0, PAGE_BYTES // 4 - 2, 2):
        one += words[:, at] + other
        other += words[:, at + 1] + one
    return np.stack([one, other], axis=1)


def _extension() -> Path | None:
    try:
        found = importlib.util.find_spec("apsw")
    except ImportError:
        return None
    for folder in (found.submodule_search_locations or ()) if found else ():
        for name in ("cksumvfs.so", "cksumvfs.dylib"):
            file = Path(folder) / "sqlite_extra_binaries" / name
            if file.exists():
                return file
    return None


def _load_around_python(extension: Path) -> None:
    """Some builds of Python leave the loading of extensions out; the SQLite that they use has it all the same."""
    import _sqlite3

    # Looking symbols up through Python's own module finds the very SQLite that it is linked with.
    library = ctypes.CDLL(_sqlite3.__file__)
    database = ctypes.c_void_p()
    library.sqlite3_open.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
    library.sqlite3_close.argtypes = [ctypes.c_void_p]
    library.sqlite3_enable_load_extension.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.sqlite3_load_extension.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
    if library.sqlite3_open(b":memory:", ctypes.byref(database)):
        raise OSError("no database can be opened in memory")
    try:
        library.sqlite3_enable_load_extension(database, 1)
        if library.sqlite3_load_extension(database, str(extension).encode(), None, None):
            raise OSError(f"{extension} cannot be loaded")
    finally:
        library.sqlite3_close(database)
