"""What must always hold, looked at after every turn of every honest node; and what must come about after a healing.

Always:

- Nothing is told that was not kept, and no announcement is kept whose signature does not verify in this mesh.
- No honest node uses a place (epoch, seq) twice. No word of an honest node is altered, or attributed to another.
- Nothing that has expired, or lies in the far future by the node's own clock, comes into a set.
- Every request has exactly one outcome: for who asked, and from who was asked.
- Nobody wants to be woken in the past (actor.py looks at that itself).
- No honest node is left alone by another one for what honest nodes do. Nobody convicts an honest node.
- Links, tables, queues and the parking stay within their limits.
- The machine's set is what its disk holds.

After a healing: one set everywhere, and in it the conviction of everybody whose two stories honest nodes held.

What breaks this raises `InvariantBroken`, with the seed and the command that does it again. The limits are those of the
machine's insides, which nobody is shown: this module looks into them, and is the only one that does.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from itertools import combinations

from pfn_node.simulation.actor import CLOCK_CHECK_MS, Node
from pfn_node.simulation.network import HANGING_ANSWER_MS_MAX, Network
from pfn_node.simulation.world import MESH, START_MS, InvariantBroken
from pfn_protocol import limits
from pfn_protocol.acceptance import accept, expires_ms
from pfn_protocol.announcements import AcceptedAnnouncement, Kind
from pfn_protocol.effects import Effect, KeepAnnouncement, KeepConviction, RaiseAlert, SendAnswer, SendRequest
from pfn_protocol.equivocation import is_equivocation
from pfn_protocol.errors import Refusal
from pfn_protocol.events import AnswerReceived, Event, PeerUnreachable, RequestReceived, TimePassed
from pfn_protocol.identity import did_key, short_did
from pfn_protocol.messages import GossipRequest, RefusedAnswer
from pfn_protocol.peers import RULE_NOT_LISTENED_TO

# A node is looked into after so many of its turns; what a turn itself can break is looked at every time.
INSPECTION_TURNS = 500
# Requests that a machine may have under way: a push, a pull, a hanging one, a round and a link for each neighbour.
REQUESTS_PER_LINK_MAX = 8
# Links to nodes that are neither pinned nor joined: what it takes, and what it looks for itself.
LINKS_MAX = limits.links_max + limits.links_wanted_max + limits.compare_links_alone_max


@dataclass
class _Life:
    """What one start of one node has open."""

    incarnation: int
    asked: dict[int, bytes] = field(default_factory=dict)  # requests of its own -> whom
    hears: dict[int, tuple[bytes, int, int]] = field(default_factory=dict)  # tokens -> who asks, since when (see below)
    turns: int = 0


class Watch:
    """Looks at every turn of the honest nodes of one network."""

    def __init__(self, network: Network, replay: str = "") -> None:
        """`replay` is the command that repeats the run."""
        self.network = network
        self.replay = replay
        self.turns = 0
        self._honest: dict[bytes, Node] = {}
        self._names: dict[str, bytes] = {}  # how honest nodes are called in alerts
        self._lives: dict[bytes, _Life] = {}
        self._words: dict[bytes, bytes] = {}  # every id that an honest node kept -> its envelope, once it is checked
        self._said: dict[bytes, bytes] = {}  # what honest nodes said -> author
        self._places: dict[tuple[bytes, int, int], bytes] = {}
        network.watch = self

    def trust(self, *nodes: Node) -> None:
        """These are honest: what they do is looked at, and what is said of them."""
        for node in nodes:
            self._honest[node.id] = node
            self._names[short_did(did_key(node.id))] = node.id
            for announcement, _ in node.kept.values():  # it was started before anybody could look
                self._check_word(node, announcement)

    def broken(self, sentence: str) -> InvariantBroken:
        """What to raise."""
        again = f"; again with: {self.replay}" if self.replay else ""
        moment = (self.network.now_ms - START_MS) / 1_000
        return InvariantBroken(f"{sentence} (after {moment:.3f} s, seed {self.network.seed}{again})")

    def after(self, node: Node, event: Event, effects: Iterable[Effect]) -> None:
        """A node has taken a turn, and what it decided is done."""
        if node.id not in self._honest:
            return
        self.turns += 1
        life = self._lives.get(node.id)
        if life is None or life.incarnation != node.incarnation:
            life = self._lives[node.id] = _Life(node.incarnation)
        self._note_event(node, life, event)
        for effect in effects:
            self._check_effect(node, life, effect)
        if type(event) is not TimePassed:
            self._check_limits(node, event)
        life.turns += 1
        if life.turns % INSPECTION_TURNS == 0:
            self.inspect(node)

    # Each turn.

    def _note_event(self, node: Node, life: _Life, event: Event) -> None:
        if type(event) is RequestReceived:
            life.hears[event.token] = (event.peer, self.network.now_ms, node.now_ms)
        elif (type(event) is AnswerReceived or type(event) is PeerUnreachable) and (
            life.asked.pop(event.request_id, None) != event.peer
        ):
            raise self.broken(f"{node.name} is told a second outcome of a request")

    def _check_effect(self, node: Node, life: _Life, effect: Effect) -> None:
        if type(effect) is SendRequest:
            life.asked[effect.request_id] = effect.peer
            told = effect.message
            if type(told) is GossipRequest and not all(one in node.kept for one in (*told.have, *told.offer)):
                raise self.broken(f"{node.name} tells of what it did not keep")
        elif type(effect) is SendAnswer:
            asker = life.hears.pop(effect.token, None)
            message = effect.message
            if asker is not None and type(message) is RefusedAnswer and message.rule == RULE_NOT_LISTENED_TO:
                self._check_shunned(node, asker[0])
        elif type(effect) is KeepAnnouncement:
            self._check_kept(node, effect)
        elif type(effect) is KeepConviction:
            for announcement, _ in node.kept.values():
                if announcement.kind is Kind.CONVICTION and announcement.author in self._honest:
                    raise self.broken(f"{node.name} convicts {self._honest[announcement.author].name}, which is honest")
        elif type(effect) is RaiseAlert:
            self._check_alert(node, effect)

    def _check_shunned(self, node: Node, asker: bytes) -> None:
        if asker in self._honest and asker not in node.blocked:
            raise self.broken(f"{node.name} does not listen to {self._honest[asker].name}, which is honest")

    def _check_alert(self, node: Node, alert: RaiseAlert) -> None:
        accused = [self._honest[one].name for name, one in self._names.items() if name in alert.sentence]
        if alert.kind == "convicted" and accused:
            raise self.broken(f"{node.name} accuses {accused[0]}, which is honest: {alert.sentence}")
        if alert.kind == "two-nodes-one-key":
            raise self.broken(f"{node.name} falls silent, though nobody else has its key")

    def _check_kept(self, node: Node, effect: KeepAnnouncement) -> None:
        announcement = effect.announcement
        self._check_word(node, announcement)
        if announcement.seq > node.now_ms + limits.future_ms_max:
            raise self.broken(f"{node.name} takes in what lies in its far future")
        expiry_ms = expires_ms(announcement)
        if expiry_ms is not None and expiry_ms <= node.now_ms:
            raise self.broken(f"{node.name} takes in what has expired")

    def _check_word(self, node: Node, announcement: AcceptedAnnouncement) -> None:
        """Whose word it is, as it was given."""
        author = announcement.author
        if author == node.id and announcement.id not in self._said:
            self._said[announcement.id] = author
            place = (author, announcement.epoch, announcement.seq)
            if self._places.setdefault(place, announcement.id) != announcement.id:
                raise self.broken(f"{node.name} used a place in its order twice")
        if author in self._honest and self._said.get(announcement.id) != author:
            raise self.broken(f"{node.name} keeps as the word of {self._honest[author].name} what that never said")
        known = self._words.get(announcement.id)
        if known is None:
            self._check_signature(node, announcement)
            self._words[announcement.id] = announcement.raw
        elif known != announcement.raw:
            self._check_signature(node, announcement)  # a signature may have another form; the word is the same

    def _check_signature(self, node: Node, announcement: AcceptedAnnouncement) -> None:
        try:
            found = accept(announcement.raw, mesh=MESH, now_ms=announcement.seq)
        except Refusal as refusal:
            raise self.broken(f"{node.name} keeps what cannot be accepted: {refusal.sentence}") from refusal
        stated = (announcement.id, announcement.author, announcement.epoch, announcement.seq, announcement.statement)
        if (found.id, found.author, found.epoch, found.seq, found.statement) != stated:
            raise self.broken(f"{node.name} keeps something else than was signed")

    def _check_limits(self, node: Node, event: Event) -> None:
        mesh = node.mesh
        gossip, intake, peers = mesh._gossip, mesh._intake, mesh._peers
        chosen = len(node.pins) + len(node.joined)
        within = (
            len(peers._linked) <= LINKS_MAX + chosen
            and len(peers._peers) <= limits.peers_known_max + chosen + len(node.peers)
            and len(gossip._pulls._missing) <= limits.pulls_waiting_max
            and len(gossip._tree._arrivals) <= limits.arrivals_remembered_max
            and len(intake._future) <= limits.future_max
            and len(intake._seen) <= limits.seen_envelopes_max
            and len(intake._rates) <= limits.author_rates_max
            and len(mesh._registry.parking) <= limits.parked_max
            and len(mesh._own._waiting) <= limits.statements_waiting_max
            and len(mesh._outgoing._in_flight) <= REQUESTS_PER_LINK_MAX * (len(peers._peers) + 1) + limits.passive_max
        )
        if not within:
            raise self.broken(f"{node.name} holds more of something than its limit")
        peer = event.peer if type(event) is RequestReceived or type(event) is AnswerReceived else b""
        link = gossip._links.get(peer)
        if link is not None and max(len(link.bodies), len(link.offers), len(link.ids)) > limits.outbox_ids_max:
            raise self.broken(f"{node.name} holds more for {peer.hex()[:8]} than a queue may hold")

    # Now and then.

    def inspect(self, *nodes: Node) -> None:
        """Look into these nodes, by default all honest ones that are up."""
        for node in nodes or [node for node in self._honest.values() if node.up]:
            self._check_disk(node)
            self._check_shares(node)
            life = self._lives.get(node.id)
            if life is not None and life.incarnation == node.incarnation:
                self._check_outcomes(node, life)

    def _check_disk(self, node: Node) -> None:
        registry = node.mesh._registry
        in_set = {one for one, (_, admitted) in node.kept.items() if admitted}
        if in_set != registry._by_id.keys():
            raise self.broken(f"the disk of {node.name} holds another set than its machine")
        if node.kept.keys() - in_set != registry.parking._by_id.keys():
            raise self.broken(f"the disk of {node.name} has other announcements parked than its machine")

    def _check_shares(self, node: Node) -> None:
        registry, intake = node.mesh._registry, node.mesh._intake
        if len(registry.caps) > limits.admitted_authors_max:
            raise self.broken(f"{node.name} admits too many authors")
        for author, share in registry._shares.items():
            if share._ranked_count > registry.cap(author):
                raise self.broken(f"an author fills more slots at {node.name} than it may")
        waiting = [one.author for one in intake._future.values()]
        if any(waiting.count(author) > limits.future_per_author_max for author in set(waiting)):
            raise self.broken(f"one author fills the waiting room for the future at {node.name}")
        parked = registry.parking._by_author.values()
        if any(len(of_author) > limits.parked_per_author_max for of_author in parked):
            raise self.broken(f"one author fills the parking of {node.name}")

    def _check_outcomes(self, node: Node, life: _Life) -> None:
        """A request that was heard is answered in time, by the true clock or by the node's own (it may jump)."""
        patience_ms = HANGING_ANSWER_MS_MAX + 2 * CLOCK_CHECK_MS
        since_ms, own_since_ms = self.network.now_ms - patience_ms, node.now_ms - patience_ms
        if any(heard_ms < since_ms and own_ms < own_since_ms for _, heard_ms, own_ms in life.hears.values()):
            raise self.broken(f"{node.name} does not answer a request")
        if len(life.asked) != len(node.mesh._outgoing._in_flight):
            raise self.broken(f"{node.name} waits for the outcome of other requests than it made")


def converged(nodes: Iterable[Node], now_ms: int) -> str:
    """What still keeps these nodes from holding one set; empty if nothing does.

    What lies in the far future by the true time counts nowhere: a node whose clock is wrong may have said it.
    """
    nodes = list(nodes)
    first, *others = nodes
    expected = _counting(first, now_ms)
    for node in others:
        found = _counting(node, now_ms)
        if found != expected:
            more, less = len(found - expected), len(expected - found)
            return f"{node.name} has {more} announcements that {first.name} lacks, and lacks {less}"
    return ""


def two_faced(nodes: Iterable[Node], honest: Container[bytes]) -> set[bytes]:
    """Of whom these nodes together hold two stories about one release; what a node says of itself it soon replaces."""
    slots: dict[tuple[bytes, str], dict[bytes, AcceptedAnnouncement]] = {}
    for node in nodes:
        for one in node.announcements():
            if one.kind is Kind.VERSION and one.author not in honest:
                slots.setdefault((one.author, one.subject), {})[one.id] = one
    return {
        author
        for (author, _), told in slots.items()
        if any(is_equivocation(*two) for two in combinations(told.values(), 2))
    }


def unconvicted(nodes: Iterable[Node], authors: Iterable[bytes]) -> str:
    """Which of these nodes admits one of these authors and does not know of its conviction; empty if none does."""
    for node in nodes:
        registry = node.mesh._registry
        for author in authors:
            if registry.cap(author) and not registry.is_convicted(author):
                return f"{node.name} does not know that {author.hex()[:8]} told two stories"
    return ""


def _counting(node: Node, now_ms: int) -> set[bytes]:
    return {
        one
        for one, (announcement, admitted) in node.kept.items()
        if admitted and announcement.seq <= now_ms + limits.future_ms_max
    }
