"""A real server on a free port for tests that attack it, and a client that sends raw bytes."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from pfn_node.server import SafeQuart, ServerLimits, serve

# A test that runs into this has found a wait without an end.
SECONDS_MAX = 8.0
# Far beyond the other: a server that ends sooner had nothing left to wait for.
FOR_EVER = 60.0


class Server:
    """Where a server is, and the event that ends it."""

    def __init__(self, host: str, port: int, shutdown: trio.Event) -> None:
        self.host = host
        self.port = port
        self.shutdown = shutdown

    async def connect(self, *, receive_buffer: int | None = None) -> trio.SocketStream:
        """A new connection; with a small receive buffer, the client stalls soon when it does not read."""
        connection = trio.socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await connection.connect((self.host, self.port))
        except OSError:
            connection.close()
            raise
        return trio.SocketStream(connection)

    async def exchange(self, *parts: bytes) -> bytes:
        """Sends the parts on one connection, and takes what comes until the server closes."""
        async with await self.connect() as stream:
            for part in parts:
                try:
                    await stream.send_all(part)
                except trio.BrokenResourceError:
                    break  # it has heard enough
            return await read_to_end(stream)

    async def is_well(self) -> bool:
        """Whether it still answers a new client."""
        return b" 200 " in await self.exchange(get("/", close=True))


async def read_to_end(stream: trio.SocketStream) -> bytes:
    """Everything up to the end of the stream; a reset is an end as well."""
    received = bytearray()
    try:
        async for data in stream:
            received += data
    except trio.BrokenResourceError:
        pass  # cut: what came before counts
    return bytes(received)


async def read_answer(stream: trio.SocketStream) -> tuple[bytes, bytes]:
    """One answer with a content-length, from a connection that stays open."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = await stream.receive_some()
        assert data, "the server closed"
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        data = await stream.receive_some()
        assert data, "the server closed"
        body += data
    return head, body


def get(path: str, *headers: str, close: bool = False, method: str = "GET") -> bytes:
    """A request without a body."""
    lines = [f"{method} {path} HTTP/1.1", "host: node.example", *headers, *(["connection: close"] if close else [])]
    return "\r\n".join([*lines, "", ""]).encode()


def post(path: str, body: bytes, *, length: int | None = None, close: bool = False) -> bytes:
    """A request with a body, whose declared length may be a lie."""
    return get(path, f"content-length: {len(body) if length is None else length}", close=close, method="POST") + body


@asynccontextmanager
async def serving(app: SafeQuart, **limits: Any) -> AsyncIterator[Server]:
    """A server that is shut down at the end, and must then end by itself."""
    shutdown = trio.Event()
    with trio.fail_after(SECONDS_MAX):
        async with trio.open_nursery() as nursery:
            start = partial(
                serve, app, shutdown=shutdown, limits=ServerLimits(**{"shutdown_seconds": FOR_EVER, **limits})
            )
            host, port = await nursery.start(start)
            yield Server(host, port, shutdown)
            shutdown.set()
