"""A connection whose savepoints have one name."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlite_utils


class Connection(sqlite_utils.Database):
    """As sqlite_utils', which gives every savepoint a name of its own, also those around each single insert.

    Each name is two statements to compile, which then push statements that are used again out of the hundred or so that
    Python keeps compiled. SQLite takes the innermost of savepoints of one name, so that one is enough.
    """

    @contextmanager
    def atomic(self) -> Iterator["Connection"]:
        """All of the block or nothing of it, in a transaction of its own or as a part of the one that runs."""
        if not self.conn.in_transaction:
            with super().atomic():
                yield self
            return
        self.conn.execute("SAVEPOINT part")
        try:
            yield self
        except BaseException:
            if self.conn.in_transaction:  # else an error has undone all of it, savepoints too
                self.conn.execute("ROLLBACK TO part")
                self.conn.execute("RELEASE part")
            raise
        self.conn.execute("RELEASE part")
