"""Rateless sketches of sets of ids: cells whose difference gives the ids that only one of two sets has.

A cell is 21 bytes: the XOR of the first 16 bytes of its ids, the XOR of their 4-byte checksums, and their number
modulo 256. Which ids those are says the walk (sketch_walk.py). Cells are linear: subtract the cells of one set from
those of another, and what both have is gone. A cell that then holds one id shows it; taken out of all its cells, it
uncovers others ("peeling"). About 1.36 cells for each id of a large difference do, and never mind how large the sets
are. So one side asks for cells until they decode, and the other one never has to know how many that will be.

After Yang, Gilad, Alizadeh, "Practical Rateless Set Reconciliation" (SIGCOMM 2024). Cells of a million ids are made
with numpy: 3 s instead of 30. `reference_cells` says the same in a few lines of plain Python.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pfn_protocol.limits import sketch_cell_bytes, sketch_id_bytes
from pfn_protocol.sketch_walk import (
    CHECKSUM_BYTES,
    Words,
    checksum_of,
    density,
    indices,
    keyed_hash,
    keyed_hashes,
    many_indices,
    seeds_and_checksums,
)

_LAYOUT: Final = np.dtype([("high", "<u8"), ("low", "<u8"), ("checksum", "<u4"), ("count", "u1")])
# Ids that are walked at once: their working set stays in the processor's cache.
_CHUNK: Final = 32_768
# Fewer ids than this are added one by one, fewer cells decoded one by one: numpy's calls would cost more than the work.
_FEW: Final = 48
_FEW_CELLS: Final = 512
# Honest cells show many ids at once: a dozen or two passes take them all out, and up to ninety if there are hardly
# enough cells (of 350 ids to 150,000). Cells can be made to show one id after the other, so that each takes a pass.
_PASSES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """What one of two sets has and the other one lacks; ids are shortened to 16 bytes."""

    theirs: tuple[bytes, ...]
    mine: tuple[bytes, ...]


class Cells:
    """The first cells of one set's sketch under one salt."""

    __slots__ = ("_checksums", "_counts", "_highs", "_lows")

    def __init__(self, length: int) -> None:
        self._highs = np.zeros(length, np.uint64)
        self._lows = np.zeros(length, np.uint64)
        self._checksums = np.zeros(length, np.uint32)
        self._counts = np.zeros(length, np.uint8)

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def memory_bytes(self) -> int:
        """What the arrays take."""
        return self._highs.nbytes + self._lows.nbytes + self._checksums.nbytes + self._counts.nbytes

    def add(self, short_ids: Sequence[bytes], salt: bytes) -> None:
        """Put ids in. Nobody checks that they were not in before."""
        self._change(short_ids, salt, 1)

    def remove(self, short_ids: Sequence[bytes], salt: bytes) -> None:
        """Take ids out. Nobody checks that they were in."""
        self._change(short_ids, salt, -1)

    def subtract(self, other: "Cells") -> "Cells":
        """The cells of the difference: ids that only the other set has count negatively."""
        assert len(self) == len(other), "cells are subtracted from as many cells"
        result = Cells(0)
        result._highs, result._lows = self._highs ^ other._highs, self._lows ^ other._lows
        result._checksums, result._counts = self._checksums ^ other._checksums, self._counts - other._counts
        return result

    def part(self, start: int, end: int) -> "Cells":
        """A copy of the cells from `start` to before `end`."""
        result = Cells(0)
        result._highs, result._lows = self._highs[start:end].copy(), self._lows[start:end].copy()
        result._checksums, result._counts = self._checksums[start:end].copy(), self._counts[start:end].copy()
        return result

    def joined(self, following: "Cells") -> "Cells":
        """These cells and those that follow them."""
        result = Cells(0)
        result._highs = np.concatenate((self._highs, following._highs))
        result._lows = np.concatenate((self._lows, following._lows))
        result._checksums = np.concatenate((self._checksums, following._checksums))
        result._counts = np.concatenate((self._counts, following._counts))
        return result

    def to_bytes(self) -> bytes:
        """As they travel: 21 bytes each."""
        table = np.empty(len(self), _LAYOUT)
        table["high"], table["low"] = self._highs, self._lows
        table["checksum"], table["count"] = self._checksums, self._counts
        return table.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Cells":
        """What `to_bytes` was called on; any bytes are some cells."""
        assert len(data) % sketch_cell_bytes == 0, "cells are sent whole"
        table = np.frombuffer(data, _LAYOUT)
        result = cls(0)
        result._highs, result._lows = table["high"].astype(np.uint64), table["low"].astype(np.uint64)
        result._checksums, result._counts = table["checksum"].astype(np.uint32), table["count"].astype(np.uint8)
        return result

    def estimate(self, count_difference: int) -> float:
        """About how many ids the difference has, of which these are the cells.

        `count_difference`: how many ids the first set has more than the second. Each cell holds an id of the
        difference with a known probability, so the scatter of the counts around what that number alone would give
        tells how many there are. Counts come modulo 256; cells where they may have gone round are left out, as long
        as enough others are there.
        """
        assert len(self) > 1, "cell 0 holds every id, and tells nothing"
        probability = np.array([density(index) for index in range(1, len(self))])
        expected = probability * count_difference
        rest = (self._counts[1:].astype(np.float64) - expected + 128.0) % 256.0 - 128.0
        variance = probability * (1.0 - probability)
        single = rest * rest / variance
        about = float(single.mean())
        straight = about * variance < _STRAIGHT_VARIANCE_MAX
        return float(single[straight].mean()) if straight.sum() >= _STRAIGHT_CELLS_MIN else about

    def decode(self, salt: bytes) -> Difference | None:
        """The ids of the difference of which these are the cells; None if there are too few cells, or they are wrong.

        An id comes out of at most one cell, and at most as many as there are cells, in so many passes over many cells:
        so this ends soon whatever the cells, and what is made to take longer does not decode.
        """
        return self._peel_few(salt) if len(self) <= _FEW_CELLS else self._peel_many(salt)

    def _change(self, short_ids: Sequence[bytes], salt: bytes, sign: int) -> None:
        if len(short_ids) < _FEW:
            for short_id in short_ids:
                self._change_one(short_id, salt, sign)
            return
        for start in range(0, len(short_ids), _CHUNK):
            chunk = short_ids[start : start + _CHUNK]
            self._change_many(b"".join(chunk), keyed_hashes(chunk, salt), sign)

    def _change_one(self, short_id: bytes, salt: bytes, sign: int) -> None:
        hashed = keyed_hash(short_id, salt)
        where = np.array(indices(hashed, len(self)), dtype=np.intp)
        self._highs[where] ^= np.uint64(int.from_bytes(short_id[:8], "little"))
        self._lows[where] ^= np.uint64(int.from_bytes(short_id[8:], "little"))
        self._checksums[where] ^= np.uint32(int.from_bytes(checksum_of(hashed), "little"))
        self._counts[where] += np.uint8(sign & 0xFF)

    def _change_many(self, joined_ids: bytes, hashes: bytes, sign: int) -> None:
        highs, lows = _halves(joined_ids)
        seeds, checksums = seeds_and_checksums(hashes)
        self._toggle(highs, lows, seeds, checksums, np.full(len(seeds), sign & 0xFF, np.uint8))

    def _toggle(
        self, highs: Words, lows: Words, seeds: Words, checksums: NDArray[np.uint32], changes: NDArray[np.uint8]
    ) -> list[NDArray[np.intp]]:
        """XOR ids into their cells, and change the counts. Returns which cells were touched."""
        touched: list[NDArray[np.intp]] = []
        for rows, where in many_indices(seeds, len(self)):
            np.bitwise_xor.at(self._highs, where, highs[rows])
            np.bitwise_xor.at(self._lows, where, lows[rows])
            np.bitwise_xor.at(self._checksums, where, checksums[rows])
            np.add.at(self._counts, where, changes[rows])
            touched.append(where)
        return touched

    @property
    def _is_empty(self) -> bool:
        return not (self._highs.any() or self._lows.any() or self._checksums.any() or self._counts.any())

    def _peel_many(self, salt: bytes) -> Difference | None:
        left = self.part(0, len(self))
        found: dict[bytes, bool] = {}
        looked_at = np.arange(len(left))
        for _ in range(_PASSES_MAX):
            if not len(looked_at) or len(found) > len(left):
                break
            counts = left._counts[looked_at]
            single = looked_at[(counts == 1) | (counts == 255)]
            ids = _joined_halves(left._highs[single], left._lows[single])
            hashes = keyed_hashes(_split(ids), salt)
            seeds, checksums = seeds_and_checksums(hashes)
            _, first = np.unique(seeds, return_index=True)
            pure = first[checksums[first] == left._checksums[single[first]]]
            cells = single[pure]
            highs, lows, counts = left._highs[cells], left._lows[cells], left._counts[cells]
            for short_id, count in zip(_split(_joined_halves(highs, lows)), counts.tolist(), strict=True):
                if short_id in found:
                    return None
                found[short_id] = count == 1
            touched = left._toggle(highs, lows, seeds[pure], checksums[pure], np.uint8(0) - counts)
            looked_at = np.unique(np.concatenate((looked_at[:0], *touched)))
        return _difference(found) if left._is_empty else None

    def _peel_few(self, salt: bytes) -> Difference | None:
        highs, lows = self._highs.tolist(), self._lows.tolist()
        checksums, counts = self._checksums.tolist(), self._counts.tolist()
        found: dict[bytes, bool] = {}
        waiting = list(range(len(self)))
        while waiting and len(found) <= len(self):
            cell = waiting.pop()
            count, high, low, checksum = counts[cell], highs[cell], lows[cell], checksums[cell]
            if count not in (1, 255):
                continue
            short_id = high.to_bytes(8, "little") + low.to_bytes(8, "little")
            hashed = keyed_hash(short_id, salt)
            if checksum != int.from_bytes(checksum_of(hashed), "little"):
                continue
            if short_id in found:
                return None
            found[short_id] = count == 1
            for where in indices(hashed, len(self)):
                highs[where] ^= high
                lows[where] ^= low
                checksums[where] ^= checksum
                counts[where] = (counts[where] - count) & 0xFF
                waiting.append(where)
        return None if any(counts) or any(checksums) or any(highs) or any(lows) else _difference(found)


# A count goes round where its scatter exceeds this: 128 is three times its root, so one of 400 cells is wrong.
_STRAIGHT_VARIANCE_MAX: Final = 42.0**2
# Fewer cells than these give a worse estimate than cells that may have gone round.
_STRAIGHT_CELLS_MIN: Final = 8


def build_cells(ids: Iterable[bytes], without: Iterable[bytes], salt: bytes, length: int) -> Cells:
    """The first cells of a set: of `ids` but for `without`, which are among them. Takes about 2 s for a million."""
    cells = Cells(length)
    cells.add([one[:sketch_id_bytes] for one in ids], salt)
    cells.remove([one[:sketch_id_bytes] for one in without], salt)
    return cells


def reference_cells(short_ids: Iterable[bytes], salt: bytes, length: int) -> bytes:
    """The same in plain Python, as cells travel: what other implementations and the vectors are compared with."""
    cells = [(bytes(sketch_id_bytes), bytes(CHECKSUM_BYTES), 0)] * length
    for short_id in short_ids:
        hashed = keyed_hash(short_id, salt)
        for index in indices(hashed, length):
            xored, checksum, count = cells[index]
            cells[index] = (_xor(xored, short_id), _xor(checksum, checksum_of(hashed)), (count + 1) & 0xFF)
    return b"".join(xored + checksum + bytes([count]) for xored, checksum, count in cells)


_VERY_LARGE: Final = 2_000


def cells_wanted(difference: float, *, guessed: bool) -> int:
    """How many cells decode a difference of this size, with some to spare.

    A guess from the first 32 cells is off by a quarter either way. For a larger difference it is then cheaper to ask
    for too few, and once more, than for too many; for a very large one the guess is so bad that another round trip is
    what costs more.
    """
    size = max(1.0, difference)
    wanted = size * (1.36 + 1.2 / size**0.55) * 1.1
    if guessed:
        wanted *= 0.95 + 1.2 / math.sqrt(size) if size < _VERY_LARGE else 1.1
    return int(wanted) + 1


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(first ^ second for first, second in zip(one, other, strict=True))


def _halves(joined_ids: bytes) -> tuple[Words, Words]:
    table = np.frombuffer(joined_ids, dtype="<u8").reshape(-1, 2)
    return table[:, 0].astype(np.uint64), table[:, 1].astype(np.uint64)


def _joined_halves(highs: Words, lows: Words) -> bytes:
    return np.stack((highs, lows), axis=1).astype("<u8").tobytes()


def _split(joined_ids: bytes) -> list[bytes]:
    return [joined_ids[at : at + sketch_id_bytes] for at in range(0, len(joined_ids), sketch_id_bytes)]


def _difference(found: dict[bytes, bool]) -> Difference:
    theirs = tuple(short_id for short_id, is_theirs in found.items() if is_theirs)
    return Difference(theirs, tuple(short_id for short_id, is_theirs in found.items() if not is_theirs))
