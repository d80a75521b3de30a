"""The body of an answer whose bytes lie in an object store: one checked block after another, and no more than one.

The first block is asked for before the head of the answer is sent, so that a store that is down, or an artifact that
is gone or damaged there, is an answer of its own. Later it cuts the connection: what came is not a complete download.
"""

from collections.abc import Callable
from typing import Final, Protocol, Self, TypeVar, runtime_checkable

import trio
from quart.wrappers.response import ResponseBody

from pfn_node.artifact_errors import StoreUnavailable

READS_MAX: Final = 32  # of the store at once; the others wait
READ_SECONDS_MAX: Final = 40.0  # longer than the store itself takes to give up, with the time of waiting for a turn

T = TypeVar("T")

_reads: Final = trio.CapacityLimiter(READS_MAX)


@runtime_checkable
class StoredFile(Protocol):
    """A file in an object store, in blocks of one length; `block` blocks, and raises ArtifactError."""

    @property
    def block_bytes(self) -> int:
        """The length of all blocks but the last."""
        ...

    @property
    def size(self) -> int:
        """The size in bytes."""
        ...

    def block(self, number: int) -> bytes:
        """One block, checked."""
        ...

    def signed_url(self) -> str | None:
        """A URL of the store with which anybody may read it for a while, if there are such."""
        ...


class StoredBody(ResponseBody):
    """The bytes of a stored file."""

    def __init__(self, stored: StoredFile) -> None:
        self.stored = stored
        self._first: bytes | None = None
        self.narrow(0, stored.size)

    def narrow(self, begin: int, end: int) -> None:
        """Sends only the bytes from `begin` up to, not including, `end`."""
        self._position = begin
        self._end = end

    async def prepare(self) -> None:
        """Have the first block here, before the head is sent. Raises ArtifactError."""
        self._first = await self._read()

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
        piece, self._first = self._first, None
        piece = piece or await self._read()
        if not piece:
            raise StopAsyncIteration
        self._position += len(piece)
        return piece

    def close(self) -> None:
        """Nothing more is sent."""
        self._first = None
        self._end = self._position

    async def _read(self) -> bytes:
        """What is wanted of the block at the position; nothing at the end."""
        if self._position >= self._end:
            return b""
        number, begin = divmod(self._position, self.stored.block_bytes)
        block = await _asked(lambda: self.stored.block(number))
        return block[begin : begin + self._end - self._position]


async def _asked(work: Callable[[], T]) -> T:
    """Ask the store in a thread, which is left to itself if nobody waits any more."""
    with trio.move_on_after(READ_SECONDS_MAX):
        return await trio.to_thread.run_sync(work, limiter=_reads, abandon_on_cancel=True)
    raise StoreUnavailable("The object store takes too long.", READ_SECONDS_MAX)
