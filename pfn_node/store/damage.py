"""Which errors of SQLite say that what was written is lost, rather than that something here ran out or is in use.

A full disk, too many open files and a lock that another process holds pass, and nothing is lost by them. Whoever takes
them for damage throws away what is sound.
"""

import sqlite3
from typing import Final

# What SQLite calls a page that is not what was written: by its checksum, or because it makes no sense.
_DAMAGED: Final = ("SQLITE_IOERR_DATA", "SQLITE_CORRUPT", "SQLITE_NOTADB")
# A sector that the disk does not give back; and tables and columns that are not there any more.
_UNREADABLE: Final = (
    *_DAMAGED,
    "SQLITE_IOERR_READ",
    "SQLITE_IOERR_SHORT_READ",
    "SQLITE_IOERR_CORRUPTFS",
    "SQLITE_ERROR",
)

# What the index of words makes of any of them.
_OF_THE_INDEX: Final = "SQLITE_IOERR"


def is_damaged_page(error: Exception) -> bool:
    """Whether SQLite met a page that is not what was written."""
    return getattr(error, "sqlite_errorname", "").startswith(_DAMAGED)


def is_unreadable(error: Exception) -> bool:
    """Whether what was asked for will not be read the next time either.

    True as well of what Python says itself, which has no name of SQLite's: a text that is none.
    """
    named = getattr(error, "sqlite_errorname", None)
    return isinstance(error, sqlite3.DatabaseError | UnicodeDecodeError) and (
        named in (None, _OF_THE_INDEX) or named.startswith(_UNREADABLE)
    )
