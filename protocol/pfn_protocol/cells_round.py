"""One round of cells from the asker's side: ask for a few, estimate, ask for as many as it takes, decode.

The round ends with the difference, or with the word that sketches are of no use here: too many differences, too many
tries, or an answer that cannot be. It never trusts an answer further than its own bounds: as many cells as were asked
for, of a set that stands still, in so many tries at most.
"""

from dataclasses import dataclass, field
from enum import Enum

from pfn_protocol.limits import (
    sketch_batch_max,
    sketch_cell_bytes,
    sketch_cells_max,
    sketch_difference_max,
    sketch_estimated_max,
    sketch_first_cells,
    sketch_guess_max,
    sketch_second_cells,
    sketch_tries_max,
    sketch_verified_max,
)
from pfn_protocol.link_secrets import Salt
from pfn_protocol.messages import CellsAnswer, CellsRequest
from pfn_protocol.registry import Registry
from pfn_protocol.set_digest import SetDigest
from pfn_protocol.sketch import Cells, Difference, cells_wanted

# Cells that came are a little too few to decode, now and then: then at least an eighth more is asked for.
_STEP = 8
# Decoding is not tried with fewer cells than the estimate says that there are ids.
_HOPELESS = 1.2


class RoundEnd(Enum):
    """Why a round does not go on by itself."""

    STALLED = "the cells do not decode, or the answers cannot be"
    TOO_LARGE = "there are too many differences for a sketch"
    MANY = "there are so many differences that pages of ids may be cheaper; weigh it, once"


@dataclass(slots=True)
class CellsRound:
    """A round under way. `set_name` empty: the link's set; else the source whose mirror set is compared."""

    salt: Salt
    scope: bytes
    set_name: str = ""
    goal: int = sketch_first_cells  # cells that are to be there before the next look at them
    asked: int = sketch_first_cells  # cells in all, with those of the request under way
    tries: int = 1
    about: float = 0.0  # the estimate of the difference
    is_weighed: bool = False  # against pages of ids
    decode_id: int | None = None  # the decoding under way, in a thread
    answer: CellsAnswer | None = None  # the last one, until this node's own cells are there
    theirs: Cells | None = None
    state: tuple[int, bytes] | None = None  # how many ids their set has, and its digest, when the round began
    mine: SetDigest | None = None  # this node's set when the round began
    difference: Difference | None = None  # what it came to
    resolved: dict[bytes, bytes] = field(default_factory=dict)  # shortened id -> id, of what was fetched

    def request(self) -> CellsRequest:
        """What is asked for next."""
        start = len(self.theirs) if self.theirs is not None else 0
        return CellsRequest(self.set_name, self.salt.name, self.scope, start, self.asked - start)

    def take(self, own: Cells) -> Cells | RoundEnd | None:
        """Work on the answer that came, with this node's own cells. Cells: decode these. None: ask again."""
        answer = self.answer
        assert answer is not None, "there is an answer to work on"
        self.answer = None
        if not self._accept(answer):
            return RoundEnd.STALLED
        assert self.theirs is not None and self.mine is not None, "cells were accepted of a round that was begun"
        if self.asked < self.goal:
            self.asked = min(self.goal, self.asked + sketch_batch_max)
            return None
        cells = self.theirs.subtract(own.part(0, len(self.theirs)))
        more_there = answer.count - self.mine.count
        self.about = max(cells.part(0, sketch_estimated_max).estimate(more_there), abs(more_there))
        return cells if self.about <= _HOPELESS * len(cells) else self._ask_for_more()

    def decoded(self, difference: Difference | None) -> Difference | RoundEnd | None:
        """What came of decoding. None: ask again."""
        assert self.mine is not None and self.state is not None, "cells of a round were decoded"
        if difference is None:
            return self._ask_for_more()
        if len(difference.theirs) - len(difference.mine) != self.state[0] - self.mine.count:
            return RoundEnd.STALLED
        self.difference = difference
        return difference

    def bytes_to_come(self) -> int:
        """What the cells cost that are still to be asked for."""
        return (self.goal - (len(self.theirs) if self.theirs is not None else 0)) * sketch_cell_bytes

    def whole(self, registry: Registry) -> tuple[list[bytes], list[bytes]]:
        """The ids of the difference in full, as far as they are known: theirs and this node's."""
        assert self.difference is not None, "a difference was decoded"
        theirs = [self.resolved.get(short) or registry.find_short(short) for short in self.difference.theirs]
        mine = [registry.find_short(short) for short in self.difference.mine]
        return [one for one in theirs if one], [one for one in mine if one]

    def is_right(self, registry: Registry) -> bool | None:
        """Whether this node's set and the difference make the other one's, by the set digest.

        None: not everything of the difference could be had, or it is too large to be added up at once; then the next
        status says it.
        """
        assert self.difference is not None and self.mine is not None and self.state is not None, "it was decoded"
        if len(self.difference.theirs) + len(self.difference.mine) > sketch_verified_max:
            return None
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

    def _ask_for_more(self) -> RoundEnd | None:
        """Aim at as many cells as the estimate says; a first look that says "many" is followed by a better one."""
        have = self.asked
        if self.about > sketch_guess_max and have < sketch_second_cells:
            wanted = sketch_second_cells
        elif self.about > sketch_difference_max:
            return RoundEnd.TOO_LARGE
        else:
            wanted = cells_wanted(self.about, guessed=self.tries == 1)
        self.goal = min(max(wanted, have + max(_STEP, have // _STEP)), sketch_cells_max)
        self.asked = min(self.goal, have + sketch_batch_max)
        self.tries += 1
        if self.goal == have or self.tries > sketch_tries_max:
            return RoundEnd.STALLED
        if self.about <= sketch_guess_max or have < sketch_second_cells or self.is_weighed:
            return None
        self.is_weighed = True
        return RoundEnd.MANY
