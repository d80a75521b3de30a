"""A real node that has mirrored plugins of a real publisher into a bucket."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import obstore
from obstore.exceptions import BaseError

from pfn_node.artifacts.object_store import MARK
from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess
from tests.end_to_end.conftest import eventually, follow, offers
from tests.end_to_end.plugins import write_plugin
from tests.object_store.server import Bucket

SLUGS = ("night-lamp", "tide-table")
LARGE = "star-chart"  # takes many blocks, and more than one part
LARGE_BYTES = 6 * 2**20


@dataclass
class Mirror:
    """The node, its publisher, and the digests of the zips by slug."""

    client: NodeClient
    node: LocalProcess
    publisher: LocalProcess
    bucket: Bucket
    source: str
    digests: dict[str, bytes]

    @classmethod
    async def made(cls, mesh: LocalMesh, bucket: Bucket, folder: Path, *, large: bool = False, **settings: str) -> Self:
        """Start both, and subscribe."""
        for slug in SLUGS:
            write_plugin(folder / "plugins", slug, "1.0")
        if large:
            _write_large(folder / "plugins", LARGE, LARGE_BYTES)
        publisher = await mesh.start_publisher(folder / "plugins", "ada")
        environment = {**bucket.environment, "PFN_ARTIFACTS": f"{bucket.url}/zips", **settings}
        client = await mesh.start_node(environment=environment)
        source = await follow(client, publisher, "ada")
        made = cls(client, mesh.nodes[-1], publisher, bucket, source, {})
        await made.sync()
        return made

    async def sync(self) -> None:
        """Subscribe, which mirrors everything that is not here."""
        await self.client.post("subscribe", {"sourceId": self.source})
        rows = (await self.client.get("plugins", source=self.source, limit=100))["plugins"]
        self.digests = {row["plugin_id"]: bytes.fromhex(row["sha256"]) for row in rows}

    async def add(self, slug: str, size: int = 0) -> None:
        """One more plugin, which its publisher has seen."""
        folder = self.node.folder / "plugins"
        _write_large(folder, slug, size)
        expected = {one.name: "1.0" for one in folder.iterdir()}
        await eventually(lambda: offers(self.publisher, self.client, "ada", expected))

    async def get(
        self, slug: str, method: str = "GET", *, headers: dict[str, str] | None = None, follow_redirects: bool = False
    ) -> httpx.Response:
        """Ask for a zip as a stranger."""
        async with httpx.AsyncClient(timeout=60, trust_env=False, follow_redirects=follow_redirects) as stranger:
            url = self.client.url("download", sourceId=self.source, plugin=slug)
            return await stranger.request(method, url, headers=headers)

    async def text(self, path: str) -> str:
        """A page of the node as a stranger sees it."""
        async with httpx.AsyncClient(timeout=60, trust_env=False) as stranger:
            return (await stranger.get(f"{self.node.url}{path}")).text

    def is_right(self, slug: str, content: bytes) -> bool:
        """Whether these are the bytes of its zip."""
        return hashlib.sha256(content).digest() == self.digests[slug]

    def key(self, slug: str) -> str:
        """Of its object."""
        name = self.digests[slug].hex()
        return f"zips/{name[:2]}/{name[2:]}"

    def in_bucket(self, slug: str) -> bytes | None:
        """What the object holds, if it is there."""
        try:
            return bytes(obstore.get(self.bucket.store, self.key(slug)).bytes())
        except (FileNotFoundError, BaseError):
            return None

    def damage(self, slug: str, at: int) -> None:
        """Turn over one bit of the object."""
        data = self.in_bucket(slug)
        assert data is not None
        at %= len(data)
        obstore.put(self.bucket.store, self.key(slug), data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])

    def delete(self, slug: str) -> None:
        """Take the object away."""
        obstore.delete(self.bucket.store, self.key(slug))


def objects(bucket: Bucket) -> dict[str, object]:
    """When every artifact of the bucket was written, by its key."""
    found = obstore.list(bucket.store).collect()
    return {entry["path"]: entry["last_modified"] for entry in found if not entry["path"].endswith(MARK)}


def artifact_files(folder: Path) -> list[Path]:
    """The zips in the data folders below this one."""
    return [
        path
        for path in folder.rglob("artifacts/**/*")
        if path.is_file() and "stored" not in path.parts and path.read_bytes().startswith(b"PK")
    ]


def _write_large(folder: Path, slug: str, size: int) -> None:
    """Whole at once, however slow the machine is: a publisher takes what stays the same for a second."""
    beside = folder.with_name("unfinished")
    write_plugin(beside, slug, "1.0")
    (beside / slug / "stars.bin").write_bytes(os.urandom(size))
    (beside / slug).rename(folder / slug)
