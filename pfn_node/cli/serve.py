"""`pfn serve`: run a node until it is told to stop."""

import os
import sqlite3
from pathlib import Path
from typing import Annotated

import structlog
import trio
import typer

from pfn_node import node
from pfn_node.artifacts.errors import ArtifactError
from pfn_node.cli.failing import WRONG_USAGE, fail, reason
from pfn_node.cli.running import SHUTDOWN_SECONDS_MAX, announce_ready, run_until_stopped
from pfn_node.data_folder import DataFolderError
from pfn_node.logs import configure_logs
from pfn_node.mesh.joining import parse_join_target
from pfn_node.server import ServerError
from pfn_node.settings import SettingsError, load_settings, unknown_variables
from pfn_node.store.database import StoreError
from pfn_protocol.errors import Refusal


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
    for name, meant in unknown_variables(os.environ).items():
        structlog.get_logger().warning("setting_unknown", variable=name, meant=meant)

    async def run(stop: trio.Event) -> None:
        await node.run(settings, stop=stop, ready=announce_ready)

    try:
        trio.run(run_until_stopped, run, settings.stop_seconds + SHUTDOWN_SECONDS_MAX)
    except* (ArtifactError, DataFolderError, ServerError, StoreError) as failures:
        fail(reason(failures))
    except* (sqlite3.Error, OSError) as failures:
        fail(f"the data folder {settings.data} cannot be read or written: {reason(failures)}; check the disk")
