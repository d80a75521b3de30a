"""Announcements of authors that are not admitted (yet): kept aside, bounded, outside the set.

One per slot, the newest; a few per author, a few thousand in all; of a convicted author the conviction. When all places
are taken the one that has waited longest goes. Nothing is lost by that: when an author is admitted, reconciliation
brings what is missing.
"""

from pfn_protocol.announcements import Kind, NodeStatement
from pfn_protocol.author_share import SlotKey
from pfn_protocol.limits import parked_max, parked_per_author_max
from pfn_protocol.slots import Entry

_CONVICTION = (Kind.CONVICTION, "")


class Parking:
    """Entries by author and slot, in the order of their arrival."""

    def __init__(self) -> None:
        self._by_id: dict[bytes, Entry] = {}
        self._by_author: dict[bytes, dict[SlotKey, Entry]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, announcement_id: bytes) -> bool:
        return announcement_id in self._by_id

    def park(self, entry: Entry) -> tuple[bool, list[Entry]]:
        """Keep an entry aside. Returns whether it was, and what went for it."""
        of_author = self._by_author.get(entry.author, {})
        if _CONVICTION in of_author:
            return False, []
        if entry.kind is Kind.CONVICTION:
            return True, self._convict(entry)
        former = of_author.get((entry.kind, entry.subject))
        gone: list[Entry] = []
        if former is not None:
            if former.place >= entry.place:
                return False, []
            gone.append(former)
        elif len(of_author) >= parked_per_author_max:
            if entry.kind is not Kind.NODE:
                return False, []
            gone.append(next(iter(of_author.values())))  # its pins matter more than any one of its statements
        elif len(self) >= parked_max:
            gone.append(next(iter(self._by_id.values())))
        for one in gone:
            self.remove(one)
        self._by_id[entry.id] = entry
        self._by_author.setdefault(entry.author, {})[entry.kind, entry.subject] = entry
        return True, gone

    def _convict(self, conviction: Entry) -> list[Entry]:
        """Nothing else of this author is of any use."""
        gone = self.take(conviction.author)
        if len(self) >= parked_max:
            gone.append(next(iter(self._by_id.values())))
            self.remove(gone[-1])
        self._by_id[conviction.id] = conviction
        self._by_author[conviction.author] = {_CONVICTION: conviction}
        return gone

    def find(self, announcement_id: bytes) -> Entry | None:
        """The entry with this id, if it is parked."""
        return self._by_id.get(announcement_id)

    def remove(self, entry: Entry) -> None:
        """Take out an entry that is parked."""
        del self._by_id[entry.id]
        of_author = self._by_author[entry.author]
        del of_author[entry.kind, entry.subject]
        if not of_author:
            del self._by_author[entry.author]

    def take(self, author: bytes) -> list[Entry]:
        """Take out everything of an author that was admitted."""
        entries = list(self._by_author.get(author, {}).values())
        for entry in entries:
            self.remove(entry)
        return entries

    def ids(self) -> tuple[bytes, ...]:
        """Of everything that is parked."""
        return tuple(self._by_id)

    def authors(self) -> list[bytes]:
        """The authors of whom something is parked."""
        return list(self._by_author)

    def node_statement(self, author: bytes) -> NodeStatement | None:
        """What a parked author says about itself."""
        entry = self._by_author.get(author, {}).get((Kind.NODE, ""))
        return entry.node if entry else None
