"""What it costs an operator that 2,000 sockets do nothing, or next to nothing: do his calls still come through?

Half of the sockets send nothing; the others send a byte a second, of a head or of a body, after all that comes before
it. Whoever is cut off comes back, up to 500 a second, so that there are about as many all the time. Meanwhile an
operator asks ten times a second, each time on a connection of its own, for what takes a key. The same calls without
the sockets are what they are compared with, before and after. The sockets are a process of their own, and so is the
node, with the settings that it has by default.

They come from one address or from many. All are loopback's, for which no limit by address holds: the harder case.
"""

import errno
import json
import selectors
import socket
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalProcess, local_mesh
from pfn_node.cli.running import allow_many_files
from tests.benchmarks.soak import PAGE_MIB, quantile

SOCKETS: Final = 2_000
SECONDS: Final = 20.0
QUIET_SECONDS: Final = 4.0
CALLS_A_SECOND: Final = 10
CALL_SECONDS_MAX: Final = 10.0
BYTE_SECONDS: Final = 1.0  # between two bytes of one socket; and until one that was cut off may be opened again
OPENED_MAX: Final = 500  # in that time
ADMIN_P99_BAR: Final = 1.0
EVICTED_BAR: Final = 15.0
ADDRESSES: Final = 100  # of 127.0.x.1
HEAD: Final = b"GET /federation/sources HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Dribble: "
BODY: Final = (
    b"POST /plugins/update-check/1.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100000\r\n\r\n"
)

Row = dict[str, float | int | str]


def run() -> list[Row]:
    """Measure; -> a row for each place that the sockets come from. Times in seconds."""
    allow_many_files()
    with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
        return trio.run(_measure, Path(folder))


async def _measure(folder: Path) -> list[Row]:
    async with local_mesh(folder) as mesh:
        client = await mesh.start_node()
        port = urlsplit(client.node).port
        assert port is not None
        return [await _attacked(client, mesh.nodes[0], port, many) for many in (False, True)]


@dataclass
class Operator:
    """What the calls of the operator took, and how many came to nothing."""

    client: NodeClient
    port: int
    seconds: list[float] = field(default_factory=list)
    refused: int = 0

    async def ask_for(self, seconds: float) -> None:
        """Ask so many times a second, whether or not the answers come."""
        until = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            while (due := trio.current_time()) < until:
                nursery.start_soon(self._ask, due)
                await trio.sleep_until(due + 1 / CALLS_A_SECOND)

    async def _ask(self, due: float) -> None:
        answer = b""
        with trio.move_on_after(CALL_SECONDS_MAX):
            try:
                answer = await self._exchange()
            except (OSError, trio.BrokenResourceError):
                pass  # cut off; counted below
        self.seconds.append(trio.current_time() - due)
        self.refused += not answer.startswith(b"HTTP/1.1 200 ")

    async def _exchange(self) -> bytes:
        key = self.client.headers["Authorization"]
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(
                f"GET /federation/keys HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {key}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            return b"".join([data async for data in stream])


async def _attacked(client: NodeClient, node: LocalProcess, port: int, many: bool) -> Row:
    assert node.process is not None
    process = Path("/proc") / str(node.process.pid)
    before, during, after = (Operator(client, port) for _ in range(3))
    await before.ask_for(QUIET_SECONDS)
    rss, descriptors = _resident_mib(process), _descriptors(process)
    seen: dict[str, Any] = {}
    most = [rss, descriptors]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_attack, {"port": port, "many": many, "seconds": SECONDS}, seen)
        nursery.start_soon(_watch, process, most)
        await during.ask_for(SECONDS)
        while not seen:
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    await after.ask_for(QUIET_SECONDS)
    quiet = before.seconds + after.seconds
    return {
        "from": "many addresses" if many else "one address",
        "sockets": SOCKETS,
        "admin_p50": round(median(during.seconds), 4),
        "admin_p99": round(quantile(during.seconds, 0.99), 4),
        "admin_p99_bar": ADMIN_P99_BAR,
        "admin_refused": during.refused,
        "quiet_p50": round(median(quiet), 4),
        "quiet_p99": round(quantile(quiet, 0.99), 4),
        "quiet_refused": before.refused + after.refused,
        "longest_until_evicted": seen["longest"],
        "evicted_bar": EVICTED_BAR,
        "evicted": seen["evicted"],
        "open_at_most": seen["open"],
        "descriptors": most[1],
        "descriptors_after": _descriptors(process),
        "rss_mib_more": round(most[0] - rss, 1),
    }


async def _attack(attack: dict[str, Any], seen: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.sockets"]
    done = await trio.run_process(command, stdin=json.dumps(attack).encode(), capture_stdout=True)
    seen.update(json.loads(done.stdout))


async def _watch(process: Path, most: list[float]) -> None:
    while True:
        most[:] = max(most[0], _resident_mib(process)), max(most[1], _descriptors(process))
        await trio.sleep(0.25)


def _resident_mib(process: Path) -> float:
    return int((process / "statm").read_text().split()[1]) * PAGE_MIB


def _descriptors(process: Path) -> int:
    return sum(1 for _ in (process / "fd").iterdir())


# ---- The sockets: a process of its own.


@dataclass(slots=True)
class _Slow:
    """One that sends nothing, or what it has to say first and then a byte a second."""

    number: int
    says: bytes
    open: socket.socket | None = None
    opened: float = 0.0
    is_begun: bool = False


def attack(port: int, many: bool, seconds: float) -> dict[str, float | int]:
    """Hold the sockets open for so many seconds; -> how long one was kept at the most, and how many were cut off."""
    allow_many_files()
    slow = [_Slow(number, (b"", HEAD, b"", BODY)[number % 4]) for number in range(SOCKETS)]
    longest, evicted, most_open = 0.0, 0, 0
    until = time.monotonic() + seconds
    with selectors.DefaultSelector() as waiting:
        while (now := time.monotonic()) < until:
            for one in [one for one in slow if one.open is None][:OPENED_MAX]:
                _open(one, port, many, waiting)
            for one in slow:
                _send(one)
            most_open = max(most_open, len(waiting.get_map()))
            while (rest := now + BYTE_SECONDS - time.monotonic()) > 0:
                for key, _ in waiting.select(rest):
                    if _is_cut(key.fileobj):
                        longest, evicted = max(longest, time.monotonic() - key.data.opened), evicted + 1
                        _close(key.data, waiting)
        left = [until - one.opened for one in slow if one.open is not None]
    return {"longest": round(max([longest, *left]), 2), "evicted": evicted, "open": most_open}


def _open(one: _Slow, port: int, many: bool, waiting: selectors.BaseSelector) -> None:
    one.open = socket.socket()
    if many:
        one.open.bind((f"127.0.{one.number % ADDRESSES}.1", 0))
    one.open.setblocking(False)
    one.opened, one.is_begun = time.monotonic(), False
    assert one.open.connect_ex(("127.0.0.1", port)) in (0, errno.EINPROGRESS)
    waiting.register(one.open, selectors.EVENT_READ, one)


def _send(one: _Slow) -> None:
    """Send what it sends next."""
    if one.open is not None and one.says:
        with suppress(OSError):  # it is not let in yet, or was cut off, which reading says too
            one.open.send(b"x" if one.is_begun else one.says)
            one.is_begun = True


def _is_cut(connection: Any) -> bool:
    try:
        while data := connection.recv(4_096):
            if data.startswith(b"HTTP/1.1 "):
                return True  # 408 or 503: it will be closed
    except BlockingIOError:
        return False
    except OSError:
        pass  # reset
    return True


def _close(one: _Slow, waiting: selectors.BaseSelector) -> None:
    assert one.open is not None
    waiting.unregister(one.open)
    one.open.close()
    one.open = None


if __name__ == "__main__":
    sys.stdout.write(json.dumps(attack(**json.load(sys.stdin))) + "\n")
