"""A network of publishers inside the process: the real `Outbound` over a transport that asks plain functions.

Everything that `Outbound` enforces (caps, deadlines, rates, redirects) is real; only the sockets are not.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

import httpcore
import httpx
import trio

from pfn_node.outbound import Outbound

Answer = tuple[str | bytes, int, dict[str, str]]


@dataclass
class Request:
    """One request, as a handler sees it."""

    method: str
    path: str  # decoded
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    url: str


@dataclass
class Slow:
    """A body that comes in pieces, `seconds` apart."""

    pieces: tuple[bytes, ...]
    seconds: float
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    breaks: bool = False  # the connection does, after the pieces


Handler = Callable[[Request], "Answer | Slow"]


class FakeNetwork:
    """Hosts by name ("publisher.test", "publisher.test:8803"); a host that is not there refuses the connection."""

    def __init__(self) -> None:
        self.hosts: dict[str, Handler] = {}
        self.apps: dict[str, httpx.AsyncBaseTransport] = {}  # hosts that are whole programs
        self.requests: list[Request] = []
        self.before_answer: Callable[[Request], trio.Event | None] = lambda request: None

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        await trio.lowlevel.checkpoint()
        headers = {name.decode().lower(): value.decode() for name, value in request.headers}
        url = f"{request.url.scheme.decode()}://{headers['host']}{request.url.target.decode()}"
        parts = urlsplit(url)
        if parts.netloc in self.apps:
            return await ask_app(self.apps[parts.netloc], request, url)
        seen = Request(
            request.method.decode(),
            unquote(parts.path),
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers,
            await _body(request),
            url,
        )
        handler = self.hosts.get(parts.netloc)
        if handler is None:
            raise httpcore.ConnectError("nobody listens here")
        self.requests.append(seen)
        hold = self.before_answer(seen)
        if hold is not None:
            await hold.wait()
        answer = handler(seen)
        if isinstance(answer, Slow):
            return httpcore.Response(answer.status, headers=list(answer.headers.items()), content=_SlowStream(answer))
        body, status, headers = answer
        content = body.encode() if isinstance(body, str) else body
        return httpcore.Response(status, headers=list(headers.items()), content=_SlowStream(Slow((content,), 0)))

    def asked(self, path: str) -> int:
        """How often a path was asked for, on any host."""
        return sum(request.path == path for request in self.requests)

    def outbound(self) -> Outbound:
        """The real way out, into this network."""
        return Outbound(allow_private_networks=True, user_agent="test", instead=self)


async def ask_app(app: httpx.AsyncBaseTransport, request: httpcore.Request, url: str) -> httpcore.Response:
    """What a whole program answers to a request."""
    asked = httpx.Request(request.method.decode(), url, headers=request.headers, content=await _body(request))
    answer = await app.handle_async_request(asked)
    body = await answer.aread()
    return httpcore.Response(answer.status_code, headers=answer.headers.raw, content=_SlowStream(Slow((body,), 0)))


async def _body(request: httpcore.Request) -> bytes:
    assert isinstance(request.stream, AsyncIterable)
    return b"".join([piece async for piece in request.stream])


class _SlowStream:
    def __init__(self, answer: Slow) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._answer.pieces:
            if self._answer.seconds:
                await trio.sleep(self._answer.seconds)
            yield piece
        if self._answer.breaks:
            raise httpcore.ReadError("the connection broke")

    async def aclose(self) -> None:
        pass
