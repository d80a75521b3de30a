"""A node that has nothing is filled by its neighbours, and says how far that has come."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pfn_node.mesh.filling_report import LOOK_SECONDS, FillingReport
from pfn_node.store import activity
from pfn_protocol.snapshot import SnapshotProgress
from tests.network.mesh_network import eventually, network


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


async def test_filling_is_told_in_the_activity_once_when_it_begins_and_once_when_it_ends(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with network(tmp_path) as net:
        a = await net.add("a")
        moments = [None, SnapshotProgress(10, 500, 3), SnapshotProgress(400, 500, 2), None, None]
        report = FillingReport(progress=lambda: moments.pop(0) if moments else None, record=a.engine._record)
        net.nursery.start_soon(report.run)
        await trio.sleep(7 * LOOK_SECONDS)

        told, _ = a.database.read_now(lambda db: activity.activities(db, "federation_event"))

        assert sorted(one.message for one in told) == [
            "Other nodes began to fill this one: 10 of 500 announcements so far.",
            "This node was filled by others: 400 announcements or more came.",
        ]
