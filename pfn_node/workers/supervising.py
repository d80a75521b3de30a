"""The node's side of its workers: starts them, takes what they pass on and what they counted, starts again what dies.

While workers answer, the node lets nobody in itself: everybody comes to them, and whoever needs the node is passed on.
When one of them does not start or cannot be kept alive, it lets clients in as well.
"""

import math
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog
import trio

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactError
from pfn_node.child_environment import inherited_environment
from pfn_node.elsewhere import Passed
from pfn_node.metrics import Counted, Metrics
from pfn_node.server import Listener
from pfn_node.settings import Settings
from pfn_node.web.download_counting import Downloads
from pfn_node.web.rate_limits import SharedRateLimit
from pfn_node.workers import channel as messages
from pfn_node.workers.channel import Channel, Message, channel_pair
from pfn_node.workers.starting import Downloaded, Rate, Start, told

COMMAND: Final = (sys.executable, "-m", "pfn_node.workers.process")
# Connections that were passed on and not looked at yet.
PASSED_WAITING_MAX: Final = 100
# Starting takes a second or two of one processor, ten where it is busy, and all workers may start at once. One that
# takes longer is killed.
START_SECONDS: Final = 60.0
START_SECONDS_A_WORKER: Final = 2.0
# From then on a worker tells what it counted every second.
SILENT_SECONDS_MAX: Final = 60.0
# A worker that is heard for less than that after it was ready, so often in a row, is not started again.
LASTING_SECONDS: Final = 30.0
SHORT_LIVES_MAX: Final = 5
PAUSE_SECONDS: Final = 0.5  # before the second short life; twice as long before each one after that
# Beside the time that running requests have; then it is killed.
STOP_SECONDS: Final = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the node has that workers tell of."""

    metrics: Metrics
    downloads: Downloads
    artifacts: Artifacts


@dataclass(slots=True)
class _Worker:
    number: int
    settled: trio.Event = field(default_factory=trio.Event)  # it answers, or others do in its place
    ready_at: float = math.inf  # in this life
    heard_at: float = -math.inf
    short_lives: int = 0


class Workers:
    """The workers of a node. A context manager that lets go of what they all share."""

    def __init__(self, settings: Settings, listener: Listener, node_id: bytes, url: str | None) -> None:
        self._settings = settings
        self._listener = listener
        self._node_id = node_id
        self._url = url
        self._open = ExitStack()
        counted = os.memfd_create("pfn-rate")
        self._open.callback(os.close, counted)
        os.truncate(counted, SharedRateLimit.SIZE)
        self._rate = Rate(file=counted, secret=secrets.token_hex(16).encode())
        self._pass, taken = trio.open_memory_channel[tuple[socket.socket, bytes]](PASSED_WAITING_MAX)
        self.passed = Passed(taken, trio.Event())

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *failure: object) -> None:
        self._open.close()

    def rate(self) -> SharedRateLimit:
        """The limit that they and the node count together."""
        return self._rate.limit(self._settings)

    async def run(
        self, stop: trio.Event, rooms: Rooms, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep them alive until `stop`, and end them then. Started when each answers, or the node does in its place."""
        workers = [_Worker(number) for number in range(1, self._settings.workers + 1)]
        async with trio.open_nursery() as nursery:
            for worker in workers:
                nursery.start_soon(self._keep_alive, worker, stop, rooms)
            for worker in workers:
                await worker.settled.wait()
            task_status.started()

    async def _keep_alive(self, worker: _Worker, stop: trio.Event, rooms: Rooms) -> None:
        while not stop.is_set():
            worker.ready_at = math.inf
            await self._live(worker, stop, rooms)
            if stop.is_set():
                break
            rooms.metrics.worker_ends.inc()
            if worker.ready_at == math.inf:
                self.passed.alone.set()
                worker.settled.set()
            has_lasted = worker.heard_at - worker.ready_at >= LASTING_SECONDS
            worker.short_lives = 0 if has_lasted else worker.short_lives + 1
            if worker.short_lives > SHORT_LIVES_MAX:
                log.error("worker_given_up", worker=worker.number, lives=worker.short_lives)
                self.passed.alone.set()
                break
            if worker.short_lives:
                await _either(stop.wait, partial(trio.sleep, PAUSE_SECONDS * 2 ** (worker.short_lives - 1)))
        worker.settled.set()

    async def _live(self, worker: _Worker, stop: trio.Event, rooms: Rooms) -> None:
        """Start a worker, and hear it until it ends, by itself or because the node stops."""
        try:
            ours, theirs = channel_pair()
            channel = Channel(ours)
            try:
                with theirs:
                    process = await self._start(theirs)
            except OSError:
                channel.close()
                raise
        except OSError as error:  # no memory, no descriptors; or the node stops, and nobody listens any more
            log.error("worker_not_started", worker=worker.number, reason=str(error))
            return
        log.info("worker_started", worker=worker.number, pid=process.pid)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_with, stop, channel, process)
                await self._hear(worker, channel, rooms)
                nursery.cancel_scope.cancel()
        finally:
            channel.close()
            with trio.CancelScope(shield=True):  # nobody is left behind
                with trio.move_on_after(STOP_SECONDS):
                    await process.wait()
                process.kill()
                await process.wait()
        if stop.is_set():
            log.info("worker_ended", worker=worker.number, pid=process.pid)
        else:
            log.error("worker_died", worker=worker.number, pid=process.pid, code=process.returncode)

    async def _start(self, channel: socket.socket) -> trio.Process:
        inherited = (channel.fileno(), self._listener.socket.fileno(), self._rate.file)
        start = Start(
            settings=told(self._settings),
            node_id=self._node_id.hex(),
            url=self._url,
            listener=inherited[1],
            channel=inherited[0],
            rate=self._rate,
        )
        process = await trio.lowlevel.open_process(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=inherited,
            env=inherited_environment(),
        )
        assert process.stdin is not None
        with suppress(trio.BrokenResourceError):  # it ended already, which its channel will say
            await process.stdin.send_all(start.model_dump_json().encode())
        await process.stdin.aclose()
        return process

    async def _stop_with(self, stop: trio.Event, channel: Channel, process: trio.Process) -> None:
        await stop.wait()
        with suppress(OSError):
            await channel.send(messages.STOP)
        await trio.sleep(self._settings.stop_seconds + STOP_SECONDS)
        process.kill()

    async def _hear(self, worker: _Worker, channel: Channel, rooms: Rooms) -> None:
        """Take what a worker says, until it ends. One that says nothing for so long is taken for dead."""
        start_until = trio.current_time() + START_SECONDS + START_SECONDS_A_WORKER * self._settings.workers
        with suppress(OSError), trio.CancelScope() as hearing:
            try:
                while True:
                    is_ready = worker.ready_at < math.inf
                    hearing.deadline = trio.current_time() + SILENT_SECONDS_MAX if is_ready else start_until
                    message = await channel.receive()
                    hearing.deadline = math.inf
                    worker.heard_at = trio.current_time()
                    if message is None:
                        break
                    if message.kind == messages.READY:
                        worker.ready_at = trio.current_time()
                        rooms.metrics.workers.inc()
                        worker.settled.set()
                        log.info("worker_ready", worker=worker.number)
                    else:
                        await self._take(message, rooms)
            finally:
                if worker.ready_at < math.inf:
                    rooms.metrics.workers.dec()

    async def _take(self, message: Message, rooms: Rooms) -> None:
        if message.kind == messages.CONNECTION:
            if message.connection is None:
                return  # it was lost for want of a descriptor
            try:
                await self._pass.send((message.connection, message.data))
            except trio.BrokenResourceError:  # the node stops
                message.connection.close()
        elif message.kind == messages.COUNTED:
            rooms.metrics.add_counted(Counted.model_validate_json(message.data))
        elif message.kind == messages.DOWNLOADS:
            for version, times in Downloaded.model_validate_json(message.data).versions:
                rooms.downloads.add(version, times)
        else:
            assert message.kind == messages.DAMAGED
            # What it finds out it notes; where it cannot read now, the next one who asks for the zip has it read.
            with suppress(ArtifactError, OSError):
                await trio.to_thread.run_sync(partial(rooms.artifacts.check, message.data, again=True))


async def _either(*waits: Callable[[], Awaitable[object]]) -> None:
    async def wait_for(one: Callable[[], Awaitable[object]]) -> None:
        await one()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for one in waits:
            nursery.start_soon(wait_for, one)
