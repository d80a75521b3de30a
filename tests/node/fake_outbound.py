"""A network of publishers inside the process: the real `Outbound` over a transport that asks plain functions.

Everything that `Outbound` enforces (caps, deadlines, rates, redirects) is real; only the sockets are not.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

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


class FakeNetwork(httpx.AsyncBaseTransport):
    """Hosts by name ("publisher.test", "publisher.test:8803"); a host that is not there refuses the connection."""

    def __init__(self) -> None:
        self.hosts: dict[str, Handler] = {}
        self.apps: dict[str, httpx.AsyncBaseTransport] = {}  # hosts that are whole programs
        self.requests: list[Request] = []
        self.before_answer: Callable[[Request], trio.Event | None] = lambda request: None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        parts = urlsplit(str(request.url))
        if parts.netloc in self.apps:
            return await self.apps[parts.netloc].handle_async_request(request)
        seen = Request(
            request.method,
            httpx.URL(str(request.url)).path,
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            dict(request.headers),
            await request.aread(),
            str(request.url),
        )
        handler = self.hosts.get(parts.netloc)
        if handler is None:
            raise httpx.ConnectError("nobody listens here", request=request)
        self.requests.append(seen)
        hold = self.before_answer(seen)
        if hold is not None:
            await hold.wait()
        answer = handler(seen)
        if isinstance(answer, Slow):
            return httpx.Response(answer.status, headers=answer.headers, stream=_SlowStream(answer))
        body, status, headers = answer
        content = body.encode() if isinstance(body, str) else body
        return httpx.Response(status, headers=headers, stream=_SlowStream(Slow((content,), 0)))

    def asked(self, path: str) -> int:
        """How often a path was asked for, on any host."""
        return sum(request.path == path for request in self.requests)

    def outbound(self) -> Outbound:
        """The real way out, into this network."""
        return Outbound(allow_private_networks=True, user_agent="test", transport=self)


class _SlowStream(httpx.AsyncByteStream):
    def __init__(self, answer: Slow) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._answer.pieces:
            if self._answer.seconds:
                await trio.sleep(self._answer.seconds)
            yield piece
        if self._answer.breaks:
            raise httpx.ReadError("the connection broke")

    async def aclose(self) -> None:
        pass
