"""HTTP/1.1 of one connection: hypercorn's machine (`hypercorn.protocol`) in a mended subclass, and where it starts the
application. The fault numbers are those of the list in server.py.
"""

import re
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache
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
from hypercorn.typing import (
    AppWrapper,
    ASGIReceiveEvent,
    ASGISendEvent,
    H11SendableEvent,
    HTTPScope,
    Scope,
)

from pfn_node.elsewhere import Elsewhere

HEADER_FIELDS_MAX: Final = 100
EVENTS_BETWEEN_CHECKPOINTS: Final = 64  # a flood of tiny chunks must not keep other tasks from running
EVENTS_WAITING_MAX: Final = 10  # between the reader and the application; each at most READ_BYTES
_WHOLE_URL: Final = re.compile(rb"https?://([^/?#]*)")
_NOTHING_MORE: Final = (h11.MUST_CLOSE, h11.CLOSED)  # states of a client that has announced its last request

log = structlog.get_logger()


@lru_cache(2)
def date_field(second: int) -> bytes:
    """The time as the field Date says it; `second` since 1970."""
    return formatdate(second, usegmt=True).encode("ascii")


class QuickConfig(Config):
    """hypercorn's configuration, without writing the date anew for each answer."""

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
        """The fields that each answer gets."""
        return [(b"date", date_field(int(time.time())))]


class Requests:
    """Where the HTTP machine starts the application, a task for each request. (hypercorn calls this a task group.)"""

    def __init__(self, nursery: trio.Nursery, on_elsewhere: Callable[[], None] = lambda: None) -> None:
        self._nursery = nursery
        self._on_elsewhere = on_elsewhere

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

        is_elsewhere = False
        try:
            async with take:
                await cast(Any, app)(scope, receive, send)
        except* Elsewhere:
            is_elsewhere = True
        except* Exception as failures:
            log.error(
                "request_failed", path=cast(HTTPScope, scope)["path"], error=repr(failures.exceptions[0]), exc_info=True
            )
        if is_elsewhere:
            self._on_elsewhere()
            return
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

    @property
    def is_at_rest(self) -> bool:
        """Whether no request is under way or has begun, and another one may come."""
        return (
            self.connection.their_state is h11.IDLE
            and self.connection.our_state is h11.IDLE
            and not self.connection.trailing_data[0]
            and not self.context.terminated.is_set()
            and self.keep_alive_requests < self.config.keep_alive_max_requests
        )

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
        path, headers = _as_asked_of_us(request)
        await self.stream.handle(
            RequestEvent(
                stream_id=STREAM_ID,
                headers=headers,
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii"),
                raw_path=path,
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


def _as_asked_of_us(request: h11.Request) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The path with the query, and the header. Where a whole URL is asked for, its host counts, and not what Host says
    (RFC 9112, 3.2.2).
    """
    whole = _WHOLE_URL.match(request.target)
    if whole is None:
        return request.target, list(request.headers)
    path = request.target[whole.end() :]
    others = [(name, value) for name, value in request.headers if name != b"host"]
    return path if path.startswith(b"/") else b"/" + path, [(b"host", whole[1]), *others]


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
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
        return 400  # two lengths, or chunks before there were any: a proxy before us may believe something else
    if request.method != request.method.upper():
        return 400  # "head" is not HEAD (RFC 9110, 9.1): h11 sees that so, what finds the route does not
    is_url = _WHOLE_URL.match(request.target) is not None
    if not is_url and not request.target.startswith(b"/") and request.target != b"*":
        return 400  # CONNECT's "host:port", and what has no path
    return None
