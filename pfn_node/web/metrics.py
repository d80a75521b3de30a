"""GET /metrics: figures in Prometheus' text form. What rooms count is there already; what is a state is read now."""

import shutil
from pathlib import Path

import sqlite_utils
import trio
from prometheus_client import CONTENT_TYPE_LATEST
from quart import Quart, Response

from pfn_node.metrics import set_all
from pfn_node.store import catalogue, watched
from pfn_node.store.downloads import downloads_in_all, most_downloaded
from pfn_node.web.services import Services

# Each is a time series of its own, with two words that strangers chose.
PLUGINS_SHOWN_MAX = 20
# A sync that did not work may be made up for by the next one; twice in a row is worth a look.
OVERDUE_FACTOR = 2
# SQLite's own names for the files of a database, and ours.
_FILES = {"main": "", "wal": "-wal"}


def install(app: Quart, services: Services) -> None:
    """Serve /metrics."""

    async def show() -> Response:
        set_all(services.metrics.store, await services.figure("counts", catalogue.counts))
        services.metrics.set_downloads(*await services.figure("downloads", _downloads))
        await services.database.read(lambda db: _take_from_store(db, services))
        _take_from_rooms(services)
        return Response(services.metrics.text(), content_type=CONTENT_TYPE_LATEST)

    app.add_url_rule("/metrics", "metrics", show, methods=["GET"], strict_slashes=False)


def _downloads(db: sqlite_utils.Database) -> tuple[int, list[tuple[str, str, int]]]:
    return downloads_in_all(db), most_downloaded(db, PLUGINS_SHOWN_MAX)


def _take_from_store(db: sqlite_utils.Database, services: Services) -> None:
    metrics, settings = services.metrics, services.settings
    set_all(metrics.sources, watched.sources_by_status(db))
    metrics.overdue.set(watched.overdue_sources(db, int(services.now() - OVERDUE_FACTOR * settings.sync_seconds)))
    metrics.deliveries_waiting.set(watched.deliveries_waiting(db))
    for name, ending in _FILES.items():
        file = Path(f"{services.database.path}{ending}")
        metrics.database_bytes.labels(name).set(file.stat().st_size if file.exists() else 0)
    disk = shutil.disk_usage(services.database.path.parent)
    set_all(metrics.disk_bytes, {"free": disk.free, "total": disk.total})


def _take_from_rooms(services: Services) -> None:
    metrics = services.metrics
    set_all(metrics.artifacts, services.artifacts.usage())
    mesh = services.mesh.status()
    filling = mesh.get("filling") or {"expected": mesh.get("announcements")}
    set_all(metrics.mesh, {**mesh, "announcements_expected": filling["expected"]})
    metrics.differences.set(sum(peer.differences_found for peer in services.mesh.peers()))
    metrics.streams.set(services.streams.borrowed_tokens + services.looks.streams.total())
    metrics.tasks.set(trio.lowlevel.current_statistics().tasks_living)
