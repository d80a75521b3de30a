"""Canonical bytes, and the one envelope around everything that is signed.

Bytes are signed, never objects: two encoders that disagree about a map's order or an integer's width would disagree
about a signature. So the body of an envelope is msgpack with exactly one encoding for each value, and the reader
proves it by encoding again what it decoded. msgpack alone would accept duplicate keys, wide integers, NaN and lists
whose claimed length reserves gigabytes; each of these is refused here before anything else looks at the value.

The order of the checks: size, parse with limits, kinds and depth, re-encoding, shape, domain, body, key, signature.
The cheap ones come first; after the signature the bytes are known to be the author's, and are kept and relayed as
they came.

Why a preimage begins with 0xFF: publishers of the original network sign any text that they are sent, with the key
that we verify them by. Text is UTF-8, and no UTF-8 text begins with 0xFF; nothing that they can be talked into
signing is an envelope.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

import msgpack

from pfn_protocol.errors import Refusal, Severity
from pfn_protocol.identity import PrivateKey, check_public_key, verify
from pfn_protocol.limits import (
    depth_max,
    domain_chars_max,
    integer_max,
    key_bytes,
    list_items_max,
    mesh_name_chars_max,
    signature_bytes,
)

Value: TypeAlias = "bool | int | str | bytes | tuple[Value, ...] | None"

ENVELOPE_VERSION: Final = 1
_BODY_PLACE: Final = 3
_PREIMAGE_MAGIC: Final = b"\xffPFN\x01"
# Whatever of these an envelope holds is sound; integers have bounds, and lists have items.
_PLAIN_KINDS: Final = frozenset({type(None), bool, str, bytes})
_MESH_NAME: Final = re.compile(rf"[a-z0-9-]{{1,{mesh_name_chars_max}}}")


@dataclass(frozen=True, slots=True)
class Envelope:
    """Signed bytes whose signature has been verified, or has just been made."""

    domain: str
    author: bytes  # 32 bytes: the public key that signed
    body: bytes  # canonical msgpack
    signature: bytes
    raw: bytes  # the whole, as received: this is what is kept and relayed
    id: bytes  # SHA-256 of preimage and author: independent of the signature's own bytes
    value: Value  # the body, decoded


def check_mesh_name(mesh: str) -> None:
    """Raise `Refusal` (R7) unless this can name a mesh; the empty name is that of what publishers sign."""
    if mesh != "" and _MESH_NAME.fullmatch(mesh) is None:
        raise Refusal("R7", f"a mesh name is 1-{mesh_name_chars_max} characters out of a-z, 0-9 and '-'")


def preimage(domain: str, mesh: str, body: bytes) -> bytes:
    """Return the bytes that are signed (R5)."""
    mesh_bytes, domain_bytes = mesh.encode("utf-8"), domain.encode("ascii")
    return b"".join(
        (
            _PREIMAGE_MAGIC,
            len(mesh_bytes).to_bytes(2, "big"),
            mesh_bytes,
            len(domain_bytes).to_bytes(2, "big"),
            domain_bytes,
            len(body).to_bytes(4, "big"),
            body,
        )
    )


def pack(value: Value) -> bytes:
    """Return the one encoding of the value; raise `Refusal` (R10, R12) for what has none."""
    _check_kinds(value, 1)
    try:
        packed = msgpack.packb(value, use_bin_type=True)
    except UnicodeEncodeError as error:
        raise Refusal("R12", "a text holds half of a surrogate pair, which UTF-8 cannot express") from error
    assert isinstance(packed, bytes)
    return packed


def unpack(data: bytes, bytes_max: int) -> Value:
    """Return the value of canonical bytes; raise `Refusal` (R9-R12) for any others."""
    if len(data) > bytes_max:  # R9
        raise Refusal("R9", f"{len(data)} bytes were sent where at most {bytes_max} are accepted")
    try:
        value: Value = msgpack.unpackb(
            data,
            raw=False,
            use_list=False,
            max_array_len=list_items_max,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=bytes_max,
            max_bin_len=bytes_max,
            object_pairs_hook=_refuse_map,
            ext_hook=_refuse_extension,
        )
    except UnicodeDecodeError as error:
        raise Refusal("R12", "a text is not valid UTF-8") from error
    except (ValueError, msgpack.UnpackException) as error:
        raise Refusal("R11", "these bytes are not one whole msgpack value within the limits on lists") from error
    _check_kinds(value, 1)
    if msgpack.packb(value, use_bin_type=True) != data:
        raise Refusal(
            "R11", "these bytes are not the canonical encoding of what they say (an integer or length is too wide)"
        )
    return value


def accepted_body(raw: bytes) -> Value:
    """Return the body of an envelope that was accepted before: nothing is checked again."""
    body: Value = msgpack.unpackb(msgpack.unpackb(raw, use_list=False)[_BODY_PLACE], use_list=False)
    return body


def seal(key: PrivateKey, domain: str, mesh: str, body: Value) -> Envelope:
    """Encode, sign and wrap a body; raise `Refusal` (R7, R10, R12) if it cannot be encoded."""
    check_mesh_name(mesh)
    body_bytes = pack(body)
    signed = preimage(domain, mesh, body_bytes)
    signature = key.sign(signed)
    raw = pack((ENVELOPE_VERSION, domain, key.public, body_bytes, signature))
    return Envelope(domain, key.public, body_bytes, signature, raw, _id_of(signed, key.public), body)


def open_envelope(raw: bytes, *, mesh: str, domain: str | Sequence[str], bytes_max: int) -> Envelope:
    """Check and unwrap an envelope of one of the expected domains; raise `Refusal` (R1, R4-R12)."""
    found_domain, author, body, signature = _check_shape(unpack(raw, bytes_max))
    expected = (domain,) if isinstance(domain, str) else domain
    if found_domain not in expected:  # R8
        raise Refusal("R8", f"this is signed as {found_domain!r}, but {' or '.join(expected)} is expected here")
    value = unpack(body, bytes_max)
    check_public_key(author)
    signed = preimage(found_domain, mesh, body)
    if not verify(author, signed, signature):  # R5
        raise Refusal(
            "R5", "the signature does not verify for this author, in this mesh, over this body", Severity.HOSTILE
        )
    return Envelope(found_domain, author, body, signature, raw, _id_of(signed, author), value)


def _id_of(signed: bytes, author: bytes) -> bytes:
    return hashlib.sha256(signed + author).digest()  # R6


def _check_shape(value: Value) -> tuple[str, bytes, bytes, bytes]:
    match value:
        case (1 as version, str(domain), bytes(author), bytes(body), bytes(signature)) if (
            version is not True
            and len(domain) <= domain_chars_max
            and len(author) == key_bytes
            and len(signature) == signature_bytes
        ):
            return domain, author, body, signature
        case _:
            raise Refusal("R4", "an envelope is the list [1, domain, 32 bytes author, body, 64 bytes signature]")


def _check_kinds(value: Value, depth: int) -> None:
    """Raise `Refusal` (R10) unless the value is made only of what an envelope may hold."""
    if isinstance(value, tuple):
        if depth > depth_max:
            raise Refusal("R10", f"lists are nested deeper than {depth_max}")
        if len(value) > list_items_max:
            raise Refusal("R10", f"a list has more than {list_items_max} items")
        for item in value:
            if type(item) not in _PLAIN_KINDS:  # most items of most lists are
                _check_kinds(item, depth + 1)
    elif value is None or isinstance(value, bool | str | bytes):
        return
    elif not isinstance(value, int):
        raise Refusal("R10", f"a {type(value).__name__} is not a kind of value that is signed here")
    elif not 0 <= value <= integer_max:
        raise Refusal("R10", f"an integer lies outside 0 to {integer_max}")


def _refuse_map(pairs: Any) -> NoReturn:
    raise Refusal("R10", "maps are not part of the encoding; every structure is a list in a fixed order")


def _refuse_extension(code: int, data: bytes) -> NoReturn:
    raise Refusal("R10", "msgpack extensions are not part of the encoding")
