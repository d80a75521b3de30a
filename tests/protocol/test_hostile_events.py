"""Random hostile events against one machine: none may end it, and what is kept is always what it knows.

Everything that neighbours, the operator and the clock can report is reported in any order: answers to nothing, of the
wrong kind, twice; announcements too early, too late, contradicting, in this node's own name; policies that contradict.
Half of the runs have tiny limits, so that every table is full all the time. A failure names its seed, which repeats it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import pytest

from pfn_node.simulation.world import MESH, START_MS, key_of, version_statement
from pfn_protocol.acceptance import accept, announce
from pfn_protocol.announcements import (
    AcceptedAnnouncement,
    MirrorStatement,
    NodeStatement,
    SourceStatement,
    Statement,
    VersionStatement,
)
from pfn_protocol.effects import (
    BuildPrefix,
    ChangeAdmission,
    DecodeCells,
    DropAnnouncements,
    Effect,
    KeepAnnouncement,
    KeepConviction,
    SendRequest,
)
from pfn_protocol.equivocation import convict
from pfn_protocol.events import (
    AnswerReceived,
    CellsDecoded,
    ComparisonWanted,
    Event,
    JoinTakenBack,
    PeerFound,
    PeerUnreachable,
    PolicyChanged,
    PrefixBuilt,
    RequestReceived,
    StatementMade,
    TimePassed,
)
from pfn_protocol.limits import (
    back_off_seconds_max,
    epoch_max,
    integer_max,
    sketch_batch_max,
    sketch_cell_bytes,
    sketch_cells_max,
)
from pfn_protocol.mesh import Mesh, MeshOptions, Restored
from pfn_protocol.messages import (
    Answer,
    AuthorsAnswer,
    AuthorsRequest,
    AuthorSummary,
    CellsAnswer,
    CellsRequest,
    FetchAnswer,
    FetchRequest,
    GossipAnswer,
    GossipRequest,
    HaveAnswer,
    HaveRequest,
    IdsAnswer,
    IdsRequest,
    LinkAnswer,
    LinkRequest,
    PeerAddress,
    RefusedAnswer,
    Request,
    SetStatus,
    SnapshotAnswer,
    SnapshotRequest,
)
from pfn_protocol.set_digest import SetDigest
from pfn_protocol.sketch import build_cells
from pfn_protocol.slots import entry_of

ME = key_of("me")
OTHERS = [key_of(f"other {number}") for number in range(12)]
SEEDS = range(25)
STEPS = 300
# How far the clock jumps now and then, and how far announcements lie from it.
JUMPS_MS = (1, 1_000, 5_000, 10_000, 100_000, 3_700_000, 90_000_000, -5_000, -4_000_000)
OFFSETS_MS = (0, 0, 1, 2, 3, -1, -2, -5, 5, 700_000, 3_600_000, 80_000_000, -90_000_000, -80_000_000)

TINY_LIMITS = {
    "comparison.authors_page_max": 2,
    "cells_serving.sketch_cells_per_hour_max": 100,
    "prefixes.sketch_builds_per_hour_max": 2,
    "prefixes.sketch_small_set_max": 1,
    "comparison.offered_ids_max": 2,
    "comparison.offered_remembered_max": 2,
    "admission.admitted_authors_max": 5,
    "admission.slots_pinned_max": 3,
    "admission.slots_sponsored_max": 2,
    "tree.arrivals_remembered_max": 3,
    "gossip.offered_ids_max": 2,
    "gossip_links.gossip_push_max": 2,
    "gossip_links.offered_ids_max": 2,
    "gossip_links.outbox_ids_max": 3,
    "intake.author_burst_max": 5,
    "intake.author_rates_max": 3,
    "intake.future_max": 3,
    "intake.future_per_author_max": 2,
    "intake.seen_envelopes_max": 4,
    "mesh.slots_pinned_max": 3,
    "own_announcements.own_versions_remembered_max": 3,
    "own_announcements.read_back_peers_max": 1,
    "own_announcements.statements_waiting_max": 1,
    "pages.authors_page_max": 2,
    "pages.ids_page_max": 2,
    "pages.page_bytes_max": 400,
    "pages.slots_pinned_max": 3,
    "pages.snapshot_page_max": 2,
    "parking.parked_max": 5,
    "parking.parked_per_author_max": 2,
    "registry.admitted_authors_max": 5,
    "registry.slots_sponsored_max": 2,
    "peers.dials_of_hearsay_max": 2,
    "known_peers.link_faults_max": 3,
    "peers.links_max": 3,
    "peers.links_wanted_max": 2,
    "known_peers.peers_known_max": 5,
    "known_peers.peers_unlinked_max": 4,
    "known_peers.peers_per_group_max": 2,
    "comparing_links.compare_links_max": 1,
    "peers.links_outbound_min": 1,
    "peers.links_spare_max": 1,
    "peers.passive_max": 2,
    "pulls.fetch_ids_max": 2,
    "pulls.pulls_per_id_max": 2,
    "pulls.pulls_waiting_max": 3,
    "rounds.authors_pages_max": 2,
    "comparison.fetch_ids_max": 2,
    "rounds.ids_pages_max": 2,
    "rounds.fetch_ids_max": 2,
    "rounds.round_fetches_max": 2,
    "rounds.sketch_inline_cells_max": 2,
    "snapshot.snapshot_pages_max": 4,
    "snapshot.snapshot_part_min": 2,
    "snapshot.snapshot_set_min": 3,
    "snapshot.snapshot_withheld_min": 1,
    "registry._stale_expiries_max": 2,
    "sponsoring.sponsored_max": 2,
}


class Attack:
    """One machine, and everybody around it."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.seed = seed
        self.now_ms = START_MS
        self.options = MeshOptions(self.rng.choice(["http://me.test", ""]), "test/1")
        self.pins = tuple(key.public for key in OTHERS[: self.rng.randrange(3)])
        self.blocked: tuple[bytes, ...] = ()
        self.mesh = Mesh(ME, MESH, self.options, Random(seed), Restored(pins=self.pins), self.now_ms)
        self.to_answer: list[SendRequest] = []
        self.work: list[BuildPrefix | DecodeCells] = []
        self.scopes: list[bytes] = []
        self.salts: list[bytes] = []
        self.said: list[AcceptedAnnouncement] = []
        self.kept: dict[bytes, tuple[AcceptedAnnouncement, bool]] = {}

    # What is said.

    def chance(self, part: float) -> bool:
        return self.rng.random() < part

    def some_keys(self, below: int) -> tuple[bytes, ...]:
        return tuple(sorted({self.rng.choice([*OTHERS, ME]).public for _ in range(self.rng.randrange(below))}))

    def statement(self) -> Statement:
        rng = self.rng
        host = f"h{rng.randrange(3)}.test"
        match rng.randrange(4):
            case 0:
                url = rng.choice(["", "http://a.test", "http://b.test", f"http://c{rng.randrange(9)}.test"])
                left = self.chance(0.1)
                return NodeStatement(url, "test/1", (), self.some_keys(4), self.some_keys(4), 0, bytes(32), left)
            case 1:
                key = rng.choice(OTHERS).public
                return SourceStatement(f"a@{host}", f"http://{host}", "a", key, "", "", True, 0)
            case 2:
                return MirrorStatement(f"a@{host}", 1, bytes(32))
            case _:
                said = version_statement(f"p{rng.randrange(2)}", content=f"{rng.randrange(3)}")
                if self.said and self.chance(0.5):
                    said = replace(said, replaces=rng.choice(self.said).id)
                return said

    def announcement(self) -> bytes:
        rng = self.rng
        if self.said and self.chance(0.35):
            return rng.choice(self.said).raw
        author = ME if self.chance(0.02) else rng.choice(OTHERS)
        seq = self.now_ms + rng.choice(OFFSETS_MS)
        made = announce(author, MESH, self.statement(), rng.choice([0, 0, 0, 1, epoch_max]), seq)
        self.said.append(made)
        return made.raw

    def announcements(self, below: int) -> tuple[bytes, ...]:
        count = self.rng.randrange(below)
        return tuple(self.rng.randbytes(20) if self.chance(0.05) else self.announcement() for _ in range(count))

    def ids(self, below: int) -> tuple[bytes, ...]:
        known = [one.id for one in self.said] + [self.rng.randbytes(32)]
        return tuple(self.rng.choice(known) for _ in range(self.rng.randrange(below)))

    def after(self) -> bytes:
        return self.rng.choice([b"", self.rng.randbytes(32)])

    def status(self) -> SetStatus | None:
        mine = self.mesh.status()
        scope = self.scope()
        others = SetStatus(self.rng.choice([0, 1, 4, 5_000]), self.rng.randbytes(32), scope)
        return self.rng.choice([None, others, SetStatus(mine.announcements, mine.digest, scope)])

    def scope(self) -> bytes:
        """That of a neighbour's link, as the machine last said it, or another."""
        return self.rng.choice([*self.scopes[-3:], self.rng.randbytes(8)])

    def salt(self) -> bytes:
        """A salt's name that the machine said itself, or another."""
        return self.rng.choice([*self.salts[-3:], self.rng.randbytes(4)])

    def link_key(self) -> tuple[bytes, bytes]:
        return self.rng.choice([(b"", b""), (self.rng.randbytes(32), self.rng.randbytes(16)), (bytes(32), bytes(16))])

    def cells(self, count: int) -> bytes:
        """Cells of nothing, of noise, or of what was said."""
        match self.rng.randrange(3):
            case 0:
                return bytes(count * sketch_cell_bytes)
            case 1:
                return self.rng.randbytes(count * sketch_cell_bytes)
        said = tuple(one.id for one in self.said[-20:])
        return build_cells(said, (), self.rng.randbytes(32), count).to_bytes()

    def view(self) -> tuple[PeerAddress, ...]:
        ids = [*(key.public for key in OTHERS), ME.public, self.rng.randbytes(32)]
        urls = ["http://a.test", f"http://z{self.rng.randrange(20)}.test"]
        return tuple(PeerAddress(self.rng.choice(ids), self.rng.choice(urls)) for _ in range(self.rng.randrange(6)))

    def request(self) -> Request:
        rng = self.rng
        author = rng.choice([*OTHERS, ME]).public
        makers: list[Callable[[], Request]] = [
            lambda: LinkRequest(
                rng.choice(["", f"http://q{rng.randrange(6)}.test"]),
                self.view(),
                self.some_keys(3),
                *self.link_key(),
                compare_only=self.chance(0.2),
            ),
            lambda: GossipRequest(self.announcements(6), self.ids(5), self.status(), rng.choice([0, 0, 25])),
            lambda: GossipRequest(self.announcements(6), self.ids(5), None, 0, self.ids(5), self.chance(0.3)),
            lambda: FetchRequest(self.ids(6)),
            lambda: AuthorsRequest(
                self.after(),
                tuple((one, rng.choice([0, 1, 256, 5_000])) for one in self.some_keys(5)),
                self.chance(0.5),
            ),
            lambda: CellsRequest(
                rng.choice(["", "", "a@h0.test"]),
                self.salt(),
                self.scope(),
                rng.choice([0, 0, 32, 4_096, sketch_cells_max - 1]),
                rng.choice([1, 32, sketch_batch_max]),
            ),
            lambda: IdsRequest(author, rng.choice([0, 1, 256, 5_000, integer_max]), self.after()[:16]),
            lambda: SnapshotRequest(self.after(), rng.choice([b"", ME.public, author]), self.after()),
            lambda: HaveRequest(()),
        ]
        return rng.choice(makers)()

    def authors(self) -> tuple[AuthorSummary, ...]:
        rng = self.rng
        chosen = sorted(key.public for key in rng.sample([*OTHERS, ME], rng.randrange(6)))
        caps = (0, 1, 256, 5_000, 2**50)
        return tuple(AuthorSummary(one, rng.choice(caps), rng.randrange(5), rng.randbytes(32)) for one in chosen)

    def answer(self, to: Request | None = None) -> Answer:
        rng = self.rng
        makers: dict[type, Callable[[], Answer]] = {
            LinkRequest: lambda: LinkAnswer(
                self.chance(0.8), rng.choice([0, 1, back_off_seconds_max]), self.view(), (), *self.link_key()
            ),
            CellsRequest: lambda: CellsAnswer(
                self.cells(to.count if isinstance(to, CellsRequest) else 32),
                rng.choice([0, 3, 5_000]),
                rng.randbytes(32),
            ),
            GossipRequest: lambda: GossipAnswer(self.announcements(5), self.ids(5), self.status(), self.chance(0.3)),
            FetchRequest: lambda: FetchAnswer(self.announcements(8), self.ids(4)),
            AuthorsRequest: lambda: AuthorsAnswer(self.authors(), self.chance(0.5)),
            IdsRequest: lambda: IdsAnswer(tuple(sorted({one[:16] for one in self.ids(8)})), self.chance(0.5)),
            SnapshotRequest: lambda: SnapshotAnswer(self.announcements(8), self.after()),
            HaveRequest: lambda: HaveAnswer(()),
            RefusedAnswer: lambda: RefusedAnswer(
                rng.choice(["R96", "R86", "busy", "R1", "R113", "R114", "R115"]),
                "no",
                rng.choice([0, self.now_ms, integer_max]),
            ),
        }
        kind = type(to) if to is not None and self.chance(0.75) else rng.choice(list(makers))
        return makers[kind]()

    # What happens.

    def event(self) -> Event:
        rng = self.rng
        match rng.choices(range(9), (35, 40, 3, 3, 5, 6, 8, 8, 2))[0]:
            case 0:
                sender = ME if self.chance(0.05) else rng.choice(OTHERS)
                return RequestReceived(rng.randrange(10**9), sender.public, self.request())
            case 1 if self.to_answer:
                return self.outcome(rng.choice(self.to_answer))
            case 2:
                return AnswerReceived(rng.randrange(10_000), rng.choice(OTHERS).public, self.answer())
            case 3:
                return self.policy()
            case 4:
                if rng.random() < 0.3:
                    return JoinTakenBack(rng.choice(OTHERS).public)
                return PeerFound(rng.choice([*OTHERS, ME]).public, f"http://f{rng.randrange(4)}.test")
            case 5:
                statement = self.statement()
                if isinstance(statement, VersionStatement | MirrorStatement):
                    return StatementMade(statement)
            case 7 if self.work:
                return self.done(rng.choice(self.work))
            case 8:
                return ComparisonWanted(rng.choice([*OTHERS, ME]).public)
        return TimePassed()

    def done(self, build: BuildPrefix | DecodeCells) -> PrefixBuilt | CellsDecoded:
        """What a thread was to do, now and then once more."""
        if self.chance(0.9):
            self.work.remove(build)
        if isinstance(build, DecodeCells):
            return CellsDecoded(build.decode_id, build.cells.decode(build.salt))
        return PrefixBuilt(build.build_id, build_cells(build.ids, build.without, build.salt, build.length))

    def outcome(self, request: SendRequest) -> Event:
        if self.chance(0.9):
            self.to_answer.remove(request)
        if self.chance(0.15):
            return PeerUnreachable(request.request_id, request.peer, "no connection")
        sender = request.peer if self.chance(0.95) else self.rng.choice(OTHERS).public
        return AnswerReceived(request.request_id, sender, self.answer(request.message))

    def policy(self) -> PolicyChanged:
        """Some are pinned, some are blocked, and now and then somebody is both."""
        ids = [key.public for key in self.rng.sample(OTHERS, 7)]
        self.pins = tuple(ids[: self.rng.randrange(4)])
        self.blocked = tuple(ids[self.rng.choice([0, 4, 4]) :][: self.rng.randrange(3)])
        return PolicyChanged(self.pins, self.blocked)

    def step(self) -> None:
        if self.chance(0.03):
            self.now_ms += self.rng.choice(JUMPS_MS)
        elif self.chance(0.2):
            self.now_ms += self.rng.randrange(2_000)
        self.perform(self.mesh.handle(self.event(), self.now_ms))
        if self.mesh.wake_at is not None and self.mesh.wake_at <= self.now_ms:
            self.perform(self.mesh.handle(TimePassed(), self.now_ms))
        self.mesh.links()

    def perform(self, effects: Sequence[Effect]) -> None:
        """Keep what is to be kept, and see that it is what the machine knows."""
        for effect in effects:
            match effect:
                case SendRequest():
                    self.to_answer.append(effect)
                    self.listen(effect.message)
                case BuildPrefix() | DecodeCells():
                    self.work.append(effect)
                case KeepAnnouncement():
                    self.kept[effect.announcement.id] = (effect.announcement, effect.admitted)
                case KeepConviction():
                    conviction = convict(self.kept[effect.one][0], self.kept[effect.other][0])
                    assert accept(conviction.raw, mesh=MESH, now_ms=self.now_ms) == conviction
                    self.kept[conviction.id] = (conviction, True)
                case DropAnnouncements():
                    for one in effect.ids:
                        del self.kept[one]
                case ChangeAdmission():
                    for one in (*effect.admitted, *effect.parked):
                        self.kept[one] = (self.kept[one][0], one in effect.admitted)
        status = self.mesh.status()
        admitted = [one for one, (_, is_admitted) in self.kept.items() if is_admitted]
        assert (len(admitted), SetDigest(admitted).digest()) == (status.announcements, status.digest)
        assert status.parked >= len(self.kept) - len(admitted)

    def listen(self, message: Request) -> None:
        """What the machine says of its links, neighbours can say too."""
        if isinstance(message, GossipRequest) and message.status is not None:
            self.scopes.append(message.status.scope)
        elif isinstance(message, CellsRequest):
            self.salts.append(message.salt)

    def restart(self) -> None:
        """Start another machine with what was kept: it must come up."""
        restored = Restored(
            [(entry_of(one), admitted) for one, admitted in self.kept.values()],
            (),
            self.pins,
            self.blocked,
            self.mesh.status().last,
        )
        Mesh(ME, MESH, self.options, Random(self.seed), restored, self.now_ms)


def endure(seed: int) -> None:
    attack = Attack(seed)
    for step in range(STEPS):
        try:
            attack.step()
            if step % 100 == 99:
                attack.restart()
        except Exception as error:
            error.add_note(f"seed {seed}, step {step}")
            raise


@pytest.mark.parametrize("seed", SEEDS)
def test_no_hostile_event_ends_the_machine(seed: int) -> None:
    endure(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_hostile_event_ends_a_machine_whose_tables_are_full(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in TINY_LIMITS.items():
        monkeypatch.setattr(f"pfn_protocol.{name}", limit)

    endure(seed)
