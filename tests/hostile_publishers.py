"""Publishers on loopback that lie, hang, dribble, send without end, and send bombs; and an honest one beside them.

Each proves its key as it should: what a publisher that proved nothing can do is less. They then behave as their kind
says, at the question that it names. How long each connection lasted is noted.
"""

import gzip
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl

import trio

from tests.node.attack_zips import LARGE_ATTACKS
from tests.node.fake_internet import answer, read_head
from tests.node.fake_outbound import Request
from tests.node.sources_room import Publisher, plugin_zip

SLUG: Final = "alpha"
OK: Final = b"HTTP/1.1 200 OK\r\n"
CHUNKED: Final = OK + b"transfer-encoding: chunked\r\n\r\n"

Trick = Callable[[trio.abc.Stream], Awaitable[None]]


async def _hang(stream: trio.abc.Stream) -> None:
    await trio.sleep_forever()


async def _dribble_header(stream: trio.abc.Stream) -> None:
    await stream.send_all(OK + b"x: ")
    while True:
        await stream.send_all(b"a")
        await trio.sleep(1)


async def _dribble_body(stream: trio.abc.Stream) -> None:
    await stream.send_all(OK + b"content-length: 1000000\r\n\r\nPK\x03\x04")
    while True:
        await stream.send_all(b" ")
        await trio.sleep(1)


async def _dribble_fast_enough(stream: trio.abc.Stream) -> None:
    """Just above the rate below which a download is given up."""
    await stream.send_all(OK + b"content-length: 90000000\r\n\r\nPK\x03\x04")
    while True:
        await stream.send_all(bytes(5_000))
        await trio.sleep(0.25)


async def _endless_list(stream: trio.abc.Stream) -> None:
    await stream.send_all(CHUNKED + b'c\r\n{"plugins":[\r\n')
    while True:
        await stream.send_all(b"3e8\r\n" + b" " * 1000 + b"\r\n")


async def _endless_tiny_chunks(stream: trio.abc.Stream) -> None:
    await stream.send_all(CHUNKED)
    while True:
        await stream.send_all(b"1\r\n \r\n" * 500)


async def _endless_zip(stream: trio.abc.Stream) -> None:
    await stream.send_all(OK + b"\r\nPK\x03\x04")
    while True:
        await stream.send_all(bytes(65536))
        await trio.sleep(0.005)


async def _header_flood(stream: trio.abc.Stream) -> None:
    await stream.send_all(OK)
    while True:
        await stream.send_all(b"x-flood: " + b"a" * 1000 + b"\r\n")


async def _reset(stream: trio.abc.Stream) -> None:
    await stream.send_all(OK + b"content-length: 5000\r\n\r\nPK\x03\x04")
    if isinstance(stream, trio.SocketStream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # so that closing resets


def _says(body: bytes, **options: Any) -> Trick:
    async def trick(stream: trio.abc.Stream) -> None:
        await stream.send_all(answer(body, **options))

    return trick


def _wrong_length(stream: trio.abc.Stream) -> Awaitable[None]:
    return stream.send_all(OK + b"content-length: 5000\r\nconnection: close\r\n\r\nPK\x03\x04short")


# Kind: (the path at which it is played, what is done there).
KINDS: Final[dict[str, tuple[str, Trick]]] = {
    "hangs at its list": ("/author-data", _hang),
    "hangs at its zip": (".zip", _hang),
    "hangs when asked who it is": ("/federation-info", _hang),
    "dribbles a header": ("/author-data", _dribble_header),
    "dribbles its list": ("/author-data", _dribble_body),
    "dribbles its zip": (".zip", _dribble_body),
    "dribbles its zip just fast enough": (".zip", _dribble_fast_enough),
    "lists without end": ("/author-data", _endless_list),
    "lists in tiny chunks without end": ("/author-data", _endless_tiny_chunks),
    "has a zip without end": (".zip", _endless_zip),
    "floods with headers": ("/author-data", _header_flood),
    "resets": (".zip", _reset),
    "says a wrong length": (".zip", _wrong_length),
    "redirects in circles": (".zip", _says(b"", status="302 Found", headers=f"location: /{SLUG}.zip\r\n")),
    "sends a bomb of gzip": (
        "/author-data",
        _says(gzip.compress(bytes(10_000_000)), headers="content-encoding: gzip\r\n"),
    ),
    "names its list in a way that cannot be said back": (
        "/author-data",
        _says(json.dumps({"plugins": []}).encode(), headers='etag: "\N{SNOWMAN}"\r\n'),
    ),
    "sends lists in lists": ("/author-data", _says(b"[" * 2_000_000)),
    "lies about its version": (".zip", _says(plugin_zip(SLUG, "9.9"))),
    "sends a zip that overlaps": (".zip", _says(LARGE_ATTACKS["full overlap"][0]())),
    "sends a zip that swells": (".zip", _says(LARGE_ATTACKS["a bomb of many parts"][0]())),
    "sends a zip of strange names": (".zip", _says(LARGE_ATTACKS["names that are costly to compare"][0]())),
}


@dataclass
class Site:
    """One publisher on its own port.

    `open` and `durations` (in seconds) are of the connections on which its trick is played; others may lie idle.
    """

    publisher: Publisher
    kind: str = ""  # empty: it is honest
    port: int = 0
    durations: list[float] = field(default_factory=list)
    open: int = 0

    @property
    def source_id(self) -> str:
        return self.publisher.source_id

    def live_at(self, url: str) -> None:
        """List one plugin, under this URL."""
        self.publisher.url = url
        self.publisher.asset_info = {"domain": url, "namingScheme": "author/slug.zip"}
        self.publisher.etags = True
        self.publisher.publish(SLUG, "1.0")

    async def serve(self, stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._serve(stream)

    async def _serve(self, stream: trio.abc.Stream) -> None:
        while head := await read_head(stream):
            line, _, rest = head.decode("latin-1").partition("\r\n")
            method, target, _ = line.split(" ")
            path, _, query = target.partition("?")
            if self.kind:
                at, trick = KINDS[self.kind]
                if path.endswith(at) or (at == ".zip" and path.endswith("/download")):
                    await self._play(stream, trick)
                    return
            body = await _body(stream, rest)
            text, status, headers = self.publisher.answer(
                Request(method, path, dict(parse_qsl(query)), _headers(rest), body, target)
            )
            content = text.encode() if isinstance(text, str) else text
            more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            await stream.send_all(answer(content, status=f"{status} x", headers=more))

    async def _play(self, stream: trio.abc.Stream, trick: Trick) -> None:
        started = trio.current_time()
        self.open += 1
        try:
            await _until_gone(stream, trick)
        finally:
            self.open -= 1
            self.durations.append(trio.current_time() - started)


async def _until_gone(stream: trio.abc.Stream, trick: Trick) -> None:
    """Play the trick until it is over, or the other side has hung up."""

    async def play(scope: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await trick(stream)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, nursery.cancel_scope)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await stream.receive_some(4096):
                pass
        nursery.cancel_scope.cancel()


async def _body(stream: trio.abc.Stream, rest: str) -> bytes:
    header, _, begun = rest.partition("\r\n\r\n")
    body = begun.encode("latin-1")
    while len(body) < int(_headers(header).get("content-length", "0")):
        body += await stream.receive_some(65536)
    return body


def _headers(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.partition("\r\n\r\n")[0].split("\r\n"))
    return {name.strip().lower(): value.strip() for name, _, value in lines if name}


async def open_site(nursery: trio.Nursery, seed: int, kind: str = "") -> Site:
    """A publisher that lists one plugin, on a free port of loopback."""
    site = Site(Publisher(seed), kind)
    listeners = await nursery.start(partial(trio.serve_tcp, site.serve, 0, host="127.0.0.1"))
    site.port = listeners[0].socket.getsockname()[1]
    site.live_at(f"http://127.0.0.1:{site.port}")
    return site


def publish_next(site: Site, number: int) -> str:
    """A new version of its plugin; -> what it is called."""
    version = f"1.{number}"
    site.publisher.publish(SLUG, version, extra=json.dumps(list(range(number % 7))).encode())
    return version
