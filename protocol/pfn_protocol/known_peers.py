"""Who is known: every other node that this one heard of, bounded, and the views of it.

An address is hearsay until its node proved its key there. Hearsay is bounded by number and by network; proven peers
push it out. Links are kept here by state, so that nobody has to look through all peers for them.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from pfn_protocol.address_groups import address_group
from pfn_protocol.effects import ForgetPeer
from pfn_protocol.limits import left_out_max, peers_known_max, peers_per_group_max, peers_unlinked_max, view_sample_max
from pfn_protocol.messages import PeerAddress
from pfn_protocol.outgoing import Outgoing

# Addresses that are remembered for one node: joined, announced, heard.
_addresses_max = 3
# The chance in the delay before the next dial, as a part of the delay.
_jitter = 0.25


class LinkState(StrEnum):
    """How things stand with a peer."""

    LINKED = "linked"
    LINKING = "linking"  # asked, no answer yet
    KNOWN = "known"  # there is an address, and no link
    UNREACHABLE = "unreachable"  # the last dial failed
    BLOCKED = "blocked"  # the operator does not listen to it, or it broke the rules a short time ago


unlinked = (LinkState.KNOWN, LinkState.UNREACHABLE)


@dataclass(frozen=True, slots=True)
class LinkView:
    """A peer as it is shown."""

    peer: bytes
    url: str
    state: str
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
    addresses: dict[str, None] = field(default_factory=dict)
    group: str | None = None  # of the first address; None: it is not counted
    joined: bool = False
    pinned: bool = False
    proven: str = ""  # the URL at which it last proved its key, since the start or before it
    state: LinkState = LinkState.KNOWN
    outbound: bool = False
    compare_only: bool = False  # of a link: nothing is pushed over it
    left_out: tuple[bytes, ...] = ()  # authors that it does not want to hear of
    failures: int = 0  # in a row: of dials, or of requests over the link
    failing_since_ms: int | None = None  # the first failed dial since it was last heard of
    faults: int = 0  # announcements over this link that broke a rule
    opened_after: int = 0  # the last request before the link was made: refusals of older ones say nothing about it
    next_dial_ms: int = 0
    shunned_until_ms: int = 0
    last_heard_ms: int | None = None
    round_trip_ms: int | None = None
    sent: int = 0
    received: int = 0
    differences_found: int = 0

    @property
    def linked(self) -> bool:
        return self.state is LinkState.LINKED

    @property
    def reached(self) -> bool:
        """Whether it proved its key somewhere."""
        return self.proven != ""

    @property
    def is_hearsay(self) -> bool:
        """Whether forgetting it loses nothing but a rumour."""
        return not (self.joined or self.pinned or self.reached) and self.state in unlinked


class KnownPeers:
    """All other nodes that this one knows of."""

    def __init__(self, me: bytes, rng: Random, outgoing: Outgoing, *, allow_private: bool) -> None:
        self._me = me
        self._rng = rng
        self._outgoing = outgoing
        self._allow_private = allow_private
        self._peers: dict[bytes, Peer] = {}
        self._blocked: dict[bytes, None] = {}
        self._linked: dict[bytes, Peer] = {}
        self._linking: dict[bytes, Peer] = {}
        self._joined: dict[bytes, Peer] = {}
        self._groups: dict[str, int] = {}  # how many known peers each network has
        self._changed = True  # what is due next is to be computed again

    @property
    def blocked(self) -> tuple[bytes, ...]:
        """Whom the operator does not listen to, as many as a message can name."""
        return tuple(sorted(self._blocked))[:left_out_max]

    def find(self, node_id: bytes) -> Peer | None:
        return self._peers.get(node_id)

    def linked(self) -> list[Peer]:
        return list(self._linked.values())

    def is_linked(self, node_id: bytes) -> bool:
        return node_id in self._linked

    @property
    def is_linking(self) -> bool:
        return bool(self._linking)

    def view(self) -> tuple[LinkView, ...]:
        """Everyone, as shown to operators."""
        return tuple(
            LinkView(
                peer.node_id,
                peer.url,
                LinkState.BLOCKED.value if peer.node_id in self._blocked else peer.state.value,
                peer.outbound,
                peer.round_trip_ms,
                peer.last_heard_ms,
                peer.sent,
                peer.received,
                peer.differences_found,
            )
            for peer in self._peers.values()
        )

    def learn(self, node_id: bytes, url: str, *, joined: bool = False, reached: bool = False) -> None:
        """There is said to be a node at this URL."""
        if node_id == self._me or not url:
            return
        peer = self._peers.get(node_id) or self._add(node_id, url, needed=joined or reached)
        if peer is None:
            return
        peer.joined = peer.joined or joined
        if reached:
            peer.proven = url
        if url not in peer.addresses and len(peer.addresses) >= _addresses_max:
            del peer.addresses[next(reversed(peer.addresses))]
        peer.addresses[url] = None
        if joined:
            peer.addresses = {url: None, **peer.addresses}
            peer.next_dial_ms = 0
            self._joined[node_id] = peer
            self._changed = True
        if not peer.url or (joined and not peer.linked):
            peer.url = url
            self._changed = True

    def _passive(self) -> int:
        return sum(peer.reached and not (peer.linked or peer.joined or peer.pinned) for peer in self._peers.values())

    def _set_state(self, peer: Peer, state: LinkState) -> None:
        self._changed = True
        peer.state = state
        self._linked.pop(peer.node_id, None)
        self._linking.pop(peer.node_id, None)
        if state is LinkState.LINKED:
            self._linked[peer.node_id] = peer
        elif state is LinkState.LINKING:
            self._linking[peer.node_id] = peer

    def _sample(self, asker: bytes) -> tuple[PeerAddress, ...]:
        """Some nodes that were reached from here, for another node to try: where they proved their key (R98)."""
        proven = [peer for peer in self._peers.values() if peer.proven and peer.url and peer.node_id != asker]
        chosen = self._rng.sample(proven, min(len(proven), view_sample_max))
        return tuple(PeerAddress(peer.node_id, peer.proven) for peer in chosen)

    def _add(self, node_id: bytes, url: str, *, needed: bool, asks: bool = False) -> Peer | None:
        """A new peer; None if there is no room. Needed ones push out hearsay, or are taken over the limits."""
        is_hearsay = not needed and not asks
        if is_hearsay and len(self._peers) - len(self._linked) >= peers_unlinked_max:
            return None
        group = self._group_of(url)
        if is_hearsay and group is not None and self._groups.get(group, 0) >= peers_per_group_max:
            return None
        if len(self._peers) >= peers_known_max:
            hearsay = next((peer for peer in self._peers.values() if peer.is_hearsay), None)
            if hearsay is not None:
                self._remove(hearsay)
            elif not needed:
                return None
        peer = self._peers[node_id] = Peer(node_id, group=group)
        if group is not None:
            self._groups[group] = self._groups.get(group, 0) + 1
        self._changed = True
        return peer

    def _group_of(self, url: str) -> str | None:
        return address_group(url, allow_private=self._allow_private) if url else None

    def _remove(self, peer: Peer) -> None:
        self._set_state(peer, LinkState.KNOWN)
        self._joined.pop(peer.node_id, None)
        del self._peers[peer.node_id]
        if peer.group is not None:
            self._groups[peer.group] -= 1
            if not self._groups[peer.group]:
                del self._groups[peer.group]

    def _is_dialable(self, peer: Peer) -> bool:
        return peer.state in unlinked and bool(peer.url) and peer.node_id not in self._blocked

    def forget(self, node_id: bytes) -> None:
        """It left the mesh, or is too long silent."""
        peer = self._peers.get(node_id)
        if peer is not None:
            self._remove(peer)
            self._outgoing.add(ForgetPeer(node_id))

    def _with_jitter(self, delay_ms: int) -> int:
        return delay_ms + int(delay_ms * _jitter * self._rng.random())
