"""Who is known, who is linked, and whom to try next.

A link is an agreement: both sides push to each other and compare their sets. A node looks for links to the nodes that
its operator joined, then to those it pins, then to others whose address it heard. Some of its links it always chooses
itself, since those that others choose may all be one attacker's; it takes more links than it looks for, because nodes
without a URL can only be askers. Some more only compare sets (comparing_links.py). A failed dial is repeated later and
later, with some chance in it, so that a mesh that comes back does not knock in step. Nodes that were joined or are
pinned are never forgotten.

An address is hearsay until a request to it was answered with a signature of the expected key; the engine checks that on
every answer. Once a minute one such address is tried (a feeler), and a neighbour is sent a sample of whom this node
knows. Proven peers without a link are the passive view: it is small, has few of one network (address_groups.py), and a
newcomer does not displace an older one that still answers. Several addresses of one node are tried in turn
(addresses.py).

Nothing here looks at every peer for every event: what is due next is computed again only after something changed.
"""

from collections.abc import Callable, Iterable
from random import Random

from pfn_protocol.addresses import address_after
from pfn_protocol.comparing_links import ComparingLinks
from pfn_protocol.effects import RememberPeer
from pfn_protocol.known_peers import RULE_NOT_LINKED, RULE_NOT_LISTENED_TO
from pfn_protocol.limits import (
    back_off_seconds_max,
    compare_links_taken_max,
    dial_again_ms_max,
    dial_again_ms_min,
    dials_of_hearsay_max,
    large_mesh_nodes,
    link_failures_max,
    link_full_back_off_seconds,
    links_fill_ms,
    links_max,
    links_outbound_min,
    links_spare_max,
    links_wanted_large_max,
    links_wanted_max,
    passive_max,
    peer_memory_ms,
    peers_per_group_max,
    shuffle_ms,
    shunned_ms,
    silent_link_ms_max,
)
from pfn_protocol.link_secrets import LinkSecrets
from pfn_protocol.messages import CellsRequest, FetchRequest, LinkAnswer, LinkRequest, RefusedAnswer
from pfn_protocol.outgoing import InFlight, Outgoing, earliest
from pfn_protocol.peer import LinkState, LinkView, Peer

# The part of the exchanges of views that is with nodes that the operator named, however many others there are.
_shuffles_with_named = 0.5


class Peers(ComparingLinks):
    """The links to them, and whom to try next."""

    def __init__(
        self,
        me: bytes,
        url: str,
        rng: Random,
        outgoing: Outgoing,
        secrets: LinkSecrets | None = None,
        *,
        hosts_shared: bool = False,
        mesh_nodes: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(me, rng, outgoing, hosts_shared=hosts_shared)
        self._url = url
        self._secrets = secrets or LinkSecrets(rng)
        self._mesh_nodes = mesh_nodes
        self._stopped = False
        self._feelers: dict[int, None] = {}  # requests that only try an address
        self._fill_ms: int | None = None  # when more links are looked for than must be outbound
        self._shuffle_ms: int | None = None
        self._next_ms: int | None = None

    # What was heard.

    def set_policy(self, pins: Iterable[bytes], blocked: Iterable[bytes], now_ms: int) -> list[bytes]:
        """The operator's word. Returns the links that end by it.

        Neighbours are told whom this node leaves out by asking for the link anew; those without a URL will ask.
        """
        changed = sorted(self._blocked) != sorted(blocked := tuple(blocked))
        self._blocked = dict.fromkeys(blocked)
        pinned = dict.fromkeys(pins)
        self.has_changed = True
        for peer in self._peers.values():
            peer.pinned = peer.node_id in pinned
        for node_id in pinned:
            if node_id not in self._peers and node_id != self._me:
                self._add(node_id, "", needed=True, pinned=True)
        linked = self.linked()
        ended = [peer for peer in linked if peer.node_id in self._blocked or (changed and not peer.url)]
        for peer in ended:
            self.close(peer, now_ms)
        for peer in linked:
            if changed and peer.linked:
                self._ask_for_link(peer, now_ms)
        return [peer.node_id for peer in ended]

    def convict(self, node_id: bytes, now_ms: int) -> bool:
        """It was proved guilty: there is no link with it from now on. Returns whether one ended by it."""
        self._convicted[node_id] = None
        self.has_changed = True
        peer = self._peers.get(node_id)
        ends = peer is not None and peer.linked
        if peer is not None and ends:
            self.close(peer, now_ms)
        return ends

    def answered(self, peer: Peer, in_flight: InFlight, now_ms: int) -> None:
        """It answered at its URL, so the address is more than hearsay."""
        self.heard(peer, now_ms)
        message = in_flight.message
        is_news = peer.proven != in_flight.url
        if is_news or isinstance(message, LinkRequest):
            if not (peer.reached or peer.linked or self._has_place(peer, now_ms)):
                self._remove(peer)
                return
            if is_news:
                self._prove(peer, in_flight.url)
            self._outgoing.add(RememberPeer(peer.node_id, in_flight.url, now_ms, peer.introduced))
        if not (getattr(message, "wait_seconds", 0) or isinstance(message, CellsRequest)):
            peer.round_trip_ms = max(0, now_ms - in_flight.sent_ms)

    # Links.

    def asked_for_link(self, node_id: bytes, request: LinkRequest, now_ms: int) -> LinkAnswer | RefusedAnswer:
        """Another node asks for a link; `is_linked` says afterwards whether there is one."""
        peer = self._peers.get(node_id)
        if node_id == self._me or self.refuses(node_id) or (peer and now_ms < peer.shunned_until_ms):
            return RefusedAnswer(RULE_NOT_LISTENED_TO, "this node does not listen to you", now_ms)
        is_wanted = peer is not None and (peer.linked or peer.pinned or peer.joined)
        if self._stopped or not (is_wanted or self._has_room(request)):
            return LinkAnswer(False, link_full_back_off_seconds, self._sample(node_id), ())
        peer = peer or self._add(node_id, request.url, needed=False, asks=True)
        if peer is None:
            return LinkAnswer(False, link_full_back_off_seconds, self._sample(node_id), ())
        peer.compare_only = request.compare_only and (peer.compare_only or not peer.linked)
        # First the link, so that the view cannot push the asker out of a full table.
        self._open(peer, request.left_out, now_ms, outbound=peer.outbound and peer.linked)
        self.learn(node_id, request.url, announced=True)
        self._learn_view(peer, request.view)
        is_reached = peer.reached and peer.url == peer.proven
        if not (request.url and is_reached):  # what it says now is the best that is known, unless it is reached
            peer.url = request.url
        return LinkAnswer(True, 0, self._sample(node_id), self.blocked, *self._secrets.answer(node_id, request))

    def answered_link(self, peer: Peer, answer: LinkAnswer, now_ms: int) -> bool:
        """A node that was asked for a link answered. Returns whether there is one now."""
        self._learn_view(peer, answer.view)
        if self.refuses(peer.node_id):
            self.close(peer, now_ms)
            return False
        if answer.accepted and peer.linked:  # it asked meanwhile, or heard our request first, or we asked anew
            peer.left_out = answer.left_out
            return True
        if answer.accepted:
            self._open(peer, answer.left_out, now_ms, outbound=True)
            return True
        if not peer.linked:
            self._set_state(peer, LinkState.KNOWN)
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
            if self.is_feeler(in_flight):
                self._feeler_failed(peer, in_flight.url, now_ms)
            return False
        peer.failures += 1
        if peer.failures < link_failures_max:
            return False
        self.close(peer, now_ms)
        return True

    def close(self, peer: Peer, now_ms: int, *, shun: bool = False) -> None:
        """The link is over; it is tried again soon, or after a while if the peer broke the rules."""
        self._set_state(peer, LinkState.KNOWN)
        peer.compare_only = False
        peer.failures = 0
        peer.url = next(iter(peer.addresses), "")
        peer.next_dial_ms = now_ms + self._with_jitter(dial_again_ms_min)
        if shun:
            peer.shunned_until_ms = peer.next_dial_ms = now_ms + shunned_ms
        if peer.named:
            self._look_for_missing(now_ms)

    def end_links(self, now_ms: int) -> list[bytes]:
        """Close the links to nodes without a URL that stopped asking, and those for comparing when their time is over.

        Returns whose links ended.
        """
        if (wake_at := self.wake_at) is None or now_ms < wake_at:
            return []
        gone = [peer for peer in self._linked.values() if self._is_silent(peer, now_ms)]
        gone += self._compared_for_long(now_ms)
        for peer in gone:
            self.close(peer, now_ms)
        return [peer.node_id for peer in gone]

    def clock_set_back(self, now_ms: int) -> list[bytes]:
        """Every moment that was planned lies too far ahead: all links end, and are asked for anew. Returns whose."""
        linked = self.linked()
        for peer in linked:
            self.close(peer, now_ms)
        for peer in self._peers.values():
            peer.next_dial_ms = min(peer.next_dial_ms, now_ms + dial_again_ms_max)
            peer.shunned_until_ms = min(peer.shunned_until_ms, now_ms + shunned_ms)
            peer.last_heard_ms = earliest(peer.last_heard_ms, now_ms)
            peer.failing_since_ms = None
        self._shuffle_ms = None  # `dial` begins as after a start
        self.has_changed = True
        return [peer.node_id for peer in linked]

    def stop(self) -> None:
        """Take no links any more; whoever stops the machine no longer calls `dial`."""
        self._stopped = True

    def dial(self, now_ms: int) -> None:
        """Ask for links where some are wanted and the time has come; try an address, exchange views."""
        if self._shuffle_ms is None:
            self._fill_ms = now_ms + (links_fill_ms if self._url else 0)
            self._shuffle_ms = now_ms + self._with_jitter(shuffle_ms)
            self._begin_comparing(now_ms)
        if (wake_at := self.wake_at) is None or now_ms < wake_at:
            return
        self.has_changed = True
        for peer in self._to_dial(now_ms):
            self._dial(peer, now_ms)
        is_shuffled = now_ms >= self._shuffle_ms
        if is_shuffled:
            self._shuffle_ms = now_ms + self._with_jitter(shuffle_ms)
            self._shuffle(now_ms)
        for peer in self._to_compare(now_ms, is_shuffled=is_shuffled):
            self._dial(peer, now_ms, compare_only=True)

    @property
    def wake_at(self) -> int | None:
        """When `dial` or `end_links` has something to do next."""
        if self.has_changed:
            self.has_changed = False
            self._next_ms = self._next()
        return self._next_ms

    def is_feeler(self, in_flight: InFlight) -> bool:
        """Whether this request only tried an address: any answer is good."""
        return in_flight.request_id in self._feelers

    def _next(self) -> int | None:
        wanted_ms = self._wanted_ms()
        dials: int | None = None
        for peer in self._joined.values():
            if self._is_dialable(peer):
                dials = earliest(dials, peer.next_dial_ms)
        if wanted_ms is not None:
            first_ms: int | None = None
            for one in self._peers.values():  # most may be dialled at once: the first of them settles it
                if one.is_unlinked and (first_ms is None or one.next_dial_ms < first_ms) and self._is_dialable(one):
                    first_ms = one.next_dial_ms
                    if first_ms == 0:
                        break
            dials = dials if first_ms is None else earliest(dials, max(first_ms, wanted_ms))
        askers = [one.last_heard_ms for one in self._linked.values() if not one.url and one.last_heard_ms is not None]
        silence = min(askers) + silent_link_ms_max + 1 if askers else None
        return earliest(dials, silence, self._shuffle_ms, self._compare_wake_at)

    def _dial(self, peer: Peer, now_ms: int, *, compare_only: bool = False) -> None:
        self._set_state(peer, LinkState.LINKING)
        peer.compare_only = compare_only
        self._ask_for_link(peer, now_ms)

    def _ask_for_link(self, peer: Peer, now_ms: int) -> None:
        key, nonce = self._secrets.offer(peer.node_id, is_linked=peer.linked)
        message = LinkRequest(self._url, self._sample(peer.node_id), self.blocked, key, nonce, peer.compare_only)
        self._outgoing.request(peer.node_id, peer.url, message, now_ms)

    def _is_silent(self, peer: Peer, now_ms: int) -> bool:
        """Whether a node that cannot be asked stopped asking."""
        return not peer.url and peer.last_heard_ms is not None and now_ms - peer.last_heard_ms > silent_link_ms_max

    @property
    def _wanted(self) -> int:
        return links_wanted_large_max if self._mesh_nodes() > large_mesh_nodes else links_wanted_max

    def _active(self) -> tuple[int, int]:
        """The links over which news goes to and fro, with those asked for: how many, and how many were chosen here."""
        linked = [peer for peer in self._linked.values() if peer.url and not peer.compare_only]
        linking = sum(not peer.compare_only for peer in self._linking.values())
        return len(linked) + linking, sum(peer.outbound for peer in linked) + linking

    def _wanted_ms(self) -> int | None:
        """When one more link is to be looked for; None: there are enough."""
        links, outbound = self._active()
        if outbound < min(links_outbound_min, self._wanted):
            return 0
        return self._fill_ms if links < self._wanted else None

    def _to_dial(self, now_ms: int) -> list[Peer]:
        """Joined nodes always, pinned ones and then others while more links are wanted."""
        joined = [one for one in self._joined.values() if one.next_dial_ms <= now_ms and self._is_dialable(one)]
        links, outbound = self._active()
        room = min(links_outbound_min, self._wanted) - outbound
        if self._fill_ms is not None and now_ms >= self._fill_ms:
            room = max(room, self._wanted - links)
        room -= len(joined)
        if room <= 0:
            return joined
        known = self._peers.values()
        due = [one for one in known if one.is_unlinked and one.next_dial_ms <= now_ms and self._is_dialable(one)]
        pinned = [peer for peer in due if peer.pinned and not peer.joined]
        strangers = [peer for peer in due if not (peer.pinned or peer.joined)]
        reached = [peer for peer in strangers if peer.proven]
        others = self._rng.sample(reached, min(room, len(reached)))
        if len(others) < room:
            hearsay = [peer for peer in strangers if not peer.proven]
            others += self._rng.sample(hearsay, min(room - len(others), len(hearsay)))
        # Whom all pin cannot be everybody's neighbour, and a graph of random links stays in one piece.
        preferred = pinned[: (room + self._rng.randrange(2)) // 2] if others else pinned
        return joined + (preferred + others + pinned[len(preferred) :])[:room]

    def _shuffle(self, now_ms: int) -> None:
        """Exchange samples with a neighbour, and try an address that was only heard of."""
        neighbours = [peer for peer in self._linked.values() if peer.url and not peer.compare_only]
        named = [peer for peer in neighbours if peer.named]
        chosen = [peer for peer in neighbours if peer.outbound]
        if named and self._rng.random() < _shuffles_with_named:  # whom strangers name, strangers have chosen
            chosen = named
        if chosen:
            self._ask_for_link(self._rng.choice(chosen), now_ms)
        hearsay = [one for one in self._peers.values() if one.is_hearsay and one.url and one.next_dial_ms <= now_ms]
        if hearsay:
            introduced = [peer for peer in hearsay if peer.introduced]
            self._feel(self._rng.choice(introduced or hearsay), now_ms)

    def _feel(self, peer: Peer, now_ms: int) -> None:
        request_id = self._outgoing.request(peer.node_id, peer.url, FetchRequest(()), now_ms)
        if len(self._feelers) >= passive_max:
            del self._feelers[next(iter(self._feelers))]
        self._feelers[request_id] = None

    def _feeler_failed(self, peer: Peer, url: str, now_ms: int) -> None:
        """An address does not answer: hearsay is tried a few times more; a proven peer gives way to newer ones."""
        if peer.reached and self._passive() >= passive_max and not peer.named:
            self.forget(peer.node_id)
        elif peer.is_unlinked:
            self._dial_failed(peer, url, now_ms)

    def _has_place(self, peer: Peer, now_ms: int) -> bool:
        """Whether an address that was just proven may be remembered. If not, the longest silent one is tested."""
        if peer.named or peer.state is LinkState.LINKING or self._passive() < passive_max:
            return True
        if peer.introduced and self._give_way(lambda one: one.reached):
            return True
        passive = [one for one in self._peers.values() if one.reached and self._is_dialable(one)]
        for silent in sorted(passive, key=lambda one: one.last_heard_ms or 0)[:1]:
            self._feel(silent, now_ms)
        return False

    def _has_room(self, request: LinkRequest) -> bool:
        """Whether one more asker is taken: not too many, and not too many of one network."""
        taken = [peer for peer in self._linked.values() if not (peer.compare_only and peer.outbound)]
        if len(taken) >= links_max:
            return False
        if request.compare_only:
            return sum(peer.compare_only for peer in taken) < compare_links_taken_max
        if not request.url:
            return True
        place = self._place_of(request.url)
        of_place = [peer for peer in self._linked.values() if peer.url and self._place_of(peer.url) == place]
        if sum(not (peer.pinned or peer.joined) for peer in of_place) >= peers_per_group_max:
            return False
        return sum(bool(peer.url) and not peer.compare_only for peer in taken) < self._wanted + links_spare_max

    def _open(self, peer: Peer, left_out: tuple[bytes, ...], now_ms: int, *, outbound: bool) -> None:
        if not peer.linked:
            peer.linked_since_ms = now_ms
        self._set_state(peer, LinkState.LINKED)
        peer.outbound = outbound
        peer.left_out = left_out
        peer.failures = peer.faults = 0
        peer.opened_after = self._outgoing.last_request_id
        peer.last_heard_ms = now_ms

    def _dial_failed(self, peer: Peer, url: str, now_ms: int) -> None:
        self._set_state(peer, LinkState.UNREACHABLE)
        delay_ms = min(dial_again_ms_max, dial_again_ms_min << min(peer.failures, 16))
        peer.next_dial_ms = now_ms + self._with_jitter(delay_ms)
        peer.failures += 1
        peer.url = address_after(peer.addresses, url)
        if peer.is_hearsay and peer.failures >= dials_of_hearsay_max:
            self._remove(peer)
        if peer.failing_since_ms is None:
            peer.failing_since_ms = now_ms
        if now_ms - peer.failing_since_ms > peer_memory_ms and not peer.named:
            self.forget(peer.node_id)


__all__ = ["RULE_NOT_LINKED", "RULE_NOT_LISTENED_TO", "LinkState", "LinkView", "Peer", "Peers"]
