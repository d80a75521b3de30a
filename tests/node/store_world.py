"""A small world for tests of the store: this node, other nodes and publishers, on a database in memory.

Announcements are really signed and accepted, so that what is kept is what would come over the wire.
"""

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlite_utils

from pfn_node.store import announcements, catalogue, facts, peers, releases, sources
from pfn_node.store.database import Database
from pfn_node.store.rows import Observation, Plugin, Release, Source
from pfn_node.store.schema import migrations
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import (
    AcceptedAnnouncement,
    Evidence,
    EvidenceForm,
    MirrorStatement,
    NodeStatement,
    SourceStatement,
    Statement,
    VersionStatement,
)
from pfn_protocol.identity import PrivateKey, public_key_pem
from pfn_protocol.publisher import ReleaseStatement, metadata_message, sign_keybind, sign_release

NOW = 1_790_000_000
MESH = "main"


def key(name: str) -> PrivateKey:
    """The same key for the same name, always."""
    return PrivateKey(hashlib.sha256(name.encode()).digest())


def digest(name: str) -> bytes:
    return hashlib.sha256(b"zip " + name.encode()).digest()


@cache
def _tables_in_memory() -> bytes:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrations.apply(sqlite_utils.Database(connection, execute_plugins=False))
        return connection.serialize()


@cache
def _tables_in_a_file() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "node.db"
        Database.open(path, inline=True).close()
        return path.read_bytes()


def empty_database() -> sqlite_utils.Database:
    """In memory, with all tables: copied from some that were made once, which takes longer than most tests."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.deserialize(_tables_in_memory())
    connection.execute("PRAGMA foreign_keys = ON")
    return sqlite_utils.Database(connection, execute_plugins=False)


def open_store(path: Path) -> Database:
    """The store in this file, without threads; where there is none a copy of an empty one."""
    if not path.exists():
        path.write_bytes(_tables_in_a_file())
    return Database.open(path, inline=True)


@dataclass
class Publisher:
    """A publisher with its identity key, and what it signs."""

    username: str = "bilbo"
    url: str = "https://shop.example"
    name: str = "publisher"

    @property
    def key(self) -> PrivateKey:
        return key(self.name)

    @property
    def source_id(self) -> str:
        return f"{self.username}@{self.url.removeprefix('https://')}"

    def metadata(self, slug: str, version: str, name: str, description: str | None = "Says hello.") -> Evidence:
        return Evidence(EvidenceForm.METADATA, self.key.sign(metadata_message(slug, name, version, description)))

    def release(
        self, slug: str, version: str, sha256: bytes, size: int = 100, release_key: PrivateKey | None = None
    ) -> tuple[Evidence, ...]:
        signer = release_key or self.key
        statement = ReleaseStatement(
            origin=self.url,
            author=self.username,
            slug=slug,
            version=version,
            sha256=sha256,
            size=size,
            epoch=0,
            seq=NOW * 1000,
            metadata_sha256=hashlib.sha256(metadata_message(slug, "Hello", version, "Says hello.")).digest(),
        )
        pieces = [Evidence(EvidenceForm.RELEASE, sign_release(signer, statement).raw)]
        if release_key is not None:
            pieces.append(Evidence(EvidenceForm.KEYBIND, sign_keybind(self.key, release_key, self.url).raw))
        return tuple(pieces)


@dataclass
class World:
    """This node and its database; `seq` moves on with each announcement."""

    db: sqlite_utils.Database = field(default_factory=empty_database)
    me: PrivateKey = field(default_factory=lambda: key("me"))
    seq: int = NOW * 1000
    at: int = NOW

    def __post_init__(self) -> None:
        facts.set_identity(self.db, self.me.public, 1)

    def add_source(self, publisher: Publisher, *, verified: bool = False, **columns: Any) -> Source:
        sources.insert_source(
            self.db,
            id=publisher.source_id,
            instance_url=publisher.url,
            username=publisher.username,
            public_key=public_key_pem(publisher.key.public),
            created_at=NOW,
        )
        if verified:
            columns = {"status": "verified", "verified_at": NOW, "oracle": "none"} | columns
        return sources.update_source(self.db, publisher.source_id, **columns)

    def pin(self, name: str, pinned: bool = True) -> bytes:
        peers.set_peer_policy(self.db, key(name).public, pinned=pinned)
        return key(name).public

    def block(self, name: str, blocked: bool = True) -> None:
        peers.set_peer_policy(self.db, key(name).public, blocked=blocked)

    def say(self, who: str, statement: Statement, *, admitted: bool = True, seq: int | None = None) -> bytes:
        """Sign a statement as a node, and keep it; return its id."""
        announcement = self.signed(who, statement, seq)
        announcements.keep(self.db, announcement, admitted, self.at)
        return announcement.id

    def signed(self, who: str, statement: Statement, seq: int | None = None) -> AcceptedAnnouncement:
        self.seq += 1
        signer = self.me if who == "me" else key(who)
        return announce(signer, MESH, statement, 0, self.seq if seq is None else seq)

    def saw(
        self, who: str, version: str = "1.0.0", bytes_of: str = "hello", *, admitted: bool = True, **fields: Any
    ) -> bytes:
        """A node announces that it saw a release."""
        return self.say(who, version_statement(version, bytes_of, **fields), admitted=admitted)

    def fetch(self, version: str = "1.0.0", bytes_of: str = "hello", *, stored: bool = True, **fields: Any) -> str:
        """This node fetches a release from the publisher."""
        statement = version_statement(version, bytes_of, **fields)
        observation = Observation(
            source_id=statement.source_id,
            plugin_id=statement.plugin_id,
            version=statement.version,
            observer=self.me.public,
            announcement_id=None,
            sha256=statement.sha256,
            size=statement.size,
            name=statement.name,
            description=statement.description,
            tags=statement.tags,
            type=statement.type,
            evidence=statement.evidence,
            observed_at=self.at,
            icons={"1x": "https://shop.example/icon.png"},
        )
        return releases.observe(self.db, observation, stored=stored)

    def release(self, version: str = "1.0.0") -> Release:
        found = catalogue.get_release(self.db, Publisher().source_id, "hello", version)
        assert found is not None
        return found

    def plugin(self, plugin_id: str = "hello") -> Plugin:
        found = catalogue.get_plugin(self.db, Publisher().source_id, plugin_id, now=self.at)
        assert found is not None
        return found

    def listed(self, **query: Any) -> list[str]:
        plugins, _, _ = catalogue.search_plugins(self.db, catalogue.PluginQuery(**query), now=self.at)
        return [plugin.release.plugin_id for plugin in plugins]


def version_statement(
    version: str = "1.0.0",
    bytes_of: str = "hello",
    *,
    source_id: str = "bilbo@shop.example",
    plugin_id: str = "hello",
    name: str = "Hello",
    description: str | None = "Says hello.",
    tags: tuple[str, ...] = (),
    type: str = "plugin",
    evidence: Sequence[Evidence] = (),
    observed_at: int = NOW,
    size: int = 100,
    replaces: bytes = b"",
) -> VersionStatement:
    return VersionStatement(
        source_id=source_id,
        plugin_id=plugin_id,
        version=version,
        type=type,
        name=name,
        description=description,
        tags=tags,
        sha256=digest(bytes_of),
        size=size,
        observed_at=observed_at,
        evidence=tuple(evidence),
        replaces=replaces,
    )


def source_statement(
    publisher: Publisher, *, verified: bool = True, key_of: str | None = None, oracle: str = ""
) -> SourceStatement:
    return SourceStatement(
        source_id=publisher.source_id,
        instance_url=publisher.url,
        username=publisher.username,
        public_key=publisher.key.public if key_of is None else key(key_of).public,
        asset_domain="https://assets.example",
        asset_naming_scheme="author/slug/slug.zip",
        verified=verified,
        verified_at=NOW if verified else 0,
        oracle=oracle,
    )


def node_statement(*, url: str = "", pins: Sequence[str] = (), left: bool = False) -> NodeStatement:
    return NodeStatement(
        url=url,
        software="test/1",
        features=(),
        pins=tuple(sorted(key(name).public for name in pins)),
        sponsored=(),
        count=0,
        root=bytes(32),
        left=left,
    )


def mirror_statement(publisher: Publisher, count: int = 1) -> MirrorStatement:
    return MirrorStatement(publisher.source_id, count, digest("mirror"))
