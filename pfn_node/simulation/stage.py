"""Where a named scenario is played: it shows what happens step by step, and checks what it expects with numbers."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from pfn_node.simulation.story import Story
from pfn_node.simulation.world import START_MS


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a scenario shows. `met` is None if nothing was expected of it."""

    at_seconds: float  # since the mesh began, in simulated time
    sentence: str
    value: float | None = None
    met: bool | None = None


@dataclass
class Stage:
    """One scenario being played."""

    name: str
    seed: int = 1
    show: Callable[[Step], None] = lambda step: None
    steps: list[Step] = field(default_factory=list)
    story: Story = field(init=False)

    def __post_init__(self) -> None:
        self.story = Story(self.seed, replay=self.replay, sealed=False)

    @property
    def replay(self) -> str:
        """The command that repeats it."""
        return shlex.join(["pfn", "simulate", self.name, "--seed", str(self.seed)])

    def tells(self, sentence: str) -> None:
        """This happens now."""
        self._add(sentence, None, None)

    def expects(self, what: str, value: float, *, at_most: float | None = None, at_least: float | None = None) -> None:
        """This was measured, and must be within bounds."""
        met = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
        bounds = [
            f"at {word} {bound:g}" for word, bound in (("least", at_least), ("most", at_most)) if bound is not None
        ]
        self._add(f"{what}: {value:g} ({' and '.join(bounds)})", value, met)

    @property
    def failed(self) -> bool:
        """Whether anything was not as expected."""
        return any(step.met is False for step in self.steps)

    def _add(self, sentence: str, value: float | None, met: bool | None) -> None:
        seconds = (self.story.network.now_ms - START_MS) / 1_000
        step = Step(seconds, sentence, value, met)
        self.steps.append(step)
        self.show(step)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What can be played by name."""

    about: str  # in one sentence
    play: Callable[[Stage], None]


def perform(stage: Stage, scenario: Scenario) -> None:
    """Play a scenario to its end, or to the first thing that must never happen, which is shown like the rest."""
    try:
        scenario.play(stage)
        stage.story.watch.inspect()
    except AssertionError as broken:
        stage._add(str(broken) or repr(broken), None, False)
