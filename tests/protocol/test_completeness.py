"""Counts compared third-hand: what a neighbour withholds of a third node is seen, and sought elsewhere."""

from dataclasses import replace

from pfn_node.simulation.network import Network
from pfn_node.simulation.story import Story
from pfn_node.simulation.tricks import Withhold
from pfn_node.simulation.world import START_MS, version_statement
from pfn_protocol.completeness import Completeness, Shortfall
from pfn_protocol.limits import completeness_wait_ms, incomplete_looks_ms_min
from pfn_protocol.registry import Registry
from pfn_protocol.set_digest import SetDigest
from pfn_protocol.slots import Entry
from tests.protocol.sets import ALICE, BOB, CAROL, entry, node_statement

DUE_MS = START_MS + completeness_wait_ms


def counting(*counted: Entry, seq: int = START_MS + 100, extra: int = 0) -> Entry:
    """Bob's node announcement, which counts these, and perhaps some that there are not."""
    root = SetDigest(one.id for one in counted).digest() if not extra else b"\x01" * 32
    return entry(BOB, replace(node_statement(), count=len(counted) + extra, root=root), seq)


def release(number: int, seq: int = START_MS) -> Entry:
    return entry(BOB, version_statement(f"plugin-{number}"), seq + number)


class Room:
    """Alice's registry and what she makes of counts."""

    def __init__(self, *entries: Entry) -> None:
        self.registry = Registry(ALICE.public, [BOB.public])
        self.completeness = Completeness(self.registry)
        self.hear(*entries)

    def hear(self, *entries: Entry, now_ms: int = START_MS) -> None:
        for one in entries:
            self.registry.offer(one)
            if one.node is not None:
                self.completeness.heard([one.author], now_ms)

    def shortfall(self) -> Shortfall | None:
        return self.completeness.shortfall(BOB.public)


def test_what_is_here_when_it_is_counted_is_not_looked_at_again() -> None:
    room = Room(release(1), release(2), counting(release(1), release(2)))

    assert room.completeness.wake_at is None and room.shortfall() is None


def test_what_comes_in_time_is_not_missed() -> None:
    room = Room(release(1), counting(release(1), release(2)))
    assert room.completeness.wake_at == DUE_MS

    room.hear(release(2))

    assert not room.completeness.settle(DUE_MS)
    assert room.shortfall() is None and room.completeness.wake_at is None


def test_what_does_not_come_is_shown_and_sought_until_it_comes() -> None:
    room = Room(release(1), counting(release(1), release(2)))

    assert not room.completeness.settle(DUE_MS - 1)
    assert room.completeness.settle(DUE_MS)
    assert room.shortfall() == Shortfall(announced=2, held=1)

    room.hear(release(2))
    assert not room.completeness.settle(DUE_MS + completeness_wait_ms)
    assert room.shortfall() is None


def test_an_author_that_has_said_more_since_is_not_judged() -> None:
    room = Room(release(1), counting(release(1), release(2)))

    room.hear(release(500))
    room.completeness.settle(DUE_MS)

    assert room.shortfall() is None


def test_a_newer_count_that_is_right_settles_it() -> None:
    room = Room(release(1), counting(release(1), release(2)))
    room.completeness.settle(DUE_MS)

    room.hear(counting(release(1), seq=START_MS + 200), now_ms=DUE_MS)

    assert room.shortfall() is None and room.completeness.wake_at is None


def test_more_than_was_counted_and_more_than_may_be_held_here_are_no_shortfall() -> None:
    more = Room(release(1), release(2), counting(release(1)))
    too_many = Room(release(1), counting(release(1), extra=10_000))

    assert more.completeness.wake_at is None and too_many.completeness.wake_at is None


def test_who_left_the_set_meanwhile_is_forgotten() -> None:
    room = Room(counting(release(1)))

    room.registry.set_policy([], [])
    room.completeness.settle(DUE_MS)

    assert room.shortfall() is None and room.completeness.wake_at is None
    assert room.registry.latest(CAROL.public) == (0, 0)


def test_false_counts_make_nobody_compare_sets_all_the_time() -> None:
    room = Room(counting(extra=3))
    assert room.completeness.settle(DUE_MS)

    looks = 0
    for number in range(1, 80):
        now_ms = DUE_MS + 10_000 * number
        room.hear(counting(extra=3, seq=START_MS + 200 + number), now_ms=now_ms - completeness_wait_ms)
        looks += room.completeness.settle(now_ms)

    assert looks == 1 and 2 * incomplete_looks_ms_min > 80 * 10_000


def test_a_clock_that_is_set_back_delays_no_look() -> None:
    room = Room(counting(release(1)))

    room.completeness.clock_set_back(START_MS - 3_600_000)

    assert room.completeness.wake_at == DUE_MS - 3_600_000


def test_what_a_neighbour_withholds_of_a_third_node_is_seen_and_found_elsewhere() -> None:
    story = Story(seed=2)
    alice, bob, carol = story.mesh("alice", "bob", "carol")
    mallory = story.intruder("mallory", Withhold(), joins=[alice, bob], pinned_by=[alice])
    story.cut(alice, bob)
    story.cut(alice, carol)
    story.passes(minutes=10)
    story.says(bob, "withheld")
    story.passes(seconds=5)
    bob.pin(carol, mallory)  # so it announces itself anew
    story.passes(seconds=5)
    raws = [one.raw for one in bob.announcements() if one.author == bob.id and one.kind == "node"]
    mallory.push(alice, raws)
    seen = alice.mesh.completeness.shortfall

    story.within(
        60, what="alice sees the shortfall", holds=lambda: alice.mesh.completeness.shortfall(bob.id) is not None
    )
    assert alice.mesh.completeness.stated(bob.id) == (1, 0)
    story.heal()
    story.all_know("withheld", within=400)
    story.within(60, what="it is settled", holds=lambda: seen(bob.id) is None)
    assert alice.mesh.completeness.stated(bob.id) == (1, 1)


def test_what_a_node_states_stands_beside_what_is_here_of_it() -> None:
    network = Network()
    alice, bob = network.node("alice"), network.node("bob")
    alice.pin(bob)
    alice.join(bob)
    network.elapse(seconds=30)
    assert alice.mesh.completeness.shortfall(bob.id) is None
    assert alice.mesh.completeness.stated(bob.id) == (0, 0)
    assert alice.mesh.completeness.stated(CAROL.public) == (None, 0)
