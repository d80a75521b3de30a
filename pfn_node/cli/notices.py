"""`pfn advisories`: what is known to be wrong with releases; yanking and taking them down; handing notices in."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pfn_node.cli.client import DEFAULT_NODE, ApiKey, AsJson, NodeUrl, run_with_client
from pfn_node.cli.failing import fail
from pfn_node.cli.tables import moment, show, show_fields

app = typer.Typer(help="What is wrong with releases: list it, say it, take them down.", invoke_without_command=True)

SourceId = Annotated[str, typer.Argument(metavar="SOURCE", help="username@host")]
Plugin = Annotated[str, typer.Argument(help="The plugin's slug.")]
Version = Annotated[str, typer.Argument()]
Reason = Annotated[str | None, typer.Option(help="A sentence for people.")]
Withdraw = Annotated[bool, typer.Option("--withdraw", help="Take it back.")]


@app.callback()
def list_advisories(
    context: typer.Context,
    node: NodeUrl = DEFAULT_NODE,
    as_json: AsJson = False,
    source: Annotated[str | None, typer.Option(help="Only of this source.")] = None,
    plugin: Annotated[str | None, typer.Option(help="Only about this plugin.")] = None,
) -> None:
    """List yanks and advisories, whoever says them."""
    if context.invoked_subcommand:
        return
    answer = run_with_client(node, None, lambda client: client.get("advisories", sourceId=source, plugin=plugin))
    rows = answer["notices"]
    columns = [("kind", "kind"), ("source", "source_id"), ("plugin", "plugin_id"), ("about", "about"), ("by", "by")]
    shown = [row | {"heard": moment(row["at"]), "counts": "yes" if row["acts"] else "no"} for row in rows]
    show(rows, as_json, [*columns, ("counts here", "counts"), ("heard", "heard")], shown)


@app.command("yank")
def yank(
    source: SourceId,
    plugin: Plugin,
    version: Version,
    reason: Reason = None,
    withdraw: Withdraw = False,
    node: NodeUrl = DEFAULT_NODE,
    key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Say as this node that a release should not be installed."""
    _post("yank", source, plugin, node, key, as_json, version=version, reason=reason, withdrawn=withdraw)


@app.command("takedown")
def take_down(
    source: SourceId,
    plugin: Plugin,
    version: Version,
    reason: Reason = None,
    withdraw: Withdraw = False,
    node: NodeUrl = DEFAULT_NODE,
    key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Stop serving a release, or bring it back."""
    _post("takedown", source, plugin, node, key, as_json, version=version, reason=reason, withdrawn=withdraw)


@app.command("approve")
def approve(
    source: SourceId,
    plugin: Plugin,
    version: Version,
    node: NodeUrl = DEFAULT_NODE,
    key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Serve a release as it is that cools down or is held back."""
    _post("approve-release", source, plugin, node, key, as_json, version=version)


@app.command("hand-in")
def hand_in(
    file: Annotated[
        Path, typer.Argument(help="What `pfn publisher rotate`, `yank` ... printed.", exists=True, dir_okay=False)
    ],
    node: NodeUrl = DEFAULT_NODE,
    as_json: AsJson = False,
) -> None:
    """Hand in what a publisher signed. Exit code 1 if any of it was refused."""
    try:
        signed = json.loads(file.read_text())
    except (ValueError, RecursionError):
        fail(f"{file} is not JSON; give what `pfn publisher` printed")
    answer = run_with_client(node, None, lambda client: client.post("notices", signed))
    show(answer, as_json, [("outcome", "outcome"), ("source", "source_id"), ("why", "error")], answer["notices"])
    if any(one["outcome"] == "refused" for one in answer["notices"]):
        raise typer.Exit(1)


def _post(call: str, source: str, plugin: str, node: str, key: str | None, as_json: bool, **fields: Any) -> None:
    body = {"sourceId": source, "plugin": plugin, **fields}
    show_fields(run_with_client(node, key, lambda client: client.post(call, body)), as_json)
