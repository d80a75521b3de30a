"""The life of an engine: what survives a crash, what a full queue answers, how it ends, what the operator sees."""

import sqlite3
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.mesh import engine as engine_module
from pfn_node.mesh import incoming, turns
from pfn_node.mesh.turns import Doers, NotKept, Stopped, Turns
from pfn_node.store import activity
from pfn_node.store import peers as peer_store
from pfn_protocol.announcements import MirrorStatement
from pfn_protocol.identity import PrivateKey, did_key
from pfn_protocol.mesh import Mesh
from pfn_protocol.message_fields import open_answer, seal_request
from pfn_protocol.messages import (
    FetchRequest,
    GossipAnswer,
    GossipRequest,
    HaveAnswer,
    HaveRequest,
    LinkAnswer,
    LinkRequest,
    RefusedAnswer,
    Request,
)
from tests.network.mesh_network import SOURCE_ID, Network, Node, eventually, network, now
from tests.network.test_mesh_of_three import ZIP, alerts, linked, stored

STRANGER = PrivateKey(bytes([77]) * 32)


class Asker:
    """A node that speaks the protocol by hand."""

    def __init__(self, node: Node, key: PrivateKey = STRANGER) -> None:
        self.node = node
        self.key = key
        self._nonces = 0

    async def ask(self, message: Request, *, mesh: str = "main") -> tuple[int, object]:
        self._nonces += 1
        nonce = self._nonces.to_bytes(16, "big")
        now_ms = int(now() * 1000)
        raw = seal_request(self.key, mesh=mesh, to=self.node.id, message=message, now_ms=now_ms, nonce16=nonce)
        status, body = await self.node.engine.handle(message.path, raw)
        return status, open_answer(body, mesh="main", nonce=nonce, sender_expected=self.node.id, path=message.path)


async def test_a_crash_between_keeping_and_telling_loses_nothing(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(Exception):
        pass

    def crash(self: Turns, doers: Doers, effect: object) -> None:
        raise Crash

    async with trio.open_nursery() as supervisor:
        net = Network(tmp_path, supervisor)
        b = await net.add("b")
        a = await net.add("a", join=("b",), start=False)
        await b.engine.set_policy(a.id, pinned=True)
        with pytest.RaisesGroup(Crash, allow_unwrapped=True, flatten_subgroups=True):
            async with trio.open_nursery() as doomed:
                await a.start(doomed)
                await eventually(lambda: linked(a) == 1)
                with monkeypatch.context() as patch:
                    patch.setattr(Turns, "_tell_others", crash)
                    with pytest.raises((Stopped, trio.Cancelled)):
                        await a.publish(ZIP)
                        await trio.sleep(1)  # the crash came after it was kept
                        raise Stopped
                    await trio.sleep(1)
        assert not a.running
        assert b.release() is None

        await a.start(supervisor)
        await eventually(b.release, 60)
        assert len(stored(b, a.id, "version")) == 1
        supervisor.cancel_scope.cancel()


async def test_a_mistake_in_the_machine_ends_the_node_loudly(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Mesh, event: object, now_ms: int) -> list[object]:
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            node = await Network(tmp_path, nursery).add("a")
            monkeypatch.setattr(Mesh, "handle", broken)
            with pytest.raises((Stopped, trio.Cancelled)):
                await node.announce_source()
            await trio.sleep(5)


async def test_a_stranger_gets_a_link_and_then_what_is_new(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        stranger = Asker(a)

        status, answer = await stranger.ask(LinkRequest("", (), ()))
        assert status == 200
        assert isinstance(answer, LinkAnswer)
        assert answer.accepted

        await a.publish(ZIP)
        status, answer = await stranger.ask(GossipRequest((), (), None, 20))
        assert status == 200
        assert isinstance(answer, GossipAnswer)
        assert answer.push


async def test_a_request_that_is_refused_is_answered_with_a_signed_refusal(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        await a.engine.set_policy(STRANGER.public, blocked=True)

        status, answer = await Asker(a).ask(HaveRequest(()))

        assert status == 403
        assert isinstance(answer, RefusedAnswer)
        assert answer.now_ms == int(now() * 1000)


async def test_a_request_of_another_mesh_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")

        status, answer = await Asker(a).ask(HaveRequest(()), mesh="other")

        assert status == 401
        assert isinstance(answer, RefusedAnswer)


async def test_what_is_no_envelope_is_refused_in_json(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")

        status, body = await a.engine.handle("gossip", b"junk")

        assert status == 400
        assert body.startswith(b'{"error": ')


async def test_which_artifacts_are_here_is_answered_without_the_machine(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        sha256 = a.artifacts.put_bytes(ZIP)

        status, answer = await Asker(a).ask(HaveRequest((bytes(32), sha256)))

        assert (status, answer) == (200, HaveAnswer((sha256,)))


async def test_a_full_queue_is_an_honest_503(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        monkeypatch.setattr(turns, "REQUESTS_WAITING_MAX", 0)

        status, answer = await Asker(a).ask(FetchRequest((bytes(32),)))

        assert status == 503
        assert isinstance(answer, RefusedAnswer)
        assert "later" in answer.sentence


async def test_too_many_waiting_handlers_are_a_503(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        monkeypatch.setattr(incoming, "WAITING_MAX", 0)

        assert (await Asker(a).ask(FetchRequest((bytes(32),))))[0] == 503


async def test_an_answer_that_never_comes_is_a_503(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        monkeypatch.setattr(Mesh, "handle", lambda self, event, now_ms: [])
        began = trio.current_time()

        assert (await Asker(a).ask(FetchRequest((bytes(32),))))[0] == 503
        assert trio.current_time() - began == pytest.approx(10)


async def test_shutdown_answers_those_who_wait_and_takes_less_than_a_second(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        stranger = Asker(a)
        await stranger.ask(LinkRequest("", (), ()))
        answers: list[tuple[int, object]] = []

        async def hang() -> None:
            answers.append(await stranger.ask(GossipRequest((), (), None, 20)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang)
            await trio.sleep(1)
            began = trio.current_time()
            await a.stop()
            assert trio.current_time() - began < 1
        assert answers[0][0] == 200

        assert (await stranger.ask(FetchRequest((bytes(32),))))[0] == 503
        with pytest.raises(Stopped):
            await a.engine.announce(MirrorStatement(SOURCE_ID, 0, bytes(32)))
        assert not await a.engine.fetch_artifact(bytes(32), 1, SOURCE_ID, cache=True)
        await a.engine.shutdown()


async def test_shutdown_does_not_wait_for_a_machine_that_hangs(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")

        async def never(self: Turns, effects: object) -> None:
            await trio.sleep_forever()

        monkeypatch.setattr(Turns, "_keep", never)
        async with trio.open_nursery() as nursery:

            async def announce() -> None:
                with pytest.raises(Stopped):
                    await a.announce_source()

            nursery.start_soon(announce)
            await trio.sleep(0.1)
            began = trio.current_time()
            await a.stop()
            assert trio.current_time() - began < 1


async def test_a_statement_that_nobody_would_accept_is_not_announced(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")

        assert not await a.engine.announce(MirrorStatement("not a source id", 0, bytes(32)))
        assert any("not announced" in alert for alert in alerts(a))
        assert a.engine._saying == {}


async def test_the_operator_sees_peers_links_and_traffic(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        b = await net.add("b", join=(f"http://a.test#{did_key(a.id)}",))
        c = await net.add("c", join=("b",))
        await eventually(lambda: linked(b) == 2 and linked(c) >= 1)
        await a.publish(ZIP)
        await eventually(c.release)

        views = {peer.node_id: peer for peer in b.engine.peers()}
        first = b.engine.peers()[0]
        assert first.node_id == did_key(a.id)
        view = views[did_key(a.id)]
        assert (view.state, view.pinned, view.joined, view.provisional, view.blocked) == (
            "linked",
            True,
            True,
            False,
            False,
        )
        assert view.url == "http://a.test"
        assert view.round_trip_ms is not None
        assert view.round_trip_ms >= 0
        assert view.bytes_sent > 0
        assert view.bytes_received > 0
        assert view.announcements >= 1
        assert view.last_seen is not None

        def via() -> tuple[str, ...]:
            return next((peer.trusted_via for peer in c.engine.peers() if peer.node_id == did_key(a.id)), ())

        await eventually(lambda: did_key(b.id) in via(), 300)

        status = b.engine.status()
        assert status["links"] == 2
        assert isinstance(status["digest"], str)


async def test_blocking_ends_the_link_and_takes_back_what_its_word_backed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        b = await net.add("b", join=("a",))
        await eventually(lambda: linked(b) == 1)
        await a.publish(ZIP)
        await eventually(b.release)

        await b.engine.set_policy(a.id, blocked=True)

        assert [peer.state for peer in b.engine.peers()] == ["blocked"]
        release = b.release()
        assert release is None or not release.backed


async def test_a_node_whose_disk_takes_nothing_stops_all_the_same(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        await trio.sleep(60)

        async def full(work: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(a.database, "write", full)
        with pytest.raises(NotKept):
            await a.engine.announce(MirrorStatement(SOURCE_ID, 1, bytes(32)))

        await a.stop()

        assert not a.running


async def test_an_engine_that_does_not_run_yet_has_nothing_to_show(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        await a.stop()
        a.engine._mesh = None

        assert a.engine.peers() == []
        assert a.engine.status() == {"reading": True}


async def test_a_peer_that_was_reached_is_remembered_over_a_restart(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        b = await net.add("b", join=("a",))
        await eventually(lambda: linked(b) == 1)
        await b.stop()
        b.join = ()
        await b.start(net.nursery)

        await eventually(lambda: linked(b) == 1)
        row = b.database.read_now(lambda db: peer_store.get_peer(db, a.id))
        assert row is not None
        assert (row.url, row.joined, row.pinned) == ("http://a.test", True, True)


async def test_a_node_whose_clock_is_wrong_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        await net.add("a")
        b = await net.add("b", join=("a",))
        await eventually(lambda: linked(b) == 1)
        b.clock_offset = -600
        # Whatever b was doing when its clock was set back, and however late its own timers are now: this it tells.
        await b.announce_source()

        await eventually(lambda: any("behind" in alert for alert in alerts(b)), 300)


async def test_an_artifact_larger_than_the_limit_is_not_fetched(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a", artifact_bytes_max=10)

        assert not await a.engine.fetch_artifact(bytes(32), 11, SOURCE_ID, cache=True)


async def test_another_key_at_a_pinned_nodes_url_is_alerted(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        b = await net.add("b", join=("a",))
        await eventually(lambda: linked(b) == 1)
        await a.stop()
        impostor = await net.add("impostor")
        net.nodes["a"] = impostor

        await eventually(lambda: any("another" in alert or "answers with the key" in alert for alert in alerts(b)), 300)
        assert len(alerts(b)) == 1
        assert engine_module.SOFTWARE in str(a.engine.info().as_json())
        found, _ = b.database.read_now(lambda db: activity.activities(db))
        assert {one.type for one in found} == {"security"}


async def test_requests_that_wait_take_only_so_much_memory(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "WAITING_BYTES_MAX", 100)
    async with network(tmp_path) as net:
        a = await net.add("a")

        assert (await Asker(a).ask(FetchRequest((bytes(32),))))[0] == 503
