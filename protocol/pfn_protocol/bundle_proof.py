"""What an evidence bundle proves about a zip, to somebody who trusts only what he names himself.

He names roots of trust: the publisher's key, if he has it from elsewhere, and nodes whose word counts for him, as a
pin's does for a node. Everything else in a bundle (R160) is checked before it counts: bytes against the digest,
signatures against the key, announcements against the keys of the nodes that signed them. What could not be checked is a
caveat.

The steps, each of which needs those before it:

    bytes       the zip has the digest and size that the bundle is about
    key         the identity key: the one that was given; else the bundle's, which counts only if trusted nodes attest
                it and none of them attests another
    release     a v2 release over this source, plugin, version, digest and size, by the identity key or by a key that
                it bound for the same origin
    witnesses   nodes that say that they saw this digest at the publisher; each once, and none that also saw another

The levels are those of backing.py, with "trusted" for "pinned". All witnesses of a co-observation have to be trusted: a
node sees over which pins it reaches a third one, and a bundle cannot show that, so any key that cost nothing could be
the third. And one thing no bundle can prove: that the publisher does not sign any bytes for whoever asks (an oracle,
R65). What trusted nodes attest decides; without their word the bundle's is taken and said as a caveat, and a bundle
that does not even claim it gets no level that rests on a release.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pfn_protocol.acceptance import accept
from pfn_protocol.announcements import AcceptedAnnouncement, EvidenceForm, SourceStatement, VersionStatement
from pfn_protocol.errors import Refusal
from pfn_protocol.evidence_bundle import SIGNED_TEXTS, EvidenceBundle
from pfn_protocol.identity import did_key, verify
from pfn_protocol.limits import witnesses_min
from pfn_protocol.names import source_id_of
from pfn_protocol.publisher import head_is_fresh, open_head, open_keybind, open_release, verify_sha384

# From nothing to everything: the bytes are others; nobody whose word counts saw them; the levels of R94.
LEVELS: Final = ("unknown", "reported", "A0", "A1", "A2", "A3", "A4")
# The worst first: one trusted node that got bytes signed outweighs any number that did not try.
_WORST_ORACLE_FIRST: Final = ("raw", "utf8", "none")


@dataclass(frozen=True, slots=True)
class Measured:
    """The bytes of a zip as they were just read."""

    sha256: bytes
    sha384: bytes
    size: int


@dataclass(frozen=True, slots=True)
class TrustRoots:
    """What whoever checks a bundle knows from elsewhere."""

    key: bytes | None = None  # the identity key of the publisher
    nodes: frozenset[bytes] = frozenset()  # nodes whose word counts


@dataclass(frozen=True, slots=True)
class Proof:
    """What somebody with these roots of trust may say about the zip."""

    level: str  # one of LEVELS
    key: bytes  # the identity key that signatures were checked with
    key_known: str | None  # "given", "attested" by trusted nodes, or None: the key is only what the bundle claims
    release_key: bytes | None  # the key that signed the release; None: no release covers the bytes
    oracle: str  # what the publisher signs for anybody, as far as is known: none, utf8, raw, empty
    oracle_attested: bool  # by trusted nodes; False: only the bundle says so
    witnesses: tuple[bytes, ...]  # nodes that saw these bytes at the publisher
    trusted_witnesses: tuple[bytes, ...]
    disputed_by: tuple[bytes, ...]  # nodes that saw other bytes under this version
    evidence: tuple[str, ...]  # what was proved, in sentences
    caveats: tuple[str, ...]  # what was not

    @property
    def covers_bytes(self) -> bool:
        """Whether the publisher's own signature covers exactly these bytes, by a key that is known."""
        return self.reaches("A3")

    def reaches(self, level: str) -> bool:
        """Whether the level that may be claimed is at least this one."""
        return LEVELS.index(self.level) >= LEVELS.index(level)


@dataclass(slots=True)
class _Findings:
    """What the steps found, one after the other."""

    key: bytes
    key_known: str | None = None
    oracle: str = ""
    oracle_attested: bool = False
    signed: bool = False  # the key signed a description of this version
    release_key: bytes | None = None
    release_seq: int = 0
    head_fresh: bool = False  # a head of the release key, not older than the release
    witnesses: tuple[bytes, ...] = ()
    trusted_witnesses: tuple[bytes, ...] = ()
    disputed_by: tuple[bytes, ...] = ()
    conflict: bool = False  # trusted nodes saw different bytes
    evidence: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)


def prove(bundle: EvidenceBundle, measured: Measured, roots: TrustRoots, now_ms: int) -> Proof:
    """Check the bundle (R161 to R164) against a zip and what is trusted; whatever does not verify counts for nothing.

    `now_ms` decides what has expired: heads, and what nodes attest about keys.
    """
    found = _Findings(roots.key or bundle.public_key)
    matches = (measured.sha256, measured.size) == (bundle.sha256, bundle.size)
    if matches:
        found.evidence.append(f"the file has the {bundle.size} bytes and the sha256 that the bundle is about")
    else:
        found.caveats.append(
            f"the file has {measured.size} bytes and sha256 {measured.sha256.hex()}; "
            f"the bundle is about {bundle.size} bytes and sha256 {bundle.sha256.hex()}"
        )
    _check_key(bundle, roots, now_ms, found)
    _check_release(bundle, now_ms, found)
    _check_signatures(bundle, measured, found)
    _check_witnesses(bundle, roots, now_ms, found)
    return Proof(
        level=_level(found) if matches else "unknown",
        key=found.key,
        key_known=found.key_known,
        release_key=found.release_key,
        oracle=found.oracle,
        oracle_attested=found.oracle_attested,
        witnesses=found.witnesses,
        trusted_witnesses=found.trusted_witnesses,
        disputed_by=found.disputed_by,
        evidence=tuple(found.evidence),
        caveats=tuple(found.caveats),
    )


def _level(found: _Findings) -> str:  # R164
    co_observed = not found.conflict and len(found.trusted_witnesses) >= witnesses_min
    if found.key_known and found.release_key and found.oracle in ("none", "utf8"):
        separate = found.release_key != found.key
        return "A4" if separate and found.head_fresh and co_observed else "A3"
    if found.conflict or not found.trusted_witnesses:
        return "reported"
    if co_observed:
        return "A2"
    return "A1" if found.key_known and found.signed else "A0"


# The key (R161)


def _check_key(bundle: EvidenceBundle, roots: TrustRoots, now_ms: int, found: _Findings) -> None:
    words = _last_words(bundle, roots, now_ms, found)
    of_key = [statement for statement in words if statement.public_key == found.key]
    attesting = sum(statement.verified for statement in of_key)
    of_others = sum(statement.verified for statement in words) - attesting
    if roots.key is not None:
        found.key_known = "given"
        if roots.key != bundle.public_key:
            found.caveats.append(f"the bundle is about another key, {did_key(bundle.public_key)}, than the given one")
    elif attesting and not of_others:
        found.key_known = "attested"
        found.evidence.append(f"{attesting} nodes that you trust attest the publisher's key {did_key(found.key)}")
    else:
        found.caveats.append(
            f"the publisher's key {did_key(found.key)} is only what the bundle claims; give the one that you know"
        )
    if of_others:
        found.caveats.append(f"{of_others} nodes that you trust attest another key for {bundle.source_id}")
    if bundle.keys:
        # One of them may take the key back: until it can be read, no key is known.
        found.key_known = None
        found.caveats.append(
            f"{len(bundle.keys)} statements about keys are of a form that is not known here; "
            "one of them may replace or revoke this key"
        )
    # One that cannot prove the key (any more) may warn of it, and not clear it.
    attested = [statement.oracle for statement in of_key if statement.verified or statement.oracle == "raw"]
    _judge_oracle(bundle, attested, found)


def _last_words(bundle: EvidenceBundle, roots: TrustRoots, now_ms: int, found: _Findings) -> list[SourceStatement]:
    """What each trusted node said last of this source."""
    last: dict[bytes, tuple[int, int, SourceStatement]] = {}
    for announcement in _accepted("attestations", bundle.attestations, bundle.mesh, now_ms, found):
        author, statement = announcement.author, announcement.statement
        if author not in roots.nodes or not isinstance(statement, SourceStatement):
            continue
        word = (announcement.epoch, announcement.seq, statement)
        if statement.source_id == bundle.source_id and (author not in last or last[author][:2] < word[:2]):
            last[author] = word
    return [statement for _, _, statement in last.values()]


def _judge_oracle(bundle: EvidenceBundle, attested: list[str], found: _Findings) -> None:
    known = [oracle for oracle in _WORST_ORACLE_FIRST if oracle in attested]
    found.oracle = known[0] if known else bundle.oracle
    found.oracle_attested = bool(known)
    if found.oracle not in ("none", "utf8"):
        found.caveats.append(
            "the publisher signs any bytes for anybody, so no release statement counts"
            if found.oracle == "raw"
            else "whether the publisher signs any bytes for anybody is not known, so no release statement counts"
        )
    elif not known:
        found.caveats.append(
            "that the publisher does not sign any bytes for anybody is only what the bundle claims "
            f"(oracle: {found.oracle}): if it does, its release statement proves nothing, and this is no A3"
        )


# What the publisher signed (R162)


def _pieces(bundle: EvidenceBundle, form: EvidenceForm) -> list[bytes]:
    return [piece.data for piece in bundle.evidence if piece.form is form]


def _check_release(bundle: EvidenceBundle, now_ms: int, found: _Findings) -> None:
    for raw in _pieces(bundle, EvidenceForm.RELEASE):
        try:
            statement, signer = open_release(raw)
            about = (source_id_of(statement.origin, statement.author), statement.slug, statement.version)
        except Refusal as refusal:
            found.caveats.append(f"a release statement does not verify ({refusal.rule})")
            continue
        if (*about, statement.sha256, statement.size) != (
            bundle.source_id,
            bundle.plugin_id,
            bundle.version,
            bundle.sha256,
            bundle.size,
        ):
            found.caveats.append("a release statement is about another release, or about other bytes")
        elif signer != found.key and (statement.origin, signer) not in _bound(bundle, found.key):
            found.caveats.append(f"a release statement is signed by {did_key(signer)}, which the key did not bind")
        elif found.release_key in (None, found.key):  # a separate release key says more than the identity key
            found.release_key, found.release_seq = signer, statement.seq
    if found.release_key is None:
        found.caveats.append("no signature of the publisher says that these bytes are this version")
        return
    how = "the identity key itself" if found.release_key == found.key else "a release key that the identity key bound"
    found.evidence.append(f"the release over exactly these bytes is signed by {did_key(found.release_key)}, {how}")
    _check_head(bundle, now_ms, found)


def _bound(bundle: EvidenceBundle, key: bytes) -> set[tuple[str, bytes]]:
    """The release keys that this identity key let speak for it, each with the origin for which it did."""
    bound = set()
    for raw in _pieces(bundle, EvidenceForm.KEYBIND):
        try:
            statement, release_key = open_keybind(raw)
        except Refusal:
            continue  # then the release that needs it has a caveat
        if statement.identity_key == key:
            bound.add((statement.origin, release_key))
    return bound


def _check_head(bundle: EvidenceBundle, now_ms: int, found: _Findings) -> None:
    for raw in _pieces(bundle, EvidenceForm.HEAD):
        try:
            head, signer = open_head(raw)
        except Refusal:
            continue
        if signer == found.release_key and head.seq >= found.release_seq and head_is_fresh(head, now_ms):
            found.head_fresh = True
    if not found.head_fresh:
        found.caveats.append("no head of the release key is fresh: a newer release may be kept from you")


def _check_signatures(bundle: EvidenceBundle, measured: Measured, found: _Findings) -> None:
    for piece in bundle.evidence:
        if piece.form is EvidenceForm.SHA384:
            if verify_sha384(found.key, measured.sha384, piece.data):
                found.evidence.append("the key signed the SHA-384 of these bytes; not which release they are")
            else:
                found.caveats.append("a signature over the SHA-384 is not one of this key over these bytes")
        elif piece.form in SIGNED_TEXTS:
            if verify(found.key, piece.text, piece.data) and _describes(piece.text, bundle.plugin_id, bundle.version):
                found.signed = True
                found.evidence.append(f"the key signed the {piece.form} of this version; not the bytes")
            else:
                found.caveats.append(f"a {piece.form} signature is not one of this key over this version")


def _describes(text: bytes, plugin_id: str, version: str) -> bool:
    """Whether a signed text speaks of this plugin and version: a genuine text of another proves nothing."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if isinstance(data, list) and len(data) == 1:
        data = data[0]  # the original publisher signs a list that holds the one description
    return isinstance(data, dict) and plugin_id in (data.get("slug"), data.get("id")) and data.get("version") == version


# What nodes saw (R163)


def _check_witnesses(bundle: EvidenceBundle, roots: TrustRoots, now_ms: int, found: _Findings) -> None:
    seen: dict[bytes, set[tuple[bytes, int]]] = {}
    for announcement in _accepted("witnesses", bundle.witnesses, bundle.mesh, now_ms, found):
        statement = announcement.statement
        if isinstance(statement, VersionStatement) and (
            (statement.source_id, statement.plugin_id, statement.version)
            == (bundle.source_id, bundle.plugin_id, bundle.version)
        ):
            seen.setdefault(announcement.author, set()).add((statement.sha256, statement.size))
        else:
            found.caveats.append(f"an announcement of {did_key(announcement.author)} is not about this release")
    these = {(bundle.sha256, bundle.size)}
    found.witnesses = tuple(sorted(author for author, digests in seen.items() if digests == these))
    found.trusted_witnesses = tuple(author for author in found.witnesses if author in roots.nodes)
    found.disputed_by = tuple(sorted(author for author, digests in seen.items() if digests != these))
    found.conflict = any(author in roots.nodes for author in found.disputed_by)
    if found.witnesses:
        found.evidence.append(
            f"{len(found.witnesses)} nodes saw these bytes at the publisher, "
            f"{len(found.trusted_witnesses)} of them trusted by you"
        )
    if found.disputed_by:
        trusted = ", among them nodes that you trust" if found.conflict else ""
        found.caveats.append(f"{len(found.disputed_by)} nodes saw other bytes under this version{trusted}")


def _accepted(
    what: str, envelopes: Iterable[bytes], mesh: str, now_ms: int, found: _Findings
) -> list[AcceptedAnnouncement]:
    """Take announcements in by the door that nodes use (R40); those that it refuses are counted, by rule."""
    accepted, refused = [], []
    for raw in envelopes:
        try:
            accepted.append(accept(raw, mesh=mesh, now_ms=now_ms))
        except Refusal as refusal:
            refused.append(refusal.rule)
    if refused:
        found.caveats.append(f"{len(refused)} of the {what} do not count ({', '.join(sorted(set(refused)))})")
    return accepted
