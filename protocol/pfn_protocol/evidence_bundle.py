"""Evidence bundles: all that is said about one release, in one JSON document that anybody can check without a network.

A bundle is not signed. Whoever made it could have put anything in, so it *claims*: that this source has this key, that
this digest is this version. What it carries proves itself, piece by piece: what the publisher signed, and what nodes
signed about it, byte for byte as it came. bundle_proof.py says what of the claim that proves.

There is one spelling of a bundle's content: exactly these members, none twice, base64 and hex as they are written here.
A member that this reader does not know would be a statement that it does not understand, so it is refused; a later
form of bundle has a later name.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from pfn_protocol.announcement_fields import ORACLES
from pfn_protocol.announcements import EvidenceForm
from pfn_protocol.encoding import check_mesh_name
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import check_public_key
from pfn_protocol.limits import (
    announcement_bytes_max,
    artifact_size_bytes_max,
    bundle_attestations_max,
    bundle_bytes_max,
    bundle_keys_max,
    bundle_notices_max,
    bundle_pieces_max,
    bundle_witnesses_max,
    evidence_text_bytes_max,
    key_bytes,
    publisher_envelope_bytes_max,
)
from pfn_protocol.names import check_slug, check_source_id, check_version, parse_instance_url, source_id_of

FORMAT: Final = "pfn-evidence/2"
# Forms that are a signature over a text; the text rides along.
SIGNED_TEXTS: Final = frozenset({EvidenceForm.METADATA, EvidenceForm.PLUGIN_DATA})
_DIGEST: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SignedPiece:
    """One signature or envelope of the publisher, as it gave it, and the text that was signed."""

    form: EvidenceForm
    data: bytes
    text: bytes = b""  # empty for the forms that are over no text


@dataclass(frozen=True, slots=True)
class EvidenceBundle:
    """What a bundle claims, and what it carries. Every name and length is within its bounds; nothing is verified."""

    mesh: str  # the mesh in which the nodes' announcements were signed
    source_id: str
    instance_url: str
    public_key: bytes  # the identity key of the source, as whoever made the bundle knows it
    plugin_id: str
    version: str
    sha256: bytes
    size: int  # bytes of the zip
    oracle: str  # what its maker knows that the publisher signs for anybody (R65); empty: nothing
    evidence: tuple[SignedPiece, ...] = ()
    witnesses: tuple[bytes, ...] = ()  # version announcements of nodes, of this digest or another
    attestations: tuple[bytes, ...] = ()  # source announcements of nodes that verified this key
    keys: tuple[bytes, ...] = ()  # keybinds, rotations and revocations of the publisher
    notices: tuple[bytes, ...] = ()  # its yank of this release, and its advisories about it


def write_bundle(bundle: EvidenceBundle) -> dict[str, Any]:
    """Return the document, to be written as JSON."""
    return {
        "format": FORMAT,
        "mesh": bundle.mesh,
        "source_id": bundle.source_id,
        "instance_url": bundle.instance_url,
        "public_key": _base64(bundle.public_key),
        "plugin_id": bundle.plugin_id,
        "version": bundle.version,
        "sha256": bundle.sha256.hex(),
        "size": bundle.size,
        "oracle": bundle.oracle,
        "evidence": [
            {"form": str(piece.form), "data": _base64(piece.data), "text": _base64(piece.text)}
            for piece in bundle.evidence
        ],
        "witnesses": [_base64(raw) for raw in bundle.witnesses],
        "attestations": [_base64(raw) for raw in bundle.attestations],
        "keys": [_base64(raw) for raw in bundle.keys],
        "notices": [_base64(raw) for raw in bundle.notices],
    }


def read_bundle(raw: bytes) -> EvidenceBundle:
    """Return the bundle that a file holds; raise `Refusal` (R160, and the rules of keys and names)."""
    members = _members(_parse(raw), _READERS, "an evidence bundle")
    if members.pop("format") != FORMAT:
        raise _refusal("format", FORMAT)
    bundle = EvidenceBundle(**members)
    _check_names(bundle)
    return bundle


def _check_names(bundle: EvidenceBundle) -> None:
    check_mesh_name(bundle.mesh)
    check_public_key(bundle.public_key)
    check_source_id(bundle.source_id)
    check_slug(bundle.plugin_id)
    check_version(bundle.version)
    if parse_instance_url(bundle.instance_url, allow_http=True) != bundle.instance_url:
        raise _refusal("instance_url", "a URL in its one spelling")
    if source_id_of(bundle.instance_url, bundle.source_id.partition("@")[0]) != bundle.source_id:
        raise _refusal("source_id", "one of the host of instance_url")
    if bundle.oracle not in ORACLES:
        raise _refusal("oracle", "none, utf8, raw or empty")


def _parse(raw: bytes) -> object:
    if len(raw) > bundle_bytes_max:
        raise Refusal("R160", f"an evidence bundle has at most {bundle_bytes_max} bytes")
    try:
        document: object = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_object, parse_float=_no_number, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        raise Refusal("R160", "this is no evidence bundle: one JSON object in UTF-8, no member twice") from error
    return document


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is given twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of a bundle")


def _refusal(name: str, expected: str) -> Refusal:
    return Refusal("R160", f"{name} of an evidence bundle must be {expected}")


_Reader = Callable[[str, object], Any]


def _members(value: object, readers: dict[str, _Reader], what: str) -> dict[str, Any]:
    """Return every member, read; it is an object of exactly these."""
    if not isinstance(value, dict) or value.keys() != readers.keys():
        raise Refusal("R160", f"{what} is an object of exactly these members: {', '.join(readers)}")
    return {name: read(name, value[name]) for name, read in readers.items()}


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _refusal(name, "a text")
    return value


def _size(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= artifact_size_bytes_max:
        raise _refusal(name, f"a number from 1 to {artifact_size_bytes_max}")
    return value


def _digest(name: str, value: object) -> bytes:
    if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
        raise _refusal(name, "64 hex digits in lower case")
    return bytes.fromhex(value)


def _bytes(minimum: int, maximum: int) -> _Reader:
    def read(name: str, value: object) -> bytes:
        try:
            data = base64.b64decode(value, validate=True) if isinstance(value, str) else None
        except (binascii.Error, ValueError):
            data = None
        if data is None or not minimum <= len(data) <= maximum or _base64(data) != value:
            raise _refusal(name, f"base64 of {minimum} to {maximum} bytes")
        return data

    return read


def _list(read_item: _Reader, items_max: int) -> _Reader:
    def read(name: str, value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > items_max:
            raise _refusal(name, f"a list of at most {items_max}")
        return tuple(read_item(f"an item of {name}", item) for item in value)

    return read


def _form(name: str, value: object) -> EvidenceForm:
    if not isinstance(value, str) or value not in list(EvidenceForm):
        raise _refusal(name, "one of " + ", ".join(EvidenceForm))
    return EvidenceForm(value)


def _piece(name: str, value: object) -> SignedPiece:
    piece = SignedPiece(**_members(value, _PIECE_READERS, name))
    if bool(piece.text) != (piece.form in SIGNED_TEXTS):
        raise _refusal(f"text of {name}", "what was signed, and empty for a form that is over no text")
    return piece


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


_PIECE_READERS: Final[dict[str, _Reader]] = {
    "form": _form,
    "data": _bytes(1, publisher_envelope_bytes_max),
    "text": _bytes(0, evidence_text_bytes_max),
}
_READERS: Final[dict[str, _Reader]] = {
    "format": _text,
    "mesh": _text,
    "source_id": _text,
    "instance_url": _text,
    "public_key": _bytes(key_bytes, key_bytes),
    "plugin_id": _text,
    "version": _text,
    "sha256": _digest,
    "size": _size,
    "oracle": _text,
    "evidence": _list(_piece, bundle_pieces_max),
    "witnesses": _list(_bytes(1, announcement_bytes_max), bundle_witnesses_max),
    "attestations": _list(_bytes(1, announcement_bytes_max), bundle_attestations_max),
    "keys": _list(_bytes(1, publisher_envelope_bytes_max), bundle_keys_max),
    "notices": _list(_bytes(1, publisher_envelope_bytes_max), bundle_notices_max),
}
