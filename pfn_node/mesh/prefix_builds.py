"""Making the cells of a link's sketch in a worker thread: seconds of arithmetic that nothing else may wait for.

The machine asks for one at a time. A node that stops leaves a thread to its end: it only computes.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from pfn_node.mesh.blocking import InThread
from pfn_protocol.effects import BuildPrefix
from pfn_protocol.events import PrefixBuilt
from pfn_protocol.sketch import build_cells


class PrefixBuilds:
    """Performs BuildPrefix. `report` takes the event that ends it."""

    def __init__(self, *, in_thread: InThread, report: Callable[[PrefixBuilt], Awaitable[None]]) -> None:
        self._in_thread = in_thread
        self._report = report

    def start(self, nursery: trio.Nursery, build: BuildPrefix) -> None:
        """Take a build on. Never waits."""
        nursery.start_soon(self._carry_out, build)

    async def _carry_out(self, build: BuildPrefix) -> None:
        cells = await self._in_thread(partial(build_cells, build.ids, build.without, build.salt, build.length))
        await self._report(PrefixBuilt(build.build_id, cells))
