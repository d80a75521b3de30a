"""What the evidence for a release is worth, found out again at the moment somebody asks.

Nothing stored about validity is believed here: signatures are verified with the source's key as it is now, and
where the bytes are here they are read and hashed. What could not be checked is said as a caveat, never as a pass.
"""

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import trio

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactError
from pfn_node.store.evidence import TextLookup, examine
from pfn_node.store.heads import HeadComparison
from pfn_node.store.rows import Observation, Release, Source
from pfn_node.web.release_answers import (
    Assurance,
    EvidenceView,
    ObservationView,
    ReleaseChecked,
    SignatureView,
    Witness,
    advisory_views,
)
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.bundle_proof import Measured
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import did_key, parse_public_key
from pfn_protocol.limits import evidence_text_bytes_max
from pfn_protocol.publisher import open_head, open_keybind, verify_sha384

_READ_BYTES = 256 * 1024
# A file that is no larger is read through at once: a thread costs more.
CHECKED_AT_ONCE_BYTES = 256 * 1024
# Artifacts that are read through at the same time before they are served for the first time.
_checking = trio.CapacityLimiter(4)
# A release seen by thousands of nodes is shown with this many of them.
OBSERVATIONS_SHOWN_MAX = 50
SIGNATURES_SHOWN_MAX = 32

_SAYS = {
    EvidenceForm.METADATA: "the publisher signed this name, version and description; not the file",
    EvidenceForm.PLUGIN_DATA: "the publisher signed its own description of this version; not the file",
    EvidenceForm.RELEASE: "the publisher vouches for exactly these bytes",
    EvidenceForm.KEYBIND: "the publisher's key lets this release key speak for it",
    EvidenceForm.HEAD: "the publisher names all of its releases at one moment",
    EvidenceForm.SHA384: "the publisher signed the SHA-384 of exactly these bytes (WordPress, FAIR)",
}
_COVERS_BYTES = frozenset({EvidenceForm.RELEASE, EvidenceForm.SHA384})
_LEVELS = {
    "reported": "only other nodes report it; nobody whose word counts here backs its bytes",
    "A0": "observed: fetched from the publisher by this node or by one that it trusts",
    "A1": "claimed: observed, and the publisher signed its metadata",
    "A2": "co-observed: three nodes saw the same bytes at the publisher, two of them this node or nodes that it pins",
    "A3": "signed: the publisher signed exactly these bytes",
    "A4": "signed and witnessed: signed by a separate release key whose newest head is fresh, and three nodes saw the "
    "same bytes at the publisher",
}


async def is_sound_here(artifacts: Artifacts, sha256: bytes) -> bool:
    """Whether an artifact is here; one that was not used since the start is read through first.

    One that turns out to be damaged is not here any more afterwards.
    """
    if not artifacts.has(sha256):
        return False
    if not artifacts.is_checked(sha256):
        try:
            if artifacts.size(sha256) <= CHECKED_AT_ONCE_BYTES:
                artifacts.check(sha256)
            else:
                await trio.to_thread.run_sync(artifacts.check, sha256, limiter=_checking)
        except ArtifactError:
            return False
    return True


def measure_artifact(artifacts: Artifacts, sha256: bytes | None) -> Measured | None:
    """Read an artifact through (blocking; call it in a thread). None if it is not here."""
    try:
        return measure(artifacts.open(sha256).fd) if sha256 else None
    except ArtifactError:
        return None


def measure(fd: int) -> Measured:
    """Read a file through and close it (blocking)."""
    digests = hashlib.sha256(), hashlib.sha384()
    size = 0
    with os.fdopen(fd, "rb") as file:
        while chunk := file.read(_READ_BYTES):
            size += len(chunk)
            for digest in digests:
                digest.update(chunk)
    return Measured(digests[0].digest(), digests[1].digest(), size)


def text_lookup(artifacts: Artifacts) -> TextLookup:
    """Finds signed texts that are kept as artifacts."""

    def look_up(sha256: bytes) -> bytes | None:
        try:
            return artifacts.read_text(sha256, evidence_text_bytes_max)
        except ArtifactError:
            return None

    return look_up


def check_signatures(
    observations: Iterable[Observation],
    source: Source,
    texts: TextLookup,
    measured: Measured | None,
    former_keys: Sequence[bytes] = (),
) -> list[SignatureView]:
    """Verify every distinct piece of evidence with the source's key, or one that it follows (blocking)."""
    current = parse_public_key(source.public_key)
    keys = [current, *(key for key in former_keys if key != current)]
    views: dict[tuple[str, bytes], SignatureView] = {}
    for observation in observations:
        for piece in observation.evidence:
            if (piece.form, piece.data) not in views and len(views) < SIGNATURES_SHOWN_MAX:
                by = next((key for key in keys if verifies(piece, observation, key, texts, measured)), None)
                valid = by is not None
                views[piece.form, piece.data] = SignatureView(
                    form=piece.form,
                    valid=valid,
                    key=did_key(by or current),
                    covers_bytes=valid and piece.form in _COVERS_BYTES,
                    says=_SAYS[piece.form] if valid else "it does not verify, or what it was made over is not here",
                )
    return list(views.values())


def verifies(
    piece: Evidence, observation: Observation, key: bytes, texts: TextLookup, measured: Measured | None
) -> bool:
    """Whether one piece of evidence holds, with the source's key and the bytes as just read (blocking)."""
    match piece.form:
        case EvidenceForm.METADATA | EvidenceForm.PLUGIN_DATA:
            return examine(replace(observation, evidence=(piece,)), key, texts).signed is True
        case EvidenceForm.RELEASE:
            binding = (other for other in observation.evidence if other.form is EvidenceForm.KEYBIND)
            return examine(replace(observation, evidence=(piece, *binding)), key, texts).released
        case EvidenceForm.KEYBIND:
            return _opens(lambda: open_keybind(piece.data)[0].identity_key == key)
        case EvidenceForm.HEAD:
            bound = _release_keys(observation, key)
            return _opens(lambda: open_head(piece.data)[1] in bound)
        case EvidenceForm.SHA384:
            return measured is not None and verify_sha384(key, measured.sha384, piece.data)


def _release_keys(observation: Observation, key: bytes) -> set[bytes]:
    """The keys that may speak for the source in this observation: its own, and those that it bound."""
    keys = {key}
    for piece in observation.evidence:
        if piece.form is EvidenceForm.KEYBIND:
            try:
                statement, release_key = open_keybind(piece.data)
            except Refusal:
                continue
            if statement.identity_key == key:
                keys.add(release_key)
    return keys


def _opens(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except Refusal:
        return False


def judge_release(
    release: Release,
    source: Source,
    observations: Sequence[Observation],
    texts: TextLookup,
    measured: Measured | None,
    *,
    heads: Sequence[HeadComparison] = (),
    stale: bool = False,
    former_keys: Sequence[bytes] = (),
) -> ReleaseChecked:
    """The whole answer for one release, given its bytes as just read (blocking: signed texts are read too)."""
    same = [observation for observation in observations if observation.sha256 == release.sha256]
    signatures = check_signatures(same, source, texts, measured, former_keys)
    matches = measured is not None and measured.sha256 == release.sha256
    covered = release.backed and any(signature.covers_bytes for signature in signatures)
    return ReleaseChecked(
        valid=matches and release.backed and source.status != "revoked",
        source_id=release.source_id,
        plugin_id=release.plugin_id,
        version=release.version,
        assurance=Assurance(
            level=release.assurance,
            covers_bytes=covered and release.assurance in ("A3", "A4"),
            evidence=_evidence_sentences(release, measured if matches else None, signatures),
            caveats=[*_caveats(release, source, measured, signatures), *_doubts(release, source, heads, stale)],
        ),
        sha256=release.sha256.hex() if release.sha256 else "",
        size=release.size,
        signatures=signatures,
        witnesses=[
            Witness(node_id=did_key(observation.observer), observed_at=observation.observed_at)
            for observation in [one for one in same if one.observed_at][:OBSERVATIONS_SHOWN_MAX]
        ],
        yanked=release.yanked,
        cooldown=release.cooldown_until,
        advisories=advisory_views(release),
    )


def _doubts(release: Release, source: Source, heads: Sequence[HeadComparison], stale: bool) -> list[str]:
    """What time, the publisher's own counting and its origin leave open."""
    doubts = [_head_differs(head) for head in heads if not head.agrees]
    if release.held_back is not None:
        doubts.append(f"held back, and not served: {release.held_back}")
    if stale:
        doubts.append(
            "stale: nobody whose word counts verified the source for 48 hours, or its newest head has expired"
        )
    if not source.origin_bound:
        doubts.append("the origin itself does not say that this key is its own (/.well-known/pfn-publisher.json)")
    return doubts


def _head_differs(head: HeadComparison) -> str:
    which = "" if head.named != head.known else ", and they are not the same"
    return f"the publisher names {head.named} releases of this key, {head.known} are known here{which}"


def _evidence_sentences(release: Release, measured: Measured | None, signatures: Sequence[SignatureView]) -> list[str]:
    sentences = [_LEVELS[release.assurance]]
    if measured is not None:
        sentences.append(f"the {measured.size} bytes were read just now and have this sha256")
    if release.backed_by is not None:
        sentences.append(f"backed by: {release.backed_by}")
    return sentences + [f"{signature.form}: {signature.says}" for signature in signatures if signature.valid]


def _caveats(
    release: Release, source: Source, measured: Measured | None, signatures: Sequence[SignatureView]
) -> list[str]:
    failed = ", ".join(sorted({signature.form for signature in signatures if not signature.valid}))
    found = {
        "nobody whose word counts here backs these bytes; they are not served": release.backed_by is None,
        f"it was yanked by {release.yanked_by}: it should not be installed": release.yanked is not None,
        "an admin of this node took it down": release.taken_down is not None,
        "only a revoked key vouches for it": release.revoked_key,
        "it was first seen soon after a key of its source changed": release.cooldown_until is not None,
        f"{len(release.advisories)} advisories are about it": bool(release.advisories),
        "the bytes are not here, so they were not read again": measured is None,
        "the bytes that were read have another sha256: they are damaged": (
            measured is not None and measured.sha256 != release.sha256
        ),
        "no signature covers the file itself": not any(signature.covers_bytes for signature in signatures),
        f"these signatures do not verify: {failed}": bool(failed),
        "different bytes were seen under this version, by nodes whose word counts equally": release.conflict,
        f"{len(release.disputed_by)} nodes saw other bytes under this version": bool(release.disputed_by),
        "the source's key was neither proved here nor attested by a pinned node": not source.key_known,
        f"the source's status is {source.status}": source.status in ("error", "conflict", "revoked"),
        f"the publisher signs other texts for anybody (oracle: {source.oracle_in_force})": (
            source.oracle_in_force in ("utf8", "raw")
        ),
        "whether the publisher signs anything for anybody is not known, so no release statement counts": (
            source.oracle_in_force is None
            and release.assurance not in ("A3", "A4")
            and any(signature.form == "release/2" for signature in signatures)
        ),
    }
    return [sentence for sentence, applies in found.items() if applies]


def observation_views(observations: Sequence[Observation]) -> list[ObservationView]:
    """Observations with their evidence, for whoever wants to check for himself."""
    return [
        ObservationView(
            observer=did_key(observation.observer),
            sha256=observation.sha256.hex(),
            size=observation.size,
            observed_at=observation.observed_at,
            announcement=observation.announcement_id.hex() if observation.announcement_id else None,
            evidence=[
                EvidenceView(
                    form=piece.form,
                    data=base64.b64encode(piece.data).decode("ascii"),
                    text_sha256=piece.text_sha256.hex() or None,
                )
                for piece in observation.evidence
            ],
        )
        for observation in observations[:OBSERVATIONS_SHOWN_MAX]
    ]
