"""What comes of working with a source, and how it can fail.

    SourcesError
    ├── UnknownSource      no such source here (404)
    ├── SourceConflict     another source stands in the way (409)
    ├── NotVerified        the source has not proved its key, and did not when asked (422)
    └── PublisherFailed    the publisher did not answer, or not with anything usable (502); or was not asked (503)

Input that is wrong in itself is a `pfn_protocol.errors.Refusal` (400). Every error carries one sentence for the person
who asked; none of them says anything about this node's insides.
"""

from dataclasses import dataclass, field


class SourcesError(Exception):
    """The root of what this room raises; `sentence` can be shown to whoever asked."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class UnknownSource(SourcesError):
    """There is no source with this id."""

    def __init__(self, source_id: str) -> None:
        super().__init__(f"there is no source {source_id}; GET /federation/sources lists them")
        self.source_id = source_id


class SourceConflict(SourcesError):
    """A source cannot be added because of one that is already there."""


class NotVerified(SourcesError):
    """The source's publisher has not proved that it holds the source's key."""


class PublisherFailed(SourcesError):
    """The publisher could not be reached, or what it answered is of no use.

    `answered`: whether it answered at all. `ours`: it was never asked, because this node had no room for it, or
    failed; that is not held against it. `status` is the HTTP status of its answer, if that was the trouble.
    `retry_after` is the number of seconds it asked us to wait, if it did.
    """

    def __init__(
        self,
        sentence: str,
        *,
        answered: bool = True,
        ours: bool = False,
        status: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(sentence)
        self.answered = answered
        self.ours = ours
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class VerificationOutcome:
    """How asking a publisher for a proof of its key went."""

    success: bool
    status: str  # of the source, afterwards
    details: str
    answered: bool = True  # False: no usable answer came, so nothing was proved either way


@dataclass(frozen=True, slots=True)
class AuthorInfo:
    """What a publisher says about its author; None where it says nothing usable."""

    username: str | None = None
    member_since: str | None = None
    website: str | None = None
    github: str | None = None
    twitter: str | None = None


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What one sync of a source, or a part of one that still runs, has brought.

    `mirrored_count` counts releases among `total_plugins` (those that the filters let through) whose bytes are here
    now, whether this sync fetched them or an earlier one. `success` is False if there was something to mirror and
    none of it is here.
    """

    success: bool
    running: bool = False
    mirrored_count: int = 0
    total_plugins: int = 0
    skipped: tuple[tuple[str, str], ...] = ()  # (slug, reason), also of entries that could not be read
    author_info: AuthorInfo = field(default_factory=AuthorInfo)


@dataclass(frozen=True, slots=True)
class NoticeOutcome:
    """What became of one notice: new, known (it says nothing new here), or refused with a reason."""

    outcome: str
    source_id: str | None = None
    rule: str | None = None
    sentence: str | None = None
