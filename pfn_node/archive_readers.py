"""The processes that look at zips for this node (archive_process.py): a few, started when they are needed.

One of them reads most zips in a millisecond, and takes a hundred of these to start: another one is started only where
those that run are kept busy for longer.
"""

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import structlog
import trio
from pydantic import TypeAdapter, ValidationError

from pfn_node.archive_errors import ArchiveRefused
from pfn_node.archive_process import Examined, Reading
from pfn_node.child_environment import inherited_environment

Examine = Callable[[Path], Awaitable[Examined]]

COMMAND: Final = (sys.executable, "-m", "pfn_node.archive_process")
# All of them use only what nothing else wants of the processor. Where costly zips come together, each has its part.
READERS_MAX: Final = 4
# 20 MiB of the costliest deflate took 2.5 s of a processor, a zip has 100, and readers have what others leave.
SECONDS_MAX: Final = 120.0
PATIENCE_SECONDS: Final = 0.05  # a plugin of 100 kB takes 1 ms; one that takes this long is costly
IDLE_SECONDS: Final = 30.0
END_SECONDS: Final = 2.0
# The headers of a plugin are read from 8 KiB, and JSON makes six characters of one at most.
ANSWER_BYTES_MAX: Final = 256 * 2**10

log = structlog.get_logger()
_READING: Final = TypeAdapter(Reading)


class ArchiveNotRead(OSError):
    """A zip could not be looked at here and now, which says nothing about it."""


class ArchiveReaders:
    """Looks at zips in other processes. `run` must be running: it ends those that nobody needs."""

    def __init__(
        self,
        command: Sequence[str] = COMMAND,
        *,
        idle_seconds: float = IDLE_SECONDS,
        seconds_max: float = SECONDS_MAX,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._command = command
        self._idle_seconds = idle_seconds
        self._seconds_max = seconds_max
        self._patience_seconds = patience_seconds
        self._limiter = trio.CapacityLimiter(READERS_MAX)
        self._front = trio.Lock()
        self._idle: list[_Reader] = []  # the one that was needed last is at the end
        self._busy = 0
        self._given_back = trio.Event()
        self._closed = False

    async def run(self) -> None:
        """End those that nobody has needed for a while, and all of them when this is cancelled."""
        try:
            while True:
                await trio.sleep(self._idle_seconds)
                idle_since = trio.current_time() - self._idle_seconds
                while self._idle and self._idle[0].idle_since <= idle_since:
                    await self._idle.pop(0).end()
        finally:
            self._closed = True
            while self._idle:
                await self._idle.pop().end()

    async def examine(self, path: Path) -> Examined:
        """Have a zip read through. Raises ArchiveRefused, ArchiveNotRead."""
        async with self._limiter:
            reader = await self._take()
            try:
                reading = await reader.read(path, self._seconds_max)
            except BaseException:  # also where nobody waits for it any more: it may be in the middle of a zip
                await reader.kill()
                raise
            finally:
                self._busy -= 1
                self._given_back.set()
            if self._closed:
                await reader.end()
            else:
                self._idle.append(reader)
        if reading.examined is not None:
            return reading.examined
        if reading.refused is not None:
            raise ArchiveRefused(*reading.refused)
        raise ArchiveNotRead(reading.failed)

    async def _take(self) -> "_Reader":
        async with self._front:  # first come, first served
            if self._busy and not self._idle:
                self._given_back = trio.Event()
                with trio.move_on_after(self._patience_seconds):
                    await self._given_back.wait()
            reader = await self._idle_one() or await self._another()
            self._busy += 1
            return reader

    async def _idle_one(self) -> "_Reader | None":
        while self._idle:
            reader = self._idle.pop()
            if reader.is_alive:
                return reader
            await reader.kill()
        return None

    async def _another(self) -> "_Reader":
        reader = await _open(self._command)
        try:
            await reader.start(self._seconds_max)
        except BaseException:
            await reader.kill()
            raise
        return reader


class _Reader:
    """One process, which reads one zip at a time."""

    def __init__(self, process: trio.Process, paths: trio.abc.SendStream, answers: trio.abc.ReceiveStream) -> None:
        self._process = process
        self._paths = paths
        self._answers = answers
        self.idle_since = trio.current_time()

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def start(self, seconds_max: float) -> None:
        """Wait until it has started, which it says by an empty line. Raises as `read`."""
        await self._answer(b"", seconds_max)

    async def read(self, path: Path, seconds_max: float) -> Reading:
        """Have it read a zip. Raises ArchiveNotRead when it takes too long, ends, or answers what it never should."""
        answer = await self._answer(f"{json.dumps(os.fspath(path))}\n".encode(), seconds_max)
        self.idle_since = trio.current_time()
        try:
            return _READING.validate_json(answer)
        except ValidationError as error:
            raise self._failed(error) from error

    async def _answer(self, question: bytes, seconds_max: float) -> bytes:
        try:
            with trio.fail_after(seconds_max):
                await self._paths.send_all(question)
                return await self._line()
        except trio.TooSlowError as error:
            raise ArchiveNotRead(f"it was not read through in {seconds_max:.0f} seconds") from error
        except trio.BrokenResourceError as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> ArchiveNotRead:
        log.error("archive_reader_failed", pid=self._process.pid, reason=str(error)[:200])
        return ArchiveNotRead("the process that reads zips failed")

    async def _line(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):
            piece = await self._answers.receive_some(65536)
            if not piece or len(line) > ANSWER_BYTES_MAX:
                raise trio.BrokenResourceError(f"it ended, or says too much, after {len(line)} bytes of an answer")
            line += piece
        return bytes(line)

    async def end(self) -> None:
        """Have it end by itself, and kill it if it does not."""
        with trio.CancelScope(shield=True):
            await self._paths.aclose()
            with trio.move_on_after(END_SECONDS):
                await self._process.wait()
            await self.kill()

    async def kill(self) -> None:
        """End it at once; safe when it has ended."""
        with trio.CancelScope(shield=True):
            self._process.kill()
            await self._process.wait()
            await self._paths.aclose()
            await self._answers.aclose()


async def _open(command: Sequence[str]) -> _Reader:
    try:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=inherited_environment(),
            start_new_session=True,  # a Ctrl-C at the terminal is for the node, which ends it
        )
    except OSError as error:  # no memory, no descriptors
        log.error("archive_reader_not_started", reason=str(error))
        raise ArchiveNotRead(f"no process could be started that reads zips: {error.strerror}") from error
    assert process.stdin is not None and process.stdout is not None
    return _Reader(process, process.stdin, process.stdout)
