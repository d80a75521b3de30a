"""Proof that an author told two stories, and what becomes of it: the conviction.

An epoch is one run of one process (own_announcements.py), and within a run an honest node never uses a place twice, and
never announces other bytes of a version without saying that it does. So two announcements of one author, slot and epoch
that do so prove that the author is not honest. Nothing proves anything across epochs: a node that came back from a
backup, a second process with the same key and a clock that was wrong all speak in epochs of their own.

A conviction is one announcement like others: anybody can make it out of the two, its id follows from the author alone,
and its body is any two that prove it. So nodes that found different proofs hold the same set.
"""

from hashlib import sha256
from typing import Final, Protocol

from pfn_protocol.announcements import AcceptedAnnouncement, Conviction, Kind
from pfn_protocol.encoding import pack, unpack
from pfn_protocol.errors import Refusal
from pfn_protocol.limits import announcement_bytes_max, conviction_bytes_max, epoch_random_bits

# msgpack's list of two: no envelope, which is a list of five, begins with it.
_FIRST_BYTE: Final = b"\x92"


def new_epoch(known: int, now_ms: int, chance: int) -> int:
    """The epoch of a run that begins now; `chance` has `epoch_random_bits`, `known` is the greatest used before (R29).

    Beyond `epoch_max` no announcement can be made: only somebody else with the key can have come there.
    """
    return max(known + 1, max(0, now_ms) // 1_000 << epoch_random_bits) + chance


class Told(Protocol):
    """What two stories are compared by."""

    @property
    def id(self) -> bytes: ...
    @property
    def author(self) -> bytes: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def subject(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def content(self) -> bytes: ...
    @property
    def replaces(self) -> bytes: ...


def is_equivocation(one: Told, other: Told) -> bool:
    """Whether these two announcements prove their author guilty (R37)."""
    if one.id == other.id or one.epoch != other.epoch:
        return False
    if (one.author, one.kind, one.subject) != (other.author, other.kind, other.subject):
        return False
    if one.seq == other.seq:
        return True
    later = one if one.seq > other.seq else other
    return one.kind is Kind.VERSION and one.content != other.content and not later.replaces


def conviction_id(author: bytes) -> bytes:
    """The id of an author's conviction, whatever proves it (R38)."""
    return sha256(b"pfn/convicted" + author).digest()


def convict(one: AcceptedAnnouncement, other: AcceptedAnnouncement) -> AcceptedAnnouncement:
    """The conviction that two announcements make; they are an equivocation."""
    first, second = sorted((one, other), key=lambda each: each.id)
    statement = Conviction((first.id, second.id), topic_of(one))
    raw = pack((first.raw, second.raw))
    return AcceptedAnnouncement(conviction_id(one.author), raw, one.author, 0, 0, statement)


def topic_of(announcement: AcceptedAnnouncement) -> str:
    """What an announcement is about, for people."""
    return f"{announcement.kind} {announcement.subject}".strip()


def looks_like_conviction(raw: bytes) -> bool:
    """Whether these bytes can only be a conviction."""
    return raw[:1] == _FIRST_BYTE


def stories(raw: bytes) -> tuple[bytes, bytes]:
    """The two announcements in a conviction, not checked in any way; raise `Refusal` (R38)."""
    match unpack(raw, conviction_bytes_max):
        case (bytes(first), bytes(second)) if max(len(first), len(second)) <= announcement_bytes_max:
            return first, second
        case _:
            raise Refusal(
                "R38", f"a conviction is a list of two announcements of at most {announcement_bytes_max} bytes"
            )
