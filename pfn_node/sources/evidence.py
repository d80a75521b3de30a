"""Which signatures a publisher gives for a release, and whether they hold.

A publisher may sign a release in several ways, weak ones and strong ones beside each other:

    signature          author-data: over JSON.stringify({id, name, version, description}); says nothing about the bytes
    plugin data        /federated/plugin-data: over the raw text of `data`; asked for only where author-data has none
    release_v2         a pfn/release/2 envelope over sha256 and size, by the source's key, or by a release key
    keybind_v2         binds that release key to the source's key; signed by both
    head_v2            the author's statement of all releases; kept as given, judged where releases are listed
    signature_sha384   over the raw SHA-384 of the zip, as WordPress 6.1 and FAIR check it

What is given must hold: one signature that does not verify means that something between the author and here was
changed, so the whole release is refused rather than taken at a lower level. What holds is kept exactly as it was given,
for whoever receives it from us to check again.
"""

from dataclasses import dataclass

from pfn_node.sources.publisher_answers import AuthorEntry, PluginData
from pfn_node.store.evidence import open_head, open_keybind, open_release_envelope, source_of
from pfn_node.store.rows import Source
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.bundle_proof import Measured
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import parse_public_key, verify
from pfn_protocol.limits import evidence_text_inline_bytes_max
from pfn_protocol.publisher import (
    KeybindStatement,
    ReleaseStatement,
    verify_sha384,
)

INVALID_SIGNATURE = "invalid signature"


class InvalidSignature(Exception):
    """A publisher's signature was given and does not hold; `reason` begins with "invalid signature"."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.reason = f"{INVALID_SIGNATURE}: {detail}"


@dataclass(frozen=True, slots=True)
class SignedText:
    """A signature over text that holds. `text` has to be kept where it cannot be made again from the statement."""

    form: EvidenceForm
    signature: bytes
    text: bytes | None


def check_metadata_signature(entry: AuthorEntry, public_key: bytes) -> SignedText | None:
    """The signature in author-data; None if there is none. Raises InvalidSignature."""
    if entry.problem is not None:
        raise InvalidSignature(entry.problem)
    if entry.signature is None:
        return None
    if entry.metadata is None:
        raise InvalidSignature("what it should be over (slug, name, version, description) is not all text")
    if not verify(public_key, entry.metadata, entry.signature):
        raise InvalidSignature("the signature in author-data is not one of the source's key over this entry")
    inline = entry.rebuildable and len(entry.metadata) <= evidence_text_inline_bytes_max
    return SignedText(EvidenceForm.METADATA, entry.signature, None if inline else entry.metadata)


def check_plugin_data(entry: AuthorEntry, data: PluginData, public_key: bytes) -> SignedText | None:
    """The signature of /federated/plugin-data; None if it has none. Raises InvalidSignature."""
    if data.problem is not None:
        raise InvalidSignature(data.problem)
    if data.signature is None:
        return None
    if not verify(public_key, data.text, data.signature):
        raise InvalidSignature("the signature of federated/plugin-data is not one of the source's key over its text")
    if data.slug != entry.slug:
        raise InvalidSignature(f"federated/plugin-data describes {data.slug!r}, not {entry.slug!r}")
    return SignedText(EvidenceForm.PLUGIN_DATA, data.signature, data.text)


def check_bytes(entry: AuthorEntry, source: Source, measured: Measured) -> tuple[Evidence, ...]:
    """The signatures that cover the zip itself, and what belongs to them. Raises InvalidSignature."""
    evidence: list[Evidence] = []
    public_key = parse_public_key(source.public_key)
    if entry.release is not None:
        statement = check_release(entry.release, entry.keybind, source, measured)
        if (statement.slug, statement.version) != (entry.slug, entry.version):
            raise InvalidSignature(f"release_v2 is about {statement.slug} {statement.version}")
        evidence.append(Evidence(EvidenceForm.RELEASE, entry.release))
        if entry.keybind is not None:
            evidence.append(Evidence(EvidenceForm.KEYBIND, entry.keybind))
        if entry.head is not None:
            _check_head(entry.head, entry.keybind, public_key)
            evidence.append(Evidence(EvidenceForm.HEAD, entry.head))
    if entry.sha384_signature is not None:
        if not verify_sha384(public_key, measured.sha384, entry.sha384_signature):
            raise InvalidSignature("signature_sha384 is not one of the source's key over this zip")
        evidence.append(Evidence(EvidenceForm.SHA384, entry.sha384_signature))
    return tuple(evidence)


def check_release(raw: bytes, keybind: bytes | None, source: Source, measured: Measured | None) -> ReleaseStatement:
    """A pfn/release/2 envelope of this source, over these bytes if they are known. Raises InvalidSignature."""
    try:
        statement, envelope = open_release_envelope(raw)
    except Refusal as refusal:
        raise InvalidSignature(f"release_v2 is unusable: {refusal.sentence}") from refusal
    if _source_id(statement.origin, statement.author) != source.id:
        raise InvalidSignature(f"release_v2 is about {statement.author} at {statement.origin}")
    _check_signer("release_v2", envelope.author, keybind, parse_public_key(source.public_key), statement.origin)
    if measured is not None and (statement.sha256, statement.size) != (measured.sha256, measured.size):
        raise InvalidSignature(f"release_v2 names sha256 {statement.sha256.hex()}, the zip has {measured.sha256.hex()}")
    return statement


def _check_head(raw: bytes, keybind: bytes | None, public_key: bytes) -> None:
    try:
        _, signer = open_head(raw)
    except Refusal as refusal:
        raise InvalidSignature(f"head_v2 is unusable: {refusal.sentence}") from refusal
    _check_signer("head_v2", signer, keybind, public_key, origin=None)


def _check_signer(what: str, signer: bytes, keybind: bytes | None, public_key: bytes, origin: str | None) -> None:
    """The signer is the source's own key, or a release key that it bound for this origin. Raises InvalidSignature."""
    bound = _opened_keybind(keybind) if keybind is not None else None
    if bound is not None and bound.identity_key != public_key:
        raise InvalidSignature("keybind_v2 binds another key than the source's")
    if bound is not None and origin is not None and bound.origin != origin:
        raise InvalidSignature(f"keybind_v2 binds a key for {bound.origin}, not for {origin}")
    if signer == public_key:
        return
    if bound is None:
        raise InvalidSignature(f"{what} is signed by another key, and no keybind_v2 binds it to the source's")
    if bound.release_key != signer:
        raise InvalidSignature(f"{what} is signed by another key than the one that keybind_v2 binds")


def _opened_keybind(raw: bytes) -> KeybindStatement:
    try:
        statement, _ = open_keybind(raw)
    except Refusal as refusal:
        raise InvalidSignature(f"keybind_v2 is unusable: {refusal.sentence}") from refusal
    return statement


def _source_id(origin: str, author: str) -> str | None:
    try:
        return source_of(origin, author)
    except Refusal:
        return None
