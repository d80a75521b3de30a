"""Ids in order, however the set changes: what is read is what sorting everything would give."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pfn_protocol.changes import ChangeLog
from pfn_protocol.sorted_ids import SortedIds

IDS = [Random(1).randbytes(32) for _ in range(40)]
BORDERS = st.sampled_from([b"", *IDS])


@given(st.lists(st.tuples(st.integers(0, 39), BORDERS, BORDERS), max_size=60))
def test_what_lies_between_two_ids_is_read_in_order_after_every_change(steps: list[tuple[int, bytes, bytes]]) -> None:
    held: dict[bytes, None] = {}
    changes, ids = ChangeLog(), SortedIds()
    for number, after, until in steps:
        one = IDS[number]
        came = one not in held
        if came:
            held[one] = None
        else:
            del held[one]
        changes.note(one, bytes(32), came=came)

        ids.update(held, changes)

        assert list(ids.between(after, until)) == [
            one for one in sorted(held) if after < one and (not until or one <= until)
        ]


def test_ids_are_sorted_anew_when_the_log_does_not_reach_back() -> None:
    changes, ids = ChangeLog(), SortedIds()
    ids.update(IDS[:3], changes)
    changes.position += 1_000_000

    ids.update(IDS[3:5], changes)

    assert list(ids.between(b"", b"")) == sorted(IDS[3:5])
