"""The composition root: the one place that knows every room of a running node, and its whole nursery."""

import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import structlog
import trio

from pfn_node.artifacts import Artifacts
from pfn_node.data_folder import DataFolder, open_data_folder
from pfn_node.mesh.engine import Engine
from pfn_node.mesh.turns import Stopped
from pfn_node.outbound import Outbound
from pfn_node.read_through import ReadThrough
from pfn_node.server import Listener, ServerLimits, bind, serve
from pfn_node.settings import Settings
from pfn_node.sources.operations import Sources
from pfn_node.store import successions
from pfn_node.store.database import Database
from pfn_node.store.outlasting import outlast
from pfn_node.web.app import create_app
from pfn_node.web.consumers.upstream import Upstream
from pfn_node.web.services import Services
from pfn_node.webhooks.delivering import Webhooks
from pfn_protocol.announcements import KeyStatement

USER_AGENT = "pfn-node/0.1"
# How long a thread that computes (a zip's names, a signature) keeps the event loop waiting each time; 5 ms by default,
# which a request would wait for dozens of times.
SWITCH_SECONDS = 0.0005


async def run(settings: Settings, *, stop: trio.Event, ready: Callable[[str, int], None]) -> None:
    """Run a node until `stop` is set. `ready` is called with the bound address once requests are answered.

    Raises DataFolderError, ServerError or StoreError if the node cannot start; each says what to do.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    with open_data_folder(settings) as folder, bind(settings.host, settings.port) as listener:
        database = Database.open(folder.database)
        try:
            async with Outbound(
                allow_private_networks=settings.allow_private_networks, user_agent=USER_AGENT
            ) as outbound:
                await _run_rooms(settings, folder, listener, database, outbound, stop, ready)
        finally:
            database.close()


async def _run_rooms(
    settings: Settings,
    folder: DataFolder,
    listener: Listener,
    database: Database,
    outbound: Outbound,
    stop: trio.Event,
    ready: Callable[[str, int], None],
) -> None:
    artifacts = Artifacts(folder.artifacts, settings.cache_bytes_max)
    artifacts.start()
    url = public_url(settings, listener)
    rng = random.SystemRandom()
    node_id = folder.key.public
    async with trio.open_nursery() as nursery:
        await nursery.start(database.run_writer)
        if (before := folder.succession) is not None:
            at = int(time.time())
            await database.write(lambda db: successions.take_over(db, before.old_key, node_id, at))
        engine = Engine(folder.key, settings, database, artifacts, outbound, url, rng)
        sources = Sources(
            database,
            artifacts,
            outbound,
            settings,
            engine.announce,
            node_id,
            rng=rng,
            fetch_artifact=engine.fetch_artifact,
        )
        want = ReadThrough(database, artifacts, engine.fetch_artifact, sources.fetch_release)
        webhooks = Webhooks(database, outbound, url or "", clock=time.time, rng=rng)
        upstream = Upstream(outbound, settings.wordpress_upstream) if settings.wordpress_upstream else None
        services = Services(
            settings, database, artifacts, sources, engine, node_id, url, want, webhooks, upstream=upstream
        )
        await nursery.start(engine.run)
        for statement in folder.key_statements:
            nursery.start_soon(_say, engine, statement)
        await nursery.start(sources.run)
        nursery.start_soon(services.downloads.run)
        nursery.start_soon(webhooks.run)
        app = create_app(services)
        limits = ServerLimits(settings.connections_max, settings.connections_per_address_max)
        # The server has a nursery of its own: it ends first, gracefully, while the rooms behind it still answer.
        async with trio.open_nursery() as serving:
            await serving.start(partial(serve, app, listener=listener, shutdown=stop, limits=limits))
            structlog.get_logger().info("node_ready", url=url, host=listener.host, port=listener.port)
            ready(listener.host, listener.port)
            await stop.wait()
            await engine.shutdown()
        await services.downloads.keep()
        nursery.cancel_scope.cancel()


async def _say(engine: Engine, statement: KeyStatement) -> None:
    with suppress(Stopped):
        await outlast(lambda: engine.announce(statement), "key statement")


def public_url(settings: Settings, listener: Listener) -> str | None:
    """The node's URL as others dial it: what the operator says, else the bound address unless it is a wildcard."""
    if settings.url:
        return settings.url.rstrip("/")
    if listener.host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return None
    host = f"[{listener.host}]" if ":" in listener.host else listener.host
    return f"http://{host}:{listener.port}"
