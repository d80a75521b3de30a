"""A mesh of real processes for tests that are not async themselves: it lives in a thread of its own (trio_thread.py),
and `BrowserMesh.call` runs an async function there: `mesh.call(lambda: mesh.nodes[0].client.get("health"))`.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree
from typing import TypeVar

import trio

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess, local_mesh
from pfn_node.publisher import SAMPLES
from tests.end_to_end.conftest import eventually, follow, versions
from tests.end_to_end.plugins import write_plugin

T = TypeVar("T")

NODES = 3
# One publisher that signs the bytes of its releases, and one that behaves as the original publisher software does.
PROFILES = {"juniper": "v2", "wren": "original"}


@dataclass(frozen=True)
class BrowserNode:
    """One node; `key` is an API key with every scope."""

    url: str
    key: str
    client: NodeClient


@dataclass
class BrowserPublisher:
    """One publisher, which the first node follows and mirrors."""

    mesh: "BrowserMesh"
    author: str
    url: str
    source_id: str
    folder: Path
    process: LocalProcess

    def publish(self, slug: str, version: str, tags: tuple[str, ...] = ("tools",), *, sync: bool = True) -> None:
        """Publish a release. With `sync`, the first node has mirrored it when this returns."""
        write_plugin(self.folder, slug, version, tags)
        self.mesh.call(lambda: eventually(lambda: self._offers(slug, version)))
        if sync:
            self.sync()

    def sync(self) -> None:
        """Let the first node look at the publisher now, and mirror what is new."""
        client = self.mesh.nodes[0].client
        self.mesh.call(lambda: client.post("subscribe", {"sourceId": self.source_id}))

    async def _offers(self, slug: str, version: str) -> bool:
        """Whether the publisher has seen its folder change: it looks once a second."""
        url = f"{self.url}/author-data?author={self.author}"
        reply = await self.mesh.local.outbound.fetch("GET", url, bytes_max=2**22, seconds_max=10)
        return any((entry["slug"], entry["version"]) == (slug, version) for entry in json.loads(reply.body)["plugins"])


@dataclass
class BrowserMesh:
    """Three linked nodes that pin one another, and two publishers."""

    master_key: str
    local: LocalMesh
    token: trio.lowlevel.TrioToken
    nodes: list[BrowserNode] = field(default_factory=list)
    publishers: list[BrowserPublisher] = field(default_factory=list)

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run an async function in the mesh's thread, and wait for what it answers."""
        return trio.from_thread.run(work, trio_token=self.token)

    def wait_until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something holds, as the nodes see it."""
        self.call(lambda: eventually(condition))


@asynccontextmanager
async def browser_mesh(folder: Path) -> AsyncIterator[BrowserMesh]:
    """The mesh, until the block ends; its processes end with it, whatever happens."""
    async with local_mesh(folder) as local:
        made = BrowserMesh(local.master_key, local, trio.lowlevel.current_trio_token())
        await _fill(made)
        yield made


async def _fill(mesh: BrowserMesh) -> None:
    local = mesh.local
    for client in await local.start_nodes(NODES):
        key = client.headers["Authorization"].removeprefix("Bearer ")
        mesh.nodes.append(BrowserNode(client.node, key, client))
    await local.pin_all()
    async with trio.open_nursery() as nursery:
        for author, profile in PROFILES.items():
            nursery.start_soon(_add_publisher, mesh, author, profile)
    mesh.publishers.sort(key=lambda publisher: publisher.author)
    for node in mesh.nodes[1:]:
        await eventually(lambda client=node.client: _knows_all(mesh, client))  # type: ignore[misc]


async def _add_publisher(mesh: BrowserMesh, author: str, profile: str) -> None:
    plugins = mesh.local.folder / f"plugins-{author}"
    copytree(SAMPLES / author, plugins)
    process = await mesh.local.start_publisher(plugins, author, profile)
    client = mesh.nodes[0].client
    source = await follow(client, process, author)
    await client.post("subscribe", {"sourceId": source})
    mesh.publishers.append(BrowserPublisher(mesh, author, process.url, source, plugins, process))


async def _knows_all(mesh: BrowserMesh, client: NodeClient) -> bool:
    for publisher in mesh.publishers:
        if await versions(client, publisher.source_id) != await versions(mesh.nodes[0].client, publisher.source_id):
            return False
    return True
