"""The set that nodes reconcile.

For each admitted author (admission.py) the winner of each slot that has not expired, and the first of a replaced
version (slots.py), at most as many slots as the author may fill (author_share.py); of an author that was proved guilty
of two stories only the conviction (equivocation.py). The outcome depends on what was
heard, never on the order of hearing, so two nodes with the same pins and the same news hold the same set, and its
digest says so.

Announcements of authors that are not admitted are parked (parking.py), and judged again when the graph of pins changes.
The registry holds ids and places, never bodies, and decides nothing about links: what one side of a link leaves out is
subtracted from the digest, author by author.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from heapq import heappop, heappush
from itertools import islice

from pfn_protocol.admission import admits_others, admitted_authors, trusted_via
from pfn_protocol.announcements import DECIDE_ADMISSION, Kind, NodeStatement
from pfn_protocol.author_share import AuthorShare
from pfn_protocol.changes import ChangeLog
from pfn_protocol.equivocation import conviction_id
from pfn_protocol.limits import (
    admitted_authors_max,
    conviction_overhead_bytes,
    future_ms_max,
    slots_sponsored_max,
)
from pfn_protocol.messages import AuthorSummary
from pfn_protocol.parking import Parking
from pfn_protocol.records import record
from pfn_protocol.set_digest import SetDigest, SumOf, add_up
from pfn_protocol.slots import Entry, Slot
from pfn_protocol.sorted_ids import SortedIds


class Verdict(Enum):
    """What became of an announcement."""

    IN_SET = "it is in the set now"
    PARKED = "its author is not admitted; it is kept aside"
    KNOWN = "it was here already"
    NOT_TAKEN = "superseded, over a cap, or without a place to wait"
    CONTRADICTS = "with one that stood it proves its author guilty; the conviction is in the set now"


# Expiries of what has left the set meanwhile may wait, up to as many again as there are others, and these.
_stale_expiries_max = 64


@record
class Outcome:
    """What offering one announcement changed."""

    verdict: Verdict
    dropped: tuple[bytes, ...] = ()  # ids that left the set, or the parking, for it
    entry: Entry | None = None  # what came into the set: this announcement, or the conviction that it led to
    contradicted: bytes = b""  # the id of the announcement that proves it guilty together with the offered one
    graph_changed: bool = False  # pins or sponsored nodes changed: `readmit` is due


@dataclass(frozen=True, slots=True)
class AdmissionChange:
    """What judging everybody again changed."""

    admitted: tuple[bytes, ...] = ()  # ids that came into the set
    parked: tuple[bytes, ...] = ()  # ids that left it and are kept aside
    dropped: tuple[bytes, ...] = ()  # ids that left it for good
    widened: bool = False  # an author was admitted, or may fill more slots: neighbours may have more of it


class Registry:
    """The set of one node."""

    def __init__(self, me: bytes, pins: Iterable[bytes] = (), sponsored: Iterable[bytes] = ()) -> None:
        self.me = me
        self.parking = Parking()
        self._pins = tuple(pins)
        self._sponsored = tuple(sponsored)
        self._shares: dict[bytes, AuthorShare] = {}
        self.changes = ChangeLog()
        self.admission_version = 0  # grows whenever somebody is admitted, put out, or gets another cap
        self._by_id: dict[bytes, Entry] = {}
        # The announcement with an id, if it is in the set; asked for each id of each message.
        self.find: Callable[[bytes], Entry | None] = self._by_id.get
        self._sorted_ids = SortedIds()
        self._total = SetDigest()
        self._expiries: list[tuple[int, bytes]] = []
        self._caps: dict[bytes, int] = {}
        self._sorted_authors: list[bytes] | None = None  # those with a cap; made when it is needed
        self.readmit()

    # What is in it.

    def __len__(self) -> int:
        """How many announcements are in the set."""
        return len(self._by_id)

    def __contains__(self, announcement_id: bytes) -> bool:
        """Whether the announcement is in the set."""
        return announcement_id in self._by_id

    def knows(self, announcement_id: bytes) -> bool:
        """Whether the announcement is in the set, or parked."""
        return announcement_id in self._by_id or announcement_id in self.parking

    def find_short(self, short_id: bytes) -> bytes | None:
        """The id in the set that begins like this."""
        self._sorted_ids.update(self._by_id, self.changes)
        return self._sorted_ids.begins_with(short_id)

    def slot(self, author: bytes, kind: Kind, subject: str) -> Slot | None:
        """What stands in a slot of an admitted author."""
        share = self._shares.get(author)
        return share.slot(kind, subject) if share else None

    def cap(self, author: bytes) -> int:
        """How many slots the author may fill; 0 = it is not admitted."""
        return self._caps.get(author, 0)

    @property
    def caps(self) -> Mapping[bytes, int]:
        """Who is admitted, and how many slots each may fill."""
        return self._caps

    @property
    def pins(self) -> tuple[bytes, ...]:
        """Whom this node pins."""
        return self._pins

    @property
    def authors(self) -> int:
        """How many authors are admitted."""
        return len(self._caps)

    def total(self, at_caps: Mapping[bytes, int] | None = None) -> SetDigest:
        """The sum of the set, with some authors at smaller caps than their own: 0 leaves one out."""
        total = self._total.copy()
        for author, cap in (at_caps or {}).items():
            share = self._shares.get(author)
            if share is not None:
                total.subtract(share.sum)
                if cap:
                    total.merge(share.sum_at(cap))
        return total

    def count_without(self, left_out: Iterable[bytes]) -> int:
        """How many announcements of all authors but these are in the set."""
        absent = (self._shares.get(author) for author in frozenset(left_out))
        return len(self._by_id) - sum(share.sum.count for share in absent if share is not None)

    def summary(self, author: bytes, cap: int) -> tuple[int, bytes]:
        """How many announcements of the author are in the set at this cap, and their digest."""
        share = self._shares.get(author)
        return share.summary(cap) if share else (0, SetDigest().digest())

    def latest(self, author: bytes) -> tuple[int, int]:
        """The greatest place of what the author has in the set."""
        share = self._shares.get(author)
        return max((entry.place for entry in share.any_order(share.cap)), default=(0, 0)) if share else (0, 0)

    def beside_node(self, author: bytes) -> tuple[int, bytes]:
        """How many announcements of the author are in the set beside its node announcement, and their digest."""
        share = self._shares.get(author)
        total = share.sum.copy() if share else SetDigest()
        node = self.node_entry(author)
        if node is not None:
            total.remove(node.id)
        return total.count, total.digest()

    def summaries(self, after: bytes, limit: int, left_out: Iterable[bytes]) -> tuple[list[AuthorSummary], bool]:
        """A page of admitted authors in the order of their ids; and whether there are more."""
        absent = dict.fromkeys(left_out)
        if self._sorted_authors is None:
            self._sorted_authors = sorted(self._caps)
        rest = islice(self._sorted_authors, bisect_right(self._sorted_authors, after), None)
        following = list(islice((author for author in rest if author not in absent), limit + 1))
        capped = [(author, self._caps[author]) for author in following[:limit]]
        page = [AuthorSummary(author, cap, *self.summary(author, cap)) for author, cap in capped]
        return page, len(following) > limit

    def ids(self, author: bytes, cap: int) -> list[bytes]:
        """The author's ids in the set at this cap, sorted."""
        share = self._shares.get(author)
        return sorted(entry.id for entry in share.any_order(cap)) if share else []

    def unsorted_ids(self) -> tuple[bytes, ...]:
        """Every id of the set, in no order that means anything."""
        return tuple(self._by_id)

    def ids_between(self, after: bytes, until: bytes) -> Iterator[bytes]:
        """The ids of the set after one and up to another one, ascending; empty: from the start, to the end."""
        self._sorted_ids.update(self._by_id, self.changes)
        return self._sorted_ids.between(after, until)

    def node_statement(self, author: bytes) -> NodeStatement | None:
        """The author's node announcement, in the set or parked."""
        slot = self.slot(author, Kind.NODE, "")
        return slot.winner.node if slot else self.parking.node_statement(author)

    def node_entry(self, author: bytes) -> Entry | None:
        """The author's node announcement in the set."""
        slot = self.slot(author, Kind.NODE, "")
        return slot.winner if slot else None

    def is_convicted(self, author: bytes) -> bool:
        """Whether the set holds a proof that the author told two stories."""
        share = self._shares.get(author)
        return share is not None and share.conviction is not None

    @property
    def convicted(self) -> tuple[bytes, ...]:
        """The admitted authors that were proved guilty, sorted."""
        return tuple(sorted(author for author in self._shares if self.is_convicted(author)))

    def trusted_via(self, authors: Iterable[bytes]) -> dict[bytes, list[bytes]]:
        """For each of these authors the nodes reachable over pins that themselves pin it."""
        return trusted_via(authors, self._caps, self.node_statement)

    # How it changes.

    def offer(self, entry: Entry) -> Outcome:
        """Take an accepted announcement in, or park it."""
        if self.knows(entry.id):
            return Outcome(Verdict.KNOWN)
        if entry.author not in self._caps:
            parked, gone = self.parking.park(entry)
            if parked:
                self._await_expiry(entry)
            return Outcome(Verdict.PARKED if parked else Verdict.NOT_TAKEN, tuple(one.id for one in gone))
        share = self._shares.get(entry.author)
        stood = share.contradicted_by(entry) if share else None
        if stood is not None:
            size = entry.size + stood.size + conviction_overhead_bytes
            entry = Entry(conviction_id(entry.author), entry.author, Kind.CONVICTION, "", 0, 0, size)
        may_change_graph = entry.kind in DECIDE_ADMISSION and admits_others(self.cap(entry.author))
        former = self.node_statement(entry.author) if may_change_graph else None
        _, gone = self._offer_to_share(entry)
        came_in = entry.id in self._by_id
        graph_changed = may_change_graph and _relations(former) != _relations(self.node_statement(entry.author))
        verdict = Verdict.NOT_TAKEN if not came_in else Verdict.IN_SET if stood is None else Verdict.CONTRADICTS
        return Outcome(
            verdict,
            tuple(one.id for one in gone),
            entry if came_in else None,
            stood.id if stood else b"",
            graph_changed,
        )

    def fill(self, entries: Collection[Entry], sum_of: SumOf = add_up) -> list[tuple[bytes, bytes]]:
        """Offer very many, at a start: the outcome is the same, but sums are made once for each author.

        Returns the ids of what stood and of what contradicted it.
        """
        by_author: defaultdict[bytes, list[Entry]] = defaultdict(list)
        for entry in entries:
            by_author[entry.author].append(entry)
        waiting: set[bytes] = set()
        for author, theirs in by_author.items():
            others = self._place(author, theirs, sum_of) if author in self._caps else theirs
            waiting.update(entry.id for entry in others)
        # In their order: it decides which strangers stay parked, and what contradicts what.
        outcomes = [(self.offer(entry).contradicted, entry.id) for entry in entries if entry.id in waiting]
        return [(contradicted, one) for contradicted, one in outcomes if contradicted]

    def _place(self, author: bytes, entries: list[Entry], sum_of: SumOf) -> list[Entry]:
        """Take in all that needs no comparison with what stands there; returns the others."""
        placed = self._share(author).place(entries, sum_of)
        self._by_id.update(placed.by_id)
        for announcement_id in placed.expiring:
            self._await_expiry(placed.by_id[announcement_id])
        self._total.merge(placed.sum)
        self.changes.skip(len(placed.by_id))
        return placed.others

    def set_policy(self, pins: Iterable[bytes], sponsored: Iterable[bytes]) -> AdmissionChange:
        """This node pins and sponsors these from now on."""
        former_pins, former_sponsored = self._pins, self._sponsored
        self._pins, self._sponsored = tuple(pins), tuple(sponsored)
        newcomers = [one for one in self._sponsored if one not in self._caps]
        has_room = len(self._caps) + len(newcomers) <= admitted_authors_max
        if self._pins == former_pins and has_room and set(former_sponsored) <= set(self._sponsored):
            return self._sponsor(newcomers)
        return self.readmit()

    def _sponsor(self, newcomers: list[bytes]) -> AdmissionChange:
        """Only these are let in, and whom a newcomer pins or sponsors admits nobody: the graph stays as it is."""
        self._caps.update(dict.fromkeys(newcomers, slots_sponsored_max))
        self._sorted_authors = None
        self.admission_version += bool(newcomers)
        admitted, superseded = self._let_in(newcomers)
        return AdmissionChange(admitted, (), superseded, bool(newcomers))

    def readmit(self) -> AdmissionChange:
        """Judge again who is admitted, after pins or sponsored nodes changed somewhere."""
        caps = admitted_authors(self.me, self._pins, self._sponsored, self.node_statement)
        former, self._caps = self._caps, caps
        self._sorted_authors = None
        self.admission_version += caps != former
        parked: list[bytes] = []
        dropped: list[bytes] = []
        for author in [author for author in self._shares if author not in caps]:
            kept, gone = self._put_out(author)
            parked += kept
            dropped += gone
        for author, share in self._shares.items():
            share.cap = caps[author]
            dropped += self._leave(share.trim())
        admitted, superseded = self._let_in(author for author in self.parking.authors() if author in caps)
        widened = any(cap > former.get(author, 0) for author, cap in caps.items())
        still_parked = tuple(one for one in parked if one in self.parking)
        return AdmissionChange(admitted, still_parked, (*dropped, *superseded), widened)

    @property
    def next_expiry_ms(self) -> int | None:
        """When `expire` has something to do next."""
        return self._expiries[0][0] if self._expiries else None

    def expire(self, now_ms: int) -> tuple[tuple[bytes, ...], bool]:
        """Take out what has outlived its lifetime. Returns the ids, and whether `readmit` is due."""
        expired: list[bytes] = []
        graph_changed = False
        while self._expiries and self._expiries[0][0] <= now_ms:
            _, announcement_id = heappop(self._expiries)
            aside = self.parking.find(announcement_id)
            if aside is not None:
                self.parking.remove(aside)
                expired.append(announcement_id)
            entry = self._by_id.get(announcement_id)
            if entry is not None:
                self._shares[entry.author].expire(entry)
                self._leave([entry])
                expired.append(announcement_id)
                graph_changed = graph_changed or (entry.kind is Kind.NODE and admits_others(self.cap(entry.author)))
        return tuple(expired), graph_changed

    def withdraw_early(self, now_ms: int) -> tuple[bytes, ...]:
        """Take out what others said in the future, unless that is most of the set: then it is the clock that is wrong.

        What was taken in while the clock was ahead would fill shares in the place of what everybody else holds.
        """
        latest_ms = now_ms + future_ms_max
        early = sum(entry.seq > latest_ms for entry in self._by_id.values())
        if not early or 2 * early > len(self._by_id):
            return ()
        gone: list[bytes] = []
        for author, share in self._shares.items():
            if author != self.me:
                gone += self._leave(share.withdraw_after(latest_ms))
        return tuple(gone)

    def _offer_to_share(self, entry: Entry) -> tuple[bool, list[Entry]]:
        stands, gone = self._share(entry.author).offer(entry)
        if stands:
            self._by_id[entry.id] = entry
            self._total.add(entry.id)
            self.changes.note(entry.id, entry.author, came=True)
            self._await_expiry(entry)
        if gone:
            self._leave(gone)
        return stands, gone

    def _share(self, author: bytes) -> AuthorShare:
        """That of an admitted author."""
        share = self._shares.get(author)
        if share is None:
            share = self._shares[author] = AuthorShare(author, self._caps[author])
        return share

    def _leave(self, entries: Iterable[Entry]) -> list[bytes]:
        gone = [(entry.id, entry.author) for entry in entries]
        for announcement_id, author in gone:
            del self._by_id[announcement_id]
            self._total.remove(announcement_id)
            self.changes.note(announcement_id, author, came=False)
        return [announcement_id for announcement_id, _ in gone]

    def _put_out(self, author: bytes) -> tuple[list[bytes], list[bytes]]:
        """An author is no longer admitted: a few of its announcements are kept aside, the others go."""
        share = self._shares.pop(author)
        entries = share.entries()
        self._leave(entries)
        kept: list[bytes] = []
        gone: list[bytes] = []
        for entry in entries:
            parked, pushed_out = self.parking.park(entry)
            (kept if parked else gone).append(entry.id)
            gone += [one.id for one in pushed_out]
        return [one for one in kept if one not in gone], gone

    def _let_in(self, authors: Iterable[bytes]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """These authors are admitted now: what is parked of them is offered to the set."""
        offered = [entry for author in list(authors) for entry in self.parking.take(author)]
        gone: list[bytes] = []
        for entry in offered:
            _, losers = self._offer_to_share(entry)
            gone += [one.id for one in losers]
        admitted = tuple(entry.id for entry in offered if entry.id in self._by_id)
        refused = [entry.id for entry in offered if entry.id not in self._by_id and entry.id not in gone]
        return admitted, (*gone, *refused)

    def _await_expiry(self, entry: Entry) -> None:
        expires_ms = entry.expires_ms
        if expires_ms is None:
            return
        heappush(self._expiries, (expires_ms, entry.id))
        if len(self._expiries) > 2 * (len(self._by_id) + len(self.parking)) + _stale_expiries_max:
            self._expiries = sorted({one for one in self._expiries if self.knows(one[1])})  # sorted, so it is a heap


def _relations(statement: NodeStatement | None) -> tuple[object, ...]:
    """What of a node announcement admission follows."""
    if statement is None or statement.left:
        return ((), ())
    return (statement.pins, statement.sponsored)
