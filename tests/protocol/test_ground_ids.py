"""Ids that were made to break a sketch, between two machines: always detected, repaired within two salts and pages."""

from collections.abc import Callable, Sequence
from itertools import count

import pytest

from pfn_node.simulation.world import START_MS
from pfn_protocol.announcements import Kind
from pfn_protocol.limits import sketch_tries_max
from pfn_protocol.messages import CellsRequest, IdsRequest
from pfn_protocol.sketch import Cells
from pfn_protocol.sketch_walk import indices, keyed_hash
from pfn_protocol.slots import Entry
from tests.protocol.parties import Party, pair
from tests.protocol.sets import BOB, fake_versions

UNSALTED = bytes(32)


def entry_with(announcement_id: bytes, number: int) -> Entry:
    return Entry(announcement_id, BOB.public, Kind.VERSION, f"ground/{number}/1", 0, START_MS, 500)


def alone_in_cell_0(length: int, amount: int) -> list[bytes]:
    """Ids that are in no other of the first cells, as the walk without a salt goes."""
    candidates = (number.to_bytes(16) for number in count())
    found = (one for one in candidates if len(indices(keyed_hash(one, UNSALTED), length)) == 1)
    return [next(found) + bytes(16) for _ in range(amount)]


def salts_asked(party: Party) -> int:
    return len({one.salt for one in party.requests(CellsRequest) if isinstance(one, CellsRequest)})


def test_ids_ground_against_a_walk_without_a_salt_are_found_by_the_first_cells() -> None:
    ground = alone_in_cell_0(160, 4)
    cells = Cells(160)
    cells.add([one[:16] for one in ground], UNSALTED)
    assert cells.decode(UNSALTED) is None

    alice, bob = pair(300)
    bob.hold(entry_with(one, number) for number, one in enumerate(ground))
    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert len(alice.requests(CellsRequest)) == 1


def known_salts(alice: Party, bob: Party, numbers: Sequence[int]) -> list[bytes]:
    """The salts that the attacker got to know: it is a side of the link, or broke into one."""
    found = [alice.secrets.salt(bob.id, number) for number in numbers]
    return [salt.key for salt in found if salt is not None]


def never_alone(monkeypatch: pytest.MonkeyPatch, salts: Sequence[bytes], ids: Sequence[bytes]) -> None:
    """Under these salts all the ids share all their cells, so that none of them is ever alone in one."""
    short = {one[:16] for one in ids}
    original: Callable[[Cells, Sequence[bytes], bytes, int], None] = Cells._change

    def change(cells: Cells, short_ids: Sequence[bytes], salt: bytes, sign: int) -> None:
        ground = [one for one in short_ids if one in short and salt in salts]
        original(cells, [one for one in short_ids if one not in ground], salt, sign)
        for one in ground:  # cell 0 shows that something is there, and nothing ever shows what
            cells._highs[:] ^= cells._highs.dtype.type(int.from_bytes(one[:8], "little"))
            cells._counts[:] += cells._counts.dtype.type(sign & 0xFF)

    monkeypatch.setattr(Cells, "_change", change)


@pytest.mark.parametrize("known", [(0,), (0, 1)])
def test_ids_ground_against_the_salts_of_a_link_lead_up_the_ladder(
    known: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = pair(300)
    ground = fake_versions(BOB.public, 3)
    bob.hold(ground)
    never_alone(monkeypatch, known_salts(alice, bob, known), [one.id for one in ground])

    alice.compare(bob, START_MS)

    assert alice.agrees_with(bob)
    assert salts_asked(alice) == 2
    assert len(alice.requests(CellsRequest)) <= 2 * sketch_tries_max
    assert len(alice.requests(IdsRequest)) == (known == (0, 1))


def cancelling(monkeypatch: pytest.MonkeyPatch, salts: Sequence[bytes], ids: Sequence[bytes]) -> None:
    """Under these salts the ids cancel in every cell: the sketch is that of a set without them."""
    short = {one[:16] for one in ids}
    original: Callable[[Cells, Sequence[bytes], bytes, int], None] = Cells._change

    def change(cells: Cells, short_ids: Sequence[bytes], salt: bytes, sign: int) -> None:
        left = [one for one in short_ids if one not in short or salt not in salts]
        original(cells, left, salt, sign)

    monkeypatch.setattr(Cells, "_change", change)


@pytest.mark.parametrize("known", [(0,), (0, 1)])
@pytest.mark.parametrize("here", [0, 4], ids=["on one side", "on both sides, as many"])
@pytest.mark.parametrize("beside", [0, 3], ids=["alone", "beside others"])
def test_ids_that_cancel_are_detected_and_found_under_another_salt_or_by_pages(
    known: tuple[int, ...], here: int, beside: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = pair(300)
    there = fake_versions(BOB.public, 4)
    mine = [entry_with(bytes([number + 1]) * 32, number) for number in range(here)]
    bob.hold(there)
    bob.hold(fake_versions(BOB.public, 10)[10 - beside :])
    alice.hold(mine)
    cancelling(monkeypatch, known_salts(alice, bob, known), [one.id for one in (*there, *mine)])

    for minute in range(3):
        alice.compare(bob, START_MS + minute * 60_000)

    assert all(one.id in alice.registry for one in bob.known.values())
    assert salts_asked(alice) == 2
    assert bool(alice.requests(IdsRequest)) == (known == (0, 1))
    assert known == (0, 1) or {*alice.offered} == {one.id for one in mine}
