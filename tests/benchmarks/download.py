"""How fast one node hands out zips, against nginx with sendfile and the same files, and what stalled readers cost.

The zips are real ones: a publisher offers them, the node mirrored and verified them, and they are asked for by the
catalogue's own addresses. Node and nginx take turns, a short while each, with the same four connections' worth of
client; the client keeps nothing and costs both the same. Figures are medians.
"""

import re
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Final
from urllib.parse import urlsplit

import trio

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh, local_mesh
from tests.end_to_end.conftest import download, eventually, follow, offers
from tests.end_to_end.plugins import write_plugin
from tests.proxies.programs import file_server

Figures = dict[str, float | int | str]

SIZES: Final = {"1mb": 1_000_000, "20mb": 20_000_000}
GOALS: Final = {"1mb": 0.15, "20mb": 0.5}
CONNECTIONS: Final = 4
TURNS: Final = 7
TURN_SECONDS: Final = 1.0
STALLED: Final = 100
STALLED_BUFFER_BYTES: Final = 64 * 1024  # what the kernel of a stalled reader takes
STALLED_SECONDS: Final = 8.0  # less than after which the server cuts them
STALLED_GOAL_MIB: Final = 48
AUTHOR: Final = "bench"
FILE_BYTES: Final = 4_000_000
READ_BYTES: Final = 2**20
SECONDS_MAX: Final = 30.0
HEAD_END: Final = b"\r\n\r\n"


def run() -> Figures:
    """Measure; MB are millions of bytes."""
    with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
        return trio.run(_measure, Path(folder))


@dataclass(frozen=True, slots=True)
class Served:
    """Where a file is handed out."""

    address: tuple[str, int]
    path: str


async def _measure(folder: Path) -> Figures:
    async with local_mesh(folder / "mesh") as mesh:
        node, source = await _mirrored(mesh, folder / "plugins")
        process, url = mesh.nodes[0].process, urlsplit(mesh.nodes[0].url)
        assert process is not None and url.hostname is not None and url.port is not None
        figures: Figures = {"connections": CONNECTIONS}
        with file_server(folder / "nginx", folder) as port:
            for name in SIZES:
                status, content = await download(node, source, name)
                assert status == 200, status
                (folder / f"{name}.zip").write_bytes(content)
                ours = Served(
                    (url.hostname, url.port), node.url("download", sourceId=source, plugin=name)[len(node.node) :]
                )
                theirs = Served(("127.0.0.1", port), f"/{name}.zip")
                figures |= await trio.to_thread.run_sync(_compare, name, ours, theirs)
        return figures | await trio.to_thread.run_sync(_stall, process.pid, ours)


async def _mirrored(mesh: LocalMesh, plugins: Path) -> tuple[NodeClient, str]:
    """A node that has mirrored a plugin of each size, and their source."""
    for name, size in SIZES.items():
        write_plugin(plugins, name, "1.0")
        for number, begin in enumerate(range(0, size, FILE_BYTES)):
            noise = Random(f"{name} {number}").randbytes(min(FILE_BYTES, size - begin))
            (plugins / name / f"noise-{number}.dat").write_bytes(noise)
    publisher = await mesh.start_publisher(plugins, AUTHOR)
    node = await mesh.start_node()
    await eventually(lambda: offers(publisher, node, AUTHOR, dict.fromkeys(SIZES, "1.0")))
    source = await follow(node, publisher, AUTHOR)
    answer = await node.post("subscribe", {"sourceId": source})
    assert answer["syncResult"]["mirroredCount"] == len(SIZES), answer
    return node, source


def _compare(name: str, ours: Served, theirs: Served) -> Figures:
    """Take turns; -> MB/s of both, and the ratio."""
    for served in (ours, theirs):
        _megabytes_per_second(served)  # the page cache is filled, the pool of threads is there
    turns = [(_megabytes_per_second(ours), _megabytes_per_second(theirs)) for _ in range(TURNS)]
    return {
        f"node_{name}_mb_per_second": round(median(ours for ours, _ in turns)),
        f"nginx_{name}_mb_per_second": round(median(theirs for _, theirs in turns)),
        f"ratio_{name}_to_nginx": round(median(ours for ours, _ in turns) / median(theirs for _, theirs in turns), 3),
        f"goal_{name}_ratio": GOALS[name],
    }


def _megabytes_per_second(served: Served) -> float:
    """What the connections take together in one turn. Downloads that the end of the turn cuts are counted in part."""
    until = time.perf_counter() + TURN_SECONDS
    started = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        received = sum(pool.map(lambda _: _take(served, until), range(CONNECTIONS)))
    return received / 1e6 / (time.perf_counter() - started)


def _take(served: Served, until: float) -> int:
    """Download again and again on one connection; -> the bytes of the files."""
    received, into = 0, bytearray(READ_BYTES)
    with socket.create_connection(served.address, timeout=SECONDS_MAX) as connection:
        while time.perf_counter() < until:
            connection.sendall(_request(served))
            rest = length = _begin(connection, into)
            while rest and time.perf_counter() < until:
                rest -= connection.recv_into(into, min(rest, READ_BYTES))
            received += length - rest
    return received


def _begin(connection: socket.socket, into: bytearray) -> int:
    """Read the head of an answer; -> how many bytes follow it."""
    head = b""
    while not head.endswith(HEAD_END):
        arrived = connection.recv_into(into, READ_BYTES, socket.MSG_PEEK)
        assert arrived, "the connection was closed"
        end = into.find(HEAD_END, 0, arrived)
        head += connection.recv(arrived if end < 0 else end + len(HEAD_END))
    assert head.startswith(b"HTTP/1.1 200 "), head
    found = re.search(rb"(?i)\r\ncontent-length: ([0-9]+)\r\n", head)
    assert found is not None, head
    return int(found[1])


def _request(served: Served) -> bytes:
    return f"GET {served.path} HTTP/1.1\r\nHost: {served.address[0]}\r\n\r\n".encode()


def _stall(pid: int, served: Served) -> Figures:
    """What readers cost that ask for the file and then read nothing, at the most, while the server waits for them."""
    before = most = _resident_mib(pid)
    with ExitStack() as stack:
        for _ in range(STALLED):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_BUFFER_BYTES)
            reader.connect(served.address)
            reader.sendall(_request(served))
        until = time.perf_counter() + STALLED_SECONDS
        while time.perf_counter() < until:
            time.sleep(0.05)
            most = max(most, _resident_mib(pid))
    return {
        "stalled_readers": STALLED,
        "stalled_more_mib": round(most - before, 1),
        "goal_stalled_more_mib": STALLED_GOAL_MIB,
    }


def _resident_mib(pid: int) -> float:
    found = re.search(r"VmRSS:\s+([0-9]+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
