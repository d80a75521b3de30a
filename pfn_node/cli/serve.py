"""`pfn serve`: run a node until it is told to stop."""

import resource
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import structlog
import trio
import typer

from pfn_node import node
from pfn_node.artifacts import ArtifactError
from pfn_node.cli import service_manager
from pfn_node.cli.failing import WRONG_USAGE, fail, sentences
from pfn_node.data_folder import DataFolderError
from pfn_node.logs import configure_logs
from pfn_node.mesh.joining import parse_join_target
from pfn_node.server import ServerError
from pfn_node.settings import SettingsError, load_settings
from pfn_node.store.database import StoreError
from pfn_protocol.errors import Refusal

log = structlog.get_logger()

# A stop has this long beside the time that running requests have; then the process ends all the same.
SHUTDOWN_SECONDS_MAX = 10.0


def serve(
    data: Annotated[Path | None, typer.Option(help="Folder of the node's key, database and artifacts.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [default: 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks one [default: 8470].")] = None,
    url: Annotated[str | None, typer.Option(help="The node's public URL.")] = None,
    mesh: Annotated[str | None, typer.Option(help="Name of the mesh [default: main].")] = None,
    join: Annotated[list[str] | None, typer.Option(help="A node to join: URL or URL#did:key:...")] = None,
    allow_private_networks: Annotated[
        bool | None, typer.Option("--allow-private-networks", help="Dial http and private addresses too.")
    ] = None,
    allowed_host: Annotated[list[str] | None, typer.Option(help="A further Host name to answer to.")] = None,
    trusted_proxy: Annotated[list[str] | None, typer.Option(help="A network whose X-Forwarded-For counts.")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with settings.")] = None,
    log_json: Annotated[bool | None, typer.Option("--log-json", help="Log lines as JSON.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes more that answer what everybody may read [default: 0].")
    ] = None,
) -> None:
    """Run a node.

    Every setting can also come from the environment as PFN_ and its name, or from the file given by --config. API keys
    are made with the master key, which is only taken from PFN_MASTER_KEY or that file; without one nobody makes keys.
    """
    flags = {
        "data": data,
        "host": host,
        "port": port,
        "url": url,
        "mesh": mesh,
        "join": tuple(join) if join else None,
        "allow_private_networks": allow_private_networks,
        "allowed_host": tuple(allowed_host) if allowed_host else None,
        "trusted_proxy": tuple(trusted_proxy) if trusted_proxy else None,
        "log_json": log_json,
        "workers": workers,
    }
    try:
        settings = load_settings(flags, config)
        for target in settings.join:
            parse_join_target(target, allow_http=settings.allow_private_networks)
    except SettingsError as error:
        fail(str(error), WRONG_USAGE)
    except Refusal as refusal:
        fail(f"--join: {refusal.sentence}", WRONG_USAGE)
    configure_logs(as_json=settings.log_json)

    async def run(stop: trio.Event) -> None:
        await node.run(settings, stop=stop, ready=announce_ready)

    try:
        trio.run(run_until_stopped, run, settings.stop_seconds + SHUTDOWN_SECONDS_MAX)
    except* (ArtifactError, DataFolderError, ServerError, StoreError) as failures:
        fail(sentences(failures))
    except* (sqlite3.Error, OSError) as failures:
        fail(f"the data folder {settings.data} cannot be read or written: {sentences(failures)}; check the disk")


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
