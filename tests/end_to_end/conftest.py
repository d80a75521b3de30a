"""Real processes on loopback: every test gets a mesh of its own, whose processes end with the test."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess, local_mesh

EVENTUALLY_SECONDS_MAX = 30.0
POLL_SECONDS = 0.02


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[LocalMesh]:
    async with local_mesh(tmp_path) as mesh:
        yield mesh


async def eventually(condition: Callable[[], Awaitable[bool]], seconds_max: float = EVENTUALLY_SECONDS_MAX) -> float:
    """Wait until the condition holds; answers how many seconds that took."""
    started = trio.current_time()
    with trio.fail_after(seconds_max):
        while not await condition():
            await trio.sleep(POLL_SECONDS)
    return trio.current_time() - started


async def follow(client: NodeClient, publisher: LocalProcess, author: str) -> str:
    """Register the publisher with a node, verified; answers the source id."""
    info = await client.outbound.fetch("GET", f"{publisher.url}/federation-info", bytes_max=2**20, seconds_max=10)
    body = {"instance_url": publisher.url, "username": author, "public_key": json.loads(info.body)["publicKey"]}
    source: str = (await client.post("add-source", body))["source_id"]
    assert (await client.post("verify-source", {"sourceId": source}))["success"]
    return source


async def versions(client: NodeClient, source: str) -> dict[str, str]:
    """What a node lists of a source: version by plugin."""
    answer = await client.get("plugins", source=source, limit=100)
    return {row["plugin_id"]: row["version"] for row in answer["plugins"]}


async def row_of(client: NodeClient, source: str, plugin: str) -> dict[str, Any] | None:
    answer = await client.get("plugins", source=source, limit=100)
    return next((row for row in answer["plugins"] if row["plugin_id"] == plugin), None)


async def download(client: NodeClient, source: str, plugin: str) -> tuple[int, bytes]:
    reply = await client.outbound.fetch(
        "GET", client.url("download", sourceId=source, plugin=plugin), bytes_max=2**27, seconds_max=60
    )
    return reply.status, reply.body


async def offers(publisher: LocalProcess, client: NodeClient, author: str, expected: dict[str, str]) -> bool:
    """Whether the publisher has seen its folder change: it looks once a second."""
    reply = await client.outbound.fetch(
        "GET", f"{publisher.url}/author-data?author={author}", bytes_max=2**22, seconds_max=10
    )
    return {entry["slug"]: entry["version"] for entry in json.loads(reply.body)["plugins"]} == expected
