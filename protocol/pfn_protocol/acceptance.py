"""The one door for announcements: bytes go in, an `AcceptedAnnouncement` comes out, or a typed refusal.

Whatever is kept, shown or relayed has passed `accept`; the type proves it. Each check cites its rule of SPEC.md. What
is not decided here is whether the author is admitted (registry.py) and whose word backs bytes (backing.py).
"""

from typing import Final

from pfn_protocol.announcement_fields import decode, encode
from pfn_protocol.announcements import SIGNED_KINDS, AcceptedAnnouncement, Kind, SignedKind, Statement
from pfn_protocol.encoding import open_envelope, seal
from pfn_protocol.equivocation import convict, is_equivocation, looks_like_conviction, stories
from pfn_protocol.errors import Parked, Refusal, Severity
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import (
    announcement_bytes_max,
    future_ms_max,
    mirror_lifetime_ms,
    node_lifetime_ms,
    parked_future_ms_max,
    source_lifetime_ms,
)
from pfn_protocol.succession import check_succession

# What each domain of an announcement is about.
KIND_OF_DOMAIN: Final[dict[str, SignedKind]] = {f"pfn/{kind}/1": kind for kind in SIGNED_KINDS}
_DOMAINS = tuple(KIND_OF_DOMAIN)
_LIFETIMES_MS = {
    Kind.NODE: node_lifetime_ms,
    Kind.SOURCE: source_lifetime_ms,
    Kind.VERSION: None,
    Kind.MIRROR: mirror_lifetime_ms,
    # What was said for somebody's safety must not end because nobody repeats it.
    Kind.YANK: None,
    Kind.ADVISORY: None,
    Kind.REVOKE: None,
    # A commitment counts after 72 hours, and its succession whenever a node that was away comes back.
    Kind.SUCCESSOR: None,
    Kind.SUCCESSION: None,
    Kind.CONVICTION: None,
}
# Asked for each of a million announcements at a start.
EXPIRING_KINDS: Final = frozenset(kind for kind, lifetime in _LIFETIMES_MS.items() if lifetime is not None)


def lifetime_ms(kind: Kind) -> int | None:
    """How long after its seq an announcement of this kind counts; None for ever (R32)."""
    return _LIFETIMES_MS[kind]


def expires_ms(announcement: AcceptedAnnouncement) -> int | None:
    """When the announcement stops to count, in milliseconds since 1970; None never.

    It follows from seq alone, so an older announcement of a slot always expires first, and nothing rolls back after it.
    """
    lifetime = lifetime_ms(announcement.kind)
    return None if lifetime is None else announcement.seq + lifetime


def accept(raw: bytes, *, mesh: str, now_ms: int) -> AcceptedAnnouncement:
    """Check an announcement that was received; raise `Refusal`, or `Parked` if only its time has not come (R42)."""
    announcement = verified(raw, mesh)
    check_time(announcement, now_ms)
    return announcement


def verified(raw: bytes, mesh: str) -> AcceptedAnnouncement:
    """The part of `accept` that takes long, and follows from the bytes alone; raise `Refusal`."""
    return _verified_conviction(raw, mesh) if looks_like_conviction(raw) else _verified_envelope(raw, mesh)


def _verified_conviction(raw: bytes, mesh: str) -> AcceptedAnnouncement:
    one, other = (_verified_envelope(story, mesh) for story in stories(raw))
    if one.id > other.id or not is_equivocation(one, other):  # R37, R38
        raise Refusal("R38", "these two announcements, in this order, do not prove that their author told two stories")
    return convict(one, other)


def _verified_envelope(raw: bytes, mesh: str) -> AcceptedAnnouncement:
    envelope = open_envelope(raw, mesh=mesh, domain=_DOMAINS, bytes_max=announcement_bytes_max)  # R20, R40
    epoch, seq, statement = decode(KIND_OF_DOMAIN[envelope.domain], envelope.value)
    check_succession(statement, envelope.author, mesh)
    return AcceptedAnnouncement(envelope.id, raw, envelope.author, epoch, seq, statement)


def check_time(announcement: AcceptedAnnouncement, now_ms: int) -> None:
    """The part of `accept` that depends on the moment; raise `Refusal` or `Parked`."""
    expiry = expires_ms(announcement)
    if expiry is not None and expiry <= now_ms:
        raise Refusal("R41", f"this {announcement.kind} announcement has expired", Severity.HARMLESS)
    ahead_ms = announcement.seq - now_ms
    if ahead_ms > parked_future_ms_max:
        raise Refusal("R43", f"this announcement lies {ahead_ms // 3_600_000} hours in the future; check the clocks")
    if ahead_ms > future_ms_max:
        raise Parked("R42", f"this announcement lies {ahead_ms // 60_000} minutes in the future", announcement)


def announce(key: PrivateKey, mesh: str, statement: Statement, epoch: int, seq: int) -> AcceptedAnnouncement:
    """Sign a statement of one's own; raise `Refusal` if others would not accept it (its time aside)."""
    domain = f"pfn/{statement.kind}/1"
    envelope = seal(key, domain, mesh, encode(statement, epoch, seq))
    if len(envelope.raw) > announcement_bytes_max:  # R20
        raise Refusal("R20", f"the announcement of {statement.subject!r} would have {len(envelope.raw)} bytes")
    _, _, accepted = decode(statement.kind, envelope.value)
    check_succession(accepted, key.public, mesh)
    return AcceptedAnnouncement(envelope.id, envelope.raw, envelope.author, epoch, seq, accepted)
