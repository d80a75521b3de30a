"""What is run, and what came of it: the options and the figures of one run, and the medians of several."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import median

from pfn_node.simulation.measuring import Broadcast, Measures

WARMUP = 30
# The tree is made by some broadcasts, however many nodes there are; from so many nodes on each takes its time.
LARGE = 5_000
WARMUP_OF_LARGE = 12


def warmup_for(nodes: int) -> int:
    """How many broadcasts go before what is measured, unless somebody says so."""
    return WARMUP if nodes < LARGE else WARMUP_OF_LARGE


@dataclass(frozen=True, slots=True)
class Options:
    """What is run. The same options give the same run."""

    nodes: int
    seed: int = 1
    messages: int = 20
    warmup: int = WARMUP
    loss: float = 0.0  # for each request, and again for each answer
    churn: float = 0.0  # the part of the nodes that dies, once, before anything is measured
    interval_ms: int = 1_000  # from one broadcast to the next: what overlaps travels together

    def __post_init__(self) -> None:
        if self.nodes < 2 or self.messages < 1 or self.warmup < 0 or self.interval_ms < 1:
            raise ValueError("a run needs two nodes, one message and a millisecond between two at least")
        if not (0 <= self.loss < 1 and 0 <= self.churn < 1):
            raise ValueError("loss and churn are parts: 0 or more, and less than 1")
        if self.nodes - self.deaths < 2:
            raise ValueError("two nodes at least must outlive the churn")

    @property
    def deaths(self) -> int:
        """How many nodes die."""
        return int(self.nodes * self.churn)

    @property
    def replay(self) -> str:
        """The command that repeats the run."""
        words = ["pfn", "simulate", "--nodes", str(self.nodes), "--seed", str(self.seed)]
        words += ["--messages", str(self.messages), "--warmup", str(self.warmup)]
        words += ["--loss", str(self.loss), "--churn", str(self.churn), "--interval", str(self.interval_ms)]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Curves:
    """What a picture needs."""

    arrivals_ms: Counter[int] = field(default_factory=Counter)  # milliseconds after the making -> arrivals
    copies: Counter[int] = field(default_factory=Counter)  # copies of one message at one node -> how often
    pairs: int = 0

    def __add__(self, other: "Curves") -> "Curves":
        return Curves(self.arrivals_ms + other.arrivals_ms, self.copies + other.copies, self.pairs + other.pairs)


@dataclass(frozen=True, slots=True)
class Report:
    """What came out. Parts are of 1; sizes are in bytes. Pairs are of a message and a living node, its origin aside."""

    nodes: int
    seed: int
    loss: float
    churn: float
    messages: int
    warmup: int
    interval_ms: int
    delivery_after_push: float = 0.0
    delivery_after_one_reconciliation: float = 0.0
    copies_per_node: float = 0.0
    first_message_delivery: float = 0.0
    first_message_copies: float = 0.0
    hops_p50: int = 0  # of what was pushed, as the other two
    hops_p99: int = 0
    hops_max: int = 0
    links_mean: float = 0.0
    control_bytes_per_node_per_message: float = 0.0
    events: int = 0
    events_per_second: float = 0.0  # of wall time
    wall_seconds: float = 0.0
    violations: tuple[str, ...] = ()
    trace_hash: str = ""
    curves: Curves = field(default_factory=Curves)

    def as_json(self) -> dict[str, float | int | str]:
        """The figures, with the number of violations."""
        figures = asdict(self) | {"violations": len(self.violations)}
        del figures["curves"]
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in figures.items()}


@dataclass(frozen=True, slots=True)
class Pushed:
    """What push and pull alone came to, when nothing was under way any more."""

    delivery: float
    first_delivery: float
    copies: float
    first_copies: float
    hops: Sequence[int]  # sorted, one for each pair that was reached
    curves: Curves


def count_pushed(measures: Measures, living: Sequence[int]) -> Pushed:
    """Count the watched broadcasts at the living nodes."""
    broadcasts = list(measures.broadcasts.values())
    hops: list[int] = []
    reached: list[int] = []
    copies: list[int] = []
    histogram: Counter[int] = Counter()
    for broadcast in broadcasts:
        others = [node for node in living if node != broadcast.origin]
        pushed = [broadcast.hops[node] for node in others if broadcast.pushed_to(node)]
        hops += pushed
        reached.append(len(pushed))
        counts = Counter(broadcast.copies[node] for node in others)
        copies.append(sum(number * often for number, often in counts.items()))
        histogram += counts
    others_each = len(living) - 1
    pairs = others_each * len(broadcasts)
    return Pushed(
        delivery=part(sum(reached), pairs),
        first_delivery=part(sum(reached[:1]), others_each),
        copies=part(sum(copies), pairs),
        first_copies=part(sum(copies[:1]), others_each),
        hops=sorted(hops),
        curves=Curves(Counter(measures.arrivals_ms), histogram, pairs),
    )


def count_reached(broadcasts: Sequence[Broadcast], living: Sequence[int]) -> float:
    """The part of the pairs that is together, in whatever way it came about."""
    pairs = [broadcast.reached(node) for broadcast in broadcasts for node in living if node != broadcast.origin]
    return part(sum(pairs), len(pairs))


def part(count: float, of: float) -> float:
    """A ratio; 0 of nothing."""
    return count / of if of else 0.0


def percentile(ordered: Sequence[int], fraction: float) -> int:
    """The value at this part of a sorted list."""
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] if ordered else 0


def medians(reports: Sequence[Report]) -> dict[str, float]:
    """The median of each figure that several seeds differ in."""
    names = [one.name for one in fields(Report)]
    names = names[names.index("delivery_after_push") : names.index("violations")]
    return {name: round(median(getattr(report, name) for report in reports), 6) for name in names}
