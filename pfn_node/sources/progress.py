"""What is under way with a source, for those who watch: the steps of a verification, and how far a sync is.

Whoever does the work reports each step as it happens; whoever shows it reads a copy. Nothing of this is kept in the
database, and what ended last stays to be seen. A restart forgets it all.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from pfn_node.metrics import Metrics
from pfn_node.sources.outcomes import SourcesError
from pfn_node.sources.publisher_answers import AuthorData

WATCHED_MAX: Final = 256  # sources; of more than these nobody watches the last verification or sync at the same time
SAYS_CHARACTERS_MAX: Final = 300

StepName = Literal["asset_info", "keys", "challenge", "signature", "oracle", "origin", "record"]
# In the order in which they are taken; whether the publisher is an oracle is asked once for each key.
STEPS: Final[tuple[StepName, ...]] = ("asset_info", "keys", "challenge", "signature", "oracle", "origin", "record")

Watched = TypeVar("Watched")


@dataclass(slots=True)
class Step:
    """One thing that a verification does. Times are seconds since 1970."""

    name: StepName
    began: float
    ended: float | None = None
    failed: bool = False
    says: str = ""

    @property
    def state(self) -> Literal["running", "done", "failed"]:
        """How the step stands."""
        if self.ended is None:
            return "running"
        return "failed" if self.failed else "done"

    def say(self, words: str) -> None:
        """Add what came of it."""
        self.says = words[:SAYS_CHARACTERS_MAX]

    def fail(self, words: str) -> None:
        """It did not bring what it should."""
        self.failed = True
        self.say(words)


@dataclass(slots=True)
class Steps:
    """The steps of one verification, so far."""

    clock: Callable[[], float]
    began: float
    steps: list[Step] = field(default_factory=list)  # at most one of each name
    ended: float | None = None
    result: Literal["success", "failure", "unanswered"] | None = None  # None: nobody came so far

    @contextmanager
    def step(self, name: StepName) -> Iterator[Step]:
        """Take a step; it is over at the end of the block, and failed if the block says so or raises."""
        step = Step(name, self.clock())
        self.steps.append(step)
        try:
            yield step
        except SourcesError as error:
            step.fail(error.sentence)
            raise
        except BaseException:
            step.fail("it was interrupted")
            raise
        finally:
            step.ended = self.clock()


@dataclass(slots=True)
class SyncSteps:
    """How far one sync is. `wanted`: how many plugins the filters let through; None: the list is not read yet."""

    began: float = 0.0
    wanted: int | None = None
    here: int = 0  # of the wanted ones, those whose bytes are here now
    skipped: int = 0
    current: str | None = None  # the plugin that was begun last; a few others may be on their way
    ended: float | None = None
    problem: str | None = None  # why it was given up
    source_status: str | None = None  # as it began; None: there was nothing to sync

    @property
    def looked_at(self) -> int:
        """How many of the wanted ones it is through with."""
        return self.here + self.skipped


@dataclass(slots=True)
class SyncProgress:
    """How far one sync of a source is. `outcomes`: by slug, None if the listed version is here, else the reason."""

    author_data: AuthorData | None = None
    outcomes: dict[str, str | None] = field(default_factory=dict)
    steps: SyncSteps = field(default_factory=SyncSteps)

    def note(self, slug: str, reason: str | None) -> None:
        """A plugin was looked at: its listed version is here, or there is a reason why not."""
        self.outcomes[slug] = reason
        if reason is None:
            self.steps.here += 1
        else:
            self.steps.skipped += 1


class Progress:
    """The newest verification and sync of each source, of as many sources as are watched."""

    def __init__(self, clock: Callable[[], float], metrics: Metrics | None = None) -> None:
        self._clock = clock
        self._metrics = metrics or Metrics()
        self._verifications: OrderedDict[str, Steps] = OrderedDict()
        self._syncs: OrderedDict[str, SyncSteps] = OrderedDict()

    def verification(self, source_id: str) -> Steps | None:
        """The steps of the last verification that began; None if none did since the node started."""
        return self._verifications.get(source_id)

    def sync(self, source_id: str) -> SyncSteps | None:
        """How far the last sync that began is; None if none did since the node started."""
        return self._syncs.get(source_id)

    @contextmanager
    def verifying(self, source_id: str) -> Iterator[Steps]:
        """A verification begins, and is over at the end of the block."""
        steps = Steps(self._clock, self._clock())
        _put(self._verifications, source_id, steps)
        try:
            yield steps
        finally:
            steps.ended = self._clock()
            self._metrics.verifications.labels(steps.result or "not_done").inc()

    @contextmanager
    def syncing(self, source_id: str, steps: SyncSteps) -> Iterator[None]:
        """A sync begins, and is over at the end of the block."""
        steps.began = self._clock()
        _put(self._syncs, source_id, steps)
        try:
            yield
        finally:
            steps.current = None
            steps.ended = self._clock()
            if steps.source_status is not None:
                self._metrics.syncs.labels("failure" if steps.problem else "success", steps.source_status).inc()
                self._metrics.synced_plugins.labels("here").inc(steps.here)
                self._metrics.synced_plugins.labels("skipped").inc(steps.skipped)


def _put(watched: "OrderedDict[str, Watched]", source_id: str, steps: Watched) -> None:
    watched[source_id] = steps
    watched.move_to_end(source_id)
    while len(watched) > WATCHED_MAX:
        watched.popitem(last=False)
