"""Who is known, who is linked, and whom to try next.

A link is an agreement: both sides push to each other and compare their sets. A node looks for links to the nodes that
its operator joined, then to those it pins, then to others whose address it heard; it takes more links than it looks
for, because nodes without a URL can only be askers. A failed dial is repeated later and later, with some chance in
it, so that a mesh that comes back does not knock in step. Nodes that were joined or are pinned are never forgotten.

An address is hearsay until a request to it was answered with a signature of the expected key; the engine checks that on
every answer. Several addresses of one node are tried in turn (addresses.py).
"""

from collections.abc import Callable, Iterable
from random import Random

from pfn_protocol.addresses import Source, address_after, host_name, with_address
from pfn_protocol.effects import ForgetPeer, RememberPeer
from pfn_protocol.limits import (
    back_off_seconds_max,
    dial_again_ms_max,
    dial_again_ms_min,
    dials_of_hearsay_max,
    left_out_max,
    link_failures_max,
    link_faults_max,
    link_full_back_off_seconds,
    links_max,
    links_wanted_max,
    peer_memory_ms,
    peers_known_max,
    proven_per_host_max,
    shunned_ms,
    silent_link_ms_max,
    view_sample_max,
)
from pfn_protocol.link_secrets import LinkSecrets
from pfn_protocol.messages import CellsRequest, LinkAnswer, LinkRequest, PeerAddress, RefusedAnswer
from pfn_protocol.outgoing import InFlight, Outgoing
from pfn_protocol.peer import LinkState, LinkView, Peer

# The chance in the delay before the next dial, as a part of the delay.
_jitter = 0.25

# The rules of SPEC.md that a refused request is told.
RULE_NOT_LISTENED_TO = "R86"
RULE_NOT_LINKED = "R96"


class Peers:
    """All other nodes that this one knows of."""

    def __init__(
        self,
        me: bytes,
        url: str,
        rng: Random,
        outgoing: Outgoing,
        secrets: LinkSecrets | None = None,
        *,
        hosts_shared: bool = False,
    ) -> None:
        self._me = me
        self._url = url
        self._rng = rng
        self._outgoing = outgoing
        self._place_of: Callable[[str], str] = str if hosts_shared else host_name
        self._secrets = secrets or LinkSecrets(rng)
        self._peers: dict[bytes, Peer] = {}
        self._blocked: dict[bytes, None] = {}
        self._stopped = False

    # What is known.

    @property
    def blocked(self) -> tuple[bytes, ...]:
        """Whom the operator does not listen to, as many as a message can name."""
        return tuple(sorted(self._blocked))[:left_out_max]

    def find(self, node_id: bytes) -> Peer | None:
        return self._peers.get(node_id)

    def linked(self) -> list[Peer]:
        return [peer for peer in self._peers.values() if peer.linked]

    def is_linked(self, node_id: bytes) -> bool:
        peer = self._peers.get(node_id)
        return peer is not None and peer.linked

    @property
    def is_linking(self) -> bool:
        return any(peer.state is LinkState.LINKING for peer in self._peers.values())

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

    # What was heard.

    def learn(
        self, node_id: bytes, url: str, *, joined: bool = False, announced: bool = False, reached: bool = False
    ) -> None:
        """There is said to be a node at this URL: by the operator, by itself, by what was kept, or by others."""
        if node_id == self._me or not url:
            return
        peer = self._peers.get(node_id) or self._add(node_id, needed=joined or reached)
        if peer is None:
            return
        peer.joined = peer.joined or joined
        source = Source.JOINED if joined else Source.ANNOUNCED if announced else Source.HEARD
        peer.addresses = with_address(peer.addresses, url, source)
        if reached:
            self._prove(peer, url)
        if joined:
            peer.next_dial_ms = 0
        if not peer.linked and (joined or not peer.url or source < peer.addresses.get(peer.url, Source.HEARD)):
            peer.url = url  # a link stays as it was made: one to an asker is timed by what it asks

    def set_policy(self, pins: Iterable[bytes], blocked: Iterable[bytes], now_ms: int) -> list[bytes]:
        """The operator's word. Returns the links that end by it.

        Neighbours are told whom this node leaves out by asking for the link anew; those without a URL will ask.
        """
        changed = sorted(self._blocked) != sorted(blocked := tuple(blocked))
        self._blocked = dict.fromkeys(blocked)
        pinned = dict.fromkeys(pins)
        for peer in self._peers.values():
            peer.pinned = peer.node_id in pinned
        for node_id in pinned:
            if node_id not in self._peers and node_id != self._me:
                self._add(node_id, needed=True, pinned=True)
        linked = self.linked()
        ended = [peer for peer in linked if peer.node_id in self._blocked or (changed and not peer.url)]
        for peer in ended:
            self.close(peer, now_ms)
        for peer in linked:
            if changed and peer.linked:
                self._ask_for_link(peer, now_ms)
        return [peer.node_id for peer in ended]

    def heard(self, peer: Peer, now_ms: int) -> None:
        """It asked or answered: it is alive."""
        peer.last_heard_ms = now_ms
        peer.failing_since_ms = None
        if peer.linked:
            peer.failures = 0

    def answered(self, peer: Peer, in_flight: InFlight, now_ms: int) -> None:
        """It answered at its URL, so the address is more than hearsay."""
        self.heard(peer, now_ms)
        is_news = peer.proven != in_flight.url
        if is_news:
            self._prove(peer, in_flight.url)
        if is_news or isinstance(in_flight.message, LinkRequest):
            self._outgoing.add(RememberPeer(peer.node_id, in_flight.url, now_ms))
        if not (getattr(in_flight.message, "wait_seconds", 0) or isinstance(in_flight.message, CellsRequest)):
            peer.round_trip_ms = max(0, now_ms - in_flight.sent_ms)

    # Links.

    def asked_for_link(self, node_id: bytes, request: LinkRequest, now_ms: int) -> LinkAnswer | RefusedAnswer:
        """Another node asks for a link; `is_linked` says afterwards whether there is one."""
        peer = self._peers.get(node_id)
        if node_id == self._me or node_id in self._blocked or (peer and now_ms < peer.shunned_until_ms):
            return RefusedAnswer(RULE_NOT_LISTENED_TO, "this node does not listen to you", now_ms)
        peer = peer or self._add(node_id, needed=False)
        if self._stopped or peer is None or not (peer.linked or peer.pinned or len(self.linked()) < links_max):
            return LinkAnswer(False, link_full_back_off_seconds, self._sample(node_id), ())
        # First the link, so that the view cannot push the asker out of a full table.
        self._open(peer, request.left_out, now_ms, outbound=peer.outbound and peer.linked)
        self.learn(node_id, request.url, announced=True)
        for address in request.view:
            self.learn(address.node_id, address.url)
        is_reached = peer.reached and peer.url == peer.proven
        if not (request.url and is_reached):  # what it says now is the best that is known, unless it is reached
            peer.url = request.url
        return LinkAnswer(True, 0, self._sample(node_id), self.blocked, *self._secrets.answer(node_id, request))

    def answered_link(self, peer: Peer, answer: LinkAnswer, now_ms: int) -> bool:
        """A node that was asked for a link answered. Returns whether there is one now."""
        for address in answer.view:
            self.learn(address.node_id, address.url)
        if peer.node_id in self._blocked:
            self.close(peer, now_ms)
            return False
        if answer.accepted and peer.linked:  # it asked meanwhile, or heard our request first, or we asked anew
            peer.left_out = answer.left_out
            return True
        if answer.accepted:
            self._open(peer, answer.left_out, now_ms, outbound=True)
            return True
        if not peer.linked:
            peer.state = LinkState.KNOWN
            wait_ms = 1_000 * min(max(answer.back_off_seconds, 1), back_off_seconds_max)
            peer.next_dial_ms = now_ms + self._with_jitter(min(wait_ms, dial_again_ms_max))
        return False

    def implied_link(self, peer: Peer, now_ms: int) -> None:
        """A node that was asked for a link speaks before its answer came: it has agreed."""
        assert peer.state is LinkState.LINKING, "only an answer that is waited for can be implied"
        self._open(peer, (), now_ms, outbound=True)

    def refused_as_unlinked(self, peer: Peer, in_flight: InFlight, now_ms: int) -> bool:
        """It says that there is no link. Returns whether ours ended by it: not if it was made after the request."""
        if not peer.linked or in_flight.request_id <= peer.opened_after:
            return False
        self.close(peer, now_ms)
        return True

    def request_failed(self, peer: Peer, in_flight: InFlight, now_ms: int) -> bool:
        """A request came to nothing. Returns whether the link ended by it."""
        if peer.state is LinkState.LINKING and isinstance(in_flight.message, LinkRequest):
            self._dial_failed(peer, in_flight.url, now_ms)
            return False
        if not peer.linked:
            return False
        peer.failures += 1
        if peer.failures < link_failures_max:
            return False
        self.close(peer, now_ms)
        return True

    def count_faults(self, peer: Peer, faults: int) -> bool:
        """It sent announcements that break rules. Returns whether that is too many."""
        peer.faults += faults
        return peer.faults > link_faults_max

    def close(self, peer: Peer, now_ms: int, *, shun: bool = False) -> None:
        """The link is over; it is tried again soon, or after a while if the peer broke the rules."""
        peer.state = LinkState.KNOWN
        peer.failures = 0
        peer.url = next(iter(peer.addresses), "")
        peer.next_dial_ms = now_ms + self._with_jitter(dial_again_ms_min)
        if shun:
            peer.shunned_until_ms = peer.next_dial_ms = now_ms + shunned_ms

    def forget(self, node_id: bytes) -> None:
        """It left the mesh, or is too long silent."""
        if self._peers.pop(node_id, None) is not None:
            self._outgoing.add(ForgetPeer(node_id))

    def silent(self, now_ms: int) -> list[bytes]:
        """Close the links to nodes without a URL that stopped asking; they cannot be asked."""
        gone = [
            peer
            for peer in self._peers.values()
            if not peer.url and peer.linked and peer.last_heard_ms is not None
            if now_ms - peer.last_heard_ms > silent_link_ms_max
        ]
        for peer in gone:
            self.close(peer, now_ms)
        return [peer.node_id for peer in gone]

    def stop(self) -> None:
        """Take no links any more; whoever stops the machine no longer calls `dial`."""
        self._stopped = True

    def dial(self, now_ms: int) -> None:
        """Ask for links where some are wanted and the time has come."""
        for peer in self._to_dial(now_ms):
            peer.state = LinkState.LINKING
            self._ask_for_link(peer, now_ms)

    @property
    def wake_at(self) -> int | None:
        """When `dial` or `silent` has something to do next."""
        links = 0
        moments: list[int] = []
        if_wanted: list[int] = []
        for peer in self._peers.values():
            if peer.state is LinkState.LINKED or peer.state is LinkState.LINKING:
                links += 1
                if peer.linked and not peer.url and peer.last_heard_ms is not None:
                    moments.append(peer.last_heard_ms + silent_link_ms_max + 1)
            elif peer.url and peer.node_id not in self._blocked:
                (moments if peer.joined else if_wanted).append(peer.next_dial_ms)
        return min(moments + if_wanted if links < links_wanted_max else moments, default=None)

    def _ask_for_link(self, peer: Peer, now_ms: int) -> None:
        key, nonce = self._secrets.offer(peer.node_id, is_linked=peer.linked)
        message = LinkRequest(self._url, self._sample(peer.node_id), self.blocked, key, nonce)
        self._outgoing.request(peer.node_id, peer.url, message, now_ms)

    def _links(self) -> int:
        return sum(peer.state in (LinkState.LINKED, LinkState.LINKING) for peer in self._peers.values())

    def _dialable(self) -> list[Peer]:
        return [
            peer
            for peer in self._peers.values()
            if peer.state in (LinkState.KNOWN, LinkState.UNREACHABLE) and peer.url and peer.node_id not in self._blocked
        ]

    def _to_dial(self, now_ms: int) -> list[Peer]:
        """Joined nodes always, pinned ones and then others while more links are wanted."""
        due = [peer for peer in self._dialable() if peer.next_dial_ms <= now_ms]
        if not due:
            return []
        joined = [peer for peer in due if peer.joined]
        room = links_wanted_max - self._links() - len(joined)
        if room <= 0:
            return joined
        pinned = [peer for peer in due if peer.pinned and not peer.joined]
        others = [peer for peer in due if not (peer.pinned or peer.joined)]
        self._rng.shuffle(others)
        others.sort(key=lambda peer: not peer.reached)
        return joined + (pinned + others)[:room]

    def _open(self, peer: Peer, left_out: tuple[bytes, ...], now_ms: int, *, outbound: bool) -> None:
        peer.state = LinkState.LINKED
        peer.outbound = outbound
        peer.left_out = left_out
        peer.failures = peer.faults = 0
        peer.opened_after = self._outgoing.last_request_id
        peer.last_heard_ms = now_ms

    def _dial_failed(self, peer: Peer, url: str, now_ms: int) -> None:
        peer.state = LinkState.UNREACHABLE
        delay_ms = min(dial_again_ms_max, dial_again_ms_min << min(peer.failures, 16))
        peer.next_dial_ms = now_ms + self._with_jitter(delay_ms)
        peer.failures += 1
        peer.url = address_after(peer.addresses, url)
        if peer.is_hearsay and peer.failures >= dials_of_hearsay_max:
            del self._peers[peer.node_id]
        if peer.failing_since_ms is None:
            peer.failing_since_ms = now_ms
        if now_ms - peer.failing_since_ms > peer_memory_ms and not (peer.joined or peer.pinned):
            self.forget(peer.node_id)

    def _with_jitter(self, delay_ms: int) -> int:
        return delay_ms + int(delay_ms * _jitter * self._rng.random())

    def _sample(self, asker: bytes) -> tuple[PeerAddress, ...]:
        """Some nodes that were reached from here, for another node to try: where they proved their key (R98)."""
        proven = [peer for peer in self._peers.values() if peer.proven and peer.url and peer.node_id != asker]
        chosen = self._rng.sample(proven, min(len(proven), view_sample_max))
        return tuple(PeerAddress(peer.node_id, peer.proven) for peer in chosen)

    def _prove(self, peer: Peer, url: str) -> None:
        """It proved its key there. Of others that did so at the same host only those last heard of stay (R98)."""
        peer.proven = url
        peer.addresses = with_address(peer.addresses, url, Source.PROVEN)
        place = self._place_of(url)
        others = [one for one in self._peers.values() if one is not peer and self._place_of(one.proven) == place]
        may_go = sorted((one for one in others if one.may_go), key=lambda one: one.last_heard_ms or 0)
        for one in may_go[: max(0, len(others) + 1 - proven_per_host_max)]:
            self.forget(one.node_id)

    def _add(self, node_id: bytes, *, needed: bool, pinned: bool = False) -> Peer | None:
        """A new peer; None if there is no room. Needed ones push out hearsay, or are taken over the limit."""
        if len(self._peers) >= peers_known_max:
            hearsay = next((peer.node_id for peer in self._peers.values() if peer.is_hearsay), None)
            if hearsay is not None:
                del self._peers[hearsay]
            elif not needed:
                return None
        peer = self._peers[node_id] = Peer(node_id, pinned=pinned)
        return peer
