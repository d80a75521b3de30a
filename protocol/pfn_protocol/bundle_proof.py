"""What an evidence bundle proves about a zip, to somebody who trusts only what he names himself.

He names roots of trust: the publisher's key, if he has it from elsewhere, and nodes whose word counts for him, as a
pin's does for a node. Everything else in a bundle (R160) is checked before it counts: bytes against the digest,
signatures against the key, announcements against the keys of the nodes that signed them. What could not be checked is a
caveat.

The steps, each of which needs those before it:

    bytes       the zip has the digest and size that the bundle is about
    key         the identity key: the one that was given; else the bundle's, which counts only if trusted nodes attest
                it and none of them attests another; and the keys that follow from it (bundle_notices.py)
    release     a v2 release over this source, plugin, version, digest and size, by the identity key or by a key that
                it bound for the same origin, neither followed nor revoked
    witnesses   nodes that say that they saw this digest at the publisher; each once, and none that also saw another
    words       what the publisher says of the release now: a yank, advisories

The levels are those of backing.py, with "trusted" for "pinned". All witnesses of a co-observation have to be trusted: a
node sees over which pins it reaches a third one, and a bundle cannot show that, so any key that cost nothing could be
the third. And one thing no bundle can prove: that the publisher does not sign any bytes for whoever asks (an oracle,
R65). What trusted nodes attest decides; without their word the bundle's is taken and said as a caveat, and a bundle
that does not even claim it gets no level that rests on a release.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from pfn_protocol.acceptance import accept
from pfn_protocol.announcements import AcceptedAnnouncement, EvidenceForm, SourceStatement, VersionStatement
from pfn_protocol.bundle_notices import (
    OMITTED,
    KeyChain,
    Notes,
    PublisherWord,
    follow_keys,
    judge_words,
    read_notices,
)
from pfn_protocol.errors import Refusal
from pfn_protocol.evidence_bundle import SIGNED_TEXTS, EvidenceBundle
from pfn_protocol.identity import did_key, verify
from pfn_protocol.key_standing import Standing
from pfn_protocol.limits import witnesses_min
from pfn_protocol.names import source_id_of
from pfn_protocol.publisher import describes, head_is_fresh, open_head, open_release, verify_sha384

# From nothing to everything: the bytes are others; nobody whose word counts saw them; the levels of R94.
LEVELS: Final = ("unknown", "reported", "A0", "A1", "A2", "A3", "A4")
# The worst first: one trusted node that got bytes signed outweighs any number that did not try.
_WORST_ORACLE_FIRST: Final = ("raw", "utf8", "none")
_SIGNED_BY_NO_SPEAKER: Final = {
    Standing.STRANGER: "which the key did not bind",
    Standing.SUPERSEDED: "which another key has followed; nothing here shows that it signed before that",
    Standing.REVOKED: "which the publisher revoked",
    Standing.FROZEN: "of which two different successors were signed",
}


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

    public: bytes  # the last one that follows from the key that was given, or that the bundle is about
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
    word: PublisherWord  # what the publisher says of this release now
    revoked: bool  # only a key that the publisher revoked vouches for it, or its last key is revoked
    evidence: tuple[str, ...]  # what was proved, in sentences
    caveats: tuple[str, ...]  # what was not

    @property
    def covers_bytes(self) -> bool:
        """Whether the publisher's own signature covers exactly these bytes, by a key that is known."""
        return self.reaches("A3")

    @property
    def taken_back(self) -> tuple[str, ...]:
        """Why the publisher does not stand by these bytes any more, whatever is proved of them; in sentences."""
        reasons = ["only a key that the publisher revoked vouches for it"] if self.revoked else []
        return (*reasons, "the publisher yanked it") if self.word.yank is not None else tuple(reasons)

    def reaches(self, level: str) -> bool:
        """Whether the level that may be claimed is at least this one."""
        return LEVELS.index(self.level) >= LEVELS.index(level)


def prove(bundle: EvidenceBundle, measured: Measured, roots: TrustRoots, now_ms: int) -> Proof:
    """Check the bundle (R161 to R166) against a zip and what is trusted; whatever does not verify counts for nothing.

    `now_ms` decides what has expired or not begun: heads, what nodes attest about keys, rotations.
    """
    notes = Notes()
    matches = _is_about(bundle, measured, notes)
    notices = read_notices(bundle, now_ms, notes)
    chain = follow_keys(roots.key or bundle.public_key, notices, notes)
    key = _judge_key(bundle, roots, chain, now_ms, notes)
    release, revoked = _judge_release(bundle, chain, now_ms, notes)
    signed = _judge_signatures(bundle, measured, chain, notes)
    witnesses = _judge_witnesses(bundle, roots, now_ms, notes)
    word = judge_words(notices, chain, key.oracle, now_ms, notes)
    _note_word(word, notes)
    notes.caveats.append(OMITTED)
    level = _level(key, release, signed, witnesses) if matches else "unknown"
    return Proof(level, key, release, witnesses, word, revoked, tuple(notes.evidence), tuple(notes.caveats))


def _is_about(bundle: EvidenceBundle, measured: Measured, notes: Notes) -> bool:
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


def _judge_key(bundle: EvidenceBundle, roots: TrustRoots, chain: KeyChain, now_ms: int, notes: Notes) -> IdentityKey:
    root = chain.keys.root
    words = _last_words(bundle, roots, now_ms, notes)
    attesting = sum(statement.verified and statement.public_key == root for statement in words)
    of_others = sum(statement.verified and statement.public_key not in chain.identities for statement in words)
    known = None
    if roots.key is not None:
        known = "given"
        if bundle.public_key not in chain.identities:
            notes.caveats.append(f"the bundle is about another key, {did_key(bundle.public_key)}, than the given one")
    elif attesting and not of_others:
        known = "attested"
        notes.evidence.append(f"{attesting} nodes that you trust attest the publisher's key {did_key(root)}")
    else:
        notes.caveats.append(
            f"the publisher's key {did_key(root)} is only what the bundle claims; give the one that you know"
        )
    if of_others:
        notes.caveats.append(f"{of_others} nodes that you trust attest another key for {bundle.source_id}")
    oracle, is_attested = _judge_oracle(bundle, words, chain)
    _note_oracle(oracle, is_attested, notes)
    return IdentityKey(chain.keys.identity, known if chain.readable else None, oracle, is_attested)


def _judge_oracle(bundle: EvidenceBundle, words: list[SourceStatement], chain: KeyChain) -> tuple[str, bool]:
    """What the publisher signs for anybody, and whether trusted nodes attest it of every key of the chain."""
    # One that cannot prove the key (any more) may warn of it, and not clear it.
    attested = {
        (statement.public_key, statement.oracle)
        for statement in words
        if statement.public_key in chain.identities
        and statement.oracle
        and (statement.verified or statement.oracle == "raw")
    }
    worst = next((oracle for oracle in _WORST_ORACLE_FIRST if any(oracle == found for _, found in attested)), "")
    # Whoever has one key of the chain sign anything signs himself into the next.
    if worst == "raw" or {key for key, _ in attested} == chain.identities:
        return worst, True
    return bundle.oracle, False


def _last_words(bundle: EvidenceBundle, roots: TrustRoots, now_ms: int, notes: Notes) -> list[SourceStatement]:
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


def _note_oracle(oracle: str, attested: bool, notes: Notes) -> None:
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


def _judge_release(
    bundle: EvidenceBundle, chain: KeyChain, now_ms: int, notes: Notes
) -> tuple[SignedRelease | None, bool]:
    """The release statement that counts, and whether only a revoked key vouches for the release.

    One by a separate release key comes before one by the identity key.
    """
    key, revoked = chain.keys.identity, chain.keys.revoked
    releases = []
    for raw in _pieces(bundle, EvidenceForm.RELEASE):
        one = _signed_release(raw, bundle, notes)
        if one is None:
            continue
        release, origin = one
        standing = chain.standing_for(release.key, origin)
        if standing is Standing.SPEAKS:
            releases.append(release)
            continue
        revoked = revoked or standing is Standing.REVOKED
        notes.caveats.append(
            f"a release statement is signed by {did_key(release.key)}, {_SIGNED_BY_NO_SPEAKER[standing]}"
        )
    if not releases:
        notes.caveats.append("no signature of the publisher says that these bytes are this version")
        return None, revoked
    release = min(releases, key=lambda one: one.key == key)
    return _headed(release, bundle, key, now_ms, notes), False


def _headed(release: SignedRelease, bundle: EvidenceBundle, key: bytes, now_ms: int, notes: Notes) -> SignedRelease:
    how = "the identity key itself" if release.key == key else "a release key that the identity key bound"
    notes.evidence.append(f"the release over exactly these bytes is signed by {did_key(release.key)}, {how}")
    if _is_headed(release, bundle, now_ms):
        return replace(release, headed=True)
    notes.caveats.append("no head of the release key is fresh: a newer release may be kept from you")
    return release


def _signed_release(raw: bytes, bundle: EvidenceBundle, notes: Notes) -> tuple[SignedRelease, str] | None:
    """A release statement over these bytes, whoever signed it, and its origin."""
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
    return SignedRelease(signer, statement.seq), statement.origin


def _is_headed(release: SignedRelease, bundle: EvidenceBundle, now_ms: int) -> bool:
    for raw in _pieces(bundle, EvidenceForm.HEAD):
        try:
            head, signer = open_head(raw)
        except Refusal:
            continue
        if signer == release.key and head.seq >= release.seq and head_is_fresh(head, now_ms):
            return True
    return False


def _judge_signatures(bundle: EvidenceBundle, measured: Measured, chain: KeyChain, notes: Notes) -> bool:
    """Whether the key signed a description of this version."""
    key, signed = chain.keys.identity, False
    for piece in bundle.evidence:
        if piece.form is EvidenceForm.SHA384:
            if verify_sha384(key, measured.sha384, piece.data):
                notes.evidence.append("the key signed the SHA-384 of these bytes; not which release they are")
            else:
                notes.caveats.append("a signature over the SHA-384 is not one of this key over these bytes")
        elif piece.form in SIGNED_TEXTS:
            if verify(key, piece.text, piece.data) and describes(piece.text, bundle.plugin_id, bundle.version):
                signed = chain.speaks
                notes.evidence.append(f"the key signed the {piece.form} of this version; not the bytes")
            else:
                notes.caveats.append(f"a {piece.form} signature is not one of this key over this version")
    return signed


# What the publisher says of it now (R166)


def _note_word(word: PublisherWord, notes: Notes) -> None:
    if word.yank is not None:
        reason = f": {word.yank.reason}" if word.yank.reason else ""
        notes.caveats.append(f"the publisher yanked this release, it should not be installed{reason}")
    for advisory in word.advisories:
        notes.caveats.append(f"advisory {advisory.advisory_id} ({advisory.severity}): {advisory.summary}")


# What nodes saw (R163)


def _judge_witnesses(bundle: EvidenceBundle, roots: TrustRoots, now_ms: int, notes: Notes) -> Witnesses:
    seen: dict[bytes, set[tuple[bytes, int]]] = {}
    fetched: set[bytes] = set()  # who only passes the publisher's release on (R36) has seen nothing there
    for announcement in _accepted("witnesses", bundle.witnesses, bundle.mesh, now_ms, notes):
        statement = announcement.statement
        if isinstance(statement, VersionStatement) and (
            (statement.source_id, statement.plugin_id, statement.version)
            == (bundle.source_id, bundle.plugin_id, bundle.version)
        ):
            seen.setdefault(announcement.author, set()).add((statement.sha256, statement.size))
            if statement.observed_at > 0:
                fetched.add(announcement.author)
        else:
            notes.caveats.append(f"an announcement of {did_key(announcement.author)} is not about this release")
    these = {(bundle.sha256, bundle.size)}
    agreeing = tuple(sorted(author for author, digests in seen.items() if digests == these and author in fetched))
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
    what: str, envelopes: Iterable[bytes], mesh: str, now_ms: int, notes: Notes
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
