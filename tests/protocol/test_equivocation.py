"""Proofs of two stories: nobody honest can be proved guilty, and who hears the same holds the same."""

from collections.abc import Iterable
from hashlib import sha256
from itertools import combinations
from random import Random

import pytest

from pfn_node.simulation import actor
from pfn_node.simulation.actor import Node
from pfn_node.simulation.network import Network
from pfn_node.simulation.world import START_MS, version_statement
from pfn_protocol import acceptance, own_announcements
from pfn_protocol.announcements import AcceptedAnnouncement, Kind
from pfn_protocol.equivocation import conviction_id, is_equivocation, new_epoch
from pfn_protocol.limits import epoch_max, epoch_random_bits
from pfn_protocol.registry import Registry
from pfn_protocol.slots import Entry
from tests.protocol.sets import ALICE, BOB, CAROL, everything, fake_versions

HOUR_MS = 3_600_000


# --- Whoever exchanges what they hold holds the same ---------------------------------------------------------------


def any_story(rng: Random, *, epochs: int) -> Entry:
    """Anything an author may say in one of few slots: honest or not, nobody can tell from one announcement."""
    kind = rng.choice((Kind.VERSION, Kind.VERSION, Kind.SOURCE, Kind.NODE))
    subject = "" if kind is Kind.NODE else rng.choice(("a", "b"))
    content = rng.choice((b"x", b"y", b"z")) if kind is Kind.VERSION else b""
    replaces = rng.choice((b"", b"1", b"2")) if kind is Kind.VERSION else b""
    epoch, seq = rng.randrange(epochs), START_MS + rng.randrange(6)
    id_ = sha256(f"{kind} {subject} {content!r} {replaces!r} {epoch} {seq} {rng.randrange(2)}".encode()).digest()
    return Entry(id_, BOB.public, kind, subject, epoch, seq, 500, content, replaces)


def told(registry: Registry, entries: Iterable[Entry]) -> None:
    for entry in entries:
        if registry.offer(entry).graph_changed:
            registry.readmit()


def held(registry: Registry) -> list[Entry]:
    return [entry for one in everything(registry) if (entry := registry.find(one)) is not None]


@pytest.mark.parametrize("epochs", [1, 6, 40])
def test_two_registries_that_exchange_what_they_hold_end_with_the_same_set(epochs: int) -> None:
    convictions = 0
    for seed in range(700):
        rng = Random(f"{epochs} {seed}")
        stories = [any_story(rng, epochs=epochs) for _ in range(rng.randrange(1, 12))]
        here, there = (Registry(me.public, [BOB.public]) for me in (ALICE, CAROL))
        for registry in (here, there):
            told(registry, rng.sample(stories, rng.randrange(len(stories) + 1)))

        told(there, rng.sample(mine := held(here), len(mine)))
        told(here, rng.sample(theirs := held(there), len(theirs)))

        assert everything(here) == everything(there), f"seed {seed}"
        assert here.total().digest() == there.total().digest()
        convictions += conviction_id(BOB.public) in here
    assert 0 < convictions < 700


def test_without_proofs_the_set_follows_from_what_was_heard_and_from_nothing_else() -> None:
    for seed in range(500):
        rng = Random(seed)
        # Every story in an epoch of its own: nothing proves anything, whatever it says.
        stories = [any_story(rng, epochs=10**9) for _ in range(rng.randrange(1, 12))]
        sets = set()
        for _ in range(4):
            registry = Registry(ALICE.public, [BOB.public])
            told(registry, rng.sample(stories, len(stories)))
            told(registry, rng.choices(stories, k=5))  # what was superseded comes again
            sets.add(tuple(everything(registry)))

        assert len(sets) == 1, f"seed {seed}"


# --- The conviction in the set ---------------------------------------------------------------------------------------


def story(seq: int, content: bytes = b"x", epoch: int = 0, subject: str = "a") -> Entry:
    id_ = sha256(f"{seq} {content!r} {epoch} {subject}".encode()).digest()
    return Entry(id_, BOB.public, Kind.VERSION, subject, epoch, seq, 500, content)


def test_a_convicted_author_has_one_place_in_the_set_whatever_its_cap_and_takes_no_other() -> None:
    registry = Registry(ALICE.public, [BOB.public])
    told(registry, [*fake_versions(BOB.public, 20), story(1)])

    outcome = registry.offer(story(2, b"y"))

    conviction = outcome.entry
    assert conviction is not None and conviction.id == conviction_id(BOB.public)
    assert outcome.contradicted == story(1).id and len(outcome.dropped) == 21
    assert everything(registry) == registry.ids(BOB.public, 0) == [conviction.id]
    told(registry, [story(3), *fake_versions(BOB.public, 2)])
    assert everything(registry) == [conviction.id]
    assert registry.convicted == (BOB.public,) and not registry.is_convicted(ALICE.public)


def test_a_conviction_is_parked_in_the_place_of_everything_else_and_counts_once_its_author_is_admitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conviction = Entry(conviction_id(BOB.public), BOB.public, Kind.CONVICTION, "", 0, 0, 900)
    registry = Registry(ALICE.public)
    told(registry, [story(1), story(2, subject="b")])

    assert set(registry.offer(conviction).dropped) == {story(1).id, story(2, subject="b").id}
    told(registry, [story(3)])
    assert list(registry.parking.take(BOB.public)) == [conviction]

    monkeypatch.setattr("pfn_protocol.parking.parked_max", 1)
    told(registry, fake_versions(CAROL.public, 1))
    assert registry.offer(conviction).dropped == (fake_versions(CAROL.public, 1)[0].id,)
    registry.set_policy([BOB.public], [])
    assert registry.is_convicted(BOB.public) and everything(registry) == [conviction.id]


def test_what_a_convicted_author_has_in_the_set_is_parked_when_it_is_no_longer_admitted() -> None:
    registry = Registry(ALICE.public, [BOB.public])
    told(registry, [story(1), story(1, b"y")])

    registry.set_policy([], [])
    assert conviction_id(BOB.public) in registry.parking and not len(registry)
    registry.set_policy([BOB.public], [])
    assert everything(registry) == [conviction_id(BOB.public)]


# --- Nobody honest is guilty -----------------------------------------------------------------------------------------


def proofs(signed: Iterable[AcceptedAnnouncement]) -> int:
    slots: dict[tuple[bytes, Kind, str], list[AcceptedAnnouncement]] = {}
    for one in signed:
        slots.setdefault((one.author, one.kind, one.subject), []).append(one)
    return sum(is_equivocation(*pair) for slot in slots.values() for pair in combinations(slot, 2))


class Misfortunes:
    """A node whose operator restores backups, copies the folder to a second machine, and has bad clocks."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rng = Random(seed)
        self.signed: list[AcceptedAnnouncement] = []
        monkeypatch.setattr(actor, "announce", self._announce)
        self.network = network = Network(seed=seed)
        self.alice = network.node("alice")
        self.twin = Node(network, "twin", "http://twin.test", self.alice.key)
        network.nodes["twin"] = self.twin
        self.neighbours = [network.node(name) for name in ("bob", "carol")]
        for neighbour in self.neighbours:
            neighbour.pin(self.alice)
            self.alice.join(neighbour)
            self.twin.joined[neighbour.id] = neighbour.url
        network.elapse(seconds=self.rng.choice((0, 5)))
        self.backups = [(dict(self.alice.kept), self.alice.last)]

    def _announce(self, *arguments: object) -> AcceptedAnnouncement:
        made = acceptance.announce(*arguments)  # type: ignore[arg-type]
        self.signed.append(made)
        return made

    def happen(self) -> None:
        """One more thing goes wrong, or the publisher changes the bytes of a release."""
        rng, network = self.rng, self.network
        node = rng.choice((self.alice, self.alice, self.twin))
        match rng.randrange(10):
            case 0 | 1 | 2 | 3:
                node.sees(rng.choice("ab"), content=rng.choice("xyz"))
            case 4:
                self.backups.append((dict(node.kept), node.last))
            case 5:
                node.crash()
                kept, node.last = rng.choice(self.backups)
                node.kept = dict(kept)
                node.start()
            case 6:
                node.crash()
                node.start()
            case 7:
                node.clock_ahead_ms = rng.choice((0, 0, 2_000, -2_000, 400_000, HOUR_MS, -HOUR_MS, 30 * HOUR_MS))
            case 8:
                for neighbour in self.neighbours:
                    network.cut(node, neighbour) if rng.random() < 0.5 else network.heal()
            case _:
                network.elapse(seconds=rng.choice((0.1, 1, 7, 60)))


def what_was_signed(seed: int, monkeypatch: pytest.MonkeyPatch, steps: int = 120) -> list[AcceptedAnnouncement]:
    misfortunes = Misfortunes(seed, monkeypatch)
    for _ in range(steps):
        misfortunes.happen()
    return misfortunes.signed


@pytest.mark.parametrize("seed", range(30))
def test_no_backup_no_twin_no_clock_and_no_publisher_makes_a_node_guilty(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = what_was_signed(seed, monkeypatch)

    assert len(signed) > 10
    assert proofs(signed) == 0


def test_without_an_epoch_for_each_run_they_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_announcements, "new_epoch", lambda known, now_ms, chance: known)

    assert any(proofs(what_was_signed(seed, monkeypatch)) for seed in range(8))


def test_without_remembering_what_a_run_said_they_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_announcements.OwnAnnouncements, "_naming_first", lambda self, statement: statement)

    assert any(proofs(what_was_signed(seed, monkeypatch)) for seed in range(8))


def test_a_node_that_cannot_remember_all_that_it_said_begins_a_new_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_announcements, "own_versions_remembered_max", 3)
    network = Network()
    bob = network.node("bob")

    for number in range(8):
        bob.sees(f"plugin-{number}")

    epochs = [one.epoch for one in bob.announcements() if one.kind is Kind.VERSION]
    assert len(set(epochs)) == 3 and epochs == sorted(epochs)


def test_epochs_rise_with_every_run_and_with_the_clock() -> None:
    chances = 2**epoch_random_bits - 1
    now = new_epoch(0, START_MS, 0)

    assert new_epoch(now, START_MS, 0) == now + 1
    assert new_epoch(now + 5, START_MS - 10 * HOUR_MS, 7) == now + 13
    assert new_epoch(now, START_MS + 1_000, 0) > new_epoch(0, START_MS, chances)
    assert new_epoch(0, (2**32 - 1) * 1_000, chances) == epoch_max
    assert new_epoch(0, -1, 0) == 1


def test_a_release_announced_again_with_other_bytes_is_said_to_be_changed() -> None:
    network = Network()
    bob = network.node("bob")

    ids = [bob.sees("hello", content=content) for content in "xyxx"]

    said = [one for one in bob.announcements() if one.kind is Kind.VERSION]
    assert [one.id for one in said] == [ids[0], ids[3]]
    assert said[0].replaces == b"" and said[1].replaces == ids[0]
    assert said[0].content == said[1].content == version_statement("hello", content="x").sha256
