"""Who is known: every other node that this one heard of, bounded, and the views of it.

An address is hearsay until its node proved its key there. Hearsay is bounded by number and by network; proven peers
push it out. Links are kept here by state, so that nobody has to look through all peers for them.
"""

from collections.abc import Callable, Collection, Iterable
from random import Random

from pfn_protocol.address_groups import address_group
from pfn_protocol.addresses import Source, with_address
from pfn_protocol.effects import ForgetPeer, RememberPeer
from pfn_protocol.events import JoinTakenBack, PeerFound
from pfn_protocol.limits import (
    left_out_max,
    link_faults_max,
    peers_known_max,
    peers_per_group_max,
    peers_unlinked_max,
    view_sample_max,
)
from pfn_protocol.messages import PeerAddress, RefusedAnswer
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.peer import LinkState, LinkView, Peer

# The rules of SPEC.md that a refused request is told.
RULE_NOT_LISTENED_TO = "R86"
RULE_NOT_LINKED = "R96"
# The chance in the delay before the next dial, as a part of the delay.
_jitter = 0.25


class KnownPeers:
    """All other nodes that this one knows of."""

    def __init__(self, me: bytes, rng: Random, outgoing: Outgoing, *, hosts_shared: bool) -> None:
        self._me = me
        self._rng = rng
        self._outgoing = outgoing
        self._hosts_shared = hosts_shared
        self._peers: dict[bytes, Peer] = {}
        self.find: Callable[[bytes], Peer | None] = self._peers.get  # asked with every message
        self._blocked: dict[bytes, None] = {}
        self._convicted: dict[bytes, None] = {}
        self._linked: dict[bytes, Peer] = {}
        self._linking: dict[bytes, Peer] = {}
        self._joined: dict[bytes, Peer] = {}
        self._hearsay_at: dict[str, int] = {}  # how many known peers were first heard of at each place
        self._proven_at: dict[str, int] = {}  # and how many proved their key at each
        self.has_changed = True  # whether a link or an address came or went since `wake_at` was last asked for

    @property
    def blocked(self) -> tuple[bytes, ...]:
        """Whom the operator does not listen to, as many as a message can name."""
        return tuple(sorted(self._blocked))[:left_out_max]

    def refuses(self, node_id: bytes) -> bool:
        """Whether there is no link with it: by the operator's word, or because it was proved guilty."""
        return node_id in self._blocked or node_id in self._convicted

    def heard(self, peer: Peer, now_ms: int) -> None:
        """It asked or answered: it is alive."""
        peer.last_heard_ms = now_ms
        peer.failing_since_ms = None
        if peer.linked:
            peer.failures = 0

    def count_faults(self, peer: Peer, faults: int) -> bool:
        """It sent announcements that break rules. Returns whether that is too many."""
        peer.faults += faults
        return peer.faults > link_faults_max

    def refusal(self, node_id: bytes, now_ms: int) -> RefusedAnswer:
        """What a node without a link is told."""
        if self.refuses(node_id):
            return RefusedAnswer(RULE_NOT_LISTENED_TO, "this node does not listen to you", now_ms)
        return RefusedAnswer(RULE_NOT_LINKED, "there is no link between us; ask for one first", now_ms)

    def last_heard_ms(self, node_id: bytes) -> int | None:
        """When a node last asked or answered here."""
        peer = self._peers.get(node_id)
        return peer.last_heard_ms if peer is not None else None

    def linked(self) -> list[Peer]:
        return list(self._linked.values())

    def is_linked(self, node_id: bytes) -> bool:
        return node_id in self._linked

    @property
    def is_linking(self) -> bool:
        return bool(self._linking)

    def view(self, role_of: Callable[[bytes], str]) -> tuple[LinkView, ...]:
        """Everyone, as shown to operators; what a link is to the gossip, the gossip knows."""
        return tuple(
            LinkView(
                peer.node_id,
                peer.url,
                LinkState.BLOCKED.value if self.refuses(peer.node_id) else peer.state.value,
                role_of(peer.node_id),
                peer.outbound,
                peer.round_trip_ms,
                peer.last_heard_ms,
                peer.sent,
                peer.received,
                peer.differences_found,
            )
            for peer in self._peers.values()
        )

    def learn(
        self,
        node_id: bytes,
        url: str,
        *,
        joined: bool = False,
        announced: bool = False,
        reached: bool = False,
        introduced: bool = False,
    ) -> None:
        """There is said to be a node at this URL: by the operator, by itself, by what was kept, or by others.

        `introduced`: one of those others is a node that was joined or is pinned.
        """
        if node_id == self._me or not url:
            return
        peer = self._peers.get(node_id)
        if peer is not None and introduced and not peer.introduced:
            self._introduce(peer)
        if peer is not None and url in peer.addresses and not (joined or announced or reached):
            return
        if peer is None:
            peer = self._add(node_id, url, needed=joined or reached, introduced=introduced)
        if peer is None:
            return
        peer.joined = peer.joined or joined
        source = Source.JOINED if joined else Source.ANNOUNCED if announced else Source.HEARD
        peer.addresses = with_address(peer.addresses, url, source)
        if reached:
            self._prove(peer, url)
        if joined:
            peer.next_dial_ms = 0
            self._joined[node_id] = peer
        if not peer.linked and (joined or not peer.url or source < peer.addresses.get(peer.url, Source.HEARD)):
            peer.url = url  # a link stays as it was made: one to an asker is timed by what it asks
        self.has_changed = True

    def restore(self, addresses: Iterable[PeerAddress], introduced: Collection[bytes]) -> None:
        """What was kept over a restart: nodes that were reached, and who of them was introduced."""
        for address in addresses:
            self.learn(address.node_id, address.url, reached=True, introduced=address.node_id in introduced)

    def hear_join(self, event: PeerFound | JoinTakenBack) -> None:
        """The operator joins a node, or does so no more: a link that there is stays, like that with anybody."""
        if isinstance(event, PeerFound):
            self.learn(event.peer, event.url, joined=True)
            return
        peer = self._joined.pop(event.peer, None)
        if peer is not None:
            peer.joined = False
            self.has_changed = True

    def _learn_view(self, speaker: Peer, view: Iterable[PeerAddress]) -> None:
        """What a neighbour names, or one that was asked to be one."""
        introduces = speaker.named
        for address in view:
            self.learn(address.node_id, address.url, introduced=introduces)

    def forget(self, node_id: bytes) -> None:
        """It left the mesh, or is too long silent."""
        peer = self._peers.get(node_id)
        if peer is not None:
            self._remove(peer)
            self._outgoing.add(ForgetPeer(node_id))

    def _introduce(self, peer: Peer) -> None:
        peer.introduced = True
        if peer.reached:
            self._outgoing.add(RememberPeer(peer.node_id, peer.proven, peer.last_heard_ms or 0, introduced=True))

    def _give_way(self, among: Callable[[Peer], bool]) -> bool:
        """Forget one of these that nobody introduced, for one that was. Returns whether there was one (R132)."""
        gone = next(
            (peer for peer in self._peers.values() if peer.may_go and not peer.introduced and among(peer)), None
        )
        if gone is not None:
            self.forget(gone.node_id)
        return gone is not None

    def _prove(self, peer: Peer, url: str) -> None:
        """It proved its key there. Of others that did so at the same place only those last heard of stay (R132)."""
        peer.proven = url
        peer.addresses = with_address(peer.addresses, url, Source.PROVEN)
        place = self._place_of(url)
        self._count_proven(peer, place)
        if self._proven_at[place] <= peers_per_group_max:
            return
        others = [one for one in self._peers.values() if one.proven_place == place and one is not peer]
        may_go = sorted((one for one in others if one.may_go), key=lambda one: one.last_heard_ms or 0)
        for one in may_go[: max(0, len(others) + 1 - peers_per_group_max)]:
            self.forget(one.node_id)

    def _count_proven(self, peer: Peer, place: str) -> None:
        """It proved its key at this place, and no longer counts at the former one; "" = at none."""
        former, peer.proven_place = peer.proven_place, place
        if former and self._proven_at[former] == 1:
            del self._proven_at[former]
        elif former:
            self._proven_at[former] -= 1
        if place:
            self._proven_at[place] = self._proven_at.get(place, 0) + 1

    def _passive(self) -> int:
        return sum(peer.reached and not (peer.linked or peer.named) for peer in self._peers.values())

    def _set_state(self, peer: Peer, state: LinkState) -> None:
        self.has_changed = True
        peer.state = state
        peer.linked = state is LinkState.LINKED
        peer.is_unlinked = state is LinkState.KNOWN or state is LinkState.UNREACHABLE
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

    def _add(
        self,
        node_id: bytes,
        url: str,
        *,
        needed: bool,
        asks: bool = False,
        pinned: bool = False,
        introduced: bool = False,
    ) -> Peer | None:
        """A new peer; None if there is no room. Needed ones push out hearsay, or are taken over the limits."""
        place = self._place_of(url) if url else ""
        if not (needed or asks or self._is_noted(place, introduced=introduced)):
            return None
        if len(self._peers) >= peers_known_max:
            hearsay = next((peer for peer in self._peers.values() if peer.is_hearsay), None)
            if hearsay is not None:
                self._remove(hearsay)
            elif not needed:
                return None
        peer = self._peers[node_id] = Peer(node_id, pinned=pinned, introduced=introduced, place=place)
        if place:
            self._hearsay_at[place] = self._hearsay_at.get(place, 0) + 1
        self.has_changed = True
        return peer

    def _is_noted(self, place: str, *, introduced: bool) -> bool:
        """Whether there is room for one more from hearsay; who was introduced takes that of one who was not."""
        is_full = self._hearsay_at.get(place, 0) >= peers_per_group_max
        if is_full and not (introduced and self._give_way(lambda peer: not peer.reached and peer.place == place)):
            return False
        if len(self._peers) - len(self._linked) < peers_unlinked_max:
            return True
        return introduced and (self._give_way(lambda peer: not peer.reached) or self._give_way(lambda peer: True))

    def _place_of(self, url: str) -> str:
        return address_group(url, hosts_shared=self._hosts_shared)

    def _remove(self, peer: Peer) -> None:
        self._set_state(peer, LinkState.KNOWN)
        self._joined.pop(peer.node_id, None)
        del self._peers[peer.node_id]
        self._count_proven(peer, "")
        if peer.place:
            self._hearsay_at[peer.place] -= 1
            if not self._hearsay_at[peer.place]:
                del self._hearsay_at[peer.place]

    def _is_dialable(self, peer: Peer) -> bool:
        return peer.is_unlinked and bool(peer.url) and not self.refuses(peer.node_id)

    def _with_jitter(self, delay_ms: int) -> int:
        return delay_ms + int(delay_ms * _jitter * self._rng.random())
