"""Repairing gaps: finding out what a neighbour has and this node lacks, and fetching it.

When the digests of a link's two sets differ, one side asks for cells of the other's sketch until they decode
(cells_round.py): what that costs follows the difference, not the sets. It fetches what it lacks, offers what the other
side lacks, and checks the result by the set digest. What goes wrong leads up a ladder: another salt once, then pages
of ids, author by author, which need no secret and no estimate. A nearly empty node takes a snapshot instead.

A difference waits a little for the pushes in flight, except after a link was made or an author was admitted. What stays
after a round is remembered, and subtracted from then on. Rounds that bring nothing come ever more rarely.

A round ends, whatever the neighbour answers: pages must ascend, there are only so many fetches, and what did not fit
into one is asked for again only if something that was asked for came into the set.
"""

from collections.abc import Callable, Iterable, Mapping

from pfn_protocol.cells_round import CellsRound, RoundEnd
from pfn_protocol.cells_serving import RULE_BEGIN_AGAIN, RULE_NO_SUCH_SALT, RULE_OTHER_SCOPE, CellsServing
from pfn_protocol.comparison import Comparison, Round, Rung, goes_on
from pfn_protocol.limits import (
    authors_pages_max,
    fetch_ids_max,
    ids_pages_max,
    reconciliation_second_ms,
    reconciliation_wait_ms,
    round_fetches_max,
    tell_authors_ms_min,
)
from pfn_protocol.link_secrets import LinkSecrets
from pfn_protocol.link_set import LinkSet
from pfn_protocol.messages import (
    AuthorsAnswer,
    AuthorsRequest,
    CellsAnswer,
    CellsRequest,
    FetchRequest,
    IdsAnswer,
    IdsRequest,
    Request,
    SetStatus,
    SnapshotRequest,
)
from pfn_protocol.outgoing import InFlight, Outgoing, earliest
from pfn_protocol.prefixes import Prefixes
from pfn_protocol.registry import Registry
from pfn_protocol.sketch import Cells, Difference
from pfn_protocol.snapshot import Snapshot, is_nearly_empty

_NO_AUTHOR = bytes(32)
# Refusals of cells that say nothing against cells: the next status begins another round of them.
_PASSING = ("busy", RULE_OTHER_SCOPE, RULE_BEGIN_AGAIN)


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
        self._offer = offer
        self._prefixes = Prefixes(registry, outgoing)
        self._serving = CellsServing(registry, outgoing, self._prefixes, secrets)
        self._comparisons: dict[bytes, Comparison] = {}
        self._snapshot = Snapshot()
        self._next_ms: int | None = None  # not later than the first of their due times

    # Links, and how the sets stand.

    def open(self, peer: bytes, url: str, left_out: Iterable[bytes], now_ms: int) -> None:
        """There is a link; the first status decides."""
        former = self._comparisons.get(peer)
        link_set = former.link_set if former else LinkSet(self._registry, ())
        link_set.leave_out(left_out)
        self._comparisons[peer] = Comparison(url, link_set)
        self._snapshot.stop(peer)
        self._prefixes.keep_only(peer, self._secrets.salts)
        self._serving.open(peer, now_ms)

    def close(self, peer: bytes, now_ms: int) -> None:
        """The link is over."""
        self._comparisons.pop(peer, None)
        self._snapshot.stop(peer)
        self._serving.close(peer, now_ms)
        self._secrets.forget(peer)
        self._prefixes.keep_only(peer, self._secrets.salts)

    def stop(self, now_ms: int) -> None:
        """Answer all that wait for cells, and do nothing any more."""
        self._serving.stop(now_ms)
        self._comparisons.clear()

    def leave_out(self, peer: bytes, left_out: Iterable[bytes]) -> None:
        """The operator's word changed about whom to hear of."""
        self._comparisons[peer].link_set.leave_out(left_out)

    def be_eager(self) -> None:
        """An author was admitted: neighbours may have more of it, and what was settled no longer is."""
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
            comparison.rest()
        elif comparison.agrees(self._registry, now_ms):
            comparison.due_ms, comparison.eager = None, False
        elif comparison.round is None and comparison.settled != comparison.digests():
            wait_ms = 0 if comparison.eager else reconciliation_wait_ms
            if self._has_url and comparison.url and peer < self._registry.me:
                wait_ms += reconciliation_second_ms  # the other side begins: one round repairs both
            comparison.look_after(wait_ms, now_ms)
            self._next_ms = earliest(self._next_ms, comparison.due_ms)

    def flush(self, now_ms: int) -> None:
        """Begin the rounds whose time has come."""
        if self._next_ms is None or now_ms < self._next_ms:
            return
        for peer, comparison in self._comparisons.items():
            if comparison.due_ms is None or now_ms < comparison.due_ms:
                continue
            comparison.due_ms = None
            if comparison.url and comparison.round is None and not comparison.agrees(self._registry, now_ms):
                self._begin(peer, comparison, now_ms)
        self._next_ms = earliest(*(comparison.due_ms for comparison in self._comparisons.values()))

    @property
    def wake_at(self) -> int | None:
        """When `flush` has something to do next."""
        return self._next_ms

    @property
    def sketch_memory_bytes(self) -> int:
        """What the sketches of all links take."""
        return self._prefixes.memory_bytes

    def differences_found(self, peer: bytes) -> int:
        """How many announcements were found missing here, over this link."""
        comparison = self._comparisons.get(peer)
        return comparison.differences_found if comparison else 0

    # What neighbours ask.

    def asked_for_cells(self, peer: bytes, token: int, request: CellsRequest, now_ms: int) -> None:
        """Answer a request for cells, now or once they are made."""
        self._serving.answer(peer, token, request, self._comparisons[peer].link_set, now_ms)

    def heard_question(self, peer: bytes, request: Request) -> None:
        """A neighbour asks; whoever asks for authors tells its own."""
        if isinstance(request, AuthorsRequest):
            self._comparisons[peer].link_set.hear(request.mine, is_first=not request.after, is_last=request.is_last)

    # Rounds.

    def _begin(self, peer: bytes, comparison: Comparison, now_ms: int) -> None:
        assert comparison.their_status is not None, "who differs has said so"
        round_ = comparison.round = Round()
        if comparison.link_set.scope() == comparison.their_status.scope:
            self._compare(peer, comparison, round_, now_ms)
        elif now_ms >= comparison.tell_after_ms:
            comparison.tell_after_ms = now_ms + tell_authors_ms_min
            round_.is_telling = True
            self._ask_authors(peer, comparison, round_, b"", now_ms)
        else:
            comparison.round = None

    def _compare(self, peer: bytes, comparison: Comparison, round_: Round, now_ms: int) -> None:
        """Choose how, and ask for the first of it."""
        if is_nearly_empty(comparison):
            if self._snapshot.is_under_way:
                comparison.round, comparison.due_ms = None, now_ms + reconciliation_wait_ms
                self._next_ms = earliest(self._next_ms, comparison.due_ms)
            else:
                comparison.snapshot_taken = True
                self._ask(peer, comparison, self._snapshot.begin(peer), now_ms)
            return
        if comparison.rung is not Rung.PAGES and self._begin_cells(peer, comparison, round_, now_ms):
            return
        comparison.rung = Rung.PAGES
        self._ask_authors(peer, comparison, round_, b"", now_ms)

    def _begin_cells(self, peer: bytes, comparison: Comparison, round_: Round, now_ms: int) -> bool:
        """Ask for the first cells, and have this node's own made. False: there are none to be had."""
        salt = self._secrets.salt(peer, int(comparison.rung))
        if salt is None:
            return False
        cells = CellsRound(salt, comparison.link_set.scope())
        prefix = self._prefixes.find(peer, salt.key, now_ms)
        if prefix is not None and prefix.freeze_for_own(self._registry, now_ms):
            cells.mine = prefix.total
        elif not self._prefixes.want(peer, comparison.link_set, salt.key, cells.asked, now_ms):
            return False
        round_.cells = cells
        self._ask(peer, comparison, cells.request(), now_ms)
        return True

    def answered_cells(self, in_flight: InFlight, answer: CellsAnswer, now_ms: int) -> None:
        """Cells came."""
        found = self._round_of(in_flight)
        if found is None or found[1].cells is None:
            return
        found[1].cells.answer = answer
        self._work_on_cells(in_flight.peer, *found, found[1].cells, now_ms)

    def built(self, build_id: int, cells: Cells, now_ms: int) -> None:
        """A prefix was made: go on with what waits for it."""
        peer = self._prefixes.built(build_id, cells, now_ms)
        if peer is None:
            return
        comparison = self._comparisons.get(peer)
        if comparison is None:
            self._prefixes.keep_only(peer, self._secrets.salts)
            return
        self._serving.built(peer, comparison.link_set, now_ms)
        round_ = comparison.round
        if round_ is not None and round_.cells is not None and round_.cells.difference is None:
            prefix = self._prefixes.find(peer, round_.cells.salt.key, now_ms)
            if round_.cells.mine is None and prefix is not None:
                if not prefix.freeze_for_own(self._registry, now_ms):
                    comparison.give_up(now_ms)
                    return
                round_.cells.mine = prefix.total
            if round_.cells.answer is not None:
                self._work_on_cells(peer, comparison, round_, round_.cells, now_ms)

    def _work_on_cells(
        self, peer: bytes, comparison: Comparison, round_: Round, cells: CellsRound, now_ms: int
    ) -> None:
        prefix = self._prefixes.find(peer, cells.salt.key, now_ms)
        if cells.mine is None:
            return  # this node's own cells are being made
        if prefix is None or now_ms >= prefix.own_until_ms:
            comparison.give_up(now_ms)
            return
        if len(prefix.cells) < cells.asked:
            if not self._prefixes.want(peer, comparison.link_set, cells.salt.key, cells.asked, now_ms):
                self._climb(peer, comparison, round_, now_ms, to=Rung.PAGES)
            return
        outcome = cells.take(prefix)
        if isinstance(outcome, Difference):
            self._on_decoded(peer, comparison, round_, outcome, now_ms)
        elif outcome is None:
            if len(prefix.cells) < cells.asked:
                self._prefixes.want(peer, comparison.link_set, cells.salt.key, cells.asked, now_ms)
            self._ask(peer, comparison, cells.request(), now_ms)
        else:
            rung = Rung.PAGES if outcome is RoundEnd.TOO_LARGE else Rung(min(comparison.rung + 1, Rung.PAGES))
            self._climb(peer, comparison, round_, now_ms, to=rung)

    def _on_decoded(
        self, peer: bytes, comparison: Comparison, round_: Round, difference: Difference, now_ms: int
    ) -> None:
        round_.lacking = {one: None for one in difference.theirs if self._registry.find_short(one) is None}
        comparison.differences_found += len(round_.lacking)
        mine = [one for short in difference.mine if (one := self._registry.find_short(short)) is not None]
        fresh = comparison.not_yet_offered(mine)
        if fresh:
            round_.gained += len(fresh)
            self._offer(peer, fresh)
        self._go_on(peer, comparison, round_, now_ms)

    def answered_authors(self, in_flight: InFlight, answer: AuthorsAnswer, now_ms: int) -> bool:
        """A page of the neighbour's authors. Returns whether it goes on from where it was asked to."""
        found = self._round_of(in_flight)
        if found is None:
            return True
        comparison, round_ = found
        assert isinstance(in_flight.message, AuthorsRequest)
        if not goes_on(in_flight.message.after, [one.author for one in answer.authors]):
            comparison.round = None
            return False
        link_set, after = comparison.link_set, in_flight.message.after
        page = [(theirs.author, theirs.cap) for theirs in answer.authors]
        more = answer.more and bool(page) and round_.pages + 1 < authors_pages_max
        if not round_.heard_all:
            link_set.hear(page, is_first=not after, is_last=not more)
            round_.heard_all = not more
        round_.heard(answer.authors, link_set, self._registry)
        if more or not round_.told_all:
            self._ask_authors(in_flight.peer, comparison, round_, page[-1][0] if page else after or _NO_AUTHOR, now_ms)
        elif round_.is_telling:
            round_ = comparison.round = Round()
            self._compare(in_flight.peer, comparison, round_, now_ms)
        else:
            self._go_on(in_flight.peer, comparison, round_, now_ms)
        return True

    def answered_ids(self, in_flight: InFlight, answer: IdsAnswer, now_ms: int) -> bool:
        """A page of an author's ids. Returns whether it goes on from where it was asked to."""
        found = self._round_of(in_flight)
        if found is None:
            return True
        comparison, round_ = found
        assert isinstance(in_flight.message, IdsRequest)
        if not goes_on(in_flight.message.after, answer.ids):
            comparison.round = None
            return False
        author, cap = round_.to_compare[0]
        round_.theirs.update(dict.fromkeys(answer.ids))
        round_.pages += 1
        if answer.more and answer.ids and round_.pages < ids_pages_max:
            self._ask(in_flight.peer, comparison, IdsRequest(author, cap, answer.ids[-1]), now_ms)
            return True
        round_.to_compare.popleft()
        round_.lacking = {one: None for one in round_.theirs if not self._registry.knows(one)}
        comparison.differences_found += len(round_.lacking)
        if not self._has_url:  # the other side cannot ask in its turn
            self._offer(in_flight.peer, [one for one in self._registry.ids(author, cap) if one not in round_.theirs])
        self._go_on(in_flight.peer, comparison, round_, now_ms)
        return True

    def fetched(self, in_flight: InFlight, missing: Iterable[bytes], delivered: dict[bytes, bool], now_ms: int) -> None:
        """Announcements came. `delivered` says of each id whether it came into the set."""
        found = self._round_of(in_flight)
        if found is None:
            return
        comparison, round_ = found
        assert isinstance(in_flight.message, FetchRequest)
        round_.fetched(in_flight.message.ids, missing, delivered, self._registry)
        self._go_on(in_flight.peer, comparison, round_, now_ms)

    def answered_snapshot(
        self, in_flight: InFlight, after: bytes, delivered: Mapping[bytes, bool], now_ms: int
    ) -> bool:
        """A page of a snapshot came; `delivered` says of each id whether it came into the set.

        The next one follows, as long as they lead somewhere. Returns whether it goes on from where it was asked to.
        """
        found = self._round_of(in_flight)
        if found is None:
            return True
        comparison, round_ = found
        assert isinstance(in_flight.message, SnapshotRequest)
        if after and not goes_on(in_flight.message.after, [after]):
            comparison.round = None
            return False
        gained = round_.gain(delivered, self._registry)
        round_.fetches += 1
        following = self._snapshot.go_on(after, gained if round_.fetches < round_fetches_max else 0)
        if following is not None:
            self._ask(in_flight.peer, comparison, following, now_ms)
            return True
        self._end(in_flight.peer, comparison, round_, now_ms)
        comparison.due_ms = self._next_ms = now_ms  # what came meanwhile, and what others have
        return True

    def failed(self, in_flight: InFlight, rule: str, now_ms: int) -> None:
        """A request of a round came to nothing, or was refused by a rule: the next status begins a new one."""
        found = self._round_of(in_flight)
        if found is None:
            return
        comparison, round_ = found
        self._snapshot.stop(in_flight.peer)
        if isinstance(in_flight.message, CellsRequest) and rule and rule not in _PASSING:
            if rule == RULE_NO_SUCH_SALT:
                self._secrets.forget(in_flight.peer)
            self._climb(in_flight.peer, comparison, round_, now_ms, to=Rung.PAGES)
            return
        if isinstance(in_flight.message, CellsRequest) and not rule:
            comparison.rung = Rung(min(comparison.rung + 1, Rung.PAGES))  # perhaps it cannot answer this at all
        self._release(in_flight.peer, round_, now_ms)
        comparison.round = None

    def _go_on(self, peer: bytes, comparison: Comparison, round_: Round, now_ms: int) -> None:
        """Fetch what is lacking, then compare the next author, then rest."""
        may_fetch = round_.fetches < round_fetches_max
        if round_.lacking and may_fetch:
            round_.fetches += 1
            batch = tuple(round_.lacking)[:fetch_ids_max]
            for announcement_id in batch:
                del round_.lacking[announcement_id]
            self._ask(peer, comparison, FetchRequest(batch), now_ms)
        elif round_.to_compare and may_fetch:
            round_.pages, round_.theirs = 0, {}
            author, cap = round_.to_compare[0]
            self._ask(peer, comparison, IdsRequest(author, cap, b""), now_ms)
        else:
            self._end(peer, comparison, round_, now_ms)

    def _end(self, peer: bytes, comparison: Comparison, round_: Round, now_ms: int) -> None:
        """Everything was asked for. What this came to decides how the next difference is looked into."""
        if round_.cells is not None and round_.cells.difference is not None:
            right = round_.cells.is_right(self._registry)
            if right is False or (right is None and not round_.gained):
                self._climb(peer, comparison, round_, now_ms, to=Rung(min(comparison.rung + 1, Rung.PAGES)))
                return
            if right and not round_.gained:
                comparison.keep_unresolved(*round_.cells.whole(self._registry), now_ms)
        elif not round_.gained and comparison.their_status is not None:
            comparison.settled = comparison.digests()
        comparison.rung = Rung.FIRST_SALT
        self._release(peer, round_, now_ms)
        comparison.round = None
        comparison.count_fruit(round_.gained, now_ms)

    def _climb(self, peer: bytes, comparison: Comparison, round_: Round, now_ms: int, *, to: Rung) -> None:
        """This did not help: the next rung of the ladder, at once."""
        self._release(peer, round_, now_ms)
        comparison.rung = to
        comparison.round = Round(fetches=round_.fetches)
        self._compare(peer, comparison, comparison.round, now_ms)

    def _release(self, peer: bytes, round_: Round, now_ms: int) -> None:
        """This node's own cells need not stand still any more."""
        prefix = self._prefixes.find(peer, round_.cells.salt.key, now_ms) if round_.cells is not None else None
        if prefix is not None:
            prefix.own_until_ms = 0

    def _ask_authors(self, peer: bytes, comparison: Comparison, round_: Round, after: bytes, now_ms: int) -> None:
        self._ask(peer, comparison, round_.authors_request(comparison.link_set, after), now_ms)

    def _ask(self, peer: bytes, comparison: Comparison, message: Request, now_ms: int) -> None:
        comparison.request_id = self._outgoing.request(peer, comparison.url, message, now_ms)

    def _round_of(self, in_flight: InFlight) -> tuple[Comparison, Round] | None:
        """The round that this is the outcome for; None if its link is over or was made anew."""
        comparison = self._comparisons.get(in_flight.peer)
        if comparison is None or comparison.round is None or comparison.request_id != in_flight.request_id:
            return None
        return comparison, comparison.round
