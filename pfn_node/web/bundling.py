"""Making an evidence bundle: what this node can show of a release, for whoever wants to check it without any node.

What goes in has just been checked here; the one who reads it checks it again. Of the publisher's evidence only what
verifies goes in, so that junk in other nodes' announcements cannot crowd it out.
"""

from collections.abc import Sequence
from typing import Any

import sqlite_utils

from pfn_node.store.envelopes import key_envelopes, version_envelopes
from pfn_node.store.evidence import TextLookup
from pfn_node.store.rows import Observation, Release, Source
from pfn_node.web.evidence import verifies
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.bundle_proof import Measured
from pfn_protocol.evidence_bundle import SIGNED_TEXTS, EvidenceBundle, SignedPiece, write_bundle
from pfn_protocol.identity import parse_public_key
from pfn_protocol.limits import bundle_attestations_max, bundle_pieces_max, bundle_witnesses_max
from pfn_protocol.publisher import metadata_message

Envelopes = tuple[tuple[bytes, ...], tuple[bytes, ...]]


def envelopes_about(db: sqlite_utils.Database, release: Release, source: Source) -> Envelopes:
    """What nodes announced of a release, and of its source's key."""
    return (
        version_envelopes(db, release, bundle_witnesses_max),
        key_envelopes(db, source.id, parse_public_key(source.public_key), bundle_attestations_max),
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
    witnesses, attestations = envelopes
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
            oracle=source.oracle_in_force or "",
            evidence=_pieces(release, source, observations, texts, measured),
            witnesses=witnesses,
            attestations=attestations,
        )
    )


def _pieces(
    release: Release,
    source: Source,
    observations: Sequence[Observation],
    texts: TextLookup,
    measured: Measured | None,
) -> tuple[SignedPiece, ...]:
    key = parse_public_key(source.public_key)
    found: dict[tuple[EvidenceForm, bytes], SignedPiece] = {}
    texts_taken: set[EvidenceForm] = set()
    for observation in observations:
        for piece in observation.evidence:
            if observation.sha256 != release.sha256 or len(found) == bundle_pieces_max:
                continue
            # One text of each form is enough, and two of a megabyte are all that a bundle has room for.
            if (piece.form, piece.data) in found or piece.form in texts_taken:
                continue
            if verifies(piece, observation, key, texts, measured):
                text = _text_of(piece, observation, texts)
                found[piece.form, piece.data] = SignedPiece(piece.form, piece.data, text)
                if piece.form in SIGNED_TEXTS:
                    texts_taken.add(piece.form)
    return tuple(found.values())


def _text_of(piece: Evidence, observation: Observation, texts: TextLookup) -> bytes:
    """What was signed: kept as an artifact, or made again from what the observation says."""
    if piece.form not in SIGNED_TEXTS:
        return b""
    if piece.text_sha256:
        return texts(piece.text_sha256) or b""
    return metadata_message(observation.plugin_id, observation.name, observation.version, observation.description)
