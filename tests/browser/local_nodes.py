"""A mesh of real processes for tests that are not async themselves: it lives in a thread of its own.

Playwright's plain interface and Trio cannot share a thread. So the mesh has its own, and `BrowserMesh.call` runs an
async function there: `mesh.call(lambda: mesh.nodes[0].client.get("health"))`.
"""

import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
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
START_SECONDS_MAX = 60.0
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


@contextmanager
def mesh_in_a_thread(folder: Path) -> Iterator[BrowserMesh]:
    """The mesh, until the block ends; its processes end with it, whatever happens."""
    life = _Life(folder)
    thread = threading.Thread(target=life.live, name="mesh of the browser tests")
    thread.start()
    try:
        if not life.begun.wait(START_SECONDS_MAX) or life.mesh is None:
            raise RuntimeError("the mesh did not start") from life.failure
        yield life.mesh
    finally:
        life.end()
        thread.join()


@dataclass
class _Life:
    folder: Path
    begun: threading.Event = field(default_factory=threading.Event)
    over: trio.Event = field(default_factory=trio.Event)
    token: trio.lowlevel.TrioToken | None = None
    mesh: BrowserMesh | None = None
    failure: BaseException | None = None

    def live(self) -> None:
        try:
            trio.run(self._live)
        except BaseException as failure:  # told to the thread that waits
            self.failure = failure
        finally:
            self.begun.set()

    def end(self) -> None:
        if self.token is not None:
            try:
                self.token.run_sync_soon(self.over.set)
            except trio.RunFinishedError:
                pass  # it has failed by itself

    async def _live(self) -> None:
        self.token = trio.lowlevel.current_trio_token()
        async with local_mesh(self.folder) as local, trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_over, nursery.cancel_scope)
            made = BrowserMesh(local.master_key, local, self.token)
            await _fill(made)
            self.mesh = made
            self.begun.set()

    async def _cancel_when_over(self, scope: trio.CancelScope) -> None:
        await self.over.wait()
        scope.cancel()


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
