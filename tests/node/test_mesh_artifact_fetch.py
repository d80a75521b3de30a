"""Fetching artifacts from mirrors: whom to ask, hedging, and what happens to those who send other bytes."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.mesh import artifact_fetch
from pfn_node.mesh.artifact_fetch import CANDIDATES_MAX, HOLDERS_MAX, ROUNDS_MAX, ArtifactFetch, Wanted
from pfn_node.mesh.availability import Availability
from pfn_node.mesh.blocking import inline
from pfn_node.mesh.peer_client import PeerClient
from pfn_node.store.rows import Peer
from pfn_protocol.identity import PrivateKey
from tests.node.mirrors import ASKER, MESH, Mirror, MirrorNetwork, now_ms

DATA = b"the bytes of a plugin " * 50
DIGEST = hashlib.sha256(DATA).digest()
SECONDS_MAX = 60.0


class Fetching:
    """A fetcher, what it reported, and the nursery that its fetches run in."""

    def __init__(self, folder: Path, nursery: trio.Nursery, *mirrors: Mirror, cache_bytes_max: int = 2**20) -> None:
        self.nursery = nursery
        self.artifacts = Artifacts(folder, cache_bytes_max)
        self.artifacts.start()
        self.kept: list[tuple[bytes, bool]] = []
        self.lies: list[str] = []
        client = PeerClient(MirrorNetwork(*mirrors), ASKER, MESH, now_ms)
        self.fetches = ArtifactFetch(
            artifacts=self.artifacts,
            client=client,
            availability=Availability(client),
            bytes_per_second_min=0,
            report_kept=self._on_kept,
            report_lie=self._on_lie,
            in_thread=inline(),
        )

    async def _on_kept(self, sha256: bytes, cache: bool) -> None:
        self.kept.append((sha256, cache))

    async def _on_lie(self, liar: Peer, sentence: str) -> None:
        self.lies.append(sentence)

    async def fetch(
        self, *peers: Peer, size: int | None = len(DATA), cache: bool = False, sha256: bytes = DIGEST
    ) -> bool:
        wanted = Wanted(sha256, len(DATA), size, SECONDS_MAX)
        return await self.fetches.fetch(self.nursery, wanted, _found(peers), cache=cache)


def _found(peers: Sequence[Peer]) -> Callable[[], Awaitable[Sequence[Peer]]]:
    async def find() -> Sequence[Peer]:
        return peers

    return find


@asynccontextmanager
async def fetching(folder: Path, *mirrors: Mirror, cache_bytes_max: int = 2**20) -> AsyncIterator[Fetching]:
    async with trio.open_nursery() as nursery:
        yield Fetching(folder, nursery, *mirrors, cache_bytes_max=cache_bytes_max)
        nursery.cancel_scope.cancel()


def mirror(name: str, **more: object) -> Mirror:
    key = PrivateKey(hashlib.sha256(name.encode()).digest())
    return Mirror(name, key, **{"has": {DIGEST: DATA}, **more})  # type: ignore[arg-type]


async def test_an_artifact_comes_from_the_node_that_has_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    holder, other = mirror("holder"), mirror("other", has={})
    async with fetching(tmp_path, holder, other) as node:
        assert await node.fetch(other.peer(), holder.peer())

        assert node.artifacts.read_text(DIGEST, len(DATA)) == DATA
        assert node.kept == [(DIGEST, False)]
        assert (holder.downloads, other.downloads) == (1, 0)


async def test_what_is_here_already_is_not_fetched(tmp_path: Path, autojump_clock: MockClock) -> None:
    holder = mirror("holder")
    async with fetching(tmp_path, holder) as node:
        node.artifacts.put_bytes(DATA)

        assert await node.fetch(holder.peer())
        assert holder.asked == []


async def test_nobody_has_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with fetching(tmp_path, mirror("empty", has={}), mirror("dead", dead=True)) as node:
        assert not await node.fetch(mirror("empty").peer(), mirror("dead").peer())
        assert not await node.fetch()


async def test_a_pinned_holder_is_asked_for_the_bytes_first(tmp_path: Path, autojump_clock: MockClock) -> None:
    stranger, friend = mirror("stranger"), mirror("friend", have_delay=0.1)
    async with fetching(tmp_path, stranger, friend) as node:
        assert await node.fetch(stranger.peer(), friend.peer(pinned=True))

        assert (stranger.downloads, friend.downloads) == (0, 1)


async def test_a_liar_is_not_served_and_the_next_holder_is_tried(tmp_path: Path, autojump_clock: MockClock) -> None:
    liar = mirror("liar", has={DIGEST: b"x" * len(DATA)})
    honest = mirror("honest")
    async with fetching(tmp_path, liar, honest) as node:
        assert await node.fetch(liar.peer(pinned=True), honest.peer())

        assert node.artifacts.read_text(DIGEST, len(DATA)) == DATA
        assert len(node.lies) == 1
        assert "another digest" in node.lies[0]
        assert node.fetches.lies_of(liar.key.public) == 1
        assert node.fetches.lies_of(honest.key.public) == 0


async def test_a_liar_is_asked_last_from_then_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    second = b"another plugin"
    second_digest = hashlib.sha256(second).digest()
    liar = mirror("liar", has={DIGEST: b"x" * len(DATA), second_digest: second})
    honest = mirror("honest", has={DIGEST: DATA, second_digest: second})
    async with fetching(tmp_path, liar, honest) as node:
        await node.fetch(liar.peer(pinned=True), honest.peer())

        assert await node.fetch(liar.peer(pinned=True), honest.peer(), sha256=second_digest, size=len(second))
        assert (liar.downloads, honest.downloads) == (1, 2)


async def test_bytes_beyond_the_announced_size_are_a_lie(tmp_path: Path, autojump_clock: MockClock) -> None:
    endless = mirror("endless", has={DIGEST: DATA + b"more"})
    async with fetching(tmp_path, endless) as node:
        assert not await node.fetch(endless.peer())

        assert "more bytes" in node.lies[0]
        assert not node.artifacts.has(DIGEST)


async def test_a_wrong_announced_size_is_nobodys_lie(tmp_path: Path, autojump_clock: MockClock) -> None:
    short = b"short"
    digest = hashlib.sha256(short).digest()
    holder = mirror("holder", has={digest: short})
    async with fetching(tmp_path, holder) as node:
        assert not await node.fetch(holder.peer(), sha256=digest)
        assert node.lies == []


async def test_a_text_of_unknown_size_is_taken_by_its_digest(tmp_path: Path, autojump_clock: MockClock) -> None:
    short = b"short"
    digest = hashlib.sha256(short).digest()
    holder = mirror("holder", has={digest: short})
    async with fetching(tmp_path, holder) as node:
        assert await node.fetch(holder.peer(), sha256=digest, size=None)


async def test_while_the_first_is_slow_the_second_is_asked_too(tmp_path: Path, autojump_clock: MockClock) -> None:
    slow = mirror("slow", first_byte_delay=30.0)
    quick = mirror("quick")
    async with fetching(tmp_path, slow, quick) as node:
        began = trio.current_time()
        assert await node.fetch(slow.peer(pinned=True), quick.peer())

        assert trio.current_time() - began < 2.0
        assert (slow.downloads, quick.downloads) == (1, 1)
        assert node.fetches.lies_of(slow.key.public) == 0


async def test_a_transfer_that_stalls_half_way_is_overtaken(tmp_path: Path, autojump_clock: MockClock) -> None:
    stalling = mirror("stalling", stalls_after=300)
    quick = mirror("quick")
    async with fetching(tmp_path, stalling, quick) as node:
        assert await node.fetch(stalling.peer(pinned=True), quick.peer())


async def test_a_transfer_that_goes_on_is_not_hedged(tmp_path: Path, autojump_clock: MockClock) -> None:
    data = b"z" * 10_000  # 100 chunks, 10 ms each: longer than the hedge waits
    digest = hashlib.sha256(data).digest()
    first, second = mirror("first", has={digest: data}), mirror("second", has={digest: data})
    async with fetching(tmp_path, first, second) as node:
        wanted = Wanted(digest, len(data), len(data), SECONDS_MAX)
        found = _found([first.peer(pinned=True), second.peer()])
        assert await node.fetches.fetch(node.nursery, wanted, found, cache=False)

        assert (first.downloads, second.downloads) == (1, 0)


async def test_at_most_three_holders_at_a_time_are_asked_for_the_bytes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    hanging = [mirror(f"hanging{number}", first_byte_delay=SECONDS_MAX) for number in range(5)]
    async with fetching(tmp_path, *hanging) as node:
        assert not await node.fetch(*(one.peer() for one in hanging))

        assert sum(one.downloads for one in hanging) == HOLDERS_MAX


@pytest.mark.parametrize("bad", [{"has": {DIGEST: b"garbage"}}, {"status": 500}], ids=["lies", "fails"])
async def test_a_crowd_that_says_to_have_it_and_does_not_bring_it_hides_no_holder(
    tmp_path: Path, autojump_clock: MockClock, bad: dict[str, object]
) -> None:
    crowd = [mirror(f"bad{number}", **bad) for number in range(5)]
    holder = mirror("holder", have_delay=0.1)
    async with fetching(tmp_path, *crowd, holder) as node:
        assert await node.fetch(*(one.peer() for one in (*crowd, holder)))

        assert all(one.downloads == 1 for one in (*crowd, holder))


async def test_only_so_many_holders_are_asked_for_the_bytes_in_all(tmp_path: Path, autojump_clock: MockClock) -> None:
    broken = [mirror(f"broken{number}", status=500) for number in range(CANDIDATES_MAX)]
    async with fetching(tmp_path, *broken) as node:
        assert not await node.fetch(*(one.peer() for one in broken))

        assert sum(one.downloads for one in broken) == HOLDERS_MAX * ROUNDS_MAX


async def test_a_fetch_ends_at_its_deadline(tmp_path: Path, autojump_clock: MockClock) -> None:
    stalling = mirror("stalling", stalls_after=100)
    async with fetching(tmp_path, stalling) as node:
        began = trio.current_time()
        assert not await node.fetch(stalling.peer())

        assert trio.current_time() - began == pytest.approx(SECONDS_MAX)


async def test_many_who_want_the_same_bytes_cause_one_transfer(tmp_path: Path, autojump_clock: MockClock) -> None:
    holder = mirror("holder", first_byte_delay=0.2)
    answers: list[bool] = []
    async with fetching(tmp_path, holder) as node:

        async def want() -> None:
            answers.append(await node.fetch(holder.peer(), cache=True))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(want)

    assert answers == [True] * 10
    assert holder.downloads == 1


async def test_what_one_of_them_wants_to_keep_is_kept(tmp_path: Path, autojump_clock: MockClock) -> None:
    holder = mirror("holder", first_byte_delay=0.2)
    async with fetching(tmp_path, holder) as node:

        async def want(cache: bool) -> None:
            assert await node.fetch(holder.peer(), cache=cache)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(want, True)
            nursery.start_soon(want, False)

        assert node.artifacts.usage()["kept"] == 1


async def test_a_cached_artifact_is_promoted_when_it_is_to_be_kept(tmp_path: Path, autojump_clock: MockClock) -> None:
    holder = mirror("holder")
    async with fetching(tmp_path, holder) as node:
        assert await node.fetch(holder.peer(), cache=True)
        assert node.artifacts.usage()["cached"] == 1

        assert await node.fetch(holder.peer(), cache=False)
        assert node.artifacts.usage()["kept"] == 1
        assert holder.downloads == 1


async def test_an_artifact_that_the_cache_dropped_meanwhile_is_not_here(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fetching(tmp_path) as node:
        monkeypatch.setattr(node.artifacts, "has", lambda sha256: True)

        assert not await node.fetch()


async def test_whoever_stops_waiting_stops_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    holder = mirror("holder", first_byte_delay=1.0)
    async with fetching(tmp_path, holder) as node:
        with trio.move_on_after(0.5):
            await node.fetch(holder.peer())
        assert not node.artifacts.has(DIGEST)

        assert await node.fetch(holder.peer())
        assert holder.downloads == 1


async def test_an_artifact_too_large_for_the_cache_is_not_served(tmp_path: Path, autojump_clock: MockClock) -> None:
    holder = mirror("holder")
    async with fetching(tmp_path, holder, cache_bytes_max=10) as node:
        assert not await node.fetch(holder.peer(), cache=True)


async def test_too_many_fetches_are_refused(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact_fetch, "WAITING_MAX", 0)
    holder = mirror("holder")
    async with fetching(tmp_path, holder) as node:
        assert not await node.fetch(holder.peer())


async def test_only_so_many_liars_are_remembered(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact_fetch, "LIARS_MAX", 0)
    liar = mirror("liar", has={DIGEST: b"x"})
    async with fetching(tmp_path, liar) as node:
        assert not await node.fetch(liar.peer())
        assert node.fetches.lies_of(liar.key.public) == 0


async def test_questions_to_one_node_go_together(autojump_clock: MockClock) -> None:
    digests = [bytes([number]) * 32 for number in range(5)]
    holder = mirror("holder", has={digests[3]: b""}, have_delay=0.1)
    availability = Availability(PeerClient(MirrorNetwork(holder), ASKER, MESH, now_ms))
    answers: dict[bytes, bool] = {}

    async def ask(digest: bytes) -> None:
        answers[digest] = await availability.has(holder.peer(), digest)

    async with trio.open_nursery() as nursery:
        for digest in digests:
            nursery.start_soon(ask, digest)

    assert len(holder.asked) <= 2
    assert [digest for digest, answer in answers.items() if answer] == [digests[3]]
    assert availability._lines == {}


async def test_a_question_that_is_given_up_does_not_answer_the_others(autojump_clock: MockClock) -> None:
    first, second = bytes([1]) * 32, bytes([2]) * 32
    holder = mirror("holder", has={first: b"", second: b""}, have_delay=1.0)
    availability = Availability(PeerClient(MirrorNetwork(holder), ASKER, MESH, now_ms))
    answers: list[bool] = []

    async def give_up() -> None:
        with trio.move_on_after(1.5):
            await availability.has(holder.peer(), first)
            await availability.has(holder.peer(), first)

    async def insist() -> None:
        await trio.sleep(1.2)
        answers.append(await availability.has(holder.peer(), second))

    async def leave_early() -> None:
        await trio.sleep(1.2)
        with trio.move_on_after(0.1):
            await availability.has(holder.peer(), second)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_up)
        nursery.start_soon(insist)
        nursery.start_soon(leave_early)

    assert answers == [True]


async def test_a_node_that_refuses_to_answer_has_nothing(autojump_clock: MockClock) -> None:
    holder = mirror("holder", refuses=True)
    availability = Availability(PeerClient(MirrorNetwork(holder), ASKER, MESH, now_ms))

    assert not await availability.has(holder.peer(), DIGEST)


async def test_an_answer_signed_by_another_key_counts_for_nothing(autojump_clock: MockClock) -> None:
    holder = mirror("holder", signs_with=PrivateKey(bytes([5]) * 32))
    availability = Availability(PeerClient(MirrorNetwork(holder), ASKER, MESH, now_ms))

    assert not await availability.has(holder.peer(), DIGEST)
