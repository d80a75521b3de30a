"""A hostile neighbour and a hostile mirror against the parts of the mesh: hanging, dribbling, flooding, junk."""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.mesh import text_queue
from pfn_node.mesh.admission import PUSHED_BURST, STRANGERS_PUSHED_BURST, Admission, NotHeard
from pfn_node.mesh.blocking import inline
from pfn_node.mesh.bodies import Bodies
from pfn_node.mesh.outgoing import IMPATIENT_SECONDS, Outgoing
from pfn_node.mesh.peer_client import AnotherKey, PeerClient
from pfn_node.mesh.signed_texts import SignedTexts
from pfn_node.mesh.text_queue import TextQueue
from pfn_node.mesh.traffic import Traffic
from pfn_node.outbound import Reply
from pfn_node.store.database import Database
from pfn_node.store.rows import Filters, Peer
from pfn_node.store.subscriptions import set_subscription
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.effects import SendRequest
from pfn_protocol.events import AnswerReceived, PeerUnreachable
from pfn_protocol.identity import PrivateKey
from pfn_protocol.message_fields import open_request, seal_answer, seal_request
from pfn_protocol.messages import GossipRequest, HaveAnswer, HaveRequest
from tests.node.mirrors import ASKER, MESH, Mirror, MirrorNetwork, now_ms
from tests.node.store_world import NOW, Publisher, World, version_statement
from tests.node.test_mesh_artifact_fetch import DATA, fetching, mirror

BILBO = Publisher()


def sybil(number: int) -> PrivateKey:
    return PrivateKey(hashlib.sha256(b"sybil %d" % number).digest())


# ---- Neighbours that hang.


@dataclass
class Hanging:
    """A way out on which only honest hosts ever answer."""

    keys: dict[str, PrivateKey] = field(default_factory=dict)

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
        host = url.split("/")[2]
        if not host.startswith("honest"):
            await trio.sleep_forever()
        key = self.keys[host]
        assert content is not None
        received = open_request(content, mesh=MESH, path="have", me=key.public, now_ms=now_ms())
        return Reply(200, {}, seal_answer(key, mesh=MESH, nonce=received.nonce, message=HaveAnswer(())), url)

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
        raise AssertionError("nothing is downloaded here")


class Asking:
    """An Outgoing whose requests are remembered with when each of them ended."""

    def __init__(self, folder: Path, trusted: PrivateKey) -> None:
        self.way = Hanging()
        self.ended: dict[bytes, list[tuple[float, type]]] = {}
        self._numbers = iter(range(1_000_000))
        self.outgoing = Outgoing(
            client=PeerClient(self.way, ASKER, MESH, now_ms),
            bodies=Bodies(Database.open(folder / "node.db", inline=True)),
            traffic=Traffic(),
            clock=lambda: now_ms() / 1000,
            report=self._on_event,
            report_impostor=self._on_impostor,
            is_trusted=trusted.public.__eq__,
        )

    async def _on_event(self, event: AnswerReceived | PeerUnreachable) -> None:
        self.ended.setdefault(event.peer, []).append((trio.current_time(), type(event)))

    async def _on_impostor(self, failure: AnotherKey) -> None:
        raise AssertionError("nobody answers for another")

    def ask(self, nursery: trio.Nursery, key: PrivateKey, host: str) -> None:
        self.way.keys[host] = key
        request = SendRequest(next(self._numbers), key.public, f"http://{host}", HaveRequest(()))
        assert self.outgoing.start(nursery, request) is None


async def test_neighbours_that_hang_starve_no_node_that_the_operator_trusts(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    friend = sybil(1000)
    asking = Asking(tmp_path, friend)
    async with trio.open_nursery() as nursery:
        for number in range(40):
            for _ in range(3):
                asking.ask(nursery, sybil(number), f"evil{number}")
        await trio.sleep(1)
        asking.ask(nursery, friend, "honest")
        await trio.sleep(1)

        assert [kind for _, kind in asking.ended[friend.public]] == [AnswerReceived]


async def test_one_neighbour_that_hangs_starves_only_itself(tmp_path: Path, autojump_clock: MockClock) -> None:
    asking = Asking(tmp_path, sybil(1000))
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            asking.ask(nursery, sybil(1), "evil")
        await trio.sleep(1)
        asking.ask(nursery, sybil(2), "honest2")
        await trio.sleep(1)

        assert [kind for _, kind in asking.ended[sybil(2).public]] == [AnswerReceived]


async def test_who_let_a_request_run_out_is_given_little_time_for_the_next(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    asking = Asking(tmp_path, sybil(1000))
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        asking.ask(nursery, sybil(1), "evil")
        await trio.sleep(11)
        asking.ask(nursery, sybil(1), "evil")
        await trio.sleep(IMPATIENT_SECONDS + 0.1)

        assert [round(at - began) for at, _ in asking.ended[sybil(1).public]] == [10, 13]


# ---- Mirrors that dribble.


async def test_mirrors_that_bring_nothing_make_way_for_others(tmp_path: Path, autojump_clock: MockClock) -> None:
    stallers = [mirror(f"staller{n}", stalls_after=10) for n in range(3)]
    honest = mirror("honest", have_delay=0.2)
    async with fetching(tmp_path, *stallers, honest) as node:
        peers = [one.peer() for one in (*stallers, honest)]
        assert not await node.fetch(*peers)

        assert await node.fetch(*peers)
        assert node.artifacts.read_text(hashlib.sha256(DATA).digest(), len(DATA)) == DATA


async def test_a_mirror_that_dribbles_is_hedged_like_one_that_hangs(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dribble(
        self: MirrorNetwork, url: str, sink: Callable[[bytes], object], *, bytes_max: int, **rest: object
    ) -> Reply:
        if "dribbler" not in url:
            return await genuine(self, url, sink, bytes_max=bytes_max, **rest)  # type: ignore[arg-type]
        for start in range(len(DATA)):
            sink(DATA[start : start + 1])
            await trio.sleep(0.1)
        return Reply(200, {}, b"", url)

    genuine = MirrorNetwork.download
    monkeypatch.setattr(MirrorNetwork, "download", dribble)
    dribbler, honest = mirror("dribbler"), mirror("honest")
    async with fetching(tmp_path, dribbler, honest) as node:
        with trio.fail_after(3):
            assert await node.fetch(dribbler.peer(), honest.peer())


async def test_mirrors_that_answer_fast_do_not_keep_a_pinned_one_from_being_asked(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    liars = [mirror(f"liar{n}", stalls_after=10) for n in range(5)]
    friend = mirror("friend", have_delay=1.0)
    async with fetching(tmp_path, *liars, friend) as node:
        assert await node.fetch(*(one.peer() for one in liars), friend.peer(pinned=True))
        assert friend.downloads == 1


async def test_a_pinned_mirror_that_was_slow_once_still_comes_before_strangers(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    friend = mirror("friend", stalls_after=10)
    async with fetching(tmp_path, friend, mirror("stranger", says=set())) as node:
        assert not await node.fetch(friend.peer(pinned=True))
        friend.stalls_after = None

        assert await node.fetch(mirror("stranger").peer(), friend.peer(pinned=True))
        assert friend.downloads == 2


# ---- Texts that anybody names.


def test_authors_take_turns_and_pinned_ones_go_first() -> None:
    queue = TextQueue()
    for number in range(100):
        queue.put(b"loud", b"%d" % number, pinned=False)
    queue.put(b"quiet", b"one", pinned=False)
    queue.put(b"friend", b"first", pinned=True)

    async def drain() -> list[bytes]:
        return [await queue.next() for _ in range(4)]

    assert trio.run(drain) == [b"first", b"0", b"one", b"1"]


def test_the_queue_of_texts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_queue, "WAITING_MAX", 10)
    monkeypatch.setattr(text_queue, "OF_ONE_AUTHOR_MAX", 4)
    queue = TextQueue()
    for number in range(100):
        queue.put(b"author %d" % (number % 2), b"%d" % number, pinned=False)
    assert len(queue) == 8
    for number in range(100):
        queue.put(b"author %d" % number, b"", pinned=True)
    assert len(queue) == 10


class Texts:
    """Signed texts from one mirror, into a store that knows bilbo's key."""

    def __init__(self, folder: Path, nursery: trio.Nursery, holder: Mirror) -> None:
        self.nursery = nursery
        self.holder = holder
        self.artifacts = Artifacts(folder / "artifacts", 2**21)
        self.artifacts.start()
        self.database = Database.open(folder / "node.db", inline=True)
        self.texts = SignedTexts(
            database=self.database,
            artifacts=self.artifacts,
            client=PeerClient(MirrorNetwork(holder), ASKER, MESH, now_ms),
            bytes_per_second_min=0,
            report_lie=self._on_lie,
            in_thread=inline(),
        )

    async def _on_lie(self, liar: Peer, sentence: str) -> None:
        raise AssertionError(sentence)

    async def know_bilbo(self, *, subscribed: bool = False) -> None:
        def work(db: object) -> None:
            World(db=db).add_source(BILBO, verified=True)  # type: ignore[arg-type]
            if subscribed:
                set_subscription(db, BILBO.source_id, "somebody", Filters(), NOW)  # type: ignore[arg-type]

        await self.database.write(work)

    async def bring(self, text: bytes, signature: bytes) -> None:
        """As if the mirror had announced a version with this text."""
        sha256 = hashlib.sha256(text).digest()
        self.holder.has[sha256] = text
        piece = Evidence(EvidenceForm.PLUGIN_DATA, signature, sha256)

        async def holders() -> Sequence[Peer]:
            return [self.holder.peer()]

        statement = replace(version_statement(evidence=[piece]), sha256=bytes(32))
        await self.texts.bring(self.nursery, self.holder.key.public, statement, holders)


@asynccontextmanager
async def texts_of(folder: Path) -> AsyncIterator[Texts]:
    async with trio.open_nursery() as nursery:
        yield Texts(folder, nursery, Mirror("holder", sybil(1)))
        nursery.cancel_scope.cancel()


async def test_texts_that_no_publisher_signed_fill_no_disk(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with texts_of(tmp_path) as node:
        await node.know_bilbo(subscribed=True)
        for number in range(10):
            await node.bring(b"junk %d" % number * 1000, bytes(64))

        assert (node.artifacts.usage()["kept"], node.artifacts.usage()["cached"]) == (0, 0)


async def test_texts_of_sources_that_nobody_subscribed_to_lie_in_the_cache(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    text = b'{"slug":"hello","version":"1.0.0"}'
    async with texts_of(tmp_path) as node:
        await node.know_bilbo()
        await node.bring(text, BILBO.key.sign(text))

        assert (node.artifacts.usage()["kept"], node.artifacts.usage()["cached"]) == (0, 1)


async def test_the_texts_of_a_subscribed_source_are_kept(tmp_path: Path, autojump_clock: MockClock) -> None:
    text = b'{"slug":"hello","version":"1.0.0"}'
    async with texts_of(tmp_path) as node:
        await node.know_bilbo(subscribed=True)
        await node.bring(text, BILBO.key.sign(text))

        assert node.artifacts.usage()["kept"] == 1


async def test_an_artifact_that_is_named_as_a_text_is_not_thrown_away(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with texts_of(tmp_path) as node:
        await node.know_bilbo()
        sha256 = node.artifacts.put_bytes(b"a zip that is served here")
        await node.bring(b"a zip that is served here", bytes(64))

        assert node.artifacts.has(sha256)


# ---- Floods.


class Door:
    """An admission that knows its senders, and whom of them it trusts."""

    def __init__(self, *trusted: PrivateKey) -> None:
        self.now_ms = now_ms()
        self._nonces = 0
        self.admission = Admission(
            me=ASKER.public,
            mesh=MESH,
            now_ms=lambda: self.now_ms,
            is_known=lambda _: True,
            is_blocked=lambda _: False,
            is_trusted=lambda sender: any(sender == one.public for one in trusted),
        )

    def push(self, sender: PrivateKey, count: int) -> bool:
        """Whether a push of so many announcements is heard."""
        self._nonces += 1
        nonce = self._nonces.to_bytes(16, "big")
        message = GossipRequest((b"x",) * count, (), None, 0)
        raw = seal_request(sender, mesh=MESH, to=ASKER.public, message=message, now_ms=self.now_ms, nonce16=nonce)
        try:
            self.admission.open("gossip", raw)
        except NotHeard as refused:
            assert refused.status == 429
            return False
        return True


def test_a_stranger_may_push_only_so_much_and_more_with_time() -> None:
    door = Door()
    while door.push(sybil(1), 500):
        pass
    assert not door.push(sybil(1), 500)
    assert door.push(sybil(2), 500)

    door.now_ms += 1000
    assert not door.push(sybil(1), 500)
    assert door.push(sybil(1), 200)


def test_a_crowd_of_strangers_leaves_the_machine_to_friends() -> None:
    friend = sybil(1000)
    door = Door(friend)
    heard = sum(door.push(sybil(number), 500) for number in range(100))

    assert heard == STRANGERS_PUSHED_BURST / 500 < 100 * PUSHED_BURST / 500
    assert all(door.push(friend, 500) for _ in range(100))
