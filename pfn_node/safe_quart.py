"""Quart on Trio with the faults mended that are in the application's half of the server (the other half: server.py).

`SafeQuart` takes the place of QuartTrio. What is mended, with the numbers of the list in server.py:

    fault 3   the request was cancelled inside the last write of its own answer
    fault 6   `quart.Response()` without a body needs asyncio
    fault 7   request bodies had no back-pressure, no cumulative limit and no deadline while they were iterated
    fault 9   a Host that is no name raised before anything of ours was asked

and a HEAD request runs no body: HEAD of an endless stream of events would never end.
"""

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from types import AsyncGeneratorType
from typing import Any, Final, cast

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent
from quart import Request, Response
from quart.routing import QuartRule
from quart.typing import ResponseTypes, ResponseValue
from quart.utils import run_sync_iterable
from quart.wrappers.base import BaseRequestWebsocket
from quart.wrappers.response import IterableBody
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioRequest
from quart_trio.wrappers.request import TrioBody
from werkzeug.exceptions import BadHost, HTTPException, RequestEntityTooLarge, RequestTimeout
from werkzeug.routing import MapAdapter

BODY_BYTES_MAX: Final = 2**20  # unless the application or the route says otherwise
BODY_BYTES_BUFFERED: Final = 256 * 2**10  # beyond this the client has to wait for the route to read
BACKGROUND_SECONDS_MAX: Final = 0.5  # for the application's background tasks, at shutdown
# Under this name the server hands its BodyDeadlines to the application, in the state of each request.
DEADLINES_STATE: Final = "pfn_body_deadlines"
# The code of the generator by which quart (not quart_trio) makes anything that is not asynchronous so.
_ASYNCIO_ONLY: Final = cast(AsyncGeneratorType[Any, None], run_sync_iterable(iter(()))).ag_code

# Given what came on a connection and from which address: the head and the body of the answer; or how to make it, which
# may come to nothing; or None. What the front does not answer goes to the application.
WholeAnswer = tuple[bytes, bytes]
MakeAnswer = Callable[[], Awaitable[WholeAnswer | None]]
Front = Callable[[bytes, str], WholeAnswer | MakeAnswer | None]


@dataclass(frozen=True, slots=True)
class BodyDeadlines:
    """How long a request body may take, in seconds: between two pieces, and from the first reading to the end."""

    idle_seconds: float = 10.0
    total_seconds: float = 60.0


class SafeBody(TrioBody):
    """A request body, to be awaited or iterated; both within its limits.

    Fault 7. Quart buffers whatever comes while a route is busy, compares its limit with what happens to be buffered,
    and applies its timeout only when the body is awaited as a whole. Here at most 256 KiB wait; then the reader of the
    socket waits. Every way of reading goes through `__anext__`, where the size so far and the deadlines are checked.
    """

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        super().__init__(None, None)  # the limits are ours, so the parent gets none
        self.bytes_max = max_content_length
        self.deadlines = BodyDeadlines()
        self._announced = expected_content_length or 0
        self._arrived = 0
        self._deadline: float | None = None
        self._room = trio.Event()
        self._whole: bytes | None = None

    async def take(self, data: bytes, *, is_last: bool) -> None:
        """Adds what came from the client; returns when there is room for more."""
        self.append(data)
        if is_last:
            self.set_complete()
        while len(self._data) > BODY_BYTES_BUFFERED:
            self._room = trio.Event()
            await self._room.wait()

    def append(self, data: bytes) -> None:
        """Adds what came, without waiting (tests use it directly)."""
        self._arrived += len(data)
        super().append(data)

    async def __anext__(self) -> bytes:
        self._check_size()
        if self._deadline is None:
            self._deadline = trio.current_time() + self.deadlines.total_seconds
        while not self._data:
            if self._complete.is_set():
                raise StopAsyncIteration
            self._has_data.clear()
            limit = min(self._deadline, trio.current_time() + self.deadlines.idle_seconds)
            with trio.move_on_at(limit) as scope:
                await self._has_data.wait()
            if scope.cancelled_caught:
                raise RequestTimeout
            self._check_size()
        data = bytes(self._data)
        self._data.clear()
        self._room.set()
        return data

    def _check_size(self) -> None:
        # Judged when it is read, not when it arrives: a route may have set a limit of its own by then.
        if self.bytes_max is not None and max(self._announced, self._arrived) > self.bytes_max:
            raise RequestEntityTooLarge

    def __await__(self) -> Generator[Any, None, bytes]:
        return self._read_whole().__await__()

    async def _read_whole(self) -> bytes:
        if self._whole is None:
            self._whole = b"".join([piece async for piece in self])
        return self._whole

    def clear(self) -> None:
        """Forgets what was read; reading again gives nothing."""
        super().clear()
        self._whole = b""


class SafeRequest(TrioRequest):
    """A request whose limit a route may change before it reads: `request.max_content_length = ...`."""

    body_class = SafeBody
    body: SafeBody

    @property
    def max_content_length(self) -> int | None:
        """The most bytes that the body may have; None lifts the limit."""
        return self.body.bytes_max

    @max_content_length.setter
    def max_content_length(self, value: int | None) -> None:
        self.body.bytes_max = value


class SafeHTTPConnection(TrioASGIHTTPConnection):
    """One request between the server and the application."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Runs the request to its end.

        Fault 3. Within the last send of an answer, hypercorn queues http.disconnect; `handle_messages` sees it and
        cancels the request, and with it that very send, before it could close the connection or make it ready for the
        next request. So the last send is shielded; the server bounds its writes itself.
        """

        async def send_last_in_peace(message: ASGISendEvent) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            with trio.CancelScope(shield=is_last):
                await send(message)

        await super().__call__(receive, send_last_in_peace)

    def _create_request_from_scope(self, send: ASGISendCallable) -> Request:
        request = super()._create_request_from_scope(send)
        assert isinstance(request, SafeRequest)
        state = cast(dict[str, Any], self.scope.get("state", {}))
        request.body.deadlines = state.get(DEADLINES_STATE, request.body.deadlines)
        return request

    async def handle_messages(  # type: ignore[override]  # QuartTrio differs from Quart here in the same way
        self, nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable
    ) -> None:
        """Hands the pieces of the body on, no faster than they are read; ends the request when the client is gone."""
        body = request.body
        assert isinstance(body, SafeBody)
        while True:
            message = await receive()
            if message["type"] != "http.request":
                break  # http.disconnect, the only other one
            await body.take(message.get("body", b""), is_last=not message.get("more_body", False))
        nursery.cancel_scope.cancel()

    async def _send_response(self, send: ASGISendCallable, response: ResponseTypes) -> None:
        if self.scope["method"] == "HEAD" and isinstance(response, Response):
            async with response.response:
                pass  # entered and left, so that it lets go of what it holds
            response.response = response.data_body_class(b"")
        await super()._send_response(send, response)


class Rule(QuartRule):
    """A route. To compile how addresses are built from it takes longer than the rest of making an application, and no
    address is built here: it waits until somebody does.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compile_now = super()._compile_builder

        def build(rule: Rule, **values: Any) -> tuple[str, str]:
            return compile_now(append_unknown)(rule, **values)

        return build


class SafeQuart(QuartTrio):
    """A Quart application that may face the internet, behind `server.serve`.

    MAX_CONTENT_LENGTH is 1 MiB unless set. There is no RESPONSE_TIMEOUT (the server ends connections whose reader does
    not read; a long download is not a fault) and no BODY_TIMEOUT (see SafeBody).
    """

    asgi_http_class = SafeHTTPConnection
    request_class = SafeRequest
    url_rule_class = Rule  # type: ignore[assignment]  # as in Quart itself
    front: Front | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX
        self.config["BODY_TIMEOUT"] = None
        self.config["RESPONSE_TIMEOUT"] = None
        self.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = BACKGROUND_SECONDS_MAX

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """What finds the route.

        Fault 9. Werkzeug raises for a Host that IDNA has no form for, outside of everything that handles errors. No
        route here depends on the Host, so such a request goes on without one, and is judged where all are.
        """
        try:
            return super().create_url_adapter(request)
        except BadHost:
            assert request is not None, "only a request has a Host"
            query = request.query_string.decode()
            return self.url_map.bind(
                "", request.root_path, None, request.scheme, request.method, request.path, query_args=query
            )

    async def make_response(self, result: ResponseValue | HTTPException | Any) -> ResponseTypes:
        """What a route returned, as a response.

        Fault 6. `quart.Response` turns a missing body, a list or a generator into something that only asyncio can run,
        and fails in the middle of the answer. Nothing can be saved of it, so it is refused before anything is sent.
        """
        response = await super().make_response(result)
        body = response.response
        if isinstance(body, IterableBody) and getattr(body.iter, "ag_code", None) is _ASYNCIO_ONLY:
            raise TypeError(
                "quart.Response with no body, a list or a generator does not work on Trio; "
                "use current_app.response_class, or return a tuple of body and status."
            )
        return response
