"""One slot: the greatest place wins, versions are write-once, and contradictions end the same way in every order."""

from itertools import permutations

from pfn_node.simulation.world import START_MS, version_statement
from pfn_protocol.announcements import SourceStatement
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


def test_of_two_announcements_of_one_place_the_smaller_id_stays_and_the_contradiction_is_told() -> None:
    one, other = entry(BOB, version_statement("a", content="x")), entry(BOB, version_statement("a", content="y"))
    small, great = sorted((one, other), key=lambda each: each.id)
    registry = filled([great])

    assert registry.offer(small) == Outcome(Verdict.IN_SET, (great.id,), True)
    assert registry.offer(great) == Outcome(Verdict.CONTRADICTS, (), True)
    assert everything(registry) == [small.id]


def test_a_known_announcement_changes_nothing() -> None:
    one = entry(BOB, version_statement("a"))
    registry = filled([one])

    assert registry.offer(one) == Outcome(Verdict.KNOWN)


def test_a_version_is_write_once_the_earlier_one_stays_whichever_came_first() -> None:
    early, late = changed(BOB, "x", START_MS), changed(BOB, "y", START_MS + 1)

    for order in permutations((early, late)):
        assert everything(filled(order)) == [early.id]


def test_a_version_that_names_the_first_replaces_it_and_both_stay() -> None:
    first = changed(BOB, "x", START_MS)
    second = changed(BOB, "y", START_MS + 1, first.id)
    third = changed(BOB, "z", START_MS + 2, first.id)

    for order in permutations((first, second, third)):
        assert everything(filled(order)) == sorted((first.id, third.id))


def test_the_same_bytes_announced_again_take_the_place_of_the_earlier_announcement() -> None:
    early, late = changed(BOB, "x", START_MS), changed(BOB, "x", START_MS + 1)

    for order in permutations((early, late)):
        assert everything(filled(order)) == [late.id]


def test_a_replacement_may_name_a_first_that_was_announced_twice() -> None:
    early, again = changed(BOB, "x", START_MS), changed(BOB, "x", START_MS + 1)
    replacing = changed(BOB, "y", START_MS + 2, again.id)

    for order in permutations((early, again, replacing)):
        registry = filled(order)
        registry.offer(replacing)  # reconciliation brings it again where it came too early
        assert everything(registry) == sorted((again.id, replacing.id))


def test_a_first_repeated_after_its_replacement_contradicts() -> None:
    first = changed(BOB, "x", START_MS)
    replacing = changed(BOB, "y", START_MS + 1, first.id)
    registry = filled([first, replacing])

    assert registry.offer(changed(BOB, "x", START_MS + 2)).verdict is Verdict.CONTRADICTS
    assert everything(registry) == sorted((first.id, replacing.id))


def test_after_a_contradiction_repeating_the_same_bytes_changes_nothing() -> None:
    early, other, again = changed(BOB, "x", START_MS), changed(BOB, "y", START_MS + 1), changed(BOB, "x", START_MS + 2)
    registry = filled([early, other])

    assert registry.offer(again).verdict is Verdict.NOT_TAKEN
    assert everything(registry) == [early.id]


def test_an_earlier_contradiction_puts_out_a_replaced_pair_but_a_later_one_does_not() -> None:
    first = changed(BOB, "x", START_MS + 10)
    replacing = changed(BOB, "y", START_MS + 20, first.id)
    between = changed(BOB, "z", START_MS + 15)
    before = changed(BOB, "w", START_MS + 5)
    registry = filled([first, replacing])

    assert registry.offer(between).verdict is Verdict.CONTRADICTS
    outcome = registry.offer(before)

    assert outcome == Outcome(Verdict.IN_SET, (first.id, replacing.id), True)
    assert everything(registry) == [before.id]


def test_of_two_replacements_of_one_place_the_smaller_stays_with_its_own_first() -> None:
    first = changed(BOB, "x", START_MS)
    naming = [changed(BOB, f"{number}", START_MS + 9, first.id) for number in range(2)]
    stranger_first = [changed(BOB, f"{number}", START_MS + 9, bytes([number]) * 32) for number in range(20)]
    great = max(naming, key=lambda one: one.id)
    registry = filled([first, great])

    registry.offer(min(naming, key=lambda one: one.id))
    assert first.id in registry

    smallest = min(stranger_first, key=lambda one: one.id)
    assert smallest.id < min(one.id for one in naming)
    registry.offer(smallest)
    assert everything(registry) == [smallest.id]
