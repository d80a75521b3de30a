"""What clients are told about notices: yanks, advisories, changes of keys, and what became of those handed in."""

from pydantic import Field

from pfn_node.web.answers import Answer


class VersionRange(Answer):
    """Versions from `from` (empty: the first) up to, but not including, `until` (empty: all that come)."""

    from_: str = Field(alias="from")
    until: str


class AdvisoryView(Answer):
    """What is known to be wrong with a release."""

    advisory_id: str
    severity: str = Field(description="low, medium, high, critical")
    summary: str
    ranges: list[VersionRange]
    url: str = Field(description="Empty, or where to read more.")
    aliases: list[str]
    by: str = Field(description="Whose word it is: publisher, this node, or the did:key of a node that is pinned here.")


class NoticeView(Answer):
    """One yank or advisory, whoever says it."""

    kind: str = Field(description="yank or advisory")
    source_id: str
    plugin_id: str
    about: str = Field(description="The version of a yank, the id of an advisory.")
    by: str = Field(description="publisher, this node, or the did:key of the node that says it.")
    acts: bool = Field(description="Whether that word counts here; others are only reported.")
    withdrawn: bool
    reason: str | None = Field(description="Of a yank.")
    advisory: AdvisoryView | None
    at: int = Field(description="When this node heard it.")


class NoticeList(Answer):
    """Newest first; at most 500."""

    notices: list[NoticeView]


class NoticeTaken(Answer):
    outcome: str = Field(description="new, known (it says nothing new here), or refused")
    source_id: str | None
    rule: str | None = Field(description="The rule of protocol/SPEC.md by which it was refused.")
    error: str | None


class NoticesTaken(Answer):
    """What became of each notice, in their order."""

    accepted: int
    notices: list[NoticeTaken]


class Said(Answer):
    """It acts here; `announced`: other nodes are told as well."""

    success: bool
    announced: bool
    message: str
