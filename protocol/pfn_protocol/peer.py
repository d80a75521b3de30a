"""One other node: what is known of it, how things stand with it, and how it is shown."""

from dataclasses import dataclass, field
from enum import StrEnum

from pfn_protocol.addresses import Source


class LinkState(StrEnum):
    """How things stand with a peer."""

    LINKED = "linked"
    LINKING = "linking"  # asked, no answer yet
    KNOWN = "known"  # there is an address, and no link
    UNREACHABLE = "unreachable"  # the last dial failed
    BLOCKED = "blocked"  # the operator does not listen to it, or it broke the rules a short time ago


@dataclass(frozen=True, slots=True)
class LinkView:
    """A peer as it is shown."""

    peer: bytes
    url: str
    state: str
    role: str  # "eager": news is pushed to it; "lazy": it is told ids; "reconciliation": sets are compared; "": no link
    outbound: bool
    round_trip_ms: int | None
    last_heard_ms: int | None
    sent: int  # announcements pushed to it
    received: int  # announcements that came from it
    differences_found: int  # announcements that reconciliation with it found missing here


@dataclass(slots=True)
class Peer:
    """What is known of one other node."""

    node_id: bytes
    url: str = ""  # in use, or to be tried next; "" = it can only ask
    addresses: dict[str, Source] = field(default_factory=dict)  # the best first
    joined: bool = False
    pinned: bool = False
    introduced: bool = False  # a node that was joined or is pinned named it
    proven: str = ""  # the URL at which it last proved its key, since the start or before it
    proven_place: str = ""  # whom that URL is counted with
    state: LinkState = LinkState.KNOWN
    linked: bool = False  # what follows from the state; it is asked for with every message
    is_unlinked: bool = True  # neither linked nor asked for a link
    outbound: bool = False
    compare_only: bool = False  # of a link: nothing is pushed over it
    place: str = ""  # whom its first address is counted with (address_groups.py)
    left_out: tuple[bytes, ...] = ()  # authors that it does not want to hear of
    failures: int = 0  # in a row: of dials, or of requests over the link
    failing_since_ms: int | None = None  # the first failed dial since it was last heard of
    faults: int = 0  # announcements over this link that broke a rule
    linked_since_ms: int = 0  # when the link was made, if there is one
    opened_after: int = 0  # the last request before the link was made: refusals of older ones say nothing about it
    next_dial_ms: int = 0
    shunned_until_ms: int = 0
    last_heard_ms: int | None = None
    round_trip_ms: int | None = None
    sent: int = 0
    received: int = 0
    differences_found: int = 0

    @property
    def reached(self) -> bool:
        """Whether it proved its key somewhere."""
        return self.proven != ""

    @property
    def named(self) -> bool:
        """Whether the operator named it."""
        return self.joined or self.pinned

    @property
    def may_go(self) -> bool:
        """Whether neither the operator nor a link needs it."""
        return not self.named and self.is_unlinked

    @property
    def is_hearsay(self) -> bool:
        """Whether forgetting it loses nothing but a rumour."""
        return self.may_go and not self.reached
