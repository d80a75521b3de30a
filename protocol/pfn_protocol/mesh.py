"""The mesh as one machine: told what happened, it answers with what to do.

Rule 1: nothing else decides about links, gossip and the set; rule 2: it has no clock, socket, disk or dice. `handle`
gives an event to the small machine that it concerns (peers.py, gossip.py, reconciliation.py, own_announcements.py,
intake.py), then `_settle` lets each of them do what has become due, and the effects come out in the order in which
they are to be performed: keeping before telling. `wake_at` is the one deadline; `TimePassed` may come early or late.
"""

from dataclasses import dataclass, replace
from random import Random
from typing import assert_never

from pfn_protocol.clock_check import ClockCheck
from pfn_protocol.effects import Effect, SendAnswer
from pfn_protocol.events import (
    AnswerReceived,
    CellsDecoded,
    Event,
    PeerFound,
    PeerUnreachable,
    PolicyChanged,
    PrefixBuilt,
    RequestReceived,
    ShutdownRequested,
    StatementMade,
    TimePassed,
)
from pfn_protocol.gossip import Gossip
from pfn_protocol.identity import PrivateKey
from pfn_protocol.intake import Intake, Taken
from pfn_protocol.limits import slots_pinned_max
from pfn_protocol.link_secrets import LinkSecrets
from pfn_protocol.messages import (
    Answer,
    AuthorsAnswer,
    AuthorsRequest,
    CellsAnswer,
    CellsRequest,
    FetchAnswer,
    FetchRequest,
    GossipAnswer,
    GossipRequest,
    HaveRequest,
    IdsAnswer,
    IdsRequest,
    LinkAnswer,
    LinkRequest,
    RefusedAnswer,
    SetStatus,
    SnapshotAnswer,
    SnapshotRequest,
)
from pfn_protocol.outgoing import InFlight, Outgoing, earliest
from pfn_protocol.own_announcements import MeshOptions, OwnAnnouncements
from pfn_protocol.peer import LinkState, LinkView, Peer
from pfn_protocol.peers import RULE_NOT_LINKED, RULE_NOT_LISTENED_TO, Peers
from pfn_protocol.reconciliation import Reconciliation
from pfn_protocol.registry import Registry
from pfn_protocol.restoring import Restored, restore
from pfn_protocol.snapshot import SnapshotProgress
from pfn_protocol.sponsoring import Sponsoring


@dataclass(frozen=True, slots=True)
class MeshStatus:
    """The mesh in a few numbers."""

    announcements: int  # in the set
    digest: bytes  # of the set
    authors: int  # admitted
    parked: int
    links: int
    last: tuple[int, int]  # (epoch, seq) of the last own announcement
    muted: bool  # another node uses the same key, so this one is silent
    snapshot: SnapshotProgress | None  # while this node is filled by its neighbours


class Mesh:
    """One node's part in a mesh."""

    def __init__(
        self, key: PrivateKey, mesh: str, options: MeshOptions, rng: Random, restored: Restored, now_ms: int
    ) -> None:
        self._me = key.public
        has_url = bool(options.url)
        self._pins = tuple(pin for pin in restored.pins if pin != self._me)
        self._stopped = False
        self._outgoing = Outgoing()
        self._registry = Registry(self._me, self._pins)
        self._intake = Intake(self._registry, self._outgoing, mesh)
        own_node = restore(self._registry, self._outgoing, restored.announcements, now_ms)
        self._sponsoring = Sponsoring(own_node.sponsored if own_node else (), now_ms)
        self.secrets = secrets = LinkSecrets(rng)  # of the links: mirror sets are compared under them too
        self._peers = Peers(self._me, options.url, rng, self._outgoing, secrets, hosts_shared=options.hosts_shared)
        self._gossip = gossip = Gossip(self._registry, self._outgoing, self._link_status, has_url=has_url)
        self._reconciliation = Reconciliation(self._registry, self._outgoing, secrets, gossip.offer, has_url=has_url)
        self._own = OwnAnnouncements(
            key,
            mesh,
            options,
            lambda: (self._pins, self._sponsoring.nodes),
            self._registry,
            self._intake,
            self._outgoing,
            last=restored.last,
            expects_peers=bool(restored.peers or self._pins),
            now_ms=now_ms,
        )
        self._clock = ClockCheck(self._outgoing)
        self._peers.set_policy(self._pins, restored.blocked, now_ms)
        for address in restored.peers:
            self._peers.learn(address.node_id, address.url, reached=True)
        for view in self._peers.view():
            said = self._registry.node_statement(view.peer)
            if said is not None and not said.left:
                self._peers.learn(view.peer, said.url, announced=True)
        self._sponsoring.remove((*self._pins, *restored.blocked))

    # What is shown.

    @property
    def wake_at(self) -> int | None:
        """When `TimePassed` is to be reported, in milliseconds since 1970; None: not before the next event."""
        if self._stopped:
            return None
        return earliest(
            self._registry.next_expiry_ms,
            self._intake.next_due_ms,
            self._sponsoring.next_expiry_ms,
            self._own.wake_at,
            self._peers.wake_at,
            self._gossip.wake_at,
            self._reconciliation.wake_at,
        )

    def links(self) -> tuple[LinkView, ...]:
        """Every known peer, as shown to operators."""
        return self._peers.view()

    def trusted_via(self, node_id: bytes) -> list[bytes]:
        """The nodes reachable over pins that themselves pin this node."""
        return self._registry.trusted_via(node_id)

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

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        """Something happened at `now_ms` (milliseconds since 1970). Returns what is to be done, in this order."""
        match event:
            case StatementMade():
                self._gossip.tell(self._own.say(event.statement, now_ms), None)
            case RequestReceived():
                self._on_request_received(event, now_ms)
            case AnswerReceived():
                self._on_answer_received(event, now_ms)
            case PeerUnreachable():
                self._on_peer_unreachable(event, now_ms)
            case PeerFound():
                self._peers.learn(event.peer, event.url, joined=True)
            case PolicyChanged():
                self._on_policy_changed(event, now_ms)
            case PrefixBuilt() | CellsDecoded():
                self._reconciliation.computed(event, now_ms)
            case TimePassed():
                pass  # `_settle` does whatever is due
            case ShutdownRequested():
                self._on_shutdown_requested(now_ms)
            case _:
                assert_never(event)
        if not self._stopped:
            self._settle(now_ms)
        return self._outgoing.drain()

    def _settle(self, now_ms: int) -> None:
        """Let every machine do what has become due: what changes the set before what tells of it."""
        self._intake.expire(now_ms)
        if self._sponsoring.expire(now_ms):
            self._on_relations_changed(now_ms)
        self._on_taken(self._intake.take_due(now_ms), None, now_ms, pulled=False)
        for peer_id in self._peers.silent(now_ms):
            self._forget_link(peer_id, now_ms)
        self._gossip.tell(self._own.settle(now_ms, links_pending=self._peers.is_linking), None)
        self._peers.dial(now_ms)
        self._reconciliation.flush(now_ms)
        for peer_id, told in self._gossip.flush(now_ms).items():
            peer = self._peers.find(peer_id)
            assert peer is not None, "an outbox belongs to a link"
            peer.sent += told

    # Requests of others.

    def _on_request_received(self, event: RequestReceived, now_ms: int) -> None:
        if isinstance(event.message, LinkRequest):
            self._on_link_requested(event, event.message, now_ms)
            return
        peer = self._peers.find(event.peer)
        if peer is not None and peer.state is LinkState.LINKING and not self._stopped:
            self._peers.implied_link(peer, now_ms)
            self._on_linked(peer, now_ms)
        if self._stopped or peer is None or not peer.linked:
            self._answer(event.token, self._refusal(event.peer, now_ms))
            return
        self._peers.heard(peer, now_ms)
        self._sponsoring.heard(event.peer, now_ms)
        match event.message:
            case GossipRequest():
                self._on_gossip_received(peer, event.token, event.message, now_ms)
            case CellsRequest():
                self._reconciliation.asked_for_cells(event.peer, event.token, event.message, now_ms)
            case FetchRequest() | AuthorsRequest() | IdsRequest() | SnapshotRequest():
                self._answer(event.token, *self._reconciliation.asked(event.peer, event.message, self._left_out(peer)))
            case HaveRequest():
                self._answer(event.token, RefusedAnswer("R77", "the mesh machine knows no artifacts", now_ms))
            case _:
                assert_never(event.message)

    def _on_link_requested(self, event: RequestReceived, request: LinkRequest, now_ms: int) -> None:
        answer = self._peers.asked_for_link(event.peer, request, now_ms)
        self._answer(event.token, answer)
        peer = self._peers.find(event.peer)
        if isinstance(answer, LinkAnswer) and answer.accepted and peer is not None:
            self._on_linked(peer, now_ms)
            pinned_cap = self._registry.cap(event.peer) >= slots_pinned_max
            if not pinned_cap and self._sponsoring.let_in(event.peer, now_ms, self._peers.is_linked):
                self._on_relations_changed(now_ms)

    def _on_gossip_received(self, peer: Peer, token: int, request: GossipRequest, now_ms: int) -> None:
        if not self._take_in(peer, request.push, now_ms):
            self._answer(token, self._refusal(peer.node_id, now_ms))
            return
        self._gossip.answer(peer.node_id, token, request, now_ms)
        if request.status is not None:
            self._reconciliation.heard_status(peer.node_id, request.status, now_ms)

    def _refusal(self, peer_id: bytes, now_ms: int) -> RefusedAnswer:
        if peer_id in self._peers.blocked:
            return RefusedAnswer(RULE_NOT_LISTENED_TO, "this node does not listen to you", now_ms)
        return RefusedAnswer(RULE_NOT_LINKED, "there is no link between us; ask for one first", now_ms)

    def _answer(self, token: int, message: Answer, bodies: tuple[bytes, ...] = ()) -> None:
        self._outgoing.add(SendAnswer(token, message, bodies))

    # Answers of others.

    def _on_answer_received(self, event: AnswerReceived, now_ms: int) -> None:
        in_flight = self._outgoing.take(event.request_id, event.peer)
        peer = self._peers.find(event.peer)
        if in_flight is None or peer is None or self._stopped:
            return
        self._peers.answered(peer, in_flight, now_ms)
        self._sponsoring.heard(peer.node_id, now_ms)
        match in_flight.message, event.message:
            case LinkRequest(), LinkAnswer() as answer:
                self._on_link_answered(peer, in_flight.message, answer, now_ms)
            case GossipRequest(status=told), GossipAnswer() as answer:
                self._on_gossip_answered(peer, in_flight, replace(answer, status=answer.status or told), now_ms)
            case FetchRequest(), FetchAnswer() as answer:
                delivered = self._pull(peer, answer.announcements, now_ms)
                self._reconciliation.fetched(in_flight, answer.missing, delivered, now_ms)
            case AuthorsRequest(), AuthorsAnswer() as answer:
                if not self._reconciliation.answered_authors(in_flight, answer, now_ms):
                    self._shun(peer, now_ms)
            case IdsRequest(), IdsAnswer() as answer:
                if not self._reconciliation.answered_ids(in_flight, answer, now_ms):
                    self._shun(peer, now_ms)
            case CellsRequest(), CellsAnswer() as answer:
                self._reconciliation.answered_cells(in_flight, answer, now_ms)
            case SnapshotRequest(author=b""), SnapshotAnswer() as answer:
                delivered = self._pull(peer, answer.announcements, now_ms)
                if not self._reconciliation.answered_snapshot(in_flight, answer.after, delivered, now_ms):
                    self._shun(peer, now_ms)
            case SnapshotRequest(), SnapshotAnswer() as answer:
                self._pull(peer, answer.announcements, now_ms)
                self._own.answered(in_flight, peer.url if peer.linked else "", answer, now_ms)
            case _, RefusedAnswer() as answer:
                self._on_refused(peer, in_flight, answer, now_ms)
            case _:
                self._on_request_failed(peer, in_flight, now_ms)
        peer.differences_found = max(peer.differences_found, self._reconciliation.differences_found(peer.node_id))

    def _on_link_answered(self, peer: Peer, request: LinkRequest, answer: LinkAnswer, now_ms: int) -> None:
        was_linked = peer.linked
        if not self._peers.answered_link(peer, answer, now_ms):
            return
        self.secrets.answered(peer.node_id, request, answer)
        if was_linked:
            self._leave_out(peer)
        else:
            self._on_linked(peer, now_ms)

    def _on_gossip_answered(self, peer: Peer, in_flight: InFlight, answer: GossipAnswer, now_ms: int) -> None:
        self._gossip.answered(in_flight, answer, now_ms)
        if self._take_in(peer, answer.push, now_ms) and peer.linked and answer.status is not None:
            self._reconciliation.heard_status(peer.node_id, answer.status, now_ms)

    def _on_refused(self, peer: Peer, in_flight: InFlight, answer: RefusedAnswer, now_ms: int) -> None:
        self._clock.check(peer, answer.now_ms, now_ms)
        unlinked = answer.rule in (RULE_NOT_LINKED, RULE_NOT_LISTENED_TO)
        if unlinked and self._peers.refused_as_unlinked(peer, in_flight, now_ms):
            self._forget_link(peer.node_id, now_ms)  # it was restarted, or has closed the link: it is asked anew
        self._on_request_failed(peer, in_flight, now_ms, answer.rule)

    def _on_peer_unreachable(self, event: PeerUnreachable, now_ms: int) -> None:
        in_flight = self._outgoing.take(event.request_id, event.peer)
        peer = self._peers.find(event.peer)
        if in_flight is not None and peer is not None:
            self._on_request_failed(peer, in_flight, now_ms)

    def _on_request_failed(self, peer: Peer, in_flight: InFlight, now_ms: int, rule: str = "") -> None:
        self._gossip.failed(in_flight, now_ms)
        self._reconciliation.failed(in_flight, rule, now_ms)
        self._own.failed(in_flight)
        if self._peers.request_failed(peer, in_flight, now_ms):
            self._forget_link(peer.node_id, now_ms)

    # What it comes to.

    def _take_in(self, peer: Peer, raws: tuple[bytes, ...], now_ms: int) -> bool:
        """Take in what a peer pushed. Returns whether the link still stands."""
        self._on_taken(self._intake.take(raws, now_ms, pushed=True), peer, now_ms, pulled=False)
        return peer.linked

    def _pull(self, peer: Peer, raws: tuple[bytes, ...], now_ms: int) -> dict[bytes, bool]:
        """Take in what a peer was asked for. Returns of each valid one whether it came into the set."""
        taken = self._intake.take(raws, now_ms, pushed=False)
        self._on_taken(taken, peer, now_ms, pulled=True)
        return taken.delivered

    def _on_taken(self, taken: Taken, peer: Peer | None, now_ms: int, *, pulled: bool) -> None:
        """Announcements were taken in: keep this node's own, tell the others, draw the consequences."""
        returned = self._own.found(taken.own, now_ms)
        for node_id, url in taken.addresses:
            self._peers.learn(node_id, url, announced=True)
        if peer is not None:
            peer.received += len(taken.delivered)
            self._gossip.holds(peer.node_id, taken.delivered)
            if taken.hostile is not None or self._peers.count_faults(peer, taken.faults):
                self._shun(peer, now_ms)
        came_from = peer.node_id if peer is not None else None
        if pulled and came_from is not None:
            self._gossip.mention(taken.fresh + returned, came_from)
        else:
            self._gossip.tell(taken.fresh + returned, came_from)
        for node_id in taken.left:
            self._on_peer_left(node_id, now_ms)
        if taken.widened:
            self._on_admission_widened(now_ms)

    def _on_linked(self, peer: Peer, now_ms: int) -> None:
        left_out = self._left_out(peer)
        self._reconciliation.open(peer.node_id, peer.url, left_out, now_ms)
        self._gossip.open(peer.node_id, peer.url, left_out, now_ms)
        self._own.linked(peer.node_id, peer.url, now_ms)

    def _forget_link(self, peer_id: bytes, now_ms: int) -> None:
        self._gossip.close(peer_id)
        self._reconciliation.close(peer_id, now_ms)

    def _link_status(self, peer_id: bytes) -> SetStatus:
        return self._reconciliation.status(peer_id)

    def _shun(self, peer: Peer, now_ms: int) -> None:
        """It did what cannot come about by accident: it is left alone for a while (R109)."""
        self._peers.close(peer, now_ms, shun=True)
        self._forget_link(peer.node_id, now_ms)

    def _on_peer_left(self, peer_id: bytes, now_ms: int) -> None:
        """It said that it leaves the mesh: its address is of no use any more."""
        peer = self._peers.find(peer_id)
        if peer is not None and not (peer.joined or peer.pinned):
            if peer.linked:
                self._peers.close(peer, now_ms)
                self._forget_link(peer_id, now_ms)
            self._peers.forget(peer_id)

    def _on_policy_changed(self, event: PolicyChanged, now_ms: int) -> None:
        before = self._pins, self._sponsoring.nodes
        self._pins = tuple(pin for pin in event.pins if pin != self._me)
        for peer_id in self._peers.set_policy(self._pins, event.blocked, now_ms):
            self._forget_link(peer_id, now_ms)
        self._sponsoring.remove((*self._pins, *event.blocked))
        for peer in self._peers.linked():
            self._leave_out(peer)
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

    def _on_shutdown_requested(self, now_ms: int) -> None:
        self._stopped = True
        self._peers.stop()
        self._gossip.stop()
        self._reconciliation.stop(now_ms)

    def _leave_out(self, peer: Peer) -> None:
        left_out = self._left_out(peer)
        self._gossip.leave_out(peer.node_id, left_out)
        self._reconciliation.leave_out(peer.node_id, left_out)

    def _left_out(self, peer: Peer) -> tuple[bytes, ...]:
        """The authors that either side of the link does not want to hear of."""
        return tuple(sorted({*peer.left_out, *self._peers.blocked}))


__all__ = ["LinkView", "Mesh", "MeshOptions", "MeshStatus", "Restored"]
