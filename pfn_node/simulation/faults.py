"""What goes wrong on the way between nodes. Frozen: a network is given other faults, never changed ones."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Faults:
    """The state of all paths. The default is a healthy wide-area network."""

    loss: float = 0.0  # the chance that a request is lost, and again that its answer is
    duplication: float = 0.0  # the chance that a request arrives a second time, as one that was replayed
    delay_ms: tuple[int, int] = (5, 50)  # each way; different delays are also what reorders
    cuts: frozenset[tuple[str, str]] = frozenset()  # (from, to): no request of the one reaches the other
    islands: tuple[frozenset[str], ...] = ()  # who is on one reaches nobody outside of it, and is not reached

    def connects(self, sender: str, receiver: str) -> bool:
        """Whether a request finds a way at all; if not, the sender is told at once."""
        if (sender, receiver) in self.cuts:
            return False
        return all((sender in island) == (receiver in island) for island in self.islands)
