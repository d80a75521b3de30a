"""Repairing gaps: finding out what a neighbour has and this node lacks, and fetching it.

When the digests of a link's two sets differ, one side asks for cells of the other's sketch until they decode
(rounds.py): what that costs follows the difference, not the sets. It fetches what it lacks, offers what the other side
lacks, and checks the result by the set digest. A nearly empty node takes a snapshot instead (snapshot.py).

A difference waits a little for the pushes in flight, except after a link was made or an author was admitted. What stays
after a round is remembered, and subtracted from then on. Rounds that bring nothing come ever more rarely, and every
round has a deadline, so that no neighbour is waited for for ever.
"""

from collections.abc import Callable, Iterable, Mapping

from pfn_protocol.cells_serving import CellsServing
from pfn_protocol.comparison import Comparison, Patience, Round
from pfn_protocol.events import CellsDecoded, PrefixBuilt
from pfn_protocol.limits import (
    peers_known_max,
    reconciliation_second_ms,
    reconciliation_wait_ms,
    round_answer_ms_max,
    round_ms_max,
    tell_authors_ms_min,
)
from pfn_protocol.link_secrets import LinkSecrets
from pfn_protocol.link_set import LinkSet
from pfn_protocol.messages import (
    AuthorsAnswer,
    AuthorsRequest,
    CellsAnswer,
    CellsRequest,
    IdsAnswer,
    IdsRequest,
    SetStatus,
    SnapshotRequest,
)
from pfn_protocol.outgoing import InFlight, Outgoing, earliest
from pfn_protocol.pages import Question, QuestionAnswer, answer_question
from pfn_protocol.prefixes import Prefixes
from pfn_protocol.registry import Registry
from pfn_protocol.rounds import Rounds
from pfn_protocol.snapshot import Snapshot, SnapshotProgress


class Reconciliation:
    """The comparisons with all neighbours."""

    def __init__(
        self,
        registry: Registry,
        outgoing: Outgoing,
        secrets: LinkSecrets,
        offer: Callable[[bytes, list[bytes]], None],
        *,
        has_url: bool,
    ) -> None:
        self._registry = registry
        self._outgoing = outgoing
        self._secrets = secrets
        self._has_url = has_url
        self._prefixes = Prefixes(registry, outgoing)
        self._serving = CellsServing(registry, outgoing, self._prefixes, secrets)
        self._comparisons: dict[bytes, Comparison] = {}
        self._patience: dict[bytes, Patience] = {}  # with neighbours whose link is over, if there is little left of it
        self._snapshot = Snapshot(registry, outgoing, self._comparisons)
        self._rounds = Rounds(
            registry, outgoing, secrets, self._prefixes, self._snapshot, self._comparisons, offer, has_url=has_url
        )

    # Links, and how the sets stand.

    def open(self, peer: bytes, url: str, left_out: Iterable[bytes], now_ms: int) -> None:
        """There is a link; the first status decides."""
        self._snapshot.leave(peer, now_ms)
        former = self._comparisons.get(peer)
        link_set = former.link_set if former else LinkSet(self._registry, ())
        link_set.leave_out(left_out)
        patience = former.cut_off(now_ms) if former else self._patience.pop(peer, None)
        comparison = self._comparisons[peer] = Comparison(url, link_set)
        if patience:
            comparison.go_on_from(patience)
        self._prefixes.keep_only(peer, self._secrets.salts)
        self._serving.open(peer, now_ms)

    def close(self, peer: bytes, now_ms: int) -> None:
        """The link is over."""
        self._snapshot.leave(peer, now_ms)
        comparison = self._comparisons.pop(peer, None)
        if comparison is not None:
            self._remember(peer, comparison.cut_off(now_ms), now_ms)
        self._serving.close(peer, now_ms)
        self._secrets.forget(peer)
        self._prefixes.keep_only(peer, self._secrets.salts)

    def stop(self, now_ms: int) -> None:
        """Answer all that wait for cells, and do nothing any more."""
        self._serving.stop(now_ms)
        for peer in self._comparisons:
            self._snapshot.leave(peer, now_ms)
        self._comparisons.clear()

    def clock_set_back(self, now_ms: int) -> None:
        """Whatever was planned lies too far ahead; all links were closed before."""
        self._patience.clear()
        self._prefixes.clock_set_back(now_ms)

    def leave_out(self, peer: bytes, left_out: Iterable[bytes]) -> None:
        """The operator's word changed about whom to hear of."""
        self._comparisons[peer].link_set.leave_out(left_out)

    def be_eager(self) -> None:
        """An author was admitted: neighbours may have more of it, and what was settled no longer is."""
        self._patience.clear()
        for comparison in self._comparisons.values():
            comparison.eager, comparison.settled = True, None
            comparison.tell_after_ms = comparison.quiet_until_ms = comparison.unresolved_until_ms = 0

    def status(self, peer: bytes) -> SetStatus:
        """How the link's set stands here."""
        return self._comparisons[peer].link_set.status()

    def heard_status(self, peer: bytes, status: SetStatus, now_ms: int) -> None:
        """A neighbour said how its set stands."""
        comparison = self._comparisons[peer]
        comparison.their_status = status
        if comparison.is_same():
            comparison.rest(now_ms)
        elif comparison.agrees(self._registry, now_ms):
            comparison.due_ms, comparison.eager = None, False
        elif comparison.round is None and comparison.settled != comparison.digests():
            is_filled = self._snapshot.is_worth_it(comparison)
            wait_ms = 0 if comparison.eager or is_filled else reconciliation_wait_ms
            if self._has_url and comparison.url and peer < self._registry.me and not is_filled:
                wait_ms += reconciliation_second_ms  # the other side begins: one round repairs both
            comparison.look_after(wait_ms, now_ms)

    def flush(self, now_ms: int) -> None:
        """Give up the rounds whose time is over, and begin those whose time has come."""
        self._snapshot.flush(now_ms)
        for peer, comparison in self._comparisons.items():
            if comparison.round is None and comparison.due_ms is None:
                continue
            if comparison.round is not None and not self._snapshot.gives(peer) and now_ms >= _deadline_ms(comparison):
                self._rounds.give_up(peer, comparison, now_ms)
            if comparison.due_ms is None or now_ms < comparison.due_ms:
                continue
            comparison.due_ms = None
            if comparison.url and comparison.round is None and not comparison.agrees(self._registry, now_ms):
                self._begin(peer, comparison, now_ms)

    @property
    def wake_at(self) -> int | None:
        """When `flush` has something to do next."""
        first_ms = self._snapshot.wake_at
        for peer, comparison in self._comparisons.items():
            if comparison.due_ms is not None:
                first_ms = earliest(first_ms, comparison.due_ms)
            if comparison.round is not None and not self._snapshot.gives(peer):
                first_ms = earliest(first_ms, _deadline_ms(comparison))
        return first_ms

    @property
    def snapshot_progress(self) -> SnapshotProgress | None:
        """How far the filling of this node has come; None if that is not under way."""
        return self._snapshot.progress

    @property
    def sketch_memory_bytes(self) -> int:
        """What the sketches of all links take."""
        return self._prefixes.memory_bytes

    def differences_found(self, peer: bytes) -> int:
        """How many announcements were found missing here, over this link."""
        comparison = self._comparisons.get(peer)
        return comparison.differences_found if comparison else 0

    def _remember(self, peer: bytes, patience: Patience, now_ms: int) -> None:
        if patience.fruitless or now_ms < max(patience.quiet_until_ms, patience.tell_after_ms):
            if len(self._patience) >= peers_known_max:
                del self._patience[next(iter(self._patience))]
            self._patience[peer] = patience

    # What neighbours ask.

    def asked_for_cells(self, peer: bytes, token: int, request: CellsRequest, now_ms: int) -> None:
        """Answer a request for cells, now or once they are made."""
        self._serving.answer(peer, token, request, self._comparisons[peer].link_set, now_ms)

    def asked(
        self, peer: bytes, question: Question, left_out: Iterable[bytes]
    ) -> tuple[QuestionAnswer, tuple[bytes, ...]]:
        """The answer to a neighbour's question, and the ids of the bodies that go into it.

        Whoever asks for authors tells its own. A snapshot is one of the link's set, as are the ids of everybody: both
        are without the authors that only one side admits.
        """
        link_set, absent = self._comparisons[peer].link_set, {*left_out}
        if isinstance(question, AuthorsRequest):
            link_set.hear(question.mine, is_first=not question.after, is_last=question.is_last)
        elif isinstance(question, SnapshotRequest | IdsRequest) and not question.author:
            absent.update(link_set.absent())
        answer, bodies = answer_question(self._registry, question, absent)
        if isinstance(answer, AuthorsAnswer) and not answer.more:
            link_set.told()
        return answer, bodies

    # Rounds.

    def _begin(self, peer: bytes, comparison: Comparison, now_ms: int) -> None:
        assert comparison.their_status is not None, "who differs has said so"
        if comparison.link_set.scope() == comparison.their_status.scope:
            comparison.round = Round(now_ms)
            self._rounds.compare(peer, comparison, comparison.round, now_ms)
        elif now_ms >= comparison.tell_after_ms:
            comparison.tell_after_ms = now_ms + tell_authors_ms_min
            self._rounds.tell_authors(peer, comparison, now_ms)

    def answered_cells(self, in_flight: InFlight, answer: CellsAnswer, now_ms: int) -> None:
        """Cells came."""
        self._rounds.answered_cells(in_flight, answer, now_ms)

    def answered_authors(self, in_flight: InFlight, answer: AuthorsAnswer, now_ms: int) -> bool:
        """A page of the neighbour's authors. Returns whether it goes on from where it was asked to."""
        return self._rounds.answered_authors(in_flight, answer, now_ms)

    def answered_ids(self, in_flight: InFlight, answer: IdsAnswer, now_ms: int) -> bool:
        """A page of an author's ids. Returns whether it goes on from where it was asked to."""
        return self._rounds.answered_ids(in_flight, answer, now_ms)

    def answered_snapshot(
        self, in_flight: InFlight, after: bytes, delivered: Mapping[bytes, bool], now_ms: int
    ) -> bool:
        """A page of a snapshot came; `delivered` says of each id whether it came into the set.

        Returns whether it goes on from where it was asked to.
        """
        if self._rounds.round_of(in_flight) is None:
            return True
        return self._snapshot.answered(in_flight, after, delivered, now_ms)

    def fetched(self, in_flight: InFlight, missing: Iterable[bytes], delivered: dict[bytes, bool], now_ms: int) -> None:
        """Announcements came. `delivered` says of each id whether it came into the set."""
        self._rounds.fetched(in_flight, missing, delivered, now_ms)

    def failed(self, in_flight: InFlight, rule: str, now_ms: int) -> None:
        """A request of a round came to nothing, or was refused by a rule."""
        if self._snapshot.gives(in_flight.peer) and self._rounds.round_of(in_flight) is not None:
            self._snapshot.give_back(in_flight.peer, now_ms)
        else:
            self._rounds.failed(in_flight, rule, now_ms)

    def computed(self, outcome: PrefixBuilt | CellsDecoded, now_ms: int) -> None:
        """A prefix was made, or cells were decoded: go on with what waits for it."""
        if isinstance(outcome, CellsDecoded):
            self._rounds.decoded(outcome.decode_id, outcome.difference, now_ms)
            return
        peer = self._prefixes.built(outcome.build_id, outcome.cells, now_ms)
        if peer is None:
            return
        comparison = self._comparisons.get(peer)
        if comparison is None:
            self._prefixes.keep_only(peer, self._secrets.salts)
            return
        self._serving.built(peer, comparison.link_set, now_ms)
        self._rounds.built(peer, comparison, now_ms)


def _deadline_ms(comparison: Comparison) -> int:
    """When the round of a link is given up."""
    assert comparison.round is not None, "a round is under way"
    return min(comparison.round.began_ms + round_ms_max, comparison.asked_ms + round_answer_ms_max)
