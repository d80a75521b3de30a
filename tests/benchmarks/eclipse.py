"""One real machine among four times as many attackers as honest nodes, restarted again and again: is it eclipsed?

The victim is a whole `Mesh`, performed by the simulator's own actor, which keeps over a restart what the machine asked
it to. Everybody else only answers it, without a machine, so that a trial of hours takes a fraction of a second.

- The victim joined (and so pinned) one honest node, which is away half of the time. It is restarted `RESTARTS` times,
  every second time while that node is away.
- Other honest nodes were infiltrated: their views name nodes of both kinds as they are. They are away now and then,
  are often full, and never ask the victim for a link themselves. What they know they tell in their answers.
- Attackers are never away and say yes to everybody. They take every inbound place as soon as it is free, their views
  name only attackers, and they never pass anything on. In the worst case each has a network of its own.

Counted is whether the victim's machine holds a link, of any kind, to an honest node that is there and agrees: at the
end of the trial, whoever is away then ("kept"); some minutes after each restart; and by the minute, for the gaps.
The joined node may have gone in the trial's last minute, which no machine can have noticed by then: so it is also
counted whether there is a link within `GRACE_MINUTES` more, in which nobody comes back ("kept_in_5_minutes").
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from pfn_node.simulation.actor import Node
from pfn_node.simulation.network import Network
from pfn_node.simulation.world import MESH, key_of, version_statement
from pfn_protocol.acceptance import announce
from pfn_protocol.effects import SendAnswer
from pfn_protocol.events import Event, RequestReceived
from pfn_protocol.limits import link_full_back_off_seconds, view_sample_max
from pfn_protocol.messages import (
    Answer,
    AuthorsAnswer,
    AuthorsRequest,
    FetchAnswer,
    FetchRequest,
    GossipAnswer,
    GossipRequest,
    LinkAnswer,
    LinkRequest,
    PeerAddress,
    RefusedAnswer,
    Request,
    SnapshotAnswer,
)
from pfn_protocol.peers import RULE_NOT_LINKED

TRIALS = 1_000
BAR = 0.999
MINUTE_MS = 60_000
HONEST = 20
HOURS = 6
RESTARTS = 5
# How long after a restart, and after the joined node's return, a link must stand: a back-off and its jitter, and more.
SETTLE_MINUTES = 10
# A node that is gone is noticed after three statuses without an answer; then others are looked for within a minute.
GRACE_MINUTES = 5
# The release is announced so long before the end.
NEWS_MINUTES = 60
# Statuses go to and fro this often: rarer than in production, so that a trial is short; the links are as real.
STATUS_MS = 60_000
# The chance that an honest node is full.
REFUSES = 0.3
# How long an honest node is there and away, and the joined one; means in minutes.
STAYS, AWAY = 180, 30
JOINED_STAYS, JOINED_AWAY = 60, 60
# How often the attackers look for an inbound place that is free.
KNOCK_MS = 10_000
# The domains of attackers that share some.
SHARED_DOMAINS = 8

Row = dict[str, float | int | str]


@dataclass(frozen=True, slots=True)
class Variant:
    """What a trial is like."""

    name: str
    honest: int = HONEST
    attackers_per_honest: int = 4
    shares_domains: bool = False
    joined_leaves: bool = False  # after an hour, for ever
    bar: float | None = None  # None: for information

    @property
    def attackers(self) -> int:
        return self.attackers_per_honest * self.honest


VARIANTS = (
    Variant("4:1, networks of their own", bar=BAR),
    Variant("4:1, shared networks", shares_domains=True, bar=BAR),
    Variant("4:1, 500 nodes, more than the victim can know", honest=100),
    Variant("4:1, the joined node leaves for ever", joined_leaves=True),
    Variant("10:1", attackers_per_honest=10),
    Variant("10:1, the joined node leaves for ever", attackers_per_honest=10, joined_leaves=True),
)


@dataclass
class Outcome:
    """How one trial went."""

    seed: int
    kept: bool = False  # an honest link at the end
    kept_soon: bool = False  # or within `GRACE_MINUTES` after it
    has_news: bool = False  # the release is known at the end
    worst_gap_minutes: int = 0  # the longest time without an honest link while the victim ran
    minutes: int = 0  # that the victim ran
    minutes_without: int = 0
    restarts: int = 0
    restarts_kept: int = 0  # with an honest link after `SETTLE_MINUTES`
    returns: int = 0  # of the joined node, after which it and the victim stayed for `SETTLE_MINUTES`
    returns_kept: int = 0


@dataclass(eq=False)
class Stranger(Node):
    """A node without a machine: it only answers, and never asks by itself."""

    trial: "Trial | None" = None
    is_linked_to_victim: bool = False

    def start(self) -> None:
        self.up = True
        self.incarnation += 1

    def crash(self, *, silently: bool = False) -> None:
        super().crash(silently=silently)
        self.is_linked_to_victim = False

    def report(self, event: Event) -> None:
        if self.up and isinstance(event, RequestReceived):
            self.network.carry_answer(self, SendAnswer(event.token, self.answer(event.message)))

    def answer(self, request: Request) -> Answer:
        match request:
            case LinkRequest():
                self.is_linked_to_victim = self.is_linked_to_victim or self.agrees()
                seconds = 0 if self.is_linked_to_victim else link_full_back_off_seconds
                return LinkAnswer(self.is_linked_to_victim, seconds, self.view(), ())
            case _ if not self.is_linked_to_victim:
                return RefusedAnswer(RULE_NOT_LINKED, "there is no link between us; ask for one first", self.now_ms)
            case GossipRequest():
                return GossipAnswer(self.news(), (), None)
            case FetchRequest():
                return FetchAnswer((), request.ids)
            case AuthorsRequest():
                return AuthorsAnswer((), False)
            case _:
                return SnapshotAnswer((), b"")

    def agrees(self) -> bool:
        """Whether it takes one more link."""
        return True

    def view(self) -> tuple[PeerAddress, ...]:
        assert self.trial is not None, "it takes part in a trial"
        return self.trial.sample(self, self.trial.hostile)

    def news(self) -> tuple[bytes, ...]:
        return ()


class Honest(Stranger):
    """It knows as many attackers as there are, and what was released."""

    def agrees(self) -> bool:
        assert self.trial is not None, "it takes part in a trial"
        return self is self.trial.joined or self.trial.dice.random() >= REFUSES

    def view(self) -> tuple[PeerAddress, ...]:
        assert self.trial is not None, "it takes part in a trial"
        return self.trial.sample(self, self.trial.honest + self.trial.hostile)

    def news(self) -> tuple[bytes, ...]:
        assert self.trial is not None, "it takes part in a trial"
        return self.trial.releases


class Trial:
    """One victim's hours."""

    def __init__(self, variant: Variant, seed: int, hours: int = HOURS) -> None:
        self.variant = variant
        self.minutes = hours * 60
        self.outcome = Outcome(seed)
        self.dice = Random(f"eclipse {seed}")
        self.network = Network(seed, sealed=False, status_every_ms=STATUS_MS, self_announcing=False)
        self.network.records = False
        self.honest = [self._stranger(Honest, f"honest-{number}", "") for number in range(variant.honest)]
        domains = [f".evil-{number}" if variant.shares_domains else "" for number in range(SHARED_DOMAINS)]
        self.hostile = [
            self._stranger(Stranger, f"hostile-{number}", domains[number % SHARED_DOMAINS])
            for number in range(variant.attackers)
        ]
        self.joined = self.honest[0]
        self.victim = self.network.node("victim")
        self.releases: tuple[bytes, ...] = ()
        self._is_running_since = 0
        self._joined_since: int | None = None
        self._gap = 0

    def _stranger(self, kind: type[Stranger], name: str, domain: str) -> Stranger:
        node = kind(self.network, name, f"http://{name}{domain}.test", key_of(name), trial=self)
        self.network.nodes[name] = node
        self.network._by_url[node.url] = node
        node.start()
        return node

    def sample(self, speaker: Node, nodes: "list[Stranger]") -> tuple[PeerAddress, ...]:
        """A view of some of these."""
        chosen = self.dice.sample(nodes, view_sample_max)
        return tuple(PeerAddress(one.id, one.url) for one in chosen if one is not speaker)

    # The course of things.

    def play(self) -> Outcome:
        """Let the hours pass, minute by minute."""
        away = self._absences()
        restarts = self._restarts(away[0])
        self.victim.pin(self.joined)
        self.victim.join(self.joined)
        self._knock()
        for minute in range(1, self.minutes + 1):
            self.network.elapse(seconds=60)
            for node, spans in zip(self.honest, away, strict=True):
                self._let_come_and_go(node, any(start <= minute < end for start, end in spans), minute)
            if minute in restarts:
                self._stop()
            elif minute - 1 in restarts:
                self._start(minute)
            if minute == self.minutes - NEWS_MINUTES:
                self.releases = (
                    announce(self.joined.key, MESH, version_statement("news"), 0, self.network.now_ms).raw,
                )
            self._look(minute)
        self.outcome.has_news = self.victim.has_seen("news")
        self.outcome.kept = self._is_kept()
        self.outcome.kept_soon = self.network.comes_about(self._is_kept, seconds=60 * GRACE_MINUTES, look=10)
        return self.outcome

    def _absences(self) -> list[list[tuple[int, int]]]:
        """When each honest node is away, in minutes; the joined one first."""
        joined = self._spans(JOINED_STAYS, JOINED_AWAY, first=SETTLE_MINUTES)
        if self.variant.joined_leaves:
            joined = [(60, self.minutes + 1)]
        return [joined, *(self._spans(STAYS, AWAY, first=0) for _ in self.honest[1:])]

    def _spans(self, stays: int, away: int, *, first: int) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        minute = first + 1 + int(self.dice.expovariate(1 / stays))
        while minute <= self.minutes:
            end = minute + 1 + int(self.dice.expovariate(1 / away))
            spans.append((minute, end))
            minute = end + 1 + int(self.dice.expovariate(1 / stays))
        return spans

    def _restarts(self, joined_away: list[tuple[int, int]]) -> frozenset[int]:
        """The minutes in which the victim is stopped, to start again in the next: every second one without its node."""
        possible = range(2 * SETTLE_MINUTES, self.minutes - SETTLE_MINUTES)
        lonely = [minute for minute in possible if any(start <= minute < end for start, end in joined_away)]
        moments = self.dice.sample(possible, RESTARTS - RESTARTS // 2)
        moments += self.dice.sample(lonely, min(len(lonely), RESTARTS // 2))
        return frozenset(moments)

    def _let_come_and_go(self, node: Stranger, is_away: bool, minute: int) -> None:
        if node.up and is_away:
            node.crash(silently=self.dice.random() < 0.5)
        elif not (node.up or is_away):
            node.start()
            if node is self.joined:
                self._joined_since = minute
        if node is self.joined and is_away:
            self._joined_since = None

    def _stop(self) -> None:
        self.victim.crash()
        for node in self.honest + self.hostile:
            node.is_linked_to_victim = False

    def _start(self, minute: int) -> None:
        self.victim.start()
        self._is_running_since = minute
        self._fill()

    def _knock(self) -> None:
        self._fill()
        self.network.later(KNOCK_MS, self._knock)

    def _fill(self) -> None:
        """Attackers take inbound places until there is none."""
        strangers = [node for node in self.hostile if not self._has_link(node)]
        self.dice.shuffle(strangers)
        for node in strangers:
            if not self.victim.up or not self._takes_place(node):
                return

    def _takes_place(self, node: Stranger) -> bool:
        answers: list[Answer] = []
        request = LinkRequest(node.url, node.view(), ())
        self.victim.report(RequestReceived(self.network.reply_to(answers.append), node.id, request))
        is_taken = all(isinstance(answer, LinkAnswer) and answer.accepted for answer in answers)
        node.is_linked_to_victim = node.is_linked_to_victim or is_taken
        return is_taken

    # What is counted.

    def _has_link(self, node: Stranger) -> bool:
        peer = self.victim.mesh._peers.find(node.id)
        return peer is not None and peer.linked and node.up and node.is_linked_to_victim

    def _is_kept(self) -> bool:
        return self.victim.up and any(self._has_link(node) for node in self.honest)

    def _look(self, minute: int) -> None:
        """Once a minute."""
        if not self.victim.up:
            return
        outcome, is_kept = self.outcome, self._is_kept()
        outcome.minutes += 1
        outcome.minutes_without += not is_kept
        self._gap = 0 if is_kept else self._gap + 1
        outcome.worst_gap_minutes = max(outcome.worst_gap_minutes, self._gap)
        if self._is_running_since and minute == self._is_running_since + SETTLE_MINUTES:
            outcome.restarts += 1
            outcome.restarts_kept += is_kept
        together_since = max(self._joined_since or self.minutes, self._is_running_since)
        if minute == together_since + SETTLE_MINUTES:
            outcome.returns += 1
            outcome.returns_kept += is_kept


def run(
    trials: int = TRIALS,
    first_seed: int = 1,
    report: Callable[[str], object] = sys.stderr.write,
    variants: Iterable[Variant] = VARIANTS,
) -> list[Row]:
    """Play the trials of every variant; one row for each. `report` is told of each that failed."""
    rows: list[Row] = []
    for variant in variants:
        outcomes = [Trial(variant, seed).play() for seed in range(first_seed, first_seed + trials)]
        for one in outcomes:
            if variant.bar is not None and not one.kept:
                replay = f"scripts/bench eclipse --trials 1 --first-seed {one.seed}"
                report(f"{variant.name}: seed {one.seed} ended without an honest link; {replay}\n")
        rows.append(_row(variant, outcomes))
    return rows


def _row(variant: Variant, outcomes: list[Outcome]) -> Row:
    total = len(outcomes)
    restarts, returns = sum(one.restarts for one in outcomes), sum(one.returns for one in outcomes)
    kept = sum(one.kept for one in outcomes) / total
    return {
        "attackers": variant.name,
        "trials": total,
        "seeds": f"{outcomes[0].seed} to {outcomes[-1].seed}",
        "kept": round(kept, 4),
        "bar": "for information" if variant.bar is None else f">= {variant.bar}",
        "met": "" if variant.bar is None else "yes" if kept >= variant.bar else "no",
        f"kept_in_{GRACE_MINUTES}_minutes": round(sum(one.kept_soon for one in outcomes) / total, 4),
        "news": round(sum(one.has_news for one in outcomes) / total, 4),
        "after_restarts": _share(sum(one.restarts_kept for one in outcomes), restarts),
        "after_returns": _share(sum(one.returns_kept for one in outcomes), returns),
        "time_without": round(sum(one.minutes_without for one in outcomes) / sum(one.minutes for one in outcomes), 4),
        "worst_gap_minutes": max(one.worst_gap_minutes for one in outcomes),
        "failed_seeds": " ".join(str(one.seed) for one in outcomes if not one.kept),
    }


def _share(part: int, whole: int) -> float | str:
    return round(part / whole, 4) if whole else "none"
