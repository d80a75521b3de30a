"""`pfn audit`: who changed what on a node, and whether its log is as it was written."""

import re
from typing import Annotated, Any

import typer

from pfn_node.cli.client import DEFAULT_NODE, ApiKey, AsJson, NodeClient, NodeUrl, run_with_client
from pfn_node.cli.failing import WRONG_USAGE, fail
from pfn_node.cli.tables import moment, show, show_fields
from pfn_node.store.audit import AuditEntry, Head, broken
from pfn_node.store.queries import to_json

SHOWN = 50

_HEAD = re.compile("([0-9]{1,16}):([0-9a-f]{64})")


def audit(
    check: Annotated[bool, typer.Option("--check", help="Check the whole chain; exit code 1 if it is broken.")] = False,
    head: Annotated[
        str | None,
        typer.Option(help="With --check: a head noted earlier (SEQ:HASH), which the log has to contain."),
    ] = None,
    after: Annotated[int | None, typer.Option(min=0, help="Only entries after this number.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = SHOWN,
    node: NodeUrl = DEFAULT_NODE,
    key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Who changed what on the node, newest last. --check says where the log is not what was written."""
    if check:
        _check(node, key, _parsed(head) if head else None, as_json)
        return
    if head:
        fail("--head goes with --check", WRONG_USAGE)
    answer = run_with_client(node, key, lambda client: _newest(client, after, limit))
    columns = [(name, name) for name in ("seq", "at", "actor", "action", "target", "outcome", "address")]
    shown = [entry | {"at": moment(entry["at"])} for entry in answer["entries"]]
    show(answer, as_json, [*columns, ("details", "told")], [row | {"told": to_json(row["details"])} for row in shown])


async def _newest(client: NodeClient, after: int | None, limit: int) -> Any:
    """A page from a number on, or the last one."""
    if after is None:
        after = max(0, (await client.get("health"))["audit"]["seq"] - limit)
    return await client.get("audit", after=after, limit=limit)


def _check(node: str, key: str | None, noted: Head | None, as_json: bool) -> None:
    head, entries = run_with_client(node, key, _whole)
    finding = broken(entries, noted) or broken(entries, head if head.seq else None)
    last = entries[-1] if entries else None
    answer = {
        "sound": finding is None,
        "finding": finding,
        "entries": len(entries),
        "head": f"{last.seq}:{last.hash.hex()}" if last else None,
    }
    show_fields(answer, as_json)
    if finding is not None:
        raise typer.Exit(1)


async def _whole(client: NodeClient) -> tuple[Head, list[AuditEntry]]:
    """The head that the node tells, and after that every entry that it has, from the first on."""
    told = (await client.get("health"))["audit"]
    found: list[AuditEntry] = []
    after: int | None = 0
    while after is not None:
        page = await client.get("audit", after=after, limit=1000)
        found += [_entry(row) for row in page["entries"]]
        after = page["next"]
    return Head(told["seq"], bytes.fromhex(told["hash"])), found


def _entry(row: dict[str, Any]) -> AuditEntry:
    hashes = {name: bytes.fromhex(row[name]) for name in ("previous", "hash")}
    details = to_json(dict(sorted(row["details"].items())))
    return AuditEntry(**{**row, **hashes, "details": details})


def _parsed(head: str) -> Head:
    match = _HEAD.fullmatch(head.strip())
    if match is None:
        fail("--head is SEQ:HASH, as `pfn audit --check` and GET /federation/health show it", WRONG_USAGE)
    return Head(int(match[1]), bytes.fromhex(match[2]))
