"""Making and decoding sketches in a worker thread: seconds of arithmetic that nothing else may wait for.

One thread does it all, one piece of work after the other. A node that stops leaves it to its end: it only computes.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from pfn_node.mesh.blocking import InThread
from pfn_protocol.effects import BuildPrefix, DecodeCells
from pfn_protocol.events import CellsDecoded, PrefixBuilt
from pfn_protocol.sketch import build_cells


class SketchWork:
    """Performs BuildPrefix and DecodeCells. `report` takes the event that ends each."""

    def __init__(self, *, in_thread: InThread, report: Callable[[PrefixBuilt | CellsDecoded], Awaitable[None]]) -> None:
        self._in_thread = in_thread
        self._report = report

    def start(self, nursery: trio.Nursery, work: BuildPrefix | DecodeCells) -> None:
        """Take a piece of work on. Never waits."""
        if isinstance(work, BuildPrefix):
            nursery.start_soon(self._build, work)
        else:
            nursery.start_soon(self._decode, work)

    async def _build(self, build: BuildPrefix) -> None:
        cells = await self._in_thread(partial(build_cells, build.ids, build.without, build.salt, build.length))
        await self._report(PrefixBuilt(build.build_id, cells))

    async def _decode(self, work: DecodeCells) -> None:
        difference = await self._in_thread(partial(work.cells.decode, work.salt))
        await self._report(CellsDecoded(work.decode_id, difference))
