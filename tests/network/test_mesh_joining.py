"""Joining nodes: what is tried again, which key is believed, and what the operator took back."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.mesh.joining import is_provisional, parse_join_target
from pfn_node.mesh.views import JoinView
from pfn_node.outbound import Reply
from pfn_node.store import audit
from pfn_node.store import peers as peer_store
from pfn_node.store.rows import Peer
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey, did_key
from tests.network.mesh_network import Node, eventually, network
from tests.network.test_mesh_of_three import alerts, linked


def row(node: Node, other: Node) -> Peer | None:
    return node.database.read_now(lambda db: peer_store.get_peer(db, other.id))


def test_a_join_target_is_a_url_and_perhaps_a_key() -> None:
    key = PrivateKey(bytes([1]) * 32).public

    assert parse_join_target("https://a.test/", allow_http=False).url == "https://a.test"
    target = parse_join_target(f" https://a.test#{did_key(key)}", allow_http=False)
    assert (target.url, target.node_id) == ("https://a.test", key)


@pytest.mark.parametrize("text", ["", "a.test", "http://a.test", "https://a.test#did:key:zzz", "ftp://a.test"])
def test_an_unusable_join_target_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        parse_join_target(text, allow_http=False)


@pytest.mark.parametrize(
    ("url", "provisional"),
    [
        ("https://a.test", False),
        ("http://a.test", True),
        ("http://localhost:8470", False),
        ("http://127.0.0.1:8470", False),
        ("http://[::1]:8470", False),
        ("http://192.168.0.7", True),
    ],
)
def test_a_key_seen_over_plain_http_to_another_host_is_provisional(url: str, provisional: bool) -> None:
    assert is_provisional(url) is provisional


async def test_joining_pins_the_node_and_nobody_pins_the_newcomer(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        b = await net.add("b", join=("a",))
        await eventually(lambda: linked(a) == 1)

        pin = row(b, a)
        assert pin is not None
        assert (pin.joined, pin.pinned, pin.provisional) == (True, True, True)
        (entry,) = await b.database.read(audit.entries)
        assert (entry.actor, entry.action, entry.target) == ("system", "pin on join", did_key(a.id))
        assert not any(peer.pinned for peer in a.engine.peers())


async def test_a_key_that_the_flag_names_is_not_provisional(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        b = await net.add("b", join=(f"http://a.test#{did_key(a.id)}",))
        await eventually(lambda: linked(b) == 1)

        pin = row(b, a)
        assert pin is not None
        assert (pin.pinned, pin.provisional) == (True, False)


async def test_a_dead_target_does_not_stop_the_start_and_is_tried_until_it_answers(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a", start=False)
        b = await net.add("b", join=("a",))
        await trio.sleep(3600)
        assert linked(b) == 0

        await a.start(net.nursery)
        await eventually(lambda: linked(b) == 1, 600)


async def test_an_explicit_unpin_outlives_restarts_with_the_same_flag(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        b = await net.add("b", join=("a",))
        await eventually(lambda: linked(b) == 1)
        await b.engine.set_policy(a.id, pinned=False)

        await b.stop()
        await b.start(net.nursery)
        await eventually(lambda: linked(b) == 1)
        await trio.sleep(10)

        found = row(b, a)
        assert found is not None
        assert (found.joined, found.pinned) == (True, False)


async def test_another_key_at_a_joined_url_is_refused_and_alerted_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        b = await net.add("b", join=("a",))
        await eventually(lambda: linked(b) == 1)
        await a.stop()
        await b.stop()
        net.nodes["a"] = await net.add("impostor")

        await b.start(net.nursery)
        await trio.sleep(3600)

        assert [alert for alert in alerts(b) if "answers with the key" in alert] == alerts(b)
        assert len(alerts(b)) == 1
        assert linked(b) == 0


async def test_whoever_claims_a_key_has_to_prove_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        honest = await net.add("honest")
        liar = await net.add("liar")
        b = await net.add("b")
        liar.engine.info = honest.engine.info  # type: ignore[method-assign]

        with pytest.raises(Refusal, match="answers with the key"):
            await b.engine.join("http://liar.test", None)
        assert row(b, honest) is None


async def test_a_target_of_another_mesh_is_not_joined(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        await net.add("a", mesh="other")
        b = await net.add("b", join=("a",))
        await trio.sleep(600)

        assert linked(b) == 0
        with pytest.raises(Refusal, match="belongs to the mesh 'other'"):
            await b.engine.join("http://a.test", None)


class Elsewhere:
    """Some other server in the place of a node."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.body = status, body

    async def __call__(self, method: str, url: str, **more: object) -> Reply:
        return Reply(self.status, {}, self.body, url)


@pytest.mark.parametrize(("status", "body"), [(404, b""), (200, b"<html>"), (200, b"{}")])
async def test_what_is_no_node_is_not_joined_and_leaves_nothing_behind(
    tmp_path: Path, autojump_clock: MockClock, status: int, body: bytes
) -> None:
    async with network(tmp_path) as net:
        b = await net.add("b")
        b.engine._client._outbound.fetch = Elsewhere(status, body)  # type: ignore[method-assign]

        with pytest.raises(Refusal, match="is no PFN node"):
            await b.engine.join("http://a.test", None)

        assert await b.engine.joins() == []


async def test_a_join_says_why_it_waits_and_is_taken_back_for_good(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a", start=False)
        b = await net.add("b")
        assert await b.engine.join("http://a.test/", None) is None
        assert await b.engine.joins() == [JoinView("http://a.test", None, "Nobody answers there.")]
        await trio.sleep(10)

        assert await b.engine.leave("http://a.test/", None) == ["http://a.test"]

        assert await b.engine.joins() == []
        await a.start(net.nursery)
        await trio.sleep(3600)
        await b.stop()
        await b.start(net.nursery)
        await trio.sleep(3600)
        assert linked(b) == 0 and row(b, a) is None and not a.asked


@pytest.mark.parametrize("by_id", [False, True])
async def test_a_node_that_was_left_is_one_among_others_and_a_pin_stays(
    tmp_path: Path, autojump_clock: MockClock, by_id: bool
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        b = await net.add("b")
        assert await b.engine.join("http://a.test", None) == a.id
        await b.engine.set_policy(a.id, pinned=True)
        await eventually(lambda: linked(b) == 1)
        assert b.engine._mesh is not None
        assert a.id in b.engine._mesh._peers._joined

        left = await b.engine.leave(None, a.id) if by_id else await b.engine.leave("http://a.test", None)

        assert left == ["http://a.test"] and await b.engine.joins() == []
        found = row(b, a)
        assert found is not None and (found.joined, found.pinned) == (False, True)
        assert linked(b) == 1
        await trio.sleep(1)
        assert a.id not in b.engine._mesh._peers._joined
        assert await b.engine.leave("http://a.test", None) == []


async def test_a_node_that_is_joined_at_two_urls_is_left_at_one_of_them(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        net.nodes["again"] = a
        b = await net.add("b")
        for url in ("http://a.test", "http://again.test"):
            assert await b.engine.join(url, None) == a.id

        assert await b.engine.leave("http://a.test", None) == ["http://a.test"]

        found = row(b, a)
        assert found is not None and found.joined
        assert [one.url for one in await b.engine.joins()] == ["http://again.test"]


async def test_a_new_key_that_the_operator_names_is_expected_from_then_on(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a", start=False)
        b = await net.add("b")
        former = PrivateKey(bytes([88]) * 32).public
        assert await b.engine.join("http://a.test", former) is None

        assert await b.engine.join("http://a.test", a.id) is None
        await a.start(net.nursery)

        await eventually(lambda: linked(b) == 1, 600)
        await trio.sleep(3600)
        assert alerts(b) == []


async def test_a_node_does_not_join_itself(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a", join=("a",))
        await trio.sleep(60)

        assert a.asked.count("info") == 1
        with pytest.raises(Refusal, match="itself"):
            await a.engine.join("http://a.test", None)


async def test_the_api_links_without_pinning_and_survives_a_restart(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        b = await net.add("b")

        assert await b.engine.join("http://a.test/", None) == a.id
        await eventually(lambda: linked(b) == 1)
        found = row(b, a)
        assert found is not None
        assert (found.joined, found.pinned) == (True, False)

        await b.stop()
        await b.start(net.nursery)
        await eventually(lambda: linked(b) == 1)


async def test_the_api_keeps_at_a_node_that_does_not_answer_yet(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a", start=False)
        b = await net.add("b")

        assert await b.engine.join("http://a.test", None) is None
        assert await b.engine.join("http://a.test", None) is None
        await a.start(net.nursery)
        await eventually(lambda: linked(b) == 1, 600)


async def test_the_api_refuses_another_key_than_the_one_given(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        await net.add("a")
        b = await net.add("b")

        with pytest.raises(Refusal, match="answers with the key"):
            await b.engine.join("http://a.test", PrivateKey(bytes([9]) * 32).public)


async def test_there_are_only_so_many_targets(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_store, "JOIN_TARGETS_MAX", 1)
    async with network(tmp_path) as net:
        b = await net.add("b")
        await b.engine.join("http://a.test", None)

        with pytest.raises(Refusal, match="leave one of them first"):
            await b.engine.join("http://c.test", None)


async def test_an_unusable_flag_stops_the_start_with_a_sentence(tmp_path: Path, autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(Refusal, flatten_subgroups=True):
        async with network(tmp_path) as net:
            await net.add("b", join=("ftp://a.test",))


async def test_a_blocked_node_is_not_pinned_by_a_flag(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        b = await net.add("b")
        await b.engine.set_policy(a.id, blocked=True)
        await b.stop()
        b.join = ("http://a.test",)
        await b.start(net.nursery)
        await trio.sleep(60)

        found = row(b, a)
        assert found is not None
        assert not found.pinned
