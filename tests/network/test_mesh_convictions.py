"""Whole engines and a node that told two stories: the proof is kept and passed on, and nothing rests on its word."""

from dataclasses import replace
from pathlib import Path

import pytest
import sqlite_utils
import trio
from trio.testing import MockClock

from pfn_node.mesh.backfill import Backfill
from pfn_node.store import activity, announcements, successions
from pfn_node.store.queries import select, value
from pfn_protocol.acceptance import accept, announce
from pfn_protocol.announcements import AcceptedAnnouncement, Kind, MirrorStatement, VersionStatement
from pfn_protocol.effects import ChangeAdmission
from pfn_protocol.equivocation import convict, conviction_id
from pfn_protocol.identity import PrivateKey, did_key
from pfn_protocol.mesh import Mesh
from pfn_protocol.message_fields import seal_request
from pfn_protocol.messages import GossipRequest, LinkRequest
from tests.network.mesh_network import Network, Node, eventually, network, now
from tests.network.test_mesh_engine import Asker
from tests.node.store_world import node_statement

ZIP = b"the bytes of a plugin " * 100
MESH = "main"
NODE = node_statement()


def held(node: Node) -> list[AcceptedAnnouncement]:
    def read(db: sqlite_utils.Database) -> list[AcceptedAnnouncement]:
        rows = select(db, "SELECT id, raw, author, kind FROM announcements WHERE place = 'set' ORDER BY rowid")
        return [announcements.announcement_from(db, row) for row in rows]

    return node.database.read_now(read)


def another_story(liar: Node, hearer: Node) -> AcceptedAnnouncement:
    """Of what the node said about its release the opposite, later in the same run."""
    told = next(one for one in held(hearer) if one.author == liar.id and one.kind is Kind.VERSION)
    assert isinstance(told.statement, VersionStatement)
    return announce(liar.key, MESH, replace(told.statement, sha256=bytes(32)), told.epoch, told.seq + 1)


async def push(sender: Node, to: Node, announcement: AcceptedAnnouncement) -> None:
    message = GossipRequest((announcement.raw,), (), None, 0)
    raw = seal_request(
        sender.key, mesh=MESH, to=to.id, message=message, now_ms=int(now() * 1000), nonce16=b"a nonce of ours!"
    )
    await to.engine.handle("gossip", raw)


def alerts(node: Node) -> list[str]:
    found, _ = node.database.read_now(lambda db: activity.activities(db, type="security"))
    return [one.message for one in found]


def is_convicted(node: Node, author: Node) -> bool:
    return any(peer.convicted and peer.node_id == did_key(author.id) for peer in node.engine.peers())


async def convicted(net: Network) -> tuple[Node, Node, Node, list[bytes]]:
    """A node that two others pin is caught; what it had published was mirrored by one of them."""
    a = await net.add("a")
    b = await net.add("b", join=("a",))
    c = await net.add("c", join=("a", "b"))
    sha256 = await a.publish(ZIP)
    await eventually(lambda: b.release() and c.release())
    assert await b.engine.fetch_artifact(sha256, len(ZIP), "alice@plugins.example", cache=False)
    assert (release := b.release()) is not None and release.backed and release.mirrored
    other = another_story(a, c)
    first = next(one for one in held(c) if (one.author, one.subject) == (a.id, other.subject))

    await push(a, c, other)
    await eventually(lambda: is_convicted(b, a) and is_convicted(c, a))
    return a, b, c, sorted((first.id, other.id))


async def test_who_told_two_stories_is_convicted_at_all_nodes_and_shown(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a, b, c, proof = await convicted(net)

        for node in (b, c):
            (peer,) = [one for one in node.engine.peers() if one.node_id == did_key(a.id)]
            assert peer.proof == tuple(one.hex() for one in proof)
            assert peer.pinned and peer.state == "blocked" and not peer.links
            (conviction,) = [one for one in held(node) if one.author == a.id]
            assert conviction.id == conviction_id(a.id)
            assert accept(conviction.raw, mesh=MESH, now_ms=int(now() * 1000)) == conviction
            assert any("told two stories about version alice@plugins.example/hello/1.0" in one for one in alerts(node))
        assert any("1 releases rested on the word of a convicted node alone" in one for one in alerts(b))
        assert b.release() is None
        await eventually(lambda: a.engine.status()["muted"])
        assert any("it needs a new key" in one for one in alerts(a))


async def test_a_conviction_that_waited_takes_the_pin_of_its_heir_when_it_is_admitted(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        b = await net.add("b")
        old, heir = PrivateKey(bytes([103]) * 32), PrivateKey(bytes([104]) * 32)
        await b.engine.set_policy(heir.public, pinned=True)
        at_ms = int(now() * 1_000)
        stories = [announce(old, MESH, replace(NODE, software=software), 0, at_ms) for software in ("one", "two")]
        conviction = convict(*stories)

        def parked(db: sqlite_utils.Database) -> None:
            successions.take_over(db, old.public, heir.public, int(now()))
            announcements.keep(db, conviction, False, int(now()))

        await b.database.write(parked)
        admission = ChangeAdmission((conviction.id,), ())
        await b.database.write(lambda db: announcements.change_admission(db, admission.admitted, admission.parked))
        b.engine._follow_up(admission)

        await eventually(lambda: not b.engine._opinions.is_pinned(heir.public))
        assert any("told two stories" in one for one in alerts(b))


async def test_a_conviction_outlives_a_restart_and_reaches_who_comes_later(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a, b, _, _ = await convicted(net)
        await b.stop()
        await b.start(net.nursery)
        d = await net.add("d", join=("b",))
        await eventually(lambda: any(one.id == conviction_id(a.id) for one in held(d)))

        assert is_convicted(b, a) and is_convicted(d, a)
        await trio.sleep(120)
        assert not any(peer.links for peer in b.engine.peers() if peer.node_id == did_key(a.id))


def proof_of_guilt(number: int) -> AcceptedAnnouncement:
    """A conviction of a key that was made for it."""
    key = PrivateKey(b"free".ljust(28) + number.to_bytes(4, "big"))
    one, other = (
        announce(key, MESH, MirrorStatement("a@plugins.example", count, bytes(32)), 1, int(now() * 1000))
        for count in (1, 2)
    )
    return convict(one, other)


@pytest.mark.parametrize("pinned", [False, True])
async def test_convictions_that_move_no_pin_start_no_work(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, pinned: bool
) -> None:
    started: list[str] = []
    async with network(tmp_path) as net:
        node = await net.add("a")
        asker = Asker(node)
        await asker.ask(LinkRequest("", (), ()))
        guilty = [proof_of_guilt(number) for number in range(20)]
        for conviction in guilty if pinned else ():
            await node.engine.set_policy(conviction.author, pinned=True)
        monkeypatch.setattr(Backfill, "sweep_soon", lambda backfill: started.append("sweep"))
        monkeypatch.setattr(Mesh, "_on_policy_changed", lambda *_: started.append("judge all"))

        for conviction in guilty:
            status, _ = await asker.ask(GossipRequest((conviction.raw,), (), None, 0))
            assert status == 200
        await trio.sleep(5)

        kept = node.database.read_now(lambda db: value(db, "SELECT count(*) FROM convictions"))
        assert kept == len(guilty)
    assert not started
