"""Two reconciliation machines that talk directly: no links, no gossip, and a hook for every answer that is a lie."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from pfn_node.simulation.world import START_MS
from pfn_protocol.effects import BuildPrefix, DecodeCells, SendAnswer, SendRequest
from pfn_protocol.events import CellsDecoded, PrefixBuilt
from pfn_protocol.identity import PrivateKey
from pfn_protocol.link_secrets import LinkSecrets
from pfn_protocol.messages import (
    Answer,
    AuthorsAnswer,
    AuthorsRequest,
    CellsAnswer,
    CellsRequest,
    FetchAnswer,
    FetchRequest,
    IdsAnswer,
    IdsRequest,
    LinkAnswer,
    LinkRequest,
    RefusedAnswer,
    Request,
    SnapshotAnswer,
    SnapshotRequest,
)
from pfn_protocol.outgoing import InFlight, Outgoing
from pfn_protocol.reconciliation import Reconciliation
from pfn_protocol.registry import Registry
from pfn_protocol.sketch import build_cells
from pfn_protocol.slots import Entry
from tests.protocol.sets import ALICE, BOB, CAROL, fake_versions

_tokens = count(1_000_000)
Lie = Callable[[Request, Answer], Answer | None]
AUTHORS = (ALICE, BOB, CAROL)


@dataclass
class Party:
    """One side, with what a mesh around it would do."""

    key: PrivateKey
    admits: Sequence[PrivateKey] = AUTHORS
    takes: Callable[[Entry], bool] = lambda entry: True
    lie: Lie = lambda request, answer: answer
    outgoing: Outgoing = field(default_factory=Outgoing)
    offered: list[bytes] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    builds: list[BuildPrefix] = field(default_factory=list)
    holds_builds: bool = False
    shunned: bool = False  # the other side answered with a page that no honest one gives
    decodes: list[DecodeCells] = field(default_factory=list)
    replies: dict[int, InFlight] = field(default_factory=dict)
    said: dict[int, Answer] = field(default_factory=dict)
    known: dict[bytes, Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.registry = Registry(self.key.public, [key.public for key in self.admits if key is not self.key])
        self.secrets = LinkSecrets(Random(self.key.public))
        self.machine = Reconciliation(
            self.registry, self.outgoing, self.secrets, lambda peer, ids: self.offered.extend(ids), has_url=True
        )

    @property
    def id(self) -> bytes:
        return self.key.public

    def hold(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.known[entry.id] = entry
            self.registry.offer(entry)

    def drop(self, entries: Iterable[Entry]) -> None:
        """These leave the set, as if their lifetime were over."""
        for entry in entries:
            self.registry._shares[entry.author].expire(entry)
        self.registry._leave(entries)

    def ask(self, other: "Party", message: Request, now_ms: int = START_MS) -> Answer | None:
        """Ask by hand; None: the answer waits."""
        token = next(_tokens)
        other.answer(self.id, token, message, now_ms)
        other.perform(self, now_ms)
        return other.said.get(token)

    def answer(self, asker: bytes, token: int, message: Request, now_ms: int) -> None:
        if isinstance(message, CellsRequest):
            self.machine.asked_for_cells(asker, token, message, now_ms)
            return
        assert isinstance(message, FetchRequest | AuthorsRequest | IdsRequest | SnapshotRequest)
        answer, bodies = self.machine.asked(asker, message, ())
        if isinstance(answer, FetchAnswer):
            answer = FetchAnswer(bodies, answer.missing)
        elif isinstance(answer, SnapshotAnswer):
            answer = SnapshotAnswer(bodies, answer.after)
        self.outgoing.add(SendAnswer(token, answer))

    def perform(self, other: "Party", now_ms: int) -> None:
        """Do what the machine decided, until it decides nothing more."""
        while effects := self.outgoing.drain():
            for effect in effects:
                if isinstance(effect, BuildPrefix):
                    self.builds.append(effect)
                    if not self.holds_builds:
                        self.build(effect, now_ms)
                elif isinstance(effect, DecodeCells):
                    self.decodes.append(effect)
                    difference = effect.cells.decode(effect.salt)
                    self.machine.computed(CellsDecoded(effect.decode_id, difference), now_ms)
                elif isinstance(effect, SendRequest):
                    self._request(effect, other, now_ms)
                elif isinstance(effect, SendAnswer):
                    self.said[effect.token] = effect.message
                    if effect.token in other.replies:
                        other.take(other.replies.pop(effect.token), effect.message, self, now_ms)
                        other.perform(self, now_ms)

    def build(self, effect: BuildPrefix, now_ms: int) -> None:
        cells = build_cells(effect.ids, effect.without, effect.salt, effect.length)
        self.machine.computed(PrefixBuilt(effect.build_id, cells), now_ms)

    def _request(self, effect: SendRequest, other: "Party", now_ms: int) -> None:
        self.asked.append(effect.message)
        in_flight = self.outgoing.take(effect.request_id, effect.peer)
        assert in_flight is not None
        self.replies[effect.request_id] = in_flight
        other.answer(self.id, effect.request_id, effect.message, now_ms)
        other.perform(self, now_ms)

    def take(self, in_flight: InFlight, honest: Answer, other: "Party", now_ms: int) -> None:
        answer = self.lie(in_flight.message, honest)
        match answer:
            case CellsAnswer():
                self.machine.answered_cells(in_flight, answer, now_ms)
            case AuthorsAnswer():
                self._judge(self.machine.answered_authors(in_flight, answer, now_ms))
            case IdsAnswer():
                self._judge(self.machine.answered_ids(in_flight, answer, now_ms))
            case FetchAnswer():
                self.machine.fetched(in_flight, answer.missing, self._came(answer.announcements, other), now_ms)
            case SnapshotAnswer():
                delivered = self._came(answer.announcements, other)
                self._judge(self.machine.answered_snapshot(in_flight, answer.after, delivered, now_ms))
            case RefusedAnswer():
                self.machine.failed(in_flight, answer.rule, now_ms)
            case _:
                self.machine.failed(in_flight, "", now_ms)

    def _judge(self, goes_on: bool) -> None:
        self.shunned = self.shunned or not goes_on

    def _came(self, ids: Iterable[bytes], other: "Party") -> dict[bytes, bool]:
        delivered: dict[bytes, bool] = {}
        for one in ids:
            delivered[one] = not self.registry.knows(one) and self.takes(other.known[one])
            if delivered[one]:
                self.hold([other.known[one]])
        return delivered

    def compare(self, other: "Party", now_ms: int) -> None:
        """Hear how the other side stands, and do what follows from it."""
        self.machine.heard_status(other.id, other.machine.status(self.id), now_ms)
        self.look(other, now_ms + 3_000)

    def look(self, other: "Party", now_ms: int) -> None:
        self.machine.flush(now_ms)
        self.perform(other, now_ms)

    def requests(self, kind: type[Request]) -> list[Request]:
        return [one for one in self.asked if isinstance(one, kind)]

    def agrees_with(self, other: "Party") -> bool:
        return self.machine.status(other.id) == other.machine.status(self.id)


def pair(shared: int = 60, *, secret: bool = True, bob_admits: Sequence[PrivateKey] = AUTHORS) -> tuple[Party, Party]:
    """Alice and bob, linked, with the same announcements of carol."""
    alice, bob = Party(ALICE), Party(BOB, bob_admits)
    if secret:
        request = LinkRequest("", (), (), *alice.secrets.offer(bob.id, is_linked=False))
        answer = LinkAnswer(True, 0, (), (), *bob.secrets.answer(alice.id, request))
        alice.secrets.answered(bob.id, request, answer)
    alice.machine.open(bob.id, "http://bob.test", (), START_MS)
    bob.machine.open(alice.id, "http://alice.test", (), START_MS)
    for party in (alice, bob):
        party.hold(fake_versions(CAROL.public, shared))
    return alice, bob
