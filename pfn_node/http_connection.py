"""One connection of the server: bytes from a client through hypercorn's HTTP/1.1 machine to the application, and back.

hypercorn's own connection (`hypercorn.trio.tcp_server`) is replaced; its protocol is kept, mended
(http1.py). The fault numbers are those of the list in server.py.

Two tasks share a connection. The reader takes bytes and feeds the HTTP machine; it waits whenever the application does
not want more. A task for each request runs the application and writes the answer. Every wait has an end:

    reading a header       `head_seconds`, from its first byte; of the first one from the beginning of the connection
    between two requests   `keep_alive_seconds`
    reading a body         the application's body class (safe_quart.py); nothing is read while nobody wants it
    writing                `write_stall_seconds` in which nothing was taken; then the connection is cut, not closed
    after the answer       `linger_seconds`, in which the client may finish sending what nobody reads
    all of it              `abort`, which the server calls at shutdown, ends every one of these waits at once

In a process that answers only a part of the requests (elsewhere.py), nothing is read while one is answered: until its
first byte is written it may turn out that it is another process's, which then gets the connection as it was.
"""

import math
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Final, cast

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, TaskGroup

from pfn_node.elsewhere import Elsewhere, Passing
from pfn_node.http1 import Http11, QuickConfig, Requests
from pfn_node.safe_quart import DEADLINES_STATE, BodyDeadlines, Front, WholeAnswer

READ_BYTES: Final = 64 * 2**10
# Without this the kernel takes megabytes for a client, and reports progress in steps that can be a minute apart.
UNSENT_BYTES_MAX: Final = 128 * 2**10
LINGER_BYTES_MAX: Final = 4 * 2**20  # read and dropped after an early answer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What clients may use up. Times in seconds, sizes in bytes. Loopback is exempt from the limit per address, and so
    are proxies, whose connections are those of everybody.
    """

    connections_max: int = 4096
    connections_per_address_max: int = 64
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    head_seconds: float = 10.0
    head_bytes_max: int = 16 * 2**10
    keep_alive_seconds: float = 15.0
    keep_alive_requests_max: int = 10_000
    body_idle_seconds: float = 10.0
    body_seconds_max: float = 60.0
    write_stall_seconds: float = 20.0
    linger_seconds: float = 2.0
    shutdown_seconds: float = 1.0

    def config(self) -> Config:
        """What hypercorn's protocol wants to be told."""
        config = QuickConfig()
        config.accesslog = None
        config.errorlog = None  # what goes wrong is logged here, once
        config.h11_max_incomplete_size = self.head_bytes_max
        config.keep_alive_max_requests = self.keep_alive_requests_max
        return config


class Waits(IntEnum):
    """What a connection waits for; while there is no room, those of the lowest number go first."""

    FOR_FIRST_HEAD = 0
    FOR_NEXT_HEAD = 1
    FOR_BODY = 2
    FOR_ANSWER = 3  # that is ours to give: it is not cut to make room


class Connection:
    """Serves one client until either side has had enough. `run` never raises an Exception."""

    def __init__(
        self,
        stream: trio.SocketStream,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        limits: ServerLimits,
        front: Front | None = None,
        passing: Passing | None = None,
        first: bytes = b"",  # what another process read of it
    ) -> None:
        self._stream = stream
        self._app = app
        self._config = config
        self._context = context
        self._limits = limits
        self._front = front
        self._writing = trio.Lock()
        self._whole = trio.CancelScope()
        self._reading = trio.CancelScope(deadline=trio.current_time() + limits.head_seconds)
        self._is_idle = True
        self._is_head_begun = False
        self._is_lingering = False
        self._passing = passing
        self._first = first
        self._is_elsewhere = False
        self._is_passed = False
        self._progress = trio.Event()  # of a request, in a process that may pass it on

    async def run(self, client: tuple[str, int], server: tuple[str, int]) -> None:
        """Reads requests and has them answered, until the connection ends; then the socket is closed."""
        deadlines = BodyDeadlines(self._limits.body_idle_seconds, self._limits.body_seconds_max)
        state = ConnectionState({DEADLINES_STATE: deadlines})
        try:
            self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)
            with self._whole:
                async with trio.open_nursery() as nursery:
                    self._http = Http11(
                        self._app,
                        self._config,
                        self._context,
                        cast(TaskGroup, Requests(nursery, self._note_elsewhere)),
                        state,
                        False,
                        client,
                        server,
                        self._send,
                    )
                    await self._read(client[0])
                    if not self._is_passed:
                        # Fault 5: requests that still run are told that the client is gone, and have this long.
                        self._whole.deadline = trio.current_time() + self._limits.linger_seconds
                        await self._http.handle(Closed())
        except* Exception as failures:
            # Fault 1: whatever a connection does to the HTTP machine, it is its own end, not that of the server.
            log.warning("connection_failed", error=repr(failures.exceptions[0]))
            self.abort()
        finally:
            self._stream.socket.close()

    @property
    def waits(self) -> Waits:
        """What it waits for."""
        if self._is_idle:
            return Waits.FOR_NEXT_HEAD if self._http.keep_alive_requests else Waits.FOR_FIRST_HEAD
        is_sending = self._is_lingering or self._http.connection.their_state is h11.SEND_BODY
        return Waits.FOR_BODY if is_sending else Waits.FOR_ANSWER

    def abort(self) -> None:
        """Cuts the connection: nothing more is sent, the kernel forgets what was waiting, every wait on it ends."""
        if self._stream.socket.fileno() != -1:
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._stream.socket.close()
        # Fault 5: the reader may be waiting for the end of an answer that now never comes.
        self._reading.cancel()

    def close_if_idle(self) -> None:
        """Closes the connection if no request is under way."""
        if self._is_idle:
            self._reading.cancel()

    async def _read(self, peer: str) -> None:
        lingered = 0
        with self._reading:
            while True:
                try:
                    data = await self._receive()
                except (OSError, trio.ClosedResourceError):
                    return
                if not data:
                    return
                if self._is_lingering:
                    lingered += len(data)
                    if lingered > LINGER_BYTES_MAX:
                        return
                    continue
                if self._is_idle and self._context.terminated.is_set():
                    return
                if self._is_idle and not self._is_head_begun:
                    if (answer := await self._ask_front(data, peer)) is not None:
                        await self._write_ready(answer)
                        if self._context.terminated.is_set():
                            return
                        continue
                    if self._passing is not None and not self._passing.takes(data):
                        await self._pass_on(self._passing, data)
                        return
                    self._is_head_begun = True
                    if self._http.keep_alive_requests:
                        self._reading.deadline = trio.current_time() + self._limits.head_seconds
                if not self._is_elsewhere:
                    await self._http.handle(RawData(data))
                if self._passing is not None:
                    await self._answer_ends()
                    if self._is_elsewhere:
                        self._passing.refuse(data)
                        await self._pass_on(self._passing, data)
                        return

    def _note_elsewhere(self) -> None:
        if self._http.connection.our_state is not h11.SEND_RESPONSE:
            self.abort()  # another answer behind the beginning of this one would be taken for its rest
            return
        self._is_elsewhere = True
        self._progress.set()

    async def _answer_ends(self) -> None:
        """Waits until the one request is answered that was taken, or is elsewhere's: nothing is read meanwhile, which
        would be lost on whoever gets the connection then.
        """
        while not (self._is_idle or self._is_lingering or self._is_elsewhere):
            self._progress = trio.Event()
            await self._progress.wait()

    async def _pass_on(self, passing: Passing, data: bytes) -> None:
        """Leaves the connection to another process: here it ends without a word."""
        self._is_idle, self._reading.deadline = False, math.inf
        try:
            await passing.pass_on(self._stream.socket, data)
        except OSError:
            self.abort()  # there is none any more
        self._is_passed = True

    async def _receive(self) -> bytes:
        """What came next; nothing at the end.

        Nearly always there is nothing yet: so it waits first, and reads once. Trio's own `recv` reads, then waits.
        """
        if first := self._first:
            self._first = b""
            return first
        bound = self._stream.socket
        while bound.fileno() != -1:
            await trio.lowlevel.wait_readable(bound)
            try:
                return os.read(bound.fileno(), READ_BYTES)
            except BlockingIOError:
                continue
        return b""

    async def _ask_front(self, data: bytes, peer: str) -> WholeAnswer | None:
        found = self._front(data, peer) if self._front is not None and self._http.is_at_rest else None
        if found is None or isinstance(found, tuple):
            return found
        self._is_idle, self._reading.deadline = False, math.inf  # shutting down waits for it
        try:
            return await found()
        except Elsewhere:
            self._is_elsewhere = True
            return None
        finally:
            self._is_idle = True

    async def _write_ready(self, answer: WholeAnswer) -> None:
        """Writes an answer of the front. The HTTP machine never hears of the request, only that there was one."""
        self._http.keep_alive_requests += 1
        head, body = answer
        written = 0
        if len(head) + len(body) <= UNSENT_BYTES_MAX:
            with suppress(OSError):  # as in `_write_at_once`
                written = os.writev(self._stream.socket.fileno(), answer)
        if written < len(head) + len(body):
            self._is_idle = False  # shutting down waits for it
            self._reading.deadline = math.inf
            await self._write((head + body)[written:])
            self._is_idle = True
        until = trio.current_time() + self._limits.keep_alive_seconds
        # Moving a deadline costs as much as reading a request: it may come a little early.
        if abs(until - self._reading.deadline) > self._limits.keep_alive_seconds / 16:
            self._reading.deadline = until

    async def _send(self, event: Event) -> None:
        """What the HTTP machine wants of us: to write, to close, or to know that a request begins or has ended."""
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Closed):
            await self._finish()
        else:
            assert isinstance(event, Updated)
            self._is_idle, self._is_head_begun = event.idle, False
            # Fault 3, second half: the wait between two requests is a deadline of the reader, not a task that the end
            # of a request could cancel before it started.
            until = trio.current_time() + self._limits.keep_alive_seconds
            self._reading.deadline = until if event.idle else math.inf
        self._progress.set()

    async def _write(self, data: bytes) -> None:
        """Fault 4: writes, or cuts the connection if the client does not take it in time, or if we are cancelled."""
        is_written = False
        # With nobody else writing, as is usual, this is no checkpoint, and neither is what the kernel takes at once.
        try:
            self._writing.acquire_nowait()
        except trio.WouldBlock:
            await self._writing.acquire()
        try:
            try:
                rest = memoryview(data)
                rest = rest[self._write_at_once(rest) :]
                while rest:
                    with trio.fail_after(self._limits.write_stall_seconds):
                        # Not the stream's send_all: whatever the client took shows that it is slow, not stalled.
                        sent = await self._stream.socket.send(rest)
                    rest = rest[sent:]
                is_written = True
            except (OSError, trio.ClosedResourceError, trio.TooSlowError):
                pass  # the client is gone or does not read; either way this was the last that it got
            finally:
                if not is_written:
                    self.abort()
        finally:
            self._writing.release()
        if not is_written:
            await self._http.handle(Closed())

    def _write_at_once(self, data: bytes | memoryview) -> int:
        """Writes what the kernel takes without waiting; -> how many bytes that were."""
        try:
            return os.write(self._stream.socket.fileno(), data[:UNSENT_BYTES_MAX])
        except OSError:
            return 0  # it is full, or broken, or closed: the stream will say which

    async def _finish(self) -> None:
        """All is said. The client may still be sending, and a socket closed now would tear our answer from its hands
        (413 over a large upload), so we say that we are done, and read on for a while without listening.
        """
        self._is_lingering = True
        self._reading.deadline = trio.current_time() + self._limits.linger_seconds
        async with self._writing:
            try:
                await self._stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the client closed first
        await self._http.handle(Closed())
