"""Which keys speak for a source: worked out from the key that it was registered with, and what its keys signed since.

The *identity chain* begins with the key that is registered, or that an admin chose last. A rotation adds the next key
if the last one, or the recovery key that the chain has committed to, vouches for it. A *release key* speaks as long as
an identity key of the chain binds it. Every statement counts from the moment when this node saw it, never from the
publisher's own clock: so a stolen key cannot sign itself into the past.

    speaks       what it signs counts
    superseded   followed by another key: what was seen here before that counts on, what comes later does not
    revoked      what was first seen after the moment that the revocation names counts for nothing
    frozen       its owner, or a thief, named two different successors: nothing new counts until an admin decides
    stranger     never bound to this source

Two different rotations of one key contradict each other only within a grace of some days. After that the later one is
a stolen old key, which must not be able to stop the publisher. A recovery key undoes what the key it was committed
beside did, for two days after that was seen.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from pfn_protocol.limits import recovery_seconds, rotation_grace_seconds
from pfn_protocol.publisher import KeybindStatement
from pfn_protocol.publisher_notices import IDENTITY, RELEASE, Revocation, Rotation

T = TypeVar("T")


class Standing(StrEnum):
    """What a key is to a source at a moment."""

    SPEAKS = "speaks"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"
    FROZEN = "frozen"
    STRANGER = "stranger"


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """A statement, by whom its envelope is signed, and when this node saw it first."""

    statement: T
    signer: bytes
    seen_s: int


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key of a source. What was first seen after `cutoff_s` and is signed by it counts for nothing."""

    key: bytes
    is_identity: bool
    epoch: int  # of the identity chain when it began to speak: orders what different keys signed
    standing: Standing
    cutoff_s: int | None


@dataclass(frozen=True, slots=True)
class SourceKeys:
    """What follows from all statements about the keys of one source."""

    root: bytes
    root_epoch: int
    identity: bytes  # the last of the chain
    records: dict[bytes, KeyRecord]
    changed_s: int | None  # when a key last changed, as seen here

    @property
    def frozen(self) -> bool:
        return self.records[self.identity].standing is Standing.FROZEN

    @property
    def revoked(self) -> bool:
        """Whether the identity is revoked and nothing follows it."""
        return self.records[self.identity].standing is Standing.REVOKED

    def standing(self, key: bytes, seen_s: int) -> Standing:
        """What a key is to what was first seen here at a moment."""
        record = self.records.get(key)
        if record is None:
            return Standing.STRANGER
        return Standing.SPEAKS if record.cutoff_s is None or seen_s < record.cutoff_s else record.standing


@dataclass(slots=True)
class _Link:
    """One key of the identity chain."""

    key: bytes
    epoch: int
    recovery_hash: bytes = b""
    followed_by: Seen[Rotation] | None = None
    frozen_s: int | None = None

    def recovered_by(self, voucher: bytes) -> bool:
        return self.recovery_hash != b"" and hashlib.sha256(voucher).digest() == self.recovery_hash

    def vouched_by(self, one: Seen[Rotation], revoked: list[Seen[Revocation]]) -> bool:
        """Whether the recovery key vouches, or the key itself, which must not have been taken back before."""
        if self.recovered_by(one.statement.voucher):
            return True
        return one.statement.voucher == self.key and not any(
            self.renounced_by(revocation) for revocation in revoked if revocation.seen_s < one.seen_s
        )

    def renounced_by(self, one: Seen[Revocation]) -> bool:
        """Whether this key is taken back by itself or its recovery key; a successor's word comes by the rotation."""
        return one.statement.key == self.key and (one.signer == self.key or self.recovered_by(one.signer))


def derive_keys(
    root: bytes,
    root_epoch: int,
    keybinds: Iterable[Seen[KeybindStatement]],
    rotations: Iterable[Seen[Rotation]],
    revocations: Iterable[Seen[Revocation]],
    *,
    root_recovery_hash: bytes = b"",
) -> SourceKeys:
    """Work out the keys of a source.

    `root_epoch`: rotations up to it were settled when `root` was chosen (R140). `root_recovery_hash`: what the
    rotation that made `root` the key committed to, where it is known; or empty.
    """
    ordered = sorted(rotations, key=lambda one: (one.seen_s, one.statement.epoch, one.statement.new_key))
    revoked = sorted(revocations, key=lambda one: one.seen_s)
    first = _Link(root, root_epoch, root_recovery_hash)
    chain = _chain(first, revoked, [one for one in ordered if one.statement.role == IDENTITY])
    records = {link.key: _identity_record(link) for link in chain}
    for revocation in revoked:
        if _may_revoke_identity(revocation, chain):
            _revoke(records, revocation)
    binds = [one for one in keybinds if _counts(records, one)]
    _add_release_keys(records, binds)
    for one in ordered:
        if one.statement.role == RELEASE and _is_of_release_key(one.statement, binds):
            _close(records, one.statement.old_key, Standing.SUPERSEDED, one.seen_s)
    for revocation in revoked:
        if _may_revoke_release_key(revocation, chain, binds):
            _revoke(records, revocation)
        elif _renounces_unbound(revocation, chain[-1], records):
            cutoff_s = min(revocation.seen_s, revocation.statement.not_after_s)
            key = revocation.statement.key
            records[key] = KeyRecord(key, False, chain[-1].epoch, Standing.REVOKED, cutoff_s)
    changes = [link.followed_by.seen_s for link in chain if link.followed_by is not None]
    changes += _new_release_keys(binds)
    return SourceKeys(root, root_epoch, chain[-1].key, records, max(changes, default=None))


def _chain(root: _Link, revoked: list[Seen[Revocation]], rotations: list[Seen[Rotation]]) -> list[_Link]:
    chain = [root]
    for one in rotations:
        last = chain[-1]
        if one.statement.old_key != last.key:
            _contradict(chain, one, revoked)
        elif one.statement.epoch > last.epoch and _may_follow(last, one, revoked):
            _follow(chain, one)
    return chain


def _may_follow(link: _Link, one: Seen[Rotation], revoked: list[Seen[Revocation]]) -> bool:
    recovers = link.recovered_by(one.statement.voucher)
    if link.frozen_s is not None:
        return recovers and one.seen_s <= link.frozen_s + recovery_seconds
    if one.statement.new_key == link.key and link.recovery_hash:
        return recovers  # a thief must not exchange the key that could undo the theft
    return link.vouched_by(one, revoked)


def _follow(chain: list[_Link], one: Seen[Rotation]) -> None:
    last, rotation = chain[-1], one.statement
    if rotation.new_key == last.key:
        last.epoch, last.recovery_hash = rotation.epoch, rotation.recovery_hash
    elif all(link.key != rotation.new_key for link in chain):  # a key that was given up never comes back
        last.followed_by, last.frozen_s = one, None
        chain.append(_Link(rotation.new_key, rotation.epoch, rotation.recovery_hash))


def _contradict(chain: list[_Link], one: Seen[Rotation], revoked: list[Seen[Revocation]]) -> None:
    """A rotation of a key that is not the last one: if it had a successor already, there are two stories."""
    place = next((place for place, link in enumerate(chain) if link.key == one.statement.old_key), None)
    if place is None:
        return
    link, followed = chain[place], chain[place].followed_by
    assert followed is not None, "only the last key has no successor"
    if one.statement.epoch <= link.epoch or one.statement.new_key in (link.key, followed.statement.new_key):
        return
    if not link.vouched_by(one, revoked) or link.recovered_by(followed.statement.voucher):
        return  # what the recovery key said stands
    recovers = link.recovered_by(one.statement.voucher) and one.seen_s <= followed.seen_s + recovery_seconds
    if not recovers and one.seen_s > followed.seen_s + rotation_grace_seconds:
        return
    del chain[place + 1 :]
    link.followed_by, link.frozen_s = None, followed.seen_s
    if recovers:
        _follow(chain, one)


def _identity_record(link: _Link) -> KeyRecord:
    if link.frozen_s is not None:
        return KeyRecord(link.key, True, link.epoch, Standing.FROZEN, link.frozen_s)
    if link.followed_by is not None:
        return KeyRecord(link.key, True, link.epoch, Standing.SUPERSEDED, link.followed_by.seen_s)
    return KeyRecord(link.key, True, link.epoch, Standing.SPEAKS, None)


def _counts(records: dict[bytes, KeyRecord], bind: Seen[KeybindStatement]) -> bool:
    """Whether the identity key that binds spoke when the keybind was seen. It binds nothing to itself or another."""
    identity = records.get(bind.statement.identity_key)
    if identity is None or bind.statement.release_key in records:
        return False
    return identity.cutoff_s is None or bind.seen_s < identity.cutoff_s


def _add_release_keys(records: dict[bytes, KeyRecord], binds: list[Seen[KeybindStatement]]) -> None:
    """A release key speaks as long as the last identity key that bound it."""
    identities = [(bind.statement.release_key, records[bind.statement.identity_key]) for bind in binds]
    for key, identity in sorted(identities, key=lambda pair: pair[1].epoch):
        records[key] = KeyRecord(key, False, identity.epoch, identity.standing, identity.cutoff_s)


def _new_release_keys(binds: list[Seen[KeybindStatement]]) -> list[int]:
    """When release keys came after the first one."""
    first: dict[bytes, int] = {}
    for bind in binds:
        key = bind.statement.release_key
        first[key] = min(first.get(key, bind.seen_s), bind.seen_s)
    return [seen_s for seen_s in first.values() if seen_s > min(first.values())]


def _is_of_release_key(rotation: Rotation, binds: list[Seen[KeybindStatement]]) -> bool:
    """What lets the new key speak is a keybind, as ever: who stole a release key gains nothing by rotating it."""
    is_bound = any(bind.statement.release_key == rotation.old_key for bind in binds)
    return is_bound and rotation.voucher == rotation.old_key


def _may_revoke_identity(one: Seen[Revocation], chain: list[_Link]) -> bool:
    place = next((place for place, link in enumerate(chain) if link.key == one.statement.key), None)
    if place is None:
        return False
    return chain[place].recovered_by(one.signer) or any(link.key == one.signer for link in chain[place:])


def _may_revoke_release_key(one: Seen[Revocation], chain: list[_Link], binds: list[Seen[KeybindStatement]]) -> bool:
    """By itself, by the identity that bound it, or by one that followed that."""
    binders = {bind.statement.identity_key for bind in binds if bind.statement.release_key == one.statement.key}
    if not binders:
        return False
    first = min(place for place, link in enumerate(chain) if link.key in binders)
    return one.signer == one.statement.key or any(link.key == one.signer for link in chain[first:])


def _renounces_unbound(one: Seen[Revocation], last: _Link, records: dict[bytes, KeyRecord]) -> bool:
    """Whether the identity of now takes a key back of which no keybind is known: it is not to speak when one comes."""
    return one.statement.key not in records and one.signer == last.key and last.frozen_s is None


def _revoke(records: dict[bytes, KeyRecord], one: Seen[Revocation]) -> None:
    _close(records, one.statement.key, Standing.REVOKED, min(one.seen_s, one.statement.not_after_s))


def _close(records: dict[bytes, KeyRecord], key: bytes, standing: Standing, cutoff_s: int) -> None:
    """End what a key may say. The earliest end counts, and what was revoked stays revoked."""
    before = records[key]
    if before.cutoff_s is not None:
        cutoff_s = min(cutoff_s, before.cutoff_s)
        standing = Standing.REVOKED if Standing.REVOKED in (standing, before.standing) else standing
    records[key] = KeyRecord(key, before.is_identity, before.epoch, standing, cutoff_s)
