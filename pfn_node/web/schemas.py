"""What clients may send: query strings and JSON bodies, checked here before any room sees them.

Unknown fields are ignored, as the original does. `sourceId` and `source_id` both name a source. JSON is read
strictly: a number is no text and "true" no boolean. In a query string everything is text, so numbers and booleans
are read from their one plain spelling. The patterns are the grammar of `pfn_protocol.names`, so what passes here
names a thing that could exist, and the answer to one that does not is 404.
"""

import re
from typing import Annotated, Literal, get_args

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from pfn_node.web.auth import SCOPES, Scope
from pfn_protocol.limits import (
    advisory_aliases_max,
    advisory_id_chars_max,
    advisory_ranges_max,
    reason_chars_max,
    slug_chars_max,
    source_id_chars_max,
    summary_chars_max,
    url_chars_max,
    username_chars_max,
    version_chars_max,
)

# Control characters and white space (as str.isspace counts it), and what separates the parts of an id.
_NOT_IN_NAMES = "/@\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
USERNAME_PATTERN = f"^[^{_NOT_IN_NAMES}]{{1,{username_chars_max}}}$"
SLUG_PATTERN = f"^[a-z0-9][a-z0-9_-]{{0,{slug_chars_max - 1}}}$"
VERSION_PATTERN = f"^[0-9A-Za-z][0-9A-Za-z.+_-]{{0,{version_chars_max - 1}}}$"
NODE_ID_PATTERN = "^did:key:z6Mk[1-9A-HJ-NP-Za-km-z]{44}$"

# What is documented of a URL; the room that uses it reads the whole grammar (ports, IPv6, international names).
_LABEL = "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"
_HOST = rf"(({_LABEL}\.){{0,4}}[a-z]([a-z0-9-]{{0,30}}[a-z0-9])?|([1-9][0-9]?\.){{3}}[1-9][0-9]?)"
_PATH = r"(:[1-9][0-9]{0,3})?(/[A-Za-z0-9_-]{1,40}){0,4}/?"
HTTPS_PATTERN = f"^https://{_HOST}{_PATH}$"
ANY_HTTP_PATTERN = f"^https?://{_HOST}{_PATH}$"

_BASE64_32_BYTES = "[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]="
_PEM = f"-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEA{_BASE64_32_BYTES}\\n-----END PUBLIC KEY-----\\n?"
# Publishers give either; line ends vary, so the room reads more forms than are documented.
PUBLIC_KEY_CHARACTERS_MAX = 1024
PUBLIC_KEY_PATTERN = f"^{_BASE64_32_BYTES}$"

# An envelope begins with its shape and domain: the first 18 bytes are the same in every one of a kind.
_BASE64_REST = "([A-Za-z0-9+/]{4})+([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
RELEASE_PATTERN = f"^lQGtcGZuL3JlbGVhc2UvMsQg{_BASE64_REST}"
BASE64_PATTERN = f"^{_BASE64_REST}"
KEYBIND_PATTERN = f"^lQGtcGZuL2tleWJpbmQvMsQg{_BASE64_REST}"
# Envelopes of notices that one request may bring: a publisher's own answers may have more.
NOTICES_HANDED_IN_MAX = 16
ADVISORY_ID_PATTERN = f"^[0-9A-Za-z][0-9A-Za-z._:-]{{0,{advisory_id_chars_max - 1}}}$"
ONE_LINE_PATTERN = "^[^\x00-\x1f\x7f-\x9f]*$"
# Shown to people, never fetched.
SHOWN_URL_PATTERN = "^https?://[0-9A-Za-z./_~:?#@!$&'()*+,;=%-]+$"
# publisher_envelope_bytes_max in base64, rounded up.
ENVELOPE_CHARACTERS_MAX = 4096

# Base64 of a JSON list that begins with the name of a sort.
CURSOR_PATTERN = "^WyJ[1uy][A-Za-z0-9_-]{8,1000}$"

QUERY_CHARACTERS_MAX = 200
DESCRIPTION_CHARACTERS_MAX = 200
FILTER_ENTRIES_MAX = 100
PAGE_MAX = 100
PAGE_DEFAULT = 50
SOURCES_PAGE_MAX = 1000
AUDIT_PAGE_MAX = 1000
OFFSET_MAX = 1_000_000
SECONDS_MAX = 2**40  # later than any clock; keeps numbers far from the edge of SQLite's integers
KEY_DAYS_MAX = 3650
KEY_DAYS_DEFAULT = 90
OVERLAP_HOURS_MAX = 24


# Longer numbers than these mean nothing to anything here.
_WHOLE_NUMBER = re.compile(r"[0-9]{1,16}(\.0{1,3})?", re.ASCII)


def _plain_digits(value: object) -> object:
    """Only ASCII digits are a number in a query: int() would also read "1_0", " 1" and "١". 5.0 is 5, as in JSON."""
    if isinstance(value, str):
        if _WHOLE_NUMBER.fullmatch(value) is None:
            raise ValueError("write it as a whole number in plain digits")
        return int(value.partition(".")[0])
    return value


def _whole_number(value: object) -> object:
    """JSON knows one kind of number: 30.0 is a whole one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# The bounds stand before the validator: behind it pydantic would leave them out of the document.
KeyDays = Annotated[int, Field(ge=1, le=KEY_DAYS_MAX), BeforeValidator(_whole_number)]
OverlapHours = Annotated[int, Field(ge=0, le=OVERLAP_HOURS_MAX), BeforeValidator(_whole_number)]
QueryInteger = Annotated[int, BeforeValidator(_plain_digits)]
SOURCE_ALIASES = AliasChoices("sourceId", "source_id", "source")
SourceId = Annotated[
    str,
    Field(min_length=1, max_length=source_id_chars_max, description="username@host", validation_alias=SOURCE_ALIASES),
]
Slug = Annotated[str, Field(pattern=SLUG_PATTERN, description="A plugin's id.")]
Version = Annotated[str, Field(pattern=VERSION_PATTERN)]
# `pattern` documents; the rule itself is the room's (it reads more spellings), so it is not enforced twice.
InstanceUrl = Annotated[
    str,
    Field(min_length=1, max_length=url_chars_max),
    WithJsonSchema({"type": "string", "pattern": HTTPS_PATTERN, "maxLength": url_chars_max}),
]
PublicKey = Annotated[
    str,
    Field(min_length=1, max_length=PUBLIC_KEY_CHARACTERS_MAX),
    WithJsonSchema(
        {
            "type": "string",
            "description": "An Ed25519 public key: SPKI PEM, or base64 of its 32 bytes.",
            "anyOf": [{"pattern": f"^{_PEM}$"}, {"pattern": PUBLIC_KEY_PATTERN}],
        }
    ),
]


class Query(BaseModel):
    """A query string."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Body(BaseModel):
    """A JSON body."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class CreateKey(Body):
    description: str | None = Field(None, max_length=DESCRIPTION_CHARACTERS_MAX, description="What the key is for.")
    scopes: list[Scope] | None = Field(
        None, min_length=1, max_length=len(SCOPES), description="What it may do; left out = everything."
    )
    expires_in_days: KeyDays | None = Field(None, description=f"Left out = {KEY_DAYS_DEFAULT}.")


KeyId = Annotated[str, Field(pattern="^[0-9A-Za-z]{8}$", description="The 8 characters after fadmin_.")]


class RevokeKey(Body):
    id: KeyId


class RotateKey(Body):
    id: KeyId
    expires_in_days: KeyDays | None = None
    overlap_hours: OverlapHours | None = Field(
        None, description=f"How long the old key still works; left out = {OVERLAP_HOURS_MAX}."
    )


class AddSource(Body):
    instance_url: InstanceUrl
    username: str = Field(pattern=USERNAME_PATTERN)
    public_key: PublicKey


class SourceBody(Body):
    source_id: SourceId


class VerifySource(SourceBody):
    pass


class UpdateSource(SourceBody):
    instance_url: InstanceUrl | None = None
    public_key: PublicKey | None = None
    allow_unsigned: bool | None = Field(None, description="Mirror releases without any signature too (as A0).")


class RemoveSource(SourceBody):
    purge: bool | None = Field(None, description="Forget its releases and their files as well.")


FilterWords = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=slug_chars_max)]], Field(max_length=FILTER_ENTRIES_MAX)
]


class SubscriptionFilters(Body):
    """Which plugins of the source; left out or empty = all."""

    tags: FilterWords | None = None
    slugs: FilterWords | None = None
    exclude: FilterWords | None = None


class Subscribe(SourceBody):
    filters: SubscriptionFilters | None = None


class Unsubscribe(SourceBody):
    pass


class HandInRelease(Body):
    """A release statement that its author signed offline."""

    release_v2: str = Field(pattern=RELEASE_PATTERN, max_length=ENVELOPE_CHARACTERS_MAX, description="Base64.")
    keybind_v2: str | None = Field(None, pattern=KEYBIND_PATTERN, max_length=ENVELOPE_CHARACTERS_MAX)
    artifact_url: InstanceUrl | None = Field(None, description="Where the zip lies, on the source's own host.")


class SetSlug(SourceBody):
    slug: Slug


PeerAction = Literal["join", "leave", "pin", "unpin", "block", "unblock"]


class SetPeer(Body):
    """`url` or `node_id` (or both) say which node; a node that was never met can be joined by its URL only."""

    model_config = ConfigDict(
        strict=True,
        extra="ignore",
        frozen=True,
        json_schema_extra={
            "anyOf": [
                {"required": ["url"], "properties": {"url": {"type": "string"}}},
                {"required": ["node_id"], "properties": {"node_id": {"type": "string"}}},
            ]
        },
    )

    action: PeerAction
    url: InstanceUrl | None = None
    node_id: str | None = Field(None, pattern=NODE_ID_PATTERN, description="did:key:z6Mk...")

    @model_validator(mode="after")
    def _says_which(self) -> "SetPeer":
        if self.url is None and self.node_id is None:
            raise ValueError("say which node: give url or node_id")
        return self


class SourcesQuery(Query):
    status: Literal["pending", "discovered", "verified", "error", "conflict", "revoked"] | None = None
    q: str | None = Field(None, max_length=QUERY_CHARACTERS_MAX, description="Words in the id or URL.")
    limit: QueryInteger = Field(SOURCES_PAGE_MAX, ge=1, le=SOURCES_PAGE_MAX)
    offset: QueryInteger = Field(0, ge=0, le=OFFSET_MAX)


class SourceQuery(Query):
    source_id: SourceId


ActivityType = Literal["version_update", "source_verification", "source_health", "federation_event", "security"]
ACTIVITY_TYPES: tuple[ActivityType, ...] = get_args(ActivityType)


class ActivityQuery(Query):
    type: ActivityType | None = None
    source_id: str | None = Field(
        None, max_length=source_id_chars_max, validation_alias=SOURCE_ALIASES, description="Only of this source."
    )
    before: Annotated[int, Field(ge=1, le=SECONDS_MAX), BeforeValidator(_plain_digits)] | None = Field(
        None, description="Only what came before the activity with this id."
    )
    since: Annotated[int, Field(ge=0, le=SECONDS_MAX), BeforeValidator(_plain_digits)] | None = Field(
        None, description="Seconds since 1970."
    )
    limit: QueryInteger = Field(PAGE_DEFAULT, ge=1, le=PAGE_MAX)
    offset: QueryInteger = Field(0, ge=0, le=OFFSET_MAX)


class AuditQuery(Query):
    after: QueryInteger = Field(0, ge=0, le=SECONDS_MAX, description="The number of the last entry that is known.")
    limit: QueryInteger = Field(AUDIT_PAGE_MAX, ge=1, le=AUDIT_PAGE_MAX)


class PluginsQuery(Query):
    q: str | None = Field(
        None,
        max_length=QUERY_CHARACTERS_MAX,
        description="Words to search for. The last one also as a beginning, unless 2,000 matches (with other filters "
        "10,000) have it whole.",
    )
    tag: str | None = Field(None, min_length=1, max_length=slug_chars_max)
    source: str | None = Field(
        None,
        min_length=1,
        max_length=source_id_chars_max,
        validation_alias=AliasChoices("source", "sourceId", "source_id"),
        description="Only of this source.",
    )
    type: Literal["plugin", "theme"] | None = None
    min_assurance: Literal["reported", "A0", "A1", "A2", "A3", "A4"] | None = None
    sort: Literal["updated", "name", "relevance"] | None = None
    limit: QueryInteger = Field(PAGE_DEFAULT, ge=1, le=PAGE_MAX)
    cursor: str | None = Field(None, pattern=CURSOR_PATTERN, description="`next` of the page before.")


class ReleaseQuery(Query):
    source_id: SourceId
    plugin: Slug
    version: Version | None = Field(None, description="Left out = the newest that is backed.")


class AdvisoriesQuery(Query):
    source_id: str | None = Field(
        None, min_length=1, max_length=source_id_chars_max, validation_alias=SOURCE_ALIASES, description="Only of this."
    )
    plugin: Slug | None = None


class VerifyQuery(ReleaseQuery):
    bundle: Literal["1"] | None = Field(None, description="1 = with an evidence bundle, to be checked without a node.")


class SlugsQuery(Query):
    slug: Slug | None = None


class HandInNotices(Body):
    """What a publisher signed about its keys or its releases."""

    notices_v2: Annotated[
        list[Annotated[str, Field(max_length=ENVELOPE_CHARACTERS_MAX, pattern=BASE64_PATTERN)]],
        Field(min_length=1, max_length=NOTICES_HANDED_IN_MAX),
    ] = Field(description="Base64 of pfn/rotate/2, pfn/revoke/2, pfn/yank/2 and pfn/advisory/2 envelopes.")
    keybind_v2: str | None = Field(
        None,
        pattern=KEYBIND_PATTERN,
        max_length=ENVELOPE_CHARACTERS_MAX,
        description="What binds the key that signed them, where this node may not know it.",
    )


Reason = Annotated[str, Field(max_length=reason_chars_max, pattern=ONE_LINE_PATTERN)]
AdvisoryId = Annotated[str, Field(pattern=ADVISORY_ID_PATTERN)]
VersionOrEmpty = Annotated[str, Field(pattern=f"^$|{VERSION_PATTERN}")]


class SayYank(SourceBody):
    plugin: Slug
    version: Version
    reason: Reason | None = None
    withdrawn: bool | None = Field(None, description="Take back what this node said.")


class TakeDown(SourceBody):
    plugin: Slug
    version: Version
    reason: Reason | None = None
    withdrawn: bool | None = Field(None, description="Bring it back.")


class ApproveRelease(SourceBody):
    plugin: Slug
    version: Version


class AffectedRange(Body):
    from_: VersionOrEmpty = Field("", alias="from", description="The first version; empty = the very first.")
    until: VersionOrEmpty = Field("", description="The first version that is well again; empty = none is yet.")


class Advise(SourceBody):
    plugin: Slug
    advisory_id: AdvisoryId
    severity: Literal["low", "medium", "high", "critical"]
    summary: str = Field(min_length=1, max_length=summary_chars_max, pattern=ONE_LINE_PATTERN)
    ranges: list[AffectedRange] = Field(min_length=1, max_length=advisory_ranges_max)
    url: str | None = Field(None, max_length=url_chars_max, pattern=SHOWN_URL_PATTERN)
    aliases: Annotated[list[AdvisoryId], Field(max_length=advisory_aliases_max)] | None = None
    withdrawn: bool | None = Field(None, description="Take back what this node said.")
