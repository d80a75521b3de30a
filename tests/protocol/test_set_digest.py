"""The set digest: order does not matter, parts add up, and what was added can be taken out."""

import random

import pytest

from pfn_protocol.set_digest import SetDigest

IDS = [random.Random(number).randbytes(32) for number in range(20)]


def test_the_order_of_adding_does_not_matter() -> None:
    assert SetDigest(IDS).digest() == SetDigest(reversed(IDS)).digest()


def test_what_is_removed_leaves_no_trace() -> None:
    digest = SetDigest(IDS)
    for item in IDS[10:]:
        digest.remove(item)

    assert digest == SetDigest(IDS[:10])
    assert digest.count == 10


def test_parts_add_up_to_the_whole_and_can_be_left_out() -> None:
    whole = SetDigest(IDS[:5])
    whole.merge(SetDigest(IDS[5:]))
    assert whole == SetDigest(IDS)

    whole.subtract(SetDigest(IDS[:5]))
    assert whole == SetDigest(IDS[5:])


def test_the_count_is_part_of_the_digest() -> None:
    one = SetDigest(IDS)
    other = SetDigest(IDS)
    other.count += 1

    assert one.digest() != other.digest()
    assert one != other


def test_a_copy_goes_its_own_way() -> None:
    original = SetDigest(IDS)
    duplicate = original.copy()
    duplicate.remove(IDS[0])

    assert original == SetDigest(IDS)
    assert duplicate != original


def test_a_digest_outlives_a_restart() -> None:
    assert SetDigest.from_bytes(SetDigest(IDS).to_bytes()) == SetDigest(IDS)


def test_a_changing_digest_is_no_key() -> None:
    assert SetDigest() != b""
    with pytest.raises(TypeError, match="digest"):
        hash(SetDigest())
