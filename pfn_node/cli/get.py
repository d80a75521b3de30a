"""`pfn get` and `pfn plugins search`: plugins for scripts, which read exit codes and want no half-finished files."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from pfn_node.cli.client import DEFAULT_NODE, AsJson, NodeClient, NodeUrl, run_with_client
from pfn_node.cli.failing import EXIT_CODES, WRONG_USAGE, fail
from pfn_node.cli.fetching import disk_failures, fetch_part, has_bytes, part_of, read_through
from pfn_node.cli.tables import show, show_fields
from pfn_node.cli.verify import Level, roots_of
from pfn_node.cli.wanted import Found, NotGot, Terms, Wanted, ask, first_of, parse_wanted, prove_again
from pfn_node.outbound import Outbound
from pfn_protocol.errors import Refusal

Nodes = Annotated[
    list[str] | None,
    typer.Option("--node", envvar="PFN_NODE", help=f"A node's URL; repeated: asked in turn. [default: {DEFAULT_NODE}]"),
]
Trust = Annotated[
    list[str] | None, typer.Option(help="A node (did:key) whose word about keys and bytes counts; may be repeated.")
]
AllowYanked = Annotated[bool, typer.Option("--allow-yanked", help="Take a version that was yanked.")]
AllowAdvisories = Annotated[bool, typer.Option("--allow-advisories", help="Take it in spite of critical advisories.")]
AllowTakenDown = Annotated[bool, typer.Option("--allow-taken-down", help="Ask on where a node took it down.")]


def search(
    words: Annotated[list[str] | None, typer.Argument(help="Words to search for.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    source: Annotated[str | None, typer.Option(help="Only of this source.")] = None,
    assurance: Annotated[Level | None, typer.Option(help="Only with this much assurance, or more.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 50,
    node: NodeUrl = DEFAULT_NODE,
    as_json: AsJson = False,
) -> None:
    """Search the plugins that a node knows."""
    asked = {"q": " ".join(words or []) or None, "tag": tag, "source": source, "min_assurance": assurance}
    answer = run_with_client(node, None, lambda client: client.get("plugins", limit=limit, **asked))
    rows = [row | {"get": f"{row['source_id']}/{row['plugin_id']}"} for row in answer["plugins"]]
    columns = [("plugin", "get"), ("version", "version"), ("assurance", "assurance"), ("yanked", "yanked")]
    show(answer, as_json, [*columns, ("name", "name"), ("description", "description")], rows)


def get(
    wanted: Annotated[str, typer.Argument(metavar="SOURCE/PLUGIN[@VERSION]", help="Without a version: the newest.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: PLUGIN.zip here.")] = None,
    node: Nodes = None,
    assurance: Annotated[Level, typer.Option(help="What has to be proved.")] = Level.A3,
    key: Annotated[str | None, typer.Option(help="The publisher's key (PEM or its file, base64, did:key).")] = None,
    trust: Trust = None,
    allow_yanked: AllowYanked = False,
    allow_advisories: AllowAdvisories = False,
    allow_taken_down: AllowTakenDown = False,
    as_json: AsJson = False,
) -> None:
    terms = Terms(
        roots_of(key, trust or []),
        assurance,
        allow_yanked=allow_yanked,
        allow_advisories=allow_advisories,
        allow_taken_down=allow_taken_down,
    )
    release = wanted_of(wanted)
    target = output or Path(f"{release.plugin_id}.zip")
    show_fields(run(partial(_get, nodes_of(node), release, terms, target)), as_json)


get.__doc__ = f"""Get a plugin, checked before its file appears.

The bytes are held against the digest, and the evidence against what you trust, as `pfn verify --evidence` does it. With
neither --key nor --trust the publisher's key is the one that the node names.

{EXIT_CODES}
"""


async def _get(nodes: Sequence[str], wanted: Wanted, terms: Terms, target: Path, outbound: Outbound) -> dict[str, Any]:
    found = await first_of(nodes, outbound, lambda client: ask(client, wanted, terms))
    return await store(nodes, found, terms, target, outbound)


async def store(nodes: Sequence[str], found: Found, terms: Terms, target: Path, outbound: Outbound) -> dict[str, Any]:
    """Get the bytes of what was found into `target`, from whichever node has them; raise `NotGot`."""
    bundle = found.bundle
    part = part_of(target, bundle.sha256)
    with disk_failures(target):
        if not has_bytes(target, bundle.sha256):

            async def take(client: NodeClient) -> str:
                await fetch_part(client, bundle, part, allow_taken_down=terms.allow_taken_down)
                return client.node

            await first_of(nodes, outbound, take)
            prove_again(found, read_through(part), terms.level)
            part.replace(target)
    return {
        "file": str(target),
        "source_id": bundle.source_id,
        "plugin_id": bundle.plugin_id,
        "version": bundle.version,
        "sha256": bundle.sha256.hex(),
        "size": bundle.size,
        "assurance": found.proof.level,
        "key": found.key,
        "key_from": found.key_from,
    }


def run(work: Any) -> Any:
    """Run `work(outbound)`; what cannot be had ends the command with its sentence and its code."""

    async def call() -> Any:
        async with Outbound(allow_private_networks=True, user_agent="pfn-cli") as outbound:
            return await work(outbound)

    try:
        return trio.run(call)
    except NotGot as failure:
        fail(str(failure), failure.code)


def nodes_of(given: list[str] | None) -> list[str]:
    nodes = given or [DEFAULT_NODE]
    for node in nodes:
        if not node.startswith(("http://", "https://")):
            fail(f"--node {node!r} is not a URL; give one such as {DEFAULT_NODE}", WRONG_USAGE)
    return [node.rstrip("/") for node in nodes]


def wanted_of(text: str) -> Wanted:
    try:
        return parse_wanted(text)
    except Refusal as refusal:
        fail(f"{text!r} is not SOURCE/PLUGIN[@VERSION]: {refusal.sentence}", WRONG_USAGE)
