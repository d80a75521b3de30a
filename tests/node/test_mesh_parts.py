"""The smaller parts of the mesh: bodies for messages, requests as tasks, answers of others, figures."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from trio.testing import MockClock

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.mesh import bodies as bodies_module
from pfn_node.mesh import outgoing as outgoing_module
from pfn_node.mesh import traffic as traffic_module
from pfn_node.mesh import turns as turns_module
from pfn_node.mesh.admission import Admission
from pfn_node.mesh.blocking import worker_threads
from pfn_node.mesh.bodies import Bodies
from pfn_node.mesh.incoming import Busy, Incoming
from pfn_node.mesh.outgoing import Outgoing
from pfn_node.mesh.page_limits import PageLimits
from pfn_node.mesh.peer_client import WORTH_A_THREAD_BYTES, AnotherKey, PeerClient, PeerFailure, TooMuch
from pfn_node.mesh.traffic import Traffic
from pfn_node.mesh.turns import Doers, Stopped
from pfn_node.mesh.views import NodeInfo
from pfn_node.outbound import Reply
from pfn_node.outbound_errors import AnswerTooLarge, OutboundError, Unreachable
from pfn_node.store import activity, announcements
from pfn_node.store import peers as peer_store
from pfn_node.store.database import Database
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import AcceptedAnnouncement, MirrorStatement
from pfn_protocol.effects import ForgetPeer, RaiseAlert, RememberPeer, SendAnswer, SendRequest
from pfn_protocol.events import AnswerReceived, PeerUnreachable, RequestReceived, TimePassed
from pfn_protocol.identity import PrivateKey, did_key
from pfn_protocol.mesh import Mesh, MeshOptions, Restored
from pfn_protocol.message_fields import open_request, seal_answer, seal_request
from pfn_protocol.messages import (
    Answer,
    FetchAnswer,
    FetchRequest,
    GossipAnswer,
    GossipRequest,
    HaveAnswer,
    HaveRequest,
    LinkRequest,
    Request,
    SnapshotAnswer,
    SnapshotRequest,
)
from tests.node.mesh_turns import turns_over
from tests.node.mirrors import no_mirrors

T = TypeVar("T")
ME = PrivateKey(bytes(32))
PEER = PrivateKey(bytes([1]) * 32)
IMPOSTOR = PrivateKey(bytes([2]) * 32)
URL = "http://peer.test"
NOW = 1_900_000_000
IDS = tuple(bytes([number]) * 32 for number in range(4))


def clock() -> float:
    return float(NOW)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "node.db", inline=True)
    yield opened
    opened.close()


def announcement(number: int) -> AcceptedAnnouncement:
    statement = MirrorStatement(f"alice@p{number}.example", number, bytes(32))
    return announce(PEER, "main", statement, 0, NOW * 1000 + number)


# ---- Bodies.


async def test_bodies_come_from_the_cache_and_then_from_the_database(database: Database) -> None:
    stored, cached = announcement(1), announcement(2)
    await database.write(lambda db: announcements.keep(db, stored, True, NOW))
    bodies = Bodies(database)
    bodies.remember(cached.id, cached.raw)

    found = await bodies.find((stored.id, bytes(32), cached.id))

    assert found == {stored.id: stored.raw, cached.id: cached.raw}
    assert list(found) == [stored.id, cached.id]


async def test_the_cache_of_bodies_is_bounded_and_forgets(database: Database) -> None:
    bodies = Bodies(database, bytes_max=25)
    for announcement_id in IDS[:3]:
        bodies.remember(announcement_id, b"0123456789")
    bodies.remember(IDS[2], b"01234")
    assert list(await bodies.find(IDS)) == [IDS[1], IDS[2]]

    bodies.forget((IDS[1], IDS[3]))
    assert list(await bodies.find(IDS)) == [IDS[2]]


async def test_what_does_not_fit_a_push_is_offered_by_id(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies_module, "gossip_bytes_max", 20)
    bodies = Bodies(database)
    for announcement_id in IDS:
        bodies.remember(announcement_id, b"0123456789")

    request = await bodies.into_request(GossipRequest((), (IDS[3],), None, 0), IDS[:3])
    answer = await bodies.into_answer(GossipAnswer((), (), None), IDS[:3])

    assert isinstance(request, GossipRequest)
    assert (len(request.push), request.have) == (2, (IDS[3], IDS[2]))
    assert isinstance(answer, GossipAnswer)
    assert len(answer.push) == 2


async def test_a_page_that_does_not_fit_ends_earlier(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies_module, "bodies_bytes_max", 20)
    bodies = Bodies(database)
    for announcement_id in IDS:
        bodies.remember(announcement_id, b"0123456789")

    snapshot = await bodies.into_answer(SnapshotAnswer((), b""), IDS)
    whole = await bodies.into_answer(SnapshotAnswer((), b""), IDS[:1])
    fetched = await bodies.into_answer(FetchAnswer((), ()), IDS)
    nothing = await bodies.into_answer(FetchAnswer((), IDS), ())

    assert isinstance(snapshot, SnapshotAnswer)
    assert (len(snapshot.announcements), snapshot.after) == (2, IDS[1])
    assert isinstance(whole, SnapshotAnswer)
    assert (len(whole.announcements), whole.after) == (1, b"")
    assert isinstance(fetched, FetchAnswer)
    assert len(fetched.announcements) == 2
    assert nothing == FetchAnswer((), IDS)


# ---- Asking other nodes.


@dataclass
class OtherNode:
    """A way out that leads to one node, which answers as a test wants."""

    answer: Answer | bytes = field(default_factory=lambda: HaveAnswer(()))
    key: PrivateKey = PEER
    status: int = 200
    error: OutboundError | None = None
    delay: float = 0.0

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        bytes_max: int,
        seconds_max: float,
    ) -> Reply:
        await trio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        if isinstance(self.answer, bytes):
            return Reply(self.status, {}, self.answer, url)
        assert content is not None
        path = url.rpartition("/")[2]
        received = open_request(content, mesh="main", path=path, me=PEER.public, now_ms=NOW * 1000)
        body = seal_answer(self.key, mesh="main", nonce=received.nonce, message=self.answer)
        return Reply(self.status, {}, body, url)

    async def download(
        self,
        url: str,
        sink: Callable[[bytes], object],
        *,
        headers: Mapping[str, str] | None = None,
        bytes_max: int,
        seconds_max: float,
        bytes_per_second_min: float,
        redirects_max: int = 2,
    ) -> Reply:
        if self.error is not None:
            raise self.error
        return Reply(self.status, {}, b"", url)


def client(other: OtherNode) -> PeerClient:
    return PeerClient(other, ME, "main", lambda: NOW * 1000)


async def test_an_answer_is_opened_and_its_cost_counted() -> None:
    exchange = await client(OtherNode()).send(PEER.public, URL, HaveRequest(()))

    assert exchange.answer == HaveAnswer(())
    assert exchange.bytes_sent > 100
    assert exchange.bytes_received > 100


async def test_a_page_is_checked_in_a_thread_and_a_forged_one_is_refused_there_too() -> None:
    page = SnapshotAnswer(tuple(bytes([number]) * 1024 for number in range(WORTH_A_THREAD_BYTES // 1024)), b"")
    ran: list[object] = []

    async def in_thread(work: Callable[[], T]) -> T:
        await trio.lowlevel.checkpoint()
        ran.append(work)
        return work()

    async def ask(other: OtherNode, message: Request) -> object:
        asking = PeerClient(other, ME, "main", lambda: NOW * 1000, in_thread=in_thread)
        return (await asking.send(PEER.public, URL, message)).answer

    assert await ask(OtherNode(), HaveRequest(())) == HaveAnswer(())
    assert ran == []
    assert await ask(OtherNode(page), SnapshotRequest(b"", b"")) == page
    with pytest.raises(AnotherKey):
        await ask(OtherNode(page, key=IMPOSTOR), SnapshotRequest(b"", b""))
    assert len(ran) == 2


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (OtherNode(error=Unreachable("Nobody answers.")), "Nobody answers"),
        (OtherNode(b"junk", status=502), "status 502"),
        (OtherNode(b"junk"), "no answer"),
        (OtherNode(FetchAnswer((), ())), "no answer"),
    ],
)
async def test_what_is_no_answer_is_a_failure(other: OtherNode, reason: str) -> None:
    with pytest.raises(PeerFailure, match=reason):
        await client(other).send(PEER.public, URL, HaveRequest(()))


async def test_an_answer_of_another_key_is_told_apart() -> None:
    with pytest.raises(AnotherKey) as caught:
        await client(OtherNode(key=IMPOSTOR)).prove(PEER.public, URL)

    assert (caught.value.expected, caught.value.found) == (PEER.public, IMPOSTOR.public)


async def test_a_nodes_info_is_read() -> None:
    info = NodeInfo(PEER.public, None, "main", "other/1")

    assert await client(OtherNode(json.dumps(info.as_json()).encode())).info(URL) == info


GOOD_INFO = {"node_id": did_key(PEER.public), "url": URL, "mesh": "main", "software": "x"}


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b"[" * 100_000,
        b"\xff",
        *(
            json.dumps({**GOOD_INFO, **wrong}).encode()
            for wrong in (
                {"node_id": "did:key:zzz"},
                {"node_id": None},
                {"mesh": 7},
                {"software": "x" * 513},
                {"url": 1},
            )
        ),
    ],
)
async def test_what_is_no_info_is_a_failure(body: bytes) -> None:
    with pytest.raises(PeerFailure, match="no PFN node"):
        await client(OtherNode(body)).info(URL)


@pytest.mark.parametrize("other", [OtherNode(b"{}", status=404), OtherNode(error=Unreachable("Nobody answers."))])
async def test_a_server_that_has_no_info_is_a_failure(other: OtherNode) -> None:
    with pytest.raises(PeerFailure):
        await client(other).info(URL)


@pytest.mark.parametrize(
    ("other", "failure"),
    [
        (OtherNode(status=404), PeerFailure),
        (OtherNode(error=AnswerTooLarge("It is too large.")), TooMuch),
        (OtherNode(error=Unreachable("Nobody answers.")), PeerFailure),
    ],
)
async def test_an_artifact_that_does_not_come_is_a_failure(other: OtherNode, failure: type[PeerFailure]) -> None:
    with pytest.raises(failure):
        await client(other).artifact(URL, bytes(32), print, bytes_max=1, seconds_max=1, bytes_per_second_min=0)


# ---- Requests as tasks.


class Asking:
    """An Outgoing, and what it reported."""

    def __init__(self, database: Database, other: OtherNode) -> None:
        self.events: list[AnswerReceived | PeerUnreachable] = []
        self.impostors: list[AnotherKey] = []
        self.traffic = Traffic()
        self.outgoing = Outgoing(
            client=client(other),
            bodies=Bodies(database),
            traffic=self.traffic,
            clock=clock,
            report=self._on_event,
            report_impostor=self._on_impostor,
            is_trusted=lambda node_id: False,
        )

    async def _on_event(self, event: AnswerReceived | PeerUnreachable) -> None:
        self.events.append(event)

    async def _on_impostor(self, failure: AnotherKey) -> None:
        self.impostors.append(failure)

    async def ask(self, message: HaveRequest | GossipRequest | LinkRequest) -> AnswerReceived | PeerUnreachable:
        async with trio.open_nursery() as nursery:
            assert self.outgoing.start(nursery, SendRequest(7, PEER.public, URL, message)) is None
        return self.events.pop()


async def test_a_request_ends_in_its_answer(database: Database) -> None:
    asking = Asking(database, OtherNode())

    assert await asking.ask(HaveRequest(())) == AnswerReceived(7, PEER.public, HaveAnswer(()))
    assert asking.traffic.of(PEER.public).round_trip_seconds is not None
    counted = asking.traffic.metrics.registry.get_sample_value
    assert counted("pfn_mesh_messages_total", {"message": "have", "direction": "out"}) == 1
    assert (counted("pfn_mesh_bytes_total", {"direction": "sent"}) or 0) > 100


async def test_a_hanging_request_says_nothing_about_the_round_trip(database: Database) -> None:
    asking = Asking(database, OtherNode(GossipAnswer((), (), None)))

    assert isinstance(await asking.ask(GossipRequest((), (), None, 20)), AnswerReceived)
    assert asking.traffic.of(PEER.public).round_trip_seconds is None


@pytest.mark.parametrize(("wait", "seconds"), [(0, 10), (20, 30)])
async def test_a_request_has_a_deadline(
    wait: int, seconds: float, database: Database, autojump_clock: MockClock
) -> None:
    asking = Asking(database, OtherNode(delay=1000))
    began = trio.current_time()

    event = await asking.ask(GossipRequest((), (), None, wait))

    assert isinstance(event, PeerUnreachable)
    assert trio.current_time() - began == pytest.approx(seconds)


async def test_a_request_that_an_impostor_answers_is_reported(database: Database) -> None:
    asking = Asking(database, OtherNode(key=IMPOSTOR))

    assert isinstance(await asking.ask(HaveRequest(())), PeerUnreachable)
    counted = asking.traffic.metrics.registry.get_sample_value
    assert counted("pfn_mesh_unanswered_total", {"message": "have"}) == 1
    assert [failure.found for failure in asking.impostors] == [IMPOSTOR.public]


async def test_a_request_that_cannot_be_written_does_not_end_the_node(database: Database) -> None:
    asking = Asking(database, OtherNode())

    event = await asking.ask(LinkRequest("not a url", (), ()))

    assert isinstance(event, PeerUnreachable)
    assert "written" in event.reason


async def test_no_more_requests_are_taken_on_than_there_is_room_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing_module, "TAKEN_ON_MAX", 0)
    asking = Asking(database, OtherNode())

    async with trio.open_nursery() as nursery:
        refused = asking.outgoing.start(nursery, SendRequest(7, PEER.public, URL, HaveRequest(())))

    assert isinstance(refused, PeerUnreachable)


# ---- Answers to others.


async def test_an_answer_that_cannot_be_written_is_refused_in_writing(
    tmp_path: Path, database: Database, autojump_clock: MockClock
) -> None:
    received: list[RequestReceived] = []
    artifacts = Artifacts(tmp_path / "artifacts", 0)
    traffic = Traffic()
    incoming = Incoming(
        key=ME,
        mesh="main",
        admission=Admission(
            me=ME.public,
            mesh="main",
            now_ms=lambda: NOW * 1000,
            is_known=lambda node_id: True,
            is_blocked=lambda node_id: False,
        ),
        pages=PageLimits(is_pinned=lambda node_id: False, now_ms=lambda: NOW * 1000),
        bodies=Bodies(database),
        artifacts=artifacts,
        mirror_cells=no_mirrors,
        traffic=traffic,
        clock=clock,
        submit=received.append,
    )
    raw = seal_request(PEER, mesh="main", to=ME.public, message=FetchRequest(IDS), now_ms=NOW * 1000, nonce16=bytes(16))

    async def answer() -> None:
        await trio.sleep(1)
        incoming.deliver(SendAnswer(received[0].token, FetchAnswer((), (b"too short",))))
        incoming.deliver(SendAnswer(12345, FetchAnswer((), ())))  # nobody waits for this one

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        status, body = await incoming.handle("fetch", raw)

    assert status == 200
    assert b"could not write" in body
    assert (await incoming.handle("fetch", b"no request"))[0] == 400
    counted = traffic.metrics.registry.get_sample_value
    assert counted("pfn_mesh_messages_total", {"message": "fetch", "direction": "in"}) == 1
    assert sum(s.value for f in traffic.metrics.refused.collect() for s in f.samples if s.name.endswith("total")) == 1


# ---- Turns.


def machine() -> Mesh:
    return Mesh(ME, "main", MeshOptions("", "test"), random.Random(1), Restored(), NOW * 1000)


async def test_every_effect_is_kept_in_its_table(database: Database) -> None:
    turns = turns_over(database, ME.public, clock)

    await turns._keep([RememberPeer(PEER.public, URL, NOW * 1000, introduced=True), RaiseAlert("word", "A sentence.")])
    assert [(peer.url, peer.introduced) for peer in database.read_now(peer_store.peers)] == [(URL, True)]
    await turns._keep([ForgetPeer(PEER.public)])
    counted = turns._metrics.registry.get_sample_value
    assert [counted("pfn_mesh_changes_total", {"what": what}) for what in ("peer", "alert", "forgotten_peer")] == [
        1,
        1,
        1,
    ]

    assert database.read_now(peer_store.peers) == []
    assert database.read_now(lambda db: activity.activities(db))[0][0].message == "A sentence."


async def test_a_request_that_cannot_be_sent_is_told_in_the_next_turn(
    database: Database, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = turns_over(database, ME.public, clock)
    told: list[object] = []
    request = SendRequest(7, PEER.public, URL, HaveRequest(()))

    def handle(self: Mesh, event: object, now_ms: int) -> list[object]:
        told.append(event)
        return [request] if len(told) == 1 else []

    monkeypatch.setattr(Mesh, "handle", handle)
    monkeypatch.setattr(Mesh, "wake_at", NOW * 1000 + 3_600_000)
    unreachable = PeerUnreachable(7, PEER.public, "no room")
    doers = Doers(
        lambda effect: unreachable, lambda effect: None, lambda effect: None, lambda effect: None, lambda: None
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run, machine(), doers)
        await turns.tell(TimePassed())
        await trio.sleep(1)
        turns.end()

    assert told == [TimePassed(), unreachable]


async def test_a_node_that_nobody_talks_to_learns_that_its_clock_was_set_back(
    database: Database, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that it had planned lies hours ahead then, and nobody wakes it."""
    turns = turns_over(database, ME.public, clock)
    told: list[object] = []

    def handle(self: Mesh, event: object, now_ms: int) -> list[object]:
        told.append(event)
        return []

    monkeypatch.setattr(Mesh, "handle", handle)
    monkeypatch.setattr(Mesh, "wake_at", NOW * 1000 + 3_600_000)
    doers = Doers(lambda effect: None, lambda effect: None, lambda effect: None, lambda effect: None, lambda: None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run, machine(), doers)
        await trio.sleep(11)
        turns.end()

    assert told == [TimePassed()]


async def test_a_batch_is_bounded(
    database: Database, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_module, "BATCH_MAX", 2)
    turns = turns_over(database, ME.public, clock)
    for _ in range(3):
        await turns.report(TimePassed())

    assert len(await turns._next_batch(machine())) == 2
    assert len(await turns._next_batch(machine())) == 1


async def test_nothing_is_taken_in_after_the_end(database: Database) -> None:
    turns = turns_over(database, ME.public, clock)
    turns.end()

    with pytest.raises(Stopped):
        await turns.report(TimePassed())
    with pytest.raises(Busy):
        turns.submit(RequestReceived(1, PEER.public, HaveRequest(())))
    assert await turns._next_batch(machine()) == []


# ---- Figures.


def test_the_figures_of_nodes_not_heard_of_for_longest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic_module, "PEERS_MAX", 1)
    traffic = Traffic()
    traffic.record(PEER.public, sent=1, received=2, at=NOW, round_trip_seconds=1.0)
    traffic.record(PEER.public, sent=1, received=2, at=NOW + 1, round_trip_seconds=2.0)
    figures = traffic.of(PEER.public)
    assert (figures.bytes_sent, figures.bytes_received, figures.last_seen) == (2, 4, NOW + 1)
    assert figures.round_trip_seconds == pytest.approx(1.2)

    traffic.record(ME.public, sent=0, received=0, at=NOW)
    assert traffic.of(PEER.public).last_seen is None


def test_the_bytes_of_the_last_minute_go_with_it() -> None:
    traffic = Traffic()
    traffic.record(PEER.public, sent=1, received=2, at=NOW)
    traffic.record(PEER.public, sent=10, received=20, at=NOW + 30)

    counted = [traffic.of(PEER.public).bytes_last_minute(NOW + later) for later in (30, 59, 60, 75, 100, 10_000, 30)]

    assert counted == [33, 33, 30, 30, 0, 0, 0]
    assert traffic.of(ME.public).bytes_last_minute(NOW) == 0


async def test_blocking_work_runs_in_a_thread() -> None:
    in_thread = worker_threads()

    assert await in_thread(lambda: hashlib.sha256(b"").digest()) == hashlib.sha256(b"").digest()
