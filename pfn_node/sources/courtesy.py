"""Letting others go first: what can wait begins when the event loop has time, one such thing after another.

Whoever adds thirty sources has thirty verified and synced in the same second. Each step of that is short, but the event
loop takes all steps in turns, and what is asked of the node meanwhile would wait for every one of them, each time that
it waits for anything.
"""

from typing import Final

import trio

# One pass of the event loop in which nothing was done that takes as long as a request.
PASS_SECONDS_MAX: Final = 0.0015
PAUSE_SECONDS: Final = 0.02
# On a node that never has time everything goes on all the same.
PAUSES_MAX: Final = 10


class Courtesy:
    """One for all that can wait."""

    def __init__(self) -> None:
        self._turn = trio.Lock()

    async def give_way(self) -> None:
        """Wait until it is one's turn and the event loop has time, or a while at most."""
        async with self._turn:
            for _ in range(PAUSES_MAX):
                before = trio.current_time()
                await trio.lowlevel.checkpoint()
                if trio.current_time() - before <= PASS_SECONDS_MAX:
                    break
                await trio.sleep(PAUSE_SECONDS)
