"""A worker: `python -m pfn_node.workers.process`, which the node starts and tells the rest (starting.py).

It ends when the node says so, or is gone: then at once, whatever is under way, so that nobody listens on the port of a
node that does not run.
"""

import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from itertools import islice

import structlog
import trio

from pfn_node import malloc
from pfn_node.logs import configure_logs
from pfn_node.metrics import CountingMetrics
from pfn_node.server import SWITCH_SECONDS, Listener, serve
from pfn_node.settings import Settings
from pfn_node.store.database import reader
from pfn_node.web.app import create_app
from pfn_node.web.services import Services
from pfn_node.workers import channel as messages
from pfn_node.workers.channel import Channel
from pfn_node.workers.choosing import Choosing
from pfn_node.workers.rooms import ReadArtifacts, ReadDatabase, services_of_worker
from pfn_node.workers.starting import Downloaded, Start, limits_of_worker

REPORT_SECONDS = 1.0  # what a worker that dies may not have told
DAMAGED_WAITING_MAX = 100
FIGURES_A_MESSAGE = 200  # of each kind, of which requests and durations have some hundred bytes
DOWNLOADS_A_MESSAGE = 50  # each version of which has names of some hundred bytes

log = structlog.get_logger()


class Passer(Choosing):
    """Passes connections on to the node."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(trio.current_time)
        self._channel = channel

    async def pass_on(self, connection: trio.socket.SocketType, data: bytes) -> None:
        """Give a connection, and what was read of it, to the node. Raises OSError where that is gone."""
        await self._channel.send(messages.CONNECTION, data, connection.fileno())


async def work(start: Start) -> None:
    """Answer requests until the node says that it is enough."""
    settings = Settings(**start.settings)
    channel = Channel(socket.socket(fileno=start.channel))
    bound = socket.socket(fileno=start.listener)
    listener = Listener(bound, *bound.getsockname()[:2])
    stop = trio.Event()
    metrics = CountingMetrics()
    found_damage, damaged = trio.open_memory_channel[bytes](DAMAGED_WAITING_MAX)
    token = trio.lowlevel.current_trio_token()

    def on_damage(sha256: bytes) -> None:
        with suppress(trio.WouldBlock, trio.RunFinishedError):
            trio.from_thread.run_sync(found_damage.send_nowait, sha256, trio_token=token)

    with reader(settings.data / "node.db") as connection:
        database = ReadDatabase(settings.data / "node.db", connection, metrics)
        artifacts = ReadArtifacts(settings.data / "artifacts", on_damage)
        rate = start.rate.limit(settings)
        services = services_of_worker(
            settings, database, artifacts, bytes.fromhex(start.node_id), start.url, metrics, rate
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, channel, stop)
            nursery.start_soon(_stop_at_sigterm, stop)
            nursery.start_soon(metrics.watch_loop)
            nursery.start_soon(malloc.give_back_for_ever)
            nursery.start_soon(_report_on, channel, services, metrics)
            nursery.start_soon(_tell_of_damage, channel, damaged)
            async with trio.open_nursery() as serving:
                passer, limits = Passer(channel), limits_of_worker(settings)
                start_serving = partial(serve, listener=listener, shutdown=stop, limits=limits, passing=passer)
                await serving.start(start_serving, create_app(services))
                await channel.send(messages.READY)
                await stop.wait()
                services.stopping.begin()
            await _report(channel, services, metrics)
            nursery.cancel_scope.cancel()
        database.close()


async def _listen(channel: Channel, stop: trio.Event) -> None:
    with suppress(OSError):
        while (message := await channel.receive()) is not None:
            assert message.kind == messages.STOP
            stop.set()
    os._exit(1)


async def _stop_at_sigterm(stop: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            stop.set()


async def _report_on(channel: Channel, services: Services, metrics: CountingMetrics) -> None:
    while True:
        await trio.sleep(REPORT_SECONDS)
        await _report(channel, services, metrics)


async def _report(channel: Channel, services: Services, metrics: CountingMetrics) -> None:
    """Tell what was counted."""
    counted = metrics.take()
    with suppress(OSError):  # the node is gone: so is this process, soon
        for part in counted.parts(FIGURES_A_MESSAGE):
            await channel.send(messages.COUNTED, part.model_dump_json().encode())
        downloads = iter(services.downloads.take().items())
        while some := list(islice(downloads, DOWNLOADS_A_MESSAGE)):
            await channel.send(messages.DOWNLOADS, Downloaded(versions=some).model_dump_json().encode())


async def _tell_of_damage(channel: Channel, damaged: trio.MemoryReceiveChannel[bytes]) -> None:
    async for sha256 in damaged:
        with suppress(OSError):
            await channel.send(messages.DAMAGED, sha256)


def main() -> None:
    """Read what there is to know, and work."""
    start = Start.model_validate_json(sys.stdin.buffer.read())
    # Those of a terminal are for the node, which says what follows from them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_SECONDS)
    malloc.configure()
    configure_logs(as_json=bool(start.settings["log_json"]))
    trio.run(work, start)


if __name__ == "__main__":
    main()
