"""Whole engines and a node whose key changes: pins follow to the key that it had committed to, and to no other."""

from functools import partial
from pathlib import Path

import trio
from trio.testing import MockClock

from pfn_node.store import activity, successions
from pfn_node.store.database import Database
from pfn_protocol.identity import PrivateKey, did_key
from pfn_protocol.limits import succession_age_seconds_min
from pfn_protocol.succession import commit_to, sign_succession
from tests.network.mesh_network import Network, Node, eventually, network, now

ZIP = b"the bytes of a plugin " * 100
MESH = "main"
NEXT, THIEF = PrivateKey(bytes([101]) * 32), PrivateKey(bytes([102]) * 32)


async def three_nodes(net: Network) -> tuple[Node, Node, Node]:
    """A node that two others pin, with a release that both mirror, and its commitment to the next key."""
    a = await net.add("a")
    b = await net.add("b", join=("a",))
    c = await net.add("c", join=(f"http://a.test#{did_key(a.id)}", "b"))
    await a.publish(ZIP)
    assert await a.engine.announce(commit_to(NEXT.public))
    for node in (b, c):
        await eventually(partial(serves, node))
        await eventually(partial(knows, node, a.id))
    return a, b, c


def serves(node: Node, version: str = "1.0") -> bool:
    release = node.release(version)
    return release is not None and release.backed_by == "pin"


def knows(node: Node, author: bytes, key: PrivateKey = NEXT) -> bool:
    found = node.database.read_now(lambda db: successions.committed_since(db, author, key.public))
    return found is not None


def pins(node: Node) -> set[str]:
    return {peer.node_id for peer in node.engine.peers() if peer.pinned}


def alerts(node: Node) -> list[str]:
    found, _ = node.database.read_now(lambda db: activity.activities(db, type="security"))
    return [one.message for one in found]


def has_pinned(node: Node, key: PrivateKey) -> bool:
    return did_key(key.public) in pins(node)


def has_heard_of_two(node: Node, author: bytes) -> bool:
    return not knows(node, author) and not knows(node, author, THIEF)


def was_told(node: Node, words: str) -> bool:
    return any(words in sentence for sentence in alerts(node))


async def days_pass(*nodes: Node) -> None:
    """As long as a commitment takes to count."""
    for node in nodes:
        node.clock_offset += succession_age_seconds_min
    await trio.sleep(60)


async def start_as(net: Network, node: Node, key: PrivateKey) -> None:
    """Start the node again under another key, and let it say so, as the node's own start does."""
    await node.stop()
    before, node.key = node.key, key
    database = Database.open(node.folder / "node.db", inline=True)
    at = int(now() + node.clock_offset)
    await database.write(lambda db: successions.take_over(db, before.public, key.public, at))
    database.close()
    await node.start(net.nursery)
    assert await node.engine.announce(sign_succession(before, key.public, MESH))


async def test_pins_follow_a_node_to_the_key_that_it_committed_to(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a, b, c = await three_nodes(net)
        old = did_key(a.id)
        await days_pass(a, b, c)
        await start_as(net, a, NEXT)

        for node in (b, c):
            await eventually(partial(has_pinned, node, NEXT), 120)
            assert old not in pins(node)
            assert serves(node)
        await a.publish(ZIP + b"!", version="2.0")
        for node in (b, c):
            await eventually(partial(serves, node, "2.0"), 120)

        # A flag of before still names the old key; it means the node.
        await c.stop()
        await c.start(net.nursery)
        await trio.sleep(30)
        assert did_key(NEXT.public) in pins(c)
        assert not any("Refused" in sentence for sentence in alerts(c))
        assert any(peer.links for peer in c.engine.peers() if peer.node_id == did_key(NEXT.public))


async def test_a_thief_of_the_key_can_void_the_commitment_and_gets_no_pin(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a, b, c = await three_nodes(net)
        old = did_key(a.id)
        assert await a.engine.announce(commit_to(THIEF.public))
        for node in (b, c):
            await eventually(partial(has_heard_of_two, node, a.id))
        await days_pass(a, b, c)
        await start_as(net, a, THIEF)

        wants = f"wants to pass its name to {did_key(THIEF.public)}"
        for node in (b, c):
            await eventually(partial(was_told, node, wants), 120)
            assert old in pins(node) and did_key(THIEF.public) not in pins(node)


async def test_a_node_that_was_away_sees_both_commitments(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a, _, _ = await three_nodes(net)
        assert await a.engine.announce(commit_to(THIEF.public))
        d = await net.add("d", join=("a", "b"))
        await eventually(partial(serves, d))
        await trio.sleep(60)

        assert not knows(d, a.id) and not knows(d, a.id, THIEF)
