"""Into which cells of a sketch an id goes: a walk that both sides of a link take alike, and nobody else can foresee.

An id goes into cell 0, and into cell i with the probability rho(i) = 1 / (1 + i/2), so that every prefix of the cells
is a sketch of its own. Seed and checksum come out of BLAKE2b keyed with a salt that only the two sides know: without
it, ids can be ground that share their cells, and such a sketch never decodes.

The next cell is drawn by square root, product and quotient of IEEE 754 doubles alone. All of these are rounded
exactly, so platforms agree to the bit; a logarithm or a general power would not. The module has the walk twice: for
one id in plain Python, which is the reference, and for many at once with numpy.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pfn_protocol.limits import sketch_id_bytes

Words = NDArray[np.uint64]

_MASK: Final = (1 << 64) - 1
# The finalizer of splitmix64 (Steele, Lea, Flood, 2014) and its step, which is 2^64 divided by the golden ratio.
_STEP: Final = 0x9E3779B97F4A7C15
_MULTIPLIER_1: Final = 0xBF58476D1CE4E5B9
_MULTIPLIER_2: Final = 0x94D049BB133111EB
# A double holds 53 bits exactly; u lies in (0, 1].
_UNIT: Final = 2.0**-53
# With the density 1 / (1 + i/2), the next index is i + ceil((i + 1.5)(u^(-1/2) - 1)).
_OFFSET: Final = 1.5

_HASH_BYTES: Final = 16
_SEED_BYTES: Final = 8
CHECKSUM_BYTES: Final = 4


def density(index: int) -> float:
    """The part of all ids that goes into this cell."""
    return 1 / (1 + index / 2)


def keyed_hash(short_id: bytes, salt: bytes) -> bytes:
    """16 bytes: the seed of the walk (8), the checksum (4), and 4 that nothing uses."""
    return hashlib.blake2b(short_id, digest_size=_HASH_BYTES, key=salt).digest()


def keyed_hashes(short_ids: Iterable[bytes], salt: bytes) -> bytes:
    """The hashes of many ids, one after the other."""
    keyed = hashlib.blake2b(digest_size=_HASH_BYTES, key=salt)

    def hashed(short_id: bytes) -> bytes:
        one = keyed.copy()  # the key's block is hashed once
        one.update(short_id)
        return one.digest()

    return b"".join([hashed(short_id) for short_id in short_ids])


def checksum_of(hashed: bytes) -> bytes:
    """The checksum's part of a keyed hash."""
    return hashed[_SEED_BYTES : _SEED_BYTES + CHECKSUM_BYTES]


def indices(hashed: bytes, length: int) -> list[int]:
    """The cells of one id among the first `length`, ascending: the reference."""
    seed = int.from_bytes(hashed[:_SEED_BYTES], "big")
    index, step, found = 0, 0, []
    while index < length:
        found.append(index)
        step += 1
        unit = ((_mix((seed + _STEP * step) & _MASK) >> 11) + 1.0) * _UNIT
        index += max(1, math.ceil((index + _OFFSET) * (1.0 / math.sqrt(unit) - 1.0)))
    return found


def many_indices(seeds: Words, length: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The cells of many ids, step by step: which of the ids are still below `length`, and the cell of each of them."""
    rows = np.arange(len(seeds))
    index = np.zeros(len(seeds))
    step = 0
    while len(rows):
        yield rows, index.astype(np.intp)
        step += 1
        unit = ((_mix_many(seeds + np.uint64(_STEP * step & _MASK)) >> np.uint64(11)).astype(np.float64) + 1.0) * _UNIT
        index = index + np.maximum(np.ceil((index + _OFFSET) * (1.0 / np.sqrt(unit) - 1.0)), 1.0)
        below = index < length
        rows, index, seeds = rows[below], index[below], seeds[below]


def seeds_and_checksums(hashes: bytes) -> tuple[Words, NDArray[np.uint32]]:
    """The two parts of many keyed hashes. A checksum is only ever compared and XORed, so its byte order is free."""
    table = np.frombuffer(hashes, dtype=np.dtype([("seed", ">u8"), ("checksum", "<u4"), ("rest", "<u4")]))
    return table["seed"].astype(np.uint64), table["checksum"].astype(np.uint32)


def shortened(announcement_id: bytes) -> bytes:
    """What of an id goes into cells."""
    return announcement_id[:sketch_id_bytes]


def _mix(word: int) -> int:
    word ^= word >> 30
    word = word * _MULTIPLIER_1 & _MASK
    word ^= word >> 27
    word = word * _MULTIPLIER_2 & _MASK
    return word ^ word >> 31


def _mix_many(words: Words) -> Words:
    words = words ^ (words >> np.uint64(30))
    words = words * np.uint64(_MULTIPLIER_1)
    words = words ^ (words >> np.uint64(27))
    words = words * np.uint64(_MULTIPLIER_2)
    mixed: Words = words ^ (words >> np.uint64(31))
    return mixed
