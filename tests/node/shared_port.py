"""A node and one worker of it in this process, each behind its own server, with a real channel between them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from pfn_node.elsewhere import Passed
from pfn_node.metrics import CountingMetrics
from pfn_node.server import ServerLimits, serve
from pfn_node.store.database import reader
from pfn_node.web.app import create_app
from pfn_node.web.services import Services
from pfn_node.workers import channel as messages
from pfn_node.workers.channel import Channel, channel_pair
from pfn_node.workers.process import Passer
from pfn_node.workers.rooms import ReadArtifacts, ReadDatabase, services_of_worker
from tests.node.serving import SECONDS_MAX, Server
from tests.node.web_node import NODE, NOW, WebNode, web_node


@dataclass
class SharedPort:
    """What clients reach (the worker), the node behind it, and what was passed on."""

    node: WebNode
    server: Server
    services: Services  # of the worker
    passed: list[bytes] = field(default_factory=list)
    damaged: list[bytes] = field(default_factory=list)

    async def ask(self, request: bytes) -> bytes:
        """What comes until the server closes."""
        return await self.server.exchange(request)


@asynccontextmanager
async def shared_port(
    folder: Path, limits: ServerLimits | None = None, /, **settings: Any
) -> AsyncIterator[SharedPort]:
    """`settings` are the node's."""
    ours, theirs = (Channel(end) for end in channel_pair())
    give, take = trio.open_memory_channel[Any](10)
    stop, limits = trio.Event(), limits or ServerLimits(shutdown_seconds=SECONDS_MAX)
    with trio.fail_after(4 * SECONDS_MAX):
        async with web_node(folder, **settings) as node, trio.open_nursery() as nursery:
            with reader(folder / "node.db") as connection:
                metrics = CountingMetrics()
                database = ReadDatabase(folder / "node.db", connection, metrics)
                damaged: list[bytes] = []
                artifacts = ReadArtifacts(folder / "artifacts", damaged.append)
                services = services_of_worker(
                    node.services.settings,
                    database,
                    artifacts,
                    NODE.public,
                    node.services.url,
                    metrics,
                    None,
                    now=lambda: float(NOW),
                )
                host, port = await nursery.start(
                    partial(serve, create_app(services), shutdown=stop, limits=limits, passing=Passer(theirs))
                )
                port_shared = SharedPort(node, Server(host, port, stop), services, damaged=damaged)
                passed = Passed(take, trio.Event())
                await nursery.start(partial(serve, node.app, shutdown=stop, limits=limits, passed=passed))
                nursery.start_soon(_hear, ours, give, port_shared)
                yield port_shared
                stop.set()
                theirs.close()
                ours.close()
                database.close()


async def _hear(channel: Channel, give: trio.MemorySendChannel[Any], shared: SharedPort) -> None:
    with suppress(trio.ClosedResourceError):
        while (message := await channel.receive()) is not None:
            assert message.kind == messages.CONNECTION and message.connection is not None
            shared.passed.append(message.data)
            await give.send((message.connection, message.data))
