"""Sketches: both ways of making them agree, differences decode, estimates hold, and hostile cells end quickly."""

from hashlib import sha256
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfn_protocol.limits import sketch_cell_bytes
from pfn_protocol.sketch import Cells, Difference, build_cells, cells_wanted, reference_cells
from pfn_protocol.sketch_walk import density, indices, keyed_hash, keyed_hashes, many_indices, seeds_and_checksums

SALT = bytes(range(32))


def random_ids(rng: Random, count: int) -> list[bytes]:
    return [rng.randbytes(16) for _ in range(count)]


def difference_cells(theirs: list[bytes], mine: list[bytes], length: int, salt: bytes = SALT) -> Cells:
    return build_cells(theirs, [], salt, length).subtract(build_cells(mine, [], salt, length))


def found(difference: Difference | None) -> tuple[set[bytes], set[bytes]]:
    assert difference is not None
    return set(difference.theirs), set(difference.mine)


@given(
    st.lists(st.binary(min_size=16, max_size=16), unique=True, max_size=120),
    st.integers(1, 200),
    st.binary(min_size=32, max_size=32),
)
@settings(max_examples=60, deadline=None)
def test_numpy_and_plain_python_make_the_same_cells(ids: list[bytes], length: int, salt: bytes) -> None:
    reference = reference_cells(ids, salt, length)
    one_by_one = Cells(length)
    for one in ids:
        one_by_one.add([one], salt)

    assert build_cells(ids, [], salt, length).to_bytes() == reference
    assert one_by_one.to_bytes() == reference
    assert Cells.from_bytes(reference).to_bytes() == reference
    assert build_cells(ids, ids[::2], salt, length).to_bytes() == reference_cells(ids[1::2], salt, length)


def test_the_walks_of_many_ids_are_the_walks_of_each() -> None:
    ids = random_ids(Random(1), 200)
    seeds, _ = seeds_and_checksums(keyed_hashes(ids, SALT))
    walked: dict[int, list[int]] = {row: [] for row in range(len(ids))}
    for rows, where in many_indices(seeds, 5_000):
        for row, cell in zip(rows.tolist(), where.tolist(), strict=True):
            walked[row].append(cell)

    assert [walked[row] for row in range(len(ids))] == [indices(keyed_hash(one, SALT), 5_000) for one in ids]


def test_an_id_is_in_a_cell_with_the_density_that_the_estimate_relies_on() -> None:
    hits = [0] * 40
    for one in random_ids(Random(2), 4_000):
        for cell in indices(keyed_hash(one, SALT), 40):
            hits[cell] += 1

    for cell, count in enumerate(hits):
        expected = 4_000 * density(cell)
        assert abs(count - expected) < 5 * (expected + 1) ** 0.5, cell


@pytest.mark.parametrize(
    ("theirs", "mine", "length"), [(0, 0, 2), (1, 0, 1), (3, 4, 32), (60, 40, 400), (500, 400, 1_600)]
)
def test_a_difference_decodes_from_about_as_many_cells_as_it_has_ids(theirs: int, mine: int, length: int) -> None:
    rng = Random(3)
    both, only_theirs, only_mine = random_ids(rng, 300), random_ids(rng, theirs), random_ids(rng, mine)

    cells = difference_cells(both + only_theirs, both + only_mine, length)

    assert found(cells.decode(SALT)) == (set(only_theirs), set(only_mine))


@pytest.mark.parametrize("count", [100, 2_000])
def test_too_few_cells_do_not_decode_and_more_do(count: int) -> None:
    ids = random_ids(Random(4), count)
    whole = difference_cells(ids, [], 4_096)

    assert whole.part(0, count).decode(SALT) is None
    assert found(whole.part(0, cells_wanted(count * 1.2, guessed=False)).decode(SALT)) == (set(ids), set())


@pytest.mark.parametrize("length", [400, 600])
def test_cells_under_another_salt_do_not_decode(length: int) -> None:
    cells = difference_cells(random_ids(Random(5), 20), [], length)

    assert cells.decode(bytes(32)) is None


@pytest.mark.parametrize("length", [400, 600])
def test_an_id_that_comes_out_twice_is_no_difference(length: int) -> None:
    one = random_ids(Random(6), 1)
    honest = difference_cells(one, [], length).to_bytes()
    again = indices(keyed_hash(one[0], SALT), length)[-1] * sketch_cell_bytes
    lie = honest[:again] + bytes(sketch_cell_bytes - 1) + b"\x02" + honest[again + sketch_cell_bytes :]

    assert Cells.from_bytes(lie).decode(SALT) is None  # taken out of this cell, the id stands in it


def shown_one_by_one(length: int, pool: int) -> Cells:
    """Cells in which taking out one id shows the next one, never two at once: what a neighbour may send on purpose."""
    through: dict[int, list[tuple[bytes, list[int]]]] = {}
    for one in random_ids(Random(11), pool):
        cells = indices(keyed_hash(one, SALT), length)
        for cell in cells:
            through.setdefault(cell, []).append((one, cells))
    chain: list[bytes] = []
    shown = [length // 2]  # the cells that show the ids, in this order
    while True:
        untouched = [(one, cells) for one, cells in through[shown[-1]] if len({*shown} & {*cells}) == 1]
        following = [(one, max({*cells} - {*shown})) for one, cells in untouched if len(cells) > 1]
        following = [(one, cell) for one, cell in following if cell > length // 8]
        if not following:
            break
        chain.append(following[0][0])
        shown.append(following[0][1])
    table = [b"\xff" * (sketch_cell_bytes - 1) + b"\x02"] * length  # elsewhere nothing is to be seen
    for cell in shown[:-1]:
        table[cell] = bytes(sketch_cell_bytes)
    crafted = Cells.from_bytes(b"".join(table))
    crafted.add(chain, SALT)
    return crafted


def test_cells_made_to_show_one_id_after_the_other_are_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = 0

    def counted(short_ids: list[bytes], salt: bytes) -> bytes:
        nonlocal passes
        passes += 1
        return keyed_hashes(short_ids, salt)

    cells = shown_one_by_one(1_024, 8_000)
    monkeypatch.setattr("pfn_protocol.sketch.keyed_hashes", counted)

    assert cells.decode(SALT) is None
    assert passes == 100


def test_random_cells_and_cells_of_random_ids_end_without_a_difference() -> None:
    rng = Random(7)
    for length in (32, 512, 2_048):
        assert Cells.from_bytes(rng.randbytes(length * sketch_cell_bytes)).decode(SALT) is None
    crowd = b"".join(one + keyed_hash(one, SALT)[8:12] + b"\x01" for one in random_ids(rng, 1_024))
    assert Cells.from_bytes(crowd).decode(SALT) is None  # every cell shows an id that belongs elsewhere too


@pytest.mark.parametrize("size", [1, 10, 100, 1_000, 10_000, 30_000])
def test_the_estimate_of_a_few_cells_is_near_though_counts_are_modulo_256(size: int) -> None:
    rng = Random(8)
    estimates = []
    for number in range(12):
        theirs, mine = random_ids(rng, size * 3 // 4), random_ids(rng, size - size * 3 // 4)
        salt = bytes([number]) * 32
        estimates.append(difference_cells(theirs, mine, 32, salt).estimate(len(theirs) - len(mine)))

    mean = sum(estimates) / len(estimates)
    assert size * 0.5 < mean < size * 1.6


def test_an_estimate_beyond_what_counts_can_tell_says_many() -> None:
    cells = difference_cells(random_ids(Random(9), 100_000), [], 64)

    assert cells.estimate(100_000) > 25_000


def ground_ids(count: int) -> list[bytes]:
    """Ids that share no cell but cell 0, ground against the walk without a salt."""
    ground: list[bytes] = []
    number = 0
    unsalted = bytes(32)
    while len(ground) < count:
        number += 1
        one = sha256(number.to_bytes(8, "big")).digest()[:16]
        if len(indices(keyed_hash(one, unsalted), 24)) == 1:
            ground.append(one)
    return ground


def test_ids_ground_against_a_walk_without_salt_do_not_matter_with_one() -> None:
    ground = ground_ids(6)

    assert difference_cells(ground, [], 24, bytes(32)).decode(bytes(32)) is None
    assert found(difference_cells(ground, [], 24).decode(SALT)) == (set(ground), set())


def test_ids_that_cancel_under_xor_do_not_hide() -> None:
    first, second, third = random_ids(Random(10), 3)
    fourth = bytes(a ^ b ^ c for a, b, c in zip(first, second, third, strict=True))
    cancelling = [first, second, third, fourth]

    cells = difference_cells(cancelling, [], 32)

    assert cells.part(0, 1).to_bytes()[:16] == bytes(16)  # in cell 0 they do cancel; their checksums do not
    assert found(cells.decode(SALT)) == (set(cancelling), set())
