"""What the disk damaged comes back, from the mesh or from its publisher, and nobody is told wrong things meanwhile."""

import errno
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.maintenance.mending import SCRUB_PAUSE_SECONDS, Mending
from pfn_node.mesh.blocking import inline
from pfn_node.store import catalogue, page_checksums, releases
from pfn_node.store.activity import activities
from pfn_node.store.database import Database
from pfn_node.store.facts import set_identity
from pfn_node.store.holdings import held_digests
from tests.node.few_files import no_descriptor_left
from tests.node.store_world import NOW, Publisher, World, key, version_statement
from tests.node.test_artifact_checks import flip, path_of

ZIP = b"zip hello"  # whose digest the world's releases have


class Room:
    """A node's store and artifacts, whose holders and publisher give what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.database = Database.open(folder / "node.db", inline=True)
        self.artifacts = Artifacts(folder / "artifacts", 2**20)
        self.artifacts.start()
        self.folder = folder / "artifacts"
        self.in_mesh: dict[bytes, bytes] = {}
        self.at_publisher: dict[str, bytes] = {}
        self.asked: list[tuple[str, float]] = []

    async def fetch_artifact(self, sha256: bytes, size: int, source_id: str, *, cache: bool) -> bool:
        self.asked.append(("mesh", trio.current_time()))
        if sha256 not in self.in_mesh:
            return False
        self.keep(self.in_mesh[sha256], cache)
        return True

    async def fetch_release(self, source_id: str, plugin_id: str, version: str, *, cache: bool) -> bool:
        self.asked.append(("publisher", trio.current_time()))
        if version not in self.at_publisher:
            return False
        self.keep(self.at_publisher[version], cache)
        return True

    def keep(self, data: bytes, cache: bool) -> None:
        with self.artifacts.writer() as writer:
            writer.write(data)
            writer.keep(cache=cache)

    async def add(self, *, cached: bool = False) -> bytes:
        """A release that is here, seen by this node itself."""
        statement = version_statement("1.0.0", "hello")

        def work(db) -> None:  # type: ignore[no-untyped-def]
            set_identity(db, key("me").public, 1)
            World(db=db).fetch()
            releases.mark_mirrored(db, statement.sha256, False)
            releases.mark_mirrored(db, statement.sha256, True, cached=cached)

        await self.database.write(work)
        self.keep(ZIP, cached)
        return statement.sha256

    def is_listed(self) -> bool:
        release = self.database.read_now(lambda db: catalogue.release_by_digest(db, version_statement().sha256))
        return release is not None and release.mirrored and self.artifacts.has(version_statement().sha256)

    def told(self) -> list[str]:
        return [one.message for one in self.database.read_now(lambda db: activities(db))[0]]


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    room = Room(tmp_path)
    yield room
    room.database.close()


@asynccontextmanager
async def mending(room: Room, scrub_bytes_per_second: int = 0) -> AsyncIterator[None]:
    one = Mending(
        room.database,
        room.artifacts,
        room.fetch_artifact,
        room.fetch_release,
        scrub_bytes_per_second=scrub_bytes_per_second,
        clock=lambda: NOW + trio.current_time(),
        rng=random.Random(1),
        in_thread=inline(),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        yield
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], seconds_max: float) -> float:
    began = trio.current_time()
    with trio.fail_after(seconds_max):
        while not condition():
            await trio.sleep(0.1)
    return trio.current_time() - began


async def test_the_scrub_outlasts_a_lack_of_descriptors(room: Room, autojump_clock: trio.testing.MockClock) -> None:
    sha256 = await room.add()
    async with mending(room, scrub_bytes_per_second=2**20):
        with no_descriptor_left(), capture_logs() as logs:
            await until(lambda: len(logs) > 1, 2 * SCRUB_PAUSE_SECONDS)
        assert room.is_listed() and room.artifacts.wanted() == ()
        flip(path_of(room.folder, sha256), 9)
        await until(lambda: room.artifacts.wanted() != (), 2 * SCRUB_PAUSE_SECONDS)

    assert {entry["event"] for entry in logs} == {"artifact_not_read"}


async def test_the_scrub_finds_damage_and_the_mesh_repairs_it(
    room: Room, autojump_clock: trio.testing.MockClock
) -> None:
    sha256 = await room.add()
    room.in_mesh[sha256] = ZIP
    flip(path_of(room.folder, sha256), 11)

    async with mending(room, scrub_bytes_per_second=2**20):
        await until(lambda: any("here again" in one for one in room.told()), 60)

    assert room.artifacts.has(sha256) and room.is_listed()
    assert [what for what, _ in room.asked] == ["mesh"]
    assert any("is damaged on the disk" in one for one in room.told())


async def test_a_file_that_went_while_the_node_was_down_is_not_promised_and_is_got_again(
    room: Room, autojump_clock: trio.testing.MockClock
) -> None:
    sha256 = await room.add()
    path_of(room.folder, sha256).unlink()
    room.artifacts = Artifacts(room.folder, 2**20)
    room.artifacts.start()

    async with mending(room):
        await until(lambda: not room.database.read_now(lambda db: held_digests(db, Publisher().source_id)), 1)
        assert not room.is_listed()
        room.in_mesh[sha256] = ZIP
        await until(room.is_listed, 60)

    assert room.database.read_now(lambda db: held_digests(db, Publisher().source_id)) == [sha256]


@pytest.mark.parametrize("runs", [True, False])
async def test_what_the_cache_dropped_is_not_listed_as_mirrored(
    room: Room, autojump_clock: trio.testing.MockClock, runs: bool
) -> None:
    sha256 = await room.add(cached=True)

    def is_marked() -> bool:
        release = room.database.read_now(lambda db: catalogue.release_by_digest(db, sha256))
        return release is not None and release.mirrored

    if not runs:  # it goes at the start, or went before a crash
        room.artifacts = Artifacts(room.folder, 0)
        room.artifacts.start()
    assert is_marked()

    async with mending(room):
        if runs:
            room.keep(b"x" * 2**20, cache=True)
        await until(lambda: not is_marked(), 5)

    assert room.artifacts.wanted() == (), "nobody asks for it"


async def test_what_nobody_in_the_mesh_has_its_publisher_gives(
    room: Room, autojump_clock: trio.testing.MockClock
) -> None:
    sha256 = await room.add()
    room.at_publisher["1.0.0"] = ZIP

    async with mending(room):
        flip(path_of(room.folder, sha256), 11)
        assert not _is_sound(room, sha256)
        await until(lambda: room.artifacts.has(sha256), 60)
        await until(room.is_listed, 60)

    assert [what for what, _ in room.asked] == ["mesh", "publisher"]


async def test_until_it_is_back_it_is_not_listed_as_held_and_is_asked_for_ever_more_rarely(
    room: Room, autojump_clock: trio.testing.MockClock
) -> None:
    sha256 = await room.add()
    async with mending(room):
        flip(path_of(room.folder, sha256), 11)
        assert not _is_sound(room, sha256)
        await trio.sleep(1)
        assert not room.database.read_now(lambda db: catalogue.release_by_digest(db, sha256)).mirrored  # type: ignore[union-attr]
        assert room.artifacts.usage()["damaged"] == 1
        await trio.sleep(3_600)
        times = [at for what, at in room.asked if what == "mesh"]
        room.in_mesh[sha256] = ZIP
        await until(room.is_listed, 700)

    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[:3] == pytest.approx([5, 10, 20]) and max(pauses) <= 600 and len(times) < 20


async def test_what_lay_in_the_cache_comes_back_into_the_cache(
    room: Room, autojump_clock: trio.testing.MockClock
) -> None:
    sha256 = await room.add(cached=True)
    room.in_mesh[sha256] = ZIP
    async with mending(room):
        flip(room.folder / "cache" / sha256.hex()[:2] / sha256.hex()[2:], 11)
        assert not _is_sound(room, sha256)
        await until(room.is_listed, 60)

    assert room.artifacts.usage()["cached"] == 1 and room.artifacts.usage()["kept"] == 0


async def test_damage_that_was_found_before_a_restart_is_mended_after_it(
    room: Room, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    sha256 = await room.add()
    flip(path_of(room.folder, sha256), 11)
    assert not _is_sound(room, sha256)
    async with mending(room):
        await until(lambda: bool(room.asked), 60)  # in vain; by now it is listed nowhere any more
    room.in_mesh[sha256] = ZIP
    room.artifacts = Artifacts(tmp_path / "artifacts", 2**20)
    room.artifacts.start()

    async with mending(room):
        await until(room.is_listed, 60)

    assert room.artifacts.has(sha256)


@pytest.mark.parametrize("cached", [False, True])
async def test_what_the_disk_could_not_give_for_a_moment_is_taken_back_though_nobody_else_has_it(
    room: Room, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, cached: bool
) -> None:
    sha256 = await room.add(cached=cached)
    async with mending(room):
        with monkeypatch.context() as patch:
            patch.setattr("pfn_node.artifacts.checks.BlockSums", raises(OSError(errno.EIO, "Input/output error")))
            assert not _is_sound(room, sha256)
            await until(lambda: len(room.asked) > 2, 60)
        assert not room.is_listed()
        await until(room.is_listed, 60)

    assert path_of(room.folder / "cache" if cached else room.folder, sha256).read_bytes() == ZIP
    assert list((room.folder / "damaged").iterdir()) == []


async def test_what_is_taken_back_and_does_not_fit_the_cache_stays_aside(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    sha256 = await room.add()
    with monkeypatch.context() as patch:
        patch.setattr("pfn_node.artifacts.checks.BlockSums", raises(OSError(errno.EIO, "Input/output error")))
        assert not _is_sound(room, sha256)
        async with mending(room):
            await until(lambda: bool(room.asked), 60)
    room.artifacts = Artifacts(tmp_path / "artifacts", 0)  # nobody follows its source, so it would be cached now
    room.artifacts.start()
    room.asked.clear()

    async with mending(room):
        await until(lambda: len(room.asked) > 2, 60)

    assert room.artifacts.wanted() == (sha256,) and (room.folder / "damaged" / sha256.hex()).exists()


def test_what_came_another_way_is_not_taken_back_and_goes_when_it_is_deleted(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path / "artifacts", 2**20)
    artifacts.start()
    sha256 = artifacts.put_bytes(ZIP)
    artifacts.checks.put_aside(sha256, path_of(tmp_path / "artifacts", sha256))
    artifacts = Artifacts(tmp_path / "artifacts", 2**20)
    artifacts.start()
    artifacts.put_bytes(ZIP)

    assert artifacts.take_back(sha256, cache=False)
    artifacts.delete(sha256)

    assert not artifacts.has(sha256) and artifacts.wanted() == ()
    assert list((tmp_path / "artifacts" / "damaged").iterdir()) == []


def raises(error: Exception) -> Callable[..., None]:
    def fail(*given: object) -> None:
        raise error

    return fail


async def test_damage_to_what_nobody_knows_is_left_alone(room: Room, autojump_clock: trio.testing.MockClock) -> None:
    stray = room.artifacts.put_bytes(b"stray")
    async with mending(room):
        flip(path_of(room.folder, stray), 3)
        assert not _is_sound(room, stray)
        await trio.sleep(60)

    assert room.artifacts.wanted() == () and room.asked == []
    assert (room.folder / "damaged" / stray.hex()).exists()


def _is_sound(room: Room, sha256: bytes) -> bool:
    try:
        room.artifacts.check(sha256, again=True)
    except Exception:
        return False
    return True


async def test_a_damaged_page_of_the_database_is_told_before_anybody_needs_it(
    room: Room, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    await room.add()
    sql = "SELECT pageno FROM dbstat WHERE name = 'observations' AND pagetype = 'leaf'"
    page = room.database._writer.execute(sql).fetchone()[0]
    room.database.close()
    flip(tmp_path / "node.db", 8 * ((page - 1) * page_checksums.PAGE_BYTES + 100))
    room.database = Database.open(tmp_path / "node.db", inline=True)

    async with mending(room, scrub_bytes_per_second=2**20):
        await until(lambda: room.database.damage is not None, 60)
        await until(lambda: any("pfn fsck" in one for one in room.told()), 60)
