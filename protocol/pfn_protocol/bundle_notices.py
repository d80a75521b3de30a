"""What the publisher's own notices in an evidence bundle say: which keys speak, and what it took back or warns of.

Nobody watched these statements arrive, so there is no moment at which they were seen. They are judged as if every
keybind had come first, then all revocations, then all rotations, and everything else after them: a key that was
followed or revoked proves nothing any more, since nothing shows that it signed before, and one that took itself back
names no successor. The chain of keys begins with
the key that the reader brings. It is never led back to an older one: whoever holds that could have made it up.

What is about another source, or is vouched for by nobody, changes nothing and is said. What cannot be read might take
a key or a release back; then no key counts as known. And what was left out cannot be seen at all.
"""

from dataclasses import dataclass, field
from typing import Final

from pfn_protocol.announcements import EvidenceForm
from pfn_protocol.errors import Refusal
from pfn_protocol.evidence_bundle import EvidenceBundle
from pfn_protocol.identity import did_key
from pfn_protocol.key_standing import Seen, SourceKeys, Standing, derive_keys
from pfn_protocol.limits import future_ms_max
from pfn_protocol.names import source_id_of
from pfn_protocol.notice_fields import affects
from pfn_protocol.publisher import KeybindStatement, open_keybind
from pfn_protocol.publisher_notices import IDENTITY, Advisory, OpenNotice, Revocation, Rotation, Yank, open_notice

OMITTED: Final = (
    "a bundle cannot show what was left out of it, or came later: a revoked key, a yank, an advisory; ask a node"
)
# A revocation may reach back to the second 0; keybinds have to be older than that to be judged by it.
_BOUND_S: Final = -1
_REVOKED_S: Final = 0
_ROTATED_S: Final = 1


@dataclass(slots=True)
class Notes:
    """What the steps of a proof found, in sentences."""

    evidence: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Notices:
    """What a bundle's publisher signed about its keys and its releases; every signature holds, no key is judged."""

    keybinds: list[KeybindStatement] = field(default_factory=list)
    rotations: list[Seen[Rotation]] = field(default_factory=list)
    revocations: list[Seen[Revocation]] = field(default_factory=list)
    words: list[tuple[Yank | Advisory, bytes]] = field(default_factory=list)  # each with the key that signed it
    others: int = 0  # statements about another source or release
    premature: int = 0  # rotations that are not in effect yet
    unread: int = 0  # statements of a form that is not known here


@dataclass(frozen=True, slots=True)
class KeyChain:
    """The keys that follow from the one that the reader brought."""

    keys: SourceKeys
    identities: frozenset[bytes]
    bound: frozenset[tuple[str, bytes]]  # release keys, each with the origin for which the chain bound it
    readable: bool  # False: something that is not understood may change all of this

    @property
    def speaks(self) -> bool:
        """Whether what the last identity key signs counts."""
        return self.standing_for(self.keys.identity, "") is Standing.SPEAKS

    def standing_for(self, key: bytes, origin: str) -> Standing:
        """What a key is to a signature for this origin, with all of the bundle said; a release key is bound to one."""
        if key not in self.identities and (origin, key) not in self.bound:
            return Standing.STRANGER
        return self.keys.standing(key, _ROTATED_S)


@dataclass(frozen=True, slots=True)
class PublisherWord:
    """What the publisher says of a release that is out. None and empty: nothing in the bundle."""

    yank: Yank | None
    advisories: tuple[Advisory, ...]


def read_notices(bundle: EvidenceBundle, now_ms: int, notes: Notes) -> Notices:
    """Open what the publisher signed (R165); what is about something else, or not in effect yet, is left out."""
    found = Notices()
    bound = [piece.data for piece in bundle.evidence if piece.form is EvidenceForm.KEYBIND]
    for raw in bound:
        _read_keybind(raw, bundle, found)  # one that does not open leaves its release unbound
    for raw in bundle.keys:
        if not _read_keybind(raw, bundle, found):
            _read_key_change(raw, bundle, now_ms, found)
    for raw in bundle.notices:
        _read_word(raw, bundle, found)
    if found.premature:
        notes.caveats.append(f"{found.premature} rotations are not in effect yet")
    if found.others:
        notes.caveats.append(f"{found.others} statements are about another source or release, and change nothing")
    if found.unread:
        notes.caveats.append(
            f"{found.unread} statements of the publisher are of a form that is not known here, so no key counts as "
            "known: one of them may replace or revoke this key, or take this release back"
        )
    return found


def _read_keybind(raw: bytes, bundle: EvidenceBundle, found: Notices) -> bool:
    """Whether this is a keybind. It names no author: it counts for every one of its origin whose key it is."""
    try:
        statement, _ = open_keybind(raw)
        source_id = source_id_of(statement.origin, bundle.source_id.partition("@")[0])
    except Refusal:
        return False
    if source_id == bundle.source_id:
        found.keybinds.append(statement)
    else:
        found.others += 1
    return True


def _open(raw: bytes) -> tuple[OpenNotice, str] | None:
    """The notice, and whose it is."""
    try:
        opened = open_notice(raw)
        return opened, opened.source_id
    except Refusal:
        return None


def _read_key_change(raw: bytes, bundle: EvidenceBundle, now_ms: int, found: Notices) -> None:
    match _open(raw):
        case (OpenNotice(notice=Rotation() | Revocation()), source_id) if source_id != bundle.source_id:
            found.others += 1
        case (OpenNotice(notice=Rotation() as rotation), _) if rotation.effective_s > now_ms // 1_000:
            found.premature += 1
        case (OpenNotice(notice=Rotation() as rotation, signer=signer), _):
            found.rotations.append(Seen(rotation, signer, _ROTATED_S))
        case (OpenNotice(notice=Revocation() as revocation, signer=signer), _):
            found.revocations.append(Seen(revocation, signer, _REVOKED_S))
        case _:
            found.unread += 1


def _read_word(raw: bytes, bundle: EvidenceBundle, found: Notices) -> None:
    match _open(raw):
        case (OpenNotice(notice=Yank() | Advisory() as word, signer=signer), source_id):
            if source_id == bundle.source_id and _is_about(word, bundle):
                found.words.append((word, signer))
            else:
                found.others += 1
        case _:
            found.unread += 1


def _is_about(word: Yank | Advisory, bundle: EvidenceBundle) -> bool:
    if word.slug != bundle.plugin_id:
        return False
    return word.version == bundle.version if isinstance(word, Yank) else affects(word.ranges, bundle.version)


def follow_keys(root: bytes, notices: Notices, notes: Notes) -> KeyChain:
    """Work out which keys follow from `root` (R165)."""
    # What the root's own rotation committed to: signed by the root itself, whoever it followed.
    begun = [
        one.statement
        for one in notices.rotations
        if one.statement.role == IDENTITY and one.statement.new_key == root != one.statement.old_key
    ]
    hashes = {rotation.recovery_hash for rotation in begun}
    is_ambiguous = len(hashes) > 1
    if is_ambiguous:
        notes.caveats.append("the publisher's key committed to two different recovery keys, so no key counts as known")
    keys = derive_keys(
        root,
        max((rotation.epoch for rotation in begun), default=0),
        [Seen(bind, bind.release_key, _BOUND_S) for bind in notices.keybinds],
        notices.rotations,
        notices.revocations,
        root_recovery_hash=b"" if is_ambiguous else next(iter(hashes), b""),
    )
    identities = frozenset(key for key, record in keys.records.items() if record.is_identity)
    chain = KeyChain(
        keys,
        identities,
        frozenset((bind.origin, bind.release_key) for bind in notices.keybinds if bind.identity_key in identities),
        readable=not notices.unread and not is_ambiguous,
    )
    _note_chain(chain, notes)
    return chain


def _note_chain(chain: KeyChain, notes: Notes) -> None:
    root, identity = chain.keys.root, chain.keys.identity
    if identity != root:
        notes.evidence.append(f"the publisher's key {did_key(root)} is followed by {did_key(identity)}, as both signed")
    if chain.keys.frozen:
        notes.caveats.append(
            f"two different successors of the publisher's key {did_key(identity)} were signed, so nothing of it counts"
        )


def judge_words(notices: Notices, chain: KeyChain, oracle: str, now_ms: int, notes: Notes) -> PublisherWord:
    """What counts of the yanks and advisories (R166): of those about one subject the greatest (epoch of the key, seq).

    `oracle` is what the publisher signs for anybody: with an identity key that does, anybody yanks.
    """
    last: dict[str, tuple[tuple[int, int, bool], Yank | Advisory]] = {}
    strangers = 0
    for word, signer in notices.words:
        if not _may_say(word, signer, chain, oracle, now_ms):
            strangers += 1
            continue
        subject = word.advisory_id if isinstance(word, Advisory) else ""
        # Of two at one place the one that warns.
        place = (chain.keys.records[signer].epoch, word.seq, not word.withdrawn)
        if subject not in last or last[subject][0] < place:
            last[subject] = place, word
    if strangers:
        notes.caveats.append(
            f"{strangers} yanks or advisories are signed by keys that may not say so, and do not count"
        )
    standing = [word for _, word in last.values() if not word.withdrawn]
    return PublisherWord(
        next((word for word in standing if isinstance(word, Yank)), None),
        tuple(word for word in standing if isinstance(word, Advisory)),
    )


def _may_say(word: Yank | Advisory, signer: bytes, chain: KeyChain, oracle: str, now_ms: int) -> bool:
    """A warning outlives its key's succession, since nodes that saw it before keep to it; an all-clear does not."""
    if signer in chain.identities and oracle not in ("none", "utf8"):
        return False
    standing = chain.standing_for(signer, word.origin)
    if word.withdrawn:
        return standing is Standing.SPEAKS and word.seq <= now_ms + future_ms_max
    return standing in (Standing.SPEAKS, Standing.SUPERSEDED)
