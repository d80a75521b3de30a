"""Many artifacts of one source: their mirrors are asked once what they have, by cells, and are believed no further."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.mesh import availability, backfill, mirror_sets
from pfn_node.store import announcements
from pfn_node.store.rows import Peer
from pfn_protocol.announcements import MirrorStatement
from pfn_protocol.link_secrets import LinkSecrets
from pfn_protocol.messages import CellsAnswer, CellsRequest, RefusedAnswer
from pfn_protocol.set_digest import SetDigest
from tests.network.mesh_network import SOURCE_ID, Network, Node, eventually, network
from tests.network.test_mesh_backfill import pair, subscribe

COUNT = 24


async def mirror_of(node: Node, count: int = COUNT) -> list[bytes]:
    """The node mirrors so many artifacts of the source, and says so."""
    held = [await node.publish(b"zip %d" % number, plugin_id=f"plugin-{number}") for number in range(count)]
    await node.engine._record_mirrored(held[0], False)
    for sha256 in held[1:]:
        await node.engine._record_mirrored(sha256, False)
    await node.engine.announce(MirrorStatement(SOURCE_ID, count, SetDigest(held).digest()))
    return held


def here(node: Node, count: int = COUNT) -> int:
    found = [node.release("1.0", f"plugin-{number}") for number in range(count)]
    return sum(release is not None and release.mirrored for release in found)


async def knows_the_mirror(node: Node, mirror: Node) -> None:
    def known() -> bool:
        holders = node.database.read_now(lambda db: announcements.holders(db, SOURCE_ID, b"", now=1))
        return mirror.id in [one.node_id for one in holders]

    await eventually(lambda: all(node.release("1.0", f"plugin-{number}") for number in range(COUNT)) and known(), 60)


async def mirrored_pair(net: Network) -> tuple[Node, Node]:
    a, b = await pair(net)
    await mirror_of(a)
    await knows_the_mirror(b, a)
    a.asked.clear()
    return a, b


def as_peer(node: Node) -> Peer:
    return Peer(node.id, node.url, False, False, False, False, None)


async def test_a_sweep_asks_a_mirror_for_cells_and_then_for_the_bytes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a, b = await mirrored_pair(net)
        await subscribe(b)

        await eventually(lambda: here(b) == COUNT, 2 * backfill.SWEEP_SECONDS)

        assert 1 <= a.asked.count("cells") <= 4
        assert a.asked.count("artifacts") == COUNT
        assert "have" not in a.asked


async def test_a_mirror_that_does_not_bring_what_it_said_is_asked_for_each_artifact_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a, b = await mirrored_pair(net)
        a.lie = b"other bytes"
        await subscribe(b)
        await eventually(lambda: "have" in a.asked, 2 * backfill.SWEEP_SECONDS)
        assert a.asked.index("artifacts") < a.asked.index("have")
        a.lie = None

        await eventually(lambda: here(b) == COUNT, 3 * backfill.SWEEP_SECONDS)


async def test_without_a_secret_between_the_nodes_nobody_is_asked_for_cells(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LinkSecrets, "salt", lambda *_: None)
    async with network(tmp_path) as net:
        a, b = await mirrored_pair(net)
        await subscribe(b)

        await eventually(lambda: here(b) == COUNT, 2 * backfill.SWEEP_SECONDS)

        assert "cells" not in a.asked and "have" in a.asked


@pytest.mark.parametrize("why", ["unreachable", "refused", "changed", "large"])
async def test_a_mirror_that_gives_no_cells_is_asked_for_each_artifact(
    why: str, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path) as net:
        a, b = await mirrored_pair(net)
        if why == "unreachable":
            net.unplugged.add("a")
        elif why == "refused":
            assert a.engine._mesh is not None
            a.engine._mesh.secrets.forget(b.id)
        elif why == "changed":
            monkeypatch.setattr(mirror_sets, "mirror_cells", lambda *_: CellsAnswer(b"", 1, bytes(32)))
        else:
            monkeypatch.setattr(mirror_sets, "mirror_set_max", -1)

        await b.engine._mirror_sets.survey(SOURCE_ID, [as_peer(a)])

        assert not b.engine._availability._mirrored


async def test_a_mirror_that_needs_more_cells_than_are_made_is_asked_for_each_artifact(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pfn_protocol.mirror_sets.mirror_cells_max", 31)
    async with network(tmp_path) as net:
        a, b = await mirrored_pair(net)
        await b.engine._mirror_sets.survey(SOURCE_ID, [as_peer(a)])

        assert "cells" not in a.asked and not b.engine._availability._mirrored


async def test_cells_of_mirror_sets_are_refused_beyond_their_bounds_and_to_who_has_no_secret(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_sets, "ANSWERS_AN_HOUR_MAX", 2)
    monkeypatch.setattr(mirror_sets, "ASKERS_MAX", 1)
    async with network(tmp_path) as net:
        a, b = await mirrored_pair(net)
        part = a.engine._mirror_sets
        assert a.engine._mesh is not None
        salt = a.engine._mesh.secrets.salt(b.id, 0)
        assert salt is not None
        request = CellsRequest(SOURCE_ID, salt.name, bytes(8), 0, 32)

        async def rule(sender: bytes, asked: CellsRequest = request) -> str:
            answer = await part.answer(sender, asked)
            return answer.rule if isinstance(answer, RefusedAnswer) else ""

        assert await rule(bytes(32)) == "R113"
        assert [await rule(b.id) for _ in range(3)] == ["", "", "R118"]
        a.clock_offset = 3_700
        assert [await rule(b.id) for _ in range(3)] == ["", "", "R118"]
        a.clock_offset = -86_400
        assert part._within_budget(b.id), "the hour would last as long as the clock was set back"
        a.clock_offset = 3_700
        assert await rule(b.id, CellsRequest(SOURCE_ID, salt.name, bytes(8), 40_000, 32)) == "R118"
        part._within_budget(bytes(32))
        assert b.id not in part._answered
        await a.engine.set_policy(b.id, pinned=True)
        assert [await rule(b.id) for _ in range(4)] == [""] * 4


async def test_what_was_said_is_believed_for_a_while_only(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        part = a.engine._availability
        part.learn(bytes(32), [b"\1" * 16])
        assert part._is_known_to_have(bytes(32), b"\1" * 32)
        await trio.sleep(availability.BELIEVED_SECONDS)
        assert not part._is_known_to_have(bytes(32), b"\1" * 32)

        for number in range(availability.BELIEVED_MAX + 1):
            part.learn(bytes([number]) * 32, [])
        assert len(part._mirrored) == availability.BELIEVED_MAX
