"""A node's web application with a real store and real artifacts, and fakes of the two rooms that would dial out."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from quart.typing import TestClientProtocol
from werkzeug.datastructures import Headers

from pfn_node.addresses import check_url
from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.mesh.views import JoinView, PeerView
from pfn_node.safe_quart import SafeQuart
from pfn_node.settings import Settings
from pfn_node.sources.notices import Notices
from pfn_node.sources.outcomes import (
    AuthorInfo,
    NoticeOutcome,
    PublisherFailed,
    SourceConflict,
    SyncResult,
    UnknownSource,
    VerificationOutcome,
)
from pfn_node.sources.previewing import Preview, preview
from pfn_node.sources.progress import Progress
from pfn_node.sources.publisher_answers import AuthorData
from pfn_node.store import announcements, facts, registry, releases
from pfn_node.store.database import Database
from pfn_node.store.rows import Filters, Observation, Release, Source
from pfn_node.store.webhooks import Attempt
from pfn_node.web.app import create_app
from pfn_node.web.services import Services
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import Evidence, EvidenceForm, NoticeStatement, OwnStatement, VersionStatement
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey, parse_public_key, public_key_pem
from pfn_protocol.names import parse_instance_url, source_id_of
from pfn_protocol.publisher import metadata_message, open_keybind, open_release
from tests.node.examining import examine_here
from tests.node.store_world import open_store

MASTER_KEY = "a master key of more than 32 characters"
NOW = 1_795_420_800
NODE = PrivateKey(bytes([1]) * 32)
PUBLISHER = PrivateKey(bytes([2]) * 32)
STRANGER = PrivateKey(bytes([3]) * 32)
URL = "https://publisher.test"
BILBO = "bilbo@publisher.test"
# The original's columns of `sources`, in its order.
SOURCE_COLUMNS = (
    "id",
    "instance_url",
    "username",
    "public_key",
    "status",
    "trust_score",
    "created_at",
    "last_sync",
    "asset_domain",
    "asset_naming_scheme",
)


@dataclass
class FakeSources:
    """Registers and verifies like the real room, without a publisher: the test says what a publisher would answer."""

    database: Database
    publisher_up: bool = True
    outcome: VerificationOutcome = field(
        default_factory=lambda: VerificationOutcome(True, "verified", "it holds the key")
    )
    sync: SyncResult = field(
        default_factory=lambda: SyncResult(True, False, 4, 4, (), AuthorInfo("bilbo", "2024-10-30", "https://b.test"))
    )
    failure: Exception | None = None
    synced: list[tuple[str, str, Filters]] = field(default_factory=list)
    removed: list[tuple[str, bool]] = field(default_factory=list)
    handed_in: list[tuple[bytes, bytes | None, str | None]] = field(default_factory=list)
    announced: list[OwnStatement] = field(default_factory=list)
    muted: bool = False  # the mesh says nothing now
    progress: Progress = field(default_factory=lambda: Progress(lambda: float(NOW)))
    started: list[str] = field(default_factory=list)  # verifications
    listed: AuthorData | None = None  # what the publisher lists
    updated: list[dict[str, Any]] = field(default_factory=list)

    async def add(self, instance_url: str, username: str, public_key: str) -> tuple[Source, bool]:
        self._fail()
        url = parse_instance_url(instance_url, allow_http=True)
        pem = public_key_pem(parse_public_key(public_key))
        source_id = source_id_of(url, username)

        def insert(db: Any) -> Source:
            try:
                return registry.insert_source(
                    db, id=source_id, instance_url=url, username=username, public_key=pem, created_at=NOW
                )
            except registry.SourceExists as error:
                raise SourceConflict(str(error)) from error

        return await self.database.write(insert), True

    async def verify(self, source_id: str, type: str) -> VerificationOutcome:
        self._fail()
        return self.outcome

    async def start_verification(self, source_id: str) -> None:
        self._fail()
        self.started.append(source_id)

    async def preview(self, source_id: str, filters: Filters) -> Preview:
        self._fail()

        async def ask(source: Source) -> AuthorData:
            if self.listed is None:
                raise PublisherFailed("the publisher does not answer")
            return self.listed

        found = await self.database.read(lambda db: registry.get_source(db, source_id))
        if found is None:
            raise UnknownSource(source_id)
        return await preview(self.database, ask, found, filters)

    async def update(
        self,
        source_id: str,
        *,
        instance_url: str | None = None,
        public_key: str | None = None,
        allow_unsigned: bool | None = None,
    ) -> Source:
        self._fail()
        if public_key is not None:
            parse_public_key(public_key)
        self.updated.append({"instance_url": instance_url, "public_key": public_key, "allow_unsigned": allow_unsigned})
        found = await self.database.read(lambda db: registry.get_source(db, source_id))
        assert found is not None
        return found

    async def remove(self, source_id: str, purge: bool) -> None:
        self._fail()
        self.removed.append((source_id, purge))
        await self.database.write(lambda db: registry.delete_source(db, source_id, purge))

    async def subscribe(
        self, source_id: str, subscriber: str, filters: Filters, *, seconds_max: float = 55.0
    ) -> SyncResult:
        self._fail()
        self.synced.append((source_id, subscriber, filters))
        await self.database.write(lambda db: registry.set_subscription(db, source_id, subscriber, filters, NOW))
        return self.sync

    async def unsubscribe(self, source_id: str, subscriber: str) -> bool:
        self._fail()
        return await self.database.write(lambda db: registry.delete_subscription(db, source_id, subscriber))

    async def accept_release(self, envelope: bytes, keybind: bytes | None, artifact_url: str | None) -> Release:
        self._fail()
        statement, _ = open_release(envelope)
        if keybind is not None:
            open_keybind(keybind)
        self.handed_in.append((envelope, keybind, artifact_url))
        return replace(a_release(), version=statement.version, assurance="A3")

    async def accept_notices(self, envelopes: Sequence[bytes], keybinds: Sequence[bytes]) -> list[NoticeOutcome]:
        return await self._notices.take(envelopes, keybinds)

    async def say(self, statement: NoticeStatement) -> bool:
        return await self._notices.say(statement)

    @property
    def _notices(self) -> Notices:
        return Notices(self.database, self._announce, lambda: float(NOW))

    async def _announce(self, statement: OwnStatement) -> bool:
        if self.muted:
            return False
        self.announced.append(statement)
        made = announce(NODE, "main", statement, 0, NOW * 1_000 + len(self.announced))
        await self.database.write(lambda db: announcements.keep(db, made, True, NOW))
        return True

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure
        if not self.publisher_up:
            raise PublisherFailed("the publisher does not answer")


@dataclass
class FakeMesh:
    """Remembers what it was asked, and answers what the test set."""

    known: list[PeerView] = field(default_factory=list)
    answer: tuple[int, bytes] = (200, b"\x95answer")
    asked: list[tuple[str, bytes]] = field(default_factory=list)
    policies: list[tuple[bytes, bool | None, bool | None]] = field(default_factory=list)
    joined: list[tuple[str, bytes | None]] = field(default_factory=list)
    reached: bytes | None = STRANGER.public
    refusal: Refusal | None = None
    targets: list[JoinView] = field(default_factory=list)
    left: list[tuple[str | None, bytes | None]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)  # of the status, beside those that it always has

    async def handle(self, path: str, raw: bytes) -> tuple[int, bytes]:
        self.asked.append((path, raw))
        return self.answer

    async def join(self, url: str, key: bytes | None) -> bytes | None:
        if self.refusal is not None:
            raise self.refusal
        self.joined.append((url, key))
        return self.reached

    async def joins(self) -> Sequence[JoinView]:
        return self.targets

    async def leave(self, url: str | None, node_id: bytes | None) -> Sequence[str]:
        self.left.append((url, node_id))
        return [one.url for one in self.targets]

    async def set_policy(self, node_id: bytes, *, pinned: bool | None = None, blocked: bool | None = None) -> None:
        self.policies.append((node_id, pinned, blocked))

    def peers(self) -> Sequence[PeerView]:
        return self.known

    def status(self) -> Mapping[str, Any]:
        return {"links": len(self.known), "software": "not a figure", **self.figures}


@dataclass
class FakeWant:
    """Read-through: the release that the test puts here, or nothing."""

    found: Release | None = None
    asked: list[tuple[Release, bool]] = field(default_factory=list)

    async def __call__(self, release: Release, *, anonymous: bool) -> Release | None:
        self.asked.append((release, anonymous))
        return self.found


@dataclass
class FakeWebhooks:
    """Judges URLs like the real room, and sends nothing: the test says how it would go."""

    outcome: Attempt = field(default_factory=lambda: Attempt(NOW, 204, None))
    tested: list[str] = field(default_factory=list)
    looks: int = 0

    def check_url(self, text: str) -> str:
        return check_url(text, allow_private_networks=False)

    def look_soon(self) -> None:
        self.looks += 1

    async def test(self, webhook_id: str) -> Attempt:
        self.tested.append(webhook_id)
        return self.outcome


@dataclass
class WebNode:
    """The app, its parts, and shorthands for asking it."""

    app: SafeQuart
    client: TestClientProtocol
    services: Services
    sources: FakeSources
    mesh: FakeMesh
    want: FakeWant
    key: str = ""

    async def call(self, method: str, path: str, **options: Any) -> "Got":
        response = await self.client.open(path, method=method, **options)
        return Got(response.status_code, response.headers, await response.get_data(as_text=False))

    async def get(self, path: str, **options: Any) -> "Got":
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: object = None, *, key: str | None = None, **options: Any) -> "Got":
        headers = {"Authorization": f"Bearer {key or self.key}"} | options.pop("headers", {})
        if "data" in options:
            return await self.call("POST", path, headers=headers, **options)
        return await self.call("POST", path, json=body, headers=headers, **options)

    async def read(self, path: str, *, key: str | None = None, **options: Any) -> "Got":
        """A GET with an API key."""
        return await self.get(path, headers={"Authorization": f"Bearer {key or self.key}"}, **options)

    async def make_key(self, **body: object) -> str:
        got = await self.post("/federation/create-admin-key", body, key=MASTER_KEY)
        assert got.status == 200, got.body
        return str(got.json["key"])

    async def add_bilbo(self, **columns: Any) -> Source:
        """A registered and verified source."""

        def insert(db: Any) -> Source:
            registry.insert_source(
                db,
                id=BILBO,
                instance_url=URL,
                username="bilbo",
                public_key=public_key_pem(PUBLISHER.public),
                created_at=NOW,
            )
            return registry.update_source(
                db, BILBO, **{"status": "verified", "verified_at": NOW, "oracle": "none"} | columns
            )

        return await self.services.database.write(insert)

    async def add_release(self, data: bytes, *, kept: bool = True, **fields: Any) -> Observation:
        """A release that this node itself saw at the publisher, signed as the original signs."""
        seen = observation(data, observer=NODE, **fields)
        if kept:
            self.services.artifacts.put_bytes(data)
        await self.services.database.write(lambda db: releases.observe(db, seen, stored=kept))
        return seen

    async def add_report(self, data: bytes, reporter: PrivateKey = STRANGER, **fields: Any) -> None:
        """A release that only another node has seen."""
        seen = observation(data, observer=reporter, **fields)
        names = ("source_id", "plugin_id", "version", "type", "name", "description", "tags", "sha256", "size")
        statement = VersionStatement(
            **{name: getattr(seen, name) for name in names}, observed_at=seen.observed_at, evidence=seen.evidence
        )
        announcement = announce(reporter, "main", statement, 0, NOW * 1000)
        await self.services.database.write(lambda db: announcements.keep(db, announcement, True, NOW))


@dataclass(frozen=True)
class Got:
    """An answer."""

    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def sentence(self) -> str:
        """The error, after checking that the answer is one, and shows nothing of our insides."""
        answer = self.json
        assert set(answer) == {"error", "details", "request_id"}, answer
        assert self.headers["X-Request-ID"] == answer["request_id"]
        assert isinstance(answer["details"], dict)
        assert "Traceback" not in self.body.decode() and "/pfn_" not in self.body.decode()
        sentence: str = answer["error"]
        assert sentence[0].isupper() or not sentence.split()[0].isalpha(), sentence
        assert sentence.endswith("."), sentence
        return sentence


def observation(data: bytes, *, observer: PrivateKey, **fields: Any) -> Observation:
    """What an observer saw: `data` as hello-signal 1.0.0, unless the fields say otherwise."""
    given: dict[str, Any] = {
        "source_id": BILBO,
        "plugin_id": "hello-signal",
        "version": "1.0.0",
        "name": "Hello <b>Signal</b>",
        "description": "It says hello.",
        "tags": ("Utilities",),
        "type": "plugin",
        "observed_at": NOW,
    } | fields
    message = metadata_message(given["plugin_id"], given["name"], given["version"], given["description"])
    signed = (Evidence(EvidenceForm.METADATA, PUBLISHER.sign(message)),)
    return Observation(
        observer=observer.public,
        announcement_id=None,
        sha256=hashlib.sha256(data).digest(),
        size=len(data),
        **{"evidence": signed} | given,
    )


def a_release() -> Release:
    """A release for fakes to return."""
    return Release(
        source_id=BILBO,
        plugin_id="hello-signal",
        version="1.0.0",
        type="plugin",
        name="Hello Signal",
        description=None,
        tags=(),
        sha256=bytes(32),
        size=1,
        assurance="A1",
        backed=True,
        mirrored=True,
        conflict=False,
        disputed_by=(),
        reported_by=(),
        backed_by="self",
        icons={},
        observed_at=NOW,
    )


def restarted(node: WebNode) -> WebNode:
    """The same node with its app made anew: an app keeps the clock that it was made with."""
    app = create_app(node.services)
    return replace(node, app=app, client=app.test_client(use_cookies=False))


@asynccontextmanager
async def web_node(folder: Path, **settings: Any) -> AsyncIterator[WebNode]:
    """A node's app in a folder; `key` is an API key with every scope."""
    given: dict[str, Any] = {"data": folder, "master_key": MASTER_KEY, "url": "https://node.test"} | settings
    chosen = Settings(**given)
    artifacts = Artifacts(folder / "artifacts", chosen.cache_bytes_max)
    artifacts.start()
    database = open_store(folder / "node.db")
    try:
        await database.write(lambda db: facts.set_identity(db, NODE.public, chosen.trust_depth))
        sources, mesh, want = FakeSources(database), FakeMesh(), FakeWant()
        services = Services(
            chosen,
            database,
            artifacts,
            sources,
            mesh,
            NODE.public,
            chosen.url,
            want,
            FakeWebhooks(),
            examine_here,
            now=lambda: float(NOW),
        )
        app = create_app(services)
        node = WebNode(app, app.test_client(use_cookies=False), services, sources, mesh, want)
        if chosen.master_key is not None:
            node.key = await node.make_key(description="test")
        yield node
    finally:
        database.close()
