"""Taking in what others say: raw announcements go through the one door, and into the set, or aside.

Everything received passes `acceptance.accept`, whoever sent it; what is kept is kept before anybody is told. What a
node's own key signed is not judged here but handed back (own_announcements.py). Early announcements wait in memory
until their time has come. An author that says more than its rate is not refused: what comes faster is not taken from
a push, and is found by reconciliation. Who is found to have told two stories is convicted at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from pfn_protocol.acceptance import accept
from pfn_protocol.announcements import DECIDE_ADMISSION, AcceptedAnnouncement, Conviction, Kind
from pfn_protocol.effects import ChangeAdmission, DropAnnouncements, KeepAnnouncement, KeepConviction, RaiseAlert
from pfn_protocol.equivocation import topic_of
from pfn_protocol.errors import Parked, Refusal, Severity
from pfn_protocol.identity import did_key, short_did
from pfn_protocol.limits import (
    author_burst_max,
    author_rate_per_second,
    author_rates_max,
    future_max,
    future_ms_max,
    future_per_author_max,
    seen_envelopes_max,
)
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.registry import AdmissionChange, Outcome, Registry, Verdict
from pfn_protocol.slots import Entry, entry_of


class Accept(Protocol):
    """`acceptance.accept`, or what a simulator has in its place."""

    def __call__(self, raw: bytes, *, mesh: str, now_ms: int) -> AcceptedAnnouncement: ...


@dataclass(slots=True)
class Taken:
    """What came of a handful of announcements."""

    fresh: list[Entry] = field(default_factory=list)  # new in the set: to be told
    made: list[Entry] = field(default_factory=list)  # convictions made here: to be told to everybody
    convicted: list[bytes] = field(default_factory=list)  # authors that were proved guilty
    counted: list[bytes] = field(default_factory=list)  # authors that stated how much they have announced
    delivered: dict[bytes, bool] = field(default_factory=dict)  # every valid one, and whether it came into the set
    own: list[AcceptedAnnouncement] = field(default_factory=list)  # signed with this node's key
    addresses: list[tuple[bytes, str]] = field(default_factory=list)  # of nodes that announced themselves
    left: list[bytes] = field(default_factory=list)  # nodes that said that they leave
    faults: int = 0
    hostile: Refusal | None = None
    widened: bool = False  # authors were admitted, or may fill more slots


class Intake:
    """The way of an announcement from the wire into the set."""

    def __init__(self, registry: Registry, outgoing: Outgoing, mesh: str, accept: Accept = accept) -> None:
        self._accept_raw = accept
        self._registry = registry
        self._outgoing = outgoing
        self._mesh = mesh
        self._seen: dict[bytes, bytes] = {}  # SHA-256 of the envelope -> id: the same bytes are verified once
        self._future: dict[bytes, AcceptedAnnouncement] = {}
        self._rates: dict[bytes, tuple[float, int]] = {}  # author -> what is left of the burst, and when that was

    @property
    def waiting(self) -> int:
        """How many announcements wait for their time."""
        return len(self._future)

    def take(self, raws: Iterable[bytes], now_ms: int, *, pushed: bool) -> Taken:
        """Take in what a peer sent. Node announcements go first, since they decide who is admitted."""
        taken = Taken()
        accepted = [one for raw in raws if (one := self._accept(raw, now_ms, taken)) is not None]
        self._judge_all(accepted, now_ms, taken, pushed=pushed)
        return taken

    def take_due(self, now_ms: int) -> Taken:
        """Take in what lay in the future until now."""
        taken = Taken()
        due = [one for one in self._future.values() if one.seq - future_ms_max <= now_ms]
        for announcement in due:
            del self._future[announcement.id]
        self._judge_all(due, now_ms, taken, pushed=False)
        return taken

    @property
    def next_due_ms(self) -> int | None:
        """When `take_due` has something to do next."""
        return min(one.seq - future_ms_max for one in self._future.values()) if self._future else None

    def expire(self, now_ms: int) -> None:
        """Take out what has outlived its lifetime, and whom only that admitted."""
        dropped, graph_changed = self._registry.expire(now_ms)
        self._drop(dropped)
        if graph_changed:
            self.note_change(self._registry.readmit())

    def withdraw_early(self, now_ms: int) -> None:
        """Take out what others said in the future, now that the clock shows less (R135)."""
        self._drop(self._registry.withdraw_early(now_ms))

    def note_change(self, change: AdmissionChange) -> bool:
        """Report what a new judgement of admission changed. Returns whether neighbours may have more now."""
        if change.admitted or change.parked:
            self._outgoing.add(ChangeAdmission(change.admitted, change.parked))
        self._drop(change.dropped)
        return change.widened

    def keep(self, announcement: AcceptedAnnouncement) -> Outcome:
        """Offer an accepted announcement to the set, and have it kept if it stands there or is parked."""
        outcome = self._registry.offer(entry_of(announcement))
        if outcome.verdict in (Verdict.IN_SET, Verdict.PARKED):
            self._outgoing.add(KeepAnnouncement(announcement, outcome.verdict is Verdict.IN_SET))
        elif outcome.verdict is Verdict.CONTRADICTS:
            self._outgoing.add(KeepAnnouncement(announcement, admitted=False))
            self._outgoing.add(KeepConviction(outcome.contradicted, announcement.id))
            self._drop([announcement.id])
        self._drop(outcome.dropped)
        if outcome.entry is not None and outcome.entry.kind is Kind.CONVICTION:
            self._alert_conviction(announcement)
        return outcome

    def _accept(self, raw: bytes, now_ms: int, taken: Taken) -> AcceptedAnnouncement | None:
        fingerprint = sha256(raw).digest()
        known = self._seen.get(fingerprint)
        if known is not None and (self._registry.knows(known) or known in self._future):
            taken.delivered[known] = False
            return None
        try:
            announcement = self._accept_raw(raw, mesh=self._mesh, now_ms=now_ms)
        except Parked as early:
            self._remember(fingerprint, early.announcement.id)
            self._wait(early.announcement, taken)
            return None
        except Refusal as refusal:
            if refusal.severity is Severity.HOSTILE:
                taken.hostile = refusal
            elif refusal.severity is Severity.FAULTY:
                taken.faults += 1
            return None
        self._remember(fingerprint, announcement.id)
        return announcement

    def _remember(self, fingerprint: bytes, announcement_id: bytes) -> None:
        if len(self._seen) >= seen_envelopes_max:
            del self._seen[next(iter(self._seen))]
        self._seen[fingerprint] = announcement_id

    def _wait(self, announcement: AcceptedAnnouncement, taken: Taken) -> None:
        """Its time has not come. This node's own is handed back all the same: it says where the own order stands."""
        taken.delivered[announcement.id] = False
        if announcement.author == self._registry.me:
            taken.own.append(announcement)
            return
        of_author = sum(one.author == announcement.author for one in self._future.values())
        if len(self._future) < future_max and of_author < future_per_author_max:
            self._future[announcement.id] = announcement

    def _judge_all(self, accepted: list[AcceptedAnnouncement], now_ms: int, taken: Taken, *, pushed: bool) -> None:
        own = [one for one in accepted if one.author == self._registry.me]
        taken.own += own
        taken.delivered.update({one.id: not self._registry.knows(one.id) for one in own})
        others = [one for one in accepted if one.author != self._registry.me]
        graph_changed = False
        for announcement in [one for one in others if one.kind in DECIDE_ADMISSION]:
            graph_changed = self._judge(announcement, now_ms, taken, pushed=pushed) or graph_changed
        if graph_changed:
            taken.widened = self.note_change(self._registry.readmit()) or taken.widened
        graph_changed = False
        for announcement in [one for one in others if one.kind not in DECIDE_ADMISSION]:
            graph_changed = self._judge(announcement, now_ms, taken, pushed=pushed) or graph_changed
        if graph_changed:
            self.note_change(self._registry.readmit())

    def _judge(self, announcement: AcceptedAnnouncement, now_ms: int, taken: Taken, *, pushed: bool) -> bool:
        """Returns whether it changed whom its author pins or sponsors."""
        if self._registry.knows(announcement.id):
            taken.delivered[announcement.id] = False
            return False
        is_conviction = announcement.kind is Kind.CONVICTION
        if pushed and not is_conviction and not self._within_rate(announcement.author, now_ms):
            return False
        outcome = self.keep(announcement)
        taken.delivered[announcement.id] = outcome.verdict is Verdict.IN_SET
        entry = outcome.entry
        if entry is not None:
            (taken.fresh if entry.id == announcement.id else taken.made).append(entry)
            self._note_node(entry, taken)
            if entry.kind is Kind.CONVICTION:
                taken.convicted.append(entry.author)
        return outcome.graph_changed

    @staticmethod
    def _note_node(entry: Entry, taken: Taken) -> None:
        if entry.node is None:
            return
        taken.counted.append(entry.author)
        if entry.node.left:
            taken.left.append(entry.author)
        elif entry.node.url:
            taken.addresses.append((entry.author, entry.node.url))

    def _within_rate(self, author: bytes, now_ms: int) -> bool:
        left, since_ms = self._rates.pop(author, (float(author_burst_max), now_ms))
        left = min(float(author_burst_max), left + max(0, now_ms - since_ms) * author_rate_per_second / 1_000)
        allowed = left >= 1
        if len(self._rates) >= author_rates_max:
            del self._rates[next(iter(self._rates))]
        self._rates[author] = (left - 1 if allowed else left, now_ms)
        return allowed

    def _alert_conviction(self, announcement: AcceptedAnnouncement) -> None:
        """`announcement` is the conviction, or what led to it. An author is convicted once."""
        statement = announcement.statement
        told = statement.told if isinstance(statement, Conviction) else topic_of(announcement)
        author = short_did(did_key(announcement.author))
        sentence = f"node {author} told two stories about {told}: it is convicted, and its word counts for nothing"
        if announcement.author == self._registry.me:
            sentence = (
                f"this node's own key told two stories about {told}, so another process speaks with it: it is "
                "convicted for good, and this node stays silent; it needs a new key"
            )
        self._outgoing.add(RaiseAlert("convicted", sentence))

    def _drop(self, ids: Iterable[bytes]) -> None:
        unique = tuple(dict.fromkeys(ids))
        if unique:
            self._outgoing.add(DropAnnouncements(unique))
