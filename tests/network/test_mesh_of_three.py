"""Three nodes, the second and third of which joined the first: what one sees, all know."""

import hashlib
from pathlib import Path

import trio
from trio.testing import MockClock

from pfn_node.store import activity
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.identity import did_key
from tests.network.mesh_network import PUBLISHER, SOURCE_ID, Network, Node, eventually, network

ZIP = b"the bytes of a plugin " * 100


async def three(net: Network) -> tuple[Node, Node, Node]:
    a = await net.add("a")
    b = await net.add("b", join=("a",))
    c = await net.add("c", join=("a",))
    await eventually(lambda: linked(a) == 2)
    return a, b, c


def linked(node: Node) -> int:
    return sum(peer.state == "linked" for peer in node.engine.peers())


def alerts(node: Node) -> list[str]:
    found, _ = node.database.read_now(lambda db: activity.activities(db, type="security"))
    return [one.message for one in found]


async def test_what_one_node_sees_appears_on_the_others(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a, b, c = await three(net)
        sha256 = await a.publish(ZIP)

        for node in (b, c):
            await eventually(lambda node=node: node.release())  # type: ignore[misc]
            release = node.release()
            assert release is not None
            assert (release.sha256, release.backed, release.backed_by) == (sha256, True, "pin")
            assert release.reported_by == (did_key(a.id),)


async def test_an_announcement_is_kept_before_announce_returns(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        await a.announce_source()

        count = a.database.read_now(
            lambda db: db.execute("SELECT count(*) FROM announcements WHERE kind = 'source'").fetchone()[0]
        )
        assert count == 1


async def test_any_node_gets_the_bytes_that_are_backed_there(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a, b, _ = await three(net)
        sha256 = await a.publish(ZIP)
        await eventually(b.release)

        assert await b.engine.fetch_artifact(sha256, len(ZIP), SOURCE_ID, cache=True)
        assert b.artifacts.read_text(sha256, len(ZIP)) == ZIP
        release = b.release()
        assert release is not None
        assert release.mirrored


async def test_a_lying_mirror_is_not_served_and_the_operator_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a, b, _ = await three(net)
        d = await net.add("d", join=("a",))  # so a, which it pins, is asked first
        sha256 = await a.publish(ZIP)
        await b.publish(ZIP)
        await eventually(lambda: len(d.release().reported_by) == 2 if d.release() else False)  # type: ignore[union-attr]
        a.lie = b"x" * len(ZIP)

        assert await d.engine.fetch_artifact(sha256, len(ZIP), SOURCE_ID, cache=False)
        assert d.artifacts.read_text(sha256, len(ZIP)) == ZIP
        assert any("another digest" in alert for alert in alerts(d))
        assert (a.asked.count("artifacts"), b.asked.count("artifacts")) == (1, 1)


async def test_a_newcomers_versions_are_only_reported_until_it_is_pinned(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        newcomer = await net.add("newcomer", join=("a",))
        await eventually(lambda: linked(newcomer) == 1)
        sha256 = await newcomer.publish(ZIP)
        await eventually(a.release)

        release = a.release()
        assert release is not None
        assert (release.backed, release.assurance) == (False, "reported")

        await a.engine.set_policy(newcomer.id, pinned=True)
        release = a.release()
        assert release is not None
        assert (release.backed, release.backed_by, release.sha256) == (True, "pin", sha256)


async def test_a_restart_keeps_links_and_announces_nothing_twice(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a, b, c = await three(net)
        await a.publish(ZIP)
        await eventually(b.release)
        await eventually(c.release)
        await trio.sleep(5)  # a says whom it let in within a second
        before = stored(c, a.id, "version")

        await a.stop()
        await trio.sleep(60)
        await a.start(net.nursery)
        await eventually(lambda: linked(a) == 2, 60)
        await a.publish(ZIP + b"2", version="2.0")

        await eventually(lambda: c.release("2.0"))
        after = stored(c, a.id, "version")
        assert set(before) < set(after)
        assert len(after) == 2
        assert len({seq for _, seq in after}) == 2
        await eventually(lambda: b.engine.status()["digest"] == a.engine.status()["digest"])


def stored(node: Node, author: bytes, kind: str) -> list[tuple[bytes, int]]:
    """Ids and sequence numbers of an author's announcements, as a node keeps them."""
    return node.database.read_now(
        lambda db: db.execute(
            "SELECT id, seq FROM announcements WHERE author = ? AND kind = ? ORDER BY seq", (author, kind)
        ).fetchall()
    )


async def test_a_node_that_was_away_catches_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a, b, _ = await three(net)
        net.unplugged.add("b")
        for number in range(5):
            await a.publish(ZIP + bytes([number]), version=f"1.{number}")
        await trio.sleep(120)
        net.unplugged.clear()

        await eventually(lambda: all(b.release(f"1.{number}") for number in range(5)), 400)


async def test_a_node_without_a_url_receives_and_tells(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        poller = await net.add("poller", join=("a",), polls=True)
        await eventually(lambda: linked(poller) == 1)

        await a.publish(ZIP)
        await eventually(poller.release)
        await poller.publish(ZIP, version="2.0")
        await eventually(lambda: a.release("2.0"))


async def test_a_replayed_request_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a, b, _ = await three(net)
        to, path, body = next(one for one in net.sent if one[0] == "a" and one[1] == "link")

        assert to == "a"
        assert (await a.engine.handle(path, body))[0] == 409
        assert (await b.engine.handle(path, body))[0] == 401


async def test_a_signed_text_that_does_not_ride_along_is_fetched_and_counts(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    text = b'{"slug":"hello","version":"1.0","readme":"' + b"long " * 300 + b'"}'
    evidence = Evidence(EvidenceForm.PLUGIN_DATA, PUBLISHER.sign(text), hashlib.sha256(text).digest())
    async with network(tmp_path) as net:
        a, b, _ = await three(net)
        a.artifacts.put_bytes(text)
        await a.announce_source()
        await a.publish(ZIP, evidence=(evidence,))

        await eventually(lambda: b.artifacts.has(evidence.text_sha256))
        await eventually(lambda: getattr(b.release(), "assurance", None) == "A1")
