"""What is async, for tests that are not: it lives in a thread of its own, because Playwright's plain interface and Trio
cannot share one."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

T = TypeVar("T")
R = TypeVar("R")

START_SECONDS_MAX = 90.0


@dataclass
class TrioThread(Generic[T]):
    """A thread that holds what an async context manager yields."""

    make: Callable[[], AbstractAsyncContextManager[T]]
    begun: threading.Event = field(default_factory=threading.Event)
    over: trio.Event = field(default_factory=trio.Event)
    token: trio.lowlevel.TrioToken | None = None
    held: T | None = None
    failure: BaseException | None = None

    def call(self, work: Callable[[], Awaitable[R]]) -> R:
        """Run an async function there, and wait for what it answers."""
        return trio.from_thread.run(work, trio_token=self.token)

    def live(self) -> None:
        """The thread's own course."""
        try:
            trio.run(self._live)
        except BaseException as failure:  # told to the thread that waits
            self.failure = failure
        finally:
            self.begun.set()

    async def _live(self) -> None:
        self.token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_over, nursery.cancel_scope)
            async with self.make() as held:
                self.held = held
                self.begun.set()
                await trio.sleep_forever()

    async def _cancel_when_over(self, scope: trio.CancelScope) -> None:
        await self.over.wait()
        scope.cancel()

    def end(self) -> None:
        """Let everything end in order."""
        if self.token is not None:
            try:
                self.token.run_sync_soon(self.over.set)
            except trio.RunFinishedError:
                pass  # it has failed by itself


@contextmanager
def in_a_thread(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[tuple[T, TrioThread[T]]]:
    """What `make` yields, until the block ends. Raises RuntimeError if it could not be made or ended in order."""
    held = TrioThread(make)
    thread = threading.Thread(target=held.live, name="trio of the browser tests")
    thread.start()
    try:
        if not held.begun.wait(START_SECONDS_MAX) or held.held is None:
            raise RuntimeError("what the tests need did not start") from held.failure
        yield held.held, held
    finally:
        held.end()
        thread.join()
    if held.failure is not None:
        raise RuntimeError("what the tests needed did not end in order") from held.failure
