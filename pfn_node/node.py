"""The composition root: the one place that knows every room of a running node, and its whole nursery."""

import random
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial

import structlog
import trio

from pfn_node import malloc
from pfn_node.archive_readers import ArchiveReaders
from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import StoreUnavailable
from pfn_node.artifacts.object_store import ObjectStore
from pfn_node.artifacts.store import ArtifactStore
from pfn_node.data_folder import DataFolder, open_data_folder
from pfn_node.maintenance.mending import Mending
from pfn_node.mesh.blocking import worker_threads
from pfn_node.mesh.engine import Engine
from pfn_node.mesh.turns import Stopped
from pfn_node.metrics import Metrics
from pfn_node.outbound import Outbound
from pfn_node.read_through import ReadThrough
from pfn_node.server import SWITCH_SECONDS, Listener, ServerLimits, bind, connections_that_fit, serve
from pfn_node.settings import Settings
from pfn_node.sources.operations import Sources
from pfn_node.store import audit, successions
from pfn_node.store.activity import record_activity
from pfn_node.store.database import Database, StoreError
from pfn_node.store.outlasting import note, outlast
from pfn_node.web.app import create_app
from pfn_node.web.consumers.upstream import Upstream
from pfn_node.web.services import Services
from pfn_node.webhooks.delivering import Webhooks
from pfn_node.workers.supervising import Rooms, Workers
from pfn_protocol.announcements import KeyStatement, SuccessorStatement

log = structlog.get_logger()

USER_AGENT = "pfn-node/0.1"
STORE_SECONDS = 15.0  # between two looks at the object store


async def run(settings: Settings, *, stop: trio.Event, ready: Callable[[str, int], None]) -> None:
    """Run a node until `stop` is set. `ready` is called with the bound address once requests are answered.

    Raises ArtifactError, DataFolderError, ServerError or StoreError if the node cannot start; each says what to do.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    malloc.configure()
    with (
        open_data_folder(settings) as folder,
        bind(settings.host, settings.port) as listener,
        ExitStack() as shared,
    ):
        workers: Workers | None = None
        if settings.workers:
            url = public_url(settings, listener)
            workers = shared.enter_context(Workers(settings, listener, folder.key.public, url))
        metrics = Metrics()
        database = Database.open(folder.database, metrics=metrics)
        try:
            async with Outbound(
                allow_private_networks=settings.allow_private_networks, user_agent=USER_AGENT
            ) as outbound:
                await _run_rooms(settings, folder, listener, workers, database, outbound, metrics, stop, ready)
        finally:
            database.close()


async def _run_rooms(
    settings: Settings,
    folder: DataFolder,
    listener: Listener,
    workers: Workers | None,
    database: Database,
    outbound: Outbound,
    metrics: Metrics,
    stop: trio.Event,
    ready: Callable[[str, int], None],
) -> None:
    artifacts = open_artifacts(settings, folder)
    url = public_url(settings, listener)
    rng = random.SystemRandom()
    node_id = folder.key.public
    async with trio.open_nursery() as nursery:
        await nursery.start(database.run_writer)
        nursery.start_soon(_look_at_audit, database)
        if (before := folder.succession) is not None:
            at = int(time.time())
            await database.write(lambda db: successions.take_over(db, before.old_key, node_id, at))
        engine = Engine(folder.key, settings, database, artifacts, outbound, url, rng, metrics=metrics)
        readers = ArchiveReaders()
        sources = Sources(
            database,
            artifacts,
            outbound,
            settings,
            engine.announce,
            node_id,
            readers.examine,
            rng=rng,
            fetch_artifact=engine.fetch_artifact,
            metrics=metrics,
        )
        want = ReadThrough(database, artifacts, engine.fetch_artifact, sources.fetch_release)
        webhooks = Webhooks(database, outbound, url or "", clock=time.time, rng=rng)
        upstream = Upstream(outbound, settings.wordpress_upstream) if settings.wordpress_upstream else None
        services = Services(
            settings,
            database,
            artifacts,
            sources,
            engine,
            node_id,
            url,
            want,
            webhooks,
            readers.examine,
            upstream=upstream,
            metrics=metrics,
            rate=workers.rate() if workers else None,
        )
        await nursery.start(engine.run)
        for statement in folder.key_statements:
            nursery.start_soon(_say, engine, database, node_id, statement)
        nursery.start_soon(readers.run)
        await nursery.start(sources.run)
        nursery.start_soon(services.downloads.run)
        nursery.start_soon(webhooks.run)
        if artifacts.store is not None:
            nursery.start_soon(_watch, artifacts.store)
        nursery.start_soon(metrics.watch_loop)
        nursery.start_soon(malloc.give_back_for_ever)
        nursery.start_soon(_mend, settings, database, artifacts, engine, sources, rng)
        await _serve_until(stop, services, engine, listener, workers, ready)
        await services.downloads.keep()
        nursery.cancel_scope.cancel()


async def _look_at_audit(database: Database) -> None:
    """Say where the audit log ends, for whoever keeps the node's own log elsewhere, and whether it is cut off there."""
    try:
        found, head = await database.read(lambda db: (audit.cut_off(db), audit.head(db)))
    except (sqlite3.DatabaseError, StoreError) as error:
        log.error("store_failed", doing="audit", reason=str(error))
        return
    log.info("audit_head", seq=head.seq, hash=head.hash.hex())
    if found is not None:
        at = int(time.time())
        log.error("audit_log_cut_off", sentence=found)
        await note(database, lambda db: record_activity(db, "security", f"the audit log: {found}", at=at))


async def _serve_until(
    stop: trio.Event,
    services: Services,
    engine: Engine,
    listener: Listener,
    workers: Workers | None,
    ready: Callable[[str, int], None],
) -> None:
    """Answer requests until the node is to stop, and then those that have begun, while all rooms still answer."""
    settings = services.settings
    limits = ServerLimits(
        connections_that_fit(settings.connections_max),
        settings.connections_per_address_max,
        proxies=settings.trusted_proxy,
        shutdown_seconds=settings.stop_seconds,
    )
    # The server has a nursery of its own: it ends first, gracefully.
    async with trio.open_nursery() as serving:
        passed = workers.passed if workers else None
        start = partial(serve, create_app(services), listener=listener, shutdown=stop, limits=limits, passed=passed)
        await serving.start(start)
        if workers is not None:
            await serving.start(workers.run, stop, Rooms(services.metrics, services.downloads, services.artifacts))
        log.info("node_ready", url=services.url, host=listener.host, port=listener.port)
        ready(listener.host, listener.port)
        await stop.wait()
        services.artifacts.close()
        log.info("node_stops", seconds_max=settings.stop_seconds)
        services.stopping.begin()
        await engine.shutdown()


def open_artifacts(settings: Settings, folder: DataFolder) -> Artifacts:
    """The artifacts in the folder and in the object store that the settings name, if any. Raises ArtifactError."""
    store = ObjectStore(settings.artifacts) if settings.artifacts else None
    artifacts = Artifacts(folder.artifacts, settings.cache_bytes_max, store)
    artifacts.start()
    return artifacts


async def _watch(store: ArtifactStore) -> None:
    """See now and then whether the object store is well, so that it is known before somebody asks for something."""
    limiter = trio.CapacityLimiter(1)
    while True:
        with suppress(StoreUnavailable):  # it has noted that itself
            await trio.to_thread.run_sync(store.look, limiter=limiter, abandon_on_cancel=True)
        await trio.sleep(STORE_SECONDS)


async def _mend(
    settings: Settings,
    database: Database,
    artifacts: Artifacts,
    engine: Engine,
    sources: Sources,
    rng: random.Random,
) -> None:
    """After the mesh has read what the node keeps: scrubbing reads all of it once more."""
    mending = Mending(
        database,
        artifacts,
        engine.fetch_artifact,
        sources.fetch_release,
        scrub_bytes_per_second=settings.scrub_bytes_per_second,
        clock=time.time,
        rng=rng,
        in_thread=worker_threads(1),
    )
    await engine.takes_turns.wait()
    await mending.run()


async def _say(engine: Engine, database: Database, node_id: bytes, statement: KeyStatement) -> None:
    """Say a word about the node's own keys; but never of a second key that is to follow, which would void the first."""

    async def say() -> None:
        told = await database.read(lambda db: successions.commitment(db, node_id))
        if isinstance(statement, SuccessorStatement) and told is not None and told["hash"] != statement.key_sha256:
            log.error("commitment_not_told", told=told["hash"].hex(), given=statement.key_sha256.hex())
            return
        await engine.announce(statement)

    with suppress(Stopped):
        await outlast(say, "key statement")


def public_url(settings: Settings, listener: Listener) -> str | None:
    """The node's URL as others dial it: what the operator says, else the bound address unless it is a wildcard."""
    if settings.url:
        return settings.url.rstrip("/")
    if listener.host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return None
    host = f"[{listener.host}]" if ":" in listener.host else listener.host
    return f"http://{host}:{listener.port}"
