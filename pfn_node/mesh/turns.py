"""The turns of the machine: what happened goes in, what is to be done comes out, and is done in a fixed order.

Events wait in one bounded queue. A turn takes those that wait (up to a batch), hands each to the machine, and then
performs the effects of the whole batch:

1. keep: everything that changes what this node remembers, in one transaction;
2. start what follows from it: fetches of artifacts and signed texts, which nobody waits for;
3. tell: requests to other nodes, answers to those who wait.

So nothing is told that a crash could make us forget, however the batch was put together. Telling is done by tasks: a
turn never waits for another node. There is one deadline and no table of timers: the machine names the moment at which
it wants to be woken.

What is wrong with other nodes comes back as events. What is wrong with the machine itself is a mistake of ours: it
leaves `run` as an exception and ends the node, rather than leaving one that looks alive and is not.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import assert_never

import sqlite_utils
import structlog
import trio

from pfn_node.mesh.bodies import Bodies
from pfn_node.mesh.concluding import Concluding
from pfn_node.mesh.incoming import Busy
from pfn_node.mesh.verifying import Verifying
from pfn_node.metrics import Metrics
from pfn_node.store import activity, announcements, concluding
from pfn_node.store import peers as peer_store
from pfn_node.store.database import Database, DatabaseClosed, StoreError, StoreTrouble
from pfn_node.store.outlasting import AGAIN_SECONDS
from pfn_protocol.announcements import AcceptedAnnouncement, Kind
from pfn_protocol.effects import (
    BuildPrefix,
    ChangeAdmission,
    DecodeCells,
    DropAnnouncements,
    Effect,
    ForgetPeer,
    KeepAnnouncement,
    KeepConviction,
    RaiseAlert,
    RememberPeer,
    SendAnswer,
    SendRequest,
)
from pfn_protocol.events import Event, PeerUnreachable, RequestReceived, TimePassed
from pfn_protocol.mesh import Mesh

log = structlog.get_logger()

# Requests of others that wait for the machine; at 2,000 events a second the last of them waits half a second.
REQUESTS_WAITING_MAX = 1024
# All events that wait; the room above is for answers and our own statements, which must not be lost.
EVENTS_WAITING_MAX = 2048
# Events whose effects are kept in one transaction: long enough to share a sync of the disk, short to wait for.
BATCH_MAX = 64
# With so many announcements in one turn, what follows from versions is concluded later: nobody waits for one of them.
BULK_MIN = 64
# The clock may be set back or ahead while we sleep until a moment of it; so it is looked at least this often.
CLOCK_CHECK_SECONDS = 10.0

Kept = KeepAnnouncement | KeepConviction | DropAnnouncements | ChangeAdmission | RememberPeer | ForgetPeer | RaiseAlert

_CHANGES: Mapping[type[Kept], str] = {
    KeepAnnouncement: "announcement",
    KeepConviction: "conviction",
    DropAnnouncements: "drop",
    ChangeAdmission: "admission",
    RememberPeer: "peer",
    ForgetPeer: "forgotten_peer",
    RaiseAlert: "alert",
}


class NotKept(StoreError):
    """The disk does not take what the mesh has to remember; it is kept as soon as it does."""

    def __init__(self) -> None:
        super().__init__("the node cannot write to its disk now; what the mesh has to remember waits for that")


class Stopped(Exception):
    """The mesh of this node does not run any more."""

    def __init__(self) -> None:
        super().__init__("the mesh of this node does not run any more; the node is stopping")


@dataclass(slots=True, eq=False)
class _Queued:
    """An event, and whether what it changed is kept by now."""

    event: Event
    ended: trio.Event = field(default_factory=trio.Event)
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Doers:
    """Who does what is to be done, apart from keeping. None of them may wait."""

    ask: Callable[[SendRequest], PeerUnreachable | None]  # starts a request, or says what ends it at once
    answer: Callable[[SendAnswer], None]  # hands an answer to who waits for it
    follow_up: Callable[[Kept], None]  # is told of what was kept
    sketch: Callable[[BuildPrefix | DecodeCells], None]  # has a sketch made or decoded in a thread
    put_off: Callable[[], None]  # tells those who wait for an answer that there is none for now


class Turns:
    """Owns the machine while it runs."""

    def __init__(
        self,
        *,
        me: bytes,
        database: Database,
        bodies: Bodies,
        clock: Callable[[], float],
        verifying: Verifying,
        concluding: Concluding,
        metrics: Metrics | None = None,
    ) -> None:
        self._me = me
        self._metrics = metrics or Metrics()
        self._database = database
        self._bodies = bodies
        self._clock = clock
        self._verifying = verifying
        self._concluding = concluding
        self._send, self._receive = trio.open_memory_channel[_Queued](EVENTS_WAITING_MAX)
        self._metrics.events_waiting.set_function(lambda: self._receive.statistics().current_buffer_used)
        self._own: deque[Event] = deque()  # what a turn itself has for the next one
        self._told: set[_Queued] = set()
        self._over = False
        self._stuck = False  # on what cannot be kept

    # ---- In.

    def submit(self, request: RequestReceived) -> None:
        """Queue a request of another node; raises Busy when too many wait."""
        if self._stuck:
            raise Busy("This node cannot write to its disk now; try again later.")
        if self._receive.statistics().current_buffer_used >= REQUESTS_WAITING_MAX:
            raise Busy("This node has too many requests to answer; try again later.")
        try:
            self._send.send_nowait(_Queued(request))
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError) as error:
            raise Busy("This node cannot answer now; try again later.") from error

    async def report(self, event: Event) -> None:
        """Queue what happened to something that the machine asked for, waiting for room. Raises Stopped.

        What it brings is verified before: whoever asks for more waits for that, so no more comes in than is taken in.
        """
        await self._verifying.ahead(event)
        await self._put(_Queued(event))

    async def tell(self, event: Event) -> None:
        """Queue an event, and return once what it changed is kept. Raises Stopped if the mesh ends before that.

        Raises NotKept while the disk takes nothing; it is kept later then, if the node lives so long.
        """
        queued = _Queued(event)
        await self._put(queued)
        if self._over:
            raise Stopped
        if self._stuck:
            raise NotKept
        self._told.add(queued)
        try:
            await queued.ended.wait()
        finally:
            self._told.discard(queued)
        if not queued.kept and self._stuck:
            raise NotKept
        if not queued.kept:
            await trio.lowlevel.checkpoint()  # whoever is cancelled by the node's end shall not see it as an error
            raise Stopped

    async def _put(self, queued: _Queued) -> None:
        try:
            await self._send.send(queued)
        except (trio.ClosedResourceError, trio.BrokenResourceError) as error:
            raise Stopped from error

    # ---- Round and round.

    async def run(self, mesh: Mesh, doers: Doers) -> None:
        """Take turns until `end`, or for ever."""
        try:
            while not self._over:
                await self._turn(mesh, doers, await self._next_batch(mesh))
        finally:
            self.end()

    def end(self) -> None:
        """No further turn is taken; those who wait for one are told."""
        self._over = True
        self._send.close()
        for queued in self._told:
            queued.ended.set()

    async def _next_batch(self, mesh: Mesh) -> list[_Queued]:
        """What waits, at most a batch of it; nothing, if the machine's moment comes first."""
        batch = [_Queued(self._own.popleft()) for _ in range(min(len(self._own), BATCH_MAX))]
        if not batch:
            with trio.move_on_after(self._seconds_until_wake(mesh)), suppress(trio.EndOfChannel):
                batch.append(await self._receive.receive())
        while len(batch) < BATCH_MAX:
            try:
                batch.append(self._receive.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        return batch

    def _seconds_until_wake(self, mesh: Mesh) -> float:
        wake_at = mesh.wake_at
        if wake_at is None:
            return CLOCK_CHECK_SECONDS
        return max(0.0, min(wake_at / 1000 - self._clock(), CLOCK_CHECK_SECONDS))

    async def _turn(self, mesh: Mesh, doers: Doers, batch: Sequence[_Queued]) -> None:
        now_ms = int(self._clock() * 1000)
        effects: list[Effect] = []
        for queued in batch:
            effects += mesh.handle(queued.event, now_ms)
            await trio.lowlevel.checkpoint()  # a page of announcements takes a while to verify; let others run
        only_looks = not batch and not self._over  # at the clock: set back, it would reach no moment planned before
        if only_looks or (mesh.wake_at is not None and mesh.wake_at <= now_ms):
            effects += mesh.handle(TimePassed(), now_ms)
        others = SendRequest | SendAnswer | BuildPrefix | DecodeCells
        kept: list[Kept] = [effect for effect in effects if not isinstance(effect, others)]
        later = await self._outlast_trouble(kept, doers) if kept else {}
        for effect in kept:
            if id(effect) not in later:  # those are found when they are concluded
                doers.follow_up(effect)
        for queued in batch:
            queued.kept = True
            queued.ended.set()
        for told in effects:
            self._tell_others(doers, told)

    async def _outlast_trouble(self, effects: Sequence[Kept], doers: Doers) -> Mapping[int, KeepAnnouncement]:
        """Keep them, whenever the disk lets us: the machine goes by them already, and nothing is told before."""
        while True:
            try:
                later = await self._keep(effects)
                break
            except DatabaseClosed:
                raise
            except StoreTrouble as error:
                log.error("store_failed", doing="keep", effects=len(effects), reason=str(error))
                self._stuck = True
                for queued in self._told:
                    queued.ended.set()
                doers.put_off()
            await trio.sleep(AGAIN_SECONDS)
        self._stuck = False
        return later

    async def _keep(self, effects: Sequence[Kept]) -> Mapping[int, KeepAnnouncement]:
        """Returns those of which the consequences wait, by `id` of the effect."""
        for effect in effects:
            if isinstance(effect, KeepAnnouncement):
                self._bodies.remember(effect.announcement.id, effect.announcement.raw)
            elif isinstance(effect, DropAnnouncements):
                self._bodies.forget(effect.ids)
            elif isinstance(effect, RaiseAlert):
                log.warning("mesh_alert", kind=effect.kind, sentence=effect.sentence)
        at, later = int(self._clock()), _concluded_later(effects, self._me)
        await self._database.write(lambda db: _keep_all(db, effects, later, at))
        for what, count in Counter(_CHANGES[type(effect)] for effect in effects).items():
            self._metrics.kept.labels(what).inc(count)
        if later:
            self._concluding.kept(len(later))
        return later

    def _tell_others(self, doers: Doers, effect: Effect) -> None:
        if isinstance(effect, SendAnswer):
            doers.answer(effect)
        elif isinstance(effect, BuildPrefix | DecodeCells):
            doers.sketch(effect)
        elif isinstance(effect, SendRequest):
            refused = doers.ask(effect)
            if refused is not None:
                self._own.append(refused)


def _concluded_later(effects: Sequence[Kept], me: bytes) -> dict[int, KeepAnnouncement]:
    """Of many announcements of others the versions, by `id` of the effect."""
    kept = [effect for effect in effects if isinstance(effect, KeepAnnouncement)]
    if len(kept) < BULK_MIN:
        return {}
    others = [effect for effect in kept if effect.announcement.author != me]
    return {id(effect): effect for effect in others if effect.announcement.kind is Kind.VERSION}


def _keep_all(
    db: sqlite_utils.Database, effects: Sequence[Kept], later: Mapping[int, KeepAnnouncement], at: int
) -> None:
    """In their order: what is kept may be dropped by a later effect."""
    versions: list[tuple[AcceptedAnnouncement, bool]] = []
    for effect in effects:
        version = later.get(id(effect))
        if version is not None:
            versions.append((version.announcement, version.admitted))
            continue
        concluding.keep_versions(db, versions, at)
        versions.clear()
        _keep_one(db, effect, at)
    concluding.keep_versions(db, versions, at)


def _keep_one(db: sqlite_utils.Database, effect: Kept, at: int) -> None:
    match effect:
        case KeepAnnouncement(announcement, admitted):
            announcements.keep(db, announcement, admitted, at)
        case KeepConviction(one, other):
            announcements.keep_conviction(db, one, other, at)
        case DropAnnouncements(ids):
            announcements.drop(db, ids)
        case ChangeAdmission(admitted, parked):
            announcements.change_admission(db, admitted, parked)
        case RememberPeer(peer, url, seen_ms, introduced):
            peer_store.save_peer(db, peer, url=url, seen=seen_ms // 1000 or None, introduced=introduced)
        case ForgetPeer(peer):
            peer_store.forget_peer(db, peer)
        case RaiseAlert(_, sentence):
            activity.record_activity(db, "security", sentence, at=at)
        case _:
            assert_never(effect)
