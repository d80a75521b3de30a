"""Read-through: where bytes are looked for that are wanted and not here, and in which order."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.read_through import WANT_SECONDS_MAX, ReadThrough
from pfn_node.store import catalogue
from pfn_node.store.database import Database
from pfn_node.store.rows import Release
from tests.node.store_world import Publisher, World, digest

BYTES = b"zip hello"  # what store_world's digest("hello") is the digest of


@dataclass
class Elsewhere:
    """The mesh and the publisher as fakes: what each would bring, and what they were asked for."""

    database: Database
    artifacts: Artifacts
    mesh_has_it: bool = False
    publisher_has_it: bool = False
    hangs: bool = False
    asked: list[tuple[object, ...]] = field(default_factory=list)

    async def fetch_artifact(self, sha256: bytes, size: int, source_id: str, *, cache: bool) -> bool:
        self.asked.append(("mesh", sha256, source_id, cache))
        if self.hangs:
            await trio.sleep_forever()
        return self.mesh_has_it and self._arrives()

    async def fetch_release(self, source_id: str, plugin_id: str, version: str, *, cache: bool) -> bool:
        self.asked.append(("publisher", source_id, plugin_id, version, cache))
        if self.hangs and not self.publisher_has_it:
            await trio.sleep_forever()
        if self.publisher_has_it:
            await self.database.write(lambda db: World(db=db).fetch())
        return self.publisher_has_it and self._arrives()

    def _arrives(self) -> bool:
        return self.artifacts.put_bytes(BYTES) == digest("hello")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database.open(tmp_path / "node.db", inline=True)


@pytest.fixture
def elsewhere(database: Database, tmp_path: Path) -> Elsewhere:
    assert hashlib.sha256(BYTES).digest() == digest("hello")
    artifacts = Artifacts(tmp_path / "artifacts", 2**20)
    artifacts.start()
    return Elsewhere(database, artifacts)


@pytest.fixture
def read_through(elsewhere: Elsewhere) -> ReadThrough:
    return ReadThrough(elsewhere.database, elsewhere.artifacts, elsewhere.fetch_artifact, elsewhere.fetch_release)


async def release_in(database: Database, *, pinned: bool, key_known: bool = True) -> Release:
    """A release that one other node announced."""

    def make(db: object) -> Release | None:
        world = World(db=db)  # type: ignore[arg-type]
        world.add_source(Publisher(), verified=key_known)
        if pinned:
            world.pin("alice")
        world.saw("alice")
        return catalogue.get_release(world.db, Publisher().source_id, "hello", "1.0.0")

    release = await database.write(make)
    assert release is not None and release.backed is pinned
    return release


async def test_backed_bytes_come_from_the_mesh(
    database: Database, elsewhere: Elsewhere, read_through: ReadThrough
) -> None:
    release = await release_in(database, pinned=True)
    elsewhere.mesh_has_it = True

    found = await read_through(release, anonymous=True)

    assert found is not None and found.sha256 == digest("hello")
    assert elsewhere.asked == [("mesh", digest("hello"), release.source_id, True)]


async def test_bytes_that_nobody_in_the_mesh_gives_come_from_the_publisher(
    database: Database, elsewhere: Elsewhere, read_through: ReadThrough
) -> None:
    release = await release_in(database, pinned=True)
    elsewhere.publisher_has_it = True

    found = await read_through(release, anonymous=False)

    assert found is not None and found.backed_by == "self"
    assert [what[0] for what in elsewhere.asked] == ["mesh", "publisher"]
    assert elsewhere.asked[1][-1] is False


async def test_what_is_only_reported_is_never_taken_from_the_mesh(
    database: Database, elsewhere: Elsewhere, read_through: ReadThrough
) -> None:
    release = await release_in(database, pinned=False)
    elsewhere.mesh_has_it = True

    assert await read_through(release, anonymous=True) is None
    assert [what[0] for what in elsewhere.asked] == ["publisher"]


async def test_a_source_whose_key_is_not_known_is_asked_itself(
    database: Database, elsewhere: Elsewhere, read_through: ReadThrough
) -> None:
    release = await release_in(database, pinned=True, key_known=False)
    elsewhere.mesh_has_it = True

    assert await read_through(release, anonymous=True) is None
    assert [what[0] for what in elsewhere.asked] == ["publisher"]


async def test_a_consumer_does_not_wait_for_ever(
    database: Database, elsewhere: Elsewhere, read_through: ReadThrough, autojump_clock: trio.testing.MockClock
) -> None:
    release = await release_in(database, pinned=True)
    elsewhere.hangs = True
    started = trio.current_time()

    assert await read_through(release, anonymous=True) is None
    assert trio.current_time() - started == pytest.approx(WANT_SECONDS_MAX)


async def test_holders_that_hang_do_not_keep_a_consumer_from_the_publisher(
    database: Database, elsewhere: Elsewhere, read_through: ReadThrough, autojump_clock: trio.testing.MockClock
) -> None:
    release = await release_in(database, pinned=True)
    elsewhere.hangs = elsewhere.publisher_has_it = True

    found = await read_through(release, anonymous=True)

    assert found is not None and found.backed_by == "self"


async def test_a_release_that_lost_its_backing_meanwhile_is_not_served(
    database: Database, elsewhere: Elsewhere, read_through: ReadThrough
) -> None:
    release = await release_in(database, pinned=True)
    elsewhere.mesh_has_it = True
    await database.write(lambda db: World(db=db).block("alice"))

    assert await read_through(release, anonymous=True) is None
