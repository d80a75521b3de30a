"""What the mesh is told, and when the room keeps silent."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from pfn_node.sources.announcing import cut, fits, fitted, statement_of
from pfn_node.store.peers import set_peer_policy
from pfn_node.store.rows import Filters, Observation
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import Evidence, EvidenceForm, VersionStatement
from pfn_protocol.identity import PrivateKey
from pfn_protocol.set_digest import SetDigest
from tests.node.sources_room import Room, arranged, plugin_zip, registered

ID = "ann@publisher.test"
ALL = Filters()
PEERS = [PrivateKey(bytes([0x20 + number]) * 32) for number in range(4)]


async def pinned_peers_tell(room: Room, statement: VersionStatement, count: int, *, pinned: bool = True) -> None:
    for number, peer in enumerate(PEERS[:count]):
        if pinned:
            await room.database.write(lambda db, peer=peer: set_peer_policy(db, peer.public, pinned=True))  # type: ignore[misc]
        await room.keep(announce(peer, "main", statement, 0, int(room.clock() * 1000) + number))


def told_by_peers(zipped: bytes, **changes: Any) -> VersionStatement:
    import hashlib

    statement = VersionStatement(
        source_id=ID,
        plugin_id="alpha",
        version="1.0",
        type="plugin",
        name="A Plugin",
        description=None,
        tags=(),
        sha256=hashlib.sha256(zipped).digest(),
        size=len(zipped),
        observed_at=1_700_000_000,
        evidence=(),
    )
    return replace(statement, **changes)


async def test_what_was_seen_is_told_after_the_bytes_are_here(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish("alpha", "1.0")
    held: list[bool] = []
    tell = room.announce

    async def watch(statement: Any) -> None:
        if isinstance(statement, VersionStatement):
            release = room.release(ID, "alpha", "1.0")
            held.append(room.artifacts.has(statement.sha256) and release is not None and release.mirrored)
        await tell(statement)

    room.announce = watch  # type: ignore[method-assign]
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)

        assert held == [True]
        (version,) = room.versions()
        assert (version.source_id, version.name, version.tags, version.size) == (
            ID,
            "A Plugin",
            ("one", "two"),
            len(publisher.zips["alpha"]),
        )
        assert [piece.form for piece in version.evidence] == [EvidenceForm.METADATA]


@pytest.mark.parametrize(("witnesses", "pinned", "told"), [(2, True, 1), (3, True, 0), (4, False, 1)])
async def test_a_fourth_copy_of_the_same_word_is_not_told(
    tmp_path: Path, autojump_clock: MockClock, witnesses: int, pinned: bool, told: int
) -> None:
    room, publisher = arranged(tmp_path, sync_seconds=1_000_000)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        await pinned_peers_tell(room, told_by_peers(publisher.zips["alpha"]), witnesses, pinned=pinned)

        assert (await sources.subscribe(ID, "k1", ALL)).mirrored_count == 1

        assert len(room.versions()) == told


async def test_what_was_kept_back_is_told_once_the_witnesses_are_gone(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path, sync_seconds=1_000_000)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        await pinned_peers_tell(room, told_by_peers(publisher.zips["alpha"]), 3)
        await sources.subscribe(ID, "k1", ALL)
        assert room.versions() == []
        await room.database.write(lambda db: set_peer_policy(db, PEERS[0].public, pinned=False))

        await sources.subscribe(ID, "k1", ALL)
        await sources.subscribe(ID, "k1", ALL)

        assert len(room.versions()) == 1


async def test_a_digest_that_differs_is_always_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, sync_seconds=1_000_000)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        await pinned_peers_tell(room, told_by_peers(plugin_zip("alpha", "1.0", extra=b"evil")), 3)

        await sources.subscribe(ID, "k1", ALL)

        release = room.release(ID, "alpha", "1.0")
        assert len(room.versions()) == 1
        assert release is not None and release.sha256 == room.versions()[0].sha256 and len(release.disputed_by) == 3


async def test_what_a_crash_left_untold_is_told_at_the_next_sync(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, sync_seconds=1_000_000)
    publisher.publish("alpha", "1.0")
    tell, broken = room.announce, True

    async def crash(statement: Any) -> None:
        if broken and isinstance(statement, VersionStatement):
            raise RuntimeError("the process dies here")
        await tell(statement)

    room.announce = crash  # type: ignore[method-assign]
    async with room.running() as sources:
        await registered(sources, publisher)
        with pytest.raises(Exception, match="inside this node"):
            await sources.subscribe(ID, "k1", ALL)
        broken = False

        result = await sources.subscribe(ID, "k1", ALL)

        assert result.mirrored_count == 1 and len(room.versions()) == 1
        assert sum(request.path.endswith("alpha.zip") for request in room.network.requests) == 1


async def test_bytes_that_others_back_come_from_the_mesh(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, sync_seconds=1_000_000)
    publisher.publish("alpha", "1.0")
    zipped = publisher.zips["alpha"]
    asked: list[tuple[bytes, int, str, bool]] = []

    async def from_mesh(sha256: bytes, size: int, source_id: str, *, cache: bool) -> bool:
        asked.append((sha256, size, source_id, cache))
        return room.artifacts.put_bytes(zipped) == sha256

    room.fetch_artifact = from_mesh
    async with room.running() as sources:
        await registered(sources, publisher)
        await pinned_peers_tell(room, told_by_peers(zipped), 1)

        result = await sources.subscribe(ID, "k1", ALL)

        assert result.mirrored_count == 1
        assert [(size, source_id, cache) for _, size, source_id, cache in asked] == [(len(zipped), ID, False)]
        assert not any(request.path.endswith(".zip") for request in room.network.requests)
        assert room.versions() == []  # nothing was seen at the publisher
        assert len(room.mirrors()) == 1


async def test_what_the_mesh_cannot_give_comes_from_the_publisher(tmp_path: Path, autojump_clock: MockClock) -> None:
    room, publisher = arranged(tmp_path, sync_seconds=1_000_000)
    publisher.publish("alpha", "1.0")

    async def nobody(sha256: bytes, size: int, source_id: str, *, cache: bool) -> bool:
        return False

    room.fetch_artifact = nobody
    async with room.running() as sources:
        await registered(sources, publisher)
        await pinned_peers_tell(room, told_by_peers(publisher.zips["alpha"]), 1)

        assert (await sources.subscribe(ID, "k1", ALL)).mirrored_count == 1
        assert len(room.versions()) == 1


async def test_the_first_mirror_statement_is_told_at_once_and_changes_at_most_hourly(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path, sync_seconds=1_000_000)
    publisher.publish("alpha", "1.0")
    async with room.running() as sources:
        await registered(sources, publisher)
        await sources.subscribe(ID, "k1", ALL)

        (first,) = room.mirrors()
        assert (first.source_id, first.count) == (ID, 1)
        assert first.digest == SetDigest([room.versions()[0].sha256]).digest()

        publisher.publish("alpha", "1.1")
        publisher.publish("beta", "1.0")
        await sources.subscribe(ID, "k1", ALL)
        assert len(room.mirrors()) == 1

        await trio.sleep(3600 + 700)
        assert [one.count for one in room.mirrors()] == [1, 3]

        await trio.sleep(11 * 3600)
        assert len(room.mirrors()) == 2
        await trio.sleep(2 * 3600)
        assert [one.count for one in room.mirrors()] == [1, 3, 3]  # told again before it expires


async def test_long_texts_are_kept_as_artifacts_and_the_statement_still_fits(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    room, publisher = arranged(tmp_path)
    publisher.publish(
        "alpha", "1.0", description="ü" * 5000, name="N" * 200, tags=["t" * 64 + str(n) for n in range(40)]
    )
    async with room.running() as sources:
        await registered(sources, publisher)

        result = await sources.subscribe(ID, "k1", ALL)

        assert result.success, result.skipped
        (version,) = room.versions()
        (evidence,) = version.evidence
        text = room.artifacts.read_text(evidence.text_sha256, 100_000)
        assert "ü" * 5000 in text.decode()
        release = room.release(ID, "alpha", "1.0")
        assert release is not None and release.assurance == "A1"


def observed(**changes: Any) -> Observation:
    observation = Observation(
        source_id="u" * 64 + "@" + "h" * 200,
        plugin_id="p" * 64,
        version="1" * 32,
        observer=bytes(32),
        announcement_id=None,
        sha256=bytes(32),
        size=1,
        name="N" * 10,
        description="D",
        tags=(),
        type="plugin",
        evidence=(),
        observed_at=1,
    )
    return replace(observation, **changes)


@pytest.mark.parametrize("inline", [False, True])
def test_the_largest_observation_fits_an_announcement(inline: bool) -> None:
    largest = observed(
        name="🌱" * (50 if inline else 200),
        description="🌱" * (150 if inline else 2000),
        tags=tuple("🌱" * 62 + f"{number:02}" for number in range(32)),
        evidence=(
            Evidence(EvidenceForm.METADATA, bytes(64), b"" if inline else bytes(32)),
            Evidence(EvidenceForm.PLUGIN_DATA, bytes(64), bytes(32)),
            Evidence(EvidenceForm.RELEASE, bytes(700)),
            Evidence(EvidenceForm.KEYBIND, bytes(600)),
            Evidence(EvidenceForm.HEAD, bytes(500)),
            Evidence(EvidenceForm.SHA384, bytes(64)),
        ),
    )

    small = fitted(largest)

    assert not fits(largest) and fits(small)
    assert {EvidenceForm.METADATA, EvidenceForm.RELEASE} <= {piece.form for piece in small.evidence}
    if inline:
        assert (small.name, small.description) == (largest.name, largest.description)
    announce(
        PEERS[0],
        "main",
        statement_of(replace(small, source_id="u@h.test", plugin_id="p", version="1")),
        0,
        1_800_000_000_000,
    )


def test_what_fits_is_told_as_it_is() -> None:
    assert fitted(observed()) == observed()
    assert fitted(observed(description=None, name="🌱" * 200, tags=("x" * 200,) * 32)).description is None


def test_text_is_cut_between_characters() -> None:
    assert cut("aü", 2) == "a"
    assert cut("aü", 3) == "aü"
