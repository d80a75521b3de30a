"""The HTTP server of the node and of the reference publisher: hypercorn and Quart on Trio, as they must be to face the
internet.

Stock hypercorn 0.18 with quart-trio 0.12 has nine faults that a stranger can use. Each is mended where it arises, with
the reason beside it, and has a test that attacks a running server (tests/node/test_server_*.py):

    1  an error in the protocol of one connection ends the process; h2c, which nobody needs, makes one easy
    2  `Connection: close` with bytes behind it kills a bare application
    3  the last write of an answer is cancelled: `Connection: close` does not close, keep-alive never expires, 413 hangs
    4  a reader who stalls holds a task for ever and blocks shutdown
    5  reader tasks leak behind dead connections
    6  `quart.Response()` without a body needs asyncio
    7  request bodies have no back-pressure, no cumulative limit and no deadline
    8  suffix ranges give 500, ranges past the end a broken body
    9  a Host that IDNA has no form for (".", a label of 64 letters) gives 500 and fills the log

1, 2, 4 and 5 are mended in http_connection.py and http1.py, 3 there and in safe_quart.py, 6, 7 and 9 in safe_quart.py,
8 in artifacts/response.py.
These mends reach into internals, so hypercorn, quart, quart-trio and h11 are pinned exactly in pyproject.toml.

This module is the rest: the socket, who is let in, and how everything ends. HTTP/1.1 over plain TCP only; TLS and
HTTP/2 are for the proxy in front.
"""

import errno
import math
import resource
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from types import TracebackType
from typing import Any, Final, Self, cast

import structlog
import trio
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper
from quart_trio import QuartTrio

from pfn_node.elsewhere import Passed, Passing
from pfn_node.http_connection import Connection, ServerLimits, Waits
from pfn_node.safe_quart import SafeQuart
from pfn_node.shortage import is_shortage

__all__ = [
    "Listener",
    "SafeQuart",
    "ServerError",
    "ServerLimits",
    "bind",
    "connections_that_fit",
    "serve",
]

# How long a thread that computes (a zip's names, a signature) keeps the event loop waiting each time; 5 ms by default,
# which a request would wait for dozens of times.
SWITCH_SECONDS: Final = 0.0005
BACKLOG: Final = 1024  # connections that the kernel keeps for us while we are busy
TURNING_AWAY_SECONDS_MAX: Final = 1.0
CAPACITY_PAUSE_SECONDS: Final = 0.1  # in which those who come wait in the kernel's queue
CAPACITY_TOLD_SECONDS: Final = 60.0  # after which it is told again
# A client whose connection was passed on for one request comes back to those who read for all the others: connections
# of a proxy, which carry the requests of everybody, would end up here for good.
PASSED_REQUESTS_MAX: Final = 20
# One household or server has 2**64 addresses of IPv6; they count as one.
IPV6_PLACE_BITS: Final = 64
_BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 51\r\n\r\n"
    b"Too many connections are open; try again in a while"
)

log = structlog.get_logger()


class ServerError(Exception):
    """The server cannot start; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that is bound and listening. A context manager that closes it."""

    socket: socket.socket
    host: str
    port: int

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()


def bind(host: str, port: int) -> Listener:
    """Binds and listens; port 0 picks a free one. From here on clients connect and wait. Raises ServerError."""
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ServerError(f"{host!r} is not an address to listen on; use an IP address of this machine.") from error
    # "localhost" has two answers; most clients try IPv4 when they are told 127.0.0.1 or localhost.
    family, kind, protocol, _, address = min(answers, key=lambda answer: answer[0] != socket.AF_INET)
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise ServerError(_why_not_bound(error, host, port)) from error
    return Listener(bound, *bound.getsockname()[:2])


def connections_that_fit(most: int) -> int:
    """As many connections, or as many as this process may have descriptors for: a download takes two."""
    files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if files_max == resource.RLIM_INFINITY else min(most, files_max // 2)


def _why_not_bound(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is in use by another program; stop that, or choose another port."
    if error.errno == errno.EACCES:
        return f"Port {port} may not be used by this user; choose one above 1023."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine; use one that is, or 127.0.0.1."
    return f"Port {port} of {host} cannot be listened on: {error.strerror}."


async def serve(
    app: QuartTrio,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    listener: Listener | None = None,
    shutdown: trio.Event,
    limits: ServerLimits | None = None,
    passing: Passing | None = None,
    passed: Passed | None = None,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves the application until `shutdown`, then ends within two seconds whatever clients do.

    Listens on `host` and `port`, or takes over a `listener` that was bound before. The started value is the bound
    (host, port). At shutdown no connection is accepted any more, idle ones are closed, running requests have
    `limits.shutdown_seconds`, and what is left (streams of events, downloads) is cancelled and cut. Raises ServerError
    if it cannot listen.

    Where processes share the port: `passing` says what is passed on to another one, `passed` what comes from others,
    and that nobody is let in here while they do that.
    """
    with listener or bind(host, port) as bound:
        async with trio.open_nursery() as background:
            app.nursery = background
            await app.startup()
            door = _Door(app, limits or ServerLimits(), passing)
            await _serve_until(shutdown, door, bound, passed, task_status)
            await app.shutdown()


async def _serve_until(
    shutdown: trio.Event,
    door: "_Door",
    bound: Listener,
    passed: Passed | None,
    task_status: trio.TaskStatus[tuple[str, int]],
) -> None:
    async with trio.open_nursery() as connections:
        try:
            async with trio.open_nursery() as accepting:
                listeners = [_Accepting(bound.socket)]
                accept = partial(trio.serve_listeners, door.admit, listeners, handler_nursery=connections)
                if passed is None:
                    accepting.start_soon(accept)
                else:
                    accepting.start_soon(_accept_when, passed.alone, accept)
                    accepting.start_soon(_take_in, passed, door, connections)
                task_status.started((bound.host, bound.port))
                await shutdown.wait()
                await door.end_requests()  # before who tries to come learns of it
                accepting.cancel_scope.cancel()
                bound.socket.close()  # also where nobody was let in here: who comes now is refused, not kept waiting
            await door.empty()
        finally:
            # Also when this task is cancelled: writes that are shielded (fault 3) end with their sockets.
            door.abort_all()
            connections.cancel_scope.cancel()


class _Accepting(trio.abc.Listener[trio.SocketStream]):
    """A listener that outlasts a lack of descriptors (trio's own loop does too, but writes ten tracebacks a second)."""

    def __init__(self, bound: socket.socket) -> None:
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(bound))
        self._told_until = -math.inf

    async def accept(self) -> trio.SocketStream:
        """The next client."""
        while True:
            try:
                return await self._listener.accept()
            except OSError as error:
                if not is_shortage(error):
                    raise
                self._tell(error)
            await trio.sleep(CAPACITY_PAUSE_SECONDS)

    async def aclose(self) -> None:
        """Close the socket."""
        await self._listener.aclose()

    def _tell(self, error: OSError) -> None:
        if trio.current_time() >= self._told_until:
            self._told_until = trio.current_time() + CAPACITY_TOLD_SECONDS
            log.error("descriptors_used_up", wanted_for="a new client", reason=error.strerror)


async def _accept_when(alone: trio.Event, accept: Callable[[], Awaitable[object]]) -> None:
    await alone.wait()
    await accept()


async def _take_in(passed: Passed, door: "_Door", connections: trio.Nursery) -> None:
    with passed.connections as taken:
        try:
            async for connection, first in taken:
                connection.setblocking(False)
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(connection))
                connections.start_soon(_serve_passed, door, stream, first)
        finally:
            with suppress(trio.WouldBlock, trio.EndOfChannel):
                while True:
                    taken.receive_nowait()[0].close()


async def _serve_passed(door: "_Door", stream: trio.SocketStream, first: bytes) -> None:
    try:
        await door.admit(stream, first)
    finally:
        await trio.aclose_forcefully(stream)


class _Door:
    """Who is let in: so many connections in all, and so many from one place.

    Where no more is, a newcomer takes the room of whoever has kept us waiting for longest: sockets that send nothing,
    or next to nothing, keep nobody out.
    """

    def __init__(self, app: QuartTrio, limits: ServerLimits, passing: Passing | None = None) -> None:
        self._app = app
        self._limits = limits
        self._passing = passing
        self._config = limits.config()
        self._config_of_passed = replace(
            limits, keep_alive_requests_max=min(limits.keep_alive_requests_max, PASSED_REQUESTS_MAX)
        ).config()
        self._context = WorkerContext(None)
        self._open: dict[Connection, str | None] = {}  # in the order in which they came, and from where
        self._places: Counter[str] = Counter()
        self._one_left = trio.Event()

    async def admit(self, stream: trio.SocketStream, first: bytes = b"") -> None:
        """Serves a new client, or turns it away. Never raises an Exception: that would end all the others.

        `first`: what another process has read of it, which passed it on.
        """
        try:
            client, server = stream.socket.getpeername(), stream.socket.getsockname()
        except OSError:
            return  # gone before we looked
        if self._context.terminated.is_set():
            return  # it came while the door closed: nobody would wait for it
        place = _place(client[0], self._limits.proxies)
        if not self._has_room(place):
            await _turn_away(stream)
            return
        front = self._app.front if isinstance(self._app, SafeQuart) else None
        config = self._config_of_passed if first else self._config
        connection = Connection(
            stream, cast(AppWrapper, self._app), config, self._context, self._limits, front, self._passing, first
        )
        self._open[connection] = place
        if place is not None:
            self._places[place] += 1
        try:
            await connection.run(client[:2], server[:2])
        finally:
            self._leave(connection)

    def _has_room(self, place: str | None) -> bool:
        """Whether one more may come from a place; perhaps in the room of one that was cut for it."""
        if place is not None and self._places[place] >= self._limits.connections_per_address_max:
            return self._cut_one([one for one, origin in self._open.items() if origin == place])
        return len(self._open) < self._limits.connections_max or self._cut_one(self._open)

    def _cut_one(self, among: Iterable[Connection]) -> bool:
        for waits in Waits:
            for one in among:
                if one.waits is waits is not Waits.FOR_ANSWER:
                    one.abort()
                    self._leave(one)
                    return True
        return False

    def _leave(self, connection: Connection) -> None:
        if connection not in self._open:
            return  # it was cut
        place = self._open.pop(connection)
        self._one_left.set()
        if place is None:
            return
        self._places[place] -= 1
        if not self._places[place]:
            del self._places[place]

    async def end_requests(self) -> None:
        """Answers no further request on a connection."""
        await self._context.terminated.set()

    async def empty(self) -> None:
        """Closes what is idle, and waits for the rest for `shutdown_seconds`."""
        for connection in tuple(self._open):
            connection.close_if_idle()
        with trio.move_on_after(self._limits.shutdown_seconds):
            while self._open:
                self._one_left = trio.Event()
                await self._one_left.wait()

    def abort_all(self) -> None:
        """Cuts every connection."""
        for connection in tuple(self._open):
            connection.abort()


def _place(host: Any, proxies: tuple[IPv4Network | IPv6Network, ...] = ()) -> str | None:
    """What connections are counted by: an IPv4 address, a /64 of IPv6; None for loopback and where a proxy is."""
    address = ip_address(str(host).partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback or any(address in network for network in proxies):
        return None
    if isinstance(address, IPv6Address):
        return str(int(address) >> (128 - IPV6_PLACE_BITS))
    return str(address)


async def _turn_away(stream: trio.SocketStream) -> None:
    with trio.move_on_after(TURNING_AWAY_SECONDS_MAX):
        try:
            await stream.send_all(_BUSY)
            await stream.send_eof()
            await stream.receive_some(1024)  # so that closing does not tear the answer from the client's hands
        except trio.BrokenResourceError:
            pass  # it did not wait for an answer
