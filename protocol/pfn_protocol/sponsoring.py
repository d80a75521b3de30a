"""Letting newcomers in: this node sponsors those whose links it accepts, a few, each with a small share of the set.

A place is kept for a day after the newcomer was last heard of, so that a short absence does not take its
announcements out of the set everywhere. When all places are taken the one longest unheard of gives way, but never one
that is linked.
"""

from collections.abc import Callable, Iterable

from pfn_protocol.limits import sponsored_max, sponsored_memory_ms


class Sponsoring:
    """The newcomers that have a place, and since when, or when each was found to be still about.

    `last_heard_ms` tells when a node was last heard of; None: not since the start.
    """

    def __init__(self, sponsored: Iterable[bytes], last_heard_ms: Callable[[bytes], int | None], now_ms: int) -> None:
        self._heard_ms: dict[bytes, int] = dict.fromkeys(sponsored, now_ms)
        self._last_heard_ms = last_heard_ms
        self._next_ms: int | None = self._first_expiry()  # not later than the first expiry

    @property
    def nodes(self) -> tuple[bytes, ...]:
        """Sorted, as the node announcement names them."""
        return tuple(sorted(self._heard_ms))

    def let_in(self, node_id: bytes, now_ms: int, is_linked: Callable[[bytes], bool]) -> bool:
        """A newcomer's link was accepted. Returns whether the sponsored nodes changed."""
        if node_id in self._heard_ms:
            self._heard_ms[node_id] = now_ms
            return False
        if len(self._heard_ms) >= sponsored_max:
            absent = [one for one in self._heard_ms if not is_linked(one)]
            if not absent:
                return False
            self._note_heard()
            del self._heard_ms[min(absent, key=lambda one: self._heard_ms[one])]
        self._heard_ms[node_id] = now_ms
        self._next_ms = self._first_expiry()
        return True

    def remove(self, node_ids: Iterable[bytes]) -> bool:
        """These need no place (they are pinned, or not listened to). Returns whether the sponsored nodes changed."""
        leaving = [one for one in dict.fromkeys(node_ids) if one in self._heard_ms]
        for one in leaving:
            del self._heard_ms[one]
        if leaving:
            self._next_ms = self._first_expiry()
        return bool(leaving)

    def expire(self, now_ms: int) -> bool:
        """Free the places of those that were not heard of for a day. Returns whether the sponsored nodes changed."""
        if self._next_ms is None or now_ms < self._next_ms:
            return False
        self._note_heard()
        changed = self.remove([one for one, heard in self._heard_ms.items() if now_ms - heard > sponsored_memory_ms])
        self._next_ms = self._first_expiry()  # most were heard of since
        return changed

    def clock_set_back(self, now_ms: int) -> None:
        """Who was heard of in what is the future now was so just now."""
        self._heard_ms = {node_id: min(heard_ms, now_ms) for node_id, heard_ms in self._heard_ms.items()}
        self._next_ms = self._first_expiry()

    @property
    def next_expiry_ms(self) -> int | None:
        """When `expire` may have something to do next."""
        return self._next_ms

    def _note_heard(self) -> None:
        for node_id, heard_ms in self._heard_ms.items():
            self._heard_ms[node_id] = max(heard_ms, self._last_heard_ms(node_id) or 0)

    def _first_expiry(self) -> int | None:
        return min(self._heard_ms.values()) + sponsored_memory_ms + 1 if self._heard_ms else None
