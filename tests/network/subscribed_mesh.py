"""Nodes that pin each other and subscribe to one publisher: whole engines and rooms of sources, in virtual time."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from pfn_node.settings import Settings
from pfn_node.sources.operations import Sources
from pfn_node.store.catalogue import get_release
from pfn_node.store.rows import Filters, Release
from tests.network.mesh_network import Network, Node, eventually, network, now
from tests.node.examining import examine_here
from tests.node.fake_outbound import Answer, FakeNetwork, Request, Slow
from tests.node.sources_room import Publisher, inline

SLUG = "hello"
# What a publisher's line gives one client: 10 MiB take two seconds.
PIECE_BYTES = 2**20
PIECE_SECONDS = 0.2


@dataclass
class SubscribedMesh:
    """The nodes with their rooms of sources, and the publisher that all of them follow."""

    net: Network
    publisher: Publisher
    internet: FakeNetwork
    nodes: list[Node]
    sources: list[Sources]

    def copies_served(self) -> int:
        """How many zips the publisher has handed out."""
        return sum(request.path.endswith(".zip") for request in self.internet.requests)

    def holders(self, version: str) -> int:
        """How many nodes have the bytes of a version."""
        releases = [self.release(node, version) for node in self.nodes]
        return sum(release is not None and release.mirrored for release in releases)

    def release(self, node: Node, version: str) -> Release | None:
        """The release as a node judges it now."""
        return node.database.read_now(lambda db: get_release(db, self.publisher.source_id, SLUG, version))


def _slowly(publisher: Publisher, request: Request) -> Answer | Slow:
    answer = publisher.answer(request)
    body = answer[0]
    if not request.path.endswith(".zip") or not isinstance(body, bytes):
        return answer
    pieces = tuple(body[at : at + PIECE_BYTES] for at in range(0, len(body), PIECE_BYTES))
    return Slow(pieces, PIECE_SECONDS, answer[1], answer[2])


@asynccontextmanager
async def subscribed_mesh(folder: Path, count: int) -> AsyncIterator[SubscribedMesh]:
    """`count` nodes that have mirrored version 1.0, subscribed within a minute of each other."""
    publisher, internet = Publisher(), FakeNetwork()
    internet.hosts["publisher.test"] = lambda request: _slowly(publisher, request)
    publisher.publish(SLUG, "1.0")
    async with network(folder) as net, AsyncExitStack() as open_ways:
        mesh = SubscribedMesh(net, publisher, internet, [], [])
        for number in range(count):
            node = await net.add(f"n{number}", join=("n0",) if number else ())
            mesh.nodes.append(node)
        await _pin_each_other(mesh.nodes)
        rng = random.Random(count)
        for node in mesh.nodes:
            outbound = await open_ways.enter_async_context(internet.outbound())
            sources = Sources(
                node.database,
                node.artifacts,
                outbound,
                Settings(data=node.folder, allow_private_networks=True),
                node.engine.announce,
                node.id,
                examine_here,
                now,
                random.Random(node.name),
                fetch_artifact=node.engine.fetch_artifact,
                run_blocking=inline,
            )
            await net.nursery.start(sources.run)
            mesh.sources.append(sources)
            await sources.add(publisher.url, publisher.author, publisher.pem)
            await trio.sleep(rng.uniform(0, 60 / count))
            await sources.subscribe(publisher.source_id, "ops", Filters())
        yield mesh


async def _pin_each_other(nodes: list[Node]) -> None:
    for node in nodes:
        for other in nodes:
            if other is not node:
                await node.engine.set_policy(other.id, pinned=True)
    await eventually(lambda: all(len(node.engine.peers()) >= len(nodes) - 1 for node in nodes), 120)
