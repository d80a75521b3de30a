"""Filling a nearly empty node from several neighbours: who gives what, and what slow, lying and lost ones cost."""

from dataclasses import replace

import pytest

from pfn_node.simulation.world import key_of
from pfn_protocol.limits import snapshot_idle_ms_max, snapshot_part_ms_max, snapshot_parts_max, snapshot_rest_ms
from pfn_protocol.messages import Answer, FetchRequest, IdsRequest, Request, SnapshotAnswer, SnapshotRequest
from tests.protocol.neighbours import Manner, Neighbourhood, busy, honest, silent, trickling, withholding
from tests.protocol.parties import Party
from tests.protocol.sets import ALICE, BOB, CAROL, DAVE, fake_versions

NEIGHBOURS = (BOB, CAROL, DAVE)
EVERYBODY = (ALICE, *NEIGHBOURS, *(key_of(f"author {number}") for number in range(2)))


def room(count: int, *manners: Manner) -> tuple[Neighbourhood, Party, list[Party]]:
    """Alice holds nothing; her neighbours have the same announcements, and answer in these manners."""
    alice = Party(ALICE, EVERYBODY)
    neighbourhood = Neighbourhood(alice)
    givers = [Party(key, EVERYBODY) for key, _ in zip(NEIGHBOURS, manners, strict=False)]
    for giver, manner in zip(givers, manners, strict=True):
        for author in EVERYBODY[-2:]:
            giver.hold(fake_versions(author.public, count // 2))
        neighbourhood.link(giver, manner)
    return neighbourhood, alice, givers


def snapshots(alice: Party) -> list[SnapshotRequest]:
    return [one for one in alice.asked if isinstance(one, SnapshotRequest)]


def sent(neighbourhood: Neighbourhood) -> list[bytes]:
    return [one for bodies in neighbourhood.bodies.values() for one in bodies]


def test_three_neighbours_fill_a_node_and_every_announcement_comes_once() -> None:
    neighbourhood, alice, givers = room(6_000, honest, honest, honest)

    assert neighbourhood.run(60, lambda: alice.agrees_with(givers[0]))

    bodies = sent(neighbourhood)
    assert len(bodies) == len({*bodies}) == 6_000
    assert all(len(neighbourhood.bodies[giver.id]) > 1_000 for giver in givers)
    assert not alice.requests(FetchRequest) and not alice.requests(IdsRequest)
    assert len(snapshots(alice)) <= 2 * snapshot_parts_max


def test_what_progress_is_shown_while_a_node_is_filled() -> None:
    neighbourhood, alice, givers = room(6_000, honest, honest, honest)
    neighbourhood.run(60, lambda: len(alice.registry) > 1_000)

    progress = alice.machine.snapshot_progress

    assert progress is not None
    assert (progress.received, progress.expected, progress.neighbours) == (len(alice.registry), 6_000, 3)
    neighbourhood.run(60, lambda: alice.agrees_with(givers[0]))
    neighbourhood.run(1)
    assert alice.machine.snapshot_progress is None


@pytest.mark.parametrize("bad", [silent, busy, trickling], ids=lambda manner: manner.__name__)
@pytest.mark.parametrize("place", [0, 1])
def test_a_neighbour_that_is_slow_for_ever_holds_up_a_snapshot_for_a_moment_only(bad: Manner, place: int) -> None:
    manners: list[Manner] = [honest, honest, honest]
    manners[place] = bad
    neighbourhood, alice, givers = room(6_000, *manners)

    good = givers[2]
    assert neighbourhood.run(2 * snapshot_part_ms_max / 1_000, lambda: alice.agrees_with(good))

    assert len(sent(neighbourhood)) < 1.2 * 6_000


@pytest.mark.parametrize("bad", [silent, busy, trickling], ids=lambda manner: manner.__name__)
def test_two_slow_neighbours_do_not_keep_the_third_from_filling_the_node(bad: Manner) -> None:
    neighbourhood, alice, givers = room(6_000, bad, bad, honest)

    assert neighbourhood.run(3 * snapshot_part_ms_max / 1_000, lambda: alice.agrees_with(givers[2]))


def test_a_neighbour_that_withholds_its_parts_is_found_out_and_others_give_them() -> None:
    neighbourhood, alice, givers = room(6_000, withholding, honest, honest)

    assert neighbourhood.run(60, lambda: alice.agrees_with(givers[1]))

    assert neighbourhood.pages[givers[0].id] == 1
    assert not alice.requests(IdsRequest) and not alice.requests(FetchRequest)


@pytest.mark.parametrize("relinks", [False, True])
def test_a_neighbour_whose_pages_never_end_ends_the_filling_for_nobody_else(
    relinks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pfn_protocol.snapshot.snapshot_pages_max", 60)
    monkeypatch.setattr("pfn_protocol.snapshot.peers_known_max", 1)  # of departed ones that are remembered

    def endless(request: Request, answer: Answer) -> tuple[Answer, int]:
        if isinstance(answer, SnapshotAnswer) and len(answer.announcements) > 1:
            return SnapshotAnswer(answer.announcements[:1], answer.announcements[0]), 3
        return answer, 3

    neighbourhood, alice, (eve, *others) = room(6_000, endless, honest, honest)
    if relinks:
        assert neighbourhood.run(1, lambda: neighbourhood.pages[eve.id] == 60)
        for departed, manner in ((others[1], honest), (eve, endless)):
            neighbourhood.unlink(departed)
            neighbourhood.link(departed, manner)

    assert neighbourhood.run(60, lambda: alice.agrees_with(others[0]))

    assert neighbourhood.pages[eve.id] == 60
    assert not alice.requests(IdsRequest) and not alice.requests(FetchRequest)


def test_what_a_neighbour_withholds_bit_by_bit_is_found_by_the_rounds_that_follow() -> None:
    def every_third(request: Request, answer: Answer) -> tuple[Answer, int]:
        if isinstance(answer, SnapshotAnswer):
            return SnapshotAnswer(tuple(one for one in answer.announcements if one[-1] % 3), answer.after), 50
        return answer, 50

    neighbourhood, alice, givers = room(6_000, every_third, honest, honest)

    assert neighbourhood.run(120, lambda: alice.agrees_with(givers[1]))

    assert alice.requests(FetchRequest)
    assert len(sent(neighbourhood)) <= 6_050


def test_a_neighbour_that_skips_and_then_falls_silent_or_leaves_is_found_out_and_nobody_else_is_blamed() -> None:
    def skips(request: Request, answer: Answer) -> tuple[Answer, int] | None:
        if not isinstance(request, SnapshotRequest) or not isinstance(answer, SnapshotAnswer):
            return answer, 20
        before_the_end = request.until[:-1] + b"\0"
        return (
            None if request.after == before_the_end else (SnapshotAnswer(answer.announcements[:1], before_the_end), 20)
        )

    neighbourhood, alice, givers = room(6_000, skips, honest, honest)

    assert neighbourhood.run(60, lambda: alice.agrees_with(givers[1]))

    assert neighbourhood.pages[givers[0].id] == 1
    assert not alice.requests(FetchRequest) and not alice.requests(IdsRequest)


def test_if_all_neighbours_withhold_the_snapshot_is_over_and_an_honest_one_that_comes_fills_the_node() -> None:
    neighbourhood, alice, _ = room(6_000, withholding, withholding)
    neighbourhood.run(30)
    assert alice.machine.snapshot_progress is None

    dave = Party(DAVE, EVERYBODY)
    for author in EVERYBODY[-2:]:
        dave.hold(fake_versions(author.public, 3_000))
    neighbourhood.link(dave)

    assert neighbourhood.run(60, lambda: alice.agrees_with(dave))


def test_a_neighbour_that_is_always_busy_for_snapshots_fills_the_node_by_rounds_in_the_end() -> None:
    def no_snapshots(request: Request, answer: Answer) -> tuple[Answer, int]:
        return busy(request, answer) if isinstance(request, SnapshotRequest) else (answer, 50)

    neighbourhood, alice, (bob,) = room(6_000, no_snapshots)

    assert neighbourhood.run(2 * snapshot_idle_ms_max / 1_000, lambda: alice.agrees_with(bob))

    assert len(snapshots(alice)) <= snapshot_idle_ms_max / snapshot_rest_ms


def test_a_neighbour_that_never_gives_its_part_is_left_to_the_rounds_in_the_end() -> None:
    def no_snapshots(request: Request, answer: Answer) -> tuple[Answer, int] | None:
        return None if isinstance(request, SnapshotRequest) else (answer, 50)

    neighbourhood, alice, (bob,) = room(6_000, no_snapshots)

    assert neighbourhood.run(2 * snapshot_idle_ms_max / 1_000, lambda: alice.agrees_with(bob))

    assert alice.machine.snapshot_progress is None


def test_parts_wait_while_there_is_no_link_and_go_on_where_they_stopped() -> None:
    neighbourhood, alice, (bob, carol) = room(6_000, honest, honest)
    neighbourhood.run(60, lambda: len(alice.registry) > 2_000)
    neighbourhood.unlink(bob)
    neighbourhood.unlink(carol)
    neighbourhood.run(60)
    came = len(alice.registry)
    assert came < 6_000

    neighbourhood.link(carol)

    assert neighbourhood.run(60, lambda: alice.agrees_with(carol))
    bodies = sent(neighbourhood)
    assert len({*bodies}) == 6_000 and len(bodies) <= 6_000 + 2 * 512


def test_a_node_that_was_restarted_half_full_does_not_fetch_again_what_it_has() -> None:
    neighbourhood, alice, (bob, *_) = room(6_000, honest, honest, honest)
    alice.hold(fake_versions(EVERYBODY[-1].public, 3_000))

    assert neighbourhood.run(120, lambda: alice.agrees_with(bob))

    assert len(sent(neighbourhood)) <= 3_100


def test_a_snapshot_for_a_neighbour_leaves_out_whom_it_does_not_admit() -> None:
    alice, bob = Party(ALICE, EVERYBODY[:-1]), Party(BOB, EVERYBODY)
    for author in EVERYBODY[-2:]:
        bob.hold(fake_versions(author.public, 500))
    neighbourhood = Neighbourhood(alice)
    neighbourhood.link(bob)

    assert neighbourhood.run(60, lambda: alice.agrees_with(bob))

    assert len(sent(neighbourhood)) == len(alice.registry) == 500


def test_a_fruitful_snapshot_may_be_followed_by_another_one_and_a_fruitless_one_not() -> None:
    neighbourhood, alice, (bob,) = room(600, honest)
    assert neighbourhood.run(60, lambda: alice.agrees_with(bob))
    neighbourhood.run(20)
    alice.drop(fake_versions(EVERYBODY[-1].public, 300))
    alice.drop(fake_versions(EVERYBODY[-2].public, 300))
    before = len(snapshots(alice))

    assert neighbourhood.run(60, lambda: alice.agrees_with(bob))
    assert len(snapshots(alice)) > before

    neighbourhood.run(20)
    alice.drop(fake_versions(EVERYBODY[-1].public, 300))
    alice.drop(fake_versions(EVERYBODY[-2].public, 300))
    alice.takes = lambda entry: False
    neighbourhood.run(60, lambda: bool(alice.requests(IdsRequest)))
    before = len(snapshots(alice))
    neighbourhood.run(600)
    assert len(snapshots(alice)) == before


def endless(request: Request, answer: Answer) -> tuple[Answer, int]:
    """One announcement at a time, at once, and hardly any way through the part."""
    if not isinstance(request, SnapshotRequest) or not isinstance(answer, SnapshotAnswer):
        return answer, 5
    return SnapshotAnswer(answer.announcements[:1], (int.from_bytes(request.after) + 1).to_bytes(32)), 5


def unhurried(request: Request, answer: Answer) -> tuple[Answer, int]:
    return answer, 500


def test_a_neighbour_that_says_to_have_a_billion_keeps_no_other_from_filling_the_node_again() -> None:
    neighbourhood, alice, _ = room(6_000)
    mallory, good = Party(BOB, EVERYBODY), Party(CAROL, EVERYBODY)
    for author in EVERYBODY[-2:]:
        good.hold(fake_versions(author.public, 3_000))
    status = mallory.machine.status
    mallory.machine.status = lambda peer: replace(status(peer), count=10**9, digest=bytes(32))  # type: ignore[method-assign]
    neighbourhood.link(mallory, silent)
    neighbourhood.link(good)
    assert neighbourhood.run(60, lambda: alice.agrees_with(good))
    neighbourhood.unlink(mallory)
    neighbourhood.run(2 * snapshot_idle_ms_max / 1_000)
    for author in EVERYBODY[-2:]:
        alice.drop(fake_versions(author.public, 3_000))
    before = neighbourhood.pages[good.id]

    assert neighbourhood.run(60, lambda: alice.agrees_with(good))

    assert neighbourhood.pages[good.id] > before


def test_a_page_that_leads_beyond_its_part_is_no_honest_one() -> None:
    def beyond(request: Request, answer: Answer) -> tuple[Answer, int]:
        return SnapshotAnswer((), b"\xff" * 32), 10

    neighbourhood, alice, _ = room(600, beyond)

    neighbourhood.run(5)

    assert alice.shunned
