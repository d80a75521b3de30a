"""The mesh as one machine: told what happened, it answers with what to do.

Rule 1: nothing else decides about links, gossip and the set; rule 2: it has no clock, socket, disk or dice. `handle`
gives an event to the small machine that it concerns (peers.py, gossip.py, reconciliation.py, own_announcements.py,
intake.py), then `_settle` lets each of them do what has become due, and the effects come out in the order in which
they are to be performed: keeping before telling. `wake_at` is the one deadline; `TimePassed` may come early or late.
"""

from collections.abc import Iterable
from random import Random
from typing import assert_never

from pfn_protocol import events, messages
from pfn_protocol.acceptance import accept, announce
from pfn_protocol.clock_check import ClockCheck
from pfn_protocol.completeness import Completeness
from pfn_protocol.effects import Effect, SendAnswer
from pfn_protocol.gossip import Gossip
from pfn_protocol.identity import PrivateKey
from pfn_protocol.intake import Accept, Intake, Taken
from pfn_protocol.limits import slots_pinned_max
from pfn_protocol.link_secrets import LinkSecrets
from pfn_protocol.links import Links
from pfn_protocol.mesh_status import MeshStatus
from pfn_protocol.outgoing import InFlight, Outgoing, earliest
from pfn_protocol.own_announcements import Announce, MeshOptions, OwnAnnouncements
from pfn_protocol.peer import LinkState, LinkView, Peer
from pfn_protocol.peers import RULE_NOT_LINKED, RULE_NOT_LISTENED_TO, Peers
from pfn_protocol.reconciliation import Reconciliation
from pfn_protocol.registry import Registry
from pfn_protocol.restoring import Restored, restore
from pfn_protocol.sponsoring import Sponsoring


class Mesh:
    """One node's part in a mesh."""

    def __init__(
        self,
        key: PrivateKey,
        mesh: str,
        options: MeshOptions,
        rng: Random,
        restored: Restored,
        now_ms: int,
        *,
        accept: Accept = accept,
        announce: Announce = announce,
    ) -> None:
        """`accept` and `announce` are the two doors to cryptography; a simulator of thousands has others."""
        self._me = key.public
        has_url = bool(options.url)
        self._pins = tuple(pin for pin in restored.pins if pin != self._me)
        self._stopped = False
        self._outgoing = Outgoing()
        self._registry = Registry(self._me, self._pins)
        self._intake = Intake(self._registry, self._outgoing, mesh, accept)
        own_node = restore(self._registry, self._outgoing, restored.announcements, now_ms, restored.sum_of)
        self.secrets = secrets = LinkSecrets(rng)  # of the links: mirror sets are compared under them too
        self._peers = Peers(
            self._me,
            options.url,
            rng,
            self._outgoing,
            secrets,
            hosts_shared=options.hosts_shared,
            mesh_nodes=lambda: self._registry.authors,
        )
        self._sponsoring = Sponsoring(own_node.sponsored if own_node else (), self._peers.last_heard_ms, now_ms)
        self._gossip = gossip = Gossip(
            self._registry,
            self._outgoing,
            lambda peer: self._reconciliation.status(peer),  # noqa: PLW0108 (it is made after this)
            rng,
            has_url=has_url,
            status_every_ms=options.status_every_ms,
        )
        self._reconciliation = Reconciliation(self._registry, self._outgoing, secrets, gossip.offer, has_url=has_url)
        self._own = OwnAnnouncements(
            key,
            mesh,
            options,
            lambda: (self._pins, self._sponsoring.nodes),
            self._registry,
            self._intake,
            self._outgoing,
            rng,
            last=restored.last,
            expects_peers=bool(restored.peers or self._pins),
            now_ms=now_ms,
            announce=announce,
        )
        self.completeness = Completeness(self._registry)
        self._links = Links(self._peers, gossip, self._reconciliation, self._own)
        self._clock = ClockCheck(self._outgoing)
        self._peers.set_policy(self._pins, restored.blocked, now_ms)
        self._peers.restore(restored.peers, restored.introduced)
        for view in self.links() if restored.announcements else ():
            said = self._registry.node_statement(view.peer)
            if said is not None and not said.left:
                self._peers.learn(view.peer, said.url, announced=True)
        self._links.parted(self._registry.convicted, (), now_ms)
        self._sponsoring.remove((*self._pins, *restored.blocked))
        self._only_gossip = False  # whether the event that is handled concerns nothing but the gossip
        self._due_ms: int | None = now_ms  # when anything but the gossip has something to do

    # What is shown.

    @property
    def wake_at(self) -> int | None:
        """When `events.TimePassed` is to be reported, in milliseconds since 1970; None: not before the next event."""
        if self._stopped:
            return None
        due_ms, gossip_ms = self._due_ms, self._gossip.wake_at
        return due_ms if gossip_ms is None or (due_ms is not None and due_ms < gossip_ms) else gossip_ms

    def links(self) -> tuple[LinkView, ...]:
        """Every known peer, as shown to operators."""
        return self._peers.view(self._gossip.role)

    def neighbours(self) -> tuple[bytes, ...]:
        """The nodes that there is a link with."""
        return tuple([peer.node_id for peer in self._peers.linked()])

    def trusted_via(self, node_ids: Iterable[bytes]) -> dict[bytes, list[bytes]]:
        """For each of these nodes those reachable over pins that themselves pin it."""
        return self._registry.trusted_via(node_ids)

    def announced_by(self, node_id: bytes) -> int:
        """How many announcements of this node are in the set."""
        return self._registry.summary(node_id, slots_pinned_max)[0]

    def status(self) -> MeshStatus:
        """The mesh in a few numbers."""
        whole = self._registry.total()
        return MeshStatus(
            announcements=whole.count,
            digest=whole.digest(),
            authors=self._registry.authors,
            parked=len(self._registry.parking) + self._intake.waiting,
            links=len(self._peers.linked()),
            last=self._own.last,
            muted=self._own.is_muted,
            snapshot=self._reconciliation.snapshot_progress,
        )

    # What happens.

    def handle(self, event: events.Event, now_ms: int) -> list[Effect]:
        """Something happened at `now_ms` (milliseconds since 1970). Returns what is to be done, in this order."""
        if self._clock.was_set_back(now_ms):
            self._on_clock_set_back(now_ms)
        self._only_gossip = False
        match event:
            case events.RequestReceived():
                self._on_request_received(event, now_ms)
            case events.AnswerReceived():
                self._on_answer_received(event, now_ms)
            case events.TimePassed():
                self._only_gossip = True  # whatever is due is done
            case events.StatementMade():
                self._gossip.tell(self._own.say(event.statement, now_ms), None, now_ms)
            case events.PeerUnreachable():
                self._on_peer_unreachable(event, now_ms)
            case events.PeerFound() | events.JoinTakenBack():
                self._peers.hear_join(event)
            case events.PolicyChanged():
                self._on_policy_changed(event, now_ms)
            case events.PrefixBuilt() | events.CellsDecoded():
                self._reconciliation.computed(event, now_ms)
            case events.ComparisonWanted():
                self._gossip.tell_status(event.peer, now_ms)
            case events.ShutdownRequested():
                self._stopped = True
                self._links.stop(now_ms)
            case _:
                assert_never(event)
        if not self._stopped:
            if not self._only_gossip or (self._due_ms is not None and now_ms >= self._due_ms):
                self._settle(now_ms)
            for peer_id, told in self._gossip.flush(now_ms).items():
                peer = self._peers.find(peer_id)
                assert peer is not None, "an outbox belongs to a link"
                peer.sent += told
        return self._outgoing.drain()

    def _settle(self, now_ms: int) -> None:
        """Let every machine do what has become due: what changes the set before what tells of it."""
        expiry_ms = self._registry.next_expiry_ms
        if expiry_ms is not None and expiry_ms <= now_ms:
            self._intake.expire(now_ms)
        if self._sponsoring.expire(now_ms):
            self._on_relations_changed(now_ms)
        if self._intake.waiting:
            self._on_taken(self._intake.take_due(now_ms), None, now_ms, pulled=False)
        if self.completeness.settle(now_ms):
            self._peers.compare_anew(now_ms)
            self._on_admission_widened(now_ms)
        self._links.end_due(now_ms)
        own = self._own.settle(now_ms, links_pending=self._peers.is_linking)
        if own:
            self._gossip.tell(own, None, now_ms)
        self._peers.dial(now_ms)
        self._reconciliation.flush(now_ms)
        self._due_ms = self._next_due_ms()

    def _next_due_ms(self) -> int | None:
        return earliest(
            self._registry.next_expiry_ms,
            self._intake.next_due_ms,
            self._sponsoring.next_expiry_ms,
            self._own.wake_at,
            self.completeness.wake_at,
            self._peers.wake_at,
            self._reconciliation.wake_at,
        )

    # Requests of others.

    def _on_request_received(self, event: events.RequestReceived, now_ms: int) -> None:
        if isinstance(event.message, messages.LinkRequest):
            self._on_link_requested(event, event.message, now_ms)
            return
        peer = self._peers.find(event.peer)
        may_link = not (self._stopped or self._peers.refuses(event.peer))
        if may_link and peer is not None and peer.state is LinkState.LINKING:
            self._peers.implied_link(peer, now_ms)
            self._links.opened(peer, now_ms)
        if self._stopped or peer is None or not peer.linked:
            self._answer(event.token, self._peers.refusal(event.peer, now_ms))
            return
        self._peers.heard(peer, now_ms)
        match event.message:
            case messages.GossipRequest():
                self._on_gossip_received(peer, event.token, event.message, now_ms)
            case messages.CellsRequest():
                self._reconciliation.asked_for_cells(event.peer, event.token, event.message, now_ms)
            case (
                messages.FetchRequest() | messages.AuthorsRequest() | messages.IdsRequest() | messages.SnapshotRequest()
            ):
                self._answer(
                    event.token, *self._reconciliation.asked(event.peer, event.message, self._links.left_out(peer))
                )
            case messages.HaveRequest():
                self._answer(event.token, messages.RefusedAnswer("R77", "the mesh machine knows no artifacts", now_ms))
            case _:
                assert_never(event.message)

    def _on_link_requested(self, event: events.RequestReceived, request: messages.LinkRequest, now_ms: int) -> None:
        former = self._peers.find(event.peer)
        before = (former.linked, former.url, former.compare_only) if former else None
        answer = self._peers.asked_for_link(event.peer, request, now_ms)
        self._answer(event.token, answer)
        peer = self._peers.find(event.peer)
        if isinstance(answer, messages.LinkAnswer) and answer.accepted and peer is not None:
            if before == (True, peer.url, peer.compare_only) and not request.key:
                self._links.leave_out(peer)  # it only shows whom it knows
            else:
                self._links.opened(peer, now_ms)
            pinned_cap = self._registry.cap(event.peer) >= slots_pinned_max
            if not pinned_cap and self._sponsoring.let_in(event.peer, now_ms, self._peers.is_linked):
                self._on_relations_changed(now_ms)

    def _on_gossip_received(self, peer: Peer, token: int, request: messages.GossipRequest, now_ms: int) -> None:
        if request.push and not self._take_in(peer, request.push, now_ms):
            self._answer(token, self._peers.refusal(peer.node_id, now_ms))
            return
        self._gossip.answer(peer.node_id, token, request, now_ms)
        self._only_gossip = not request.push and request.status is None and not self._peers.has_changed
        if request.status is not None:
            self._reconciliation.heard_status(peer.node_id, request.status, now_ms)

    def _answer(self, token: int, message: messages.Answer, bodies: tuple[bytes, ...] = ()) -> None:
        self._outgoing.add(SendAnswer(token, message, bodies))

    # Answers of others.

    def _on_answer_received(self, event: events.AnswerReceived, now_ms: int) -> None:
        in_flight = self._outgoing.take(event.request_id, event.peer)
        peer = self._peers.find(event.peer)
        if in_flight is None or peer is None or self._stopped:
            return
        self._peers.answered(peer, in_flight, now_ms)
        asked, said = in_flight.message, event.message
        if isinstance(asked, messages.GossipRequest) and isinstance(said, messages.GossipAnswer):  # most are
            self._on_gossip_answered(peer, in_flight, said, now_ms)
            return
        is_honest = True
        match asked, said:
            case messages.LinkRequest(), messages.LinkAnswer() as answer:
                self._on_link_answered(peer, asked, answer, now_ms)
            case messages.FetchRequest(), messages.FetchAnswer() as answer:
                self._on_fetch_answered(peer, in_flight, answer, now_ms)
            case messages.AuthorsRequest(), messages.AuthorsAnswer() as answer:
                is_honest = self._reconciliation.answered_authors(in_flight, answer, now_ms)
            case messages.IdsRequest(), messages.IdsAnswer() as answer:
                is_honest = self._reconciliation.answered_ids(in_flight, answer, now_ms)
            case messages.CellsRequest(), messages.CellsAnswer() as answer:
                self._reconciliation.answered_cells(in_flight, answer, now_ms)
            case messages.SnapshotRequest(author=b""), messages.SnapshotAnswer() as answer:
                delivered = self._pull(peer, answer.announcements, now_ms)
                is_honest = self._reconciliation.answered_snapshot(in_flight, answer.after, delivered, now_ms)
            case messages.SnapshotRequest(), messages.SnapshotAnswer() as answer:
                self._pull(peer, answer.announcements, now_ms)
                self._own.answered(in_flight, peer.url if peer.linked else "", answer, now_ms)
            case _, messages.RefusedAnswer() as answer:
                self._on_refused(peer, in_flight, answer, now_ms)
            case _:
                self._on_request_failed(peer, in_flight, now_ms)
        if not is_honest:
            self._links.shun(peer, now_ms)
        peer.differences_found = max(peer.differences_found, self._reconciliation.differences_found(peer.node_id))

    def _on_link_answered(
        self, peer: Peer, request: messages.LinkRequest, answer: messages.LinkAnswer, now_ms: int
    ) -> None:
        was_linked = peer.linked
        if not self._peers.answered_link(peer, answer, now_ms):
            return
        self.secrets.answered(peer.node_id, request, answer)
        if was_linked:
            self._links.leave_out(peer)
        else:
            self._links.opened(peer, now_ms)

    def _on_gossip_answered(self, peer: Peer, in_flight: InFlight, answer: messages.GossipAnswer, now_ms: int) -> None:
        assert isinstance(in_flight.message, messages.GossipRequest), "the answer is of its kind"
        status = answer.status or in_flight.message.status
        self._gossip.answered(in_flight, answer, now_ms)
        self._only_gossip = not answer.push and status is None and not self._peers.has_changed
        if answer.push:
            self._take_in(peer, answer.push, now_ms)
        if peer.linked and status is not None:
            self._reconciliation.heard_status(peer.node_id, status, now_ms)

    def _on_fetch_answered(self, peer: Peer, in_flight: InFlight, answer: messages.FetchAnswer, now_ms: int) -> None:
        is_pull = self._gossip.is_pull(in_flight)
        delivered = self._pull(peer, answer.announcements, now_ms, limited=is_pull)
        if is_pull:
            self._gossip.pulled(in_flight, answer.missing, delivered, now_ms)
        else:
            self._reconciliation.fetched(in_flight, answer.missing, delivered, now_ms)

    def _on_refused(self, peer: Peer, in_flight: InFlight, answer: messages.RefusedAnswer, now_ms: int) -> None:
        self._clock.check(peer, answer.now_ms, now_ms)
        if self._peers.is_feeler(in_flight):
            return
        unlinked = answer.rule in (RULE_NOT_LINKED, RULE_NOT_LISTENED_TO)
        if unlinked and self._peers.refused_as_unlinked(peer, in_flight, now_ms):
            self._links.closed(peer.node_id, now_ms)  # it was restarted, or has closed the link: it is asked anew
        self._on_request_failed(peer, in_flight, now_ms, answer.rule)

    def _on_peer_unreachable(self, event: events.PeerUnreachable, now_ms: int) -> None:
        in_flight = self._outgoing.take(event.request_id, event.peer)
        peer = self._peers.find(event.peer)
        if in_flight is not None and peer is not None:
            self._on_request_failed(peer, in_flight, now_ms)

    def _on_request_failed(self, peer: Peer, in_flight: InFlight, now_ms: int, rule: str = "") -> None:
        self._gossip.failed(in_flight, now_ms)
        self._reconciliation.failed(in_flight, rule, now_ms)
        self._own.failed(in_flight)
        if self._peers.request_failed(peer, in_flight, now_ms):
            self._links.closed(peer.node_id, now_ms)

    # What it comes to.

    def _take_in(self, peer: Peer, raws: tuple[bytes, ...], now_ms: int) -> bool:
        """Take in what a peer pushed. Returns whether the link still stands."""
        self._on_taken(self._intake.take(raws, now_ms, pushed=True), peer, now_ms, pulled=False)
        return peer.linked

    def _pull(self, peer: Peer, raws: tuple[bytes, ...], now_ms: int, *, limited: bool = False) -> dict[bytes, bool]:
        """Take in what a peer was asked for, `limited` by the rates of R89. Returns of each valid one if it is new."""
        taken = self._intake.take(raws, now_ms, pushed=limited)
        self._on_taken(taken, peer, now_ms, pulled=True)
        return taken.delivered

    def _on_taken(self, taken: Taken, peer: Peer | None, now_ms: int, *, pulled: bool) -> None:
        """Announcements were taken in: keep this node's own, tell the others, draw the consequences."""
        returned = self._own.found(taken.own, now_ms)
        for node_id, url in taken.addresses:
            self._peers.learn(node_id, url, announced=True)
        if peer is not None:
            peer.received += len(taken.delivered)
            self._gossip.received(peer.node_id, taken.delivered)
            if taken.hostile is not None or self._peers.count_faults(peer, taken.faults):
                self._links.shun(peer, now_ms)
        if taken.fresh or returned:
            self._gossip.tell(taken.fresh + returned, peer.node_id if peer else None, now_ms, pulled=pulled)
        if taken.made:
            self._gossip.tell(taken.made, None, now_ms)
        self.completeness.heard(taken.counted, now_ms)
        self._links.parted(taken.convicted, taken.left, now_ms)
        if taken.widened:
            self._on_admission_widened(now_ms)

    def _on_policy_changed(self, event: events.PolicyChanged, now_ms: int) -> None:
        before = self._pins, self._sponsoring.nodes
        self._pins = tuple(pin for pin in event.pins if pin != self._me)
        for peer_id in self._peers.set_policy(self._pins, event.blocked, now_ms):
            self._links.closed(peer_id, now_ms)
        self._sponsoring.remove((*self._pins, *event.blocked))
        for peer in self._peers.linked():
            self._links.leave_out(peer)
        if (self._pins, self._sponsoring.nodes) != before:
            self._on_relations_changed(now_ms)

    def _on_relations_changed(self, now_ms: int) -> None:
        self._own.relations_changed(now_ms)
        if self._intake.note_change(self._registry.set_policy(self._pins, self._sponsoring.nodes)):
            self._on_admission_widened(now_ms)

    def _on_admission_widened(self, now_ms: int) -> None:
        """Neighbours may have announcements of the newly admitted: compare the sets at once."""
        self._reconciliation.be_eager()
        self._gossip.ask_status(now_ms)

    def _on_clock_set_back(self, now_ms: int) -> None:
        """What was planned lies too far ahead: links are made anew, as after a restart (R135)."""
        self._links.clock_set_back(now_ms)
        self._sponsoring.clock_set_back(now_ms)
        self._own.clock_set_back(now_ms)
        self.completeness.clock_set_back(now_ms)
        self._intake.withdraw_early(now_ms)
        self._due_ms = now_ms


__all__ = ["LinkView", "Mesh", "MeshOptions", "MeshStatus", "Restored"]
