"""What is measured of the exchange with each node: for the operator's eyes, and for choosing mirrors."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

from pfn_node.metrics import Metrics
from pfn_protocol.messages import Answer, GossipAnswer, GossipRequest, Request

# Nodes whose figures are kept; the ones not heard of for longest go first.
PEERS_MAX = 4096
# Weight of the newest measurement: a changed route shows after a handful of requests, one slow answer does not.
ROUND_TRIP_WEIGHT = 0.2
# The last minute is counted in steps of so many seconds: fine enough to be seen to change, few enough to keep for all.
STEP_SECONDS = 10
STEPS = 6


@dataclass(slots=True)
class PeerTraffic:
    """Since start. Times in seconds, sizes in bytes."""

    bytes_sent: int = 0
    bytes_received: int = 0
    round_trip_seconds: float | None = None
    last_seen: int | None = None
    announcements: int = 0  # in the set that it shares with this node, by its own last word
    step: int = 0  # the newest one that is counted: whole steps since 1970
    bytes_of_steps: list[int] = field(default_factory=lambda: [0] * STEPS)  # in a circle

    def count(self, size: int, at: float) -> None:
        """Count bytes that went either way now."""
        self._go_on_to(int(at) // STEP_SECONDS)
        self.bytes_of_steps[self.step % STEPS] += size

    def bytes_last_minute(self, now: float) -> int:
        """What went both ways in the last minute."""
        self._go_on_to(int(now) // STEP_SECONDS)
        return sum(self.bytes_of_steps)

    def _go_on_to(self, step: int) -> None:
        for passed in range(min(step - self.step, STEPS)):
            self.bytes_of_steps[(step - passed) % STEPS] = 0
        self.step = max(step, self.step)  # a clock that was set back counts on in the newest step


class Traffic:
    """The figures of the nodes heard of lately."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()
        self._peers: OrderedDict[bytes, PeerTraffic] = OrderedDict()

    def of(self, peer: bytes) -> PeerTraffic:
        """The figures of one node; zeros if nothing was exchanged."""
        return self._peers.get(peer) or PeerTraffic()

    def count(self, message: str, direction: Literal["in", "out"]) -> None:
        """A request of the mesh was answered: one of another node (in), or an own one (out)."""
        self.metrics.messages.labels(message, direction).inc()

    def hear(self, peer: bytes, message: Request | Answer) -> None:
        """Note what a verified message says of the node's set."""
        if isinstance(message, GossipRequest | GossipAnswer) and message.status is not None and peer in self._peers:
            self._peers[peer].announcements = message.status.count

    def record(
        self, peer: bytes, *, sent: int, received: int, at: float, round_trip_seconds: float | None = None
    ) -> None:
        """A verified exchange with `peer` ended at `at`; `round_trip_seconds` only where it says something."""
        figures = self._peers.pop(peer, None) or PeerTraffic()
        self._peers[peer] = figures
        figures.bytes_sent += sent
        figures.bytes_received += received
        figures.last_seen = int(at)
        figures.count(sent + received, at)
        self.metrics.mesh_bytes.labels("sent").inc(sent)
        self.metrics.mesh_bytes.labels("received").inc(received)
        if round_trip_seconds is not None:
            before = figures.round_trip_seconds
            weight = ROUND_TRIP_WEIGHT if before is not None else 1.0
            figures.round_trip_seconds = weight * round_trip_seconds + (1 - weight) * (before or 0.0)
        if len(self._peers) > PEERS_MAX:
            self._peers.popitem(last=False)
