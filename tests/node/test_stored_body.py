"""The body of an answer that comes from an object store."""

import threading
from dataclasses import dataclass, field

import pytest
from trio.testing import MockClock

from pfn_node.artifacts import stored_body
from pfn_node.artifacts.errors import ArtifactMismatch, StoreUnavailable
from pfn_node.artifacts.stored_body import BLOCKS_AHEAD_MAX, BLOCKS_AT_ONCE, StoredBody

BLOCK = 4


@dataclass
class FakeStored:
    """A file in blocks of four bytes."""

    data: bytes
    damaged_from: int = 10**9  # block
    asked: list[tuple[int, int]] = field(default_factory=list)
    block_bytes: int = BLOCK

    @property
    def size(self) -> int:
        return len(self.data)

    def blocks(self, first: int, count: int) -> bytes:
        self.asked.append((first, count))
        if first + count > self.damaged_from:
            raise ArtifactMismatch("damaged")
        return self.data[first * BLOCK : (first + count) * BLOCK]

    def signed_url(self) -> str | None:
        return None


async def read(body: StoredBody) -> list[bytes]:
    async with body:
        return [piece async for piece in body]


@pytest.mark.parametrize("begin", range(0, 50, 7))
@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 8, 33, 50])
async def test_every_part_is_what_it_is_of_the_whole(begin: int, length: int) -> None:
    stored = FakeStored(bytes(range(50)))
    body = StoredBody(stored)
    end = min(50, begin + length)
    body.narrow(begin, end)

    await body.prepare()
    pieces = await read(body)

    assert b"".join(pieces) == stored.data[begin:end]
    assert all(0 < len(piece) <= BLOCK for piece in pieces)
    assert all(first * BLOCK < end and first * BLOCK + count * BLOCK > begin for first, count in stored.asked)
    assert StoredBody._ahead == 0


async def test_the_first_block_comes_alone_and_then_several_at_once() -> None:
    stored = FakeStored(bytes(BLOCK * 12))
    body = StoredBody(stored)

    await body.prepare()
    await read(body)

    assert stored.asked == [(0, 1), (1, BLOCKS_AT_ONCE), (1 + BLOCKS_AT_ONCE, 3)]


async def test_answers_that_nobody_reads_hold_no_more_than_all_may_together() -> None:
    made = [StoredBody(FakeStored(bytes(BLOCK * 100))) for _ in range(3 * BLOCKS_AHEAD_MAX)]
    for body in made:
        await body.prepare()
        await anext(body)
        await anext(body)  # and now the client stalls
        assert StoredBody._ahead <= BLOCKS_AHEAD_MAX

    last = made[-1].stored
    assert isinstance(last, FakeStored)
    assert last.asked == [(0, 1), (1, 1)]
    made.clear()
    del body, last
    assert StoredBody._ahead == 0


async def test_damage_fails_before_a_byte_of_what_was_read_with_it_leaves() -> None:
    body = StoredBody(FakeStored(bytes(BLOCK * 9), damaged_from=5))
    came = []

    with pytest.raises(ArtifactMismatch):
        async with body:
            await body.prepare()
            async for piece in body:
                came.append(piece)

    assert len(came) == 1
    assert StoredBody._ahead == 0


async def test_a_store_that_hangs_is_given_up(autojump_clock: MockClock) -> None:
    hangs = threading.Event()

    class Hanging(FakeStored):
        def blocks(self, first: int, count: int) -> bytes:
            hangs.wait(10)
            return b""

    try:
        with pytest.raises(StoreUnavailable, match="takes too long"):
            await StoredBody(Hanging(b"data")).prepare()
    finally:
        hangs.set()

    assert autojump_clock.current_time() >= stored_body.READ_SECONDS_MAX
