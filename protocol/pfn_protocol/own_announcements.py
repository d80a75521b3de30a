"""What this node says itself: its place in its own order, and how it never contradicts itself.

Every own announcement gets (epoch, seq) with seq = max(last + 1, now), is kept, and only then told. An epoch is one run
of one process: every start begins one, above all that is known of the node's own, made of the time and of chance, so
that no two runs share one. Within it the node remembers what it said of versions, and says of every change that it is
one. So it never contradicts itself where that would prove it guilty (equivocation.py), whatever backup it came back
from, whoever else has its key, and whatever the clock says. A last seq that lies far ahead of the clock comes from a
wrong clock; then a new epoch begins too, or one minute of it would mute the node for a year.

A node whose data came back from a backup has forgotten what it said since. So before its first announcement after a
start it reads its own slots back from a few neighbours, for some seconds at most; what it had lost it keeps again, and
if that stands in a greater epoch, a still greater one begins. Without neighbours it goes on at once, and reads back at
the first link. Once that is done, an own announcement newer than its last, and made after the start, can only come from
another node with the same key: then this one stops announcing and calls the operator. So does one that was convicted.

The node announcement is this module's own: at the start, when pins or sponsored nodes change (told once a second at
most), and every few hours.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from random import Random

from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import (
    AcceptedAnnouncement,
    Kind,
    MirrorStatement,
    NodeStatement,
    OwnStatement,
    Statement,
    VersionStatement,
)
from pfn_protocol.effects import RaiseAlert
from pfn_protocol.equivocation import new_epoch
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey
from pfn_protocol.intake import Intake
from pfn_protocol.limits import (
    clock_behind_ms_max,
    epoch_random_bits,
    future_ms_max,
    node_change_wait_ms,
    node_renewal_ms,
    own_versions_remembered_max,
    pins_max,
    read_back_ms_max,
    read_back_pages_max,
    read_back_peers_max,
    statements_waiting_max,
    status_interval_ms,
)
from pfn_protocol.messages import SnapshotAnswer, SnapshotRequest
from pfn_protocol.outgoing import InFlight, Outgoing, earliest
from pfn_protocol.registry import Outcome, Registry, Verdict
from pfn_protocol.slots import Entry

# `acceptance.announce`, or what a simulator has in its place.
Announce = Callable[[PrivateKey, str, Statement, int, int], AcceptedAnnouncement]


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """What a node says about itself, beside whom it pins."""

    url: str  # "" = it has none, and polls
    software: str
    features: tuple[str, ...] = ()
    hosts_shared: bool = False  # not said, but believed of others: nodes of this mesh share hosts, told apart by port
    status_every_ms: int | None = status_interval_ms  # None: sets are compared only when that is wanted


@dataclass(frozen=True, slots=True)
class _Said:
    """What was announced of a version in this epoch."""

    first: bytes  # the id of the first announcement
    sha256: bytes | None  # of all of them; None once they differed


class OwnAnnouncements:
    """The own voice of a node."""

    def __init__(
        self,
        key: PrivateKey,
        mesh: str,
        options: MeshOptions,
        relations: Callable[[], tuple[tuple[bytes, ...], tuple[bytes, ...]]],  # whom it pins, whom it sponsors
        registry: Registry,
        intake: Intake,
        outgoing: Outgoing,
        rng: Random,
        *,
        last: tuple[int, int],
        expects_peers: bool,
        now_ms: int,
        announce: Announce = announce,
    ) -> None:
        self._sign = announce
        self._key = key
        self._mesh = mesh
        self._options = options
        self._relations = relations
        self._registry = registry
        self._intake = intake
        self._outgoing = outgoing
        self._rng = rng
        self._started_ms = now_ms
        self._last = last
        self._said: dict[str, _Said] = {}  # of versions, in this epoch
        self._begin_epoch(now_ms)
        self._outdone = False  # whether something newer of this key was met after reading back
        self._muted = False
        if self.is_muted:
            self._alert(
                "convicted", "this node's own key is convicted of two stories: it stays silent, and needs a new key"
            )
        self._node_due_ms: int | None = now_ms
        self._waiting: dict[tuple[Kind, str], OwnStatement] = {}
        self._overflowed = False
        self._over_cap = False
        # Reading back: until when the first announcement waits (None: it no longer does), and whom was asked.
        self._ready_by_ms: int | None = now_ms + read_back_ms_max if expects_peers else None
        self._first_link = True
        self._asked: dict[bytes, int | None] = {}  # peer -> the request under way
        self._pages: dict[bytes, int] = {}
        self._read_back = 0  # neighbours that answered to the end
        self._read_back_over = False

    @property
    def last(self) -> tuple[int, int]:
        """(epoch, seq) of the last own announcement that is known."""
        return self._last

    @property
    def is_muted(self) -> bool:
        """Whether another node speaks with this key, or its key is convicted, so that this one must not speak."""
        return self._muted or self._registry.is_convicted(self._registry.me)

    def say(self, statement: OwnStatement, now_ms: int) -> list[Entry]:
        """Announce a statement, or queue it until the own order is known. Returns what is to be told."""
        if isinstance(statement, MirrorStatement) and not self._options.url:
            return []  # nobody could fetch from here (R97)
        if self._ready_by_ms is None:
            return self._announce(statement, now_ms)
        key = (statement.kind, statement.subject)
        if key not in self._waiting and len(self._waiting) >= statements_waiting_max:
            if not self._overflowed:
                self._overflowed = True
                self._alert(
                    "too-many-statements", "more statements were made at the start than can wait; some were lost"
                )
            return []
        self._waiting[key] = statement
        return []

    def relations_changed(self, now_ms: int) -> None:
        """Pins or sponsored nodes changed: say so within a second."""
        self._node_due_ms = earliest(self._node_due_ms, now_ms + node_change_wait_ms)

    def clock_set_back(self, now_ms: int) -> None:
        """What was planned lies too far ahead, and the node announcement may lie where nobody takes it in yet."""
        if self._ready_by_ms is not None:
            self._ready_by_ms = min(self._ready_by_ms, now_ms + read_back_ms_max)
        self.relations_changed(now_ms)

    def settle(self, now_ms: int, *, links_pending: bool) -> list[Entry]:
        """Do what is due: begin to speak, renew the node announcement. Returns what is to be told."""
        if (self._read_back and not self._read_back_over) or self._ready_by_ms is not None:
            self._end_reading_back(now_ms, links_pending)
        if self._ready_by_ms is not None:
            return []
        told: list[Entry] = []
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            for statement in waiting.values():
                told += self._announce(statement, now_ms)
        if self._node_due_ms is not None and now_ms >= self._node_due_ms:
            self._node_due_ms = now_ms + node_renewal_ms
            told += self._announce(self._node_statement(), now_ms)
        return told

    @property
    def wake_at(self) -> int | None:
        """When `settle` has something to do next."""
        if self.is_muted:
            return None
        return self._node_due_ms if self._ready_by_ms is None else self._ready_by_ms

    # Reading back.

    def linked(self, peer: bytes, url: str, now_ms: int) -> None:
        """A link was made: ask what this neighbour remembers of us, if that is not known yet."""
        if self._first_link and self._ready_by_ms is not None:
            self._first_link = False
            self._ready_by_ms = now_ms + read_back_ms_max
        if url and not self._read_back_over and peer not in self._asked and len(self._asked) < read_back_peers_max:
            self._ask(peer, url, b"", now_ms)

    def answered(self, in_flight: InFlight, url: str, answer: SnapshotAnswer, now_ms: int) -> None:
        """A page of own announcements came (they were taken in before)."""
        peer = in_flight.peer
        self._pages[peer] = self._pages.get(peer, 0) + 1
        if answer.after and url and self._pages[peer] < read_back_pages_max:
            self._ask(peer, url, answer.after, now_ms)
            return
        self._asked[peer] = None
        self._read_back += 1

    def failed(self, in_flight: InFlight) -> None:
        """A neighbour did not answer a request: if it was one of this module's, another one may be asked instead."""
        if self._asked.get(in_flight.peer) == in_flight.request_id:
            del self._asked[in_flight.peer]

    def found(self, announcements: Iterable[AcceptedAnnouncement], now_ms: int) -> list[Entry]:
        """Others hold these, signed with this node's key. Returns those that had been lost here: to be told."""
        told: list[Entry] = []
        for announcement in announcements:
            place = (announcement.epoch, announcement.seq)
            if self._registry.knows(announcement.id):
                continue
            if place > self._last:
                if self._read_back_over and self._started_ms < announcement.seq <= now_ms + future_ms_max:
                    self._met_newer(now_ms)
                self._last = place
                self._begin_epoch(now_ms)
            if announcement.seq > now_ms + future_ms_max:
                continue  # said with a clock that was ahead; when its time has come it is found at others
            kept = self._kept(self._intake.keep(announcement))
            if kept and announcement.kind is Kind.NODE:
                self.relations_changed(now_ms)  # it stands above what was said since the start, and is out of date
            told += kept
        return told

    def _ask(self, peer: bytes, url: str, after: bytes, now_ms: int) -> None:
        request = SnapshotRequest(after, self._registry.me)
        self._asked[peer] = self._outgoing.request(peer, url, request, now_ms)

    def _end_reading_back(self, now_ms: int, links_pending: bool) -> None:
        under_way = any(request is not None for request in self._asked.values())
        if self._read_back and not under_way and (self._read_back >= read_back_peers_max or not links_pending):
            self._read_back_over = True
            self._ready_by_ms = None
        if self._ready_by_ms is not None and now_ms >= self._ready_by_ms:
            self._ready_by_ms = None

    def _met_newer(self, now_ms: int) -> None:
        """R35: it may have been lost here, if a clock was wrong; who goes beyond what is said then is somebody else."""
        if not self._outdone:
            self._outdone = True
            self.relations_changed(now_ms)  # told in the epoch that begins now
        elif not self._muted:
            self._muted = True
            sentence = "another node announces with this node's key; this one stays silent until it is restarted alone"
            self._alert("two-nodes-one-key", sentence)

    # Speaking.

    def _begin_epoch(self, now_ms: int) -> None:
        """From now on what was said before proves nothing together with what will be said (R29)."""
        known, last_seq = self._last
        epoch = new_epoch(known, now_ms, self._rng.getrandbits(epoch_random_bits))
        self._last = (epoch, last_seq if _within_clock(last_seq, now_ms) else 0)
        self._said.clear()

    def _announce(self, statement: Statement, now_ms: int) -> list[Entry]:
        if self.is_muted:
            return []
        if not _within_clock(self._last[1], now_ms) or len(self._said) >= own_versions_remembered_max:
            self._begin_epoch(now_ms)
        epoch, last_seq = self._last
        seq = max(last_seq + 1, now_ms)
        try:
            announcement = self._sign(self._key, self._mesh, self._naming_first(statement), epoch, seq)
        except Refusal as refusal:
            self._alert(
                "statement-refused", f"{statement.kind} {statement.subject} is not announced: {refusal.sentence}"
            )
            return []
        self._last = (epoch, seq)
        self._remember(announcement)
        outcome = self._intake.keep(announcement)
        if outcome.verdict is Verdict.NOT_TAKEN and not self._over_cap:
            self._over_cap = True
            self._alert(
                "too-many-announcements", "this node announces more than one node may; others do not hear of the rest"
            )
        return self._kept(outcome)

    def _kept(self, outcome: Outcome) -> list[Entry]:
        if outcome.graph_changed:
            self._intake.note_change(self._registry.readmit())
        return [] if outcome.entry is None else [outcome.entry]

    def _naming_first(self, statement: Statement) -> Statement:
        """A version is write-once: other bytes than announced before name the announcement that they replace (R30).

        What this epoch said decides whether it would prove something; what the set has of before is named all the same.
        """
        if not isinstance(statement, VersionStatement):
            return statement
        said = self._said.get(statement.subject)
        if said is not None and said.sha256 != statement.sha256:
            return replace(statement, replaces=said.first)
        slot = self._registry.slot(self._registry.me, statement.kind, statement.subject)
        changes = slot is not None and any(one.content != statement.sha256 for one in slot.entries)
        return replace(statement, replaces=slot.first.id if slot is not None and changes else b"")

    def _remember(self, announcement: AcceptedAnnouncement) -> None:
        if announcement.kind is not Kind.VERSION:
            return
        said = self._said.get(announcement.subject)
        if said is None:
            self._said[announcement.subject] = _Said(announcement.id, announcement.content)
        elif said.sha256 != announcement.content:
            self._said[announcement.subject] = _Said(said.first, None)

    def _node_statement(self) -> NodeStatement:
        count, root = self._registry.beside_node(self._registry.me)
        pins, sponsored = self._relations()
        return NodeStatement(
            url=self._options.url,
            software=self._options.software,
            features=self._options.features,
            pins=tuple(sorted(pins)[:pins_max]),
            sponsored=sponsored,
            count=count,
            root=root,
        )

    def _alert(self, kind: str, sentence: str) -> None:
        self._outgoing.add(RaiseAlert(kind, sentence))


def _within_clock(seq: int, now_ms: int) -> bool:
    """Whether it does not lie so far ahead that it must come from a wrong clock."""
    return seq <= now_ms + clock_behind_ms_max
