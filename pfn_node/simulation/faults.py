"""What goes wrong in a network: on the ways between nodes, in the nodes, and with their clocks.

Frozen: a network is given other faults, never changed ones. Everything that is left to chance is drawn from the
network's own dice, so a seed repeats it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from random import Random


@dataclass(frozen=True, slots=True)
class Faults:
    """The state of all paths, nodes and clocks. The default is a healthy wide-area network."""

    loss: float = 0.0  # the chance that a request is lost, and again that its answer is
    duplication: float = 0.0  # the chance that a request arrives a second time, as one that was replayed
    delay_ms: tuple[int, int] = (5, 50)  # each way; different delays are also what reorders
    reordering: float = 0.0  # the chance that something is overtaken: it takes up to `overtaken_ms` longer
    overtaken_ms: int = 2_000
    cuts: frozenset[tuple[str, str]] = frozenset()  # (from, to): no request of the one reaches the other
    islands: tuple[frozenset[str], ...] = ()  # who is on one reaches nobody outside of it, and is not reached
    slow: Mapping[str, int] = field(default_factory=dict)  # who takes how many ms to answer; may be beyond deadlines
    full: Mapping[str, float] = field(default_factory=dict)  # whose queue is full, with what chance at each request
    clocks_ahead_ms: Mapping[str, int] = field(default_factory=dict)  # whose clock is wrong; negative: behind
    crashes_per_hour: float = 0.0  # of each honest node
    down_ms: tuple[int, int] = (1_000, 600_000)  # how long a crashed one is away
    old_backups: float = 0.0  # the chance that one comes back not from what it kept but from a backup made earlier

    def connects(self, sender: str, receiver: str) -> bool:
        """Whether a request finds a way at all; if not, the sender is told at once."""
        if (sender, receiver) in self.cuts:
            return False
        return all((sender in island) == (receiver in island) for island in self.islands)

    def draw_late_ms(self, dice: Random, answerer: str = "") -> int:
        """How much later than usual something arrives this time."""
        late_ms = self.slow.get(answerer, 0)
        if self.reordering and dice.random() < self.reordering:
            late_ms += dice.randint(1, self.overtaken_ms)
        return late_ms

    def refuses(self, receiver: str, dice: Random) -> bool:
        """Whether the receiver's engine has no room for this request."""
        chance = self.full.get(receiver, 0.0)
        return chance > 0 and dice.random() < chance

    def without(self, one: str, other: str) -> "Faults":
        """The same with no way from one node to the other; the way back stays."""
        return replace(self, cuts=self.cuts | {(one, other)})

    def with_island(self, names: Iterable[str]) -> "Faults":
        """The same with these on an island of their own."""
        return replace(self, islands=(*self.islands, frozenset(names)))

    def with_clock(self, name: str, ahead_ms: int) -> "Faults":
        """The same with this clock wrong by so much."""
        return replace(self, clocks_ahead_ms={**self.clocks_ahead_ms, name: ahead_ms})
