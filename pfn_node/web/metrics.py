"""GET /metrics: figures in Prometheus' text form, in a registry of this app's own (several nodes may share a process).

Labels are bounded: a route is one of the app's rules, never a path that somebody asked for.
"""

from collections.abc import Mapping, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from quart import Quart, Response

from pfn_node.store import catalogue
from pfn_node.store.downloads import downloads_in_all, most_downloaded
from pfn_node.web.services import Services

# Each is a time series of its own, with two words that strangers chose.
PLUGINS_SHOWN_MAX = 20
_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"})
_SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)


class Metrics:
    """The figures of one app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "pfn_http_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self._durations = Histogram(
            "pfn_http_request_seconds",
            "Time until the head of the answer was ready.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._store = Gauge("pfn_store", "What the store holds.", ("what",), registry=self.registry)
        self._artifacts = Gauge("pfn_artifacts", "Artifacts: counts and bytes.", ("what",), registry=self.registry)
        self._downloads = Gauge("pfn_downloads", "Zips that were had, of all plugins.", registry=self.registry)
        self._plugin_downloads = Gauge(
            "pfn_plugin_downloads",
            f"Zips that were had, of the {PLUGINS_SHOWN_MAX} plugins that were had most.",
            ("source", "plugin"),
            registry=self.registry,
        )
        self._mesh = Gauge("pfn_mesh", "The mesh as this node sees it.", ("what",), registry=self.registry)

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """Note an answered request."""
        key = (route, method if method in _METHODS else "other", status)
        series = self._series.get(key)
        if series is None:  # finding them by their labels takes longer than counting
            requests = self._requests.labels(route, key[1], str(status))
            series = self._series[key] = (requests, self._durations.labels(route))
        series[0].inc()
        series[1].observe(seconds)

    def set_downloads(self, in_all: int, most: Sequence[tuple[str, str, int]]) -> None:
        """Note how often zips were had: all, and of the plugins that were had most."""
        self._downloads.set(in_all)
        self._plugin_downloads.clear()
        for source_id, plugin_id, count in most:
            self._plugin_downloads.labels(source_id, plugin_id).set(count)

    def text(self, store: Mapping[str, int], artifacts: Mapping[str, int], mesh: Mapping[str, object]) -> bytes:
        """Everything, with the gauges set to these figures."""
        for gauge, figures in ((self._store, store), (self._artifacts, artifacts), (self._mesh, mesh)):
            for what, figure in figures.items():
                if isinstance(figure, int | float):
                    gauge.labels(what).set(figure)
        return generate_latest(self.registry)


def install(app: Quart, services: Services, metrics: Metrics) -> None:
    """Serve /metrics."""

    async def show() -> Response:
        counts, in_all, most = await services.database.read(
            lambda db: (catalogue.counts(db), downloads_in_all(db), most_downloaded(db, PLUGINS_SHOWN_MAX))
        )
        metrics.set_downloads(in_all, most)
        text = metrics.text(counts, services.artifacts.usage(), services.mesh.status())
        return Response(text, content_type=CONTENT_TYPE_LATEST)

    app.add_url_rule("/metrics", "metrics", show, methods=["GET"], strict_slashes=False)
