"""Repairing gaps: finding out what a neighbour has and this node lacks, and fetching it.

When the digests of a link's two sets differ, one side asks for cells of the other's sketch until they decode
(cells_round.py): what that costs follows the difference, not the sets. It fetches what it lacks, offers what the other
side lacks, and checks the result by the set digest. What goes wrong leads up a ladder: another salt once, then pages
of ids, author by author, which need no secret and no estimate. A nearly empty node takes a snapshot instead.

A difference waits a little for the pushes in flight, except right after a link was made or an author was admitted.
What stays different after a round (one side holds what the other does not take) is remembered, and subtracted from
then on. Rounds that bring nothing come ever more rarely, whatever the other side says.
"""

from collections.abc import Callable, Iterable

from pfn_protocol.cells_round import CellsRound, RoundEnd
from pfn_protocol.cells_serving import RULE_BEGIN_AGAIN, RULE_NO_SUCH_SALT, RULE_OTHER_SCOPE, CellsServing
from pfn_protocol.comparison import Comparison, Round, Rung
from pfn_protocol.limits import (
    authors_pages_max,
    fetch_ids_max,
    ids_pages_max,
    offered_ids_max,
    offered_remembered_max,
    reconciliation_second_ms,
    reconciliation_wait_ms,
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
)
from pfn_protocol.outgoing import InFlight, Outgoing, earliest
from pfn_protocol.prefixes import Prefixes
from pfn_protocol.registry import Registry
from pfn_protocol.sketch import Cells, Difference
from pfn_protocol.sketch_walk import shortened
from pfn_protocol.snapshot import Snapshot, is_nearly_empty

_NO_AUTHOR = bytes(32)


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

    # Links, and how the sets stand.

    def open(self, peer: bytes, url: str, left_out: Iterable[bytes], now_ms: int) -> None:
        """There is a link; the first status decides."""
        former = self._comparisons.get(peer)
        link_set = former.link_set if former else LinkSet(self._registry, ())
        link_set.leave_out(left_out)
        self._comparisons[peer] = Comparison(url, link_set)
        self._snapshot.stop(peer)
        self._prefixes.keep_only(peer, self._secrets.salts(peer))
        self._serving.open(peer, now_ms)

    def close(self, peer: bytes, now_ms: int) -> None:
        """The link is over."""
        self._comparisons.pop(peer, None)
        self._snapshot.stop(peer)
        self._serving.close(peer, now_ms)
        self._secrets.forget(peer)
        self._prefixes.keep_only(peer, [])

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
        elif comparison.round is None and comparison.settled != self._digests(comparison):
            wait_ms = 0 if comparison.eager else reconciliation_wait_ms
            if self._has_url and comparison.url and peer < self._registry.me:
                wait_ms += reconciliation_second_ms  # the other side begins: one round repairs both
            due_ms = max(now_ms + wait_ms, comparison.quiet_until_ms)
            comparison.due_ms = earliest(comparison.due_ms, due_ms)
            comparison.eager = False

    def flush(self, now_ms: int) -> None:
        """Begin the rounds whose time has come."""
        for peer, comparison in self._comparisons.items():
            if comparison.due_ms is None or now_ms < comparison.due_ms:
                continue
            comparison.due_ms = None
            if comparison.url and comparison.round is None and not comparison.agrees(self._registry, now_ms):
                self._begin(peer, comparison, now_ms)

    @property
    def wake_at(self) -> int | None:
        """When `flush` has something to do next."""
        return earliest(*(comparison.due_ms for comparison in self._comparisons.values()))

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
            link_set = self._comparisons[peer].link_set
            link_set.hear(request.mine, is_first=not request.after, is_last=request.is_last)

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
            self._prefixes.keep_only(peer, [])
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
        fresh = [one for one in mine if one not in comparison.offered][:offered_ids_max]
        if fresh:
            if len(comparison.offered) >= offered_remembered_max:
                comparison.offered.clear()
            comparison.offered.update(dict.fromkeys(fresh))
            round_.gained += len(fresh)
            self._offer(peer, fresh)
        self._go_on(peer, comparison, round_, now_ms)

    def answered_authors(self, in_flight: InFlight, answer: AuthorsAnswer, now_ms: int) -> None:
        """A page of the neighbour's authors."""
        found = self._round_of(in_flight)
        if found is None:
            return
        comparison, round_ = found
        assert isinstance(in_flight.message, AuthorsRequest)
        link_set, after = comparison.link_set, in_flight.message.after
        page = [(theirs.author, theirs.cap) for theirs in answer.authors]
        more = answer.more and bool(page) and round_.pages + 1 < authors_pages_max
        if not round_.heard_all:
            link_set.hear(page, is_first=not after, is_last=not more)
            round_.heard_all = not more
        for theirs in answer.authors:
            cap = min(theirs.cap, self._registry.cap(theirs.author))
            if round_.is_telling or not cap or link_set.leaves_out(theirs.author):
                continue
            if self._registry.summary(theirs.author, cap) != (theirs.count, theirs.digest):
                round_.to_compare.append((theirs.author, cap))
        round_.pages += 1
        if more or not round_.told_all:
            self._ask_authors(in_flight.peer, comparison, round_, page[-1][0] if page else after or _NO_AUTHOR, now_ms)
        elif round_.is_telling:
            round_ = comparison.round = Round()
            self._compare(in_flight.peer, comparison, round_, now_ms)
        else:
            self._go_on(in_flight.peer, comparison, round_, now_ms)

    def answered_ids(self, in_flight: InFlight, answer: IdsAnswer, now_ms: int) -> None:
        """A page of an author's ids."""
        found = self._round_of(in_flight)
        if found is None:
            return
        comparison, round_ = found
        author, cap = round_.to_compare[0]
        round_.theirs.update(dict.fromkeys(answer.ids))
        round_.pages += 1
        if answer.more and answer.ids and round_.pages < ids_pages_max:
            self._ask(in_flight.peer, comparison, IdsRequest(author, cap, answer.ids[-1]), now_ms)
            return
        round_.to_compare.popleft()
        round_.lacking = {one: None for one in round_.theirs if not self._registry.knows(one)}
        comparison.differences_found += len(round_.lacking)
        if not self._has_url:  # the other side cannot ask in its turn
            self._offer(in_flight.peer, [one for one in self._registry.ids(author, cap) if one not in round_.theirs])
        self._go_on(in_flight.peer, comparison, round_, now_ms)

    def fetched(self, in_flight: InFlight, missing: Iterable[bytes], delivered: dict[bytes, bool], now_ms: int) -> None:
        """Announcements came. `delivered` says of each id whether it was new."""
        found = self._round_of(in_flight)
        if found is None:
            return
        comparison, round_ = found
        assert isinstance(in_flight.message, FetchRequest)
        gained = sum(delivered.values())
        round_.gained += gained
        came = {shortened(one): one for one in delivered}
        if round_.cells is not None:
            round_.cells.resolved.update(came)
        gone = dict.fromkeys(missing)
        if gained:
            left = [one for one in in_flight.message.ids if one not in gone and shortened(one) not in came]
            round_.lacking.update({one: None for one in left if self._registry.find_short(shortened(one)) is None})
        self._go_on(in_flight.peer, comparison, round_, now_ms)

    def answered_snapshot(self, in_flight: InFlight, after: bytes, gained: int, now_ms: int) -> None:
        """A page of a snapshot came; `gained` of it was new. The next one follows, as long as they lead somewhere."""
        found = self._round_of(in_flight)
        if found is None:
            return
        comparison, round_ = found
        round_.gained += gained
        following = self._snapshot.go_on(after, gained)
        if following is not None:
            self._ask(in_flight.peer, comparison, following, now_ms)
            return
        self._end(in_flight.peer, comparison, round_, now_ms)
        comparison.due_ms = now_ms  # what came meanwhile, and what others have

    def failed(self, in_flight: InFlight, rule: str, now_ms: int) -> None:
        """A request of a round came to nothing, or was refused by a rule: the next status begins a new one."""
        found = self._round_of(in_flight)
        if found is None:
            return
        comparison, round_ = found
        self._snapshot.stop(in_flight.peer)
        if isinstance(in_flight.message, CellsRequest) and rule not in ("", RULE_OTHER_SCOPE, RULE_BEGIN_AGAIN):
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
        if round_.lacking:
            batch = tuple(round_.lacking)[:fetch_ids_max]
            for announcement_id in batch:
                del round_.lacking[announcement_id]
            self._ask(peer, comparison, FetchRequest(batch), now_ms)
        elif round_.to_compare:
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
            comparison.settled = self._digests(comparison)
        comparison.rung = Rung.FIRST_SALT
        self._release(peer, round_, now_ms)
        comparison.round = None
        comparison.count_fruit(round_.gained, now_ms)

    def _climb(self, peer: bytes, comparison: Comparison, round_: Round, now_ms: int, *, to: Rung) -> None:
        """This did not help: the next rung of the ladder, at once."""
        self._release(peer, round_, now_ms)
        comparison.rung = to
        comparison.round = Round()
        self._compare(peer, comparison, comparison.round, now_ms)

    def _release(self, peer: bytes, round_: Round, now_ms: int) -> None:
        """This node's own cells need not stand still any more."""
        if round_.cells is not None:
            prefix = self._prefixes.find(peer, round_.cells.salt.key, now_ms)
            if prefix is not None:
                prefix.own_until_ms = 0

    def _digests(self, comparison: Comparison) -> tuple[bytes, bytes]:
        theirs = comparison.their_status
        return comparison.link_set.status().digest, theirs.digest if theirs else b""

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
