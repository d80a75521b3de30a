"""Which artifacts of a source a neighbour mirrors and this node does not: the same cells, of sets of sha256 (R125).

Asked on demand, when many artifacts of one source are wanted. Such a set is small beside the set of announcements, so
its cells are made for each request, of the set as it is; if it changes in the middle of a round, the round has failed,
and single artifacts are asked for with `have`. An answer is a claim and no more: what a neighbour says to mirror and
does not bring costs a failed fetch.
"""

from collections.abc import Collection

from pfn_protocol.cells_round import CellsRound, RoundEnd
from pfn_protocol.limits import mirror_cells_max, mirror_set_max, scope_bytes
from pfn_protocol.link_secrets import Salt
from pfn_protocol.messages import CellsAnswer, CellsRequest
from pfn_protocol.set_digest import SetDigest
from pfn_protocol.sketch import Cells, build_cells

# A mirror set is one of a source, whoever admits whom.
_NO_SCOPE = bytes(scope_bytes)


def mirror_cells(digests: Collection[bytes], salt: Salt, request: CellsRequest) -> CellsAnswer | None:
    """The answer of who mirrors these; None: the set is too large, or more cells are asked for than are made of one."""
    end = request.start + request.count
    if len(digests) > mirror_set_max or end > mirror_cells_max:
        return None
    cells = build_cells(digests, (), salt.key, end).part(request.start, end)
    return CellsAnswer(cells.to_bytes(), len(digests), SetDigest(digests).digest())


class MirrorRound:
    """One round with one neighbour, whose salt this is. `mine`: the sha256 that are mirrored here."""

    def __init__(self, source_id: str, salt: Salt, mine: Collection[bytes]) -> None:
        self._mine = mine
        self._round = CellsRound(salt, _NO_SCOPE, source_id, mine=SetDigest(mine))

    def request(self) -> CellsRequest | None:
        """What is asked for next; None: more than is ever answered."""
        return self._round.request() if self._round.asked <= mirror_cells_max else None

    def take(self, answer: CellsAnswer) -> tuple[bytes, ...] | RoundEnd | None:
        """Work on an answer, for up to 100 ms. The sha256 that only the neighbour mirrors, shortened; None: go on."""
        self._round.answer = answer
        outcome = self._round.take(build_cells(self._mine, (), self._round.salt.key, self._round.asked))
        if isinstance(outcome, Cells):
            difference = self._round.decoded(outcome.decode(self._round.salt.key))
            if difference is None or isinstance(difference, RoundEnd):
                return difference
            return difference.theirs
        return outcome
