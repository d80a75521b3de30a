"""Mirror sets compared by cells: what only the neighbour mirrors, and answers that say nothing."""

from dataclasses import replace
from random import Random

import pytest

from pfn_protocol.cells_round import RoundEnd
from pfn_protocol.limits import mirror_cells_max, mirror_set_max
from pfn_protocol.link_secrets import salt_of
from pfn_protocol.messages import CellsAnswer, CellsRequest
from pfn_protocol.mirror_sets import MirrorRound, mirror_cells

SALT = salt_of(bytes(32), 0)
SOURCE = "dev@pub.test"


def digests(count: int, seed: int = 1) -> list[bytes]:
    rng = Random(seed)
    return [rng.randbytes(32) for _ in range(count)]


def compare(mine: list[bytes], theirs: list[bytes]) -> tuple[tuple[bytes, ...] | RoundEnd | None, list[CellsRequest]]:
    """A whole round; None: the neighbour, or this side, went no further."""
    round_, asked = MirrorRound(SOURCE, SALT, mine), []
    while (request := round_.request()) is not None:
        asked.append(request)
        answer = mirror_cells(theirs, SALT, request)
        outcome = round_.take(answer) if answer is not None else None
        if answer is None or outcome is not None:
            return outcome, asked
    return None, asked


@pytest.mark.parametrize(("here", "there"), [(0, 0), (0, 3), (3, 0), (500, 501), (0, 5_000), (2_000, 1_000)])
def test_what_only_the_neighbour_mirrors_is_found(here: int, there: int) -> None:
    shared = digests(50)

    found, asked = compare([*shared, *digests(here, 2)], [*shared, *digests(there, 3)])

    assert isinstance(found, tuple) and {*found} == {one[:16] for one in digests(there, 3)}
    assert {one.set_name for one in asked} == {SOURCE} and len(asked) <= 4
    assert sum(one.count for one in asked) <= max(32, 2.5 * (here + there))


def test_sets_that_are_too_large_are_not_compared() -> None:
    request = MirrorRound(SOURCE, SALT, []).request()
    assert request is not None

    assert mirror_cells(digests(mirror_set_max + 1), SALT, request) is None
    assert mirror_cells([], SALT, replace(request, start=mirror_cells_max)) is None


def test_a_round_that_needs_more_cells_than_are_made_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfn_protocol.mirror_sets.mirror_cells_max", 100)

    found, asked = compare([], digests(200))

    assert found is None and len(asked) == 1


def test_an_answer_that_cannot_be_ends_the_round() -> None:
    round_ = MirrorRound(SOURCE, SALT, [])

    assert round_.take(CellsAnswer(bytes(21), 1, bytes(32))) is RoundEnd.STALLED


def test_a_set_that_changes_in_the_middle_ends_the_round() -> None:
    round_ = MirrorRound(SOURCE, SALT, [])
    for theirs in (digests(400), digests(401)):
        request = round_.request()
        assert request is not None
        answer = mirror_cells(theirs, SALT, request)
        assert answer is not None
        outcome = round_.take(answer)

    assert outcome is RoundEnd.STALLED
