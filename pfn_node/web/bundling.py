"""Making an evidence bundle: what this node can show of a release, for whoever wants to check it without any node.

What goes in has just been checked here; the one who reads it checks it again. Of the publisher's evidence only what
verifies goes in, so that junk in other nodes' announcements cannot crowd it out. What one observation lacks, the
publisher may have said elsewhere: keybinds and changes of key are those that this node keeps of the source.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlite_utils

from pfn_node.store.envelopes import (
    identity_keys,
    key_change_envelopes,
    key_envelopes,
    keybind_envelopes,
    version_envelopes,
    word_envelopes,
)
from pfn_node.store.evidence import TextLookup
from pfn_node.store.rows import Observation, Release, Source
from pfn_node.web.evidence import verifies
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.bundle_proof import Measured
from pfn_protocol.errors import Refusal
from pfn_protocol.evidence_bundle import SIGNED_TEXTS, EvidenceBundle, SignedPiece, write_bundle
from pfn_protocol.identity import parse_public_key
from pfn_protocol.limits import (
    bundle_attestations_max,
    bundle_keys_max,
    bundle_notices_max,
    bundle_pieces_max,
    bundle_witnesses_max,
)
from pfn_protocol.publisher import metadata_message, open_head, open_keybind, open_release

_BY_RELEASE_KEYS: Final = frozenset({EvidenceForm.RELEASE, EvidenceForm.HEAD, EvidenceForm.KEYBIND})


@dataclass(frozen=True, slots=True)
class Envelopes:
    """What nodes announced of a release and of its source's key, and what the publisher signed about both."""

    witnesses: tuple[bytes, ...]
    attestations: tuple[bytes, ...]
    key_changes: tuple[bytes, ...]
    keybinds: tuple[bytes, ...]
    identities: tuple[bytes, ...]  # every identity key that the source has had
    words: tuple[bytes, ...]


def envelopes_about(db: sqlite_utils.Database, release: Release, source: Source) -> Envelopes:
    """Read what is kept of a release and its source's keys."""
    return Envelopes(
        version_envelopes(db, release, bundle_witnesses_max),
        key_envelopes(db, source.id, parse_public_key(source.public_key), bundle_attestations_max),
        key_change_envelopes(db, source.id),
        keybind_envelopes(db, source.id),
        identity_keys(db, source.id),
        word_envelopes(db, release, bundle_notices_max),
    )


def make_bundle(
    mesh: str,
    release: Release,
    source: Source,
    observations: Sequence[Observation],
    envelopes: Envelopes,
    texts: TextLookup,
    measured: Measured | None,
) -> dict[str, Any]:
    """The bundle as its document (blocking: signed texts are read)."""
    assert release.sha256 is not None, "a release without a digest was seen by nobody, and has no bundle"
    return write_bundle(
        EvidenceBundle(
            mesh=mesh,
            source_id=source.id,
            instance_url=source.instance_url,
            public_key=parse_public_key(source.public_key),
            plugin_id=release.plugin_id,
            version=release.version,
            sha256=release.sha256,
            size=release.size,
            oracle=source.oracle_of_words or "",
            evidence=_pieces(release, source, observations, envelopes, texts, measured),
            witnesses=envelopes.witnesses,
            attestations=envelopes.attestations,
            keys=(*envelopes.key_changes, *envelopes.keybinds)[:bundle_keys_max],
            notices=envelopes.words,
        )
    )


def _pieces(
    release: Release,
    source: Source,
    observations: Sequence[Observation],
    envelopes: Envelopes,
    texts: TextLookup,
    measured: Measured | None,
) -> tuple[SignedPiece, ...]:
    key = parse_public_key(source.public_key)
    kept = _by_keys(envelopes.keybinds)
    found: dict[tuple[EvidenceForm, bytes], SignedPiece] = {}
    texts_taken: set[EvidenceForm] = set()
    for observation in observations:
        for piece in observation.evidence:
            if observation.sha256 != release.sha256 or len(found) == bundle_pieces_max:
                continue
            # One text of each form is enough, and two of a megabyte are all that a bundle has room for.
            if (piece.form, piece.data) in found or piece.form in texts_taken:
                continue
            # A release by a key that was followed or revoked shows that it is one: the reader has to be told.
            keys = {key, *envelopes.identities} if piece.form in _BY_RELEASE_KEYS else {key}
            if any(_holds(piece, observation, one, kept, texts, measured) for one in keys):
                text = _text_of(piece, observation, texts)
                found[piece.form, piece.data] = SignedPiece(piece.form, piece.data, text)
                if piece.form in SIGNED_TEXTS:
                    texts_taken.add(piece.form)
    return tuple(found.values())


def _by_keys(keybinds: Sequence[bytes]) -> dict[tuple[bytes, bytes], Evidence]:
    """Keybinds by the identity key and the release key that they bind; what is kept was checked when it came."""
    opened = ((open_keybind(raw)[0], raw) for raw in keybinds)
    return {(bind.identity_key, bind.release_key): Evidence(EvidenceForm.KEYBIND, raw) for bind, raw in opened}


def _holds(
    piece: Evidence,
    observation: Observation,
    key: bytes,
    kept: dict[tuple[bytes, bytes], Evidence],
    texts: TextLookup,
    measured: Measured | None,
) -> bool:
    """Whether a piece verifies with a key as its observation has it, or with the keybind that is kept of its signer."""
    if verifies(piece, observation, key, texts, measured):
        return True
    binding = kept.get((key, _signer(piece)))
    if binding is None:
        return False
    return verifies(piece, replace(observation, evidence=(piece, binding)), key, texts, measured)


def _signer(piece: Evidence) -> bytes:
    """The release key that signed a piece; empty for one that none signs."""
    try:
        match piece.form:
            case EvidenceForm.RELEASE:
                return open_release(piece.data)[1]
            case EvidenceForm.HEAD:
                return open_head(piece.data)[1]
    except Refusal:
        pass
    return b""


def _text_of(piece: Evidence, observation: Observation, texts: TextLookup) -> bytes:
    """What was signed: kept as an artifact, or made again from what the observation says."""
    if piece.form not in SIGNED_TEXTS:
        return b""
    if piece.text_sha256:
        return texts(piece.text_sha256) or b""
    return metadata_message(observation.plugin_id, observation.name, observation.version, observation.description)
