"""What one node measures of itself, for Prometheus: every figure by name, with its unit and its labels, in one place.

A room is given the whole and counts what is its own; `/metrics` shows all of it. Each node has its own registry, for
several may share a process. Labels are bounded: a route is one of the app's rules and never a path that somebody asked
for, a message is one of the protocol's, a status is one of ours.

Names end in the unit (seconds, bytes) or, for what only grows, in `_total`, which the library adds.
"""

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import trio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from pydantic import BaseModel

METHODS: Final = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"})
# Where our goals are (150 ms), and the deadlines (2, 10, 60 s).
REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 10.0, 60.0)
WRITE_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
DELAY_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
BATCH_JOBS: Final = (1, 2, 4, 16, 64, 256)
# Often enough to see a loop that is held up, too rarely to be the cause.
LOOK_SECONDS: Final = 1.0


class Metrics:
    """The figures of one node."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        ProcessCollector(registry=self.registry)  # memory, descriptors, processor time, start
        self._serving()
        self._keeping()
        self._meshing()
        self._following()

    # ---- Each takes a name, a sentence and the labels.

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(name, says, labels, registry=self.registry)

    def _gauge(self, name: str, says: str, *labels: str) -> Gauge:
        return Gauge(name, says, labels, registry=self.registry)

    def _histogram(self, name: str, says: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, says, labels, buckets=buckets, registry=self.registry)

    def _serving(self) -> None:
        self.requests = self._counter("pfn_http_requests", "Requests answered.", "route", "method", "status")
        self.durations = self._histogram(
            "pfn_http_request_seconds", "Time until the head of the answer was ready.", REQUEST_SECONDS, "route"
        )
        self.streams = self._gauge("pfn_http_event_streams", "Streams of events that are open.")
        self.downloads = self._gauge("pfn_downloads", "Zips that were had, of all plugins.")
        self.plugin_downloads = self._gauge(
            "pfn_plugin_downloads", "Zips that were had, of the plugins that were had most.", "source", "plugin"
        )
        self.loop_delay = self._histogram(
            "pfn_loop_delay_seconds", "How late the event loop woke a task that slept for a second.", DELAY_SECONDS
        )
        self.tasks = self._gauge("pfn_tasks", "Tasks of the event loop.")
        self.workers = self._gauge("pfn_workers", "Worker processes that answer.")
        self.worker_ends = self._counter("pfn_worker_ends", "Worker processes that ended before they were to.")

    def _keeping(self) -> None:
        self.store = self._gauge("pfn_store", "What the store holds.", "what")
        self.database_bytes = self._gauge("pfn_database_bytes", "Size of the database and of its log (WAL).", "file")
        self.batch_seconds = self._histogram(
            "pfn_writer_batch_seconds", "Time that a transaction of the writer took, with its sync.", WRITE_SECONDS
        )
        self.batch_jobs = self._histogram("pfn_writer_batch_jobs", "Writes in one transaction.", BATCH_JOBS)
        self.write_seconds = self._histogram(
            "pfn_writer_wait_seconds", "Time from asking for a write until it was kept, or refused.", WRITE_SECONDS
        )
        self.writes_waiting = self._gauge("pfn_writer_queue", "Writes that wait for the writer.")
        self.artifacts = self._gauge("pfn_artifacts", "Artifacts: counts and bytes.", "what")
        self.artifact_bytes = self._counter(
            "pfn_artifact_fetched_bytes", "Bytes of artifacts that were fetched, whatever became of them.", "origin"
        )
        self.disk_bytes = self._gauge("pfn_disk_bytes", "The file system of the data folder.", "what")

    def _meshing(self) -> None:
        self.mesh = self._gauge("pfn_mesh", "The mesh as this node sees it.", "what")
        self.differences = self._gauge(
            "pfn_mesh_differences", "Announcements that comparing sets with the known nodes found missing here."
        )
        self.messages = self._counter("pfn_mesh_messages", "Requests of the mesh answered.", "message", "direction")
        self.mesh_bytes = self._counter("pfn_mesh_bytes", "Bytes exchanged with other nodes.", "direction")
        self.unanswered = self._counter("pfn_mesh_unanswered", "Own requests without a good answer.", "message")
        self.refused = self._counter("pfn_mesh_refused", "Requests of others refused, by rule.", "rule")
        self.kept = self._counter("pfn_mesh_changes", "What the mesh had this node keep or drop.", "what")
        self.events_waiting = self._gauge("pfn_mesh_queue", "Events that wait for the mesh's machine.")

    def _following(self) -> None:
        self.sources = self._gauge("pfn_sources", "Publishers by how they stand.", "status")
        self.overdue = self._gauge(
            "pfn_sources_overdue",
            "Subscribed sources whose last good sync is twice as old as it should be, or missing.",
        )
        self.verifications = self._counter("pfn_verifications", "Proofs asked of publishers.", "result")
        self.syncs = self._counter("pfn_syncs", "Syncs of sources that ended.", "result", "source_status")
        self.synced_plugins = self._counter("pfn_sync_plugins", "Plugins that syncs looked at.", "result")
        self.deliveries_waiting = self._gauge("pfn_webhook_deliveries_waiting", "Deliveries of webhooks still to make.")

    # ---- What is more than one figure at a time.

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """Note an answered request."""
        key = (route, method if method in METHODS else "other", status)
        series = self._series.get(key)
        if series is None:  # finding them by their labels takes longer than counting
            requests = self.requests.labels(route, key[1], str(status))
            series = self._series[key] = (requests, self.durations.labels(route))
        series[0].inc()
        series[1].observe(seconds)

    def add_counted(self, counted: "Counted") -> None:
        """Note what another process answered."""
        for route, method, status, times in counted.requests:
            self.requests.labels(route, method, str(status)).inc(times)
        for route, seconds, buckets in counted.durations:
            series = self.durations.labels(route)
            # The library adds one at a time, for each would have to be looked for in the buckets.
            series._sum.inc(seconds)
            for bucket, times in zip(series._buckets, buckets, strict=True):
                bucket.inc(times)
        for seconds in counted.delays:
            self.loop_delay.observe(seconds)

    def set_downloads(self, in_all: int, most: Sequence[tuple[str, str, int]]) -> None:
        """Note how often zips were had: all, and of the plugins that were had most."""
        self.downloads.set(in_all)
        self.plugin_downloads.clear()
        for source_id, plugin_id, count in most:
            self.plugin_downloads.labels(source_id, plugin_id).set(count)

    async def watch_loop(self) -> None:
        """Measure for ever how late the event loop is."""
        while True:
            due = trio.current_time() + LOOK_SECONDS
            await trio.sleep_until(due)
            self.note_delay(trio.current_time() - due)

    def note_delay(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self.loop_delay.observe(seconds)

    def text(self) -> bytes:
        """Everything in Prometheus' text form."""
        return generate_latest(self.registry)


def set_all(gauge: Gauge, figures: Mapping[str, object]) -> None:
    """Set a gauge with one label from those figures that are numbers."""
    for name, figure in figures.items():
        if isinstance(figure, int | float):
            gauge.labels(name).set(figure)


class Counted(BaseModel):
    """What a process counted that another one shows: since it told that last."""

    requests: list[tuple[str, str, int, int]] = []  # route, method, status; how many
    durations: list[tuple[str, float, list[int]]] = []  # route; seconds in all; how many in each of REQUEST_SECONDS
    delays: list[float] = []  # how late its event loop was, in seconds

    def parts(self, most: int) -> Iterator["Counted"]:
        """The same in parts, with so many of each at most."""
        for begin in range(0, max(len(self.requests), len(self.durations), len(self.delays), 1), most):
            part = slice(begin, begin + most)
            yield Counted(requests=self.requests[part], durations=self.durations[part], delays=self.delays[part])


class CountingMetrics(Metrics):
    """The figures of a process that shows none itself: what it answers is counted, and handed to the one that does."""

    def __init__(self) -> None:
        super().__init__()
        self._requests: Counts[tuple[str, str, int]] = Counts()
        self._seconds: dict[str, float] = {}
        self._buckets: dict[str, list[int]] = {}
        self._delays: list[float] = []

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests[route, method if method in METHODS else "other", status] += 1
        self._seconds[route] = self._seconds.get(route, 0.0) + seconds
        buckets = self._buckets.setdefault(route, [0] * (len(REQUEST_SECONDS) + 1))
        buckets[bisect_left(REQUEST_SECONDS, seconds)] += 1

    def note_delay(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._delays.append(seconds)

    def take(self) -> Counted:
        """What was counted; it begins anew."""
        counted = Counted(
            requests=[(*key, times) for key, times in self._requests.items()],
            durations=[(route, seconds, self._buckets[route]) for route, seconds in self._seconds.items()],
            delays=self._delays,
        )
        self._requests, self._seconds, self._buckets, self._delays = Counts(), {}, {}, []
        return counted
