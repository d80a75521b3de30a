"""One author's share of the set: its slots, the cap on them, and their digest.

Over the cap the slots with the smallest rank stay, so that two nodes that heard of them in different orders hold the
same ones. The slot of the node announcement is exempt: without it nobody would know the author's pins. Of a convicted
author the share is its conviction, and nothing else, whatever the cap.
"""

from bisect import bisect_left, insort

from pfn_protocol.announcements import Kind
from pfn_protocol.set_digest import SetDigest
from pfn_protocol.slots import Entry, Slot, slot_rank

SlotKey = tuple[Kind, str]
# Caps other than its own at which a neighbour may ask for an author: there are two in all, so this is generous.
_capped_max = 4


class AuthorShare:
    """The slots of one admitted author, at most `cap` and its node announcement; or its conviction."""

    def __init__(self, author: bytes, cap: int) -> None:
        self.author = author
        self.cap = cap
        self.sum = SetDigest()
        self.conviction: Entry | None = None
        self._slots: dict[SlotKey, Slot] = {}
        self._ranked: list[tuple[bytes, SlotKey]] = []  # every slot but the node's, smallest rank first
        self._summaries: dict[int, tuple[int, bytes]] = {}  # by cap; forgotten at every change

    def slot(self, kind: Kind, subject: str) -> Slot | None:
        """The slot, if anything stands in it."""
        return self._slots.get((kind, subject))

    def contradicted_by(self, entry: Entry) -> Entry | None:
        """What stands here that together with this one proves the author guilty."""
        slot = self._slots.get((entry.kind, entry.subject))
        return slot.contradicted_by(entry) if slot else None

    def offer(self, entry: Entry) -> tuple[bool, list[Entry]]:
        """Take an announcement in if it stands and has a place. Returns whether it did, and what left for it."""
        if self.conviction is not None:
            return False, []
        if entry.kind is Kind.CONVICTION:
            return True, self._convict(entry)
        key = (entry.kind, entry.subject)
        slot = self._slots.get(key)
        if slot is None:
            rank = slot_rank(entry.author, entry.kind, entry.subject)
            if entry.kind is not Kind.NODE:
                if len(self._ranked) >= self.cap and rank > self._ranked[-1][0]:
                    return False, []
                insort(self._ranked, (rank, key))
            self._slots[key] = Slot(entry, entry, rank)
            self._count(entry, 1)
            return True, self.trim()
        before = slot.entries
        stands = slot.offer(entry)
        gone = [one for one in before if one not in slot.entries]
        for one in gone:
            self._count(one, -1)
        if stands:
            self._count(entry, 1)
        return stands, gone

    def trim(self) -> list[Entry]:
        """Put out the slots over the cap; returns what stood in them."""
        gone: list[Entry] = []
        while len(self._ranked) > self.cap:
            _, key = self._ranked[-1]
            gone += self._slots[key].entries
            self._remove_slot(key)
        return gone

    def expire(self, entry: Entry) -> None:
        """Take out an announcement whose lifetime is over, with its slot."""
        self._remove_slot((entry.kind, entry.subject))

    def withdraw_after(self, seq_max: int) -> list[Entry]:
        """Take out the slots with anything later than `seq_max`, but for the node's; returns what stood there."""
        early = [key for _, key in self._ranked if any(entry.seq > seq_max for entry in self._slots[key].entries)]
        gone = [entry for key in early for entry in self._slots[key].entries]
        for key in early:
            self._remove_slot(key)
        return gone

    def entries(self, cap: int | None = None) -> list[Entry]:
        """What is in the set at a cap (its own by default): the node announcement, then by the rank of the slots."""
        if self.conviction is not None:
            return [self.conviction]
        own = self._slots.get((Kind.NODE, ""))
        keys = [key for _, key in self._ranked[: self.cap if cap is None else cap]]
        found = [] if own is None else list(own.entries)
        for key in keys:
            found += self._slots[key].entries
        return found

    def summary(self, cap: int) -> tuple[int, bytes]:
        """How many announcements at this cap, and their digest."""
        effective = min(cap, len(self._ranked))
        if effective not in self._summaries:
            whole = effective == len(self._ranked)
            total = self.sum if whole else SetDigest(entry.id for entry in self.entries(effective))
            if len(self._summaries) >= _capped_max:
                self._summaries.clear()
            self._summaries[effective] = (total.count, total.digest())
        return self._summaries[effective]

    def sum_at(self, cap: int) -> SetDigest:
        """The sum of what is in the set at this cap; not to be changed by the caller."""
        return self.sum if cap >= len(self._ranked) else SetDigest(entry.id for entry in self.entries(cap))

    def _convict(self, conviction: Entry) -> list[Entry]:
        gone = self.entries()
        self._slots.clear()
        self._ranked.clear()
        self.sum = SetDigest()
        self.conviction = conviction
        self._count(conviction, 1)
        return gone

    def _remove_slot(self, key: SlotKey) -> None:
        slot = self._slots.pop(key)
        for entry in slot.entries:
            self._count(entry, -1)
        if key[0] is not Kind.NODE:
            del self._ranked[bisect_left(self._ranked, (slot.rank, key))]

    def _count(self, entry: Entry, change: int) -> None:
        if change > 0:
            self.sum.add(entry.id)
        else:
            self.sum.remove(entry.id)
        self._summaries.clear()
