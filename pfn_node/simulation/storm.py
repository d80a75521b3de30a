"""The long run: a mesh lives for hours under all faults at once, with hostile nodes in it, and nothing may break.

Every few minutes the weather changes: other losses, other partitions, other slow nodes and wrong clocks, all drawn from
the seed. Nodes crash and come back from what they kept, or from an older backup of it. Hostile nodes do whatever they
do. Now and then everything is healed: then what honest nodes acknowledged must be everywhere by a deadline, while the
hostile go on; and when those are silent for a moment, all honest nodes must hold one set. What must always hold is
looked at after every turn (invariants.py).
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from pfn_node.simulation.actor import Node
from pfn_node.simulation.faults import Faults
from pfn_node.simulation.hostile import Trick
from pfn_node.simulation.story import Backup, Story
from pfn_node.simulation.tricks import (
    Equivocate,
    Forge,
    GrindIds,
    Lie,
    Oversize,
    PostDate,
    Replay,
    Sybil,
    Withhold,
)
from pfn_node.simulation.world import START_MS, InvariantBroken

SECOND_MS, MINUTE_MS, HOUR_MS = 1_000, 60_000, 3_600_000
HOSTILE_PART_MAX = 0.4
# How long one weather lasts, and how many follow each other before a healing.
SPELL_SECONDS = (120, 480)
SPELLS = (2, 6)
# How often something is said, on average, and how finely crashes are spread.
STEP_SECONDS = 10
SAYS_PER_STEP = 0.2
TRICKS: tuple[Callable[[], Trick], ...] = (
    Equivocate,
    Forge,
    GrindIds,
    Lie,
    Oversize,
    PostDate,
    Replay,
    lambda: Sybil(chance=0.1, keys_at_once=1, statements=1),
    Withhold,
)
# How often each hostile node does something of its own, on average. What it does about what its machine sends, it
# always does.
ACT_MS = 4 * MINUTE_MS
# Statuses over all links are most of what an idle mesh does. A third of them makes hours three times cheaper, and
# everything harder, since differences are noticed later; the rest goes at its own speed.
STATUS_EVERY_MS = 30_000
# How wrong a clock may be: a little; more than requests may be; more than announcements may be; a day.
CLOCKS_MS = (SECOND_MS, 30 * SECOND_MS, 5 * MINUTE_MS, HOUR_MS, 24 * HOUR_MS)


@dataclass(frozen=True, slots=True)
class StormOptions:
    """What is run. The same options give the same run."""

    hours: float
    nodes: int = 20
    hostile: float = 0.4  # the part of the nodes that is hostile
    seed: int = 1

    def __post_init__(self) -> None:
        if not (self.hours > 0 and self.nodes >= 3 and 0 <= self.hostile <= HOSTILE_PART_MAX):
            raise ValueError("a storm needs some time, three nodes, and at most two hostile ones in five")

    @property
    def replay(self) -> str:
        """The command that repeats the run."""
        words = ["pfn", "simulate", "--hours", f"{self.hours:g}", "--nodes", str(self.nodes)]
        return shlex.join([*words, "--hostile", f"{self.hostile:g}", "--seed", str(self.seed)])


@dataclass(slots=True)
class StormReport:
    """What was lived through."""

    hours: float = 0.0
    honest: int = 0
    hostile: int = 0
    healings: int = 0
    slowest_healing_seconds: float = 0.0
    acknowledged: int = 0
    crashes: int = 0
    restored_from_backups: int = 0
    turns: int = 0
    events: int = 0
    violations: list[str] = field(default_factory=list)


class Storm:
    """One long run under way."""

    def __init__(
        self, options: StormOptions, progress: Callable[[str, float], None] = lambda phase, done: None
    ) -> None:
        self.options = options
        self.progress = progress
        self.story = Story(options.seed, replay=options.replay, sealed=False, status_every_ms=STATUS_EVERY_MS)
        self.report = StormReport()
        self._dice = Random(f"storm {options.seed}")
        self._backups: dict[Node, Backup] = {}
        self._said = 0

    def play(self) -> None:
        """Live through it all. Raises InvariantBroken."""
        self._build()
        while self._hours_over() < self.options.hours:
            for _ in range(self._dice.randint(*SPELLS)):
                self._live(self._draw_weather(), self._dice.randint(*SPELL_SECONDS))
            self._heal()

    def _hours_over(self) -> float:
        return (self.story.network.now_ms - START_MS) / HOUR_MS

    def _build(self) -> None:
        hostile = int(self.options.nodes * self.options.hostile)
        honest = self.story.mesh(*(f"node-{number}" for number in range(self.options.nodes - hostile)))
        for number in range(hostile):
            tricks = [make() for make in self._dice.sample(TRICKS, self._dice.randint(1, 3))]
            pinned_by = self._dice.sample(honest, self._dice.choice((0, 0, 1)))
            joins = self._dice.sample(honest, min(3, len(honest)))
            self.story.intruder(f"hostile-{number}", *tricks, joins=joins, pinned_by=pinned_by, act_ms=ACT_MS)
        self.report.honest, self.report.hostile = len(honest), hostile

    # Weather.

    def _draw_weather(self) -> Faults:
        dice, names = self._dice, [node.name for node in self.story.honest]
        everybody = [*names, *(node.name for node in self.story.hostile)]
        return Faults(
            loss=dice.choice((0.0, 0.05, 0.3)),
            duplication=dice.choice((0.0, 0.1)),
            delay_ms=dice.choice(((5, 50), (10, 300), (50, 3_000))),
            reordering=dice.choice((0.0, 0.2)),
            cuts=frozenset((dice.choice(names), dice.choice(everybody)) for _ in range(dice.choice((0, 3, 20)))),
            islands=tuple(self._draw_island(everybody) for _ in range(dice.choice((0, 0, 1, 2)))),
            slow={name: dice.choice((500, 4_000, 20_000)) for name in self._some(names)},
            full={name: dice.choice((0.2, 1.0)) for name in self._some(names)},
            clocks_ahead_ms={name: self._draw_clock() for name in self._some(names)},
            crashes_per_hour=dice.choice((0.0, 2.0, 10.0)),
            old_backups=dice.choice((0.0, 0.5)),
        )

    def _some(self, names: Sequence[str]) -> list[str]:
        return self._dice.sample(names, min(len(names), self._dice.choice((0, 0, 1, 3))))

    def _draw_island(self, names: Sequence[str]) -> frozenset[str]:
        return frozenset(self._dice.sample(names, self._dice.randint(1, len(names) - 1)))

    def _draw_clock(self) -> int:
        return self._dice.choice((-1, 1)) * self._dice.randint(0, self._dice.choice(CLOCKS_MS))

    # What happens in it.

    def _live(self, weather: Faults, seconds: int) -> None:
        self.progress("storm", min(1.0, self._hours_over() / self.options.hours))
        story = self.story
        story.faults(weather)
        for node in story.honest:
            if self._dice.random() < 0.2:
                self._backups[node] = story.back_up(node)
        for _ in range(seconds // STEP_SECONDS):
            for node in story.honest:
                if node.up and self._dice.random() < weather.crashes_per_hour * STEP_SECONDS / 3_600:
                    self._crash(node, weather)
            up = [node for node in story.honest if node.up]
            if up and self._dice.random() < SAYS_PER_STEP:
                self._said += 1
                story.says(self._dice.choice(up), f"release-{self._said}")
            story.passes(seconds=STEP_SECONDS)

    def _crash(self, node: Node, weather: Faults) -> None:
        self.report.crashes += 1
        self.story.crash(node)
        backup = self._backups.get(node) if self._dice.random() < weather.old_backups else None
        incarnation = node.incarnation

        def come_back() -> None:
            if node.up or node.incarnation != incarnation:
                return  # a healing came first
            if backup is not None:
                self.report.restored_from_backups += 1
                self.story.restore(node, backup)
            else:
                self.story.restart(node)

        self.story.network.later(self._dice.randint(*weather.down_ms), come_back)

    def _heal(self) -> None:
        self.progress("heal", min(1.0, self._hours_over() / self.options.hours))
        self.story.heal()
        took = self.story.acknowledged_everywhere()
        self.story.silence()
        took += self.story.all_agree()
        self.story.provoke()
        self.report.healings += 1
        self.report.slowest_healing_seconds = max(self.report.slowest_healing_seconds, took)

    def finish(self) -> StormReport:
        """The figures of what was lived through so far."""
        report = self.report
        report.hours = round(self._hours_over(), 3)
        report.acknowledged = len(self.story.acknowledged)
        report.turns, report.events = self.story.watch.turns, self.story.network.events
        return report


def weather_storm(
    options: StormOptions, progress: Callable[[str, float], None] = lambda phase, done: None
) -> StormReport:
    """Live through a storm, to its end or to the first violation."""
    storm = Storm(options, progress)
    try:
        storm.play()
    except AssertionError as broken:  # an invariant, or one of the machine's own
        storm.report.violations.append(_sentence(broken, options))
    return storm.finish()


def _sentence(broken: AssertionError, options: StormOptions) -> str:
    if isinstance(broken, InvariantBroken):
        return str(broken)
    return f"{broken!r}; again with: {options.replay}"
