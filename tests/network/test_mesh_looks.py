"""What the list of other nodes costs: anybody may ask for it, and it is made between two turns of the machine."""

from pathlib import Path

import pytest
import sqlite_utils
from trio.testing import MockClock

from pfn_node.mesh import looks as looks_module
from pfn_node.mesh import views
from pfn_node.store import peers as peer_store
from pfn_protocol.identity import did_key
from pfn_protocol.registry import Registry
from tests.network.mesh_network import Node, eventually, network
from tests.network.test_mesh_of_three import linked


def stranger(number: int) -> bytes:
    return number.to_bytes(32, "big")


async def know(node: Node, count: int, *, pinned: bool = False) -> None:
    def work(db: sqlite_utils.Database) -> None:
        for number in range(1, count + 1):
            peer_store.save_peer(db, stranger(number), url=f"http://n{number}.example", seen=number)
            if pinned:
                peer_store.set_peer_policy(db, stranger(number), pinned=True)

    await node.database.write(work)


async def test_the_pins_of_all_authors_are_looked_at_once_for_all_that_are_shown(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements = []
    ask = Registry.node_statement

    def node_statement(registry: Registry, author: bytes) -> object:
        statements.append(author)
        return ask(registry, author)

    async with network(tmp_path) as net:
        a = await net.add("a", start=False)
        a.folder.mkdir()
        await a.start(net.nursery)
        await know(a, 100, pinned=True)
        await a.engine.set_policy(stranger(1), pinned=True)
        assert a.engine.status()["authors"] == 101
        monkeypatch.setattr(Registry, "node_statement", node_statement)

        assert len(a.engine.peers()) == 100

    assert len(statements) < 3 * 101


async def test_of_many_nodes_those_are_read_and_shown_that_matter(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "PEERS_SHOWN_MAX", 4)
    monkeypatch.setattr(looks_module, "PEERS_SHOWN_MAX", 4)
    async with network(tmp_path) as net:
        a = await net.add("a")
        b = await net.add("b")
        await b.engine.join("http://a.test", None)
        await eventually(lambda: linked(a) == 1)
        await know(a, 30)
        await a.engine.set_policy(stranger(7), blocked=True)

        shown = [peer.node_id for peer in a.engine.peers()]

    assert shown == [did_key(one) for one in (stranger(7), b.id, stranger(30), stranger(29))]


async def test_a_look_that_took_long_is_shown_for_a_while_until_the_operator_changes_something(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    seconds = 0.0
    looked = 0

    def stopwatch() -> float:
        nonlocal looked, seconds
        looked += 1
        seconds += 0.1  # between any two glances at it: a look takes as long
        return seconds

    async with network(tmp_path) as net:
        a = await net.add("a")
        a.engine._looks._stopwatch = stopwatch
        await know(a, 2)

        first = a.engine.peers()
        assert a.engine.peers() is first

        await a.engine.set_policy(stranger(1), blocked=True)
        second = a.engine.peers()
        assert [peer.state for peer in second] == ["blocked", "known"]

        seconds += 0.1 / looks_module.SHARE_MAX
        assert a.engine.peers() is not second
