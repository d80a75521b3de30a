"""The mesh of a node, put together: what the other rooms of the node speak to.

The engine restores the machine from the database, keeps its turns going (turns.py), and hands out what the rest of the
node may ask of the mesh: announce what was seen, answer a request that came in, join and pin nodes, fetch an artifact.
It is the only owner of the machine; nothing else ever calls it.
"""

import math
import random
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial

import sqlite_utils
import structlog
import trio

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.mesh import verifying
from pfn_node.mesh.admission import Admission
from pfn_node.mesh.artifact_fetch import ArtifactFetch, Wanted
from pfn_node.mesh.availability import Availability
from pfn_node.mesh.backfill import Backfill
from pfn_node.mesh.blocking import InThread, worker_threads
from pfn_node.mesh.bodies import Bodies
from pfn_node.mesh.concluding import Concluding
from pfn_node.mesh.filling_report import FillingReport
from pfn_node.mesh.incoming import Incoming
from pfn_node.mesh.joining import Joining
from pfn_node.mesh.mirror_sets import MirrorSets
from pfn_node.mesh.opinions import Opinions
from pfn_node.mesh.outgoing import Outgoing
from pfn_node.mesh.page_limits import PageLimits
from pfn_node.mesh.peer_client import AnotherKey, PeerClient, WayOut
from pfn_node.mesh.restoring import identify, restore_mesh
from pfn_node.mesh.signed_texts import SignedTexts
from pfn_node.mesh.sketch_work import SketchWork
from pfn_node.mesh.succession import follow_pins, moves_pins
from pfn_node.mesh.traffic import Traffic
from pfn_node.mesh.turns import Doers, Kept, Stopped, Turns
from pfn_node.mesh.verifying import Verifying
from pfn_node.mesh.views import NodeInfo, PeerView, peer_views, status_view
from pfn_node.metrics import Metrics
from pfn_node.settings import Settings
from pfn_node.store import activity, announcements, releases
from pfn_node.store import peers as peer_store
from pfn_node.store.database import Database
from pfn_node.store.outlasting import note
from pfn_node.store.rows import Peer
from pfn_protocol.announcements import Kind, OwnStatement, VersionStatement
from pfn_protocol.effects import ChangeAdmission, KeepAnnouncement
from pfn_protocol.events import PeerFound, ShutdownRequested, StatementMade
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import read_back_ms_max
from pfn_protocol.mesh import Mesh, MeshOptions

log = structlog.get_logger()

SOFTWARE = "pfn-node/0.1.0"
# Waiting answers get this long to leave when the node stops.
SHUTDOWN_SECONDS_MAX = 0.5
# Asking who has an artifact, waiting for a turn, and beginning, before the first byte of it comes.
FETCH_SECONDS_MIN = 60.0
# Whoever has so many announcements that to read them takes longer answers consumers meanwhile.
READING_SECONDS_MAX = 1.0
# A restarted node first asks its neighbours what it said before: until a first link, and from there on again.
SILENCE_SECONDS_MAX = 2 * read_back_ms_max / 1000 + 1


class Engine:
    """The mesh of a node. Everything else of the node speaks to other nodes through it.

    `url` is the node's own public URL (None: it has none and polls). `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        key: PrivateKey,
        settings: Settings,
        database: Database,
        artifacts: Artifacts,
        outbound: WayOut,
        url: str | None,
        rng: random.Random,
        clock: Callable[[], float] = time.time,
        in_thread: InThread | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._key = key
        self._settings = settings
        self._database = database
        self._artifacts = artifacts
        self._url = url
        self._rng = rng
        self._clock = clock
        self._in_thread = in_thread or worker_threads()
        self._mesh: Mesh | None = None
        self._nursery: trio.Nursery | None = None
        self.takes_turns = trio.Event()  # set once what was kept is read
        self._opinions = Opinions(database, lambda: self._mesh.neighbours() if self._mesh is not None else ())
        self._saying: dict[tuple[Kind, str], trio.Event] = {}  # own slots whose next announcement is waited for
        self._speaks_at = math.inf  # from then on the machine announces at once, in trio's time
        self._traffic = Traffic(metrics)
        self._bodies = Bodies(database)
        checking = in_thread or worker_threads(verifying.THREADS_MAX)
        self._client = PeerClient(outbound, key, settings.mesh, self._now_ms, metrics, checking)
        self._verifying = Verifying(settings.mesh, checking)
        self._concluding = Concluding(database=database, clock=clock, concluded=self._on_concluded)
        self._turns = self._new_turns(metrics)
        self._filling = FillingReport(self._traffic, self._opinions.is_trusted, self._record)
        self._availability = Availability(self._client)
        self._mirror_sets = self._new_mirror_sets()
        self._fetches = self._new_fetches()
        self._texts = self._new_texts()
        self._backfill = self._new_backfill()
        self._joining = self._new_joining()
        self._outgoing = self._new_outgoing()
        self._sketches = SketchWork(in_thread=in_thread or worker_threads(1, abandon=True), report=self._turns.report)
        self._incoming = self._new_incoming()

    def _new_turns(self, metrics: Metrics | None) -> Turns:
        return Turns(
            me=self._key.public,
            database=self._database,
            bodies=self._bodies,
            clock=self._clock,
            verifying=self._verifying,
            concluding=self._concluding,
            metrics=metrics,
        )

    def _new_fetches(self) -> ArtifactFetch:
        return ArtifactFetch(
            artifacts=self._artifacts,
            client=self._client,
            availability=self._availability,
            bytes_per_second_min=self._settings.transfer_bytes_per_second_min,
            report_kept=self._record_mirrored,
            report_lie=lambda _, sentence: self._alert(sentence),
            in_thread=self._in_thread,
        )

    def _new_mirror_sets(self) -> MirrorSets:
        return MirrorSets(
            client=self._client,
            database=self._database,
            availability=self._availability,
            secrets=lambda: self._mesh.secrets if self._mesh is not None else None,
            is_pinned=self._opinions.is_pinned,
            in_thread=self._in_thread,
            now_ms=self._now_ms,
        )

    def _new_texts(self) -> SignedTexts:
        return SignedTexts(
            database=self._database,
            artifacts=self._artifacts,
            client=self._client,
            bytes_per_second_min=self._settings.transfer_bytes_per_second_min,
            report_lie=lambda _, sentence: self._alert(sentence),
            in_thread=self._in_thread,
        )

    def _new_backfill(self) -> Backfill:
        return Backfill(
            mesh=self._settings.mesh,
            database=self._database,
            bodies=self._bodies,
            clock=self._clock,
            fetch_artifact=self.fetch_artifact,
            survey=self._survey,
            fetch_texts=self._fetch_texts,
        )

    def _new_joining(self) -> Joining:
        return Joining(
            me=self._key.public,
            mesh=self._settings.mesh,
            database=self._database,
            client=self._client,
            allow_http=self._settings.allow_private_networks,
            joined=self._on_joined,
            pin=self._pin_on_join,
            alert=self._alert,
            rng=self._rng,
        )

    def _new_outgoing(self) -> Outgoing:
        return Outgoing(
            client=self._client,
            bodies=self._bodies,
            traffic=self._traffic,
            clock=self._clock,
            report=self._turns.report,
            report_impostor=self._on_impostor,
            is_trusted=self._opinions.is_trusted,
        )

    def _new_incoming(self) -> Incoming:
        return Incoming(
            key=self._key,
            mesh=self._settings.mesh,
            admission=Admission(
                me=self._key.public,
                mesh=self._settings.mesh,
                now_ms=self._now_ms,
                is_known=self._opinions.is_known,
                is_blocked=self._opinions.is_blocked,
                is_trusted=self._opinions.is_trusted,
                pushed_per_second=self._settings.peer_verifications_per_second,
                strangers_pushed_per_second=self._settings.node_verifications_per_second,
            ),
            pages=PageLimits(is_pinned=self._opinions.is_pinned, now_ms=self._now_ms),
            bodies=self._bodies,
            artifacts=self._artifacts,
            mirror_cells=self._mirror_sets.answer,
            traffic=self._traffic,
            clock=self._clock,
            submit=self._turns.submit,
        )

    # ---- The life of the engine.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the mesh until `shutdown`; an exception means that the node cannot go on.

        It has started when it takes turns, or before that if very much was kept: what is asked waits for its turn then.
        """
        try:
            await identify(self._key, self._settings, self._database)
            await self._opinions.read()
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._run_mesh, nursery)
                with trio.move_on_after(READING_SECONDS_MAX):
                    await self.takes_turns.wait()
                await nursery.start(self._joining.run, self._settings.join)
                task_status.started()
        except Exception as error:
            log.critical("mesh_cannot_go_on", error=repr(error))
            raise
        finally:
            self._end()

    async def _run_mesh(self, nursery: trio.Nursery) -> None:
        shared = self._settings.allow_private_networks  # a mesh of one machine, or of one house
        options = MeshOptions(url=self._url or "", software=SOFTWARE, hosts_shared=shared)
        key, settings, accept = self._key, self._settings, self._verifying.accept
        mesh = await restore_mesh(key, settings, options, self._database, self._rng, self._now_ms(), accept)
        self._mesh = mesh
        self._speaks_at = trio.current_time() + SILENCE_SECONDS_MAX
        doers = Doers(
            ask=partial(self._outgoing.start, nursery),
            answer=self._incoming.deliver,
            put_off=self._incoming.put_off,
            follow_up=self._follow_up,
            sketch=partial(self._sketches.start, nursery),
        )
        nursery.start_soon(self._backfill.run)
        nursery.start_soon(self._concluding.run)
        nursery.start_soon(self._filling.run, mesh)
        self.takes_turns.set()
        await self._turns.run(mesh, doers)

    async def shutdown(self) -> None:
        """Give the waiting answers, then stop; under a second."""
        with trio.move_on_after(SHUTDOWN_SECONDS_MAX):
            try:
                await self._turns.tell(ShutdownRequested())
            except Stopped:
                pass  # it has ended by itself
        self._end()

    def _end(self) -> None:
        if self._nursery is not None:  # first: what runs there shall be cancelled, not find a closed queue
            self._nursery.cancel_scope.cancel()
            self._nursery = None
        self._turns.end()
        self._incoming.close()

    # ---- What the node asks of the mesh.

    async def announce(self, statement: OwnStatement) -> bool:
        """Tell the mesh; True once the announcement is kept, and will be told even after a crash.

        False if the machine does not say it, for a reason that it alerts the operator of: no node would accept it, or
        another node speaks with this node's key. Right after a start it takes some seconds, until neighbours were asked
        what this node said before. Raises Stopped if the node is stopping.
        """
        slot = (statement.kind, statement.subject)
        said = self._saying.setdefault(slot, trio.Event())
        await self._turns.tell(StatementMade(statement))
        with trio.move_on_at(self._speaks_at):
            await said.wait()
        if not said.is_set() and self._saying.get(slot) is said:
            del self._saying[slot]
        return said.is_set()

    async def handle(self, path: str, raw: bytes) -> tuple[int, bytes]:
        """The HTTP status and body that answer POST /node/v1/<path>: see `Incoming.handle`."""
        return await self._incoming.handle(path, raw)

    def info(self) -> NodeInfo:
        """What GET /node/v1/info says."""
        return NodeInfo(self._key.public, self._url, self._settings.mesh, SOFTWARE)

    def status(self) -> dict[str, object]:
        """The mesh in a few numbers, ready for JSON; `reading` alone while what was kept is read."""
        if self._mesh is None:
            return {"reading": True}
        return status_view(self._mesh.status(), self._concluding.waiting, self._filling.filling)

    async def fetch_artifact(self, sha256: bytes, size: int, source_id: str, *, cache: bool) -> bool:
        """Whether the artifact is here now, fetched from other nodes if it was not; its digest and size are checked.

        A fetch that was begun goes on when its caller is cancelled, for those who ask next.
        """
        nursery = self._nursery
        if nursery is None or size > self._settings.artifact_bytes_max:
            return False
        seconds_max = self._settings.artifact_seconds_max
        if self._settings.transfer_bytes_per_second_min:
            # Nobody who keeps to the minimum rate needs longer; who does not shall not hold a turn for that long.
            slowest = FETCH_SECONDS_MIN + size / self._settings.transfer_bytes_per_second_min
            seconds_max = min(seconds_max, slowest)
        wanted = Wanted(sha256, size, size, seconds_max)
        return await self._fetches.fetch(nursery, wanted, lambda: self._holders(source_id, sha256), cache=cache)

    # ---- Other nodes, and the operator's opinion of them.

    async def join(self, url: str, key: bytes | None) -> bytes | None:
        """Link to the node at `url`: its id, or None if it has not answered yet and is tried again for ever.

        Raises Refusal if the URL is unusable, another key answers than `key`, or the node is this one.
        """
        return await self._joining.join(url, key)

    async def set_policy(self, node_id: bytes, *, pinned: bool | None = None, blocked: bool | None = None) -> None:
        """Pin or unpin, block or unblock a node; what its word backs is judged again before this returns."""
        said = {"pinned": pinned, "blocked": blocked, "provisional": None if pinned is None else False}
        await self._database.write(lambda db: peer_store.set_peer_policy(db, node_id, **said))
        await self._apply_opinions()

    def peers(self) -> list[PeerView]:
        """The other nodes as this one knows them; those with an opinion about them, and links, first."""
        if self._mesh is None:
            return []
        known, proofs = self._database.read_now(lambda db: (peer_store.peers(db), announcements.convictions(db)))
        return peer_views(self._mesh, self._key.public, known, proofs, self._traffic, self._clock())

    # ---- What the parts of the mesh report.

    def _follow_up(self, kept: Kept) -> None:
        if self._nursery is not None and moves_pins(kept, self._opinions.is_pinned, self._is_conviction_among):
            self._nursery.start_soon(
                follow_pins, lambda: self._opinions.known, self._apply_opinions, self._turns.report
            )
        if isinstance(kept, KeepAnnouncement):
            if kept.announcement.author == self._key.public:
                said = self._saying.pop((kept.announcement.kind, kept.announcement.subject), None)
                if said is not None:
                    said.set()
            elif kept.admitted and kept.announcement.kind is Kind.VERSION:
                self._backfill.heard((kept.announcement.id,))
        elif isinstance(kept, ChangeAdmission):
            self._backfill.heard(kept.admitted)

    def _is_conviction_among(self, ids: Collection[bytes]) -> bool:
        return self._database.read_now(lambda db: announcements.is_conviction_among(db, ids))

    def _on_concluded(self) -> None:
        self._backfill.sweep_soon()  # whatever of it is wanted here

    async def _on_joined(self, node_id: bytes, url: str) -> None:
        at = int(self._clock())

        def work(db: sqlite_utils.Database) -> None:
            peer_store.save_peer(db, node_id, url=url, seen=at)
            peer_store.set_peer_policy(db, node_id, joined=True)

        await self._database.write(work)
        await self._opinions.read()
        await self._turns.report(PeerFound(node_id, url))

    async def _pin_on_join(self, node_id: bytes, provisional: bool) -> None:
        """`--join` pins, but never against what the operator said about the node in another way."""
        at = int(self._clock())
        await self._database.write(lambda db: peer_store.pin_on_join(db, node_id, provisional, at))
        await self._apply_opinions()

    async def _apply_opinions(self) -> None:
        await self._opinions.read()
        await self._turns.tell(self._opinions.policy())
        self._backfill.sweep_soon()

    async def _on_impostor(self, failure: AnotherKey) -> None:
        opinion = self._opinions.known.get(failure.expected)
        if opinion is not None and opinion.pinned:
            await self._joining.alert_of_impostor(failure)

    async def _alert(self, sentence: str) -> None:
        """Show the operator what concerns the node's safety."""
        log.warning("security", sentence=sentence)
        await self._record(sentence, "security")

    async def _record(self, sentence: str, type: str = "federation_event") -> None:
        """Show in the activity, if the disk lets us, what is nobody's fault."""
        at = int(self._clock())
        await note(self._database, lambda db: activity.record_activity(db, type, sentence, at=at))

    async def _record_mirrored(self, sha256: bytes, cache: bool) -> None:
        at = int(self._clock())
        await note(self._database, lambda db: releases.mark_mirrored(db, sha256, True, cached=cache, at=at))

    async def _holders(self, source_id: str, sha256: bytes) -> Sequence[Peer]:
        holders = await self._database.read(lambda db: announcements.holders(db, source_id, sha256))
        return [peer for peer in holders if peer.url and not peer.blocked and peer.node_id != self._key.public]

    async def _survey(self, source_id: str) -> None:
        """Learn what the mirrors of a source have of it, before much of it is fetched."""
        await self._mirror_sets.survey(source_id, await self._holders(source_id, b""))

    async def _fetch_texts(self, author: bytes, statement: VersionStatement) -> None:
        """Get the signed texts of a version, from its author or who has its artifact; then it is judged again."""
        if self._nursery is not None:
            holders = partial(self._holders, statement.source_id, statement.sha256)
            await self._texts.bring(self._nursery, author, statement, holders)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
