"""How many requests at once, how many bytes in all, how fast: the limits that `outbound.py` holds requests to."""

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import trio

from pfn_node.outbound_errors import AnswerBroken, AnswerTooLarge, AnswerTooSlow

REQUESTS_MAX: Final = 32  # more in flight make httpx slower, not faster
DOWNLOADS_MAX: Final = 24  # slow downloads leave room for the short exchanges of the mesh
REQUESTS_PER_ORIGIN_MAX: Final = 4
# A request that is under way for longer makes room for others: most answers come sooner, and those that hang or dribble
# come from few. As many may be slow at once as 16 publishers can keep busy.
SLOW_AFTER_SECONDS: Final = 0.3
SLOW_MAX: Final = 64
CONNECTIONS_MAX: Final = REQUESTS_MAX + SLOW_MAX
LOOK_AGAIN_SECONDS: Final = 0.1  # whether there is room among the slow ones
# Each piece of a body costs as much as hundreds of bytes do: a megabyte of single bytes would keep the processor busy.
PIECES_MAX: Final = 4_096
PIECE_BYTES_MIN: Final = 64  # on average, once there are more pieces than that
# What is less than a flood is read all the same, but with pauses that leave the processor to others.
SMALL_PIECE_BYTES: Final = 4_096
SMALL_PIECES_BETWEEN_PAUSES: Final = 32  # about a millisecond of work
PAUSE_SECONDS: Final = 0.01
READ_BYTES_MAX: Final = 64 * 2**10
SHORT_LINES_READ_BYTES_MAX: Final = 8 * 2**10  # of lines that are short; ten thousand chunks are parsed in 0.1 s
SHORT_LINE_BYTES: Final = 64
INTERIM_MAX: Final = 50  # in what is read at once; honest machines send one or two
_INTERIM: Final = re.compile(rb"HTTP/[0-9]\.[0-9] 1[0-9]{2}")
HEADER_BYTES_MAX: Final = 32 * 2**10
HEADER_FIELDS_MAX: Final = 100
RATE_WINDOW_SECONDS: Final = 20.0  # over which the minimum rate of a download is averaged


class Places:
    """Places for things that take a while; one that takes long moves over to the slow ones, as long as they have room.

    So whoever makes requests hang does not keep the others from being made. First come, first served.
    """

    def __init__(self, quick_max: int, slow_max: int) -> None:
        self._quick_max = quick_max
        self._slow_max = slow_max
        self._quick: dict[object, float] = {}  # since when, the longest first
        self._slow: set[object] = set()
        self._waiting: dict[object, trio.Event] = {}

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Waits for a place, and holds it."""
        mine, granted = object(), trio.Event()
        self._waiting[mine] = granted
        try:
            self._grant()
            while not granted.is_set():
                longest = next(iter(self._quick.values()))
                wait = longest + SLOW_AFTER_SECONDS - trio.current_time()
                with trio.move_on_after(wait if wait > 0 else LOOK_AGAIN_SECONDS):
                    await granted.wait()
                self._grant()
            yield
        finally:
            self._waiting.pop(mine, None)
            self._quick.pop(mine, None)
            self._slow.discard(mine)
            self._grant()

    def _grant(self) -> None:
        now = trio.current_time()
        for holder, since in list(self._quick.items()):
            if since + SLOW_AFTER_SECONDS > now or len(self._slow) >= self._slow_max:
                break
            del self._quick[holder]
            self._slow.add(holder)
        while self._waiting and len(self._quick) < self._quick_max:
            first = next(iter(self._waiting))
            self._waiting.pop(first).set()
            self._quick[first] = now


class RequestSlots:
    """Places for requests: a few for each origin, more in all, and not all of them for downloads."""

    def __init__(self) -> None:
        self._all = Places(REQUESTS_MAX, SLOW_MAX)
        self._downloads = Places(DOWNLOADS_MAX, SLOW_MAX)
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
                    await held.enter_async_context(self._downloads.one())
                await held.enter_async_context(self._all.one())
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


def checked_headers(raw: Sequence[tuple[bytes, bytes]], joined: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The header fields of an answer by lower-case names, from its lines, and these as text. Raises AnswerBroken.

    Without cookies: nobody here keeps any.
    """
    if len(raw) > HEADER_FIELDS_MAX or sum(len(name) + len(value) for name, value in raw) > HEADER_BYTES_MAX:
        raise AnswerBroken(
            f"The header of the answer has more than {HEADER_FIELDS_MAX} fields or {HEADER_BYTES_MAX} bytes."
        )
    headers = {name.lower(): value for name, value in joined}
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise AnswerBroken("The answer is compressed, though this node asks for content as it is.")
    headers.pop("set-cookie", None)
    return headers


def check_declared_length(headers: Mapping[str, str], bytes_max: int) -> None:
    """Saves the trouble where the answer itself says that it is too large. What it says is not relied upon."""
    length = headers.get("content-length", "")
    if length and int(length) > bytes_max:  # h11 has checked that it is a number of at most 20 digits
        raise too_large(bytes_max)


class Lines:
    """What comes in many short lines (interim answers, header fields, chunks) is read a little at a time.

    `bytes_max` is how much to read next.
    """

    def __init__(self) -> None:
        self.bytes_max = SHORT_LINES_READ_BYTES_MAX

    def look_at(self, data: bytes) -> None:
        """See what was read. Raises AnswerBroken for a flood of interim answers (1xx)."""
        are_short = data.count(b"\n") * SHORT_LINE_BYTES > len(data)
        self.bytes_max = SHORT_LINES_READ_BYTES_MAX if are_short else READ_BYTES_MAX
        if data.count(b"HTTP/") > INTERIM_MAX and len(_INTERIM.findall(data)) > INTERIM_MAX:
            raise AnswerBroken(f"More than {INTERIM_MAX} interim answers came at once.")


class Meter:
    """Counts what came, and gives up on what is too much or too little."""

    def __init__(self, bytes_max: int, rate_min: float | None) -> None:
        self._bytes_max = bytes_max
        self._rate_min = rate_min or 0.0
        self._total = 0
        self._pieces = 0
        self._small = 0  # of them, since the last pause
        self._window_start = trio.current_time()
        self._window_bytes = 0

    def count(self, size: int) -> None:
        """Adds a piece that came. Raises AnswerTooLarge, AnswerBroken, or at the end of a window AnswerTooSlow."""
        self._total += size
        self._pieces += 1
        self._small += size < SMALL_PIECE_BYTES
        if self._total > self._bytes_max:
            raise too_large(self._bytes_max)
        if self._pieces > PIECES_MAX and self._total < self._pieces * PIECE_BYTES_MIN:
            raise AnswerBroken(f"The answer came in more than {PIECES_MAX} pieces of a few bytes each.")
        self._window_bytes += size
        elapsed = trio.current_time() - self._window_start
        if elapsed >= RATE_WINDOW_SECONDS:
            if self._window_bytes < self._rate_min * elapsed:
                raise AnswerTooSlow(f"The answer came slower than {self._rate_min:g} bytes per second.")
            self._window_start, self._window_bytes = trio.current_time(), 0

    def wants_pause(self) -> bool:
        """Whether enough small pieces came since this last was True."""
        if self._small < SMALL_PIECES_BETWEEN_PAUSES:
            return False
        self._small = 0
        return True


class SmallPieces:
    """Pauses for answers in many small pieces: all of them together take a fraction of the time, however many come."""

    def __init__(self) -> None:
        self._pausing = 0

    async def pause(self) -> None:
        """Waits, the longer the more others do: at most a second, with as many as `CONNECTIONS_MAX` lets in."""
        self._pausing += 1
        try:
            await trio.sleep(PAUSE_SECONDS * self._pausing)
        finally:
            self._pausing -= 1
