"""What a publisher says about its keys and about releases that are out: signed offline, served with every answer.

`notices.json` in the data folder holds the envelopes. Rotations and revocations are kept for ever; of yanks and
advisories the last one about each subject. A running publisher sees when the file changes.

One process at a time changes any of this (`notices.lock`). A rotation writes in an order from which a crash can be
mended: the new key beside the old one (`publisher.key.next`), then the envelope, then the new key in the old one's
place. The old key stays as `publisher.key.1`, for its owner to put away: whatever it signs counts no longer once nodes
have seen the rotation.
"""

import base64
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pfn_node.data_folder import DataFolderError, write_secret
from pfn_node.publisher.signing import (
    IDENTITY_FILE,
    NOTICES_FILE,
    RELEASE_FILE,
    PublisherError,
    PublisherKeys,
    open_key,
    open_keys,
    open_ledger,
    replace_file,
)
from pfn_protocol.encoding import Envelope
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey, did_key, parse_did_key
from pfn_protocol.names import parse_instance_url
from pfn_protocol.publisher import sign_keybind
from pfn_protocol.publisher_notices import (
    IDENTITY,
    RELEASE,
    Advisory,
    Revocation,
    Rotation,
    Yank,
    open_notice,
    sign_advisory,
    sign_revocation,
    sign_rotation,
    sign_yank,
)

NOTICES_LOCK: Final = "notices.lock"
RECOVERY_FILE: Final = "recovery.key"
_KEY_FILES: Final = {IDENTITY: IDENTITY_FILE, RELEASE: RELEASE_FILE}


@dataclass(slots=True)
class NoticeBook:
    """The envelopes in base64, as they are served."""

    rotations: list[str] = field(default_factory=list)
    revocations: list[str] = field(default_factory=list)
    yanks: dict[str, str] = field(default_factory=dict)  # by slug/version
    advisories: dict[str, str] = field(default_factory=dict)  # by slug/id

    @property
    def epoch(self) -> int:
        """Of the last rotation; 0 before the first."""
        return max((one.epoch for one in self.rotated()), default=0)

    def rotated(self) -> list[Rotation]:
        """The rotations, opened."""
        notices = (open_notice(base64.b64decode(text)).notice for text in self.rotations)
        return [notice for notice in notices if isinstance(notice, Rotation)]

    def extras(self) -> dict[str, list[str]]:
        """The members that carry them in a publisher's answers; those without any are left out."""
        members = {
            "rotations_v2": self.rotations,
            "revocations_v2": self.revocations,
            "yanks_v2": list(self.yanks.values()),
            "advisories_v2": list(self.advisories.values()),
        }
        return {name: texts for name, texts in members.items() if texts}


@dataclass(frozen=True, slots=True)
class Whose:
    """Which publisher speaks: its data folder, its author, and its URL as nodes know it."""

    data: Path
    author: str
    origin: str

    @classmethod
    def of(cls, data: Path, author: str, origin: str) -> "Whose":
        """Raises PublisherError for an origin that no node would take."""
        try:
            return cls(data, author, parse_instance_url(origin, allow_http=True))
        except Refusal as refusal:
            raise PublisherError(f"The publisher's URL {origin!r} cannot be used: {refusal.sentence}.") from refusal


def read_notices(data: Path) -> NoticeBook:
    """The notices in the data folder. Raises PublisherError if they cannot be read."""
    file = data / NOTICES_FILE
    try:
        parsed: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        book = NoticeBook(**parsed)
        book.rotated()
    except (ValueError, TypeError, Refusal) as error:
        raise PublisherError(
            f"{file} is damaged; restore it: what it said is at the nodes that have seen it."
        ) from error
    return book


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """One process at a time changes keys and notices: else a publisher that looks while a rotation is written would
    take the new key for one that was cut off, and it would be lost.
    """
    lock = os.open(data / NOTICES_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def _speaking(data: Path) -> Iterator[tuple[PublisherKeys, NoticeBook]]:
    """The keys that count now, and what was said, which nobody else changes meanwhile. Raises PublisherError."""
    open_keys(data)  # a folder without keys is nobody's, and gets nothing written into it
    with _alone(data):
        _put_in_place(data)
        keys, book = open_keys(data), read_notices(data)
        check_current(keys, book, data)
        yield keys, book


def check_current(keys: PublisherKeys, book: NoticeBook, data: Path) -> None:
    """Raise PublisherError for a key that was replaced, as an old backup brings it back: nothing it signs counts."""
    replaced = {one.old_key for one in book.rotated() if one.old_key != one.new_key}
    for key, name in ((keys.identity, IDENTITY_FILE), (keys.release, RELEASE_FILE)):
        if key.public in replaced:
            raise PublisherError(f"{data / name} was replaced by a rotation; put the key back that followed it.")


def finish_rotation(data: Path) -> None:
    """Put a new key in its place whose rotation was signed when the process ended; forget one that was not."""
    with _alone(data):
        _put_in_place(data)


def _put_in_place(data: Path) -> None:
    book = read_notices(data)
    signed = {rotation.new_key for rotation in book.rotated()}
    for name in _KEY_FILES.values():
        following = data / f"{name}.next"
        if following.exists():
            if open_key(following).public in signed:
                following.replace(data / name)
            else:
                following.unlink()


def rotate(whose: Whose, role: str, reason: str, now_s: int, *, recovery: Path | None = None) -> dict[str, Any]:
    """Replace a key by a new one; return what `POST /federation/notices` takes. Raises PublisherError.

    With `recovery`, the private key that an earlier rotation committed to vouches instead of the old one.
    """
    with _speaking(whose.data) as (keys, book):
        old = keys.identity if role == IDENTITY else keys.release
        new = PrivateKey(secrets.token_bytes(32))
        voucher = old if recovery is None else open_key(recovery)
        rotation = Rotation(
            *(whose.origin, whose.author, role, old.public, new.public, book.epoch + 1, reason, now_s),
            recovery_hash=_standing_commitment(book, old.public),
            voucher=voucher.public,
        )
        envelope = _signed(lambda: sign_rotation(new, voucher, rotation))
        _keep_keys(whose.data / _KEY_FILES[role], rotation.epoch, old, new)
        book.rotations.append(_text(envelope))
        _write(whose.data, book)
        _put_in_place(whose.data)
        about = {"role": role, "old_key": did_key(old.public), "new_key": did_key(new.public)}
        return _handed(whose, envelope, about)


def _keep_keys(file: Path, epoch: int, old: PrivateKey, new: PrivateKey) -> None:
    """The old key to be put away, which a rotation that was cut off has left there already, and the new one."""
    put_away = file.with_name(f"{file.name}.{epoch}")
    try:
        if not put_away.exists() or open_key(put_away).public != old.public:
            write_secret(put_away, old.to_pem())
        write_secret(file.with_name(f"{file.name}.next"), new.to_pem())
    except DataFolderError as error:
        raise PublisherError(f"The new key cannot be kept: {error}.") from error


def commit_recovery(whose: Whose, now_s: int) -> dict[str, Any]:
    """Make a recovery key and commit to it, once; return what to hand in. Raises PublisherError.

    A second one would undo nothing: nodes keep to the first, or a thief could exchange it (R140).
    """
    with _speaking(whose.data) as (keys, book):
        file = whose.data / RECOVERY_FILE
        own = keys.identity.public
        standing = _standing_commitment(book, own)
        if standing:
            raise PublisherError(
                f"This publisher has committed to the recovery key whose sha256 is {standing.hex()}, and nodes take no "
                f"other in its place: keep the {RECOVERY_FILE} that was made then."
            )
        is_left = file.exists()  # by a commitment that was cut off before it was kept
        recovery = open_key(file) if is_left else PrivateKey(secrets.token_bytes(32))
        rotation = Rotation(
            *(whose.origin, whose.author, IDENTITY, own, own, book.epoch + 1, "", now_s),
            recovery_hash=hashlib.sha256(recovery.public).digest(),
            voucher=own,
        )
        envelope = _signed(lambda: sign_rotation(keys.identity, keys.identity, rotation))
        try:
            if not is_left:
                write_secret(file, recovery.to_pem())
        except DataFolderError as error:
            raise PublisherError(f"The recovery key cannot be kept: {error}.") from error
        book.rotations.append(_text(envelope))
        _write(whose.data, book)
        return _handed(whose, envelope, {"recovery_key": str(file)})


def _standing_commitment(book: NoticeBook, key: bytes) -> bytes:
    """The recovery key that was committed to stays the one of the keys that follow."""
    committed = [one.recovery_hash for one in book.rotated() if one.new_key == key and one.role == IDENTITY]
    return committed[-1] if committed else b""


def revoke(whose: Whose, key: str, reason: str, not_after_s: int, *, final: bool = False) -> dict[str, Any]:
    """Revoke a key; return what to hand in. `key`: identity, release, or a did:key. Raises PublisherError."""
    with _speaking(whose.data) as (keys, book):
        public = _public_key(keys, key)
        if public == keys.release.public:
            raise PublisherError(
                "That is the release key in use; replace it first: pfn publisher rotate --role release."
            )
        if public == keys.identity.public and not final:
            raise PublisherError(
                "That is the identity key in use. To replace it: pfn publisher rotate. To end this source for good, at "
                "every node: add --final."
            )
        revocation = Revocation(whose.origin, whose.author, public, reason, not_after_s)
        envelope = _signed(lambda: sign_revocation(keys.identity, revocation))
        book.revocations.append(_text(envelope))
        _write(whose.data, book)
        return _handed(whose, envelope, {"key": did_key(public)})


def _public_key(keys: PublisherKeys, key: str) -> bytes:
    if key in (IDENTITY, RELEASE):
        return keys.identity.public if key == IDENTITY else keys.release.public
    try:
        return parse_did_key(key)
    except Refusal as refusal:
        raise PublisherError(f"{key!r} names no key: give identity, release, or a did:key.") from refusal


def yank(whose: Whose, slug: str, version: str, reason: str, now_ms: int, *, withdrawn: bool = False) -> dict[str, Any]:
    """Say that a release should not be installed, or take that back; return what to hand in. Raises PublisherError."""
    with _speaking(whose.data) as (keys, book):
        said = Yank(whose.origin, whose.author, slug, version, reason, _next_seq(whose.data, now_ms), withdrawn)
        envelope = _signed(lambda: sign_yank(keys.release, said))
        book.yanks[f"{slug}/{version}"] = _text(envelope)
        _write(whose.data, book)
        return _handed(whose, envelope, {"slug": slug, "version": version})


def advise(whose: Whose, advisory: Callable[[int], Advisory], now_ms: int) -> dict[str, Any]:
    """Say that versions have a weakness; `advisory` is given its seq. Return what to hand in. Raises PublisherError."""
    with _speaking(whose.data) as (keys, book):
        said = advisory(_next_seq(whose.data, now_ms))
        envelope = _signed(lambda: sign_advisory(keys.release, said))
        book.advisories[f"{said.slug}/{said.advisory_id}"] = _text(envelope)
        _write(whose.data, book)
        return _handed(whose, envelope, {"slug": said.slug, "advisory_id": said.advisory_id})


def _next_seq(data: Path, now_ms: int) -> int:
    with open_ledger(data) as ledger:
        return ledger.next(now_ms)


def _signed(sign: Callable[[], Envelope]) -> Envelope:
    try:
        return sign()
    except Refusal as refusal:
        raise PublisherError(f"That cannot be signed: {refusal.sentence}.") from refusal


def _handed(whose: Whose, envelope: Envelope, about: dict[str, Any]) -> dict[str, Any]:
    """What any node takes: the notice, and what binds the key that signed it."""
    keys = open_keys(whose.data)
    keybind = sign_keybind(keys.identity, keys.release, whose.origin)
    return {**about, "notices_v2": [_text(envelope)], "keybind_v2": _text(keybind)}


def _write(data: Path, book: NoticeBook) -> None:
    members = ("rotations", "revocations", "yanks", "advisories")
    replace_file(data / NOTICES_FILE, json.dumps({name: getattr(book, name) for name in members}))


def _text(envelope: Envelope) -> str:
    return base64.b64encode(envelope.raw).decode()
