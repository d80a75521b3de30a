"""What clients are told: one model for each answer, in the field names of the original node's API.

Times are whole seconds since 1970, except `created` of keys, which the original gives in milliseconds. Digests are
hex, nodes are did:key texts. These models are the source of the API's document; nothing is answered that they do
not state.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, RootModel

from pfn_node.store.rows import Activity, ApiKey, Filters, Source, SourceSummary, Subscription


class Answer(BaseModel):
    """The root of all answers."""

    model_config = ConfigDict(frozen=True, serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)


class Problem(Answer):
    """What every error looks like."""

    error: str = Field(description="A sentence: what was found, and what to do.")
    details: dict[str, Any]
    request_id: str = Field(description="Finds this request in the node's log.")


class Done(Answer):
    """It is done."""

    success: bool
    message: str


class NewKey(Answer):
    """A key, shown this once."""

    key: str
    description: str | None
    created: int = Field(description="Milliseconds since 1970.")
    id: str
    scopes: list[str]
    expires: int = Field(description="Seconds since 1970.")


class KeyRow(Answer):
    id: str
    description: str
    scopes: list[str]
    created: int = Field(description="Milliseconds since 1970.")
    expires: int | None
    last_used: int | None = Field(description="Within an hour.")
    revoked: int | None = Field(description="From then on it is worthless.")

    @classmethod
    def of(cls, key: ApiKey) -> "KeyRow":
        return cls(
            id=key.id,
            description=key.description,
            scopes=list(key.scopes),
            created=key.created * 1000,
            expires=key.expires,
            last_used=key.last_used,
            revoked=key.revoked,
        )


class Keys(Answer):
    """All keys, without their secrets."""

    keys: list[KeyRow]


class SourceColumns(Answer):
    """A source: the columns of the original's table."""

    id: str
    instance_url: str
    username: str
    public_key: str
    status: str
    trust_score: float
    created_at: int
    last_sync: int | None
    asset_domain: str | None
    asset_naming_scheme: str | None

    @classmethod
    def of(cls, source: Source) -> "SourceColumns":
        return cls(**{name: getattr(source, name) for name in SourceColumns.model_fields})


class TrustPart(Answer):
    """A part of the trust score in words; `gate` and `cap` are what doubts take away."""

    part: str
    means: str
    weight: float | None = Field(description="The most that it can give; null for gate and cap.")
    value: float = Field(description="What it gives; of gate and cap what they take, zero or negative.")
    would_raise: str | None = Field(description="What would raise it; null: nothing would.")
    until: int | None = Field(description="Until when it holds at least, where that is known.")


class SourceRow(SourceColumns):
    subscriber_count: int
    plugin_count: int
    last_verification_result: str | None
    successful_verifications: int
    response_time_avg: float | None = Field(description="Seconds, over the last day.")
    trust: dict[str, float] = Field(description="The parts of the score.")
    health: str = Field(description="up, down, or unknown: how the last health check went.")
    oracle: str | None = Field(
        description="Whether the publisher signs other texts for anybody: none, utf8, raw. As this node found itself, "
        "else the worst that pinned nodes attest; null: nobody looked, and v2 releases do not count."
    )
    key_known: bool = Field(description="Whether its key counts: proved here, or attested by a pinned node.")
    origin_bound: bool = Field(
        description="Whether the origin itself says that the key is its own, at /.well-known/pfn-publisher.json."
    )
    stale: bool = Field(
        description="Nobody whose word counts has verified the source for 48 hours, or its newest head has expired."
    )
    trust_explained: list[TrustPart] = Field(description="The parts in words, and what would raise each.")
    registered: bool
    allow_unsigned: bool

    @classmethod
    def with_summary(cls, source: Source, summary: SourceSummary) -> "SourceRow":
        return cls(
            **SourceColumns.of(source).model_dump(),
            subscriber_count=summary.subscriber_count,
            plugin_count=summary.plugin_count,
            last_verification_result=summary.last_verification_result,
            successful_verifications=summary.successful_verifications,
            response_time_avg=summary.response_time_avg,
            trust=source.trust,
            health=health_word(summary.healthy),
            oracle=source.oracle_in_force,
            key_known=source.key_known,
            origin_bound=source.origin_bound,
            stale=summary.stale,
            trust_explained=[TrustPart(**part) for part in source.trust_explained],
            registered=source.registered,
            allow_unsigned=source.allow_unsigned,
        )


def health_word(healthy: bool | None) -> str:
    """How the last health check went, in a word."""
    return {True: "up", False: "down", None: "unknown"}[healthy]


class Sources(RootModel[list[SourceRow]]):
    """Sources, in the order of their ids."""


class SourceAdded(Answer):
    """The source is registered; it is verified in the background."""

    success: bool
    source_id: str
    status: str
    message: str


class VerificationRow(Answer):
    verifier: str
    verification_type: str
    result: str
    details: str | None
    verified_at: int


class FailureRow(Answer):
    error_message: str
    retry_count: int
    next_retry: int
    created_at: int


class SourceStatus(Answer):
    """How a source stands; of one that is not known, `exists` is false and the rest null or empty."""

    exists: bool
    status: str | None = None
    instance_url: str | None = None
    username: str | None = None
    trust_score: float | None = None
    health: str | None = None
    oracle: str | None = None
    origin_bound: bool | None = None
    stale: bool | None = None
    last_sync: int | None = None
    next_sync: int | None = None
    failures: list[FailureRow] = []
    verifications: list[VerificationRow] = []


class Verified(Answer):
    """How the verification went; it also says 200 when the publisher is down."""

    success: bool
    status: str
    details: str | None


class SourceUpdated(Answer):
    """The source as it is now."""

    success: bool
    message: str
    source: SourceColumns


class AuthorInfo(Answer):
    username: str | None
    member_since: str | None = Field(alias="memberSince")
    website: str | None
    github: str | None
    twitter: str | None


class Skipped(Answer):
    slug: str
    reason: str


class SyncReport(Answer):
    success: bool
    running: bool = Field(description="The sync goes on; ask again.")
    mirrored_count: int = Field(alias="mirroredCount")
    total_plugins: int = Field(alias="totalPlugins")
    skipped: list[Skipped]
    author_info: AuthorInfo = Field(alias="authorInfo")


class Subscribed(Answer):
    """The subscription stands; `success` says whether its sync brought what it should."""

    success: bool
    message: str
    source: SourceColumns
    sync_result: SyncReport = Field(alias="syncResult")


class FilterView(Answer):
    tags: list[str]
    slugs: list[str]
    exclude: list[str]

    @classmethod
    def of(cls, filters: Filters) -> "FilterView":
        return cls(tags=list(filters.tags), slugs=list(filters.slugs), exclude=list(filters.exclude))


class SubscriptionRow(Answer):
    source_id: str
    subscriber: str
    filters: FilterView
    created_at: int

    @classmethod
    def of(cls, row: Subscription) -> "SubscriptionRow":
        return cls(
            source_id=row.source_id,
            subscriber=row.subscriber,
            filters=FilterView.of(row.filters),
            created_at=row.created_at,
        )


class Subscriptions(Answer):
    """What the key subscribes to."""

    subscriptions: list[SubscriptionRow]


class ActivityRow(Answer):
    type: str
    plugin_id: str | None
    source_id: str | None
    old_version: str | None
    new_version: str | None
    timestamp: int
    plugin_name: str | None
    source_username: str | None
    id: int
    message: str

    @classmethod
    def of(cls, row: Activity) -> "ActivityRow":
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class Activities(Answer):
    """What happened, newest first."""

    activities: list[ActivityRow]
    total: int


class SlugRow(Answer):
    """A bare slug and the source that owns it."""

    slug: str
    source_id: str = Field(alias="sourceId")


class Slugs(Answer):
    """Bare slugs, and which source owns them for WordPress clients."""

    slugs: list[SlugRow]


class NodeView(Answer):
    node_id: str
    url: str | None
    mesh: str
    software: str
    version: str


class PeerRow(Answer):
    node_id: str
    url: str | None
    state: str
    pinned: bool
    provisional: bool
    blocked: bool
    joined: bool
    trusted_via: list[str]
    last_seen: int | None
    round_trip_ms: int | None
    bytes_sent: int
    bytes_received: int
    announcements: int
    links: list[str]
    outbound: bool
    announcements_sent: int
    announcements_received: int
    differences_found: int
    announced: int | None
    held: int
    incomplete: bool
    convicted: bool
    proof: list[str]
    bytes_last_minute: int


class Peers(Answer):
    """The mesh as this node sees it."""

    node: NodeView
    peers: list[PeerRow]


class Join(Answer):
    """A URL that was joined. `problem`: why it has not answered yet; null: it has, or it will be asked at once."""

    url: str
    node_id: str | None
    problem: str | None


class Joins(Answer):
    """What this node joins, until an administrator says leave."""

    joins: list[Join]


class PeerSet(Done):
    """The opinion is kept; `node_id` is null while a joined node has not answered yet."""

    node_id: str | None


class Disk(Answer):
    free_bytes: int
    total_bytes: int


class AuditHead(Answer):
    """The end of the audit log. Who notes it can tell later whether the log was cut off or written anew."""

    seq: int
    hash: str


class Health(Answer):
    """How the node is."""

    status: str = Field(description="ok, or degraded.")
    problems: list[str] = Field(description="Why it is degraded, and what to do.")
    node_id: str
    version: str
    url: str | None
    counts: dict[str, int]
    artifacts: dict[str, int]
    disk: Disk
    mesh: dict[str, Any]
    audit: AuditHead


class Alive(Answer):
    """It runs."""

    status: str
