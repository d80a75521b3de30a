"""A program that runs until it is told to stop: its signals, and the line that says that it is ready."""

import resource
import signal
import sys
from collections.abc import Awaitable, Callable

import structlog
import trio

from pfn_node.cli import service_manager

log = structlog.get_logger()

# A stop has this long beside the time that running requests have; then the process ends all the same.
SHUTDOWN_SECONDS_MAX = 10.0


def allow_many_files() -> None:
    """Raise the soft limit on open files to the hard one: the usual 1,024 is fewer than the connections we allow."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def run_until_stopped(
    run: Callable[[trio.Event], Awaitable[None]], seconds_max: float = SHUTDOWN_SECONDS_MAX
) -> None:
    """Run something that ends when its event is set; set it at SIGTERM or SIGINT; insist after `seconds_max`.

    SIGHUP does the same where a terminal was closed, else nothing. A second signal ends the process at once, as
    a crash would: nothing that was acknowledged is lost by that.
    """
    allow_many_files()
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, stop)
        nursery.start_soon(service_manager.show_life)

        async def run_to_its_end() -> None:
            await run(stop)
            nursery.cancel_scope.cancel()

        nursery.start_soon(run_to_its_end)
        await stop.wait()
        service_manager.notify(service_manager.STOPPING)
        await trio.sleep(seconds_max)  # what ends in time cancels this nursery
        log.warning("stop_forced", seconds=seconds_max)
        nursery.cancel_scope.cancel()


async def _watch_signals(stop: trio.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    has_terminal = sys.stdin is not None and sys.stdin.isatty()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP and not has_terminal:
                continue  # a service is told to read its settings or to turn its logs over, and has neither to do
            stop.set()
            # The kernel's own doing from here on: it works even if the event loop does not turn any more.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def announce_ready(host: str, port: int) -> None:
    """The line that scripts wait for, and what a service manager waits for. Nothing else goes to stdout."""
    shown = f"[{host}]" if ":" in host else host
    print(f"listening on http://{shown}:{port}", flush=True)
    service_manager.notify(service_manager.READY)
