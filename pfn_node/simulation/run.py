"""One run: nodes link, a tree of pushes grows, some nodes die, broadcasts are measured, sets are compared once, healed.

The same at every size, so that figures mean one thing:

1. **Link.** All nodes start at once, each knows the addresses of a few others, and they have some time to link.
   Everybody pins the same few senders, so what those say belongs to everybody's set. From now on requests and answers
   are lost.
2. **Warm up.** Senders say something, one after the other: these pushes find the tree.
3. **Die.** A part of the nodes is gone at once, with their machines, and nobody is told.
4. **Measure.** Living senders say something, one after the other. What push and pull brought when nothing is under way
   any more is `delivery_after_push`; `copies_per_node`, hops and control bytes are of this step, too.
5. **Compare.** Every living node compares its set once, with one random living neighbour. What is together then is
   `delivery_after_one_reconciliation`. It has ended when nothing is lacking any more, or when its time is over.
6. **Heal.** Nothing is lost any more, the dead start again from what they had kept, and everybody compares with every
   neighbour now and then, until all hold one set with everything in it that was ever said. (Left out above
   `HEALED_NODES_MAX`, where it takes longer than all else.)

So that push is measured and nothing else, nobody compares sets before step 5, and no node announces itself. Up to
`SEALED_NODES_MAX` nodes every message is really signed and opened; the figures do not depend on it.
"""

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from random import Random
from typing import Any

from pfn_node.simulation.actor import Node
from pfn_node.simulation.faults import Faults
from pfn_node.simulation.figures import Options, Pushed, Report, count_pushed, count_reached, part, percentile
from pfn_node.simulation.halves import HalfNetwork
from pfn_node.simulation.network import Network
from pfn_node.simulation.world import START_MS, InvariantBroken
from pfn_protocol.events import ComparisonWanted
from pfn_protocol.limits import pins_max

# A link in a wide area network, each way.
DELAY_MS = (10, 100)
# Addresses that a node knows from before the start.
ADDRESSES_KNOWN = 16
STARTING_MS = 10
# Nodes link, and read back what neighbours remember, in this time.
LINKING_SECONDS = 15
# After the last broadcast: pulls for what was lost, one after the other.
SETTLING_SECONDS = 20
# A comparison that finds something takes some seconds; one whose requests are lost takes more.
COMPARING_SECONDS = (10, 20)
# How often sets are compared while the mesh heals, and how long that may take: dials are repeated every five minutes
# at the rarest; twice that, and a round.
HEALING_SECONDS = 10
HEALED_SECONDS_MAX = 660
HEALED_NODES_MAX = 1_000
SEALED_NODES_MAX = 50
# From so many nodes on the network is played in two processes.
HALVED_NODES_MIN = 2_000
# How long a production node waits for what is no part of the tree.
ANSWER_MS_MAX = 10_000
# Cycles of objects are looked for so often only; the machines make none.
COLLECT_EVENTS = 20_000_000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    phase: str
    virtual_seconds: float
    events: int
    said: int  # measured broadcasts
    delivered: float  # the part of them that arrived
    copies: float  # per arrival


Watcher = Callable[[Progress], None]


@dataclass
class Run:
    """One run under way."""

    options: Options
    watcher: Watcher = lambda progress: None
    sealed: bool | None = None  # None: as the number of nodes allows; a network in two processes never is
    half: tuple[int, Connection] | None = None  # of a network in two processes: which one, and the way to the other
    network: Network = field(init=False)
    _rng: Random = field(init=False)
    _phase: str = "link"
    _senders: list[Node] = field(default_factory=list)
    _living: list[Node] = field(default_factory=list)
    _said: dict[bytes, None] = field(default_factory=dict)
    _pushed: Pushed | None = None
    _delivered: float = 0.0
    _links_mean: float = 0.0
    _control_bytes: int = 0
    _collected: int = 0
    _events: int = 0
    _trace_hash: str = ""

    def __post_init__(self) -> None:
        options = self.options
        settings: dict[str, Any] = {
            "faults": Faults(delay_ms=DELAY_MS),
            "sealed": self.half is None and (options.nodes <= SEALED_NODES_MAX if self.sealed is None else self.sealed),
            "status_every_ms": None,
            "self_announcing": False,
            "answer_ms_max": ANSWER_MS_MAX,
        }
        if self.half is None:
            self.network = Network(options.seed, **settings)
        else:
            self.network = HalfNetwork(*self.half, options.seed, **settings)
        self.network.records = False
        self._rng = Random(f"run {options.seed}")

    def play(self) -> None:
        """All steps. Raises InvariantBroken."""
        with _collecting_seldom():
            self._link()
            self._warm_up()
            self._die()
            self._measure()
            self._compare()
            if self.options.nodes <= HEALED_NODES_MAX and self.half is None:
                self._heal()
        self._events, self._trace_hash = int(self.network.total(self.network.events)), self.network.trace_hash

    def _link(self) -> None:
        count = self.options.nodes
        nodes = [
            self.network.node(f"node-{number}", start_in_ms=self._rng.randrange(STARTING_MS)) for number in range(count)
        ]
        self._living = nodes
        self._senders = self._rng.sample(nodes, min(pins_max, count))
        pins = tuple(node.id for node in self._senders)
        for node in nodes:
            node.pins = pins
            known = [other for other in self._rng.sample(nodes, min(ADDRESSES_KNOWN + 1, count)) if other is not node]
            node.peers = {other.id: other.url for other in known[:ADDRESSES_KNOWN]}
        self._elapse(LINKING_SECONDS)
        self.network.faults = replace(self.network.faults, loss=self.options.loss)

    def _warm_up(self) -> None:
        self._phase = "warm up"
        for number in range(self.options.warmup):
            self._say(number)

    def _die(self) -> None:
        for node in self._rng.sample(self._living, self.options.deaths):
            node.crash(silently=True)
        self._living = [node for node in self._living if node.up]

    def _measure(self) -> None:
        self._phase = "measure"
        measures = self.network.measures
        measures.open()
        for number in range(self.options.messages):
            self._say(self.options.warmup + number, measured=True)
        self._elapse(SETTLING_SECONDS)
        whole = self.network.pool()
        self._pushed = count_pushed(whole, self._living_numbers)
        self._control_bytes = whole.control_bytes
        links = self.network.total(sum(len(node.mesh.neighbours()) for node in self._here))
        self._links_mean = part(links, len(self._living))

    def _compare(self) -> None:
        self._phase = "compare"
        up = dict.fromkeys(node.id for node in self._living)
        for node in self._here:
            neighbours = [peer for peer in node.mesh.neighbours() if peer in up]
            if neighbours:
                dice = Random(f"compare {self.options.seed} {node.number}")
                node.report(ComparisonWanted(dice.choice(neighbours)))
        for seconds in COMPARING_SECONDS:
            self._elapse(seconds)
            broadcasts = list(self.network.pool().broadcasts.values())
            self._delivered = count_reached(broadcasts, self._living_numbers)
            if self._delivered == 1:
                break
        self.network.measures.close()

    def _heal(self) -> None:
        self._phase = "heal"
        self.network.heal()
        nodes = self._living = list(self.network.nodes.values())
        for node in nodes:
            if not node.up:
                node.start()
        for _ in range(HEALED_SECONDS_MAX // HEALING_SECONDS):
            if self._is_healed():
                break
            for node in nodes:
                for peer in node.mesh.neighbours():
                    node.report(ComparisonWanted(peer))
            self._elapse(HEALING_SECONDS)
        else:
            raise InvariantBroken(f"the nodes do not agree within {HEALED_SECONDS_MAX} s (seed {self.options.seed})")
        for node in nodes:
            if len(node.announcements()) != node.mesh.status().announcements:
                raise InvariantBroken(f"the disk of {node.name} holds another set than its machine")

    def _is_healed(self) -> bool:
        holding = all(node.holds(one) for one in self._said for node in self._living)
        return holding and self.network.agree()

    def _say(self, number: int, *, measured: bool = False) -> None:
        """A living sender sees a release, and a moment passes."""
        senders = [node for node in self._senders if node.up] or self._living
        origin = senders[number % len(senders)]
        announcement_id = self.network.agree_on(origin, lambda: origin.sees(f"release-{number}"))
        if announcement_id is None:
            raise InvariantBroken(f"{origin.name} does not announce what it sees")
        self._said[announcement_id] = None
        if measured:
            self.network.measures.watch(announcement_id, origin, self.network.now_ms)
        self._elapse(self.options.interval_ms / 1_000)

    @property
    def _here(self) -> list[Node]:
        return [node for node in self._living if node.is_here]

    @property
    def _living_numbers(self) -> list[int]:
        return [node.number for node in self._living]

    def _elapse(self, seconds: float) -> None:
        """Let time pass, and tell about it every second."""
        while seconds > 0:
            self.network.elapse(seconds=min(1, seconds))
            seconds -= 1
            self.watcher(self._progress())
        if self.network.events - self._collected > COLLECT_EVENTS:
            self._collected = self.network.events
            gc.collect()

    def _progress(self) -> Progress:
        measures, network = self.network.measures, self.network
        said = len(measures.broadcasts)
        pairs = said * (len(self._here) - 1)
        return Progress(
            self._phase,
            (network.now_ms - START_MS) / 1_000,
            network.events,
            said,
            part(measures.arrivals, pairs),
            part(measures.copies, measures.arrivals),
        )

    def report(self, wall_seconds: float, violations: tuple[str, ...]) -> Report:
        """The figures of what was played so far."""
        options, network = self.options, self.network
        pushed = self._pushed or count_pushed(network.measures, self._living_numbers)
        return Report(
            nodes=options.nodes,
            seed=options.seed,
            loss=options.loss,
            churn=options.churn,
            messages=options.messages,
            warmup=options.warmup,
            interval_ms=options.interval_ms,
            delivery_after_push=pushed.delivery,
            delivery_after_one_reconciliation=self._delivered,
            copies_per_node=pushed.copies,
            first_message_delivery=pushed.first_delivery,
            first_message_copies=pushed.first_copies,
            hops_p50=percentile(pushed.hops, 0.5),
            hops_p99=percentile(pushed.hops, 0.99),
            hops_max=percentile(pushed.hops, 1.0),
            links_mean=self._links_mean,
            control_bytes_per_node_per_message=part(
                self._control_bytes, (options.nodes - options.deaths) * options.messages
            ),
            events=self._events or network.events,
            events_per_second=part(self._events or network.events, wall_seconds),
            wall_seconds=wall_seconds,
            violations=violations,
            trace_hash=self._trace_hash,
            curves=pushed.curves,
        )


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """A collector that walks over millions of living objects again and again takes more time than the run."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def run(
    options: Options, *, clock: Callable[[], float], watcher: Watcher | None = None, sealed: bool | None = None
) -> Report:
    """Play one run. `clock` gives wall seconds, for the report alone: nothing in the run follows it."""
    started = clock()
    with _other_half(options) as connection:
        half = (0, connection) if connection is not None else None
        current = Run(options, watcher or (lambda progress: None), sealed, half)
        violations: tuple[str, ...] = ()
        try:
            current.play()
        except AssertionError as broken:  # the network's, or one of the machine's own
            violations = (_told(broken),)
    return current.report(clock() - started, violations)


@contextmanager
def _other_half(options: Options) -> Iterator[Connection | None]:
    """A process that plays the other half of a large network, and the way to it."""
    if options.nodes < HALVED_NODES_MIN:
        yield None
        return
    processes = get_context("spawn")
    here, there = processes.Pipe()
    other = processes.Process(target=_play_half, args=(options, there), daemon=True)
    other.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        other.join()


def _play_half(options: Options, connection: Connection) -> None:
    current = Run(options, half=(1, connection))
    try:
        current.play()
    except AssertionError as broken:
        assert isinstance(current.network, HalfNetwork), "this is the other half"
        with suppress(EOFError, OSError):  # the first half may be the one that broke, and is gone
            current.network.tell_broken(_told(broken))


def _told(broken: AssertionError) -> str:
    where = traceback.extract_tb(broken.__traceback__)[-1]
    return f"{broken} (at {where.name}, {where.filename.rpartition('/')[2]}:{where.lineno})"
