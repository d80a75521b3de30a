"""`pfn get` and `pfn plugins search`: plugins for scripts, which read exit codes and want no half-finished files."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from pfn_node.cli.client import DEFAULT_NODE, AsJson, NodeClient, NodeUrl, run_with_client
from pfn_node.cli.failing import EXIT_CODES, WRONG_USAGE, fail
from pfn_node.cli.fetching import disk_failures, fetch_part, has_bytes, part_of, read_through
from pfn_node.cli.lock_file import Lock, Locked, lasting_level, proved, read_lock
from pfn_node.cli.tables import show, show_fields
from pfn_node.cli.verify import Level, roots_of
from pfn_node.cli.wanted import Found, NotGot, Terms, Wanted, ask, first_of, parse_wanted, prove_again
from pfn_node.outbound import Outbound
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import did_key

Nodes = Annotated[
    list[str] | None,
    typer.Option("--node", envvar="PFN_NODE", help=f"A node's URL; repeated: asked in turn. [default: {DEFAULT_NODE}]"),
]
Trust = Annotated[
    list[str] | None, typer.Option(help="A node (did:key) whose word about keys and bytes counts; may be repeated.")
]
LockFile = Annotated[Path, typer.Option("--file", help="The lock file.", dir_okay=False)]
DEFAULT_LOCK_FILE = Path("pfn.lock")
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
    wanted: Annotated[
        str | None, typer.Argument(metavar="SOURCE/PLUGIN[@VERSION]", help="Without a version: the newest.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: PLUGIN.zip here.", dir_okay=False)
    ] = None,
    folder: Annotated[Path | None, typer.Option("--directory", "-d", help="Put PLUGIN.zip there.")] = None,
    locked: Annotated[bool, typer.Option("--locked", help="Exactly what the lock file names, or one of it.")] = False,
    file: LockFile = DEFAULT_LOCK_FILE,
    node: Nodes = None,
    assurance: Annotated[Level, typer.Option(help="What has to be proved.")] = Level.A3,
    key: Annotated[str | None, typer.Option(help="The publisher's key (PEM or its file, base64, did:key).")] = None,
    trust: Trust = None,
    allow_yanked: AllowYanked = False,
    allow_advisories: AllowAdvisories = False,
    allow_taken_down: AllowTakenDown = False,
    as_json: AsJson = False,
) -> None:
    nodes, lock = nodes_of(node), known_lock(file)
    release = None if wanted is None else wanted_of(wanted)
    if locked:
        chosen = _chosen(lock, release, file)
        targets = [_target(one.plugin_id, output, folder, alone=len(chosen) == 1) for one in chosen]
        if len(set(targets)) < len(targets):
            fail("two of them have one name: get them one by one, with --output", WRONG_USAGE)
        answers = run(partial(_get_locked, nodes, lock, list(zip(chosen, targets, strict=True))))
        columns = [("file", "file"), ("version", "version"), ("sha256", "sha256"), ("assurance", "assurance")]
        show({"plugins": answers}, as_json, columns, answers)
        return
    if release is None:
        fail("name a plugin, or give --locked", WRONG_USAGE)
    roots, key_from = roots_of(key, trust or []), "given"
    if roots.key is None and release.source_id in lock.keys:
        roots, key_from = replace(roots, key=lock.keys[release.source_id]), "the lock file"
    terms = Terms(roots, assurance, key_from, allow_yanked, allow_advisories, allow_taken_down)
    target = _target(release.plugin_id, output, folder, alone=True)
    show_fields(run(partial(_get, nodes, release, terms, target)), as_json)


get.__doc__ = f"""Get a plugin, checked before its file appears.

The bytes are held against the digest, and the evidence against what you trust, as `pfn verify --evidence` does it. With
neither --key nor --trust the publisher's key is that of the lock file, or else the one that the node names.

{EXIT_CODES}
"""


def _chosen(lock: Lock, release: Wanted | None, file: Path) -> list[Locked]:
    if release is None:
        chosen = list(lock.plugins.values())
    else:
        chosen = [one for one in lock.plugins.values() if release in (one.wanted, replace(one.wanted, version=None))]
    if not chosen:
        fail(f"{file} does not lock {release or 'anything'}; pfn lock does that", WRONG_USAGE)
    return chosen


def _target(plugin_id: str, output: Path | None, folder: Path | None, *, alone: bool) -> Path:
    if output is not None and (folder is not None or not alone):
        fail("--output is for one plugin, and does not go with --directory", WRONG_USAGE)
    return output or (folder or Path()) / f"{plugin_id}.zip"


async def _get(nodes: Sequence[str], wanted: Wanted, terms: Terms, target: Path, outbound: Outbound) -> dict[str, Any]:
    found = await first_of(nodes, outbound, lambda client: ask(client, wanted, terms))
    return await store(nodes, found, terms, target, outbound)


async def _get_locked(
    nodes: Sequence[str], lock: Lock, wanted: Sequence[tuple[Locked, Path]], outbound: Outbound
) -> list[dict[str, Any]]:
    """All of them are proved before the first is fetched. What nodes say now does not count, only their bytes."""
    found = [(proved(lock, one), one, target) for one, target in wanted]
    answers = []
    for each, one, target in found:
        terms = Terms(each.roots, lasting_level(one), each.key_from, allow_taken_down=True)
        answers.append(await store(nodes, each, terms, target, outbound) | {"assurance": one.assurance})
    return answers


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
        "key": did_key(found.key),
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


def known_lock(file: Path) -> Lock:
    """What the lock file holds; nothing if there is none."""
    try:
        return read_lock(file)
    except FileNotFoundError:
        return Lock()
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
