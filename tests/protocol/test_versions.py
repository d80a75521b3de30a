"""The order of versions: what PHP's own tests say, and what its rules imply."""

import random

import pytest

from pfn_protocol.versions import compare, newest, sort_key

# PHP's version_compare.phpt: each of these after "1.0", older first; the two spellings of a candidate are equal.
FORMS = [("-dev", 0), ("a1", 1), ("b1", 2), ("RC1", 3), ("rc1", 3), ("", 4), ("pl1", 5)]


@pytest.mark.parametrize(("first", "first_rank"), FORMS)
@pytest.mark.parametrize(("second", "second_rank"), FORMS)
def test_forms_stand_in_the_order_of_phps_own_test(first: str, first_rank: int, second: str, second_rank: int) -> None:
    expected = (first_rank > second_rank) - (first_rank < second_rank)

    assert compare(f"1.0{first}", f"1.0{second}") == expected


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("1", "2", -1),
        ("10", "2", 1),
        ("1.0", "1.1", -1),
        ("1.2", "1.0.1", 1),
        ("1.2(message)", "1.2(message)", 0),
        ("", "", 0),
        ("", "1", -1),
        ("1", "", 1),
        ("5.2", "5.10", -1),
        ("1.0.0", "1.0", 1),
        ("1.0-alpha2", "1.0-alpha10", -1),
        ("1.0alpha", "1.0a", 0),
        ("1.0beta", "1.0b", 0),
        ("1.0p1", "1.0pl1", 0),
        ("1.0-foo", "1.0", -1),
        ("1.0-foo", "1.0-bar", -1),  # "bar" begins with b, as beta does; "foo" is unknown
        ("1.0-foo", "1.0-zoo", 0),
        ("1.0-foo", "1.0-dev", -1),
        ("1.0", "1.0-rc.1", 1),
        ("1.0", "1.0-p", -1),
        ("1.0-RC", "1.0-rc", 0),
        ("1.0-Rc", "1.0-rc", -1),
        ("1-0", "1.0", 0),
        ("1..0", "1.0", 0),
        ("1_0", "1+0", 0),
        ("1.", "1.", 0),
        ("1.", "1", -1),
        ("1", "1.", 1),
        ("v1", "v2", -1),
        ("v1", "1", -1),
        ("001", "1", 0),
        ("1.0é", "1.0", -1),
        ("#1", "#2", 0),
        ("1", "#", 0),
        ("_1", "N0", 1),  # only where it is the first sign: "_", then 1; "N", then 0
        ("#.10~", "#.10", 0),
        ("#.9~", "#.10x", -1),
        ("99999999999999999999", "99999999999999999998", 0),  # both are the greatest long
        ("9223372036854775808", "9223372036854775807", 0),
        ("9223372036854775807", "9223372036854775806", 1),
    ],
)
def test_versions_are_ordered_as_php_orders_them(first: str, second: str, expected: int) -> None:
    assert compare(first, second) == expected


def test_sorting_puts_older_versions_first() -> None:
    ordered = ["0.9", "1.0-dev", "1.0-alpha", "1.0-beta.2", "1.0-RC1", "1.0", "1.0.1", "1.1", "1.10"]
    shuffled = random.Random(7).sample(ordered, len(ordered))

    assert sorted(shuffled, key=sort_key) == ordered
    assert newest(shuffled) == "1.10"


def test_the_newest_of_no_versions_is_none() -> None:
    assert newest([]) is None


def test_the_order_does_not_depend_on_which_comes_first() -> None:
    rng = random.Random(11)
    for _ in range(2_000):
        first, second = ("".join(rng.choices("0123.-abdpr", k=rng.randrange(1, 8))).strip(".-") for _ in range(2))
        if first and second:
            assert compare(first, second) == -compare(second, first), (first, second)


def test_sorting_agrees_with_comparing() -> None:
    rng = random.Random(12)
    for _ in range(5_000):
        first, second = ("".join(rng.choices("0012399..-+abr#", k=rng.randrange(0, 26))) for _ in range(2))
        older = sort_key(first) < sort_key(second)
        assert older == (compare(first, second) < 0), (first, second)
