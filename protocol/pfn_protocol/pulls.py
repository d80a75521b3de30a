"""Announcements that were heard of by id and have not come: when to ask for them, and whom.

A neighbour that tells an id has the body. Most often the body is on its way through the tree, so it is asked for only
after some time, with some chance in it, and then from one neighbour after the other. After a few attempts the id is
left to reconciliation. Asking changes nothing about the tree; whether a branch is broken is judged by misses in a row
(gossip.py).
"""

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from random import Random

from pfn_protocol.limits import (
    fetch_ids_max,
    ids_wait_ms_min,
    pull_hops,
    pull_jitter,
    pull_wait_ms_min,
    pulls_per_id_max,
    pulls_waiting_max,
)

# A hop's delay before any was measured.
_hop_delay_ms_assumed = 50


@dataclass(slots=True)
class Missing:
    """An id whose body is not here."""

    heard_ms: int
    holders: dict[bytes, None] = field(default_factory=dict)  # who told it; the next to be asked comes first
    tries: int = 0
    asked: bytes | None = None  # who was asked last
    due_ms: int | None = None  # None: asked and not answered, or given up


class Pulls:
    """The ids that are waited for."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._missing: dict[bytes, Missing] = {}
        self._agenda: list[tuple[int, bytes]] = []
        self.hop_delay_ms = _hop_delay_ms_assumed  # the median over the links, kept up to date by gossip.py

    def heard(self, announcement_id: bytes, holder: bytes, now_ms: int) -> None:
        """A neighbour has this one, and it is not here."""
        missing = self._missing.get(announcement_id)
        if missing is None:
            missing = self._add(announcement_id, now_ms)
            self._plan(announcement_id, missing, now_ms + self._wait_ms())
        elif missing.due_ms is None and missing.asked is None and missing.tries < pulls_per_id_max:
            self._plan(announcement_id, missing, now_ms)  # nobody was left to ask
        missing.holders[holder] = None

    def wants(self, announcement_id: bytes, holder: bytes, now_ms: int) -> bool:
        """A neighbour offers this one, to be sent at once. Returns whether it is to be sent."""
        missing = self._missing.get(announcement_id) or self._add(announcement_id, now_ms)
        missing.holders[holder] = None
        if missing.asked is not None or missing.tries >= pulls_per_id_max:
            return False
        missing.tries += 1
        missing.asked = holder
        self._plan(announcement_id, missing, now_ms + self._wait_ms())
        return True

    def hasten(self, holder: bytes, now_ms: int) -> None:
        """This neighbour brings news from now on, but not what it told by id before: ask it for that at once."""
        for announcement_id, missing in self._missing.items():
            if holder in missing.holders and missing.asked is None and missing.due_ms is not None:
                missing.holders = {holder: None, **missing.holders}
                self._plan(announcement_id, missing, min(missing.due_ms, now_ms))

    def arrived(self, announcement_id: bytes) -> Missing | None:
        """The body is here. Returns what was known of it while it was waited for."""
        return self._missing.pop(announcement_id, None)

    def closed(self, holder: bytes) -> None:
        """Its link is over: it is not asked, and who comes and goes under ever new names is not remembered either."""
        for missing in self._missing.values():
            missing.holders.pop(holder, None)

    def forget(self) -> None:
        """Wait for nothing any more: neighbours tell it anew."""
        self._missing.clear()
        self._agenda.clear()

    def take_due(self, now_ms: int, is_free: dict[bytes, bool]) -> dict[bytes, list[bytes]]:
        """Whom to ask for what, now. `is_free` has every neighbour that can be asked, and whether it is idle."""
        asked: dict[bytes, list[bytes]] = {}
        while self._agenda and self._agenda[0][0] <= now_ms:
            due_ms, announcement_id = heappop(self._agenda)
            missing = self._missing.get(announcement_id)
            if missing is None or missing.due_ms != due_ms:
                continue
            missing.due_ms = missing.asked = None
            missing.holders = {one: None for one in missing.holders if one in is_free}
            if not missing.holders or missing.tries >= pulls_per_id_max:
                continue
            idle = (one for one in missing.holders if is_free[one] and len(asked.get(one, ())) < fetch_ids_max)
            holder = next(idle, None)
            if holder is None:  # all that wait for somebody to be free are looked at together
                self._plan(announcement_id, missing, (now_ms // ids_wait_ms_min + 1) * ids_wait_ms_min)
                continue
            del missing.holders[holder]
            missing.holders[holder] = None  # the others come first the next time
            missing.tries += 1
            missing.asked = holder
            asked.setdefault(holder, []).append(announcement_id)
        return asked

    def failed(self, ids: tuple[bytes, ...], holder: bytes, now_ms: int, *, gone: bool) -> None:
        """A neighbour that was asked did not send these: it could not, or (`gone`) has them no longer."""
        for announcement_id in ids:
            missing = self._missing.get(announcement_id)
            if missing is None or missing.asked != holder:
                continue
            if gone:
                missing.holders.pop(holder, None)
            missing.asked = None
            self._plan(announcement_id, missing, now_ms)

    def are_due(self, now_ms: int) -> bool:
        """Whether `take_due` may have something to do."""
        return bool(self._agenda) and self._agenda[0][0] <= now_ms

    @property
    def wake_at(self) -> int | None:
        """When `take_due` has something to do next."""
        return self.wake_before(None)

    def wake_before(self, others_ms: int | None) -> int | None:
        """The same, or what was given if that is earlier."""
        agenda = self._agenda
        while agenda and (others_ms is None or agenda[0][0] < others_ms):
            due_ms, announcement_id = agenda[0]
            missing = self._missing.get(announcement_id)
            if missing is not None and missing.due_ms == due_ms:
                return due_ms
            heappop(agenda)
        return others_ms

    def _add(self, announcement_id: bytes, now_ms: int) -> Missing:
        if len(self._missing) >= pulls_waiting_max:
            del self._missing[next(iter(self._missing))]
        missing = self._missing[announcement_id] = Missing(now_ms)
        return missing

    def _plan(self, announcement_id: bytes, missing: Missing, due_ms: int) -> None:
        missing.due_ms = due_ms
        if len(self._agenda) > 4 * pulls_waiting_max:  # mostly those that came meanwhile
            self._agenda = [(one.due_ms, key) for key, one in self._missing.items() if one.due_ms is not None]
            heapify(self._agenda)
        heappush(self._agenda, (due_ms, announcement_id))

    def _wait_ms(self) -> int:
        shortest = max(pull_wait_ms_min, pull_hops * self.hop_delay_ms)
        return int(shortest * (1 + pull_jitter * self._rng.random()))
