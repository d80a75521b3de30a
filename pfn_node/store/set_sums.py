"""Sums of announcements' ids that were made at an earlier start (pfn_protocol.set_digest).

Adding up the ids of all authors is the longest part of starting with a million of them. Nearly all that an author said
for good is still there the next time, in the order in which it was kept. So the sum of its first so many ids is
remembered together with a digest of them, and holds for exactly these ids: nothing has to be kept up to date, nothing
is lost with it, and whatever does not fit is added up again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import sqlite_utils

from pfn_node.store.queries import select
from pfn_protocol.set_digest import SetDigest, add_up

# So many ids are added up in less time than it takes to write down their sum.
_WORTH_IT: Final = 256


@dataclass(frozen=True, slots=True)
class SetSum:
    """The sum of the first `count` ids, and the digest of these and of itself."""

    count: int
    digest: bytes
    state: bytes  # SetDigest.to_bytes


class RememberedSums:
    """What was remembered, and what is worth remembering now."""

    def __init__(self, remembered: dict[bytes, SetSum]) -> None:
        self._remembered = remembered
        self._made: dict[bytes, SetSum] = {}
        self._used: set[bytes] = set()

    def sum_of(self, author: bytes, ids: Sequence[bytes]) -> SetDigest:
        """As `add_up`, which is asked for those ids only whose sum is not remembered."""
        known = self._remembered.get(author)
        total, added = SetDigest(), len(ids)
        if known is not None and known.count <= added and known.digest == _digest(ids[: known.count], known.state):
            self._used.add(author)
            total, added = SetDigest.from_bytes(known.state), added - known.count
        total.merge(add_up(author, ids[len(ids) - added :]))
        if added >= _WORTH_IT:
            state = total.to_bytes()
            self._made[author] = SetSum(len(ids), _digest(ids, state), state)
        return total

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._made) or self._used != self._remembered.keys()

    def keep(self, db: sqlite_utils.Database) -> None:
        """Write down what was made; forget what did not fit."""
        unfit = self._remembered.keys() - self._used
        db.conn.executemany("DELETE FROM set_sums WHERE author = ?", [(author,) for author in unfit])
        db.conn.executemany(
            "INSERT OR REPLACE INTO set_sums (author, count, digest, state) VALUES (?, ?, ?, ?)",
            [(author, one.count, one.digest, one.state) for author, one in self._made.items()],
        )


def remembered(db: sqlite_utils.Database) -> RememberedSums:
    """What the last start left."""
    rows = select(db, "SELECT author, count, digest, state FROM set_sums")
    return RememberedSums({row["author"]: SetSum(row["count"], row["digest"], row["state"]) for row in rows})


def _digest(ids: Sequence[bytes], state: bytes) -> bytes:
    return sha256(b"".join((*ids, state))).digest()
