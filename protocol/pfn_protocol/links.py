"""What a link consists of, opened and closed together: the place at the peer, the branch of gossip, the comparison."""

from collections.abc import Iterable

from pfn_protocol.equivocation import conviction_id
from pfn_protocol.gossip import Gossip
from pfn_protocol.own_announcements import OwnAnnouncements
from pfn_protocol.peer import Peer
from pfn_protocol.peers import Peers
from pfn_protocol.reconciliation import Reconciliation


class Links:
    """The links of this node, for all the small machines that have a part in them."""

    def __init__(self, peers: Peers, gossip: Gossip, reconciliation: Reconciliation, own: OwnAnnouncements) -> None:
        self._peers = peers
        self._gossip = gossip
        self._reconciliation = reconciliation
        self._own = own

    def opened(self, peer: Peer, now_ms: int) -> None:
        """A link was made: sets are compared over it, and news is told."""
        left_out = self.left_out(peer)
        self._reconciliation.open(peer.node_id, peer.url, left_out, now_ms)
        self._gossip.open(peer.node_id, peer.url, left_out, now_ms, asked=peer.outbound, compare_only=peer.compare_only)
        self._own.linked(peer.node_id, peer.url, now_ms)

    def closed(self, peer_id: bytes, now_ms: int) -> None:
        """A link is over."""
        self._gossip.close(peer_id)
        self._reconciliation.close(peer_id, now_ms)

    def end_due(self, now_ms: int) -> None:
        """Links whose time is over end."""
        for peer_id in self._peers.end_links(now_ms):
            self.closed(peer_id, now_ms)

    def clock_set_back(self, now_ms: int) -> None:
        """Every link ends, and is asked for anew."""
        for peer_id in self._peers.clock_set_back(now_ms):
            self.closed(peer_id, now_ms)
        self._gossip.clock_set_back()
        self._reconciliation.clock_set_back(now_ms)

    def stop(self, now_ms: int) -> None:
        """Those who wait are answered; then nothing is said over any link."""
        self._peers.stop()
        self._gossip.stop()
        self._reconciliation.stop(now_ms)

    def shun(self, peer: Peer, now_ms: int) -> None:
        """It did what cannot come about by accident: it is left alone for a while (R109)."""
        self._peers.close(peer, now_ms, shun=True)
        self.closed(peer.node_id, now_ms)

    def parted(self, convicted: Iterable[bytes], left: Iterable[bytes], now_ms: int) -> None:
        """There are no links with these any more: they were proved guilty, or said that they leave."""
        for peer_id in convicted:
            self.convict(peer_id, now_ms)
        for peer_id in left:
            self.left(peer_id, now_ms)

    def convict(self, peer_id: bytes, now_ms: int) -> None:
        """It was proved guilty of two stories: it is told, and there is no link with it from now on (R38)."""
        if self._peers.convict(peer_id, now_ms):
            self._gossip.part_with(peer_id, conviction_id(peer_id), now_ms)
            self.closed(peer_id, now_ms)

    def left(self, peer_id: bytes, now_ms: int) -> None:
        """It said that it leaves the mesh: its address is of no use any more."""
        peer = self._peers.find(peer_id)
        if peer is not None and not peer.named:
            if peer.linked:
                self._peers.close(peer, now_ms)
                self.closed(peer_id, now_ms)
            self._peers.forget(peer_id)

    def leave_out(self, peer: Peer) -> None:
        """The word of either side changed about whom to hear of."""
        left_out = self.left_out(peer)
        self._gossip.leave_out(peer.node_id, left_out)
        self._reconciliation.leave_out(peer.node_id, left_out)

    def left_out(self, peer: Peer) -> tuple[bytes, ...]:
        """The authors that either side of the link does not want to hear of."""
        return tuple(sorted({*peer.left_out, *self._peers.blocked}))
