"""A node that has nothing is filled by its neighbours, and says how far that has come."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from pfn_node.mesh.filling_report import LOOK_SECONDS, Filling, FillingReport
from pfn_node.mesh.traffic import Traffic
from pfn_protocol.mesh import Mesh, MeshStatus
from pfn_protocol.messages import GossipAnswer, SetStatus
from pfn_protocol.snapshot import SnapshotProgress
from tests.network.mesh_network import eventually, network

TRUSTED, STRANGER = b"t" * 32, b"s" * 32


async def test_a_newcomer_with_three_neighbours_is_filled_by_all_of_them(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pfn_protocol.pages.snapshot_page_max", 4)
    async with network(tmp_path) as net:
        a = await net.add("a")
        b = await net.add("b", join=("a",))
        c = await net.add("c", join=("a",))
        for number in range(300):
            await a.publish(b"zip %d" % number, plugin_id=f"plugin-{number}")
        await eventually(lambda: all(node.release("1.0", "plugin-299") for node in (b, c)), 600)
        for node in (a, b, c):
            node.asked.clear()

        d = await net.add("d", join=("a", "b", "c"))
        seen: list[SnapshotProgress] = []

        async def watch() -> None:
            while True:
                assert d.engine._mesh is not None
                progress = d.engine._mesh.status().snapshot
                if progress is not None:
                    seen.append(progress)
                await trio.sleep(0.01)

        net.nursery.start_soon(watch)
        await eventually(lambda: all(d.release("1.0", f"plugin-{number}") for number in range(300)), 600)

        assert max(progress.neighbours for progress in seen) >= 2
        assert max(progress.received for progress in seen) > 100
        assert sum("snapshot" in node.asked for node in (a, b, c)) >= 2


@dataclass
class Growing:
    """A machine that fills up: what its status and links are at each look."""

    neighbours_are: tuple[bytes, ...] = (TRUSTED, STRANGER)
    held: int = 0
    snapshot: SnapshotProgress | None = None

    def neighbours(self) -> tuple[bytes, ...]:
        return self.neighbours_are

    def status(self) -> MeshStatus:
        return MeshStatus(self.held, bytes(32), 1, 0, 1, (0, 0), False, self.snapshot)


def told_by(*counts: tuple[bytes, int]) -> Traffic:
    """Neighbours said that they have so many announcements."""
    traffic = Traffic()
    for peer, count in counts:
        traffic.record(peer, sent=1, received=1, at=0)
        traffic.hear(peer, GossipAnswer((), (), SetStatus(count, bytes(32))))
    return traffic


async def watched(machine: Growing, traffic: Traffic, *held: int) -> tuple[list[Filling | None], list[str]]:
    """What is shown after each look, and what goes into the activity, while so many are held."""
    shown: list[Filling | None] = []
    sentences: list[str] = []

    async def record(sentence: str) -> None:
        await trio.lowlevel.checkpoint()
        sentences.append(sentence)

    report = FillingReport(traffic, lambda peer: peer == TRUSTED, record)
    async with trio.open_nursery() as nursery:
        for number in held:
            machine.held = number
            if number == held[0]:
                nursery.start_soon(report.run, cast(Mesh, machine))
                await trio.sleep(LOOK_SECONDS / 2)
            else:
                await trio.sleep(LOOK_SECONDS)
            shown.append(report.filling)
        nursery.cancel_scope.cancel()
    return shown, sentences


async def test_a_node_that_goes_on_being_filled_after_a_restart_says_how_far_it_is_and_how_long_it_takes(
    autojump_clock: MockClock,
) -> None:
    shown, sentences = await watched(Growing(), told_by((TRUSTED, 10_000)), 5_000, 6_000, 7_000, 9_500)

    assert shown == [
        None,  # nobody knows yet whether more comes
        Filling(6_000, 10_000, per_second=200, seconds_left=20),
        Filling(7_000, 10_000, per_second=200, seconds_left=15),
        None,  # what is lacking still is here in a moment
    ]
    assert sentences == [
        "Other nodes began to fill this one: it has 6000 of 10000 announcements.",
        "This node was filled by others: it has 9500 announcements now.",
    ]


async def test_what_neighbours_have_more_and_this_node_does_not_take_is_no_filling(autojump_clock: MockClock) -> None:
    shown, sentences = await watched(Growing(), told_by((TRUSTED, 10_000)), 5_000, *[6_000] * 14)

    assert shown[1] == Filling(6_000, 10_000, per_second=200, seconds_left=20)
    assert shown[12] == Filling(6_000, 10_000, per_second=17, seconds_left=240)
    assert shown[13] is None, "the last came a minute ago"
    assert len(sentences) == 2


async def test_nobody_believes_a_stranger_how_much_there_is_to_have(autojump_clock: MockClock) -> None:
    shown, _ = await watched(Growing(), told_by((TRUSTED, 6_500), (STRANGER, 10**12)), 5_000, 5_200, 6_000)

    assert shown == [None, Filling(5_200, 6_500, per_second=40, seconds_left=32), None]


async def test_a_stranger_with_whom_a_snapshot_began_is_believed_no_more(autojump_clock: MockClock) -> None:
    machine = Growing(snapshot=SnapshotProgress(0, 10**12, 2))

    shown, _ = await watched(machine, told_by((TRUSTED, 6_500)), 5_000, 5_200)

    assert shown[-1] == Filling(5_200, 6_500, per_second=40, seconds_left=32)


async def test_a_snapshot_is_a_filling_from_its_first_moment_on(autojump_clock: MockClock) -> None:
    machine = Growing(snapshot=SnapshotProgress(0, 500, 3))

    shown, sentences = await watched(machine, Traffic(), 2, 52)

    assert shown == [Filling(2, 500, 0, None), Filling(52, 500, 0, None)], "too few came to say how fast the rest will"
    assert sentences == ["Other nodes began to fill this one: it has 2 of 500 announcements."]
