"""How many requests at once, how many bytes in all, how fast: the limits that `outbound.py` holds requests to."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import trio

from pfn_node.outbound_errors import AnswerTooLarge, AnswerTooSlow

REQUESTS_MAX: Final = 32  # more in flight make httpx slower, not faster
DOWNLOADS_MAX: Final = 24  # slow downloads leave room for the short exchanges of the mesh
REQUESTS_PER_ORIGIN_MAX: Final = 4
RATE_WINDOW_SECONDS: Final = 20.0  # over which the minimum rate of a download is averaged


class RequestSlots:
    """Places for requests: a few for each origin, more in all, and not all of them for downloads."""

    def __init__(self) -> None:
        self._all = trio.CapacityLimiter(REQUESTS_MAX)
        self._downloads = trio.CapacityLimiter(DOWNLOADS_MAX)
        self._origins: dict[str, _Origin] = {}

    @asynccontextmanager
    async def one(self, origin: str, *, is_download: bool) -> AsyncIterator[None]:
        """Waits for a place, and holds it. Always taken in the same order, so that tasks do not wait in a circle."""
        places = self._origins.setdefault(origin, _Origin())
        places.users += 1
        try:
            async with AsyncExitStack() as held:
                await held.enter_async_context(places.limiter)
                if is_download:
                    await held.enter_async_context(self._downloads)
                await held.enter_async_context(self._all)
                yield
        finally:
            places.users -= 1
            if not places.users:
                del self._origins[origin]

    @property
    def origins(self) -> int:
        """To how many origins requests are under way or waiting."""
        return len(self._origins)


class _Origin:
    """The places for requests to one origin, and how many tasks use or await one."""

    def __init__(self) -> None:
        self.limiter = trio.CapacityLimiter(REQUESTS_PER_ORIGIN_MAX)
        self.users = 0


def too_large(bytes_max: int) -> AnswerTooLarge:
    """The error for an answer over its cap."""
    return AnswerTooLarge(f"The answer is larger than the {bytes_max} bytes that are allowed here.")


class Meter:
    """Counts what came, and gives up on what is too much or too little."""

    def __init__(self, bytes_max: int, rate_min: float | None) -> None:
        self._bytes_max = bytes_max
        self._rate_min = rate_min or 0.0
        self._total = 0
        self._window_start = trio.current_time()
        self._window_bytes = 0

    def count(self, size: int) -> None:
        """Adds what came. Raises AnswerTooLarge, or at the end of a window AnswerTooSlow."""
        self._total += size
        if self._total > self._bytes_max:
            raise too_large(self._bytes_max)
        self._window_bytes += size
        elapsed = trio.current_time() - self._window_start
        if elapsed >= RATE_WINDOW_SECONDS:
            if self._window_bytes < self._rate_min * elapsed:
                raise AnswerTooSlow(f"The answer came slower than {self._rate_min:g} bytes per second.")
            self._window_start, self._window_bytes = trio.current_time(), 0
