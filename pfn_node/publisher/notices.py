"""What a publisher says about its keys and about releases that are out: signed offline, served with every answer.

`notices.json` in the data folder holds the envelopes. Rotations and revocations are kept for ever; of yanks and
advisories the last one about each subject. A running publisher sees when the file changes.

A rotation writes in an order from which a crash can be mended: the new key beside the old one (`publisher.key.next`),
then the envelope, then the new key in the old one's place. The old key stays as `publisher.key.1`, for its owner to put
away: whatever it signs counts no longer once nodes have seen the rotation.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Callable
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


def finish_rotation(data: Path) -> None:
    """Put a new key in its place whose rotation was signed when the process ended; forget one that was not."""
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
    finish_rotation(whose.data)
    keys = open_keys(whose.data)
    old = keys.identity if role == IDENTITY else keys.release
    book = read_notices(whose.data)
    file = whose.data / _KEY_FILES[role]
    new = PrivateKey(secrets.token_bytes(32))
    voucher = old if recovery is None else open_key(recovery)
    rotation = Rotation(
        *(whose.origin, whose.author, role, old.public, new.public, book.epoch + 1, reason, now_s),
        recovery_hash=_standing_commitment(book, old.public),
        voucher=voucher.public,
    )
    envelope = _signed(lambda: sign_rotation(new, voucher, rotation))
    try:
        write_secret(file.with_name(f"{file.name}.{rotation.epoch}"), old.to_pem())
        write_secret(file.with_name(f"{file.name}.next"), new.to_pem())
    except DataFolderError as error:
        raise PublisherError(f"The new key cannot be kept: {error}.") from error
    book.rotations.append(_text(envelope))
    _write(whose.data, book)
    finish_rotation(whose.data)
    return _handed(whose, envelope, {"role": role, "old_key": did_key(old.public), "new_key": did_key(new.public)})


def commit_recovery(whose: Whose, now_s: int) -> dict[str, Any]:
    """Make a recovery key and commit to it, once; return what to hand in. Raises PublisherError.

    A second one would undo nothing: nodes keep to the first, or a thief could exchange it (R140).
    """
    keys, book = open_keys(whose.data), read_notices(whose.data)
    file = whose.data / RECOVERY_FILE
    standing = _standing_commitment(book, keys.identity.public)
    if standing:
        raise PublisherError(
            f"This publisher has committed to the recovery key whose sha256 is {standing.hex()}, and nodes take no "
            f"other in its place: keep the {RECOVERY_FILE} that was made then."
        )
    is_left = file.exists()  # by a commitment that was cut off before it was kept
    recovery = open_key(file) if is_left else PrivateKey(secrets.token_bytes(32))
    rotation = Rotation(
        *(whose.origin, whose.author, IDENTITY, keys.identity.public, keys.identity.public, book.epoch + 1, "", now_s),
        recovery_hash=hashlib.sha256(recovery.public).digest(),
        voucher=keys.identity.public,
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
    keys, book = open_keys(whose.data), read_notices(whose.data)
    public = _public_key(keys, key)
    if public == keys.release.public:
        raise PublisherError("That is the release key in use; replace it first: pfn publisher rotate --role release.")
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
    keys, book = open_keys(whose.data), read_notices(whose.data)
    said = Yank(whose.origin, whose.author, slug, version, reason, _next_seq(whose.data, now_ms), withdrawn)
    envelope = _signed(lambda: sign_yank(keys.release, said))
    book.yanks[f"{slug}/{version}"] = _text(envelope)
    _write(whose.data, book)
    return _handed(whose, envelope, {"slug": slug, "version": version})


def advise(whose: Whose, advisory: Callable[[int], Advisory], now_ms: int) -> dict[str, Any]:
    """Say that versions have a weakness; `advisory` is given its seq. Return what to hand in. Raises PublisherError."""
    keys, book = open_keys(whose.data), read_notices(whose.data)
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
