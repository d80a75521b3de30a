"""One slot of the set: which of an author's announcements about one thing stands.

A slot is (author, kind, subject). Its winner is the greatest (epoch, seq); of two with the same place the smaller id,
though no honest node ever signs two. So the outcome does not depend on the order of arrival.

A version is write-once. An announcement of other bytes must name, in `replaces`, the id of the slot's first one; then
both stay in the set, first and winner, and everyone can see that the release was changed. Without that name it
contradicts: the earlier one stays, whichever arrived first, and the contradiction is reported. After a contradiction
the slot takes nothing newer that merely repeats the same bytes, or an author with three stories could make it change
for ever. One that names a first which is not here is not taken yet: reconciliation brings both.
"""

from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256

from pfn_protocol.acceptance import expires_ms
from pfn_protocol.announcements import AcceptedAnnouncement, Kind, NodeStatement, VersionStatement


@dataclass(frozen=True, slots=True)
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
    replaces: bytes = b""  # of a version: the id of the slot's first
    node: NodeStatement | None = None  # of a node announcement: the pins and sponsored nodes that admission follows

    @property
    def place(self) -> tuple[int, int]:
        """Its place in the author's order."""
        return (self.epoch, self.seq)


def entry_of(announcement: AcceptedAnnouncement) -> Entry:
    """What is to be remembered of an accepted announcement."""
    statement = announcement.statement
    version = statement if isinstance(statement, VersionStatement) else None
    return Entry(
        id=announcement.id,
        author=announcement.author,
        kind=announcement.kind,
        subject=announcement.subject,
        epoch=announcement.epoch,
        seq=announcement.seq,
        size=len(announcement.raw),
        expires_ms=expires_ms(announcement),
        content=version.sha256 if version else b"",
        replaces=version.replaces if version else b"",
        node=statement if isinstance(statement, NodeStatement) else None,
    )


def slot_rank(author: bytes, kind: Kind, subject: str) -> bytes:
    """Which slots stay when an author fills more than its cap: those with the smallest rank."""
    return sha256(author + kind.encode() + subject.encode()).digest()


class Ruling(Enum):
    """What became of an announcement that was offered to a slot."""

    STANDS = "it is in the slot now"
    SUPERSEDED = "a newer one stands; this one says nothing any more"
    EARLY = "it replaces one that is not here yet, so it cannot be judged"
    CONTRADICTS = "it contradicts the one that stands, and is not taken"
    CORRECTS = "it contradicts the one that stood, is the earlier one, and takes its place"


@dataclass(slots=True)
class Slot:
    """The winner, and the first of a replaced version."""

    winner: Entry
    first: Entry | None = None
    contradicted: bool = False
    rank: bytes = field(default=b"")

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What of this slot is in the set."""
        return (self.winner,) if self.first is None else (self.first, self.winner)

    def offer(self, entry: Entry) -> Ruling:
        """Take the announcement in if it stands; the slot's entries are the outcome. Known ids are not offered."""
        if entry.place == self.winner.place:
            return self._settle_equal(entry)
        if entry.kind is not Kind.VERSION:
            return self._take(entry) if entry.place > self.winner.place else Ruling.SUPERSEDED
        return self._offer_newer(entry) if entry.place > self.winner.place else self._offer_older(entry)

    def _take(self, entry: Entry) -> Ruling:
        self.winner = entry
        return Ruling.STANDS

    def _settle_equal(self, entry: Entry) -> Ruling:
        """Two of one place: no honest author signs both. The smaller id stays."""
        self.contradicted = True
        if entry.id > self.winner.id:
            return Ruling.CONTRADICTS
        self.winner = entry
        if self.first is not None and self.first.id != entry.replaces:
            self.first = None
        return Ruling.CORRECTS

    def _continues(self, entry: Entry) -> bool:
        """Whether entry and winner belong together: the same bytes, or both replacing the same first."""
        if entry.replaces != self.winner.replaces:
            return False
        return entry.content == self.winner.content or entry.replaces != b""

    def _offer_newer(self, entry: Entry) -> Ruling:
        if entry.replaces == self.winner.id and not self.winner.replaces:
            self.first = self.winner
            return self._take(entry)
        if self._continues(entry):
            return Ruling.SUPERSEDED if self.contradicted and not entry.replaces else self._take(entry)
        if entry.replaces and not self.winner.replaces:
            return Ruling.EARLY
        self.contradicted = True
        return Ruling.CONTRADICTS

    def _offer_older(self, entry: Entry) -> Ruling:
        if entry.id == self.winner.replaces and not entry.replaces:
            self.first = entry
            return Ruling.STANDS
        if self._continues(entry) or self._is_earlier_first(entry):
            return Ruling.SUPERSEDED
        self.contradicted = True
        if self.first is not None and self.first.place < entry.place:
            return Ruling.CONTRADICTS
        self.winner, self.first = entry, None
        return Ruling.CORRECTS

    def _is_earlier_first(self, entry: Entry) -> bool:
        """A first that was repeated before it was replaced; or one that cannot be judged before the named one came."""
        if not self.winner.replaces or entry.replaces:
            return False
        return self.first is None or self.first.content == entry.content
