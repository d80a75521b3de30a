"""Sketches are made and decoded in a thread, and each piece of work ends in one event."""

import threading

import trio

from pfn_node.mesh.blocking import worker_threads
from pfn_node.mesh.sketch_work import SketchWork
from pfn_protocol.effects import BuildPrefix, DecodeCells
from pfn_protocol.events import CellsDecoded, PrefixBuilt
from pfn_protocol.sketch import Cells, build_cells

SALT = bytes(32)
IDS = tuple(bytes([number]) * 32 for number in range(20))


async def test_building_and_decoding_end_in_one_event_each_and_the_event_loop_goes_on() -> None:
    events: list[PrefixBuilt | CellsDecoded] = []
    threads: list[int] = []

    async def report(event: PrefixBuilt | CellsDecoded) -> None:
        events.append(event)

    class Watched(Cells):
        def decode(self, salt: bytes):  # type: ignore[no-untyped-def]
            threads.append(threading.get_ident())
            return super().decode(salt)

    cells = Watched(64)
    cells.add([one[:16] for one in IDS], SALT)
    work = SketchWork(in_thread=worker_threads(1), report=report)
    async with trio.open_nursery() as nursery:
        work.start(nursery, BuildPrefix(1, IDS, IDS[:5], SALT, 64))
        work.start(nursery, DecodeCells(2, cells, SALT))

    built = next(event for event in events if isinstance(event, PrefixBuilt))
    decoded = next(event for event in events if isinstance(event, CellsDecoded))
    assert (built.build_id, built.cells.to_bytes()) == (1, build_cells(IDS[5:], (), SALT, 64).to_bytes())
    assert decoded.difference is not None
    assert (decoded.decode_id, {*decoded.difference.theirs}) == (2, {one[:16] for one in IDS})
    assert threads and threads[0] != threading.get_ident()
