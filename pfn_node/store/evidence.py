"""What a publisher's evidence proves about one observation: checked here once, with the source's key of that moment.

Three questions. Is there a metadata or plugin-data signature of the source's key (`signed`)? Is there a v2 release
over exactly these bytes by a key that the source's identity key bound (`released`)? And did the publisher sign this
very name and description, or did only the observer write them (`vouched`)? The answers are stored with the
observation and with the key that they were found by; another key asks again (releases.py).

None of this says that the key is the publisher's own: that is `Source.key_known`, and it is judged elsewhere.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from pfn_node.store.rows import Observation
from pfn_protocol import publisher
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.encoding import Envelope, pack, unpack
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import verify
from pfn_protocol.names import source_id_of

# Finds a signed text that was kept as an artifact, by its sha256; None: it is not here.
TextLookup: TypeAlias = Callable[[bytes], bytes | None]

# Eight pieces of a kilobyte are the most that an announcement carries; what this node saw itself may be longer.
EVIDENCE_BYTES_MAX: Final = 65_536

# What an envelope says and whether its signature holds follows from its bytes alone. A publisher's keybind and head
# come with each of its releases, and a release is opened as it comes and again as it is judged: of each kind, those of
# a few syncs at once. An envelope has at most two kilobytes; what does not open is not remembered.
_OPENED_MAX: Final = 256
open_head = lru_cache(_OPENED_MAX)(publisher.open_head)
open_keybind = lru_cache(_OPENED_MAX)(publisher.open_keybind)
open_release_envelope = lru_cache(_OPENED_MAX)(publisher.open_release_envelope)
# Of each release of a source it is asked whether it is about that source.
source_of = lru_cache(_OPENED_MAX)(source_id_of)
# Evidence is read several times while one version is judged.
_UNPACKED_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Findings:
    """What the evidence of one observation proves, given the source's key."""

    signed: bool | None  # None: not known, because a signed text is not here
    released: bool
    vouched: bool
    release_id: bytes | None = None  # of the release envelope, if it counts; and the key and seq that it has
    release_key: bytes | None = None
    release_seq: int | None = None


def no_texts(sha256: bytes) -> bytes | None:
    """Find no text: for judging where the disk must not be touched."""
    return None


def pack_evidence(evidence: tuple[Evidence, ...]) -> bytes:
    """Return evidence as it is stored."""
    return pack(tuple((str(piece.form), piece.data, piece.text_sha256) for piece in evidence))


@lru_cache(_UNPACKED_MAX)
def unpack_evidence(data: bytes) -> tuple[Evidence, ...]:
    """Return evidence that `pack_evidence` stored."""
    pieces: Any = unpack(data, EVIDENCE_BYTES_MAX)
    return tuple(Evidence(EvidenceForm(form), signature, text) for form, signature, text in pieces)


def examine(observation: Observation, key: bytes, text: TextLookup) -> Findings:
    """Check every piece of evidence against the source's public key (32 bytes)."""
    pieces = {piece.form: piece for piece in observation.evidence}
    signed, vouched = _metadata(observation, pieces, key, text)
    found = _release(observation, pieces, key)
    if found is None:
        return Findings(signed, False, vouched)
    release, envelope = found
    if release.metadata_sha256 == _metadata_digest(observation):
        vouched = True
    return Findings(signed, True, vouched, envelope.id, envelope.author, release.seq)


def _metadata(
    observation: Observation, pieces: dict[EvidenceForm, Evidence], key: bytes, text: TextLookup
) -> tuple[bool | None, bool]:
    """Return whether the publisher signed a description of this version, and whether it is the one that is shown."""
    answers: list[bool | None] = []
    metadata = pieces.get(EvidenceForm.METADATA)
    if metadata is not None and not metadata.text_sha256:
        if _metadata_verifies(observation, metadata.data, key):
            return True, True
        answers.append(False)
    for piece in (metadata, pieces.get(EvidenceForm.PLUGIN_DATA)):
        if piece is not None and piece.text_sha256:
            signed_text = text(piece.text_sha256)
            answers.append(None if signed_text is None else _text_verifies(observation, signed_text, piece.data, key))
    if True in answers:
        return True, False
    return (None if None in answers else False), False


def _metadata_verifies(observation: Observation, signature: bytes, key: bytes) -> bool:
    return publisher.verify_metadata(
        key, observation.plugin_id, observation.name, observation.version, observation.description, signature
    )


def _metadata_digest(observation: Observation) -> bytes | None:
    try:
        message = publisher.metadata_message(
            observation.plugin_id, observation.name, observation.version, observation.description
        )
    except Refusal:
        return None
    return hashlib.sha256(message).digest()


def _text_verifies(observation: Observation, signed_text: bytes, signature: bytes, key: bytes) -> bool:
    return verify(key, signed_text, signature) and publisher.describes(
        signed_text, observation.plugin_id, observation.version
    )


def _release(
    observation: Observation, pieces: dict[EvidenceForm, Evidence], key: bytes
) -> tuple[publisher.ReleaseStatement, Envelope] | None:
    """Return the v2 release over exactly these bytes, by the source's key or one that it bound; None without one."""
    piece = pieces.get(EvidenceForm.RELEASE)
    if piece is None:
        return None
    try:
        statement, envelope = open_release_envelope(piece.data)
        about = (source_of(statement.origin, statement.author), statement.slug, statement.version)
    except Refusal:
        return None
    if about != (observation.source_id, observation.plugin_id, observation.version):
        return None
    if (statement.sha256, statement.size) != (observation.sha256, observation.size):
        return None
    binding = pieces.get(EvidenceForm.KEYBIND)
    if envelope.author != key and not _is_bound(binding, statement.origin, key, envelope.author):
        return None
    return statement, envelope


def _is_bound(piece: Evidence | None, origin: str, key: bytes, release_key: bytes) -> bool:
    if piece is None:
        return False
    try:
        bound, _ = open_keybind(piece.data)
    except Refusal:
        return False
    return (bound.origin, bound.identity_key, bound.release_key) == (origin, key, release_key)
