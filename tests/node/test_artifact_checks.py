"""Damaged artifacts: noticed before a wrong byte leaves, out of service at once, and never deleted."""

import hashlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.checks import BLOCK_BYTES
from pfn_node.artifacts.errors import ArtifactMismatch, ArtifactMissing
from pfn_node.artifacts.response import ArtifactBody, ArtifactDamaged
from tests.node.few_files import no_descriptor_left

FLIPS_IN_CI = 60


def started(folder: Path) -> Artifacts:
    artifacts = Artifacts(folder, 2**30)
    artifacts.start()
    return artifacts


def path_of(folder: Path, sha256: bytes) -> Path:
    return folder / sha256.hex()[:2] / sha256.hex()[2:]


def flip(path: Path, bit: int) -> None:
    """Turn one bit over, as a disk would: the file keeps its size, and nothing else is told."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes((byte ^ (1 << bit % 8),)))


async def sent(artifacts: Artifacts, sha256: bytes, begin: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
    opened = artifacts.open(sha256)
    async with ArtifactBody(opened.fd, opened.size, opened.is_sound) as body:
        body.narrow(begin, opened.size if end is None else end)
        async for piece in body:
            yield piece


@pytest.mark.parametrize("flips", [FLIPS_IN_CI, pytest.param(1_000, marks=pytest.mark.long)])
async def test_no_bit_flip_in_a_file_lets_a_wrong_byte_leave(tmp_path: Path, flips: int) -> None:
    rng = random.Random(7)
    data = rng.randbytes(3 * BLOCK_BYTES + 12_345)
    noticed_first = noticed_later = 0
    for number in range(flips):
        folder = tmp_path / str(number % 4)
        artifacts = started(folder)
        sha256 = artifacts.put_bytes(data)
        bit = rng.randrange(8 * len(data))
        checked_before = rng.random() < 0.5
        begin = rng.choice((0, rng.randrange(len(data))))
        end = rng.choice((len(data), rng.randrange(begin, len(data)) + 1))
        if checked_before:
            artifacts.check(sha256)
        flip(path_of(folder, sha256), bit)
        got = b""
        try:
            async for piece in sent(artifacts, sha256, begin, end):
                got += piece
        except ArtifactMismatch:
            noticed_first += 1
        except ArtifactDamaged:
            noticed_later += 1

        assert got == data[begin : begin + len(got)], "a wrong byte left"
        touched = bit // 8 // BLOCK_BYTES in range(begin // BLOCK_BYTES, (end - 1) // BLOCK_BYTES + 1)
        assert len(got) == end - begin or not checked_before or touched
        # Whether or not the flipped block was asked for, the scrub finds it.
        if artifacts.has(sha256):
            with pytest.raises(ArtifactMismatch):
                artifacts.check(sha256, again=True)
        assert artifacts.wanted() == (sha256,)
        assert hashlib.sha256((folder / "damaged" / sha256.hex()).read_bytes()).digest() != sha256

    assert noticed_first > 0 and noticed_later > 0


async def test_a_file_of_which_the_system_holds_a_part_in_memory_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(fd: int, buffers: list[bytearray], at: int, flags: int) -> int:
        found = os.pread(fd, len(buffers[0]) // 2, at)
        buffers[0][: len(found)] = found
        return len(found)

    monkeypatch.setattr(os, "preadv", half)
    artifacts = started(tmp_path)
    data = random.Random(3).randbytes(2 * BLOCK_BYTES + 77)
    sha256 = artifacts.put_bytes(data)

    got = b"".join([piece async for piece in sent(artifacts, sha256)])

    assert got == data and artifacts.wanted() == ()


@pytest.mark.parametrize("change", ["cut", "longer", "empty", "gone"])
async def test_a_file_that_was_cut_or_lost_is_out_of_service_and_wanted(tmp_path: Path, change: str) -> None:
    artifacts = started(tmp_path)
    sha256 = artifacts.put_bytes(b"x" * 1_000_000)
    path = path_of(tmp_path, sha256)
    match change:
        case "cut":
            os.truncate(path, 500_000)
        case "longer":
            path.write_bytes(path.read_bytes() + b"y")
        case "empty":
            os.truncate(path, 0)
        case "gone":
            path.unlink()

    with pytest.raises((ArtifactMismatch, ArtifactMissing)):
        artifacts.open(sha256)

    assert not artifacts.has(sha256)
    assert started(tmp_path).wanted() == (sha256,), "also after a restart"


async def test_what_comes_again_is_served_and_the_damaged_file_stays(tmp_path: Path) -> None:
    artifacts = started(tmp_path)
    sha256 = artifacts.put_bytes(b"sound")
    flip(path_of(tmp_path, sha256), 3)
    with pytest.raises(ArtifactMismatch):
        artifacts.check(sha256)

    artifacts.put_bytes(b"sound")

    assert b"".join([piece async for piece in sent(artifacts, sha256)]) == b"sound"
    assert artifacts.wanted() == () and artifacts.usage()["damaged"] == 0
    assert (tmp_path / "damaged" / sha256.hex()).exists()
    artifacts.delete(sha256)
    assert artifacts.wanted() == () and started(tmp_path).wanted() == ()


async def test_a_file_that_cannot_be_read_counts_as_damaged(tmp_path: Path) -> None:
    artifacts = started(tmp_path)
    sha256 = artifacts.put_bytes(b"sound")
    path = path_of(tmp_path, sha256)
    path.unlink()
    path.mkdir()  # reading it fails, as with a broken sector

    with pytest.raises(ArtifactMismatch):
        artifacts.check(sha256)

    assert artifacts.wanted() == (sha256,)


@pytest.mark.parametrize("blocks", [0, 1, 3])
async def test_a_file_that_was_cut_or_grew_by_whole_blocks_since_it_was_checked_is_not_sent(
    tmp_path: Path, blocks: int
) -> None:
    artifacts = started(tmp_path)
    sha256 = artifacts.put_bytes(random.Random(5).randbytes(2 * BLOCK_BYTES))
    artifacts.check(sha256)
    os.truncate(path_of(tmp_path, sha256), blocks * BLOCK_BYTES)
    descriptors = len(os.listdir("/proc/self/fd"))

    with pytest.raises(ArtifactMismatch):
        artifacts.open(sha256)

    assert artifacts.wanted() == (sha256,)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_file_for_which_there_is_no_descriptor_is_not_taken_for_damaged(tmp_path: Path) -> None:
    artifacts = started(tmp_path)
    sha256 = artifacts.put_bytes(b"a zip")

    for again in (False, True):
        with no_descriptor_left(), pytest.raises(OSError, match="Too many open files"):
            artifacts.check(sha256, again=again)
    with no_descriptor_left(), pytest.raises(OSError, match="Too many open files"):
        artifacts.checks.read_through(sha256, path_of(tmp_path, sha256))  # there may be one again when it is put aside

    assert artifacts.wanted() == () and artifacts.has(sha256)
    artifacts.check(sha256)


async def test_whoever_waits_for_damage_is_told(tmp_path: Path) -> None:
    artifacts = started(tmp_path)
    sha256 = artifacts.put_bytes(b"sound")
    told: list[bool] = []
    artifacts.checks.on_loss = lambda: told.append(True)
    flip(path_of(tmp_path, sha256), 0)

    with pytest.raises(ArtifactMismatch):
        artifacts.check(sha256, again=True)

    assert told == [True]
