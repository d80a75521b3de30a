"""One slot of the set: which of an author's announcements about one thing stands.

A slot is (author, kind, subject). Its winner is the greatest (epoch, seq); of two with the same place the smaller id,
though no honest node ever signs two. A version slot keeps its first as well, the smallest (epoch, seq): so everyone can
see that what an author said about a release has changed; so does the slot of a successor, which never may. Place alone
decides, so the outcome is the same in every order of arrival, whatever the author said. Whether an author says of a
change that it is one (`replaces`) decides only whether the two prove it guilty (equivocation.py).
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from pfn_protocol.acceptance import expires_ms
from pfn_protocol.announcements import AcceptedAnnouncement, Kind, NodeStatement
from pfn_protocol.equivocation import is_equivocation
from pfn_protocol.records import record

# What an author said first of these stays in sight beside what it says now.
_KEEPS_FIRST: Final = (Kind.VERSION, Kind.SUCCESSOR)


@record
class Entry:
    """What the registry remembers of an announcement; the body lies elsewhere, under its id."""

    id: bytes
    author: bytes
    kind: Kind
    subject: str
    epoch: int
    seq: int
    size: int  # bytes of the envelope: messages are filled by it
    expires_ms: int | None
    content: bytes = b""  # of a version: the sha256 it states
    replaces: bytes = b""  # of a version: what it says it changes
    node: NodeStatement | None = None  # of a node announcement: the pins and sponsored nodes that admission follows

    @property
    def place(self) -> tuple[int, int]:
        """Its place in the author's order."""
        return (self.epoch, self.seq)


def entry_of(announcement: AcceptedAnnouncement) -> Entry:
    """What is to be remembered of an accepted announcement."""
    statement = announcement.statement
    return Entry(
        id=announcement.id,
        author=announcement.author,
        kind=announcement.kind,
        subject=announcement.subject,
        epoch=announcement.epoch,
        seq=announcement.seq,
        size=len(announcement.raw),
        expires_ms=expires_ms(announcement),
        content=announcement.content,
        replaces=announcement.replaces,
        node=statement if isinstance(statement, NodeStatement) else None,
    )


def slot_rank(author: bytes, kind: Kind, subject: str) -> bytes:
    """Which slots stay when an author fills more than its cap: those with the smallest rank."""
    return sha256(author + kind.encode() + subject.encode()).digest()


@dataclass(slots=True)
class Slot:
    """The winner; and of a version or successor the first, which is the winner itself as long as there is no other."""

    winner: Entry
    first: Entry

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What of this slot is in the set."""
        return (self.winner,) if self.first is self.winner else (self.first, self.winner)

    def offer(self, entry: Entry) -> bool:
        """Take the announcement in if it stands; the slot's entries are the outcome. Known ids are not offered."""
        keeps_first = entry.kind in _KEEPS_FIRST
        wins = entry.place > self.winner.place or (entry.place == self.winner.place and entry.id < self.winner.id)
        if wins:
            self.winner = entry
        is_first = keeps_first and (entry.place, entry.id) < (self.first.place, self.first.id)
        if is_first or (wins and not keeps_first):
            self.first = entry
        return wins or is_first

    def contradicted_by(self, entry: Entry) -> Entry | None:
        """What stands here that together with this one proves its author guilty (R37)."""
        return next((one for one in self.entries if is_equivocation(one, entry)), None)
