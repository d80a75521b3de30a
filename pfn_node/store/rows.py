"""Rows as the other rooms see them: frozen, typed, no SQL. Times are seconds since 1970, digests raw bytes."""

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pfn_protocol.announcements import Evidence

# What a probe found of who signs no bytes for anybody (R65).
CLEAN_ORACLES: Final = ("none", "utf8")


@dataclass(frozen=True, slots=True)
class Source:
    """A publisher: the original's columns first, then what this node knows besides."""

    id: str
    instance_url: str
    username: str
    public_key: str  # PEM, as the original shows it
    status: str  # pending, discovered, verified, error, conflict, revoked
    trust_score: float
    created_at: int
    last_sync: int | None
    asset_domain: str | None
    asset_naming_scheme: str | None
    registered: bool  # by an admin here; False: heard of from peers
    allow_unsigned: bool
    oracle: str | None  # what this node's own probe of this key found: none, utf8, raw; None: not probed yet
    verified_at: int | None  # last success here
    attested: bool  # a directly pinned node says it verified this very key
    trust: dict[str, float] = field(default_factory=dict)  # the parts of the score
    oracle_in_force: str | None = None  # its own probe, else the worst that pinned nodes attest; None: nothing known
    origin_bound: bool = False  # the origin itself says that this key is its own (R153)
    trust_explained: tuple[dict[str, Any], ...] = ()  # the parts in words, and what would raise each
    former_oracle: str | None = None  # until this key is probed: what the probe of one found that it follows

    @property
    def signs_no_raw_bytes(self) -> bool:
        """Whether it is known that the publisher does not sign any bytes for anybody: only then releases count."""
        return self.oracle_in_force in CLEAN_ORACLES

    @property
    def oracle_of_words(self) -> str | None:
        """What yanks, advisories and what was seen before go by: until this key is probed, the key before (R65)."""
        return self.oracle_in_force or self.former_oracle

    @property
    def key_known(self) -> bool:
        """Whether the public key counts as known (protocol.md, whose word backs bytes)."""
        return self.status not in ("revoked", "conflict") and (self.verified_at is not None or self.attested)


@dataclass(frozen=True, slots=True)
class Verification:
    id: int
    source_id: str
    verifier: str
    verification_type: str  # initial, periodic, manual
    result: str  # success, failure
    details: str | None
    verified_at: int


@dataclass(frozen=True, slots=True)
class HealthCheck:
    source_id: str
    ok: bool
    seconds: float | None  # response time
    details: str | None
    checked_at: int


@dataclass(frozen=True, slots=True)
class Filters:
    """What of a source a subscriber wants; empty tags and slugs mean everything."""

    tags: tuple[str, ...] = ()
    slugs: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subscription:
    source_id: str
    subscriber: str
    filters: Filters
    created_at: int


@dataclass(frozen=True, slots=True)
class SyncFailure:
    source_id: str
    error_message: str
    retry_count: int
    next_retry: int
    created_at: int


@dataclass(frozen=True, slots=True)
class ApiKey:
    id: str
    description: str
    scopes: tuple[str, ...]
    created: int
    expires: int | None
    last_used: int | None
    revoked: int | None


@dataclass(frozen=True, slots=True)
class Session:
    token_hash: bytes
    key_id: str
    created: int
    expires: int


@dataclass(frozen=True, slots=True)
class Activity:
    id: int
    type: str  # version_update, source_verification, source_health, federation_event, security
    source_id: str | None
    plugin_id: str | None
    plugin_name: str | None
    source_username: str | None
    old_version: str | None
    new_version: str | None
    message: str
    timestamp: int


@dataclass(frozen=True, slots=True)
class Release:
    """One version of one plugin of one source, as this node judges it now."""

    source_id: str
    plugin_id: str
    version: str
    type: str
    name: str
    description: str | None
    tags: tuple[str, ...]
    sha256: bytes | None  # the backed digest, or the reported one where none is backed
    size: int
    assurance: str  # reported, A0 .. A4
    backed: bool  # and not held back
    mirrored: bool  # the bytes are here
    conflict: bool
    disputed_by: tuple[str, ...]  # did:key of nodes that saw another digest
    reported_by: tuple[str, ...]  # did:key of the observers of this digest
    backed_by: str | None  # release, self, pin, depth; None if not backed
    icons: dict[str, str]
    observed_at: int
    yanked: str | None = None  # why it should not be installed, if somebody whose word acts here says so
    yanked_by: str | None = None  # publisher, this node, or a pinned node's did:key
    taken_down: str | None = None  # why an admin of this node took it down
    revoked_key: bool = False  # only a revoked key vouches for it
    cooldown_until: int | None = None  # first seen soon after a change of key: not the newest before this time
    advisories: tuple[dict[str, Any], ...] = ()  # what is known to be wrong with it
    held_back: str | None = None  # why it is not served though somebody's word counts for it


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """What was read in the bytes of a zip, beside their SHA-256."""

    sha1: bytes
    sha384: bytes
    headers: dict[str, str]  # by WordPress' labels; empty where the zip has none that this node reads


@dataclass(frozen=True, slots=True)
class Listed:
    """A version of a plugin, as far as deciding whether to mirror it needs."""

    slug: str
    version: str
    name: str
    tags: tuple[str, ...]
    size: int | None  # bytes; None: nobody whose word is heard here has fetched it
    held: bool  # its bytes are here


@dataclass(frozen=True, slots=True)
class Plugin:
    """One (source, plugin): its newest backed release, or the newest reported one where none is backed."""

    release: Release
    reported_version: str | None  # a newer one that is only reported
    mirrors: int  # nodes known to hold artifacts of the source, this one included
    versions: int
    stale: bool = False  # its source was verified too long ago, or its newest head has expired (R152)
    downloads: int = 0  # of all its versions, as far as they were counted here


class OfSource(NamedTuple):
    """What all plugins of a source have in common."""

    mirrors: int
    stale: bool


class Place(NamedTuple):
    """A row of a page: what a plugin's row is made of, as long as the store does not change."""

    id: int
    source: OfSource


@dataclass(frozen=True, slots=True)
class Page:
    """What a question has on one page, in its order."""

    places: list[Place]
    total: int  # of all pages
    next: str | None  # the cursor of the next page; None: there is none


@dataclass(frozen=True, slots=True)
class Observation:
    """Who saw which digest of a release, with the publisher's evidence as the observer gave it."""

    source_id: str
    plugin_id: str
    version: str
    observer: bytes
    announcement_id: bytes | None  # None: seen here, not announced
    sha256: bytes
    size: int
    name: str
    description: str | None
    tags: tuple[str, ...]
    type: str
    evidence: tuple[Evidence, ...]
    observed_at: int  # 0: the observer did not fetch the bytes from the publisher (R36)
    icons: dict[str, str] = field(default_factory=dict)  # known only where this node asked the publisher itself


@dataclass(frozen=True, slots=True)
class Peer:
    """A node that this one knows an address of, or has an opinion about."""

    node_id: bytes
    url: str | None
    joined: bool  # the operator named it: retried for ever
    pinned: bool
    provisional: bool  # pinned on first use over plain http to another host
    blocked: bool
    last_seen: int | None
    unpinned: bool = False  # the operator took the pin away: joining again at a start does not bring it back
    introduced: bool = False  # a node that was joined or is pinned named it


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """What lists of sources show beside the source itself."""

    subscriber_count: int
    plugin_count: int
    last_verification_result: str | None
    successful_verifications: int
    response_time_avg: float | None  # seconds, of the last day's successful health checks
    healthy: bool | None  # as of the last health check; None: never checked
    stale: bool = False  # verified too long ago, or its newest head has expired
