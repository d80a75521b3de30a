"""What one node says to another: requests, their answers, and the signed envelopes around both.

A request travels as POST `/node/v1/<name>`, its body one `pfn/request/1` envelope of (path, to, time, nonce, content),
signed by the sender; the answer is one `pfn/response/1` envelope over the request's nonce. So neither can be replayed,
not even to another node (SPEC.md, "Messages").
"""

from typing import ClassVar

from pfn_protocol.records import record


@record
class PeerAddress:
    """A node that the speaker has itself reached at this URL."""

    node_id: bytes
    url: str


@record
class SetStatus:
    """How many announcements the link's set holds as the speaker has it, and their set digest (32 bytes)."""

    count: int
    digest: bytes
    scope: bytes = bytes(8)  # 8 bytes that say of which authors, at which caps: others cannot be compared


@record
class LinkRequest:
    """Let us be neighbours. Over a link that stands: here is another sample of whom I know."""

    path: ClassVar[str] = "link"
    url: str  # the asker's own; "" = it polls
    view: tuple[PeerAddress, ...]
    left_out: tuple[bytes, ...]  # authors whose announcements the asker does not want
    key: bytes = b""  # X25519, for the link's secret; b"" = the secret stays as it is, or there shall be none
    nonce: bytes = b""  # 16 bytes beside a key
    compare_only: bool = False  # nothing is pushed over this link: it is there to compare sets


@record
class LinkAnswer:
    accepted: bool
    back_off_seconds: int  # when to try again, if not accepted
    view: tuple[PeerAddress, ...]
    left_out: tuple[bytes, ...]
    key: bytes = b""  # X25519, if the request brought one
    nonce: bytes = b""


@record
class GossipRequest:
    """New announcements as bodies, ids of others, and how my set stands."""

    path: ClassVar[str] = "gossip"
    push: tuple[bytes, ...]  # raw announcements
    have: tuple[bytes, ...]  # ids that others will probably push to you; if they do not, ask me
    status: SetStatus | None
    wait_seconds: int  # > 0: a node without a URL asks to hold the answer until there is something to say
    offer: tuple[bytes, ...] = ()  # ids that nobody else may push to you: say at once which you want
    graft: bool = False  # push to me from now on


@record
class GossipAnswer:
    push: tuple[bytes, ...]  # what the answerer has to push
    want: tuple[bytes, ...]  # ids out of `offer` (of `have` too, if the asker has no URL) that the answerer lacks
    status: SetStatus | None  # None: as in the request
    prune: bool = False  # others push to me faster: send me ids only, from now on


@record
class FetchRequest:
    path: ClassVar[str] = "fetch"
    ids: tuple[bytes, ...]  # whole, or their first 16 bytes


@record
class FetchAnswer:
    announcements: tuple[bytes, ...]  # raw; the node announcements of their authors come first
    missing: tuple[bytes, ...]


@record
class AuthorSummary:
    """One admitted author's share of the answerer's set."""

    author: bytes
    cap: int  # slots that the answerer admits for it
    count: int
    digest: bytes  # set digest of its announcements


@record
class AuthorsRequest:
    """Which authors do you admit, from this one on (exclusive), and what do you hold of each? I admit these."""

    path: ClassVar[str] = "authors"
    after: bytes  # b"" = from the start
    mine: tuple[tuple[bytes, int], ...] = ()  # a page of the authors that the asker admits, with their caps
    is_last: bool = False  # with this page the asker has told them all


@record
class AuthorsAnswer:
    authors: tuple[AuthorSummary, ...]  # sorted by author
    more: bool


@record
class IdsRequest:
    """Which ids of this author are in your set, at this cap, from this one on (exclusive)?

    Of no author: which of everybody are in the link's set; there the cap says nothing.
    """

    path: ClassVar[str] = "ids"
    author: bytes
    cap: int
    after: bytes  # the first 16 bytes of an id; b"" = from the start


@record
class IdsAnswer:
    ids: tuple[bytes, ...]  # their first 16 bytes, sorted
    more: bool


@record
class CellsRequest:
    """Cells of a sketch of the link's set, from `start` on. Start 0 begins a round: later cells are of the same set."""

    path: ClassVar[str] = "cells"
    set_name: str  # "" = the announcements; the id of a source = its mirror set
    salt: bytes  # 4 bytes that name the salt
    scope: bytes  # 8 bytes, as in SetStatus
    start: int
    count: int


@record
class CellsAnswer:
    cells: bytes  # 21 each
    count: int  # how many ids the set has, and its digest, when the round began
    digest: bytes


@record
class SnapshotRequest:
    """Bodies in the order of their ids, of everybody or of one author."""

    path: ClassVar[str] = "snapshot"
    after: bytes  # b"" = from the start
    author: bytes  # b"" = everybody
    until: bytes = b""  # the last id that is wanted; b"" = to the end


@record
class SnapshotAnswer:
    announcements: tuple[bytes, ...]
    after: bytes  # id to go on from; b"" = that was all


@record
class HaveRequest:
    """Which of these artifacts do you serve?"""

    path: ClassVar[str] = "have"
    digests: tuple[bytes, ...]


@record
class HaveAnswer:
    digests: tuple[bytes, ...]


@record
class RefusedAnswer:
    """The request is not served; `rule` says why by number, `sentence` in words."""

    rule: str
    sentence: str
    now_ms: int  # the answerer's clock, so that a skewed asker can tell


Request = (
    LinkRequest
    | GossipRequest
    | FetchRequest
    | CellsRequest
    | AuthorsRequest
    | IdsRequest
    | SnapshotRequest
    | HaveRequest
)
Answer = (
    LinkAnswer
    | GossipAnswer
    | FetchAnswer
    | CellsAnswer
    | AuthorsAnswer
    | IdsAnswer
    | SnapshotAnswer
    | HaveAnswer
    | RefusedAnswer
)
