"""A node that has very much to read when it starts: nobody who asks it for plugins waits for that."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.mesh import engine
from pfn_node.mesh.restoring import restore_mesh
from pfn_protocol.mesh import Mesh
from tests.network.mesh_network import Node, eventually, network
from tests.network.test_mesh_of_three import ZIP, linked

READING_SECONDS = 8.0


def slowly(read: Callable[..., Awaitable[Mesh]]) -> Callable[..., Awaitable[Mesh]]:
    async def reading(*arguments: object) -> Mesh:
        await trio.sleep(READING_SECONDS)
        return await read(*arguments)

    return reading


@pytest.fixture
def much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "restore_mesh", slowly(restore_mesh))


async def started(node: Node, nursery: trio.Nursery) -> float:
    before = trio.current_time()
    await node.start(nursery)
    return trio.current_time() - before


@pytest.mark.usefixtures("much_is_kept")
async def test_a_node_with_very_much_to_read_has_started_at_once_and_says_that_it_reads(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a", start=False)

        assert await started(a, net.nursery) == pytest.approx(engine.READING_SECONDS_MAX)
        assert a.engine.status() == {"reading": True}
        assert a.engine.peers() == []

        await trio.sleep(READING_SECONDS)
        assert a.engine.status()["reading"] is False


async def test_a_node_that_has_read_everything_at_once_is_in_the_mesh_when_it_has_started(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a", start=False)

        assert await started(a, net.nursery) < engine.READING_SECONDS_MAX
        assert a.engine.status()["reading"] is False


async def test_what_is_said_and_asked_while_a_node_reads_is_not_lost(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path) as net:
        b = await net.add("b")
        with monkeypatch.context() as patch:
            patch.setattr(engine, "restore_mesh", slowly(restore_mesh))
            a = await net.add("a", join=("b",))
            assert a.engine.status() == {"reading": True}
            await b.engine.join(a.url or "", None)  # a proves its key, and has the request for a link wait
            await b.engine.set_policy(a.id, pinned=True)
            await a.publish(ZIP)  # returns once it is kept

        assert a.release() is not None
        await eventually(lambda: linked(a) == 1 and b.release() is not None)


@pytest.mark.usefixtures("much_is_kept")
async def test_a_node_that_is_stopped_while_it_reads_ends(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        before = trio.current_time()

        await a.stop()

        assert trio.current_time() - before < READING_SECONDS - engine.READING_SECONDS_MAX
