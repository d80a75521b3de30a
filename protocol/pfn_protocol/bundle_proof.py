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

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from pfn_protocol.acceptance import accept
from pfn_protocol.announcements import AcceptedAnnouncement, EvidenceForm, SourceStatement, VersionStatement
from pfn_protocol.errors import Refusal
from pfn_protocol.evidence_bundle import SIGNED_TEXTS, EvidenceBundle
from pfn_protocol.identity import did_key, verify
from pfn_protocol.limits import witnesses_min
from pfn_protocol.names import source_id_of
from pfn_protocol.publisher import describes, head_is_fresh, open_head, open_keybind, open_release, verify_sha384

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
class IdentityKey:
    """The key that signatures were checked with, and what is known of it."""

    public: bytes
    known: str | None  # "given", "attested" by trusted nodes; None: it is only what the bundle claims
    oracle: str  # what its publisher signs for anybody, as far as is known: none, utf8, raw; or empty
    oracle_attested: bool  # by trusted nodes; False: only the bundle says so


@dataclass(frozen=True, slots=True)
class SignedRelease:
    """A release statement over exactly the bytes that the bundle is about."""

    key: bytes  # that signed it: the identity key, or one that this bound
    seq: int
    headed: bool = False  # a fresh head of the same key is not older


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Which nodes say what they saw at the publisher."""

    all: tuple[bytes, ...]  # saw these bytes
    trusted: tuple[bytes, ...]  # those of them that are trusted
    disputed_by: tuple[bytes, ...]  # saw other bytes under this version
    conflict: bool  # trusted nodes are among those


@dataclass(frozen=True, slots=True)
class Proof:
    """What somebody with these roots of trust may say about the zip."""

    level: str  # one of LEVELS
    key: IdentityKey
    release: SignedRelease | None
    witnesses: Witnesses
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
class _Notes:
    """What the steps found, in sentences."""

    evidence: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)


def prove(bundle: EvidenceBundle, measured: Measured, roots: TrustRoots, now_ms: int) -> Proof:
    """Check the bundle (R161 to R164) against a zip and what is trusted; whatever does not verify counts for nothing.

    `now_ms` decides what has expired: heads, and what nodes attest about keys.
    """
    notes = _Notes()
    matches = _is_about(bundle, measured, notes)
    key = _judge_key(bundle, roots, now_ms, notes)
    release = _judge_release(bundle, key.public, now_ms, notes)
    signed = _judge_signatures(bundle, measured, key.public, notes)
    witnesses = _judge_witnesses(bundle, roots, now_ms, notes)
    level = _level(key, release, signed, witnesses) if matches else "unknown"
    return Proof(level, key, release, witnesses, tuple(notes.evidence), tuple(notes.caveats))


def _is_about(bundle: EvidenceBundle, measured: Measured, notes: _Notes) -> bool:
    if (measured.sha256, measured.size) == (bundle.sha256, bundle.size):
        notes.evidence.append(f"the file has the {bundle.size} bytes and the sha256 that the bundle is about")
        return True
    notes.caveats.append(
        f"the file has {measured.size} bytes and sha256 {measured.sha256.hex()}; "
        f"the bundle is about {bundle.size} bytes and sha256 {bundle.sha256.hex()}"
    )
    return False


def _level(key: IdentityKey, release: SignedRelease | None, signed: bool, witnesses: Witnesses) -> str:  # R164
    co_observed = not witnesses.conflict and len(witnesses.trusted) >= witnesses_min
    if key.known and release and key.oracle in ("none", "utf8"):
        return "A4" if release.key != key.public and release.headed and co_observed else "A3"
    if witnesses.conflict or not witnesses.trusted:
        return "reported"
    if co_observed:
        return "A2"
    return "A1" if key.known and signed else "A0"


# The key (R161)


def _judge_key(bundle: EvidenceBundle, roots: TrustRoots, now_ms: int, notes: _Notes) -> IdentityKey:
    public = roots.key or bundle.public_key
    words = _last_words(bundle, roots, now_ms, notes)
    of_key = [statement for statement in words if statement.public_key == public]
    attesting = sum(statement.verified for statement in of_key)
    of_others = sum(statement.verified for statement in words) - attesting
    known = None
    if roots.key is not None:
        known = "given"
        if roots.key != bundle.public_key:
            notes.caveats.append(f"the bundle is about another key, {did_key(bundle.public_key)}, than the given one")
    elif attesting and not of_others:
        known = "attested"
        notes.evidence.append(f"{attesting} nodes that you trust attest the publisher's key {did_key(public)}")
    else:
        notes.caveats.append(
            f"the publisher's key {did_key(public)} is only what the bundle claims; give the one that you know"
        )
    if of_others:
        notes.caveats.append(f"{of_others} nodes that you trust attest another key for {bundle.source_id}")
    if bundle.keys:
        # One of them may take the key back: until it can be read, no key is known.
        known = None
        notes.caveats.append(
            f"{len(bundle.keys)} statements about keys are of a form that is not known here; "
            "one of them may replace or revoke this key"
        )
    # One that cannot prove the key (any more) may warn of it, and not clear it.
    attested = [statement.oracle for statement in of_key if statement.verified or statement.oracle == "raw"]
    worst = next((oracle for oracle in _WORST_ORACLE_FIRST if oracle in attested), None)
    oracle = bundle.oracle if worst is None else worst
    _note_oracle(oracle, worst is not None, notes)
    return IdentityKey(public, known, oracle, worst is not None)


def _last_words(bundle: EvidenceBundle, roots: TrustRoots, now_ms: int, notes: _Notes) -> list[SourceStatement]:
    """What each trusted node said last of this source."""
    last: dict[bytes, tuple[int, int, SourceStatement]] = {}
    for announcement in _accepted("attestations", bundle.attestations, bundle.mesh, now_ms, notes):
        author, statement = announcement.author, announcement.statement
        if author not in roots.nodes or not isinstance(statement, SourceStatement):
            continue
        word = (announcement.epoch, announcement.seq, statement)
        if statement.source_id == bundle.source_id and (author not in last or last[author][:2] < word[:2]):
            last[author] = word
    return [statement for _, _, statement in last.values()]


def _note_oracle(oracle: str, attested: bool, notes: _Notes) -> None:
    if oracle == "raw":
        notes.caveats.append("the publisher signs any bytes for anybody, so no release statement counts")
    elif oracle == "":
        notes.caveats.append(
            "whether the publisher signs any bytes for anybody is not known, so no release statement counts"
        )
    elif not attested:
        notes.caveats.append(
            "that the publisher does not sign any bytes for anybody is only what the bundle claims "
            f"(oracle: {oracle}): if it does, its release statement proves nothing, and this is no A3"
        )


# What the publisher signed (R162)


def _pieces(bundle: EvidenceBundle, form: EvidenceForm) -> list[bytes]:
    return [piece.data for piece in bundle.evidence if piece.form is form]


def _judge_release(bundle: EvidenceBundle, key: bytes, now_ms: int, notes: _Notes) -> SignedRelease | None:
    """The release statement that counts: one by a separate release key before one by the identity key."""
    signed = (_signed_release(raw, bundle, key, notes) for raw in _pieces(bundle, EvidenceForm.RELEASE))
    releases = sorted((one for one in signed if one is not None), key=lambda one: one.key == key)
    if not releases:
        notes.caveats.append("no signature of the publisher says that these bytes are this version")
        return None
    release = releases[0]
    how = "the identity key itself" if release.key == key else "a release key that the identity key bound"
    notes.evidence.append(f"the release over exactly these bytes is signed by {did_key(release.key)}, {how}")
    if _is_headed(release, bundle, now_ms):
        return replace(release, headed=True)
    notes.caveats.append("no head of the release key is fresh: a newer release may be kept from you")
    return release


def _signed_release(raw: bytes, bundle: EvidenceBundle, key: bytes, notes: _Notes) -> SignedRelease | None:
    try:
        statement, signer = open_release(raw)
        source_id = source_id_of(statement.origin, statement.author)
    except Refusal as refusal:
        notes.caveats.append(f"a release statement does not verify ({refusal.rule})")
        return None
    about = (source_id, statement.slug, statement.version, statement.sha256, statement.size)
    if about != (bundle.source_id, bundle.plugin_id, bundle.version, bundle.sha256, bundle.size):
        notes.caveats.append("a release statement is about another release, or about other bytes")
        return None
    if signer != key and (statement.origin, signer) not in _bound(bundle, key):
        notes.caveats.append(f"a release statement is signed by {did_key(signer)}, which the key did not bind")
        return None
    return SignedRelease(signer, statement.seq)


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


def _is_headed(release: SignedRelease, bundle: EvidenceBundle, now_ms: int) -> bool:
    for raw in _pieces(bundle, EvidenceForm.HEAD):
        try:
            head, signer = open_head(raw)
        except Refusal:
            continue
        if signer == release.key and head.seq >= release.seq and head_is_fresh(head, now_ms):
            return True
    return False


def _judge_signatures(bundle: EvidenceBundle, measured: Measured, key: bytes, notes: _Notes) -> bool:
    """Whether the key signed a description of this version."""
    signed = False
    for piece in bundle.evidence:
        if piece.form is EvidenceForm.SHA384:
            if verify_sha384(key, measured.sha384, piece.data):
                notes.evidence.append("the key signed the SHA-384 of these bytes; not which release they are")
            else:
                notes.caveats.append("a signature over the SHA-384 is not one of this key over these bytes")
        elif piece.form in SIGNED_TEXTS:
            if verify(key, piece.text, piece.data) and describes(piece.text, bundle.plugin_id, bundle.version):
                signed = True
                notes.evidence.append(f"the key signed the {piece.form} of this version; not the bytes")
            else:
                notes.caveats.append(f"a {piece.form} signature is not one of this key over this version")
    return signed


# What nodes saw (R163)


def _judge_witnesses(bundle: EvidenceBundle, roots: TrustRoots, now_ms: int, notes: _Notes) -> Witnesses:
    seen: dict[bytes, set[tuple[bytes, int]]] = {}
    for announcement in _accepted("witnesses", bundle.witnesses, bundle.mesh, now_ms, notes):
        statement = announcement.statement
        if isinstance(statement, VersionStatement) and (
            (statement.source_id, statement.plugin_id, statement.version)
            == (bundle.source_id, bundle.plugin_id, bundle.version)
        ):
            seen.setdefault(announcement.author, set()).add((statement.sha256, statement.size))
        else:
            notes.caveats.append(f"an announcement of {did_key(announcement.author)} is not about this release")
    these = {(bundle.sha256, bundle.size)}
    agreeing = tuple(sorted(author for author, digests in seen.items() if digests == these))
    trusted = tuple(author for author in agreeing if author in roots.nodes)
    disputed_by = tuple(sorted(author for author, digests in seen.items() if digests != these))
    conflict = any(author in roots.nodes for author in disputed_by)
    if agreeing:
        notes.evidence.append(
            f"{len(agreeing)} nodes saw these bytes at the publisher, {len(trusted)} of them trusted by you"
        )
    if disputed_by:
        among = ", among them nodes that you trust" if conflict else ""
        notes.caveats.append(f"{len(disputed_by)} nodes saw other bytes under this version{among}")
    return Witnesses(agreeing, trusted, disputed_by, conflict)


def _accepted(
    what: str, envelopes: Iterable[bytes], mesh: str, now_ms: int, notes: _Notes
) -> list[AcceptedAnnouncement]:
    """Take announcements in by the door that nodes use (R40); those that it refuses are counted, by rule."""
    accepted, refused = [], []
    for raw in envelopes:
        try:
            accepted.append(accept(raw, mesh=mesh, now_ms=now_ms))
        except Refusal as refusal:
            refused.append(refusal.rule)
    if refused:
        notes.caveats.append(f"{len(refused)} of the {what} do not count ({', '.join(sorted(set(refused)))})")
    return accepted
