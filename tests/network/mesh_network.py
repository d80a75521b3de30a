"""Whole mesh engines in one process, without sockets: what one sends goes straight into another's `handle`.

Everything runs as in a node but the network: real machine, real database (inline, so that virtual time works), real
files. A node can be unplugged, stopped and started again on the same data, and be made to lie about artifacts.
"""

import json
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import trio
import trio.lowlevel

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactMissing
from pfn_node.mesh.blocking import inline
from pfn_node.mesh.engine import Engine
from pfn_node.outbound import Reply
from pfn_node.outbound_errors import AnswerTooLarge, Unreachable
from pfn_node.settings import Settings
from pfn_node.store import catalogue, releases
from pfn_node.store.database import Database
from pfn_node.store.rows import Observation, Release
from pfn_protocol.announcements import SourceStatement, VersionStatement
from pfn_protocol.identity import PrivateKey
from tests.node.store_world import open_store

START_SECONDS = 1_900_000_000
HOP_SECONDS = 0.01
CHUNK_BYTES = 1024

PUBLISHER = PrivateKey(bytes([200]) * 32)
SOURCE_ID = "alice@plugins.example"


def now() -> float:
    """Seconds since 1970 in virtual time."""
    return START_SECONDS + trio.current_time()


@dataclass
class Node:
    """One node: its data stays when its engine is stopped."""

    network: "Network"
    name: str
    key: PrivateKey
    folder: Path
    url: str | None
    join: tuple[str, ...]
    settings: dict[str, object] = field(default_factory=dict)

    database: Database = field(init=False)
    artifacts: Artifacts = field(init=False)
    engine: Engine = field(init=False)
    running: bool = False
    lie: bytes | None = None  # sent instead of every artifact
    download_delay: float = 0.0
    clock_offset: float = 0.0
    asked: list[str] = field(default_factory=list)  # paths that others asked of it
    _ended: trio.Event = field(default_factory=trio.Event)

    @property
    def id(self) -> bytes:
        return self.key.public

    async def start(self, nursery: trio.Nursery) -> None:
        """Start, on whatever data there is."""
        self.folder.mkdir(exist_ok=True)
        self.database = open_store(self.folder / "node.db")
        self.artifacts = Artifacts(self.folder / "artifacts", 2**20)
        self.artifacts.start()
        settings = Settings(
            data=self.folder,
            join=self.join,
            allow_private_networks=True,
            **self.settings,  # type: ignore[arg-type]
        )
        self.engine = Engine(
            self.key,
            settings,
            self.database,
            self.artifacts,
            Way(self.network, self.name),
            self.url,
            random.Random(self.name),
            lambda: now() + self.clock_offset,
            inline(),
        )
        self.running = True
        self._ended = trio.Event()
        await nursery.start(self._run)

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            await self.engine.run(task_status=task_status)
        finally:
            self.running = False
            self.database.close()
            self._ended.set()

    async def stop(self) -> None:
        """Stop as SIGTERM does."""
        await self.engine.shutdown()
        await self._ended.wait()

    def release(self, version: str = "1.0", plugin_id: str = "hello") -> Release | None:
        """The release as this node judges it now."""
        return self.database.read_now(lambda db: catalogue.get_release(db, SOURCE_ID, plugin_id, version))

    async def announce_source(self, *, verified: bool = True) -> None:
        await self.engine.announce(
            SourceStatement(
                source_id=SOURCE_ID,
                instance_url="https://plugins.example",
                username="alice",
                public_key=PUBLISHER.public,
                asset_domain="https://plugins.example",
                asset_naming_scheme="author/slug/version.zip",
                verified=verified,
                verified_at=int(now()),
            )
        )

    async def publish(self, data: bytes, *, version: str = "1.0", plugin_id: str = "hello", **more: object) -> bytes:
        """Store bytes as seen at the publisher, observe and announce them; their sha256."""
        sha256 = self.artifacts.put_bytes(data)
        statement = VersionStatement(
            source_id=SOURCE_ID,
            plugin_id=plugin_id,
            version=version,
            type="plugin",
            name="Hello",
            description="Says hello",
            tags=("greeting",),
            sha256=sha256,
            size=len(data),
            observed_at=int(now()),
            evidence=(),
        )
        statement = replace(statement, **more)  # type: ignore[arg-type]
        observation = Observation(
            source_id=SOURCE_ID,
            plugin_id=plugin_id,
            version=version,
            observer=self.id,
            announcement_id=None,
            sha256=sha256,
            size=len(data),
            name=statement.name,
            description=statement.description,
            tags=statement.tags,
            type=statement.type,
            evidence=statement.evidence,
            observed_at=statement.observed_at,
        )
        await self.database.write(lambda db: releases.observe(db, observation))
        await self.engine.announce(statement)
        return sha256


class Network:
    """The nodes by the host of their URL, and which of them are unplugged."""

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self.folder = folder
        self.nursery = nursery
        self.nodes: dict[str, Node] = {}
        self.unplugged: set[str] = set()
        self.sent: list[tuple[str, str, bytes]] = []  # (to, path, body) of every request, to replay it

    async def add(
        self, name: str, *, join: tuple[str, ...] = (), polls: bool = False, start: bool = True, **settings: object
    ) -> Node:
        """A further node, started unless `start` is False; `join` names others by their names or by join targets."""
        targets = tuple(text if "://" in text else f"http://{text}.test" for text in join)
        key = PrivateKey(bytes([len(self.nodes) + 1]) * 32)
        url = None if polls else f"http://{name}.test"
        node = self.nodes[name] = Node(self, name, key, self.folder / name, url, targets, settings)
        if start:
            await node.start(self.nursery)
        return node

    def reach(self, url: str, sender: str) -> Node:
        name = (urlsplit(url).hostname or "").removesuffix(".test")
        node = self.nodes.get(name)
        if node is None or not node.running or name in self.unplugged or sender in self.unplugged:
            raise Unreachable("Nobody answers there.")
        return node


@dataclass
class Way:
    """One node's way out into the network."""

    network: Network
    sender: str

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        bytes_max: int,
        seconds_max: float,
    ) -> Reply:
        node = self.network.reach(url, self.sender)
        path = urlsplit(url).path.removeprefix("/node/v1/")
        node.asked.append(path)
        await trio.sleep(HOP_SECONDS)
        node = self.network.reach(url, self.sender)
        if method == "GET":
            assert path == "info"
            return Reply(200, {}, json.dumps(node.engine.info().as_json()).encode(), url)
        assert content is not None
        self.network.sent.append((node.name, path, content))
        status, body = await node.engine.handle(path, content)
        await trio.sleep(HOP_SECONDS)
        self.network.reach(url, self.sender)
        if len(body) > bytes_max:
            raise AnswerTooLarge("It is too large.")
        return Reply(status, {}, body, url)

    async def download(
        self,
        url: str,
        sink: Callable[[bytes], object],
        *,
        headers: Mapping[str, str] | None = None,
        bytes_max: int,
        seconds_max: float,
        bytes_per_second_min: float,
        redirects_max: int = 2,
    ) -> Reply:
        node = self.network.reach(url, self.sender)
        node.asked.append("artifacts")
        await trio.sleep(HOP_SECONDS + node.download_delay)
        try:
            artifact = node.artifacts.open(bytes.fromhex(url.rpartition("/")[2]))
        except ArtifactMissing:
            return Reply(404, {}, b"", url)
        with os.fdopen(artifact.fd, "rb") as file:
            data = file.read() if node.lie is None else node.lie
        brought = 0
        for start in range(0, len(data), CHUNK_BYTES):
            chunk = data[start : start + CHUNK_BYTES]
            brought += len(chunk)
            if brought > bytes_max:
                raise AnswerTooLarge("It is too large.")
            sink(chunk)
            await trio.lowlevel.checkpoint()
        return Reply(200, {}, b"", url)


@asynccontextmanager
async def network(folder: Path) -> AsyncIterator[Network]:
    """A network that is taken down at the end."""
    async with trio.open_nursery() as nursery:
        built = Network(folder, nursery)
        yield built
        for node in built.nodes.values():
            if node.running:
                await node.stop()
        nursery.cancel_scope.cancel()


async def eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait, in virtual time, until it is so; fail if it does not come about."""
    with trio.move_on_after(seconds):
        while not condition():
            await trio.sleep(max(0.05, seconds / 500))
    assert condition(), f"not so after {seconds} s"
