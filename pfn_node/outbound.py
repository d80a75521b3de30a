"""THE ONE WAY OUT: everything that this node asks of another machine goes through `Outbound`.

It is the only module that imports httpx or httpcore, so that what follows holds for every request:

- Only allowed addresses are dialled. A name is resolved once, ALL its answers are checked, and the checked address is
  dialled as a literal: no second look-up in which a name could lead elsewhere (DNS rebinding), and one bad answer
  among good ones refuses them all. TLS and the Host header still see the name.
- Everything has an end: one deadline over the whole exchange (httpx's own timeouts start anew with every byte), a
  minimum rate for downloads, a cap on the bytes taken, on the header, on the redirects, on the requests under way.
- Nothing is unpacked. We ask for no compression and refuse what comes compressed, even on a redirect: a megabyte of
  gzip can be a gigabyte in memory before anybody could count it.
- Nothing is carried along: no cookies, no proxies, .netrc or other habits of the environment: httpx's transport is
  asked, never its client. A redirect is followed only if the caller asked for it, is judged like the first URL, never
  leads from https to http, and takes no credentials with it.
- Callers see this node's own errors (`outbound_errors.py`), never those of httpx.
"""

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self
from urllib.parse import urldefrag, urljoin, urlsplit

import httpcore
import httpx
import trio

from pfn_node.addresses import HTTPS_PORT, check_url, may_dial, some_of_each_family
from pfn_node.outbound_errors import (
    AddressRefused,
    AnswerBroken,
    AnswerTooLarge,
    AnswerTooSlow,
    Busy,
    OutboundError,
    Unreachable,
)
from pfn_node.outbound_limits import (
    CONNECTIONS_MAX,
    RATE_WINDOW_SECONDS,
    REQUESTS_MAX,
    Lines,
    Meter,
    RequestSlots,
    SmallPieces,
    check_declared_length,
    checked_headers,
)
from pfn_node.shortage import is_shortage

__all__ = [
    "AddressRefused",
    "AnswerBroken",
    "AnswerTooLarge",
    "AnswerTooSlow",
    "Busy",
    "GuardedNetwork",
    "Outbound",
    "OutboundError",
    "Reply",
    "Unreachable",
    "check_url",
]

RESOLVE_SECONDS_MAX: Final = 5.0
# A look-up cannot be ended, and holds its thread, one of Trio's 40 of all work, until the system gives up asking a dead
# name server: after ten seconds with one server, so of everything that may be under way, twice.
LOOK_UPS_MAX: Final = 256
CONNECT_SECONDS_MAX: Final = 5.0  # for each address
ADDRESSES_DIALLED_MAX: Final = 3
ADDRESSES_READ_MAX: Final = 64  # a name with more answers than this is no place to fetch from
# Below the five seconds after which common servers close an idle connection, so that we do not write into one that is
# just being closed.
KEEP_ALIVE_SECONDS: Final = 4.0
PIECES_BETWEEN_CHECKPOINTS: Final = 8  # a flood of tiny pieces must not keep the other tasks from running
_SHORT: Final = "This node has no descriptors or memory left for another connection; try again later."
REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
CONTENT_STATUSES: Final = frozenset({200, 206})
# What of the caller's headers goes along on a redirect. A list of what is harmless, not of what is secret.
REDIRECTED_HEADERS: Final = frozenset({"accept", "range", "if-range"})


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. `headers` have lower-case names, repeated ones joined by commas; `url` is where it came from."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Opens TCP connections for httpcore, to allowed addresses only."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend, *, allow_private_networks: bool) -> None:
        self._inner = inner
        self._allow_private_networks = allow_private_networks

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolves the host, checks every answer, and dials at most three of them as literals."""
        if port != HTTPS_PORT and not self._allow_private_networks:
            raise AddressRefused(f"The port {port} is not dialled; this node dials port {HTTPS_PORT} only.")
        addresses = await self._resolve(host, port)
        failures: list[Exception] = []
        for address in some_of_each_family(addresses)[:ADDRESSES_DIALLED_MAX]:
            try:
                return _PatientStream(
                    await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failures.append(error)
        if any(map(is_shortage, failures)):
            raise Busy(_SHORT) from failures[-1]
        raise Unreachable(f"{host} does not accept connections on port {port}.") from failures[-1]

    async def _resolve(self, host: str, port: int) -> list[str]:
        try:
            with trio.fail_after(RESOLVE_SECONDS_MAX):
                answers = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except trio.TooSlowError:
            raise Unreachable(f"The name {host} did not resolve within {RESOLVE_SECONDS_MAX:g} seconds.") from None
        except (OSError, UnicodeError) as error:
            raise Busy(_SHORT) if is_shortage(error) else Unreachable(f"The name {host} does not resolve.") from error
        addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
        if not addresses or len(addresses) > ADDRESSES_READ_MAX:
            raise Unreachable(f"The name {host} resolves to {len(addresses)} addresses.")
        if not all(may_dial(address, allow_private_networks=self._allow_private_networks) for address in addresses):
            raise AddressRefused(
                f"{host} leads to an address that is not public; this node dials public addresses only."
            )
        return addresses

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Always refused: a socket file is never a publisher or a peer."""
        raise AddressRefused("Unix sockets are not dialled.")

    async def sleep(self, seconds: float) -> None:
        """Waits; httpcore asks for it between retries."""
        await trio.sleep(seconds)


class _PatientStream(httpcore.AsyncNetworkStream):
    """A connection from which floods are not read in one go: httpcore parses all that it has read, unasked."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self._lines = Lines()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._inner.read(min(max_bytes, self._lines.bytes_max), timeout)
        self._lines.look_at(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _PatientStream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


class _GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over a pool that dials through a GuardedNetwork."""

    def __init__(self, network: httpcore.AsyncNetworkBackend) -> None:
        # Not calling super(): it would build a second pool, with a second reading of the certificate authorities. The
        # parent's methods use this one attribute and nothing else.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=REQUESTS_MAX,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            retries=0,
            network_backend=network,
        )


class Outbound:
    """Fetches URLs within limits. An async context manager; one for the whole life of the node.

    `allow_private_networks` permits http, any port, IP addresses and private networks. `network` (what opens TCP
    connections) and `transport` (what is asked in place of the whole internet) are for tests that run without sockets;
    the guard stays in front of `network`, but a transport answers by itself.
    """

    def __init__(
        self,
        *,
        allow_private_networks: bool,
        user_agent: str,
        network: httpcore.AsyncNetworkBackend | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._allow_private_networks = allow_private_networks
        guarded = GuardedNetwork(network or httpcore.TrioBackend(), allow_private_networks=allow_private_networks)
        self._transport = transport or _GuardedTransport(guarded)
        self._headers = httpx.Headers({"user-agent": user_agent, "accept": "*/*", "accept-encoding": "identity"})
        self._slots = RequestSlots()
        self._small_pieces = SmallPieces()

    async def __aenter__(self) -> Self:
        threads = trio.to_thread.current_default_thread_limiter()
        threads.total_tokens = max(threads.total_tokens, LOOK_UPS_MAX)
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    def check_url(self, text: str) -> str:
        """`addresses.check_url` under this node's policy: the URL normalised, or AddressRefused."""
        return check_url(text, allow_private_networks=self._allow_private_networks)

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        bytes_max: int,
        seconds_max: float,
        redirects_max: int = 0,
    ) -> Reply:
        """The whole answer, of any status, with at most `bytes_max` of body, within `seconds_max` of now.

        Redirects are answers like others unless `redirects_max` is given (GET only). Raises OutboundError.
        """
        body = bytearray()
        exchange = _Exchange(method, headers, content, redirects_max, body.extend, bytes_max, None)
        reply = await self._run(exchange, url, seconds_max)
        return Reply(reply.status, reply.headers, bytes(body), reply.url)

    async def download(
        self,
        url: str,
        sink: Callable[[bytes], object],
        *,
        headers: Mapping[str, str] | None = None,
        bytes_max: int,
        seconds_max: float,
        bytes_per_second_min: float,
        redirects_max: int = 2,
        begins: Callable[[int], object] | None = None,
    ) -> Reply:
        """Hands the body of a 200 or 206 to `sink` as it comes; any other answer's body is left unread.

        `begins` is told the status before that: whoever asked for a part may be given the whole.

        The download is given up when it falls below `bytes_per_second_min`, averaged over 20 seconds. The body of the
        Reply is empty. Raises OutboundError, and whatever `sink` raises.
        """
        exchange = _Exchange("GET", headers, None, redirects_max, sink, bytes_max, bytes_per_second_min, begins)
        return await self._run(exchange, url, seconds_max)

    async def _run(self, exchange: "_Exchange", url: str, seconds_max: float) -> Reply:
        assert exchange.redirects_max == 0 or exchange.method == "GET", "only a GET may be sent twice"
        assert not any(name.lower() == "accept-encoding" for name in exchange.headers or ()), "it is always identity"
        url = self.check_url(url)
        waiting = True
        try:
            with trio.fail_after(seconds_max):
                for _ in range(exchange.redirects_max + 1):
                    async with self._slots.one(urlsplit(url).netloc, is_download=exchange.rate_min is not None):
                        waiting = False
                        answer = await self._exchange_once(exchange, url)
                    if isinstance(answer, Reply):
                        return answer
                    url = self._redirected(url, answer)
                    exchange = exchange.without_secrets()
        except trio.TooSlowError:
            if waiting:
                raise Busy(
                    f"This node had too many requests under way to start another one within {seconds_max:g} seconds."
                ) from None
            raise AnswerTooSlow(f"There was no complete answer within {seconds_max:g} seconds.") from None
        raise AnswerBroken(f"The answer redirects more than {exchange.redirects_max} times.")

    async def _exchange_once(self, exchange: "_Exchange", url: str) -> "Reply | _Redirect":
        try:
            response = await self._transport.handle_async_request(exchange.request(url, self._headers))
            stream = response.stream
            assert isinstance(stream, httpx.AsyncByteStream), "it is that of an asynchronous transport"
            try:
                headers = checked_headers(response.headers.raw, response.headers.items())
                if exchange.redirects_max and response.status_code in REDIRECT_STATUSES:
                    return _Redirect(headers.get("location"))
                if exchange.method != "HEAD" and exchange.wants(response.status_code):
                    check_declared_length(headers, exchange.bytes_max)
                    if exchange.begins is not None:
                        exchange.begins(response.status_code)
                    await _receive(stream, exchange, self._small_pieces)
                return Reply(response.status_code, headers, b"", url)
            finally:
                await stream.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(f"{urlsplit(url).netloc} cannot be reached over {urlsplit(url).scheme}.") from error
        except httpx.TimeoutException as error:
            raise AnswerTooSlow(f"Nothing came for {RATE_WINDOW_SECONDS:g} seconds.") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise AnswerBroken("The answer is not complete, valid HTTP.") from error

    def _redirected(self, url: str, redirect: "_Redirect") -> str:
        if not redirect.location:
            raise AnswerBroken("The answer is a redirect that does not say where to.")
        try:
            target = urldefrag(urljoin(url, redirect.location)).url
        except ValueError:
            raise AddressRefused("The answer redirects to something that is not a URL.") from None
        target = self.check_url(target)
        if url.startswith("https:") and not target.startswith("https:"):
            raise AddressRefused("The answer redirects from https to http.")
        return target


@dataclass(frozen=True, slots=True)
class _Redirect:
    location: str | None


@dataclass(frozen=True, slots=True)
class _Exchange:
    """What one call asks for. `rate_min` is in bytes per second; None marks a fetch, which takes any status."""

    method: str
    headers: Mapping[str, str] | None
    content: bytes | None
    redirects_max: int
    sink: Callable[[bytes], object]
    bytes_max: int
    rate_min: float | None
    begins: Callable[[int], object] | None = None

    def wants(self, status: int) -> bool:
        """Whether the body of an answer with this status is read."""
        return self.rate_min is None or status in CONTENT_STATUSES

    def request(self, url: str, habits: httpx.Headers) -> httpx.Request:
        """What the transport is asked; with these headers, where the caller did not choose otherwise."""
        # Silence ends a download after one window; a fetch has only its deadline.
        silence = RATE_WINDOW_SECONDS if self.rate_min else None
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS_MAX, read=silence)
        headers = habits.copy()
        headers.update(self.headers)
        request = httpx.Request(
            self.method, url, headers=headers, content=self.content, extensions={"timeout": timeout.as_dict()}
        )
        request.stream = _Content(self.content or b"")
        return request

    def without_secrets(self) -> "_Exchange":
        """The same, for another place: with those of its headers only that are known to be harmless."""
        kept = {name: value for name, value in (self.headers or {}).items() if name.lower() in REDIRECTED_HEADERS}
        return replace(self, headers=kept)


class _Content(httpx.AsyncByteStream):
    """The body of a request as a plain iterator.

    httpx's own is an async generator, which nobody closes when the other side hangs up early or the request is
    cancelled; Trio rightly complains.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._content:
            raise StopAsyncIteration
        content, self._content = self._content, b""
        return content


async def _receive(stream: httpx.AsyncByteStream, exchange: _Exchange, small_pieces: SmallPieces) -> None:
    """Hands the raw body to the sink, within the limits.

    The body comes through a chain of async generators inside httpx and httpcore, none of which closes the next one when
    its consumer stops early; Trio rightly complains. So the loop is never left by an exception of its own: the first
    failure is kept, the scope is cancelled, and the cancellation, raised in the innermost read, unwinds them all.
    """
    meter = Meter(exchange.bytes_max, exchange.rate_min)
    failure: BaseException | None = None
    pieces = 0
    with trio.CancelScope() as scope:
        async for piece in stream:
            pieces += 1
            if failure is None:
                try:
                    meter.count(len(piece))
                    exchange.sink(piece)
                except BaseException as error:
                    failure = error
                    scope.cancel()  # what httpcore had read already comes all the same, up to where it would read on
            if pieces % PIECES_BETWEEN_CHECKPOINTS == 0:
                with trio.CancelScope(shield=True):  # see above: not cancelled here, but at the next read
                    if meter.wants_pause():
                        await small_pieces.pause()
                    else:
                        await trio.lowlevel.checkpoint()
    if failure is not None:
        raise failure
