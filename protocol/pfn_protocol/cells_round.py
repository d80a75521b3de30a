"""One round of cells from the asker's side: ask for a few, estimate, ask for as many as it takes, decode.

The round ends with the difference, or with the word that sketches are of no use here: too many differences, too many
batches, or an answer that cannot be. It never trusts an answer further than its own bounds: as many cells as were asked
for, of a set that stands still, in so many batches at most.
"""

from dataclasses import dataclass, field
from enum import Enum

from pfn_protocol.limits import (
    sketch_batch_max,
    sketch_batches_max,
    sketch_cell_bytes,
    sketch_cells_max,
    sketch_difference_max,
    sketch_first_cells,
)
from pfn_protocol.link_secrets import Salt
from pfn_protocol.messages import CellsAnswer, CellsRequest
from pfn_protocol.prefixes import Prefix
from pfn_protocol.registry import Registry
from pfn_protocol.set_digest import SetDigest
from pfn_protocol.sketch import Cells, Difference, cells_wanted

# Cells that came are a little too few to decode, now and then: then at least an eighth more is asked for.
_STEP = 8
# Decoding is not tried with fewer cells than the estimate says that there are ids.
_HOPELESS = 1.2


class RoundEnd(Enum):
    """Why a round ended without a difference."""

    STALLED = "the cells do not decode, or the answers cannot be"
    TOO_LARGE = "there are too many differences for a sketch"


@dataclass(slots=True)
class CellsRound:
    """A round under way."""

    salt: Salt
    scope: bytes
    asked: int = sketch_first_cells  # cells in all, with those of the request under way
    batches: int = 1
    answer: CellsAnswer | None = None  # the last one, until this node's own cells are there
    theirs: Cells | None = None
    state: tuple[int, bytes] | None = None  # how many ids their set has, and its digest, when the round began
    mine: SetDigest | None = None  # this node's set when the round began
    difference: Difference | None = None  # what it came to
    resolved: dict[bytes, bytes] = field(default_factory=dict)  # shortened id -> id, of what was fetched

    def request(self) -> CellsRequest:
        """What is asked for next."""
        start = len(self.theirs) if self.theirs is not None else 0
        return CellsRequest("", self.salt.name, self.scope, start, self.asked - start)

    def take(self, prefix: Prefix) -> Difference | RoundEnd | None:
        """Work on the answer that came. None: ask again."""
        answer = self.answer
        assert answer is not None, "there is an answer to work on"
        self.answer = None
        if not self._accept(answer):
            return RoundEnd.STALLED
        assert self.theirs is not None and self.mine is not None, "cells were accepted of a round that was begun"
        cells = self.theirs.subtract(prefix.cells.part(0, len(self.theirs)))
        more_there = answer.count - self.mine.count
        about = max(cells.estimate(more_there), abs(more_there))
        if about <= _HOPELESS * len(cells):
            difference = cells.decode(self.salt.key)
            if difference is not None:
                fits = len(difference.theirs) - len(difference.mine) == more_there
                self.difference = difference if fits else None
                return self.difference or RoundEnd.STALLED
        if about > sketch_difference_max:
            return RoundEnd.TOO_LARGE
        return self._ask_for(cells_wanted(about, guessed=self.batches == 1))

    def whole(self, registry: Registry) -> tuple[list[bytes], list[bytes]]:
        """The ids of the difference in full, as far as they are known: theirs and this node's."""
        assert self.difference is not None, "a difference was decoded"
        theirs = [self.resolved.get(short) or registry.find_short(short) for short in self.difference.theirs]
        mine = [registry.find_short(short) for short in self.difference.mine]
        return [one for one in theirs if one], [one for one in mine if one]

    def is_right(self, registry: Registry) -> bool | None:
        """Whether this node's set and the difference make the other one's, by the set digest.

        None: not everything of the difference could be had, so there is nothing to compare.
        """
        assert self.difference is not None and self.mine is not None and self.state is not None, "it was decoded"
        theirs, mine = self.whole(registry)
        if len(theirs) < len(self.difference.theirs) or len(mine) < len(self.difference.mine):
            return None
        total = self.mine.copy()
        for one in theirs:
            total.add(one)
        for one in mine:
            total.remove(one)
        return total.digest() == self.state[1]

    def _accept(self, answer: CellsAnswer) -> bool:
        start = len(self.theirs) if self.theirs is not None else 0
        if len(answer.cells) != (self.asked - start) * sketch_cell_bytes:
            return False
        if self.state not in (None, (answer.count, answer.digest)):
            return False
        self.state = (answer.count, answer.digest)
        cells = Cells.from_bytes(answer.cells)
        self.theirs = cells if self.theirs is None else self.theirs.joined(cells)
        return True

    def _ask_for(self, wanted: int) -> RoundEnd | None:
        have = self.asked
        self.asked = min(max(wanted, have + max(_STEP, have // _STEP)), have + sketch_batch_max, sketch_cells_max)
        self.batches += 1
        return RoundEnd.STALLED if self.asked == have or self.batches > sketch_batches_max else None
