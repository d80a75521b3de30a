"""One connection of the server: bytes from a client through hypercorn's HTTP/1.1 machine to the application, and back.

hypercorn's own connection (`hypercorn.trio.tcp_server`) is replaced; its protocol (`hypercorn.protocol`) is kept, in a
mended subclass. The fault numbers are those of the list in server.py.

Two tasks share a connection. The reader takes bytes and feeds the HTTP machine; it waits whenever the application does
not want more. A task for each request runs the application and writes the answer. Every wait has an end:

    reading a header       `head_seconds`, from its first byte
    between two requests   `keep_alive_seconds`
    reading a body         the application's body class (safe_quart.py); nothing is read while nobody wants it
    writing                `write_stall_seconds` in which nothing was taken; then the connection is cut, not closed
    after the answer       `linger_seconds`, in which the client may finish sending what nobody reads
    all of it              `abort`, which the server calls at shutdown, ends every one of these waits at once
"""

import math
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, EndBody
from hypercorn.protocol.events import Request as RequestEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    AppWrapper,
    ASGIReceiveEvent,
    ASGISendEvent,
    ConnectionState,
    H11SendableEvent,
    HTTPScope,
    Scope,
    TaskGroup,
)

from pfn_node.safe_quart import DEADLINES_STATE, BodyDeadlines

READ_BYTES: Final = 64 * 2**10
# Without this the kernel takes megabytes for a client, and reports progress in steps that can be a minute apart.
UNSENT_BYTES_MAX: Final = 128 * 2**10
LINGER_BYTES_MAX: Final = 4 * 2**20  # read and dropped after an early answer
HEADER_FIELDS_MAX: Final = 100
EVENTS_BETWEEN_CHECKPOINTS: Final = 64  # a flood of tiny chunks must not keep other tasks from running
EVENTS_WAITING_MAX: Final = 10  # between the reader and the application; each at most READ_BYTES
_NOTHING_MORE: Final = (h11.MUST_CLOSE, h11.CLOSED)  # states of a client that has announced its last request

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What clients may use up. Times in seconds, sizes in bytes. Loopback is exempt from the limit per address."""

    connections_max: int = 1000
    connections_per_address_max: int = 64
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
        config = Config()
        config.accesslog = None
        config.errorlog = None  # what goes wrong is logged here, once
        config.include_server_header = False
        config.h11_max_incomplete_size = self.head_bytes_max
        config.keep_alive_max_requests = self.keep_alive_requests_max
        return config


class Connection:
    """Serves one client until either side has had enough. `run` never raises an Exception."""

    def __init__(
        self, stream: trio.SocketStream, app: AppWrapper, config: Config, context: WorkerContext, limits: ServerLimits
    ) -> None:
        self._stream = stream
        self._app = app
        self._config = config
        self._context = context
        self._limits = limits
        self._writing = trio.Lock()
        self._whole = trio.CancelScope()
        self._reading = trio.CancelScope(deadline=trio.current_time() + limits.head_seconds)
        self._is_idle = True
        self._is_head_begun = False
        self._is_lingering = False

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
                        cast(TaskGroup, Requests(nursery)),
                        state,
                        False,
                        client,
                        server,
                        self._send,
                    )
                    await self._read()
                    # Fault 5: requests that are still running are told that the client is gone, and have this long.
                    self._whole.deadline = trio.current_time() + self._limits.linger_seconds
                    await self._http.handle(Closed())
        except* Exception as failures:
            # Fault 1: whatever a connection does to the HTTP machine, it is its own end, not that of the server.
            log.warning("connection_failed", error=repr(failures.exceptions[0]))
            self.abort()
        finally:
            self._stream.socket.close()

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

    async def _read(self) -> None:
        lingered = 0
        with self._reading:
            while True:
                try:
                    data = await self._stream.receive_some(READ_BYTES)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
                if not data:
                    return
                if self._is_lingering:
                    lingered += len(data)
                    if lingered > LINGER_BYTES_MAX:
                        return
                    continue
                if self._is_idle and not self._is_head_begun:
                    self._is_head_begun = True
                    self._reading.deadline = trio.current_time() + self._limits.head_seconds
                await self._http.handle(RawData(bytes(data)))

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

    async def _write(self, data: bytes) -> None:
        """Fault 4: writes, or cuts the connection if the client does not take it in time, or if we are cancelled."""
        is_written = False
        async with self._writing:
            try:
                rest = memoryview(data)
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
        if not is_written:
            await self._http.handle(Closed())

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


class Requests:
    """Where the HTTP machine starts the application, a task for each request. (hypercorn calls this a task group.)"""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Starts the application; -> how to give it events."""
        give, take = trio.open_memory_channel[ASGIReceiveEvent](EVENTS_WAITING_MAX)
        self._nursery.start_soon(self._run, app, scope, take, send)

        async def deliver(event: ASGIReceiveEvent) -> None:
            if event["type"] == "http.disconnect":
                # Fault 5: this may be the application's own task, at the end of an answer that did not wait for the
                # whole body. With the channel full it would wait for itself, so the end is no event but a closed end.
                give.close()
                return
            try:
                await give.send(event)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # fault 5: it has answered and takes no more; the reader must not wait for it for ever

        return deliver

    async def _run(
        self,
        app: AppWrapper,
        scope: Scope,
        take: trio.MemoryReceiveChannel[ASGIReceiveEvent],
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> None:
        async def receive() -> ASGIReceiveEvent:
            try:
                return await take.receive()
            except trio.EndOfChannel:
                return {"type": "http.disconnect"}

        try:
            async with take:
                await cast(Any, app)(scope, receive, send)
        except* Exception as failures:
            log.error(
                "request_failed", path=cast(HTTPScope, scope)["path"], error=repr(failures.exceptions[0]), exc_info=True
            )
        await send(None)  # "the application is done": hypercorn sends a 500, or cuts an answer that is incomplete


class Http11(H11Protocol):
    """hypercorn's HTTP/1.1, and nothing else: no HTTP/2 (faults 1 and S7 of the threats), no WebSockets.

    h2c is off because nothing here ever looks for it: stock hypercorn turns any connection that asks for it into an
    HTTP/2 one, whose code ends the process with a KeyError when data comes for a stream already answered.
    """

    _held_head = b""

    async def handle(self, event: Event) -> None:
        """Takes what came from the client.

        Fault 2. What follows the last request of a connection is dropped. h11 would keep it, without a limit, or take
        it for an error and have us answer 400 to the request that was in order.
        """
        if isinstance(event, RawData) and self.connection.their_state in _NOTHING_MORE:
            return
        await super().handle(event)

    async def _handle_events(self) -> None:
        body = bytearray()
        events = 0
        while True:
            if self.connection.they_are_waiting_for_100_continue:
                await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint)
                return
            events += 1
            if events % EVENTS_BETWEEN_CHECKPOINTS == 0:
                await trio.lowlevel.checkpoint()
            if isinstance(event, h11.Data):
                body += event.data  # one event for the application, however many chunks there were
                continue
            if body and self.stream is not None:
                await self.stream.handle(Body(STREAM_ID, bytes(body)))
            body.clear()
            if isinstance(event, h11.Request):
                await self.send(Updated(idle=False))
                status = _why_refused(event, self.config.h11_max_incomplete_size)
                if status is not None:
                    await self._refuse(status)
                    return
                await self._create_stream(event)
            elif isinstance(event, h11.EndOfMessage):
                if self.stream is not None:
                    await self.stream.handle(EndBody(STREAM_ID))
                if self.connection.their_state in _NOTHING_MORE:
                    return
            elif event is h11.PAUSED:
                await self.can_read.clear()
                await self.can_read.wait()
                if self.connection.their_state is not h11.IDLE:
                    return  # fault 5: the connection ended instead; h11 would be paused for ever
            else:  # NEED_DATA or ConnectionClosed
                return

    async def _refuse(self, status: int) -> None:
        if self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._send_error_response(status)
        await self.send(Closed())

    async def _create_stream(self, request: h11.Request) -> None:
        # Stock hypercorn looks for "Upgrade: websocket" here; no route of ours is one.
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            RequestEvent(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """Writes an event. A header waits for the first of its body if that is sure to follow: one packet, not two.

        An answer that comes before the whole request was read ends the connection, and says so: a client that did not
        know would send its next request into it.
        """
        if isinstance(event, h11.Response) and self.connection.their_state is h11.SEND_BODY:
            event = h11.Response(status_code=event.status_code, headers=[*event.headers, (b"connection", b"close")])
        try:
            data = self.connection.send(event)
        except h11.LocalProtocolError:
            if self.connection.their_state is h11.ERROR:
                return  # the client broke the connection, which was answered already
            raise
        if isinstance(event, h11.Response) and any(name == b"content-length" for name, _ in event.headers):
            self._held_head = data
            return
        data, self._held_head = self._held_head + (data or b""), b""
        if data:
            await self.send(RawData(data))


def _why_refused(request: h11.Request, head_bytes_max: int) -> int | None:
    """The status with which a request is refused that h11 would accept; None if it may go on."""
    names = [name for name, _ in request.headers]
    if (
        len(names) > HEADER_FIELDS_MAX
        or sum(len(name) + len(value) for name, value in request.headers) > head_bytes_max
    ):
        return 431  # h11 enforces its limit only on a header that comes in parts
    if request.http_version not in (b"1.0", b"1.1"):
        return 400  # among them the preface of HTTP/2
    if b"transfer-encoding" in names and b"content-length" in names:
        return 400  # two lengths: a proxy before us may believe the other one
    if not request.target.startswith((b"/", b"http://", b"https://")) and request.target != b"*":
        return 400  # CONNECT's "host:port", and what has no path
    return None
