"""The signed statements that nodes exchange.

A node *observes*, it never asserts for a publisher: a version statement says "I saw this release at the publisher",
and carries the publisher's own signatures unchanged, so that whoever receives it checks them end to end.

Every statement has an author (the node that signs it), a kind, a subject and a place in its author's order
(epoch, seq). (author, kind, subject) is a *slot*; the greatest (epoch, seq) in a slot is its winner (registry.py).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final, Literal, get_args


class Kind(StrEnum):
    """What an announcement is about; also the middle of its signing domain, `pfn/<kind>/1`."""

    NODE = "node"
    SOURCE = "source"
    VERSION = "version"
    MIRROR = "mirror"
    YANK = "yank"
    ADVISORY = "advisory"
    REVOKE = "revoke"
    SUCCESSOR = "successor"
    SUCCESSION = "succession"
    CONVICTION = "conviction"  # the one kind that nobody signs: it consists of two announcements of its author

    __hash__ = str.__hash__  # equal things have one hash; and an enumeration's own is a call in Python for each look-up


# Who is admitted follows from these.
DECIDE_ADMISSION: Final = (Kind.NODE, Kind.CONVICTION)

SignedKind = Literal[
    Kind.NODE,
    Kind.SOURCE,
    Kind.VERSION,
    Kind.MIRROR,
    Kind.YANK,
    Kind.ADVISORY,
    Kind.REVOKE,
    Kind.SUCCESSOR,
    Kind.SUCCESSION,
]
SIGNED_KINDS: Final[tuple[SignedKind, ...]] = get_args(SignedKind)


class EvidenceForm(StrEnum):
    """The forms in which a publisher's own word about a release travels."""

    METADATA = "metadata"  # Ed25519 over JSON.stringify({id, name, version, description})
    PLUGIN_DATA = "plugin-data"  # Ed25519 over the raw text of `data` in /federated/plugin-data
    RELEASE = "release/2"  # a pfn/release/2 envelope
    KEYBIND = "keybind/2"  # a pfn/keybind/2 envelope
    HEAD = "head/2"  # a pfn/head/2 envelope
    SHA384 = "sha384"  # Ed25519 over the raw SHA-384 of the zip (WordPress 6.1, FAIR)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One signature (64 bytes) or envelope of a publisher, exactly as the publisher gave it.

    `text_sha256` names the signed text where it does not ride along (texts over `evidence_text_inline_bytes_max`,
    and every plugin-data text): it is kept and fetched like an artifact. Empty where the text can be rebuilt from
    the statement's own fields, or where `data` is an envelope.
    """

    form: EvidenceForm
    data: bytes
    text_sha256: bytes = b""


@dataclass(frozen=True, slots=True)
class NodeStatement:
    """I am here: my address, whom I pin, whom I sponsor, and a summary of what I have announced."""

    kind: ClassVar[SignedKind] = Kind.NODE
    url: str  # "" means: I have none, I poll
    software: str
    features: tuple[str, ...]
    pins: tuple[bytes, ...]  # node ids, sorted, at most pins_max
    sponsored: tuple[bytes, ...]  # node ids, sorted, at most sponsored_max
    count: int  # of my other announcements
    root: bytes  # 32 bytes: the set digest of my other announcements
    left: bool = False  # a tombstone: I left the mesh

    @property
    def subject(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class SourceStatement:
    """I know this publisher, and this is how my last verification of it went."""

    kind: ClassVar[SignedKind] = Kind.SOURCE
    source_id: str
    instance_url: str
    username: str
    public_key: bytes  # 32 bytes
    asset_domain: str  # "" if unknown
    asset_naming_scheme: str  # "" if unknown
    verified: bool  # whether my last verification succeeded
    verified_at: int  # seconds since 1970 of that verification; 0 = never
    oracle: str = ""  # what my own probe found that it signs besides: "none", "utf8", "raw"; "" = not probed

    @property
    def subject(self) -> str:
        return self.source_id


@dataclass(frozen=True, slots=True)
class VersionStatement:
    """I saw this release at the publisher."""

    kind: ClassVar[SignedKind] = Kind.VERSION
    source_id: str
    plugin_id: str
    version: str
    type: str  # "plugin" or "theme"
    name: str
    description: str | None  # None: the publisher gave none (its signature then leaves it out)
    tags: tuple[str, ...]
    sha256: bytes  # 32 bytes: of the zip
    size: int  # bytes of the zip
    observed_at: int  # seconds since 1970
    evidence: tuple[Evidence, ...]
    replaces: bytes = b""  # id of the earlier announcement of this slot with another sha256; else empty

    @property
    def subject(self) -> str:
        return f"{self.source_id}/{self.plugin_id}/{self.version}"


@dataclass(frozen=True, slots=True)
class MirrorStatement:
    """I hold and serve this many artifacts of a source."""

    kind: ClassVar[SignedKind] = Kind.MIRROR
    source_id: str
    count: int
    digest: bytes  # 32 bytes: the set digest of the artifacts' sha256

    @property
    def subject(self) -> str:
        return self.source_id


@dataclass(frozen=True, slots=True)
class YankStatement:
    """This release should not be installed: the publisher's word in `evidence`, or else my own."""

    kind: ClassVar[SignedKind] = Kind.YANK
    source_id: str
    plugin_id: str
    version: str
    evidence: bytes = b""  # a pfn/yank/2 envelope, which says all that follows; empty: my own word
    keybind: bytes = b""  # the pfn/keybind/2 envelope of the key that signed the evidence, if it is bound by one
    reason: str = ""
    withdrawn: bool = False  # my own word, taken back

    @property
    def subject(self) -> str:
        return f"{self.source_id}/{self.plugin_id}/{self.version}"


@dataclass(frozen=True, slots=True)
class AdvisoryStatement:
    """These versions have a weakness: the publisher's word in `evidence`, or else my own."""

    kind: ClassVar[SignedKind] = Kind.ADVISORY
    source_id: str
    plugin_id: str
    advisory_id: str
    evidence: bytes = b""  # a pfn/advisory/2 envelope, which says all that follows; empty: my own word
    keybind: bytes = b""
    severity: str = ""  # one of notice_fields.SEVERITIES
    summary: str = ""
    ranges: tuple[tuple[str, str], ...] = ()  # (from, until): see notice_fields.affects
    url: str = ""
    aliases: tuple[str, ...] = ()
    withdrawn: bool = False

    @property
    def subject(self) -> str:
        return f"{self.source_id}/{self.plugin_id}/{self.advisory_id}"


@dataclass(frozen=True, slots=True)
class RevokeStatement:
    """A key of this publisher speaks for it no longer: always the publisher's own word."""

    kind: ClassVar[SignedKind] = Kind.REVOKE
    source_id: str
    change: str  # "rotate" or "revoke": which of the two envelopes the evidence is
    key: bytes  # 32 bytes: of a rotation the new key, else the revoked one, so that each has a slot of its own
    evidence: bytes  # a pfn/rotate/2 or pfn/revoke/2 envelope
    keybind: bytes = b""

    @property
    def subject(self) -> str:
        return f"{self.source_id}/{self.change}/{self.key.hex()}"


@dataclass(frozen=True, slots=True)
class SuccessorStatement:
    """If my key ever changes, then to the key with this hash, and to no other."""

    kind: ClassVar[SignedKind] = Kind.SUCCESSOR
    key_sha256: bytes  # 32 bytes: of the next public key, which stays secret until it is needed

    @property
    def subject(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class SuccessionStatement:
    """I am the node that had this key before; it says so too (succession.py)."""

    kind: ClassVar[SignedKind] = Kind.SUCCESSION
    old_key: bytes  # 32 bytes
    old_signature: bytes  # 64 bytes

    @property
    def subject(self) -> str:
        return ""


NoticeStatement = YankStatement | AdvisoryStatement | RevokeStatement
# What a node says of its own accord; its node announcement is made by own_announcements.py.
KeyStatement = SuccessorStatement | SuccessionStatement
OwnStatement = SourceStatement | VersionStatement | MirrorStatement | NoticeStatement | KeyStatement
Statement = NodeStatement | OwnStatement


@dataclass(frozen=True, slots=True)
class Conviction:
    """These two announcements of the author cannot both come from one honest run (equivocation.py)."""

    kind: ClassVar[Kind] = Kind.CONVICTION
    announcements: tuple[bytes, bytes]  # their ids, ascending
    told: str  # what they are about, for people: the kind and the subject of their slot

    @property
    def subject(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class AcceptedAnnouncement:
    """An announcement that passed `acceptance.accept`. Nothing else is ever kept or relayed.

    A conviction passes through the same door, travels and is kept like the others; it has no place in any order.
    """

    id: bytes  # 32 bytes
    raw: bytes  # the envelope as received; relayed verbatim
    author: bytes  # 32 bytes: the node's public key
    epoch: int
    seq: int  # milliseconds since 1970, at least
    statement: Statement | Conviction

    @property
    def content(self) -> bytes:
        """Of a version: the sha256 that it states."""
        return self.statement.sha256 if isinstance(self.statement, VersionStatement) else b""

    @property
    def replaces(self) -> bytes:
        """Of a version: the id of the earlier announcement that it says it changes."""
        return self.statement.replaces if isinstance(self.statement, VersionStatement) else b""

    @property
    def kind(self) -> Kind:
        return self.statement.kind

    @property
    def subject(self) -> str:
        return self.statement.subject
