"""A node that ends between any two of its transactions: after the next start nothing of a notice is half done."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from pfn_node.sources.operations import Sources
from pfn_node.store.decisions import take_down
from pfn_node.store.notices import untold
from pfn_protocol.announcements import YankStatement
from tests.node.sources_room import Publisher, Room, arranged, registered, settled
from tests.node.test_sources_notices import ID, NEW_KEY, revocation, rotation, says, texts, yank

WRITES_MAX = 60
Work = Callable[[Sources, Publisher], Awaitable[object]]


class PowerCut(Exception):
    """The node is gone."""


async def hand_in(sources: Sources, publisher: Publisher) -> object:
    return await sources.accept_notices([yank(publisher), rotation(publisher)], [])


async def revoke(sources: Sources, publisher: Publisher) -> object:
    return await sources.accept_notices([revocation(publisher)], [])


async def verify_after_a_rotation(sources: Sources, publisher: Publisher) -> object:
    says(publisher, rotations_v2=texts(rotation(publisher)))
    publisher.key = NEW_KEY
    return await sources.verify(ID)


def cut_after(room: Room, writes: int) -> None:
    """The power goes with the write after so many."""
    left = writes
    write = room.database.write

    async def cut(work: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise PowerCut
        return await write(work)

    room.database.write = cut  # type: ignore[method-assign]


def state(room: Room) -> dict[str, Any]:
    """What must be the same however often the node ended on the way."""

    def read(db: Any) -> dict[str, Any]:
        queries = {
            "source": "SELECT status, public_key, registered FROM sources",
            "keys": "SELECT key, standing, epoch FROM source_keys ORDER BY key",
            "root": "SELECT root, epoch, state FROM key_roots",
            "notices": "SELECT kind, raw FROM publisher_notices ORDER BY raw",
            "told": "SELECT DISTINCT kind, evidence, withdrawn FROM notice_claims ORDER BY evidence",
        }
        return {name: db.execute(query).fetchall() for name, query in queries.items()}

    return room.read(read)


def begun(folder: Path) -> tuple[Room, Publisher]:
    folder.mkdir()
    return arranged(folder)


async def run(folder: Path, work: Work, writes: int) -> tuple[dict[str, Any], bool]:
    """Let the power go after so many writes, start again, do the work again; return the end, and whether it went."""
    room, publisher = begun(folder)
    old_key = publisher.key
    was_cut = False
    try:
        async with room.running() as sources:
            await registered(sources, publisher)
            cut_after(room, writes)
            await work(sources, publisher)
    except* PowerCut:
        was_cut = True
    room = Room(folder, room.network)
    room.offset = 1_000.0
    async with room.running() as sources:
        await settled(lambda: not room.read(untold))
        if work is verify_after_a_rotation:
            publisher.key = old_key
        await work(sources, publisher)
        await settled(lambda: not room.read(untold))
        return state(room), was_cut


@pytest.mark.parametrize("work", [hand_in, revoke, verify_after_a_rotation])
async def test_wherever_the_power_goes_the_end_is_the_same(
    tmp_path: Path, work: Work, autojump_clock: trio.testing.MockClock
) -> None:
    expected, _ = await run(tmp_path / "whole", work, WRITES_MAX)
    assert expected["told"]
    for writes in range(WRITES_MAX):
        found, was_cut = await run(tmp_path / str(writes), work, writes)
        assert found == expected, writes
        if not was_cut:
            break
    assert writes >= 2


async def test_what_was_kept_and_not_told_is_told_at_the_next_start(tmp_path: Path) -> None:
    room, publisher = arranged(tmp_path)
    try:
        async with room.running() as sources:
            await registered(sources, publisher)
            cut_after(room, 1)
            await hand_in(sources, publisher)
    except* PowerCut:
        pass
    room = Room(tmp_path, room.network)
    room.offset = 1_000.0
    assert len(room.read(untold)) == 2

    async with room.running():
        await settled(lambda: not room.read(untold))

    again = Room(tmp_path, room.network)
    async with again.running():
        await settled(lambda: bool(again.announced) or not again.read(untold))
        assert again.announced == []


async def test_a_takedown_that_was_not_told_is_told_at_the_next_start(tmp_path: Path) -> None:
    room, publisher = arranged(tmp_path)
    async with room.running() as sources:
        await registered(sources, publisher)
        await room.database.write(lambda db: take_down(db, (ID, "alpha", "1.0"), "malware", "key", int(room.clock())))
    room = Room(tmp_path, room.network)
    room.offset = 1_000.0

    async with room.running():
        await settled(lambda: not room.read(untold))
        (told,) = [one for one in room.announced if isinstance(one, YankStatement)]

    assert (told.plugin_id, told.version, told.reason) == ("alpha", "1.0", "malware")
