"""`pfn publisher`: serve a folder of plugins as a publisher; sign releases and notices offline."""

import json
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from pfn_node.artifacts.errors import ArtifactError
from pfn_node.cli.failing import WRONG_USAGE, fail, reason, warn
from pfn_node.cli.running import announce_ready, run_until_stopped
from pfn_node.logs import configure_logs
from pfn_node.publisher import notices
from pfn_node.publisher.app import Profile, PublisherError, serve_publisher, sign_zip
from pfn_node.publisher.signing import IDENTITY_FILE
from pfn_node.server import ServerError
from pfn_protocol.publisher_notices import Advisory

Author = Annotated[str, typer.Option(help="The author's name at the publisher.")]
Origin = Annotated[str, typer.Option(help="The publisher's URL, as nodes know it.")]
Data = Annotated[Path, typer.Option(help="Folder of the publisher's keys.")]
Reason = Annotated[str, typer.Option(help="A sentence for people.")]
Withdrawn = Annotated[bool, typer.Option("--withdraw", help="Take it back.")]


class Role(StrEnum):
    """Which of a publisher's two keys."""

    IDENTITY = "identity"
    RELEASE = "release"


class Severity(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


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
    """Serve the plugins in FOLDER until stopped.

    What changes in it is seen without a restart.
    """
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
    except* (ArtifactError, PublisherError, ServerError, OSError) as failures:
        fail(reason(failures))


@app.command("sign")
def sign(
    file: Annotated[Path, typer.Argument(metavar="ZIP", help="The plugin zip.", exists=True, dir_okay=False)],
    author: Annotated[str, typer.Option(help="The author's name at the publisher.")],
    origin: Annotated[str, typer.Option(help="The publisher's URL, as nodes know it.")],
    data: Annotated[Path, typer.Option(help="Folder of the publisher's keys.")],
) -> None:
    """Sign a release offline.

    Prints what POST /federation/releases of any node takes.
    """
    is_new = not (data / IDENTITY_FILE).exists()
    try:
        statement = sign_zip(file, author=author, origin=origin, data=data)
    except PublisherError as error:
        fail(str(error))
    print(json.dumps(statement))
    if is_new:
        warn(f"new keys were made in {data}: nodes that know this publisher by another key refuse what these sign")


@app.command("rotate")
def rotate(
    author: Author,
    origin: Origin,
    data: Data,
    role: Annotated[Role, typer.Option(help="Which key is replaced.")] = Role.IDENTITY,
    reason: Reason = "",
    recovery: Annotated[
        Path | None, typer.Option(help="The recovery key vouches instead of the old one.", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Replace a key by another.

    Prints what POST /federation/notices of any node takes. A running publisher serves it at once.
    """
    now = int(time.time())
    _print_signed(lambda: notices.rotate(_whose(data, author, origin), role, reason, now, recovery=recovery))


@app.command("commit-recovery")
def commit_recovery(author: Author, origin: Origin, data: Data) -> None:
    """Make a recovery key, to be put away.

    It is recovery.key, and can undo what a thief of the identity key does.
    """
    _print_signed(lambda: notices.commit_recovery(_whose(data, author, origin), int(time.time())))


@app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(help="identity, release, or the did:key of an old key.")],
    author: Author,
    origin: Origin,
    data: Data,
    reason: Reason = "",
    not_after: Annotated[
        int | None, typer.Option(min=0, help="Seconds since 1970: what was seen later does not count [default: now].")
    ] = None,
    final: Annotated[bool, typer.Option("--final", help="End this source: no other key follows.")] = False,
) -> None:
    """Revoke a key that may be in other hands."""
    at = int(time.time()) if not_after is None else not_after
    _print_signed(lambda: notices.revoke(_whose(data, author, origin), key, reason, at, final=final))


@app.command("yank")
def yank(
    slug: str,
    version: str,
    author: Author,
    origin: Origin,
    data: Data,
    reason: Reason = "",
    withdraw: Withdrawn = False,
) -> None:
    """Say that a release should not be installed any more."""
    now_ms = int(time.time() * 1_000)
    _print_signed(lambda: notices.yank(_whose(data, author, origin), slug, version, reason, now_ms, withdrawn=withdraw))


@app.command("advise")
def advise(
    slug: str,
    advisory_id: Annotated[str, typer.Argument(help="Such as GHSA-aaaa-bbbb-cccc.")],
    summary: Annotated[str, typer.Option(help="What is wrong, in a sentence.")],
    severity: Annotated[Severity, typer.Option(help="How bad it is.")],
    author: Author,
    origin: Origin,
    data: Data,
    affected: Annotated[
        list[str], typer.Option("--affected", metavar="FROM..UNTIL", help="Versions; UNTIL is the first well one.")
    ],
    url: Annotated[str, typer.Option(help="Where to read more.")] = "",
    alias: Annotated[list[str] | None, typer.Option(help="Another name, such as a CVE number.")] = None,
    withdraw: Withdrawn = False,
) -> None:
    """Say that versions of a plugin have a weakness."""
    ranges = tuple(_range(text) for text in affected)
    whose = _whose(data, author, origin)

    def advisory(seq: int) -> Advisory:
        return Advisory(
            whose.origin,
            author,
            slug,
            advisory_id,
            severity,
            summary,
            ranges,
            url,
            tuple(alias or ()),
            seq,
            withdraw,
        )

    _print_signed(lambda: notices.advise(whose, advisory, int(time.time() * 1_000)))


def _whose(data: Path, author: str, origin: str) -> notices.Whose:
    try:
        return notices.Whose.of(data, author, origin)
    except PublisherError as error:
        fail(str(error))


def _range(text: str) -> tuple[str, str]:
    first, dots, until = text.partition("..")
    if not dots:
        fail(f"--affected {text!r}: write FROM..UNTIL, such as 1.0..1.4.2, ..1.4.2 or 1.0..", WRONG_USAGE)
    return first, until


def _print_signed(sign: Callable[[], dict[str, Any]]) -> None:
    try:
        print(json.dumps(sign()))
    except PublisherError as error:
        fail(str(error))
