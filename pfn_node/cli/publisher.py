"""`pfn publisher`: serve a folder of plugins as a publisher, or sign releases offline."""

import json
from pathlib import Path
from typing import Annotated

import trio
import typer

from pfn_node.cli.failing import fail, sentences
from pfn_node.cli.serve import announce_ready, run_until_stopped
from pfn_node.logs import configure_logs
from pfn_node.publisher.app import Profile, PublisherError, serve_publisher, sign_zip
from pfn_node.server import ServerError

app = typer.Typer(help="A small reference publisher.", no_args_is_help=True)


@app.command("serve")
def serve(
    folder: Annotated[Path, typer.Argument(help="Plugin folders and zips.", exists=True, file_okay=False)],
    author: Annotated[str, typer.Option(help="The author's name at this publisher.")],
    data: Annotated[Path, typer.Option(help="Folder of the publisher's keys; made at the first start.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks one.")] = 8480,
    url: Annotated[str | None, typer.Option(help="The publisher's public URL [default: where it listens].")] = None,
    profile: Annotated[
        Profile, typer.Option(help="v2 signs bytes; original and none are there to test nodes.")
    ] = Profile.V2,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log lines as JSON.")] = False,
) -> None:
    """Serve the plugins in FOLDER until stopped; what changes in it is seen without a restart."""
    configure_logs(as_json=log_json)

    async def run(stop: trio.Event) -> None:
        await serve_publisher(
            folder,
            author=author,
            data=data,
            host=host,
            port=port,
            url=url,
            profile=profile,
            shutdown=stop,
            ready=announce_ready,
        )

    try:
        trio.run(run_until_stopped, run)
    except* (PublisherError, ServerError) as failures:
        fail(sentences(failures))


@app.command("sign")
def sign(
    file: Annotated[Path, typer.Argument(metavar="ZIP", help="The plugin zip.", exists=True, dir_okay=False)],
    author: Annotated[str, typer.Option(help="The author's name at the publisher.")],
    origin: Annotated[str, typer.Option(help="The publisher's URL, as nodes know it.")],
    data: Annotated[Path, typer.Option(help="Folder of the publisher's keys.")],
) -> None:
    """Sign a release offline; prints what POST /federation/releases of any node takes."""
    try:
        statement = sign_zip(file, author=author, origin=origin, data=data)
    except PublisherError as error:
        fail(str(error))
    print(json.dumps(statement))
