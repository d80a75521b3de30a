"""One run: a random mesh is built, warmed up, hurt, measured, healed, and must agree in the end.

1. **Build.** Each node joins one that was there before it, and now and then a second one; both pin each other. So the
   mesh is connected, and everybody admits everybody. It must agree before anything is measured.
2. **Warm up.** Some releases are seen here and there.
3. **Hurt.** A part of the nodes crashes, once; from now on requests and answers are lost.
4. **Measure.** Releases are seen at random living nodes, shortly after each other. Then time passes until everybody
   alive has all of them, or `REPAIR_SECONDS_MAX` are over, and a little more for late copies.
5. **Heal.** Nothing is lost any more and who crashed starts again from what it had kept. Everybody must hold one set,
   with every release in it that any node acknowledged, within `CONVERGENCE_SECONDS_MAX`.

What pushes here is the simple form of the protocol: each new announcement goes as a body to every neighbour that is not
known to have it. So copies per node come out near the number of links, and hops are few; a tree that is pruned would
show the reverse. The figures are those of that form, counted as measuring.py says: nothing is estimated.

`delivery_after_push` counts the pairs of a measured release and a living node (its origin aside) that push alone
brought together; `delivery_after_one_reconciliation` those that were together when that node had ended its first round
which began `reconciliation_wait_ms` after the release was seen, or later. `control_bytes_per_node_per_message` holds
everything that went over the wire in step 4 but the announcements, so the statuses too that go round without any news.
"""

import shlex
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from pfn_node.simulation.actor import Node
from pfn_node.simulation.faults import Faults
from pfn_node.simulation.network import Network
from pfn_node.simulation.world import InvariantBroken
from pfn_protocol.limits import pins_max, reconciliation_wait_ms

# A link in a wide area network, each way.
DELAY_MS = (10, 100)
# Time between two nodes that start, and between two releases: a busy mesh, in which pushes overlap.
START_GAP_SECONDS = 0.05
MESSAGE_GAP_SECONDS = 0.1
# The chance that a newcomer joins a second node: enough that few crashes take the mesh apart.
SECOND_JOIN = 0.5
# Several statuses and rounds with every neighbour, broken ones repeated.
REPAIR_SECONDS_MAX = 120.0
# Copies that are under way when everybody has everything still count: a lost one is repeated after 5 s.
LATE_SECONDS = 10.0
# Dials are repeated every five minutes at the rarest; twice that, and a round.
CONVERGENCE_SECONDS_MAX = 660.0
# How often it is looked whether everybody agrees; a look costs more than an event.
LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Options:
    """What is run. The same options give the same run."""

    nodes: int
    seed: int = 1
    messages: int = 20
    warmup: int = 30
    loss: float = 0.0  # for each request, and again for each answer
    churn: float = 0.0  # the part of the nodes that crashes, once, before anything is measured

    def __post_init__(self) -> None:
        if self.nodes < 2 or self.messages < 1 or self.warmup < 0:
            raise ValueError("a run needs two nodes and one message at least")
        if not (0 <= self.loss < 1 and 0 <= self.churn < 1):
            raise ValueError("loss and churn are parts: 0 or more, and less than 1")
        if self.nodes - self.crashes < 2:
            raise ValueError("two nodes at least must outlive the churn")

    @property
    def crashes(self) -> int:
        """How many nodes crash."""
        return int(self.nodes * self.churn)

    @property
    def replay(self) -> str:
        """The command that repeats the run."""
        words = ["pfn", "simulate", "--nodes", str(self.nodes), "--seed", str(self.seed)]
        words += ["--messages", str(self.messages), "--warmup", str(self.warmup)]
        words += ["--loss", str(self.loss), "--churn", str(self.churn)]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Report:
    """What came out. Parts are of 1; sizes are in bytes."""

    nodes: int
    seed: int
    loss: float
    churn: float
    messages: int
    delivery_after_push: float = 0.0
    delivery_after_one_reconciliation: float = 0.0
    copies_per_node: float = 0.0
    hops_p50: int = 0  # of what was pushed, as the other two
    hops_p99: int = 0
    hops_max: int = 0
    control_bytes_per_node_per_message: float = 0.0
    events: int = 0
    events_per_second: float = 0.0  # of wall time
    wall_seconds: float = 0.0
    violations: tuple[str, ...] = ()
    trace_hash: str = ""


Progress = Callable[[str, float], None]  # the phase, and how much of it is done


@dataclass
class Run:
    """One run under way."""

    options: Options
    progress: Progress = lambda phase, done: None
    network: Network = field(init=False)
    _rng: Random = field(init=False)
    _measured: list[bytes] = field(default_factory=list)
    _acknowledged: list[bytes] = field(default_factory=list)
    _living: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.network = Network(self.options.seed, Faults(delay_ms=DELAY_MS))
        self.network.records = False
        self._rng = Random(f"run {self.options.seed}")

    @property
    def nodes(self) -> list[Node]:
        return list(self.network.nodes.values())

    def play(self) -> None:
        """All five steps. Raises InvariantBroken."""
        self._build()
        self._warm_up()
        self._hurt()
        self._measure()
        self._heal()

    def _build(self) -> None:
        for number in range(self.options.nodes):
            self.progress("build", number / self.options.nodes)
            earlier = [node for node in self.nodes if len(node.pins) < pins_max]
            node = self.network.node(f"node-{number}")
            wanted = 2 if self._rng.random() < SECOND_JOIN else 1
            for other in self._rng.sample(earlier, min(wanted, len(earlier))):
                node.pin(other)
                other.pin(node)
                node.join(other)
            self.network.elapse(seconds=START_GAP_SECONDS)
        self._living = self.nodes
        self.network.elapse_until(self.network.agree, seconds=CONVERGENCE_SECONDS_MAX, look=LOOK_SECONDS)

    def _warm_up(self) -> None:
        for number in range(self.options.warmup):
            self.progress("warm up", number / self.options.warmup)
            self._say(f"warm-up-{number}")
        self.network.elapse_until(self.network.agree, seconds=CONVERGENCE_SECONDS_MAX, look=LOOK_SECONDS)

    def _hurt(self) -> None:
        for node in self._rng.sample(self._living, self.options.crashes):
            node.crash()
        self._living = [node for node in self._living if node.up]
        self.network.faults = replace(self.network.faults, loss=self.options.loss)

    def _measure(self) -> None:
        measures = self.network.measures
        measures.open()
        for number in range(self.options.messages):
            self.progress("measure", number / self.options.messages)
            self._say(f"release-{number}", measured=True)
        self.network.comes_about(self._all_have_all, seconds=REPAIR_SECONDS_MAX, look=LOOK_SECONDS)
        self.network.elapse(seconds=LATE_SECONDS)
        measures.close()

    def _heal(self) -> None:
        self.progress("heal", 0.0)
        self.network.heal()
        for node in self.nodes:
            if not node.up:
                node.start()
        self.network.elapse_until(self._is_healed, seconds=CONVERGENCE_SECONDS_MAX, look=LOOK_SECONDS)
        for node in self.nodes:
            if len(node.announcements()) != node.mesh.status().announcements:
                raise InvariantBroken(f"the disk of {node.name} holds another set than its machine")
        self.progress("heal", 1.0)

    def _say(self, slug: str, *, measured: bool = False) -> None:
        """A random living node sees a release, and a moment passes."""
        origin = self._rng.choice(self._living)
        announcement_id = origin.sees(slug)
        if announcement_id is None:
            raise InvariantBroken(f"{origin.name} does not announce what it sees")
        self._acknowledged.append(announcement_id)
        if measured:
            self._measured.append(announcement_id)
            self.network.measures.watch(announcement_id, origin, self.network.now_ms)
        self.network.elapse(seconds=MESSAGE_GAP_SECONDS)

    def _all_have_all(self) -> bool:
        return all(node.holds(one) for one in self._measured for node in self._living)

    def _is_healed(self) -> bool:
        holding = all(node.holds(one) for one in self._acknowledged for node in self.nodes)
        return holding and self.network.agree()

    def report(self, wall_seconds: float, violations: tuple[str, ...]) -> Report:
        """The figures of what was played so far."""
        options, measures = self.options, self.network.measures
        pairs = [(one, node.name) for one in self._measured for node in self._living if not measures.made(one, node)]
        pushed = [pair for pair in pairs if measures.pushed_to(*pair)]
        reconciled = [pair for pair in pairs if measures.there_after_one_round(*pair, reconciliation_wait_ms)]
        hops = sorted(measures.arrivals[pair].hops for pair in pushed)
        return Report(
            nodes=options.nodes,
            seed=options.seed,
            loss=options.loss,
            churn=options.churn,
            messages=options.messages,
            delivery_after_push=_part(len(pushed), len(pairs)),
            delivery_after_one_reconciliation=_part(len(reconciled), len(pairs)),
            copies_per_node=_part(measures.copies, len(pairs)),
            hops_p50=_percentile(hops, 0.5),
            hops_p99=_percentile(hops, 0.99),
            hops_max=_percentile(hops, 1.0),
            control_bytes_per_node_per_message=_part(measures.control_bytes, len(self._living) * options.messages),
            events=self.network.events,
            events_per_second=_part(self.network.events, wall_seconds),
            wall_seconds=wall_seconds,
            violations=violations,
            trace_hash=self.network.trace_hash,
        )


def _part(count: float, of: float) -> float:
    return count / of if of else 0.0


def _percentile(ordered: list[int], part: float) -> int:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0


def run(options: Options, *, clock: Callable[[], float], progress: Progress | None = None) -> Report:
    """Play one run. `clock` gives wall seconds, for the report alone: nothing in the run follows it."""
    started = clock()
    current = Run(options, progress) if progress else Run(options)
    violations: tuple[str, ...] = ()
    try:
        current.play()
    except AssertionError as broken:  # the network's, or one of the machine's own
        where = traceback.extract_tb(broken.__traceback__)[-1]
        violations = (f"{broken} (at {where.name}, {where.filename.rpartition('/')[2]}:{where.lineno})",)
    return current.report(clock() - started, violations)
