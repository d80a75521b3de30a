"""What publishers sign about their keys and about releases that are out: rotate, revoke, yank and advisory.

A *notice* certifies itself: whoever holds the bytes can hand them to any node. Opening one says that it is well-formed
and by whom it is signed; whether that key may say so is another question (key_standing.py).

A rotation is signed by the new key (the envelope) and vouched for by the old one, or by a recovery key whose SHA-256
an earlier rotation committed to. A rotation of a key to itself changes nothing but that commitment.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final, TypeAlias

from pfn_protocol.encoding import Envelope, Value, open_envelope, pack, preimage, seal
from pfn_protocol.errors import Refusal, Severity
from pfn_protocol.fields import FieldReader
from pfn_protocol.identity import PrivateKey, check_public_key, verify
from pfn_protocol.limits import (
    epoch_max,
    integer_max,
    publisher_envelope_bytes_max,
    reason_chars_max,
    seq_min_ms,
    signature_bytes,
    slug_chars_max,
    summary_chars_max,
    time_seconds_max,
    url_chars_max,
    username_chars_max,
    version_chars_max,
    word_chars_max,
)
from pfn_protocol.names import check_slug, check_username, check_version, parse_instance_url, source_id_of
from pfn_protocol.notice_fields import (
    Ranges,
    check_notice_size,
    read_advisory_id,
    read_aliases,
    read_ranges,
    read_severity,
    read_shown_url,
)

IDENTITY: Final = "identity"
RELEASE: Final = "release"
_ROTATE_DOMAIN: Final = "pfn/rotate/2"
_REVOKE_DOMAIN: Final = "pfn/revoke/2"
_YANK_DOMAIN: Final = "pfn/yank/2"
_ADVISORY_DOMAIN: Final = "pfn/advisory/2"
_NO_MESH: Final = ""


@dataclass(frozen=True, slots=True)
class Rotation:
    """My old key is followed by this new one."""

    origin: str  # the publisher's instance URL, in its one spelling
    author: str  # the username there
    role: str  # "identity": nodes know the source by it; "release": it signs releases
    old_key: bytes
    new_key: bytes  # the same as the old one: only the recovery hash changes
    epoch: int  # greater than that of every earlier rotation of the source
    reason: str
    effective_s: int  # seconds since 1970; before that it does not count
    recovery_hash: bytes  # SHA-256 of a key that may undo what the new one does; or empty
    voucher: bytes  # the key that vouches for the new one: the old one, or the recovery key


@dataclass(frozen=True, slots=True)
class Revocation:
    """Nothing that this key signed after a moment is mine."""

    origin: str
    author: str
    key: bytes
    reason: str
    not_after_s: int  # seconds since 1970: what was first seen later does not count


@dataclass(frozen=True, slots=True)
class Yank:
    """Do not install this release of mine any more."""

    origin: str
    author: str
    slug: str
    version: str
    reason: str
    seq: int  # milliseconds since 1970, at least: of two about one release the greater counts
    withdrawn: bool  # it may be installed again


@dataclass(frozen=True, slots=True)
class Advisory:
    """These versions of my plugin have a weakness."""

    origin: str
    author: str
    slug: str
    advisory_id: str
    severity: str
    summary: str
    ranges: Ranges
    url: str  # shown, never fetched; may be empty
    aliases: tuple[str, ...]  # other names of it, such as CVE numbers
    seq: int
    withdrawn: bool


Notice: TypeAlias = Rotation | Revocation | Yank | Advisory


@dataclass(frozen=True, slots=True)
class OpenNotice:
    """A notice whose signatures hold."""

    id: bytes
    raw: bytes
    signer: bytes  # the key that signed the envelope
    notice: Notice

    @property
    def source_id(self) -> str:
        return source_id_of(self.notice.origin, self.notice.author)


def sign_rotation(new_key: PrivateKey, voucher: PrivateKey, rotation: Rotation) -> Envelope:
    """Sign a rotation with the key that comes and the one that vouches; raise `Refusal` (R66)."""
    fields_signed = _as_fields(rotation)
    return _sealed(new_key, _ROTATE_DOMAIN, (*fields_signed, voucher.sign(_voucher_preimage(fields_signed))), "R66")


def sign_revocation(key: PrivateKey, revocation: Revocation) -> Envelope:
    """Sign a revocation with the key itself, its successor or the recovery key; raise `Refusal` (R67)."""
    return _sealed(key, _REVOKE_DOMAIN, _as_fields(revocation), "R67")


def sign_yank(key: PrivateKey, yank: Yank) -> Envelope:
    """Sign a yank with the release key; raise `Refusal` (R68)."""
    return _sealed(key, _YANK_DOMAIN, _as_fields(yank), "R68")


def sign_advisory(key: PrivateKey, advisory: Advisory) -> Envelope:
    """Sign an advisory with the release key; raise `Refusal` (R69)."""
    return _sealed(key, _ADVISORY_DOMAIN, _as_fields(advisory), "R69")


def open_notice(raw: bytes) -> OpenNotice:
    """Return the notice and the key that signed it; raise `Refusal` (R66 to R69)."""
    envelope = open_envelope(raw, mesh=_NO_MESH, domain=tuple(_READERS), bytes_max=publisher_envelope_bytes_max)
    return OpenNotice(envelope.id, raw, envelope.author, _READERS[envelope.domain](envelope))


def _as_fields(notice: Notice) -> tuple[Value, ...]:
    return tuple(getattr(notice, field.name) for field in fields(notice))


def _sealed(key: PrivateKey, domain: str, body: Value, rule: str) -> Envelope:
    envelope = seal(key, domain, _NO_MESH, body)
    check_notice_size(len(envelope.raw), publisher_envelope_bytes_max, rule)
    _READERS[domain](envelope)
    return envelope


def _voucher_preimage(fields_signed: tuple[Value, ...]) -> bytes:
    # Ten fields where the envelope's body has eleven: neither signature can stand for the other.
    return preimage(_ROTATE_DOMAIN, _NO_MESH, pack(fields_signed))


def _read_rotation(envelope: Envelope) -> Rotation:
    reader = FieldReader(envelope.value, 11, "R66", "a rotation")
    origin, author = _read_whose(reader, "R66")
    rotation = Rotation(
        origin=origin,
        author=author,
        role=reader.text("role", word_chars_max),
        old_key=reader.digest("old_key"),
        new_key=reader.digest("new_key"),
        epoch=reader.integer("epoch", 1, epoch_max),
        reason=reader.text("reason", reason_chars_max),
        effective_s=reader.integer("effective_s", 0, time_seconds_max),
        recovery_hash=reader.optional_digest("recovery_hash"),
        voucher=reader.digest("voucher"),
    )
    signature = reader.byte_string("voucher_signature", signature_bytes, bytes_min=signature_bytes)
    if rotation.role not in (IDENTITY, RELEASE):
        raise reader.refusal("role", "identity or release")
    if rotation.new_key != envelope.author:
        raise Refusal("R66", "a rotation is signed by the new key that it names")
    check_public_key(rotation.old_key)
    check_public_key(rotation.voucher)
    if not verify(rotation.voucher, _voucher_preimage(_as_fields(rotation)), signature):
        raise Refusal("R66", "the signature that vouches for the new key does not verify", Severity.HOSTILE)
    return rotation


def _read_revocation(envelope: Envelope) -> Revocation:
    reader = FieldReader(envelope.value, 5, "R67", "a revocation")
    origin, author = _read_whose(reader, "R67")
    revocation = Revocation(
        origin,
        author,
        key=reader.digest("key"),
        reason=reader.text("reason", reason_chars_max),
        not_after_s=reader.integer("not_after_s", 0, time_seconds_max),
    )
    check_public_key(revocation.key)
    return revocation


def _read_yank(envelope: Envelope) -> Yank:
    reader = FieldReader(envelope.value, 7, "R68", "a yank")
    origin, author = _read_whose(reader, "R68")
    yank = Yank(
        origin,
        author,
        slug=reader.text("slug", slug_chars_max),
        version=reader.text("version", version_chars_max),
        reason=reader.text("reason", reason_chars_max),
        seq=reader.integer("seq", seq_min_ms, integer_max),
        withdrawn=reader.boolean("withdrawn"),
    )
    check_slug(yank.slug)
    check_version(yank.version)
    return yank


def _read_advisory(envelope: Envelope) -> Advisory:
    reader = FieldReader(envelope.value, 11, "R69", "an advisory")
    origin, author = _read_whose(reader, "R69")
    advisory = Advisory(
        origin,
        author,
        slug=reader.text("slug", slug_chars_max),
        advisory_id=read_advisory_id(reader),
        severity=read_severity(reader),
        summary=reader.text("summary", summary_chars_max, chars_min=1),
        ranges=read_ranges(reader, "R69"),
        url=read_shown_url(reader),
        aliases=read_aliases(reader),
        seq=reader.integer("seq", seq_min_ms, integer_max),
        withdrawn=reader.boolean("withdrawn"),
    )
    check_slug(advisory.slug)
    return advisory


def _read_whose(reader: FieldReader, rule: str) -> tuple[str, str]:
    origin = reader.text("origin", url_chars_max)
    author = reader.text("author", username_chars_max)
    spelling = parse_instance_url(origin, allow_http=True)
    if spelling != origin:
        raise Refusal(rule, f"the origin must be spelled {spelling!r}")
    check_username(author)
    return origin, author


_READERS: Final[dict[str, Callable[[Envelope], Notice]]] = {
    _ROTATE_DOMAIN: _read_rotation,
    _REVOKE_DOMAIN: _read_revocation,
    _YANK_DOMAIN: _read_yank,
    _ADVISORY_DOMAIN: _read_advisory,
}
