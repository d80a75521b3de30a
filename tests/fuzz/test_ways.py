"""A request means the same on every way that it may take: answered by the front, by the application behind it, or by a
worker that may pass it on to the node.

PFN_FUZZ_SEED plays another series; a difference prints the request.
"""

import json
import os
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from urllib.parse import urlencode

import pytest
import trio
from structlog.testing import capture_logs

from pfn_node.server import ServerLimits, serve
from pfn_node.web.app import create_app
from tests.fuzz.mutation import mutated_bytes
from tests.node.plain_requests import head
from tests.node.serving import Server
from tests.node.shared_port import SharedPort, shared_port
from tests.node.web_node import BILBO

REQUESTS = 300
AT_ONCE = 50
TRIES = 3
SEED = int(os.environ.get("PFN_FUZZ_SEED", "1"))

UPDATES = "/plugins/update-check/1.1/"
FORM = urlencode({"plugins": json.dumps({"plugins": {"a/a.php": {"Name": "A", "Version": "0.1"}}})}).encode()
POSTED = head(UPDATES, f"Content-Length: {len(FORM)}", method="POST") + FORM
PATHS = (
    "/federation/sources",
    "/federation/sources?limit=1",
    "/federation/plugins?q=hello",
    f"/federation/plugins/{BILBO}/hello-signal",
    "/federation/plugins/%ff/x",
    "/federation/slugs",
    f"/federation/download?sourceId={BILBO}&plugin=hello-signal",
    "/healthz",
    "/nothing",
)
# What is special about a request, to be put into a plain one.
FIELDS = (
    "Content-Length: 0",
    "Content-Length: 3",
    "Content-Length: 3, 3",
    "Content-Length: 4",
    "Content-Length: +3",
    "Content-Length : 3",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: Chunked, gzip",
    "Expect: 100-continue",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: keep-alive, close",
    "Connection: keep-alive\r\n\tclose",
    "Host: node.test",
    "Host: evil.test",
    "If-None-Match: *",
    "Range: bytes=0-1",
    "Range: bytes=-1",
    "Range: bytes=9-",
    "Range: bytes=1-0, 2-3",
    "Upgrade: h2c",
    "Accept: \t a",
    "Accept:",
    "X-Folded: a\r\n b",
    "X-Forwarded-For: 192.0.2.1",
    "Cookie: a=b",
    "Accept: " + "x" * 5_000,
    "Accept: " + "x" * 17_000,
)
METHODS = ("GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "PUT", "get", "Head", "post", "BREW", "CONNECT", "G ET", "")
TARGETS = (
    "http://node.test{}",
    "http://evil.test{}",
    "https://node.test{}",
    "/{}",
    "{}#x",
    "{}/",
    "{}%00",
    "*",
    "node:1",
)
BEHIND = (
    b"",
    b"",
    b"",
    b"abc",
    b"3\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    head("/healthz"),
    b"\r\n",
    FORM,
)

STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) \r\n")
_OF_EACH_TIME = re.compile(
    rb"(?im)^(?:date|x-request-id|last-modified|connection): ?[^\r\n]*\r\n|\"request_id\": ?\"[0-9a-f]+\""
)


def asked(rng: Random) -> bytes:
    """A request that is plain, special, or broken; sometimes two of them."""
    if rng.random() < 0.1:
        return mutated_bytes(rng, POSTED + rng.choice((b"", POSTED, head("/federation/sources"))))
    path = rng.choice(PATHS)
    target = rng.choice(TARGETS).format(path) if rng.random() < 0.2 else path
    method = rng.choice(METHODS) if rng.random() < 0.3 else "GET"
    fields = rng.sample(FIELDS, rng.choice((0, 0, 1, 1, 2, 3)))
    raw = head(target, *fields, method=method, host=rng.choice(("node.test",) * 9 + ("evil.test", "", "node.test:1")))
    if rng.random() < 0.1:
        raw = raw.replace(b"HTTP/1.1", rng.choice((b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"")))
    if rng.random() < 0.1:
        raw = raw.replace(b"\r\n", rng.choice((b"\n", b"\r", b"\r\r\n")), rng.choice((1, 9)))
    raw += rng.choice(BEHIND) if rng.random() < 0.4 else b""
    return mutated_bytes(rng, raw) if rng.random() < 0.2 else raw


@asynccontextmanager
async def ways(folder: Path) -> AsyncIterator[tuple[SharedPort, dict[str, Server]]]:
    """A node with a front, the same node without one, and a worker of it."""
    # Each connection ends by itself soon, and not because its client says that it sends no more.
    limits = ServerLimits(head_seconds=0.5, keep_alive_seconds=0.5, body_idle_seconds=0.5, linger_seconds=0.5)
    async with shared_port(folder, limits) as shared, trio.open_nursery() as nursery:
        stop, servers = trio.Event(), {"worker": shared.server}
        for name in ("front", "application"):
            app = create_app(shared.node.services)
            if name == "application":
                app.front = None
            host, port = await nursery.start(partial(serve, app, shutdown=stop, limits=limits))
            servers[name] = Server(host, port, stop)
        yield shared, servers
        stop.set()


def meaning(got: bytes) -> tuple[bytes, ...]:
    """The lines of what came back, but for what is another one each time, and for their order."""
    return tuple(sorted(_OF_EACH_TIME.sub(b"", got).split(b"\r\n")))


async def test_a_request_means_the_same_on_every_way(tmp_path: Path) -> None:
    statuses: Counter[bytes] = Counter()
    with capture_logs() as logs:
        await _compare_many(tmp_path, Random(SEED), statuses)
    assert statuses[b"200"] > REQUESTS / 10 and statuses[b"400"] > REQUESTS / 20
    assert logs == [], "strangers fill no log"


async def _compare_many(folder: Path, rng: Random, statuses: Counter[bytes]) -> None:
    async with ways(folder) as (shared, servers):
        await shared.node.add_bilbo()
        await shared.node.add_release(b"a zip")
        for _ in range(REQUESTS // AT_ONCE):
            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(_compare, servers, asked(rng), statuses)


async def _compare(servers: dict[str, Server], raw: bytes, statuses: Counter[bytes]) -> None:
    for _ in range(TRIES):  # a busy machine may end a connection too soon; a difference in meaning stays
        got = await _ask_all(servers, raw)
        if len({meaning(answer) for answer in got.values()}) == 1:
            break
    else:
        pytest.fail(f"{raw!r} means {got}")
    statuses.update(STATUS_LINE.findall(got["front"]))


async def _ask_all(servers: dict[str, Server], raw: bytes) -> dict[str, bytes]:
    got: dict[str, bytes] = {}

    async def ask(way: str) -> None:
        got[way] = await servers[way].exchange(raw)

    async with trio.open_nursery() as nursery:
        for way in servers:
            nursery.start_soon(ask, way)
    return got
