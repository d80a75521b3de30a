"""Mirror sets: saying which artifacts of a source this node mirrors, and asking others, by cells (R125).

Before many artifacts of one source are fetched, its mirrors are asked once what they have of it that is not here: that
costs a few requests for each mirror, where asking for every artifact costs one each. What they say is only whom to ask
for the bytes first (availability.py).
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import trio

from pfn_node.mesh.availability import QUESTION_SECONDS_MAX, Availability
from pfn_node.mesh.blocking import InThread
from pfn_node.mesh.peer_client import PeerClient, PeerFailure
from pfn_node.store.database import Database
from pfn_node.store.holdings import held_digests
from pfn_node.store.rows import Peer
from pfn_protocol.cells_round import RoundEnd
from pfn_protocol.cells_serving import RULE_NO_SUCH_SALT, RULE_TOO_MANY_CELLS
from pfn_protocol.limits import mirror_set_max
from pfn_protocol.link_secrets import LinkSecrets
from pfn_protocol.messages import CellsAnswer, CellsRequest, RefusedAnswer
from pfn_protocol.mirror_sets import MirrorRound, mirror_cells

# Mirrors that are asked about one source; the best of them by rank.
MIRRORS_MAX = 16
# All of them are asked at once; who takes longer than a few questions may is asked artifact by artifact.
SURVEY_SECONDS_MAX = 15.0
# Answers for a node that nobody here pins: a node that follows a hundred sources asks three times for each. One takes
# a thread 0.1 s at most.
ANSWERS_AN_HOUR_MAX = 300
# Nodes whose answers are counted: far more than a node has links in an hour.
ASKERS_MAX = 4096

_HOUR_MS = 3_600_000


class MirrorSets:
    """Answers and asks. `secrets` gives those of the links; None while there are none."""

    def __init__(
        self,
        *,
        client: PeerClient,
        database: Database,
        availability: Availability,
        secrets: Callable[[], LinkSecrets | None],
        is_pinned: Callable[[bytes], bool],
        in_thread: InThread,
        now_ms: Callable[[], int],
    ) -> None:
        self._client = client
        self._database = database
        self._availability = availability
        self._secrets = secrets
        self._is_pinned = is_pinned
        self._in_thread = in_thread
        self._now_ms = now_ms
        self._answered: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # how often, and since when

    # ---- Answering.

    async def answer(self, sender: bytes, request: CellsRequest) -> CellsAnswer | RefusedAnswer:
        """Cells of what this node mirrors of the source that is named."""
        secrets = self._secrets()
        salt = secrets.salt_named(sender, request.salt) if secrets is not None else None
        if salt is None:
            return self._refusal(RULE_NO_SUCH_SALT, "This link has no such salt; ask with `have`.")
        if not self._within_budget(sender):
            return self._refusal(RULE_TOO_MANY_CELLS, "You had many answers like this within the hour.")
        digests = await self._database.read(lambda db: held_digests(db, request.set_name))
        answer = await self._in_thread(partial(mirror_cells, digests, salt, request))
        return answer or self._refusal(RULE_TOO_MANY_CELLS, "That is too much for cells; ask with `have`.")

    def _within_budget(self, sender: bytes) -> bool:
        if self._is_pinned(sender):
            return True
        count, since_ms = self._answered.pop(sender, (0, self._now_ms()))
        if not 0 <= self._now_ms() - since_ms < _HOUR_MS:  # over, or the clock was set back
            count, since_ms = 0, self._now_ms()
        self._answered[sender] = (count + 1, since_ms)
        if len(self._answered) > ASKERS_MAX:
            self._answered.popitem(last=False)
        return count < ANSWERS_AN_HOUR_MAX

    def _refusal(self, rule: str, sentence: str) -> RefusedAnswer:
        return RefusedAnswer(rule, sentence, self._now_ms())

    # ---- Asking.

    async def survey(self, source_id: str, mirrors: Sequence[Peer]) -> None:
        """Learn what each of these nodes mirrors of a source and this one does not."""
        mine = await self._database.read(lambda db: held_digests(db, source_id))
        if len(mine) > mirror_set_max:
            return
        with trio.move_on_after(SURVEY_SECONDS_MAX):
            async with trio.open_nursery() as nursery:
                for mirror in mirrors[:MIRRORS_MAX]:
                    nursery.start_soon(self._survey_one, source_id, mirror, mine)

    async def _survey_one(self, source_id: str, mirror: Peer, mine: Sequence[bytes]) -> None:
        secrets = self._secrets()
        salt = secrets.salt(mirror.node_id, 0) if secrets is not None else None
        if salt is None or mirror.url is None:
            return  # it is no neighbour, so there is no secret between us
        round_ = MirrorRound(source_id, salt, mine)
        while (request := round_.request()) is not None:
            try:
                exchange = await self._client.send(mirror.node_id, mirror.url, request, QUESTION_SECONDS_MAX)
            except PeerFailure:
                return
            if not isinstance(exchange.answer, CellsAnswer):
                return
            outcome = await self._in_thread(partial(round_.take, exchange.answer))
            if isinstance(outcome, RoundEnd):
                return
            if outcome is not None:
                self._availability.learn(mirror.node_id, outcome)
                return
