"""Commands that ask a running node: status, sources, plugins, peers, keys."""

from pathlib import Path
from typing import Annotated, Any

import trio
import typer
from rich.filesize import decimal as size
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

from pfn_node.cli.client import (
    DEFAULT_NODE,
    ApiError,
    ApiKey,
    AsJson,
    NodeClient,
    NodeUrl,
    path_part,
    run_with_client,
)
from pfn_node.cli.failing import WRONG_USAGE, fail
from pfn_node.cli.get import search
from pfn_node.cli.tables import console, moment, show, show_fields
from pfn_node.cli.verify import public_key_named
from pfn_node.outbound import OutboundError
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import public_key_pem, short_did
from pfn_protocol.names import check_username, parse_instance_url

DOWNLOAD_BYTES_MAX = 512 * 2**20
DOWNLOAD_SECONDS_MAX = 3600.0
SYNC_POLL_SECONDS = 0.5

sources_app = typer.Typer(help="Publishers: list, add, verify, subscribe.", invoke_without_command=True)
plugins_app = typer.Typer(help="Plugins: search, show, download.", invoke_without_command=True)
peers_app = typer.Typer(
    help="The mesh as the node sees it: list, join, leave, pin, block.", invoke_without_command=True
)
keys_app = typer.Typer(help="API keys: list, create, rotate, revoke.", invoke_without_command=True)

plugins_app.command("search")(search)

SourceId = Annotated[str, typer.Argument(metavar="SOURCE", help="username@host")]


def status(node: NodeUrl = DEFAULT_NODE, as_json: AsJson = False) -> None:
    """How the node is."""
    show_fields(run_with_client(node, None, lambda client: client.get("health")), as_json)


# Sources


@sources_app.callback()
def list_sources(
    context: typer.Context,
    node: NodeUrl = DEFAULT_NODE,
    key: ApiKey = None,
    as_json: AsJson = False,
    status: Annotated[str | None, typer.Option(help="Only those with this status.")] = None,
) -> None:
    """List the sources."""
    if context.invoked_subcommand:
        return
    rows = run_with_client(node, key, lambda client: client.get("sources", status=status))
    columns = [("source", "id"), ("status", "status"), ("trust", "trust"), ("plugins", "plugin_count")]
    shown = [row | {"synced": moment(row["last_sync"]), "trust": f"{row['trust_score']:.2f}"} for row in rows]
    show(rows, as_json, [*columns, ("last sync", "synced")], shown)


@sources_app.command("show")
def show_source(source: SourceId, node: NodeUrl = DEFAULT_NODE, as_json: AsJson = False) -> None:
    """How one source stands.

    With it: how its last verifications and syncs went.
    """
    show_fields(run_with_client(node, None, lambda client: client.get("source-status", sourceId=source)), as_json)


@sources_app.command("add")
def add_source(
    instance_url: str,
    username: str,
    public_key: Annotated[str, typer.Argument(help="A PEM file, or the key as base64 or did:key.")],
    node: NodeUrl = DEFAULT_NODE,
    key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Register a publisher.

    The node verifies at once that it holds the key.
    """
    try:
        parse_instance_url(instance_url, allow_http=True)
        check_username(username)
    except Refusal as refusal:
        fail(f"{refusal.sentence}: pfn sources add URL NAME KEY", WRONG_USAGE)
    key_of_source = public_key_pem(public_key_named("KEY", public_key))
    body = {"instance_url": instance_url, "username": username, "public_key": key_of_source}
    show_fields(run_with_client(node, key, lambda client: client.post("add-source", body)), as_json)


@sources_app.command("verify")
def verify_source(source: SourceId, node: NodeUrl = DEFAULT_NODE, key: ApiKey = None, as_json: AsJson = False) -> None:
    """Let the publisher prove its key again, now. Exit code 1 if it cannot."""
    answer = run_with_client(node, key, lambda client: client.post("verify-source", {"sourceId": source}))
    show_fields(answer, as_json)
    if not answer["success"]:
        raise typer.Exit(1)


@sources_app.command("remove")
def remove_source(
    source: SourceId,
    purge: Annotated[bool, typer.Option("--purge", help="Forget its releases and files too.")] = False,
    node: NodeUrl = DEFAULT_NODE,
    key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Stop following a publisher."""
    body = {"sourceId": source, "purge": purge}
    show_fields(run_with_client(node, key, lambda client: client.post("remove-source", body)), as_json)


@sources_app.command("subscribe")
def subscribe(
    source: SourceId,
    tag: Annotated[list[str] | None, typer.Option(help="Only plugins with this tag.")] = None,
    slug: Annotated[list[str] | None, typer.Option(help="Only this plugin.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Not this plugin.")] = None,
    node: NodeUrl = DEFAULT_NODE,
    key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Mirror a publisher's plugins, now and from now on."""
    filters = {"tags": tag or [], "slugs": slug or [], "exclude": exclude or []}
    answer = run_with_client(node, key, lambda client: _subscribe(client, source, filters))
    show_fields(answer | {"source": source}, as_json)


async def _subscribe(client: NodeClient, source: str, filters: dict[str, list[str]]) -> Any:
    """Subscribe, and show how many plugins have come while the node syncs."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(f"mirroring {source}", total=None)

        async def watch() -> None:
            while True:
                await trio.sleep(SYNC_POLL_SECONDS)
                found = await _quietly(client.get("plugins", source=source, limit=1))
                if not isinstance(found, Exception):
                    progress.update(task, description=f"mirroring {source}: {found['total']} plugins here")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            answer = await _quietly(client.post("subscribe", {"sourceId": source, "filters": filters}))
            nursery.cancel_scope.cancel()
    if isinstance(answer, Exception):
        raise answer
    return answer


async def _quietly(call: Any) -> Any:
    """The answer, or what went wrong as a value: raised inside a nursery it would come out wrapped in a group."""
    try:
        return await call
    except (ApiError, OutboundError) as error:
        return error


# Plugins


@plugins_app.callback()
def list_plugins(
    context: typer.Context,
    query: Annotated[str | None, typer.Option("--query", "-q", help="Words to search for.")] = None,
    source: Annotated[str | None, typer.Option(help="Only of this source.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 50,
    node: NodeUrl = DEFAULT_NODE,
    as_json: AsJson = False,
) -> None:
    """List or search the plugins that the node knows."""
    if context.invoked_subcommand:
        return
    answer = run_with_client(node, None, lambda client: client.get("plugins", q=query, source=source, limit=limit))
    columns = [("plugin", "plugin_id"), ("version", "version"), ("assurance", "assurance"), ("source", "source_id")]
    show(answer, as_json, [*columns, ("here", "mirrored"), ("name", "name")], answer["plugins"])


@plugins_app.command("show")
def show_plugin(source: SourceId, plugin: str, node: NodeUrl = DEFAULT_NODE, as_json: AsJson = False) -> None:
    """One plugin with its versions and the evidence for them."""
    call = f"plugins/{path_part(source)}/{path_part(plugin)}"
    show_fields(run_with_client(node, None, lambda client: client.get(call)), as_json)


@plugins_app.command("download")
def download_plugin(
    source: SourceId,
    plugin: str,
    version: Annotated[str | None, typer.Option(help="Default: the newest that is backed.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: PLUGIN.zip here.", dir_okay=False)
    ] = None,
    node: NodeUrl = DEFAULT_NODE,
    as_json: AsJson = False,
) -> None:
    """Download a plugin, and check its digest.

    The file appears only if its bytes have the digest that the node states.
    """
    target = output or Path(f"{plugin}.zip")
    answer = run_with_client(node, None, lambda client: _download(client, source, plugin, version, target))
    show_fields(answer, as_json)


async def _download(client: NodeClient, source: str, plugin: str, version: str | None, target: Path) -> dict[str, Any]:
    evidence = await client.get("verify", sourceId=source, plugin=plugin, version=version)
    partial = target.with_name(target.name + ".part")
    try:
        digest = await _stream_to(
            client, client.url("download", sourceId=source, plugin=plugin, version=version), partial, evidence["size"]
        )
        if digest != evidence["sha256"]:
            fail(f"the bytes that came have sha256 {digest}, not {evidence['sha256']}; nothing was written")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return {"file": str(target), "sha256": digest, "assurance": evidence["assurance"]["level"]}


async def _stream_to(client: NodeClient, url: str, partial: Path, size: int) -> str:
    import hashlib

    digest = hashlib.sha256()
    bars = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*bars, console=console, disable=not console.is_terminal) as progress, partial.open("wb") as file:
        task = progress.add_task(partial.stem, total=size)

        def sink(chunk: bytes) -> None:
            file.write(chunk)
            digest.update(chunk)
            progress.advance(task, len(chunk))

        reply = await client.outbound.download(
            url, sink, bytes_max=DOWNLOAD_BYTES_MAX, seconds_max=DOWNLOAD_SECONDS_MAX, bytes_per_second_min=0
        )
    if reply.status != 200:
        await client.explain_refusal(url)
        raise ApiError(reply.status, f"the node does not serve it (HTTP {reply.status})")
    return digest.hexdigest()


# Peers


@peers_app.callback()
def list_peers(context: typer.Context, node: NodeUrl = DEFAULT_NODE, as_json: AsJson = False) -> None:
    """List the nodes that this one knows, and how it is linked to them."""
    if context.invoked_subcommand:
        return
    answer = run_with_client(node, None, lambda client: client.get("peers"))
    show(answer, as_json, _PEER_COLUMNS, [_peer_cells(peer) for peer in answer["peers"]])


_PEER_COLUMNS = [
    (title, title.replace(" ", "_"))
    for title in (
        "node",
        "url",
        "state",
        "link",
        "pinned",
        "round trip",
        "sent",
        "received",
        "found missing",
        "incomplete",
    )
]


def _peer_cells(peer: dict[str, Any]) -> dict[str, str]:
    """A peer as people read it: what was exchanged since the node started, in announcements and bytes."""
    role = ", ".join(peer["links"])
    asked = "asked for here" if peer["outbound"] else "asked for there"
    return {
        "node": short_did(peer["node_id"]),
        "url": peer["url"] or "-",
        "state": "convicted" if peer["convicted"] else peer["state"],
        "link": f"{role}, {asked}" if role else "-",
        "pinned": "yes" if peer["pinned"] else "no",
        "round_trip": "-" if peer["round_trip_ms"] is None else f"{peer['round_trip_ms']} ms",
        "sent": f"{peer['announcements_sent']} ({size(peer['bytes_sent'])})",
        "received": f"{peer['announcements_received']} ({size(peer['bytes_received'])})",
        "found_missing": str(peer["differences_found"]),
        "incomplete": f"{peer['held']} of {peer['announced']}" if peer["incomplete"] else "-",
    }


@peers_app.command("joins")
def list_joins(node: NodeUrl = DEFAULT_NODE, key: ApiKey = None, as_json: AsJson = False) -> None:
    """List what the node joins, and what it has not reached yet."""
    answer = run_with_client(node, key, lambda client: client.get("joins"))
    columns = [("url", "url"), ("node", "node"), ("problem", "problem")]
    rows = [
        {"url": one["url"], "node": one["node_id"] or "-", "problem": one["problem"] or "-"} for one in answer["joins"]
    ]
    show(answer, as_json, columns, rows)


@peers_app.command("set")
def set_peer(
    action: Annotated[str, typer.Argument(help="join, leave, pin, unpin, block or unblock")],
    peer: Annotated[str, typer.Argument(help="The node's URL, its did:key, or URL#did:key")],
    node: NodeUrl = DEFAULT_NODE,
    key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Join or leave a node, or say whether its word backs bytes here."""
    url, _, node_id = (peer if not peer.startswith("did:") else f"#{peer}").partition("#")
    body = {"action": action} | ({"url": url} if url else {}) | ({"node_id": node_id} if node_id else {})
    show_fields(run_with_client(node, key, lambda client: client.post("peers", body)), as_json)


# Keys


@keys_app.callback()
def list_keys(
    context: typer.Context, node: NodeUrl = DEFAULT_NODE, key: ApiKey = None, as_json: AsJson = False
) -> None:
    """List the API keys (never their secrets)."""
    if context.invoked_subcommand:
        return
    answer = run_with_client(node, key, lambda client: client.get("keys"))
    rows = answer["keys"] if isinstance(answer, dict) else answer
    show(
        answer,
        as_json,
        [("id", "id"), ("description", "description"), ("scopes", "scopes"), ("expires", "expires")],
        rows,
    )


@keys_app.command("create")
def create_key(
    description: str,
    scope: Annotated[list[str] | None, typer.Option(help="Default: all.")] = None,
    days: Annotated[int, typer.Option(help="Days until it expires.", min=1)] = 90,
    node: NodeUrl = DEFAULT_NODE,
    master_key: Annotated[str | None, typer.Option(envvar="PFN_MASTER_KEY", help="The node's master key.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key with the master key; it is shown this once."""
    body = {"description": description, "expires_in_days": days} | ({"scopes": scope} if scope else {})
    made = run_with_client(
        node,
        master_key,
        lambda client: client.post("create-admin-key", body),
        key_from="--master-key or PFN_MASTER_KEY",
    )
    show_fields(made, as_json)


@keys_app.command("rotate")
def rotate_key(
    key_id: str,
    days: Annotated[int, typer.Option(help="Days until the successor expires.", min=1)] = 90,
    overlap_hours: Annotated[int, typer.Option(help="How long the old key still works.", min=0, max=24)] = 24,
    node: NodeUrl = DEFAULT_NODE,
    key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a key's successor, which is shown this once.

    It goes on with the key's subscriptions.
    """
    body = {"id": key_id, "expires_in_days": days, "overlap_hours": overlap_hours}
    show_fields(run_with_client(node, key, lambda client: client.post("rotate-key", body)), as_json)


@keys_app.command("revoke")
def revoke_key(key_id: str, node: NodeUrl = DEFAULT_NODE, key: ApiKey = None, as_json: AsJson = False) -> None:
    """Make a key worthless at once."""
    show_fields(run_with_client(node, key, lambda client: client.post("revoke-key", {"id": key_id})), as_json)
