"""Real node and publisher processes on this machine, for `pfn mesh up`, `pfn demo` and the end-to-end tests.

Each process is `python -m pfn_node ...`; it is ready when it prints `listening on URL`. Its log goes to a file beside
its data, and so does its address: started again on the same folder it is where the others know it. When the block
that holds them ends, they are told to stop, and killed if they do not.
"""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from pfn_node.cli.client import NodeClient
from pfn_node.outbound import Outbound

READY_SECONDS_MAX = 30.0
# Nodes that start at the same time: they share the processors, and each has to be ready in time.
STARTING_AT_ONCE_MAX = 8
STOP_SECONDS_MAX = 5.0
READY_PREFIX = "listening on "


class ProcessError(Exception):
    """A process did not come up; the sentence holds the end of its log."""


@dataclass
class LocalProcess:
    """One `pfn ...` process: started, killed and started again at the same address."""

    name: str
    arguments: tuple[str, ...]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    url: str = ""
    process: trio.Process | None = None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    async def start(self) -> None:
        """Start it and wait for its address. Raises ProcessError with its last lines if it does not come up."""
        self.folder.mkdir(parents=True, exist_ok=True)
        address = self.folder / f"{self.name}.url"
        known = self.url or (address.read_text() if address.exists() else "")
        port = known.rpartition(":")[2] or "0"
        with self.log.open("ab") as log:
            self.process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "pfn_node", *self.arguments, "--port", port],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        self.url = ""
        with trio.move_on_after(READY_SECONDS_MAX):
            self.url = await self._address()
        if not self.url:
            last = self.log.read_text(errors="replace")[-2000:]
            raise ProcessError(f"{self.name} did not start:\n{last}")
        address.write_text(self.url)

    async def _address(self) -> str:
        assert self.process is not None and self.process.stdout is not None
        line = b""
        async for chunk in self.process.stdout:
            line += chunk
            if b"\n" in line:
                break
        text = line.decode(errors="replace").partition("\n")[0]
        return text.removeprefix(READY_PREFIX) if text.startswith(READY_PREFIX) else ""

    async def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """End it with this signal, or with SIGKILL if it does not end by itself."""
        if self.process is None:
            return
        self.process.send_signal(signal_number)
        with trio.move_on_after(STOP_SECONDS_MAX) as waiting:
            await self.process.wait()
        if waiting.cancelled_caught:
            self.process.kill()
            await self.process.wait()
        if self.process.stdout is not None:
            await self.process.stdout.aclose()
        self.process = None

    async def kill(self) -> None:
        """End it without a warning, as a power cut would."""
        await self.stop(signal.SIGKILL)


@dataclass
class LocalMesh:
    """The processes of one mesh, and a client with an admin key for each node."""

    folder: Path
    outbound: Outbound
    master_key: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    nodes: list[LocalProcess] = field(default_factory=list)
    publishers: list[LocalProcess] = field(default_factory=list)
    clients: list[NodeClient] = field(default_factory=list)

    async def start_node(
        self, *extra: str, join: Sequence[str] = (), environment: dict[str, str] | None = None
    ) -> NodeClient:
        """Start one more node that joins these URLs; answers a client with a fresh admin key."""
        client = await self._start(self._add_node(extra, join, environment))
        self.clients.append(client)
        return client

    async def start_nodes(self, count: int) -> list[NodeClient]:
        """Start so many more: the first of the mesh before all others, which start together and join it.

        The clients are in the order of the nodes. Raises an ExceptionGroup of what `start_node` raises.
        """
        begun = [await self.start_node()] if count and not self.nodes else []
        nodes = [self._add_node((), [self.nodes[0].url], None) for _ in range(count - len(begun))]
        clients: dict[str, NodeClient] = {}
        turns = trio.CapacityLimiter(STARTING_AT_ONCE_MAX)

        async def start(node: LocalProcess) -> None:
            async with turns:
                clients[node.name] = await self._start(node)

        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(start, node)
        started = [clients[node.name] for node in nodes]
        self.clients += started
        return begun + started

    def _add_node(self, extra: Sequence[str], join: Sequence[str], environment: dict[str, str] | None) -> LocalProcess:
        name = f"node-{chr(ord('a') + len(self.nodes))}"
        joins = [argument for url in join for argument in ("--join", url)]
        arguments = ("serve", "--data", str(self.folder / name), "--allow-private-networks", *joins, *extra)
        node = LocalProcess(name, arguments, self.folder, {"PFN_MASTER_KEY": self.master_key} | (environment or {}))
        self.nodes.append(node)
        return node

    async def _start(self, node: LocalProcess) -> NodeClient:
        await node.start()
        made = await NodeClient(self.outbound, node.url, self.master_key).post(
            "create-admin-key", {"description": node.name}
        )
        return NodeClient(self.outbound, node.url, made["key"])

    async def start_publisher(self, plugins: Path, author: str, profile: str = "v2") -> LocalProcess:
        """Start one more publisher over a folder of plugins."""
        data = self.folder / f"publisher-{author}"
        arguments = ("publisher", "serve", str(plugins), "--author", author, "--data", str(data), "--profile", profile)
        publisher = LocalProcess(f"publisher-{author}", arguments, self.folder)
        self.publishers.append(publisher)
        await publisher.start()
        return publisher

    async def pin_all(self) -> None:
        """Let every node pin every other: their word backs bytes with one another. Links they find by themselves."""
        ids = [(await client.get("health"))["node_id"] for client in self.clients]
        async with trio.open_nursery() as nursery:
            for client, own_id in zip(self.clients, ids, strict=True):
                nursery.start_soon(_pin, client, [node_id for node_id in ids if node_id != own_id])

    async def stop(self) -> None:
        """End every process, all at the same time."""
        async with trio.open_nursery() as nursery:
            for process in (*self.nodes, *self.publishers):
                nursery.start_soon(process.stop)


async def _pin(client: NodeClient, node_ids: Sequence[str]) -> None:
    """Pin whom this node does not pin yet: it joined one of them, and an earlier run may have pinned them all."""
    pinned = {peer["node_id"] for peer in (await client.get("peers"))["peers"] if peer["pinned"]}
    for node_id in node_ids:
        if node_id not in pinned:
            await client.post("peers", {"action": "pin", "node_id": node_id})


@asynccontextmanager
async def local_mesh(folder: Path) -> AsyncIterator[LocalMesh]:
    """An empty mesh whose processes end with the block, whatever happens in it."""
    async with Outbound(allow_private_networks=True, user_agent="pfn-local-mesh") as outbound:
        mesh = LocalMesh(folder, outbound)
        try:
            yield mesh
        finally:
            with trio.CancelScope(shield=True):
                await mesh.stop()
