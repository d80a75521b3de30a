"""A real node in a process of its own that lets a test look inside: `python -m tests.observed_node SETTINGS NAMES`.

SETTINGS and NAMES are JSON: the node's settings, and which names lead to which addresses (no other name resolves, and
nobody waits for a resolver). It prints its URL; then every line on its standard input is answered by one with figures.
"""

import gc
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import trio

from pfn_node import node
from pfn_node.logs import configure_logs
from pfn_node.settings import Settings

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 10.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

IPv4Record = tuple[Literal[socket.AddressFamily.AF_INET], socket.SocketKind, int, str, tuple[str, int]]


@dataclass(frozen=True)
class Figures:
    """What a node takes up. Descriptors without those of the store, whose readers are made when they are needed.

    `doing` is what its tasks are, by name; `memory` is what of it lies in memory, in bytes; `memory_peak` the most that
    ever did.
    """

    tasks: int
    doing: dict[str, int]
    descriptors: int
    memory: int
    memory_peak: int


@dataclass
class ObservedNode:
    """The process, seen from the test."""

    url: str
    process: trio.Process
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def figures(self) -> Figures:
        """What the node takes up now, garbage aside."""
        assert self.process.stdin is not None and self.process.stdout is not None
        await self.process.stdin.send_all(b"\n")
        return Figures(**json.loads(await _line(self.process.stdout)))

    def mistakes(self) -> list[str]:
        """What its log says that no stranger may cause."""
        signs = ("request_failed", "connection_failed", "store_failed", "Traceback", "critical", "mesh_cannot_go_on")
        return [
            line for line in self.log.read_text(errors="replace").splitlines() if any(sign in line for sign in signs)
        ]


@asynccontextmanager
async def observed_node(
    folder: Path,
    *,
    names: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[ObservedNode]:
    """A node on this data folder, until the block ends; without coverage, which would be measured as well."""
    given = json.dumps({"data": str(folder), "port": 0, **settings})
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    log = folder.with_suffix(".log")
    with log.open("wb") as stderr:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "tests.observed_node", given, json.dumps(dict(names or {}))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env={**plain, **(environment or {})},
        )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    try:
        with trio.fail_after(START_SECONDS_MAX):
            url = (await _line(process.stdout)).decode()
        assert url.startswith("http://"), log.read_text()
        yield ObservedNode(url, process, log)
    finally:
        with trio.CancelScope(shield=True):
            await process.stdin.aclose()
            with trio.move_on_after(STOP_SECONDS_MAX):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
            await process.stdout.aclose()
    assert process.returncode == 0, log.read_text()[-2000:]


async def _line(stream: trio.abc.ReceiveStream) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        data = await stream.receive_some(4096)
        if not data:
            break
        line += data
    return bytes(line).strip()


class _Names(trio.abc.HostnameResolver):
    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._addresses = addresses

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        await trio.lowlevel.checkpoint()
        address = self._addresses.get((host or b"").decode())
        if address is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        record: IPv4Record = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port or 0)))
        return [record]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError("nobody asks for names of addresses")


def _figures() -> dict[str, Any]:
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "tasks": trio.lowlevel.current_statistics().tasks_living,
        "doing": Counter(task.name for task in _tasks(trio.lowlevel.current_root_task())),
        "descriptors": sum("/node.db" not in _target(name) for name in os.listdir("/proc/self/fd")),
        "memory": int(status["VmRSS"].split()[0]) * 1024,
        "memory_peak": int(status["VmHWM"].split()[0]) * 1024,
    }


def _tasks(task: trio.lowlevel.Task | None) -> Iterator[trio.lowlevel.Task]:
    if task is not None:
        yield task
        for nursery in task.child_nurseries:
            for child in nursery.child_tasks:
                yield from _tasks(child)


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return ""  # the one that listed them


async def _main() -> None:
    configure_logs(as_json=False)
    trio.socket.set_custom_hostname_resolver(_Names(json.loads(sys.argv[2])))
    settings = Settings(**json.loads(sys.argv[1]))
    stop, ready = trio.Event(), trio.Event()
    address = ""

    def announce(host: str, port: int) -> None:
        nonlocal address
        address = f"http://{host}:{port}"
        ready.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(node.run, settings, stop=stop, ready=announce))
        await ready.wait()
        questions, answers = trio.lowlevel.FdStream(os.dup(0)), trio.lowlevel.FdStream(os.dup(1))
        await answers.send_all(address.encode() + b"\n")
        while await questions.receive_some(1):
            await answers.send_all(json.dumps(_figures()).encode() + b"\n")
        stop.set()


if __name__ == "__main__":
    trio.run(_main)
