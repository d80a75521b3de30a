"""A set that is filled at once, as at a start, is the one that came about announcement by announcement."""

from collections.abc import Sequence
from hashlib import sha256
from random import Random

import pytest

from pfn_node.simulation.world import START_MS
from pfn_protocol.announcements import Kind
from pfn_protocol.effects import ChangeAdmission, DropAnnouncements, KeepConviction
from pfn_protocol.limits import mirror_lifetime_ms, slots_sponsored_max
from pfn_protocol.outgoing import Outgoing
from pfn_protocol.registry import Registry
from pfn_protocol.restoring import restore
from pfn_protocol.set_digest import SetDigest, add_up
from pfn_protocol.slots import Entry
from tests.protocol.sets import ALICE, BOB, CAROL, DAVE, entry, everything, filled, node_statement

NODES = [entry(BOB, node_statement([], [CAROL]))]


def told(author: bytes, kind: Kind, subject: str, seq: int, content: bytes = b"", replaces: bytes = b"") -> Entry:
    announcement_id = sha256(repr((author, kind, subject, seq)).encode()).digest()
    return Entry(announcement_id, author, kind, subject, 0, seq, 500, content, replaces)


def much(rng: Random) -> list[Entry]:
    """Of a pinned, a sponsored and a strange author; some versions changed, some things that pass."""
    found = []
    for key in (BOB, CAROL, DAVE):
        for number in range(slots_sponsored_max + 20):
            first = told(key.public, Kind.VERSION, f"s/{number}/1", START_MS + number, b"one")
            found.append(first)
            if rng.random() < 0.1:
                found.append(told(key.public, Kind.VERSION, f"s/{number}/1", START_MS + 9999, b"two", first.id))
            if rng.random() < 0.1:
                found.append(told(key.public, Kind.MIRROR, f"s/{number}", START_MS + number))
    return found


def restored(kept: Sequence[Entry], sum_of: object = add_up) -> Registry:
    registry = Registry(ALICE.public, [BOB.public])
    restore(registry, Outgoing(), [(one, True) for one in kept], START_MS, sum_of)  # type: ignore[arg-type]
    return registry


@pytest.mark.parametrize("seed", range(5))
def test_the_set_is_the_same_as_if_it_had_come_one_by_one(seed: int) -> None:
    rng = Random(seed)
    entries = much(rng)
    one_by_one = filled([*NODES, *entries])
    rng.shuffle(entries)

    at_once = restored([*NODES, *entries])

    in_set = everything(at_once)
    assert in_set == everything(one_by_one)
    assert at_once.total() == one_by_one.total() == SetDigest(at_once.unsorted_ids())
    for key in (BOB, CAROL, DAVE):
        assert at_once.summary(key.public, at_once.cap(key.public)) == one_by_one.summary(
            key.public, one_by_one.cap(key.public)
        )
    assert at_once.parking.take(DAVE.public) == filled([*NODES, *entries]).parking.take(DAVE.public) != []
    later = START_MS + mirror_lifetime_ms + slots_sponsored_max
    expired, also = (set(registry.expire(later)[0]) for registry in (at_once, one_by_one))
    assert expired.intersection(in_set) == also.intersection(in_set) != set()
    assert everything(at_once) == everything(one_by_one) != in_set
    assert at_once.total() == one_by_one.total()


def test_what_stays_for_good_is_summed_up_by_itself_and_in_its_order() -> None:
    entries = much(Random(1))
    asked: dict[bytes, list[bytes]] = {}

    def sum_of(author: bytes, ids: Sequence[bytes]) -> SetDigest:
        asked[author] = list(ids)
        return add_up(author, ids)

    restored([*NODES, *entries], sum_of)

    first = {one.subject: one.id for one in reversed(entries) if one.author == BOB.public and one.kind is Kind.VERSION}
    assert asked[BOB.public] == [first[f"s/{number}/1"] for number in range(slots_sponsored_max + 20)]
    assert DAVE.public not in asked


@pytest.mark.parametrize("seed", range(5))
def test_what_is_elsewhere_than_it_was_is_reported(seed: int) -> None:
    rng = Random(seed)
    entries = [*NODES, *much(rng)]
    in_set = {one.id for one in entries if rng.random() < 0.5}
    past = told(BOB.public, Kind.MIRROR, "s/past", START_MS - mirror_lifetime_ms)
    registry, outgoing = Registry(ALICE.public, [BOB.public]), Outgoing()

    restore(registry, outgoing, [(one, one.id in in_set) for one in [*entries, past]], START_MS)

    effects = outgoing.drain()
    (moved,) = (one for one in effects if isinstance(one, ChangeAdmission))
    (gone,) = (one for one in effects if isinstance(one, DropAnnouncements))
    ids = {one.id for one in entries}
    assert set(moved.admitted) == {one for one in ids if one in registry} - in_set != set()
    assert set(moved.parked) == {one for one in ids if one in registry.parking} & in_set != set()
    assert set(gone.ids) == {past.id, *(one for one in ids if not registry.knows(one))} != {past.id}


def test_where_nothing_is_elsewhere_nothing_is_reported() -> None:
    entries = [
        *NODES,
        told(CAROL.public, Kind.VERSION, "s/1/1", START_MS),
        told(DAVE.public, Kind.MIRROR, "s/1", START_MS),
    ]
    outgoing = Outgoing()

    restore(
        Registry(ALICE.public, [BOB.public]), outgoing, [(one, one.author != DAVE.public) for one in entries], START_MS
    )

    assert outgoing.drain() == []


def test_what_a_conviction_stands_for_is_reported_as_gone() -> None:
    one = told(CAROL.public, Kind.VERSION, "s/1/1", START_MS, b"one")
    other = told(CAROL.public, Kind.VERSION, "s/1/1", START_MS + 1, b"two")
    registry, outgoing = Registry(ALICE.public, [BOB.public]), Outgoing()

    restore(registry, outgoing, [(kept, True) for kept in [*NODES, one, other]], START_MS)

    assert registry.is_convicted(CAROL.public)
    convicting, gone = outgoing.drain()
    assert convicting == KeepConviction(one.id, other.id)
    assert isinstance(gone, DropAnnouncements) and set(gone.ids) == {one.id, other.id}
