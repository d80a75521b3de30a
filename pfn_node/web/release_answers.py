"""What clients are told about plugins and releases: the catalogue's rows, their evidence, and what it is worth."""

import json
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from pydantic import Field

from pfn_node.composer_names import composer_name
from pfn_node.store.rows import Plugin, Release
from pfn_node.web.answers import Answer
from pfn_node.web.notice_answers import AdvisoryView


def advisory_views(release: Release) -> list[AdvisoryView]:
    """The advisories about a release, as answers show them."""
    return [AdvisoryView(**one) for one in release.advisories]


class ReleaseFields(Answer):
    """What plugins and their versions have in common."""

    plugin_id: str
    source_id: str
    name: str
    version: str
    description: str | None
    tags: list[str]
    type: str = Field(description="plugin or theme")
    sha256: str | None
    size: int
    assurance: str = Field(description="reported, or A0 to A4")
    backed: bool = Field(
        description="Whether anybody whose word counts here backs these bytes, and nothing holds them back; else they "
        "are not served."
    )
    held_back: str | None = Field(
        description="Why it is not served though it is backed: the plugin was signed before, and this version is not. "
        "POST approve-release lifts it."
    )
    mirrored: bool = Field(description="The bytes are here.")
    conflict: bool
    disputed_by: list[str] = Field(description="Nodes that saw another digest.")
    reported_by: list[str] = Field(description="Nodes that saw this digest at the publisher.")
    backed_by: str | None
    icons: dict[str, str]
    observed_at: int
    yanked: str | None = Field(description="Why it should not be installed; null: nobody whose word acts here says so.")
    yanked_by: str | None = Field(description="publisher, this node, or the did:key of a pinned node.")
    taken_down: str | None = Field(description="Why an admin of this node took it down; it answers 410.")
    revoked_key: bool = Field(description="Only a revoked key vouches for it; it answers 410.")
    cooldown: int | None = Field(
        description="First seen soon after a key of its source changed: not what the newest means before this time."
    )
    advisories: list[AdvisoryView] = Field(description="What is known to be wrong with it.")

    @staticmethod
    def fields_of(release: Release) -> Mapping[str, Any]:
        fields = dict(zip(_AS_THEY_ARE, _as_they_are(release), strict=True))
        fields["tags"], fields["disputed_by"] = list(release.tags), list(release.disputed_by)
        fields["reported_by"] = list(release.reported_by)
        fields["cooldown"], fields["advisories"] = release.cooldown_until, advisory_views(release)
        fields["sha256"] = release.sha256.hex() if release.sha256 else None
        return fields


_OTHERWISE = ("sha256", "cooldown", "advisories", "tags", "disputed_by", "reported_by")
_AS_THEY_ARE = tuple(name for name in ReleaseFields.model_fields if name not in _OTHERWISE)
_as_they_are = attrgetter(*_AS_THEY_ARE)


class PluginRow(ReleaseFields):
    mirrors: int = Field(description="Nodes known to hold artifacts of the source, this one included.")
    versions: int
    reported_version: str | None = Field(description="A newer one that is only reported, or held back.")
    stale: bool = Field(
        description="Nobody whose word counts has verified the source for 48 hours, or its newest head has expired."
    )
    composer_name: str
    downloads: int = Field(description="How often any version of it was had, as far as this node counted.")

    @classmethod
    def of(cls, plugin: Plugin) -> "PluginRow":
        return cls(**plugin_fields(plugin))


def plugin_fields(plugin: Plugin) -> dict[str, Any]:
    """The fields of a `PluginRow`."""
    release = plugin.release
    return {
        **ReleaseFields.fields_of(release),
        "mirrors": plugin.mirrors,
        "versions": plugin.versions,
        "reported_version": plugin.reported_version,
        "stale": plugin.stale,
        "composer_name": composer_name(release.source_id, release.plugin_id),
        "downloads": plugin.downloads,
    }


class Plugins(Answer):
    """One row for each plugin of each source."""

    plugins: list[PluginRow]
    total: int = Field(
        description="Of all pages. With `q` the newest 2,000 matches are counted and ranked: 2000 means at least that. "
        "With other filters beside it, they are found among the newest 10,000 plugins that have its words."
    )
    next: str | None = Field(description="`cursor` of the next page; null = this was the last.")


class WrittenPlugins(Answer):
    """The same, of rows that are JSON already."""

    rows: list[str]
    total: int
    next: str | None

    def model_dump_json(self, **options: Any) -> str:
        """What `Plugins` would say."""
        return f'{{"plugins":[{",".join(self.rows)}],"total":{self.total},"next":{json.dumps(self.next)}}}'


class EvidenceView(Answer):
    form: str = Field(description="metadata, plugin-data, release/2, keybind/2, head/2, or sha384")
    data: str = Field(description="Base64: the signature or envelope as the publisher gave it.")
    text_sha256: str | None = Field(
        description="Names the signed text where it is kept apart; fetch it from /node/v1/artifacts/."
    )


class ObservationView(Answer):
    observer: str
    sha256: str
    size: int
    observed_at: int
    announcement: str | None = Field(description="Id of the announcement that said so.")
    evidence: list[EvidenceView]


class VersionView(ReleaseFields):
    download: str = Field(description="Path on this node.")
    downloads: int
    observations: list[ObservationView]


class Holder(Answer):
    node_id: str
    url: str | None
    pinned: bool


class PluginView(PluginRow):
    """A plugin with its versions, newest first, their evidence, and where they can be had."""

    releases: list[VersionView]
    holders: list[Holder]
    publisher: str | None = Field(description="The publisher's instance URL.")


class SignatureView(Answer):
    form: str
    valid: bool
    key: str | None = Field(description="Whose signature was checked.")
    covers_bytes: bool
    says: str


class Assurance(Answer):
    level: str
    covers_bytes: bool
    evidence: list[str]
    caveats: list[str]


class Witness(Answer):
    node_id: str
    observed_at: int


class ReleaseChecked(Answer):
    """The evidence for a release, checked again now."""

    valid: bool = Field(
        description="The bytes are here and match, somebody whose word counts backs them, the key stands."
    )
    source_id: str | None
    plugin_id: str | None
    version: str | None
    assurance: Assurance
    sha256: str
    size: int
    signatures: list[SignatureView]
    witnesses: list[Witness]
    yanked: str | None = None
    cooldown: int | None = None
    advisories: list[AdvisoryView] = Field(default_factory=list)
    bundle: dict[str, Any] | None = Field(
        None, description="With `bundle=1`: all of this as a `pfn-evidence/2`, for `pfn verify --evidence`."
    )


class ReleaseAccepted(Answer):
    """The statement is kept."""

    accepted: bool
    assurance: str
