"""One author's share of the set: its slots, the cap on them, and their digest.

Over the cap the slots with the smallest rank stay, so that two nodes that heard of them in different orders hold the
same ones. The slot of the node announcement is exempt: without it nobody would know the author's pins. Of a convicted
author the share is its conviction, and nothing else, whatever the cap.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pfn_protocol.acceptance import EXPIRING_KINDS
from pfn_protocol.announcements import DECIDE_ADMISSION, Kind
from pfn_protocol.set_digest import SetDigest, SumOf
from pfn_protocol.slots import Entry, Slot, slot_rank

SlotKey = tuple[Kind, str]
_NODE_SLOT: Final[SlotKey] = (Kind.NODE, "")
_NOTHING: Final[Mapping[str, Entry | Slot]] = {}
# Caps other than its own at which a neighbour may ask for an author: there are two in all, so this is generous.
_capped_max = 4


@dataclass(slots=True)
class Placed:
    """What was taken in at once, and what is left."""

    by_id: dict[bytes, Entry] = field(default_factory=dict)
    expiring: list[bytes] = field(default_factory=list)  # ids of those that do not stay for good
    others: list[Entry] = field(default_factory=list)  # to be offered one by one, in this order
    sum: SetDigest = field(default_factory=SetDigest)  # of what was taken in


class AuthorShare:
    """The slots of one admitted author, at most `cap` and its node announcement; or its conviction."""

    def __init__(self, author: bytes, cap: int) -> None:
        self.author = author
        self.cap = cap
        self.sum = SetDigest()
        self.conviction: Entry | None = None
        # A slot with one announcement, as nearly all are, is that announcement: there may be a million of them.
        self._slots: dict[Kind, dict[str, Entry | Slot]] = {}
        self._ranked_count = 0  # of the slots but the node's
        self._ranked: list[tuple[bytes, SlotKey]] | None = None  # those, smallest rank first; made when it is needed
        self._sums: dict[int, SetDigest] = {}  # by smaller caps; forgotten at every change

    def slot(self, kind: Kind, subject: str) -> Slot | None:
        """The slot as it is now, if anything stands in it."""
        found = self._slots.get(kind, _NOTHING).get(subject)
        return Slot(found, found) if isinstance(found, Entry) else found

    def contradicted_by(self, entry: Entry) -> Entry | None:
        """What stands here that together with this one proves the author guilty."""
        slot = self.slot(entry.kind, entry.subject)
        return slot.contradicted_by(entry) if slot else None

    def offer(self, entry: Entry) -> tuple[bool, list[Entry]]:
        """Take an announcement in if it stands and has a place. Returns whether it did, and what left for it."""
        if self.conviction is not None:
            return False, []
        if entry.kind is Kind.CONVICTION:
            return True, self._convict(entry)
        slot = self.slot(entry.kind, entry.subject)
        if slot is None:
            if entry.kind is not Kind.NODE and not self._rank(entry):
                return False, []
            self._slots.setdefault(entry.kind, {})[entry.subject] = entry
            self._count(entry, 1)
            return True, self.trim()
        before = slot.entries
        stands = slot.offer(entry)
        self._slots[entry.kind][entry.subject] = slot.winner if slot.first is slot.winner else slot
        gone = [one for one in before if one not in slot.entries]
        for one in gone:
            self._count(one, -1)
        if stands:
            self._count(entry, 1)
        return stands, gone

    def place(self, entries: Iterable[Entry], sum_of: SumOf) -> Placed:
        """Take in at once what has a slot of its own, as far as there is room."""
        is_open = self.conviction is None and self._ranked is None
        room = self.cap - self._ranked_count if is_open else 0
        placed = Placed()
        kind: Kind | None = None
        slots: dict[str, Entry | Slot] | None = None
        lasting: list[bytes] = []
        ids = lasting
        for entry in entries:
            if entry.kind is not kind:
                kind = entry.kind
                slots = None if kind in DECIDE_ADMISSION else self._slots.setdefault(kind, {})
                ids = placed.expiring if kind in EXPIRING_KINDS else lasting
            if slots is not None and len(placed.by_id) < room and slots.setdefault(entry.subject, entry) is entry:
                placed.by_id[entry.id] = entry
                ids.append(entry.id)
            else:
                placed.others.append(entry)
        self._ranked_count += len(placed.by_id)
        # What stays for good is summed up by itself: that is the same the next time.
        placed.sum = sum_of(self.author, lasting)
        placed.sum.add_all(placed.expiring)
        self.sum.merge(placed.sum)
        self._sums.clear()
        return placed

    def trim(self) -> list[Entry]:
        """Put out the slots over the cap; returns what stood in them."""
        gone: list[Entry] = []
        while self._ranked_count > self.cap:
            _, key = self._ranking()[-1]
            gone += self._remove_slot(key)
        return gone

    def expire(self, entry: Entry) -> None:
        """Take out an announcement whose lifetime is over, with its slot."""
        self._remove_slot((entry.kind, entry.subject))

    def withdraw_after(self, seq_max: int) -> list[Entry]:
        """Take out the slots with anything later than `seq_max`, but for the node's; returns what stood there."""
        late = {(entry.kind, entry.subject) for entry in self.any_order(self.cap) if entry.seq > seq_max}
        ranked = sorted(late - {_NODE_SLOT}, key=lambda key: slot_rank(self.author, *key))
        return [entry for key in ranked for entry in self._remove_slot(key)]

    def entries(self, cap: int | None = None) -> list[Entry]:
        """What is in the set at a cap (its own by default): the node announcement, then by the rank of the slots."""
        if self.conviction is not None:
            return [self.conviction]
        found = list(self._entries_of(_NODE_SLOT))
        for _, key in self._ranking()[: self.cap if cap is None else cap]:
            found += self._entries_of(key)
        return found

    def any_order(self, cap: int) -> Iterable[Entry]:
        """What `entries` returns, in no order that means anything: without ranking it, if nothing is over the cap."""
        if self.conviction is not None or cap < self._ranked_count:
            return self.entries(cap)
        slots = [slot for of_kind in self._slots.values() for slot in of_kind.values()]
        return [entry for slot in slots for entry in ((slot,) if isinstance(slot, Entry) else slot.entries)]

    def summary(self, cap: int) -> tuple[int, bytes]:
        """How many announcements at this cap, and their digest."""
        total = self.sum_at(cap)
        return total.count, total.digest()

    def sum_at(self, cap: int) -> SetDigest:
        """The sum of what is in the set at this cap; not to be changed by the caller."""
        if cap >= self._ranked_count:
            return self.sum
        if cap not in self._sums:
            if len(self._sums) >= _capped_max:
                self._sums.clear()
            self._sums[cap] = SetDigest(entry.id for entry in self.entries(cap))
        return self._sums[cap]

    def _convict(self, conviction: Entry) -> list[Entry]:
        gone = self.entries()
        self._slots.clear()
        self._ranked, self._ranked_count = None, 0
        self.sum = SetDigest()
        self.conviction = conviction
        self._count(conviction, 1)
        return gone

    def _rank(self, entry: Entry) -> bool:
        """Whether a new slot has a place; then it is counted, and ranked if the others are."""
        is_full = self._ranked_count >= self.cap
        if is_full or self._ranked is not None:
            ranking = self._ranking()
            rank = slot_rank(entry.author, entry.kind, entry.subject)
            if is_full and rank > ranking[-1][0]:
                return False
            insort(ranking, (rank, (entry.kind, entry.subject)))
        self._ranked_count += 1
        return True

    def _ranking(self) -> list[tuple[bytes, SlotKey]]:
        if self._ranked is None:
            keys = [
                (kind, subject) for kind, slots in self._slots.items() if kind is not Kind.NODE for subject in slots
            ]
            self._ranked = sorted((slot_rank(self.author, *key), key) for key in keys)
        return self._ranked

    def _entries_of(self, key: SlotKey) -> tuple[Entry, ...]:
        slot = self.slot(*key)
        return slot.entries if slot else ()

    def _remove_slot(self, key: SlotKey) -> tuple[Entry, ...]:
        """Take a slot out; returns what stood in it."""
        entries = self._entries_of(key)
        for entry in entries:
            self._count(entry, -1)
        if key != _NODE_SLOT:
            if self._ranked is not None:
                del self._ranked[bisect_left(self._ranked, (slot_rank(self.author, *key), key))]
            self._ranked_count -= 1
        del self._slots[key[0]][key[1]]
        return entries

    def _count(self, entry: Entry, change: int) -> None:
        if change > 0:
            self.sum.add(entry.id)
        else:
            self.sum.remove(entry.id)
        self._sums.clear()
