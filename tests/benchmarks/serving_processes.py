"""The servers that `scripts/bench serve` compares, each in a process of its own: `python -m ... bare | node FOLDER`.

`bare` is stock hypercorn with its Trio worker and the smallest ASGI application: what anything built of it is measured
against. `node` serves the store in a folder with the node's own server and application, and fakes of the rooms that
would dial out. Each prints one line when it can be asked, as `pfn serve` does, and ends with SIGTERM.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_stock
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.server import SWITCH_SECONDS, serve
from pfn_node.settings import Settings
from pfn_node.store.database import Database
from pfn_node.web.app import create_app
from tests.benchmarks.lone_services import lone_services

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server that runs, and where."""

    pid: int
    port: int

    def processor_seconds(self) -> float:
        """What it has used up so far, with all of its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND


@contextmanager
def running(*arguments: str) -> Iterator[ServerProcess]:
    """Starts a server, and ends it."""
    command = [sys.executable, "-m", "tests.benchmarks.serving_processes", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.fullmatch(r"listening on http://.*:(\d+)\n", process.stdout.readline())
            assert found is not None, "the server did not start"
            yield ServerProcess(process.pid, int(found[1]))
        finally:
            process.send_signal(signal.SIGTERM)


async def _bare(stop: trio.Event) -> None:
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.accesslog = None
    async with trio.open_nursery() as nursery:
        start: Any = partial(serve_stock, _hello, config, shutdown_trigger=stop.wait)
        bound = await nursery.start(start)
        _say(f"listening on {bound[0]}")


async def _hello(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    if scope["type"] != "http":
        raise NotImplementedError  # of the lifespan, which is optional
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
    await send({"type": "http.response.body", "body": b"hello", "more_body": False})


async def _node(folder: Path, stop: trio.Event) -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
    database = Database.open(folder / "node.db")
    artifacts = Artifacts(folder / "artifacts", 0)
    artifacts.start()
    settings = Settings(data=folder, url="https://node.test")
    services = lone_services(settings, database, artifacts)
    async with trio.open_nursery() as nursery:
        await nursery.start(database.run_writer)
        async with trio.open_nursery() as serving:
            host, port = await serving.start(partial(serve, create_app(services), shutdown=stop))
            _say(f"listening on http://{host}:{port}")
        database.close()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _until_stopped(run: Callable[[trio.Event], Awaitable[None]]) -> None:
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, stop)
            async for _ in signals:
                break
            stop.set()


if __name__ == "__main__":
    trio.run(_until_stopped, _bare if sys.argv[1] == "bare" else partial(_node, Path(sys.argv[2])))
