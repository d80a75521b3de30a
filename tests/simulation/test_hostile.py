"""Hostile nodes, trick by trick: none breaks what must hold, or keeps news from honest nodes."""

from collections.abc import Callable

import pytest

from pfn_node.simulation.hostile import Trick
from pfn_node.simulation.story import Story
from pfn_node.simulation.tricks import (
    Eclipse,
    Equivocate,
    Forge,
    GrindIds,
    Lie,
    Oversize,
    PostDate,
    Replay,
    Sybil,
    Withhold,
)


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize(
    "make", [Equivocate, Forge, GrindIds, Lie, Oversize, PostDate, Replay, lambda: Sybil(keys_at_once=1), Withhold]
)
def test_no_trick_breaks_what_must_hold(make: Callable[[], Trick], sealed: bool) -> None:
    story = Story(seed=3, sealed=sealed)
    nodes = story.mesh("alice", "bob", "carol", "dave", "eve")
    story.intruder("mallory", make(), joins=nodes[:3], pinned_by=nodes[:1])
    story.passes(minutes=2)

    for number, node in enumerate(nodes):
        story.says(node, f"plugin-{number}")
    story.acknowledged_everywhere(within=60)
    story.silence()

    story.all_agree()


def test_neither_replayed_nor_oversized_requests_are_heard() -> None:
    story = Story()
    nodes = story.mesh("alice", "bob", "carol")
    replay, oversize = Replay(), Oversize()
    mallory = story.intruder("mallory", replay, oversize, joins=nodes)

    story.passes(minutes=3)

    assert mallory.overheard
    assert replay.got_in == oversize.got_in == 0


def test_who_forges_is_left_alone_and_what_it_forged_is_nowhere() -> None:
    story = Story()
    nodes = story.mesh("alice", "bob", "carol")
    mallory = story.intruder("mallory", Forge(), joins=nodes)

    story.passes(minutes=3)

    assert not any(node.is_linked(mallory) for node in nodes)
    assert not any("forged" in one.subject for node in nodes for one in node.announcements())


def test_what_is_post_dated_comes_into_the_set_in_its_time_or_never() -> None:
    story = Story()
    nodes = story.mesh("alice", "bob", "carol")
    story.intruder("mallory", PostDate(), joins=nodes)
    story.passes(minutes=2)

    latest_ms = max(one.seq for node in nodes for one in node.announcements()) - story.network.now_ms

    assert 0 < latest_ms <= 300_000
    assert any(node.mesh.status().parked > 0 for node in nodes)


def test_a_liar_is_found_out_by_nobody_but_keeps_nothing_from_anybody() -> None:
    story = Story()
    nodes = story.mesh("alice", "bob", "carol")
    lie = Lie()
    story.intruder("mallory", lie, joins=nodes)
    for number in range(6):
        story.says(nodes[number % 3], f"plugin-{number}")
        story.passes(seconds=30)

    story.acknowledged_everywhere(within=10)
    assert lie.lies > 0


def test_a_silenced_node_does_nothing_and_goes_on_when_it_is_provoked() -> None:
    story = Story()
    nodes = story.mesh("alice", "bob", "carol")
    sybil = Sybil(keys_at_once=1)
    story.intruder("mallory", sybil, joins=nodes)
    story.silence()
    story.passes(minutes=1)
    assert sybil.made == 0

    story.provoke()
    story.passes(minutes=1)

    assert sybil.made > 0


def test_a_gang_shows_its_victim_nobody_but_itself() -> None:
    story = Story()
    *others, victim = story.mesh("alice", "bob", "carol", "dave")
    gang = [story.intruder(f"m-{n}", Eclipse(story.hostile, victim), Withhold(), joins=[victim]) for n in range(12)]
    story.passes(minutes=3)

    known = {view.peer for view in victim.mesh.links()}

    assert sum(one.id in known for one in gang) >= 8
    story.says(others[0], "hello")
    story.all_know("hello", within=60)
