"""The body of an answer whose bytes lie in an object store: one checked block after another.

The first block is asked for before the head of the answer is sent, so that a store that is down, or an artifact that
is gone or damaged there, is an answer of its own. Later it cuts the connection: what came is not a complete download.

A store takes long to begin and little to go on, so several blocks are asked for at once after the first one. What they
may take in memory is limited over all answers: who does not read costs a block, and the others their speed.
"""

from collections.abc import Callable
from typing import Final, Protocol, Self, TypeVar, runtime_checkable

import trio
from quart.wrappers.response import ResponseBody

from pfn_node.artifacts.errors import StoreUnavailable

READS_MAX: Final = 16  # of the store at once; the others wait
BLOCKS_AT_ONCE: Final = 8
BLOCKS_AHEAD_MAX: Final = 64  # 16 MiB, of all answers together
READ_SECONDS_MAX: Final = 40.0  # longer than the store itself takes to give up, with the time of waiting for a turn

T = TypeVar("T")

_reads: Final = trio.CapacityLimiter(READS_MAX)


@runtime_checkable
class StoredFile(Protocol):
    """A file in an object store, in blocks of one length; `blocks` blocks, and raises ArtifactError."""

    @property
    def block_bytes(self) -> int:
        """The length of all blocks but the last."""
        ...

    @property
    def size(self) -> int:
        """The size in bytes."""
        ...

    def blocks(self, first: int, count: int) -> bytes:
        """So many blocks from one on, or up to the end, checked."""
        ...

    def signed_url(self) -> str | None:
        """A URL of the store with which anybody may read it for a while, if there are such."""
        ...


class StoredBody(ResponseBody):
    """The bytes of a stored file."""

    _ahead = 0  # blocks that wait in memory behind the one that is being sent, of all answers

    def __init__(self, stored: StoredFile) -> None:
        self.stored = stored
        self._here = memoryview(b"")  # what was read and not sent
        self._held = 0  # blocks that this answer has ahead
        self.narrow(0, stored.size)

    def narrow(self, begin: int, end: int) -> None:
        """Sends only the bytes from `begin` up to, not including, `end`."""
        self._position = begin
        self._end = end

    async def prepare(self) -> None:
        """Have the first block here, before the head is sent. Raises ArtifactError."""
        if self._position < self._end:
            await self._read(1)

    async def signed_url(self) -> str | None:
        """As that of the file."""
        return await _asked(self.stored.signed_url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._here:
            if self._position >= self._end:
                raise StopAsyncIteration
            await self._read(1 + min(BLOCKS_AT_ONCE - 1, BLOCKS_AHEAD_MAX - StoredBody._ahead))
        piece, self._here = self._here[: self.stored.block_bytes], self._here[self.stored.block_bytes :]
        self._hold(len(self._here) // self.stored.block_bytes)
        return bytes(piece)

    def close(self) -> None:
        """Nothing more is sent."""
        self._here = memoryview(b"")
        self._hold(0)
        self._end = self._position

    def __del__(self) -> None:
        self._hold(0)  # an answer that is replaced or dropped before it is sent is never entered

    async def _read(self, count: int) -> None:
        """So many blocks from the position on, or up to the end."""
        number, begin = divmod(self._position, self.stored.block_bytes)
        wanted = begin + self._end - self._position
        count = min(count, -(-wanted // self.stored.block_bytes))
        self._hold(count - 1)  # before they come: others read meanwhile
        blocks = await _asked(lambda: self.stored.blocks(number, count))
        self._here = memoryview(blocks)[begin:wanted]
        self._position += len(self._here)

    def _hold(self, count: int) -> None:
        StoredBody._ahead += count - self._held
        self._held = count


async def _asked(work: Callable[[], T]) -> T:
    """Ask the store in a thread, which is left to itself if nobody waits any more."""
    with trio.move_on_after(READ_SECONDS_MAX):
        return await trio.to_thread.run_sync(work, limiter=_reads, abandon_on_cancel=True)
    raise StoreUnavailable("The object store takes too long.", READ_SECONDS_MAX)
