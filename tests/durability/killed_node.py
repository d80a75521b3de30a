"""A node that is killed again and again: started by a fork that costs little, or by a fresh interpreter."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Self

from tests.conformance.node_process import READY_PREFIX, Node


def plain_environment() -> dict[str, str]:
    """The environment without the settings of a node, and without coverage, which would be measured as well."""
    return {name: text for name, text in os.environ.items() if not name.startswith(("PFN_", "COVERAGE"))}


@dataclass
class Starter:
    """The process that forks. A context manager."""

    environment: dict[str, str]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.durability.starter"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=plain_environment() | self.environment,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def fork(self, output: str, log: str, arguments: list[str]) -> int:
        """The id of a process that runs `pfn ARGUMENTS`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([output, log, *arguments]) + "\n")
        self._process.stdin.flush()
        return int(self._line())

    def wait(self) -> None:
        """Until the process that was forked last has ended."""
        assert self._line() == "ended"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@dataclass
class KilledNode(Node):
    """Started, killed and started again. `ready_seconds`: how long starts by a fresh interpreter took."""

    starter: Starter | None = None
    ready_seconds: list[float] = field(default_factory=list)
    forked: int = 0

    def begin(self, *, fresh: bool) -> None:
        """Start it without waiting for it."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.began = monotonic()
        if fresh or self.starter is None:
            self._begin_fresh()
            return
        output = self.folder.with_suffix(".out")
        output.unlink(missing_ok=True)
        os.mkfifo(output)
        self.forked = self.starter.fork(str(output), str(self.log), self._arguments())
        self._ready = os.open(output, os.O_RDONLY)

    def _begin_fresh(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pfn_node", *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=plain_environment() | {"PFN_MASTER_KEY": self.master_key} | dict(self.settings),
            )
        assert self.process.stdout is not None
        self._ready = self.process.stdout.fileno()

    def _arguments(self) -> list[str]:
        return ["serve", "--data", str(self.folder), "--port", str(self.port), *self.flags]

    def wait_ready(self) -> float:
        """Until it answers; returns the seconds since it was begun."""
        assert self.becomes_ready(), self.log.read_text(errors="replace")[-3000:]
        took = monotonic() - self.began
        if self.process is not None:
            self.ready_seconds.append(took)
        if not self.key:
            self.key = self.post("create-admin-key", {"description": "operator"}, key=self.master_key).json["key"]
        return took

    def becomes_ready(self) -> bool:
        """Whether it prints its address, rather than ending before."""
        line = b""
        while not line.endswith(b"\n") and (data := os.read(self._ready, 4096)):
            line += data
        if not line:
            return False
        assert line.startswith(READY_PREFIX.encode()), line
        self.url = line.decode().removeprefix(READY_PREFIX).strip()
        return True

    def kill(self) -> None:
        """SIGKILL, and wait until nothing of it is left."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None
        elif self.forked:
            assert self.starter is not None
            with suppress(ProcessLookupError):  # it has ended by itself
                os.kill(self.forked, signal.SIGKILL)
            os.close(self._ready)
            self.starter.wait()
            self.forked = 0
