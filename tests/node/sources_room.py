"""A room of sources for tests: real store, real artifacts, real rules; the network and the clock are fakes.

`Publisher` is one that speaks every dialect: signatures in author-data, profile v2, none, and whatever a test puts in.
"""

import base64
import hashlib
import io
import json
import random
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlite_utils
import trio

from pfn_node.archive_readers import Examine
from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.settings import Settings
from pfn_node.sources.mirroring import FetchArtifact
from pfn_node.sources.operations import Sources
from pfn_node.store import announcements, catalogue
from pfn_node.store.activity import activities
from pfn_node.store.facts import set_identity
from pfn_node.store.rows import Activity, Release, Source
from pfn_node.store.sources import get_source
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import (
    AcceptedAnnouncement,
    MirrorStatement,
    OwnStatement,
    SourceStatement,
    Statement,
    VersionStatement,
)
from pfn_protocol.identity import PrivateKey, public_key_pem
from pfn_protocol.publisher import (
    ReleaseStatement,
    metadata_message,
    sign_keybind,
    sign_release,
    sign_sha384,
)
from tests.node.examining import examine_here
from tests.node.fake_outbound import Answer, FakeNetwork, Request
from tests.node.store_world import open_store

T = TypeVar("T")

START = 1_800_000_000.0  # what the node's clock says when a test begins
JSON = {"Content-Type": "application/json"}


def plugin_zip(slug: str, version: str, *, name: str = "A Plugin", type: str = "plugin", extra: bytes = b"") -> bytes:
    """A plugin's or theme's zip; `extra` makes other bytes of the same version."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        if type == "plugin":
            archive.writestr(f"{slug}/{slug}.php", f"<?php\n/*\nPlugin Name: {name}\nVersion: {version}\n*/\n")
        else:
            archive.writestr(f"{slug}/style.css", f"/*\nTheme Name: {name}\nVersion: {version}\n*/\n")
            archive.writestr(f"{slug}/index.php", "<?php\n")
        archive.writestr(f"{slug}/readme.txt", b"read me " + extra)
    return data.getvalue()


class Publisher:
    """One publisher with one author; plain attributes are its switches, read at every request."""

    def __init__(self, seed: int = 1, author: str = "ann", url: str = "http://publisher.test") -> None:
        self.key = PrivateKey(bytes([seed]) * 32)
        self.author = author
        self.url = url
        self.asset_info: Any = {"domain": url, "namingScheme": "plugins/author/slug/slug.zip"}
        self.entries: list[Any] = []
        self.zips: dict[str, bytes] = {}
        self.plugin_data: dict[str, str] = {}
        self.etags = False
        self.down = False
        self.oracle = "none"
        self.challenges: list[Any] = []
        self.answers: dict[str, Answer] = {}  # canned answers by path

    @property
    def pem(self) -> str:
        return public_key_pem(self.key.public)

    @property
    def source_id(self) -> str:
        return f"{self.author}@{self.url.partition('://')[2].partition('/')[0]}"

    def publish(
        self,
        slug: str,
        version: str,
        *,
        signed: bool = True,
        v2: PrivateKey | None = None,
        type: str = "plugin",
        name: str = "A Plugin",
        description: str | None = "What it does.",
        extra: bytes = b"",
        **fields: Any,
    ) -> dict[str, Any]:
        """List a plugin at a version, put its zip in place, and return the entry."""
        entry: dict[str, Any] = {"slug": slug, "name": name, "version": version, "tags": ["one", "two"]}
        if description is not None:
            entry["short_description"] = description
        zipped = plugin_zip(slug, version, name=name, type=type, extra=extra)
        if signed:
            entry["signature"] = _base64(self.key.sign(metadata_message(slug, name, version, description)))
        if v2 is not None:
            entry["release_v2"] = _base64(self.release(slug, version, zipped, v2))
            if v2.public != self.key.public:
                entry["keybind_v2"] = _base64(self.keybind(v2))
            entry["signature_sha384"] = _base64(sign_sha384(self.key, hashlib.sha384(zipped).digest()))
        entry |= fields
        self.zips[slug] = zipped
        self.entries = [*(one for one in self.entries if not isinstance(one, dict) or one.get("slug") != slug), entry]
        return entry

    def release(self, slug: str, version: str, zipped: bytes, key: PrivateKey) -> bytes:
        """A pfn/release/2 envelope over a zip."""
        statement = ReleaseStatement(
            self.url, self.author, slug, version, hashlib.sha256(zipped).digest(), len(zipped), 0, 1_800_000_000_000,
            bytes(32),
        )  # fmt: skip
        return sign_release(key, statement).raw

    def keybind(self, key: PrivateKey) -> bytes:
        """A pfn/keybind/2 envelope that binds a release key to this publisher's key."""
        return sign_keybind(self.key, key, self.url).raw

    def sign_plugin_data(self, slug: str, version: str, *, key: PrivateKey | None = None) -> None:
        """Serve /federated/plugin-data for a plugin, spelled with spaces that re-encoding would lose."""
        text = json.dumps([{"slug": slug, "version": version, "name": "Ünï"}], ensure_ascii=False, indent=1)
        signature = _base64((key or self.key).sign(text.encode()))
        self.plugin_data[slug] = f'{{"data": {text}, "signature": "{signature}"}}'

    def answer(self, request: Request) -> Answer:
        """What the publisher says to a request."""
        path = request.path
        if self.down:
            return "down", 503, {}
        if path in self.answers:
            return self.answers[path]
        match request.method, path:
            case "GET", "/federation-info":
                return (
                    json.dumps({"version": "2", "features": ["plugin-sync"], "assetInfo": self.asset_info}),
                    200,
                    JSON,
                )
            case "POST", "/verify-ownership":
                return self._prove(json.loads(request.body))
            case "GET", "/author-data":
                return self._author_data(request)
            case "GET", "/federated/plugin-data":
                text = self.plugin_data.get(request.query["slug"])
                return (text, 200, JSON) if text else ('{"error":"none"}', 404, JSON)
            case "GET", "/federated/download":
                return self._zip(request, request.query["slug"])
            case "GET", _ if path.endswith(".zip"):
                return self._zip(request, path.rsplit("/", 1)[1].removesuffix(".zip"))
        return '{"error":"Not found"}', 404, JSON

    def _prove(self, asked: dict[str, Any]) -> Answer:
        challenge = asked["challenge"]
        self.challenges.append(challenge)
        if isinstance(challenge, list):
            message = bytes(challenge) if self.oracle == "raw" else None
        else:
            is_text = "oracle" in challenge
            message = challenge.encode() if not is_text or self.oracle in ("utf8", "raw") else None
        if message is None:
            return '{"error":"not a UUID"}', 400, JSON
        return json.dumps({"signature": _base64(self.key.sign(message))}), 200, JSON

    def _author_data(self, request: Request) -> Answer:
        if request.query["author"] != self.author:
            return '{"error":"Author not found"}', 404, JSON
        text = json.dumps({"username": self.author, "member_since": "2024-10-30", "plugins": self.entries})
        return self._tagged(request, text.encode(), JSON)

    def _zip(self, request: Request, slug: str) -> Answer:
        if slug not in self.zips:
            return '{"error":"Plugin not found"}', 404, JSON
        return self._tagged(request, self.zips[slug], {"Content-Type": "application/zip"})

    def _tagged(self, request: Request, body: bytes, headers: dict[str, str]) -> Answer:
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if not self.etags:
            return body, 200, headers
        if request.headers.get("if-none-match") == etag:
            return b"", 304, {"ETag": etag}
        return body, 200, {**headers, "ETag": etag}


class Room:
    """The room under test, and what it said to the mesh."""

    def __init__(self, path: Path, network: FakeNetwork, **settings: Any) -> None:
        self.network = network
        self.settings = Settings(data=path, allow_private_networks=True, **settings)
        self.database = open_store(path / "node.db")
        self.artifacts = Artifacts(path / "artifacts", 2**20)
        self.artifacts.start()
        self.key = PrivateKey(b"\x07" * 32)
        self.announced: list[Statement] = []
        self.examine: Examine = examine_here
        self.fetch_artifact: FetchArtifact | None = None
        self.tell: Callable[[AcceptedAnnouncement], Awaitable[None]] = heard_by_nobody
        self.seed = 1
        self.offset = 0.0
        self._seq = 0

    def clock(self) -> float:
        """Seconds since 1970: the mock clock's, plus what the test skipped."""
        return START + self.offset + trio.current_time() - self._started

    @asynccontextmanager
    async def running(self, *, loops: bool = True) -> AsyncIterator[Sources]:
        """The room at work."""
        self._started = trio.current_time()
        await self.database.write(lambda db: set_identity(db, self.key.public, 1))
        async with self.network.outbound() as outbound, trio.open_nursery() as nursery:
            sources = Sources(
                self.database,
                self.artifacts,
                outbound,
                self.settings,
                self.announce,
                self.key.public,
                lambda path: self.examine(path),
                self.clock,
                random.Random(self.seed),
                fetch_artifact=self.fetch_artifact,
                run_blocking=inline,
            )
            await nursery.start(sources.run)
            try:
                yield sources
            finally:
                nursery.cancel_scope.cancel()
                self.database.close()

    async def announce(self, statement: OwnStatement) -> None:
        """What the mesh engine does with a statement: signs it, keeps it."""
        self.announced.append(statement)
        self._seq += 1
        told = announce(self.key, "main", statement, 0, int(self.clock() * 1000) + self._seq)
        await self.keep(told)
        await self.tell(told)

    async def keep(self, announcement: AcceptedAnnouncement) -> None:
        now = int(self.clock())
        await self.database.write(lambda db: announcements.keep(db, announcement, True, now))

    def versions(self) -> list[VersionStatement]:
        return [one for one in self.announced if isinstance(one, VersionStatement)]

    def mirrors(self) -> list[MirrorStatement]:
        return [one for one in self.announced if isinstance(one, MirrorStatement)]

    def attestations(self) -> list[SourceStatement]:
        return [one for one in self.announced if isinstance(one, SourceStatement)]

    def read(self, work: Callable[[sqlite_utils.Database], T]) -> T:
        return self.database.read_now(work)

    def source(self, source_id: str) -> Source:
        found = self.read(lambda db: get_source(db, source_id))
        assert found is not None
        return found

    def release(self, source_id: str, slug: str, version: str) -> Release | None:
        return self.read(lambda db: catalogue.get_release(db, source_id, slug, version))

    def activities(self, type: str | None = None) -> list[Activity]:
        return self.read(lambda db: activities(db, type=type, limit=1000))[0]


async def heard_by_nobody(announcement: AcceptedAnnouncement) -> None:
    """What the mesh does with an announcement in a room that is alone."""


async def inline(work: Callable[[], T]) -> T:
    """Runs what blocks in the event loop: time must not jump ahead meanwhile."""
    await trio.lowlevel.checkpoint()
    return work()


async def settled(condition: Callable[[], bool], *, looks: int = 2000) -> None:
    """Waits, without waiting for time to pass, until something is true."""
    for _ in range(looks):
        if condition():
            return
        await trio.lowlevel.checkpoint()
    raise AssertionError("it never came true")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def arranged(path: Path, **settings: Any) -> tuple[Room, Publisher]:
    """A room, and a publisher at http://publisher.test that it can reach."""
    network, publisher = FakeNetwork(), Publisher()
    network.hosts["publisher.test"] = publisher.answer
    return Room(path, network, **settings), publisher


async def registered(sources: Sources, publisher: Publisher) -> None:
    """Register and verify the publisher's source."""
    await sources.add(publisher.url, publisher.author, publisher.pem)
    outcome = await sources.verify(publisher.source_id)
    assert outcome.success, outcome.details
