"""The rounds of reconciliation from the asker's side, whatever the rung of the ladder.

A round of cells (cells_round.py) finds the difference, and what is lacking here is fetched. What goes wrong leads up
the ladder: another salt once, then pages of ids, author by author, which need no secret and no estimate. A difference
so large that pages may cost less than cells is weighed first: the neighbour's list of authors says how many ids of
those that differ there are.

A round ends, whatever the neighbour answers: pages must ascend, there are only so many fetches, what did not fit into
one is asked for again only if something that was asked for came into the set, and all of it has a deadline.
"""

from collections.abc import Callable, Iterable, Mapping

from pfn_protocol.cells_round import CellsRound, RoundEnd
from pfn_protocol.cells_serving import RULE_BEGIN_AGAIN, RULE_NO_SUCH_SALT, RULE_OTHER_SCOPE
from pfn_protocol.comparison import Comparison, Round, Rung, goes_on
from pfn_protocol.effects import DecodeCells
from pfn_protocol.limits import (
    authors_pages_max,
    fetch_ids_max,
    fetch_shared_ms_max,
    ids_pages_max,
    round_fetches_max,
    sketch_frozen_ms,
    sketch_id_bytes,
    sketch_inline_cells_max,
)
from pfn_protocol.link_secrets import LinkSecrets
from pfn_protocol.messages import (
    AuthorsAnswer,
    AuthorsRequest,
    CellsAnswer,
    CellsRequest,
    FetchRequest,
    IdsAnswer,
    IdsRequest,
)
from pfn_protocol.outgoing import InFlight, Outgoing
from pfn_protocol.pages import shortened_between
from pfn_protocol.prefixes import Prefixes
from pfn_protocol.registry import Registry
from pfn_protocol.sketch import Cells, Difference
from pfn_protocol.snapshot import Snapshot

_NO_AUTHOR = bytes(32)
# What an author costs in a list of authors, about; weighing may cost a tenth of the cells that it is about.
_AUTHOR_BYTES = 80
_WEIGHING_PART = 10
RULE_BUSY = "busy"
# Refusals of cells that say nothing against cells: the next status begins another round of them.
_PASSING = (RULE_BUSY, RULE_OTHER_SCOPE, RULE_BEGIN_AGAIN)


class Rounds:
    """The rounds of all links."""

    def __init__(
        self,
        registry: Registry,
        outgoing: Outgoing,
        secrets: LinkSecrets,
        prefixes: Prefixes,
        snapshot: Snapshot,
        comparisons: Mapping[bytes, Comparison],
        offer: Callable[[bytes, list[bytes]], None],
        *,
        has_url: bool,
    ) -> None:
        self._registry = registry
        self._outgoing = outgoing
        self._secrets = secrets
        self._prefixes = prefixes
        self._snapshot = snapshot
        self._comparisons = comparisons
        self._offer = offer
        self._has_url = has_url
        self._last_decode_id = 0

    def tell_authors(self, peer: bytes, comparison: Comparison, now_ms: int) -> None:
        """Have both sides tell whom they admit, then compare."""
        comparison.round = Round(now_ms, is_telling=True)
        self._ask_authors(peer, comparison, comparison.round, b"", now_ms)

    def compare(self, peer: bytes, comparison: Comparison, round_: Round, now_ms: int) -> None:
        """Choose how, and ask for the first of it."""
        if self._snapshot.take(peer, comparison, now_ms):
            return
        if comparison.rung is not Rung.PAGES and self._begin_cells(peer, comparison, round_, now_ms):
            return
        comparison.rung = Rung.PAGES
        self._ask_authors(peer, comparison, round_, b"", now_ms)

    # Cells.

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
        comparison.ask(self._outgoing, peer, cells.request(), now_ms)
        return True

    def answered_cells(self, in_flight: InFlight, answer: CellsAnswer, now_ms: int) -> None:
        """Cells came."""
        found = self.round_of(in_flight)
        if found is None or found[1].cells is None:
            return
        found[1].cells.answer = answer
        self._work_on_cells(in_flight.peer, *found, found[1].cells, now_ms)

    def built(self, peer: bytes, comparison: Comparison, now_ms: int) -> None:
        """A prefix of this link was made: go on with what waits for it."""
        round_ = comparison.round
        if round_ is None or round_.cells is None or round_.cells.difference is not None:
            return
        prefix = self._prefixes.find(peer, round_.cells.salt.key, now_ms)
        if round_.cells.mine is None and prefix is not None:
            if not prefix.freeze_for_own(self._registry, now_ms):
                self.give_up(peer, comparison, now_ms)
                return
            round_.cells.mine = prefix.total
        if round_.cells.answer is not None:
            self._work_on_cells(peer, comparison, round_, round_.cells, now_ms)

    def decoded(self, decode_id: int, difference: Difference | None, now_ms: int) -> None:
        """Cells were decoded in a thread."""
        for peer, comparison in self._comparisons.items():
            round_ = comparison.round
            if round_ is not None and round_.cells is not None and round_.cells.decode_id == decode_id:
                round_.cells.decode_id = None
                outcome = round_.cells.decoded(difference)
                self._on_outcome(peer, comparison, round_, round_.cells, outcome, now_ms)
                return

    def _work_on_cells(
        self, peer: bytes, comparison: Comparison, round_: Round, cells: CellsRound, now_ms: int
    ) -> None:
        prefix = self._prefixes.find(peer, cells.salt.key, now_ms)
        if cells.mine is None:
            return  # this node's own cells are being made
        if prefix is None or now_ms >= prefix.own_until_ms:
            self.give_up(peer, comparison, now_ms)
            return
        if len(prefix.cells) < cells.asked:
            if not self._prefixes.want(peer, comparison.link_set, cells.salt.key, cells.goal, now_ms):
                self._climb(peer, comparison, round_, now_ms, to=Rung.PAGES)
            return
        prefix.own_until_ms = now_ms + sketch_frozen_ms
        outcome: Cells | Difference | RoundEnd | None = cells.take(prefix.cells)
        if isinstance(outcome, Cells):
            if len(outcome) > sketch_inline_cells_max:
                self._last_decode_id += 1
                cells.decode_id = self._last_decode_id
                self._outgoing.add(DecodeCells(cells.decode_id, outcome, cells.salt.key))
                return
            outcome = cells.decoded(outcome.decode(cells.salt.key))
        self._on_outcome(peer, comparison, round_, cells, outcome, now_ms)

    def _on_outcome(
        self,
        peer: bytes,
        comparison: Comparison,
        round_: Round,
        cells: CellsRound,
        outcome: Difference | RoundEnd | None,
        now_ms: int,
    ) -> None:
        if isinstance(outcome, Difference):
            self._on_decoded(peer, comparison, round_, outcome, now_ms)
        elif outcome is None:
            self._ask_for_cells(peer, comparison, cells, now_ms)
        elif outcome is RoundEnd.MANY:
            self._weigh(peer, comparison, round_, cells, now_ms)
        else:
            rung = Rung.PAGES if outcome is RoundEnd.TOO_LARGE else Rung(min(comparison.rung + 1, Rung.PAGES))
            self._climb(peer, comparison, round_, now_ms, to=rung)

    def _ask_for_cells(self, peer: bytes, comparison: Comparison, cells: CellsRound, now_ms: int) -> None:
        prefix = self._prefixes.find(peer, cells.salt.key, now_ms)
        if prefix is not None and len(prefix.cells) < cells.asked:  # have them made while the others are on their way
            self._prefixes.want(peer, comparison.link_set, cells.salt.key, cells.goal, now_ms)
        comparison.ask(self._outgoing, peer, cells.request(), now_ms)

    def _weigh(self, peer: bytes, comparison: Comparison, round_: Round, cells: CellsRound, now_ms: int) -> None:
        """Ask for the list of authors, if that costs little beside the cells: it says what pages would cost."""
        if self._registry.authors * _AUTHOR_BYTES * _WEIGHING_PART > cells.bytes_to_come():
            self._ask_for_cells(peer, comparison, cells, now_ms)
        else:
            self._ask_authors(peer, comparison, round_, b"", now_ms)

    def _on_weighed(self, peer: bytes, comparison: Comparison, round_: Round, cells: CellsRound, now_ms: int) -> None:
        if round_.to_compare and round_.ids_to_compare * sketch_id_bytes <= cells.bytes_to_come():
            self._release(peer, round_, now_ms)
            comparison.rung, round_.cells = Rung.PAGES, None
            round_.begin_pages()
            self._go_on(peer, comparison, round_, now_ms)
        else:
            round_.to_compare.clear()
            self._ask_for_cells(peer, comparison, cells, now_ms)

    def _on_decoded(
        self, peer: bytes, comparison: Comparison, round_: Round, difference: Difference, now_ms: int
    ) -> None:
        round_.lacking.extend(one for one in difference.theirs if self._registry.find_short(one) is None)
        comparison.differences_found += len(round_.lacking)
        mine = [one for short in difference.mine if (one := self._registry.find_short(short)) is not None]
        fresh = comparison.not_yet_offered(mine)
        if fresh:
            round_.gained += len(fresh)
            self._offer(peer, fresh)
        self._go_on(peer, comparison, round_, now_ms)

    # Pages.

    def answered_authors(self, in_flight: InFlight, answer: AuthorsAnswer, now_ms: int) -> bool:
        """A page of the neighbour's authors. Returns whether it goes on from where it was asked to."""
        found = self.round_of(in_flight)
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
            comparison.told(round_.ids_told)
            round_ = comparison.round = Round(round_.began_ms)
            self.compare(in_flight.peer, comparison, round_, now_ms)
        elif round_.cells is not None:
            self._on_weighed(in_flight.peer, comparison, round_, round_.cells, now_ms)
        else:
            round_.begin_pages()
            self._go_on(in_flight.peer, comparison, round_, now_ms)
        return True

    def answered_ids(self, in_flight: InFlight, answer: IdsAnswer, now_ms: int) -> bool:
        """A page of an author's ids. Returns whether it goes on from where it was asked to."""
        found = self.round_of(in_flight)
        if found is None:
            return True
        comparison, round_ = found
        assert isinstance(in_flight.message, IdsRequest)
        if not goes_on(in_flight.message.after, answer.ids):
            comparison.round = None
            return False
        round_.pages += 1
        lacking = [one for one in answer.ids if self._registry.find_short(one) is None]
        round_.lacking.extend(lacking)
        comparison.differences_found += len(lacking)
        if not self._has_url:  # the other side cannot ask in its turn
            offered = self._not_on_page(comparison, in_flight.message, answer)
            round_.gained += len(offered)
            self._offer(in_flight.peer, offered)
        if answer.more and answer.ids and round_.pages < ids_pages_max:
            round_.ids_after = answer.ids[-1]
        else:
            round_.to_compare.popleft()
            round_.pages, round_.ids_after = 0, b""
        self._go_on(in_flight.peer, comparison, round_, now_ms)
        return True

    def _not_on_page(self, comparison: Comparison, request: IdsRequest, answer: IdsAnswer) -> list[bytes]:
        """What of this node's set the neighbour would have told on this page, if it had it; and is offered now."""
        after, until = request.after, answer.ids[-1] if answer.more and answer.ids else b""
        if request.author:
            ids = self._registry.ids(request.author, request.cap)
            ids = [one for one in ids if after < one[:sketch_id_bytes]]
            mine: Iterable[bytes] = (one for one in ids if not until or one[:sketch_id_bytes] <= until)
        else:
            mine = shortened_between(self._registry, after, until, comparison.link_set.absent())
        theirs = dict.fromkeys(answer.ids)
        return comparison.not_yet_offered(one for one in mine if one[:sketch_id_bytes] not in theirs)

    def _ask_authors(self, peer: bytes, comparison: Comparison, round_: Round, after: bytes, now_ms: int) -> None:
        comparison.ask(self._outgoing, peer, round_.authors_request(comparison.link_set, after), now_ms)

    # What comes of it.

    def fetched(self, in_flight: InFlight, missing: Iterable[bytes], delivered: dict[bytes, bool], now_ms: int) -> None:
        """Announcements came. `delivered` says of each id whether it came into the set."""
        found = self.round_of(in_flight)
        if found is None:
            return
        comparison, round_ = found
        assert isinstance(in_flight.message, FetchRequest)
        round_.fetched(in_flight.message.ids, missing, delivered, self._registry)
        self._go_on(in_flight.peer, comparison, round_, now_ms)

    def failed(self, in_flight: InFlight, rule: str, now_ms: int) -> None:
        """A request of a round came to nothing, or was refused by a rule: a later status begins a new one."""
        found = self.round_of(in_flight)
        if found is None:
            return
        comparison, round_ = found
        asked_for_cells = isinstance(in_flight.message, CellsRequest)
        if asked_for_cells and rule and rule not in _PASSING:
            if rule == RULE_NO_SUCH_SALT:
                self._secrets.forget(in_flight.peer)
            self._climb(in_flight.peer, comparison, round_, now_ms, to=Rung.PAGES)
            return
        if asked_for_cells and not rule:
            comparison.rung = Rung(min(comparison.rung + 1, Rung.PAGES))  # perhaps it cannot answer this at all
        if rule == RULE_BUSY:
            self.give_up(in_flight.peer, comparison, now_ms)
            return
        self._release(in_flight.peer, round_, now_ms)
        comparison.round = None

    def give_up(self, peer: bytes, comparison: Comparison, now_ms: int) -> None:
        """This round leads nowhere now: another one begins later, after a rest if it brought nothing."""
        round_ = comparison.round
        assert round_ is not None, "a round is given up that is under way"
        self._release(peer, round_, now_ms)
        comparison.round = None
        comparison.count_fruit(round_.gained, now_ms)

    def _go_on(self, peer: bytes, comparison: Comparison, round_: Round, now_ms: int) -> None:
        """Fetch what is lacking, once that fills a request or nothing is left to compare; else compare the next author.

        A thousand authors of whom three announcements each are lacking are a dozen fetches, not a thousand.
        """
        may_fetch = round_.fetches < round_fetches_max
        is_due = may_fetch and (len(round_.lacking) >= fetch_ids_max or not round_.to_compare)
        if is_due and (batch := round_.next_batch(self._on_their_way(round_, now_ms), self._registry)):
            round_.fetches += 1
            comparison.ask(self._outgoing, peer, FetchRequest(batch), now_ms)
        elif round_.to_compare and may_fetch:
            author, cap = round_.to_compare[0]
            comparison.ask(self._outgoing, peer, IdsRequest(author, cap, round_.ids_after), now_ms)
        else:
            self._end(peer, comparison, round_, now_ms)

    def _on_their_way(self, round_: Round, now_ms: int) -> set[bytes]:
        """Ids that other rounds asked for just now; who lets them wait keeps nobody else from asking."""
        young = [one for one in self._comparisons.values() if now_ms - one.asked_ms < fetch_shared_ms_max]
        others = [one.round for one in young if one.round is not None and one.round is not round_]
        return {announcement_id for other in others for announcement_id in other.fetching}

    def _end(self, peer: bytes, comparison: Comparison, round_: Round, now_ms: int) -> None:
        """Everything was asked for. What this came to decides how the next difference is looked into."""
        if round_.cells is not None and round_.cells.difference is not None:
            right = round_.cells.is_right(self._registry)
            if right is False or (right is None and not round_.gained and not round_.left_to_others):
                self._climb(peer, comparison, round_, now_ms, to=Rung(min(comparison.rung + 1, Rung.PAGES)))
                return
            if right and not round_.gained:
                comparison.keep_unresolved(*round_.cells.whole(self._registry), now_ms)
        elif not round_.gained and not round_.left_to_others and comparison.their_status is not None:
            comparison.settled = comparison.digests()
        comparison.rung = Rung.FIRST_SALT
        self._release(peer, round_, now_ms)
        comparison.round = None
        if round_.gained or not round_.left_to_others:  # else it is not known what it would have brought
            comparison.count_fruit(round_.gained, now_ms)

    def _climb(self, peer: bytes, comparison: Comparison, round_: Round, now_ms: int, *, to: Rung) -> None:
        """This did not help: the next rung of the ladder, at once."""
        self._release(peer, round_, now_ms)
        comparison.rung = to
        comparison.round = Round(round_.began_ms, fetches=round_.fetches)
        self.compare(peer, comparison, comparison.round, now_ms)

    def _release(self, peer: bytes, round_: Round, now_ms: int) -> None:
        """This node's own cells need not stand still any more."""
        prefix = self._prefixes.find(peer, round_.cells.salt.key, now_ms) if round_.cells is not None else None
        if prefix is not None:
            prefix.own_until_ms = 0

    def round_of(self, in_flight: InFlight) -> tuple[Comparison, Round] | None:
        """The round that this is the outcome for; None if it is over, or its link is over or was made anew."""
        comparison = self._comparisons.get(in_flight.peer)
        if comparison is None or comparison.round is None or comparison.request_id != in_flight.request_id:
            return None
        return comparison, comparison.round
