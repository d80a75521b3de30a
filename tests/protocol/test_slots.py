"""One slot: place alone decides, in every order of arrival; of a version the first and the winner stand."""

from itertools import permutations

from pfn_node.simulation.world import START_MS, version_statement
from pfn_protocol.announcements import SourceStatement, SuccessorStatement
from pfn_protocol.registry import Outcome, Verdict
from tests.protocol.sets import BOB, DAVE, changed, entry, everything, filled


def test_the_greatest_place_wins_whatever_the_order_of_arrival() -> None:
    source = [
        SourceStatement("dev@pub.test", "https://pub.test", "dev", DAVE.public, "", "", False, number)
        for number in range(3)
    ]
    first, second, new_epoch = (
        entry(BOB, source[0], START_MS + 500),
        entry(BOB, source[1], START_MS + 900),
        entry(BOB, source[2], START_MS, epoch=1),
    )

    for order in permutations((first, second, new_epoch)):
        assert everything(filled(order)) == [new_epoch.id]


def test_a_known_announcement_changes_nothing() -> None:
    one = entry(BOB, version_statement("a"))
    registry = filled([one])

    assert registry.offer(one) == Outcome(Verdict.KNOWN)


def test_of_a_version_the_first_and_the_winner_stand_and_what_lies_between_does_not() -> None:
    first = changed(BOB, "x", START_MS)
    second = changed(BOB, "y", START_MS + 1, first.id)
    third = changed(BOB, "z", START_MS + 2, first.id)
    again = changed(BOB, "x", START_MS + 3, first.id)

    for order in permutations((first, second, third, again)):
        assert everything(filled(order)) == sorted((first.id, again.id))


def test_of_a_commitment_to_a_next_key_the_first_and_the_winner_stand() -> None:
    first, second, third = (
        entry(BOB, SuccessorStatement(bytes([number]) * 32), START_MS + number) for number in range(3)
    )

    for order in permutations((first, second, third)):
        assert everything(filled(order)) == sorted((first.id, third.id))


def test_what_a_change_says_that_it_replaces_need_not_be_here() -> None:
    only = changed(BOB, "y", START_MS, bytes(32))

    assert everything(filled([only])) == [only.id]


def test_across_epochs_place_alone_decides_whatever_was_said() -> None:
    stories = [changed(BOB, content, START_MS - number, epoch=number) for number, content in enumerate("xyxz")]

    for order in permutations(stories):
        assert everything(filled(order)) == sorted((stories[0].id, stories[-1].id))


def test_the_order_in_which_a_version_and_its_changes_come_decides_what_leaves_the_set() -> None:
    first, second, third = (changed(BOB, "x", START_MS + number, b"\1" * 32) for number in range(3))
    registry = filled([second])

    assert registry.offer(third) == Outcome(Verdict.IN_SET, (), third)
    assert registry.offer(first) == Outcome(Verdict.IN_SET, (second.id,), first)
    assert registry.offer(second) == Outcome(Verdict.NOT_TAKEN)
