"""Notices of publishers, as this room gets them: with a publisher's answers, or from whoever hands one in.

What says something new is kept, and then told to the mesh with the publisher's own envelope as evidence; not if enough
nodes that this one pins tell it already. A publisher's answer is read at every verification and sync. A notice about
another source than the one that was asked counts as much as one that anybody hands in: it certifies itself.

What was kept and not told, because the node ended in between, is told at its next start.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import sqlite_utils
import trio

from pfn_node.sources.announcing import WITNESSES_ENOUGH, Announce
from pfn_node.sources.outcomes import NoticeOutcome
from pfn_node.sources.standing import settle
from pfn_node.store.database import Database
from pfn_node.store.notices import Taken, mark_advised, take_binding, take_notice, told_by_pins, untold
from pfn_node.store.outlasting import outlast
from pfn_node.store.releases import refresh_version
from pfn_node.store.safety import cooled_down
from pfn_node.store.sources import get_source
from pfn_protocol.announcement_fields import decode, encode
from pfn_protocol.announcements import NoticeStatement
from pfn_protocol.errors import Refusal
from pfn_protocol.limits import seq_min_ms

# Looked at again so often; three days may be a few minutes longer.
COOLING_LOOK_SECONDS: Final = 300.0
COOLED_AT_ONCE_MAX: Final = 100
NEW: Final = "new"
KNOWN: Final = "known"
REFUSED: Final = "refused"


class Notices:
    """Takes notices in and tells them on."""

    def __init__(self, database: Database, announce: Announce, clock: Callable[[], float]) -> None:
        self._database = database
        self._announce = announce
        self._clock = clock

    async def take(self, envelopes: Sequence[bytes], keybinds: Sequence[bytes] = ()) -> list[NoticeOutcome]:
        """Take in notices in their order, after the keybinds of the keys that signed them; say what became of each."""
        if not envelopes and not keybinds:
            return []
        outcomes, told = await self._database.write(lambda db: self._take(db, envelopes, keybinds))
        for statement in told:
            await self._announce(statement)
        return outcomes

    async def say(self, statement: NoticeStatement) -> bool:
        """Announce what an admin of this node says; it acts here as soon as it is kept. Return whether it was told.

        Raises Refusal for what no node would accept.
        """
        decode(statement.kind, encode(statement, 0, seq_min_ms))
        return bool(await self._announce(statement))

    async def run(self) -> None:
        """Tell what an earlier run kept and did not tell; then end the time of cooling down of releases, for ever."""
        for statement in await outlast(partial(self._database.read, untold), "notices to tell"):
            await outlast(partial(self._announce, statement), "notice")
        while True:
            if not await outlast(self._end_cooling_of_some, "cooling down"):
                await trio.sleep(COOLING_LOOK_SECONDS)

    async def _end_cooling_of_some(self) -> bool:
        """Whether there were any whose time is over."""
        now = int(self._clock())
        if not await self._database.read(partial(cooled_down, now=now, limit=1)):
            return False
        await self._database.write(partial(_end_cooling, now=now))
        return True

    def _take(
        self, db: sqlite_utils.Database, envelopes: Sequence[bytes], keybinds: Sequence[bytes]
    ) -> tuple[list[NoticeOutcome], list[NoticeStatement]]:
        now = int(self._clock())
        bindings = _bind(db, keybinds, now)
        outcomes: list[NoticeOutcome] = []
        told: list[NoticeStatement] = []
        advised: set[tuple[str, str]] = set()
        for raw in envelopes:
            try:
                taken = take_notice(db, raw, now, advised)
            except Refusal as refusal:
                outcomes.append(NoticeOutcome(REFUSED, None, refusal.rule, refusal.sentence))
                continue
            outcomes.append(NoticeOutcome(KNOWN if taken.statement is None else NEW, taken.source_id))
            told += _to_tell(db, taken)
            # A rotation may have made the key known that these keybinds are signed by.
            bindings = _bind(db, bindings, now)
        mark_advised(db, advised)
        for source_id in dict.fromkeys(one.source_id for one in outcomes if one.outcome == NEW and one.source_id):
            if get_source(db, source_id) is not None:
                settle(db, source_id, now)
        return outcomes, told


def _end_cooling(db: sqlite_utils.Database, now: int) -> None:
    for key in cooled_down(db, now, COOLED_AT_ONCE_MAX):
        refresh_version(db, *key, now=now)


def _bind(db: sqlite_utils.Database, keybinds: Sequence[bytes], now: int) -> list[bytes]:
    """Keep the keybinds that count; return those that did not yet."""
    return [raw for raw in keybinds if not take_binding(db, raw, now)]


def _to_tell(db: sqlite_utils.Database, taken: Taken) -> list[NoticeStatement]:
    statement = taken.statement
    return [] if statement is None or told_by_pins(db, statement) >= WITNESSES_ENOUGH else [statement]
