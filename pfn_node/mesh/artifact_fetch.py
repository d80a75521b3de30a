"""Artifacts from other nodes: whom to ask, whom to take it from, and what is done about a liar.

Mirrors are sources of bytes and nothing else: what they send is hashed while it is written, and is kept only if its
digest and size are the ones that were asked for. Who holds an artifact is asked first, of all candidates at once; then
the best holder is asked for the bytes, and while nothing comes the next one too. The first complete and true copy
wins, the others are given up; where none comes, those are asked who were not yet. A holder that sent other bytes than
it was asked for is asked last from then on, and one that promised bytes and did not bring them in time after its
equals; no other node ever hears of either: this is our own experience, not evidence.

However many ask for a digest at the same time, it is fetched once; and who stops waiting for it stops nothing.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog
import trio

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactError, ArtifactMissing
from pfn_node.mesh.availability import Availability
from pfn_node.mesh.blocking import InThread, worker_threads
from pfn_node.mesh.peer_client import PeerClient, PeerFailure, TooMuch
from pfn_node.mesh.views import shown
from pfn_node.store.database import StoreTrouble
from pfn_node.store.rows import Peer

log = structlog.get_logger()

CANDIDATES_MAX = 16  # nodes that are asked whether they have it; the best of them by rank
HOLDERS_MAX = 3  # nodes that are asked for the bytes at a time
ROUNDS_MAX = 3  # as often are others asked, when none of those brought them
# How long a holder may bring next to nothing before the next one is asked as well: less than 7 KiB/s is a dribble.
HEDGE_SECONDS = 0.3
HEDGE_BYTES = 2048
# When one has said that it has it, how long better ranked ones are still waited for.
GRACE_SECONDS = 0.3
# The same for pinned ones: a crowd that says so at once must not keep those from being asked that are far away.
PINNED_GRACE_SECONDS = 1.5
# How long is waited for the first to say that it has it.
HAVE_SECONDS_MAX = 5.0
# Asking who has an artifact, waiting for a turn, and beginning, before the first byte of it comes.
FETCH_SECONDS_MIN = 60.0
FETCHES_MAX = 8  # at the same time; each may have HOLDERS_MAX transfers open
WAITING_MAX = 512  # fetches begun or waiting for their turn; beyond it the answer is no
LIARS_MAX = 1024  # whose lies are remembered
SLOW_MAX = 1024  # likewise of those who brought nothing in time
# A transfer that runs for longer without bringing the bytes whole counts against its holder.
SLOW_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Bytes that are looked for. `size` None: unknown, up to `bytes_max`."""

    sha256: bytes
    bytes_max: int
    size: int | None
    seconds_max: float


def wanted_artifact(sha256: bytes, size: int, seconds_max: float, bytes_per_second_min: int) -> Wanted:
    """An artifact of a known size. `bytes_per_second_min`: how slow a holder may be; 0: as slow as it likes."""
    if bytes_per_second_min:
        # Nobody who keeps to the minimum rate needs longer; who does not shall not hold a turn for that long.
        seconds_max = min(seconds_max, FETCH_SECONDS_MIN + size / bytes_per_second_min)
    return Wanted(sha256, size, size, seconds_max)


@dataclass(slots=True)
class _Flight:
    """One fetch that several may be waiting for."""

    wanted: Wanted
    find_candidates: Callable[[], Awaitable[Sequence[Peer]]]
    cache: bool  # False as soon as one of those who wait wants it kept
    done: trio.Event = field(default_factory=trio.Event)
    found: bool = False
    hopeless: bool = False  # whoever else is asked, it would end in the same way


@dataclass(slots=True)
class _Race:
    """Transfers of the same bytes from several holders."""

    brought: int = 0  # bytes, of all of them
    running: int = 0
    won: bool = False
    changed: trio.Event = field(default_factory=trio.Event)

    def tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def wait_until_slow(self) -> None:
        """Return when next to nothing came for a while, or nobody is running any more, or it is won."""
        while self.running and not self.won:
            brought = self.brought
            with trio.move_on_after(HEDGE_SECONDS):
                await self.changed.wait()
                continue
            if self.brought - brought < HEDGE_BYTES:
                return

    async def wait_until_over(self) -> None:
        while self.running and not self.won:
            await self.changed.wait()


class ArtifactFetch:
    """Fetches artifacts from other nodes.

    `report_kept(sha256, cache)` is told of every artifact that is here now, before those who wait for it are;
    `report_lie(peer, sentence)` of every liar. `local`: what is kept stays out of an object store.
    """

    def __init__(
        self,
        *,
        artifacts: Artifacts,
        client: PeerClient,
        availability: Availability,
        bytes_per_second_min: int,
        report_kept: Callable[[bytes, bool], Awaitable[None]],
        report_lie: Callable[[Peer, str], Awaitable[None]],
        in_thread: InThread,
        local: bool = False,
    ) -> None:
        self._artifacts = artifacts
        self._local = local
        self._client = client
        self._availability = availability
        self._bytes_per_second_min = bytes_per_second_min
        self._report_kept = report_kept
        self._report_lie = report_lie
        # Sending to an object store is waiting: it has threads of its own.
        self._in_thread = in_thread if artifacts.store is None or local else worker_threads()
        self._flights: dict[bytes, _Flight] = {}
        self._turns = trio.CapacityLimiter(FETCHES_MAX)
        self._lies: dict[bytes, int] = {}
        self._slow: OrderedDict[bytes, int] = OrderedDict()

    async def fetch(
        self,
        nursery: trio.Nursery,
        wanted: Wanted,
        find_candidates: Callable[[], Awaitable[Sequence[Peer]]],
        *,
        cache: bool,
    ) -> bool:
        """Whether the bytes are here now, fetched or found. The fetch runs in `nursery`, and goes on without us."""
        if self._artifacts.has(wanted.sha256):  # the database may not know, after a crash
            return await self._keep_what_is_here(wanted.sha256, cache)
        flight = self._flights.get(wanted.sha256)
        if flight is None:
            if len(self._flights) >= WAITING_MAX:
                return False
            flight = self._flights[wanted.sha256] = _Flight(wanted, find_candidates, cache)
            nursery.start_soon(self._fly, flight)
        flight.cache = flight.cache and cache
        await flight.done.wait()
        return flight.found and (cache == flight.cache or await self._keep_what_is_here(wanted.sha256, cache))

    async def _keep_what_is_here(self, sha256: bytes, cache: bool) -> bool:
        if not cache:
            try:
                await self._in_thread(lambda: self._artifacts.promote(sha256, local=self._local))
            except ArtifactMissing:  # the cache made room for another one meanwhile
                return False
            except (ArtifactError, OSError) as error:
                log.error("artifact_not_kept", sha256=sha256.hex(), error=str(error))
                return False
        await self._report_kept(sha256, cache)
        return True

    async def _fly(self, flight: _Flight) -> None:
        try:
            with trio.move_on_after(flight.wanted.seconds_max):
                async with self._turns:
                    flight.found = await self._look_for(flight)
            if flight.found:
                await self._report_kept(flight.wanted.sha256, flight.cache)
        except StoreTrouble as error:  # who holds it cannot be read now
            log.error("store_failed", doing="fetch", sha256=flight.wanted.sha256.hex(), reason=str(error))
        finally:
            del self._flights[flight.wanted.sha256]
            flight.done.set()

    async def _look_for(self, flight: _Flight) -> bool:
        """Have the bytes brought; those who did not are followed by others, so that no crowd of liars hides one."""
        asked: set[bytes] = set()
        for _ in range(ROUNDS_MAX):
            holders = (await self._holders(flight, asked))[:HOLDERS_MAX]
            if not holders or flight.hopeless:
                break
            if await self._race(flight, holders):
                return True
            asked.update(holder.node_id for holder in holders)
        return False

    async def _holders(self, flight: _Flight, asked: set[bytes]) -> list[Peer]:
        """Those who say that they have it: pinned first, the slow later, liars last, else as the store ranks them.

        Those who were asked for the bytes are left out.
        """
        found = [peer for peer in await flight.find_candidates() if peer.node_id not in asked]
        candidates = sorted(found, key=self._rank)[:CANDIDATES_MAX]
        answers: list[bool | None] = [None] * len(candidates)
        changed = trio.Event()

        async def ask(place: int, peer: Peer) -> None:
            nonlocal changed
            answers[place] = await self._availability.has(peer, flight.wanted.sha256)
            changed.set()
            changed = trio.Event()

        async with trio.open_nursery() as nursery:
            for place, peer in enumerate(candidates):
                nursery.start_soon(ask, place, peer)
            with trio.move_on_after(GRACE_SECONDS):
                while not _is_settled(answers):
                    await changed.wait()
            pinned = sum(peer.pinned and not self._lies.get(peer.node_id) for peer in candidates)
            with trio.move_on_after(PINNED_GRACE_SECONDS - GRACE_SECONDS):
                while not _is_settled(answers[:pinned]):
                    await changed.wait()
            good = [place for place, peer in enumerate(candidates) if self._has_good_name(peer)]
            with trio.move_on_after(HAVE_SECONDS_MAX - PINNED_GRACE_SECONDS):
                while _is_none_yet(answers) or _is_none_yet([answers[place] for place in good]):
                    await changed.wait()
            nursery.cancel_scope.cancel()
        return [peer for peer, answer in zip(candidates, answers, strict=True) if answer]

    def _rank(self, peer: Peer) -> tuple[int, bool, int]:
        return self._lies.get(peer.node_id, 0), not peer.pinned, self._slow.get(peer.node_id, 0)

    def _has_good_name(self, peer: Peer) -> bool:
        return not self._lies.get(peer.node_id) and not self._slow.get(peer.node_id)

    async def _race(self, flight: _Flight, holders: Sequence[Peer]) -> bool:
        race = _Race()
        async with trio.open_nursery() as nursery:
            for holder in holders:
                race.running += 1
                nursery.start_soon(self._run, race, flight, holder)
                await race.wait_until_slow()
                if race.won:
                    break
            await race.wait_until_over()
            nursery.cancel_scope.cancel()
        return race.won

    async def _run(self, race: _Race, flight: _Flight, holder: Peer) -> None:
        began, brought = trio.current_time(), False
        try:
            brought = await self._transfer(race, flight, holder)
            race.won = race.won or brought
        except PeerFailure as failure:
            log.info("mirror_failed", peer=shown(holder.node_id), reason=failure.reason)
        except (ArtifactError, OSError) as error:  # a full disk is the operator's business, not the end of the mesh
            log.error("artifact_not_written", sha256=flight.wanted.sha256.hex(), error=str(error))
            flight.hopeless = True
        finally:
            if not brought and not race.won:
                self._availability.disbelieve(holder.node_id)
            if not brought and trio.current_time() - began >= SLOW_SECONDS:
                self._note_slow(holder.node_id)
            race.running -= 1
            race.tell()

    def _note_slow(self, node_id: bytes) -> None:
        self._slow[node_id] = self._slow.pop(node_id, 0) + 1
        if len(self._slow) > SLOW_MAX:
            self._slow.popitem(last=False)

    async def _transfer(self, race: _Race, flight: _Flight, holder: Peer) -> bool:
        wanted = flight.wanted
        assert holder.url is not None, "only nodes with a URL are candidates"
        with self._artifacts.writer(local=self._local) as writer:

            def write(chunk: bytes) -> None:
                race.brought += len(chunk)
                writer.write(chunk)

            try:
                await self._client.artifact(
                    holder.url,
                    wanted.sha256,
                    write,
                    bytes_max=wanted.bytes_max if wanted.size is None else wanted.size,
                    seconds_max=wanted.seconds_max,
                    bytes_per_second_min=self._bytes_per_second_min,
                )
            except TooMuch:
                await self._lower(holder, wanted, "more bytes than its size says")
                return False
            if writer.digest() != wanted.sha256:
                await self._lower(holder, wanted, "bytes with another digest")
                return False
            if wanted.size is not None and writer.size != wanted.size:
                # The digest is right, so the announced size is wrong; nobody can bring these bytes at that size.
                log.warning("artifact_size_wrong", sha256=wanted.sha256.hex(), size=writer.size)
                flight.hopeless = True
                return False
            with trio.CancelScope(shield=True):  # a thread that renames a file is not to be left alone with it
                await self._in_thread(lambda: writer.keep(cache=flight.cache, expected=wanted.sha256))
            return True

    async def _lower(self, liar: Peer, wanted: Wanted, what: str) -> None:
        if liar.node_id in self._lies or len(self._lies) < LIARS_MAX:
            self._lies[liar.node_id] = self._lies.get(liar.node_id, 0) + 1
        await self._report_lie(
            liar,
            f"{shown(liar.node_id)} at {liar.url} was asked for the artifact {wanted.sha256.hex()[:16]}… "
            f"and sent {what}; they were thrown away, and it is asked last from now on.",
        )

    def lies_of(self, node_id: bytes) -> int:
        """How often this node sent other bytes than it was asked for, since start."""
        return self._lies.get(node_id, 0)


def _is_none_yet(answers: Sequence[bool | None]) -> bool:
    """Whether nobody has said yes, and somebody may."""
    return True not in answers and None in answers


def _is_settled(answers: Sequence[bool | None]) -> bool:
    """Whether no answer that is still to come can change who is asked for the bytes: they are in the order of rank."""
    first_open = answers.index(None) if None in answers else len(answers)
    return None not in answers or answers[:first_open].count(True) >= HOLDERS_MAX
