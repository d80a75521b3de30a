"""A client that sends what it is told, right or wrong, and says what came back and when."""

from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import trio

from pfn_protocol.limits import wait_seconds_max

ANSWER_SECONDS_MAX = 20.0 + wait_seconds_max  # a neighbour may ask that an answer is held for so long
READ_BYTES = 65536


@dataclass(frozen=True)
class Got:
    """An answer; `seconds` until it was whole."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float


@dataclass
class Wire:
    """A connection that is made when it is needed, kept as long as the server keeps it."""

    port: int
    seconds_max: float = ANSWER_SECONDS_MAX
    stream: trio.SocketStream | None = None
    _rest: bytearray = field(default_factory=bytearray)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self.stream is not None:
            await self.stream.aclose()
        self.stream = None
        self._rest.clear()

    async def ask(self, raw: bytes) -> Got:
        """Send one well-framed request; its answer. Tries once more where a kept connection was just closed."""
        started = trio.current_time()
        with trio.fail_after(self.seconds_max):
            is_fresh = self.stream is None
            try:
                return await self._ask(raw, started)
            except (trio.BrokenResourceError, EOFError):
                await self.close()
                if is_fresh:
                    raise
                return await self._ask(raw, started)

    async def _ask(self, raw: bytes, started: float) -> Got:
        if self.stream is None:
            self.stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        with suppress(trio.BrokenResourceError):  # what is too large may be answered, and cut off, before it was sent
            await self.stream.send_all(raw)
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            await self._more()
        status, headers = _head(bytes(self._rest[:end]))
        del self._rest[: end + 4]
        if headers.get("content-type", "").startswith("text/event-stream") and status == 200:
            await self.close()  # it has no end
            return Got(status, headers, b"", trio.current_time() - started)
        body = await self._body(raw, status, headers)
        seconds = trio.current_time() - started
        if headers.get("connection", "").lower() == "close":
            await self.close()
        return Got(status, headers, body, seconds)

    async def _body(self, raw: bytes, status: int, headers: dict[str, str]) -> bytes:
        if raw.startswith(b"HEAD ") or status in (204, 304):
            return b""
        if "chunked" in headers.get("transfer-encoding", ""):
            body = b""
            while size := int(await self._until(b"\r\n"), 16):
                body += await self._take(size)
                await self._take(2)
            await self._take(2)
            return body
        return await self._take(int(headers["content-length"]))

    async def _until(self, mark: bytes) -> bytes:
        while (end := self._rest.find(mark)) < 0:
            await self._more()
        taken = bytes(self._rest[:end])
        del self._rest[: end + len(mark)]
        return taken

    async def _take(self, size: int) -> bytes:
        while len(self._rest) < size:
            await self._more()
        taken = bytes(self._rest[:size])
        del self._rest[:size]
        return taken

    async def _more(self) -> None:
        assert self.stream is not None
        data = await self.stream.receive_some(READ_BYTES)
        if not data:
            raise EOFError("the server closed the connection before its answer was whole")
        self._rest += data


async def send_raw(port: int, raw: bytes) -> bytes:
    """Send bytes of any kind on a connection of their own and nothing more; all that comes back."""
    got = bytearray()
    with trio.fail_after(ANSWER_SECONDS_MAX):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            try:
                await stream.send_all(raw)
                await stream.send_eof()
                async for data in stream:
                    got += data
                    if b"text/event-stream" in got:
                        break
            except trio.BrokenResourceError:
                pass  # it has heard enough
    return bytes(got)


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split(" ")[1]), headers
