"""Hostile nodes, trick by trick: none breaks what must hold, or keeps news from honest nodes."""

from collections.abc import Callable

import pytest

from pfn_node.simulation.hostile import Trick
from pfn_node.simulation.invariants import unconvicted
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
from pfn_node.simulation.world import MESH, START_MS, version_statement
from pfn_protocol.acceptance import accept
from pfn_protocol.equivocation import conviction_id
from pfn_protocol.message_fields import seal_request
from pfn_protocol.messages import GossipRequest


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


def test_who_told_two_stories_is_convicted_at_all_honest_nodes_after_the_healing() -> None:
    story = Story(seed=4)
    nodes = story.mesh("alice", "bob", "carol", "dave", "eve")
    mallory = story.intruder("mallory", joins=nodes[:4], pinned_by=nodes[:1])
    story.passes(seconds=15)
    story.part(*nodes[:2])
    for number, node in enumerate((nodes[0], nodes[4])):
        raw = mallory.sign(version_statement("two-faced", content=f"{number}"), START_MS)
        message, nonce = GossipRequest((raw,), (), None, 0), bytes([number]) * 16
        sealed = seal_request(mallory.key, mesh=MESH, to=node.id, message=message, now_ms=mallory.now_ms, nonce16=nonce)
        assert mallory.knock(node, "gossip", sealed)

    story.silence()
    story.heal()
    story.all_agree()

    assert story.two_faced == {mallory.id}
    assert all(node.holds(conviction_id(mallory.id)) for node in nodes)


def test_that_somebody_told_two_stories_and_is_not_convicted_is_found() -> None:
    story = Story()
    alice, bob = story.mesh("alice", "bob")
    mallory = story.intruder("mallory", joins=[alice, bob], pinned_by=[alice])
    story.passes(seconds=15)
    for node, content in ((alice, "x"), (bob, "y")):
        raw = mallory.sign(version_statement("a", content=content), story.network.now_ms)
        told = accept(raw, mesh=MESH, now_ms=story.network.now_ms)
        node.kept[told.id] = (told, True)

    story.silence()

    assert story.two_faced == {mallory.id}
    assert "does not know that" in unconvicted([alice, bob], story.two_faced)
