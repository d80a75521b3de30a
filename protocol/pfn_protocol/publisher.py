"""What publishers sign, and how it is checked.

The original network's publishers sign `JSON.stringify({id, name, version, description})`, and the `data` of
/federated/plugin-data. Neither covers the file: a genuine signature can stand beside the digest of any zip. Profile
v2 adds envelopes that do: a release (over sha256 and size), a head (over all of an author's releases), and a keybind
(which release key belongs to which identity key). Publishers belong to no mesh, so their envelopes are of the mesh
"".
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass

from pfn_protocol.encoding import Envelope, Value, open_envelope, pack, preimage, seal
from pfn_protocol.errors import Refusal, Severity
from pfn_protocol.fields import FieldReader
from pfn_protocol.identity import PrivateKey, check_public_key, verify
from pfn_protocol.json_text import raw_member, stringify
from pfn_protocol.limits import (
    artifact_size_bytes_max,
    epoch_max,
    head_lifetime_seconds_max,
    integer_max,
    metadata_bytes_max,
    publisher_envelope_bytes_max,
    seq_min_ms,
    signature_bytes,
    time_seconds_max,
    url_chars_max,
    username_chars_max,
)
from pfn_protocol.names import check_slug, check_username, check_version, parse_instance_url

__all__ = [
    "HeadStatement",
    "KeybindStatement",
    "ReleaseStatement",
    "describes",
    "head_is_fresh",
    "metadata_from_author_data",
    "metadata_message",
    "open_head",
    "open_keybind",
    "open_release",
    "parse_signature",
    "raw_member",
    "sign_head",
    "sign_keybind",
    "sign_release",
    "sign_sha384",
    "verify_metadata",
    "verify_sha384",
]

_RELEASE_DOMAIN = "pfn/release/2"
_HEAD_DOMAIN = "pfn/head/2"
_KEYBIND_DOMAIN = "pfn/keybind/2"
_NO_MESH = ""
_SHA384_BYTES = 48
_SIGNATURE_BASE64_CHARS_MAX = 128


@dataclass(frozen=True, slots=True)
class ReleaseStatement:
    """The author's own word: this zip is this version of my plugin."""

    origin: str  # the publisher's instance URL, in its one spelling
    author: str  # the username there
    slug: str
    version: str
    sha256: bytes  # 32 bytes: of the zip
    size: int  # bytes of the zip
    epoch: int
    seq: int  # milliseconds since 1970, at least
    metadata_sha256: bytes  # SHA-256 of the metadata message of the same release


@dataclass(frozen=True, slots=True)
class HeadStatement:
    """These are all releases of this key; nothing is held back."""

    root: bytes  # 32 bytes: the set digest of the ids of its release envelopes
    count: int
    seq: int
    expires_s: int  # seconds since 1970


@dataclass(frozen=True, slots=True)
class KeybindStatement:
    """The identity key of this publisher lets this release key speak for it; both have signed."""

    origin: str
    identity_key: bytes
    release_key: bytes


def metadata_message(plugin_id: str, name: str, version: str, description: str | None) -> bytes:
    """Return what a metadata signature is over (R50); without a description the member is left out."""
    members = [("id", plugin_id), ("name", name), ("version", version)]
    if description is not None:
        members.append(("description", description))
    message = stringify(members)
    if len(message) > metadata_bytes_max:
        raise Refusal("R50", f"the signed metadata has more than {metadata_bytes_max} bytes")
    return message


def metadata_from_author_data(entry: Mapping[str, object]) -> bytes:
    """Return the metadata message of an entry of /author-data; raise `Refusal` (R50) rather than guess."""
    texts = [_text_member(entry, name) for name in ("slug", "name", "version")]
    description = _text_member(entry, "short_description") if "short_description" in entry else None
    return metadata_message(texts[0], texts[1], texts[2], description)


def verify_metadata(
    public: bytes, plugin_id: str, name: str, version: str, description: str | None, signature: bytes
) -> bool:
    """Whether the signature is this key's over these four texts; False too for texts beyond the limit."""
    try:
        message = metadata_message(plugin_id, name, version, description)
    except Refusal:
        return False
    return verify(public, message, signature)


def describes(text: bytes, slug: str, version: str) -> bool:
    """Whether a signed text speaks of this plugin and version: a genuine text of another proves nothing."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if isinstance(data, list) and len(data) == 1:
        data = data[0]  # the original publisher signs a list that holds the one description
    return isinstance(data, dict) and slug in (data.get("slug"), data.get("id")) and data.get("version") == version


def parse_signature(text: str) -> bytes:
    """Return the 64 bytes of a signature in base64; raise `Refusal` (R56)."""
    try:
        signature = base64.b64decode(text.strip(), validate=True) if len(text) <= _SIGNATURE_BASE64_CHARS_MAX else b""
    except (binascii.Error, ValueError):
        signature = b""
    if len(signature) != signature_bytes:
        raise Refusal("R56", "a signature is the base64 of its 64 bytes")
    return signature


def sign_sha384(key: PrivateKey, digest: bytes) -> bytes:
    """Sign the raw SHA-384 of a zip, as WordPress 6.1 and FAIR verify it (R56)."""
    assert len(digest) == _SHA384_BYTES, "a SHA-384 has 48 bytes"
    return key.sign(digest)


def verify_sha384(public: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether the signature is this key's over the raw SHA-384 of a zip."""
    return len(digest) == _SHA384_BYTES and verify(public, digest, signature)


def sign_release(key: PrivateKey, release: ReleaseStatement) -> Envelope:
    """Sign a release with the release key; raise `Refusal` (R53 and the rules of names) if nobody would accept it."""
    body: Value = (
        release.origin,
        release.author,
        release.slug,
        release.version,
        release.sha256,
        release.size,
        release.epoch,
        release.seq,
        release.metadata_sha256,
    )
    envelope = seal(key, _RELEASE_DOMAIN, _NO_MESH, body)
    _read_release(envelope.value)
    return envelope


def open_release(raw: bytes) -> tuple[ReleaseStatement, bytes]:
    """Return the statement and the release key that signed it; raise `Refusal` (R53)."""
    envelope = _open(raw, _RELEASE_DOMAIN)
    return _read_release(envelope.value), envelope.author


def sign_head(key: PrivateKey, head: HeadStatement) -> Envelope:
    """Sign a head with the release key; raise `Refusal` (R54)."""
    envelope = seal(key, _HEAD_DOMAIN, _NO_MESH, (head.root, head.count, head.seq, head.expires_s))
    _read_head(envelope.value)
    return envelope


def open_head(raw: bytes) -> tuple[HeadStatement, bytes]:
    """Return the statement and the release key that signed it; raise `Refusal` (R54). It may have expired."""
    envelope = _open(raw, _HEAD_DOMAIN)
    return _read_head(envelope.value), envelope.author


def head_is_fresh(head: HeadStatement, now_ms: int) -> bool:
    """Whether the head counts now: not expired, and not promised for longer than 14 days (R54)."""
    return 0 < head.expires_s - now_ms // 1_000 <= head_lifetime_seconds_max


def sign_keybind(identity_key: PrivateKey, release_key: PrivateKey, origin: str) -> Envelope:
    """Bind a release key to an identity key; both sign. Raise `Refusal` (R55, R58)."""
    signed = _keybind_preimage(origin, identity_key.public, release_key.public)
    body: Value = (origin, identity_key.public, release_key.public, identity_key.sign(signed))
    envelope = seal(release_key, _KEYBIND_DOMAIN, _NO_MESH, body)
    _read_keybind(envelope)
    return envelope


def open_keybind(raw: bytes) -> tuple[KeybindStatement, bytes]:
    """Return the statement and the release key; raise `Refusal` (R55) unless both keys have signed."""
    statement = _read_keybind(_open(raw, _KEYBIND_DOMAIN))
    return statement, statement.release_key


def _open(raw: bytes, domain: str) -> Envelope:
    return open_envelope(raw, mesh=_NO_MESH, domain=domain, bytes_max=publisher_envelope_bytes_max)


def _text_member(entry: Mapping[str, object], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise Refusal("R50", f"{name} must be a text for its signature to be checked")
    return value


def _read_release(value: Value) -> ReleaseStatement:
    reader = FieldReader(value, 9, "R53", "a release")
    release = ReleaseStatement(
        origin=reader.text("origin", url_chars_max),
        author=reader.text("author", username_chars_max),
        slug=reader.text("slug", url_chars_max),
        version=reader.text("version", url_chars_max),
        sha256=reader.digest("sha256"),
        size=reader.integer("size", 1, artifact_size_bytes_max),
        epoch=reader.integer("epoch", 0, epoch_max),
        seq=reader.integer("seq", seq_min_ms, integer_max),
        metadata_sha256=reader.digest("metadata_sha256"),
    )
    _check_origin(release.origin, "R53")
    check_username(release.author)
    check_slug(release.slug)
    check_version(release.version)
    return release


def _read_head(value: Value) -> HeadStatement:
    reader = FieldReader(value, 4, "R54", "a head")
    return HeadStatement(
        root=reader.digest("root"),
        count=reader.integer("count"),
        seq=reader.integer("seq", seq_min_ms, integer_max),
        expires_s=reader.integer("expires_s", 0, time_seconds_max),
    )


def _read_keybind(envelope: Envelope) -> KeybindStatement:
    reader = FieldReader(envelope.value, 4, "R55", "a keybind")
    statement = KeybindStatement(
        origin=reader.text("origin", url_chars_max),
        identity_key=reader.digest("identity_key"),
        release_key=reader.digest("release_key"),
    )
    identity_signature = reader.byte_string("identity_signature", signature_bytes, bytes_min=signature_bytes)
    _check_origin(statement.origin, "R55")
    if statement.release_key != envelope.author:
        raise Refusal("R55", "a keybind is signed by the release key that it names")
    check_public_key(statement.identity_key)
    signed = _keybind_preimage(statement.origin, statement.identity_key, statement.release_key)
    if not verify(statement.identity_key, signed, identity_signature):
        raise Refusal("R55", "the identity key's own signature in the keybind does not verify", Severity.HOSTILE)
    return statement


def _keybind_preimage(origin: str, identity_key: bytes, release_key: bytes) -> bytes:
    # Three fields where the envelope's body has four: neither signature can stand for the other.
    return preimage(_KEYBIND_DOMAIN, _NO_MESH, pack((origin, identity_key, release_key)))


def _check_origin(origin: str, rule: str) -> None:
    spelling = parse_instance_url(origin, allow_http=True)
    if spelling != origin:
        raise Refusal(rule, f"the origin must be spelled {spelling!r}")
