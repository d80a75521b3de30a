"""`pfn mesh up` and `pfn demo`: a whole mesh on this machine, made of real processes."""

import json
import shutil
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from pfn_node.cli.client import ApiError, AsJson, NodeClient
from pfn_node.cli.failing import fail, reason
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess, ProcessError, local_mesh
from pfn_node.cli.running import run_until_stopped
from pfn_node.cli.tables import console
from pfn_node.outbound import OutboundError
from pfn_node.publisher import SAMPLES

app = typer.Typer(help="Several nodes on this machine.", no_args_is_help=True)

NODES_MAX = 64
SPREAD_SECONDS_MAX = 60.0
POLL_SECONDS = 0.1
# One publisher that signs the bytes of its releases, and one that behaves as the original publisher software does.
PROFILES = ("v2", "original")


class DemoError(Exception):
    """The demonstration did not show what it is there to show."""


@app.command("up")
def up(
    nodes: Annotated[int, typer.Option(min=1, max=NODES_MAX, help="How many nodes.")] = 3,
    data: Annotated[Path | None, typer.Option(help="Keep everything here [default: a temporary folder].")] = None,
    as_json: AsJson = False,
) -> None:
    """Start nodes that pin each other, and two demo publishers.

    They stay up until Ctrl-C.
    """
    console.quiet = as_json
    _run(data, _mesh_up, nodes)


def demo(
    check: Annotated[bool, typer.Option("--check", help="End by itself; the last line is JSON.")] = False,
    data: Annotated[Path | None, typer.Option(help="Keep everything here [default: a temporary folder].")] = None,
) -> None:
    """Show a plugin spread, and outlive its publisher.

    One that only node A follows reaches B and C, and is served there when its publisher is dead.
    """
    _run(data, _demo, check)


def _run(data: Path | None, work: Any, argument: Any) -> None:
    temporary = None if data else tempfile.TemporaryDirectory(prefix="pfn-mesh-")
    folder = data or Path(str(temporary.name if temporary else ""))

    async def run(stop: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when, stop, nursery.cancel_scope)
            await work(folder, argument)
            nursery.cancel_scope.cancel()
        if stop.is_set():
            console.print("stopped")

    try:
        trio.run(run_until_stopped, run)
    except* (ProcessError, DemoError, ApiError, OutboundError, OSError) as failures:
        fail(reason(failures))
    finally:
        if temporary:
            temporary.cleanup()


async def _cancel_when(stop: trio.Event, scope: trio.CancelScope) -> None:
    """End the work in order when the process is told to stop: its own processes must not outlive it."""
    await stop.wait()
    scope.cancel()


async def _mesh_up(folder: Path, nodes: int) -> None:
    async with local_mesh(folder) as mesh:
        await _start(mesh, nodes)
        await _follow_publishers(mesh)
        _print_addresses(mesh)
        await trio.sleep_forever()


async def _demo(folder: Path, check: bool) -> None:
    started = time.monotonic()
    async with local_mesh(folder) as mesh:
        await _start(mesh, 3)
        summary = await _show_main_job(mesh)
        summary["seconds"] = round(time.monotonic() - started, 1)
        if check:
            print(json.dumps(summary), flush=True)
            return
        for publisher in mesh.publishers:
            if publisher.process is None:
                await publisher.start()
        _print_addresses(mesh)
        await trio.sleep_forever()


async def _start(mesh: LocalMesh, nodes: int) -> None:
    for client, node in zip(await mesh.start_nodes(nodes), mesh.nodes, strict=True):
        console.print(f"node {node.name[-1].upper()} listens on {client.node}")
    await mesh.pin_all()
    for author, profile in zip(
        sorted(folder.name for folder in SAMPLES.iterdir() if folder.is_dir()), PROFILES, strict=True
    ):
        plugins = mesh.folder / f"plugins-{author}"
        if not plugins.exists():
            shutil.copytree(SAMPLES / author, plugins)
        publisher = await mesh.start_publisher(plugins, author, profile)
        console.print(f"publisher {author} ({profile}) listens on {publisher.url}")


async def _follow_publishers(mesh: LocalMesh) -> list[str]:
    """Register both publishers with node A, unless an earlier run did, and subscribe; answers their source ids."""
    client = mesh.clients[0]
    known = {(row["instance_url"], row["username"]): row["id"] for row in await client.get("sources")}
    sources = []
    for publisher in mesh.publishers:
        author = publisher.name.removeprefix("publisher-")
        info = await mesh.outbound.fetch("GET", f"{publisher.url}/federation-info", bytes_max=2**20, seconds_max=10.0)
        body = {"instance_url": publisher.url, "username": author, "public_key": json.loads(info.body)["publicKey"]}
        source = known.get((publisher.url, author)) or (await client.post("add-source", body))["source_id"]
        await client.post("verify-source", {"sourceId": source})
        answer = await client.post("subscribe", {"sourceId": source})
        held = answer["syncResult"]
        console.print(f"node A mirrors {held['mirroredCount']} of {held['totalPlugins']} plugins of {source}")
        sources.append(source)
    return sources


async def _show_main_job(mesh: LocalMesh) -> dict[str, Any]:
    sources = await _follow_publishers(mesh)
    a, *others = mesh.clients
    known = await _digests(a)
    if not known:
        raise DemoError("node A mirrored nothing")
    with trio.move_on_after(SPREAD_SECONDS_MAX) as waiting:
        for client in others:
            while await _digests(client) != known:
                await trio.sleep(POLL_SECONDS)
    if waiting.cancelled_caught:
        raise DemoError("the plugins did not reach every node in time")
    console.print(f"nodes B and C list the same {len(known)} plugins, though only A follows the publishers")

    publisher, source = mesh.publishers[0], sources[0]
    plugin = min(plugin for its_source, plugin in known if its_source == source)
    original = await _download_from_publisher(mesh, publisher, plugin)
    await publisher.kill()
    console.print(f"publisher {publisher.name.removeprefix('publisher-')} was killed")

    c = mesh.clients[-1]
    served = await c.outbound.fetch(
        "GET", c.url("download", sourceId=source, plugin=plugin), bytes_max=2**27, seconds_max=60.0
    )
    if served.status != 200 or served.body != original:
        raise DemoError(f"node C answered {served.status} and not the publisher's bytes")
    evidence = await c.get("verify", sourceId=source, plugin=plugin)
    if not evidence["valid"]:
        raise DemoError(f"node C cannot prove {plugin}: {evidence}")
    digest = sha256(original).hexdigest()
    level = evidence["assurance"]["level"]
    console.print(f"node C serves {plugin} byte for byte (sha256 {digest[:12]}..., {level}) without its publisher")
    return {
        "nodes": len(mesh.nodes),
        "plugins": len(known),
        "digest": digest,
        "served_after_publisher_died": True,
    }


async def _digests(client: NodeClient) -> dict[tuple[str, str], str]:
    """What a node lists and would serve: digest by (source, plugin)."""
    answer = await client.get("plugins", min_assurance="A0", limit=100)
    return {(row["source_id"], row["plugin_id"]): row["sha256"] for row in answer["plugins"]}


async def _download_from_publisher(mesh: LocalMesh, publisher: LocalProcess, plugin: str) -> bytes:
    author = publisher.name.removeprefix("publisher-")
    data = await mesh.outbound.fetch(
        "GET", f"{publisher.url}/author-data?author={author}", bytes_max=2**22, seconds_max=10.0
    )
    version = next(entry["version"] for entry in json.loads(data.body)["plugins"] if entry["slug"] == plugin)
    url = f"{publisher.url}/federated/download?author={author}&slug={plugin}&version={version}"
    answer = await mesh.outbound.fetch("GET", url, bytes_max=2**27, seconds_max=60.0)
    if answer.status != 200:
        raise DemoError(f"the publisher answered {answer.status} for {plugin}")
    return answer.body


def _print_addresses(mesh: LocalMesh) -> None:
    keys = [client.headers["Authorization"].removeprefix("Bearer ") for client in mesh.clients]
    nodes = [{"name": node.name, "url": node.url, "key": key} for node, key in zip(mesh.nodes, keys, strict=True)]
    publishers = [{"name": publisher.name, "url": publisher.url} for publisher in mesh.publishers]
    if console.quiet:
        print(json.dumps({"nodes": nodes, "publishers": publishers}), flush=True)
        return
    console.print("\nopen one of these; Ctrl-C stops everything")
    for node in nodes:
        console.print(f"  {node['name']}  {node['url']}  docs {node['url']}/docs  key {node['key']}")
    for publisher in publishers:
        console.print(f"  {publisher['name']}  {publisher['url']}/federation-info")
