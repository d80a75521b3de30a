"""Keeping SQLite's write-ahead log short while somebody always reads.

SQLite copies the log into the database by itself, but goes on at its end as long as any reader still looks at it: where
reads overlap without a pause the log would grow for ever. So once it is long the writer waits for the readers of old
states, a moment only: who reads from then on reads the database itself, and the log begins anew.
"""

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

# Four times what SQLite itself aims at, so that a node whose readers pause never comes to it.
LOG_BYTES_MAX: Final = 16 * 2**20
# How long writes wait for readers; a read that takes longer is waited for again when so much more was written.
WAIT_SECONDS: Final = 0.1
AGAIN_BYTES: Final = 4 * 2**20


class LogLength:
    """Of the database at `path`; for its only writer."""

    def __init__(self, path: Path) -> None:
        self._log = path.with_name(f"{path.name}-wal")
        self._tried_at = 0  # how long it was when readers were waited for in vain

    def is_due(self) -> bool:
        """Whether the log is long, and no try was made lately."""
        try:
            size = self._log.stat().st_size
        except OSError:
            return False
        return size > max(LOG_BYTES_MAX, self._tried_at + AGAIN_BYTES)

    def begin_anew(self, connection: sqlite3.Connection, busy_seconds: float) -> None:
        """Copy all of the log and cut it off, if readers let go of it in time; what was committed is safe either way.

        `busy_seconds`: how long the connection waits for locks otherwise.
        """
        with suppress(sqlite3.Error):  # a disk that is full or fails, which the next write will say
            connection.execute(f"PRAGMA busy_timeout = {round(WAIT_SECONDS * 1_000)}")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        with suppress(sqlite3.Error, OSError):
            connection.execute(f"PRAGMA busy_timeout = {round(busy_seconds * 1_000)}")
            self._tried_at = self._log.stat().st_size
