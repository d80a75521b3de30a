"""The requests of a soak: a mix as a busy node gets it, sent at a fixed rate over connections that stay open."""

import json
from collections.abc import Sequence
from itertools import cycle
from random import Random
from typing import Final
from urllib.parse import quote, urlencode

import trio

# As many as a proxy in front keeps; more requests than that under way at once wait, and are charged for it.
CONNECTIONS: Final = 64
READ_BYTES: Final = 256 * 1024
SITE_PLUGINS: Final = 20
OK: Final = (b"200", b"304")


class Load:
    """Sends requests when they are due, and notes how long each took from then on."""

    def __init__(self, url: str, requests: Sequence[bytes]) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port = int(port)
        self._requests = cycle(requests)
        self.latencies_ms: list[float] = []
        self.failed = 0
        self._unused: list[trio.SocketStream] = []

    async def run(self, per_second: int, seconds: float) -> None:
        """Send so many, evenly spread, and wait for the last answers."""
        due, ready = trio.open_memory_channel[float](per_second * 60)  # a node that is a minute behind has failed
        began = trio.current_time()
        async with trio.open_nursery() as nursery, due:
            for _ in range(CONNECTIONS):
                nursery.start_soon(self._serve, ready.clone())
            for number in range(round(per_second * seconds)):
                moment = began + number / per_second
                await trio.sleep_until(moment)
                await due.send(moment)
        for stream in self._unused:  # all at once: whoever counts the node's descriptors sees all of them, or none
            await stream.aclose()

    async def _serve(self, due: trio.MemoryReceiveChannel[float]) -> None:
        stream: trio.SocketStream | None = None
        async for moment in due:
            try:
                stream = stream or await trio.open_tcp_stream(self._host, self._port)
                if not await exchange(stream, next(self._requests)):
                    self.failed += 1
            except (OSError, trio.BrokenResourceError, ValueError):
                self.failed += 1
                if stream is not None:  # it was closed between two requests, or in the middle of one
                    await trio.aclose_forcefully(stream)
                stream = None
            self.latencies_ms.append(1000 * (trio.current_time() - moment))
        if stream is not None:
            self._unused.append(stream)


async def exchange(stream: trio.SocketStream, request: bytes) -> bool:
    """Send one, and read the whole answer; whether it is a good one. Raises ValueError if it is none."""
    await stream.send_all(request)
    head = b""
    while b"\r\n\r\n" not in head:
        head += await _some(stream)
    head, _, body = head.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1]
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    left = (0 if status == b"304" else length) - len(body)
    while left > 0:
        left -= len(await _some(stream))
    return status in OK


async def _some(stream: trio.SocketStream) -> bytes:
    some = await stream.receive_some(READ_BYTES)
    if not some:
        raise ValueError("the answer is cut off")
    return some


def mix(sources: Sequence[str], plugins: int) -> list[bytes]:
    """A round of requests: 40 % reads that are the same for all, 15 % one plugin, 15 % searches, 10 % pages, 10 %
    downloads, 10 % sites that ask for updates."""
    names = [(source, f"{source.partition('@')[0]}-{number:02}") for source in sources for number in range(plugins)]
    rng = Random(7)
    round_: list[bytes] = []
    for source, plugin in names:
        here = f"{quote(source)}/{plugin}"
        asked = urlencode({"sourceId": source, "plugin": plugin})
        round_ += [
            _get(path)
            for path in 2 * ("/federation/sources", "/federation/plugins", "/composer/packages.json", "/sources")
        ]
        round_ += 3 * [_get(f"/federation/plugins/{here}")]
        round_ += [_get(f"/federation/plugins?{urlencode({'q': q})}") for q in (plugin, "adds", plugin[:3])]
        round_ += [_get(f"/plugins/{here}"), _get(f"/plugins?{urlencode({'q': plugin})}")]
        round_ += 2 * [_get(f"/federation/download?{asked}")]
        round_ += 2 * [_site(rng.sample(names, min(SITE_PLUGINS, len(names))))]
    rng.shuffle(round_)
    return round_


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".encode()


def _site(names: Sequence[tuple[str, str]]) -> bytes:
    """A WordPress site asks whether there is something newer."""
    plugins = {
        f"{plugin}/{plugin}.php": {
            "Name": plugin,
            "Version": "0.9",
            "UpdateURI": f"http://localhost/plugins/{source}/{plugin}",
        }
        for source, plugin in names
    }
    body = urlencode({"plugins": json.dumps({"plugins": plugins, "active": []})}).encode()
    head = (
        "POST /plugins/update-check/1.1/ HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
