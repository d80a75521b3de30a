"""A digest of a set of ids that is kept up to date by adding and subtracting, whatever the order.

Each id becomes a number of 3072 bits (SHAKE128 of the id); a set is their sum modulo 2^3072, together with how many
there are. Finding two sets with one sum is as hard as a lattice problem of that size (AdHash); with a plain XOR it
would be a system of linear equations. Two sums add, so the digest of a whole is made from those of its parts, and a
part can be left out exactly. It says that two sets differ, never where.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final

_SUM_BYTES: Final = 384
_MODULUS: Final = 1 << (8 * _SUM_BYTES)
_COUNT_BYTES: Final = 8


class SetDigest:
    """The count and sum of a set of ids. Nobody checks that an added id was absent: that is the caller's to know."""

    __slots__ = ("_digest", "_digest_of", "_sum", "count")

    def __init__(self, ids: Iterable[bytes] = ()) -> None:
        self.count = 0
        self._sum = 0
        self._digest = b""
        self._digest_of = -1  # the sum that the digest was made of, and is not made of again
        for item in ids:
            self.add(item)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SetDigest) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        raise TypeError("a SetDigest changes, so it cannot be a key; use its digest()")

    def add(self, item: bytes) -> None:
        """Put an id into the set."""
        self.count += 1
        self._sum += _remembered_number(item)  # reduced when it is read: a million additions make it three bytes longer

    def add_all(self, items: Iterable[bytes]) -> None:
        """Put many ids into the set that are not soon taken out again."""
        numbers = [_number(item) for item in items]
        self.count += len(numbers)
        self._sum += sum(numbers)

    def remove(self, item: bytes) -> None:
        """Take out an id that is in the set."""
        assert self.count > 0, "an id was removed from an empty set"
        self.count -= 1
        self._sum -= _remembered_number(item)

    def merge(self, other: "SetDigest") -> None:
        """Add all ids of another set, which has none in common with this one."""
        self.count += other.count
        self._sum += other._sum

    def subtract(self, other: "SetDigest") -> None:
        """Take out all ids of another set, which is a part of this one."""
        assert self.count >= other.count, "a larger set was subtracted from a smaller one"
        self.count -= other.count
        self._sum -= other._sum

    def copy(self) -> "SetDigest":
        """Return another one, of the same set."""
        duplicate = SetDigest()
        duplicate.count, duplicate._sum = self.count, self._sum
        return duplicate

    def digest(self) -> bytes:
        """Return the 32 bytes that are compared with another node's."""
        if self._digest_of != self._sum:
            self._digest = hashlib.sha256(self.to_bytes()).digest()
            self._digest_of = self._sum
        return self._digest

    def to_bytes(self) -> bytes:
        """Return count and sum, for keeping over a restart."""
        self._sum %= _MODULUS
        return self.count.to_bytes(_COUNT_BYTES, "big") + self._sum.to_bytes(_SUM_BYTES, "big")

    @classmethod
    def from_bytes(cls, state: bytes) -> "SetDigest":
        """Return what `to_bytes` was called on."""
        assert len(state) == _COUNT_BYTES + _SUM_BYTES, "this is not the state of a set digest"
        restored = cls()
        restored.count = int.from_bytes(state[:_COUNT_BYTES], "big")
        restored._sum = int.from_bytes(state[_COUNT_BYTES:], "big")
        return restored


# Adds up the ids of an author: `add_up`, or what remembers its results and so is faster with the same ids.
SumOf = Callable[[bytes, Sequence[bytes]], SetDigest]


def add_up(_author: bytes, ids: Sequence[bytes]) -> SetDigest:
    """The sum of these ids, one by one."""
    total = SetDigest()
    total.add_all(ids)
    return total


def _number(item: bytes) -> int:
    return int.from_bytes(hashlib.shake_128(item).digest(_SUM_BYTES), "big")


# An id is counted in its author's sum and in the whole, and often soon taken out again.
_remembered_number: Final = lru_cache(maxsize=256)(_number)
