"""Links over which sets are compared and nothing is pushed: whom to ask for them, how many, and when (R134).

They heal partitions, and they are what is left when all other links are one attacker's. The nodes that the operator
named (joined or pinned) are not an attacker's by chance; so they decide how many more links a node needs. Without a
link to any of them it asks as many as it can. If there is just one, and its link has not stood for hours, it keeps some
in reserve: who comes and goes may go at any moment, no other named node is there to be asked then, and to look for
strangers only then is too late. Otherwise a few are enough.
"""

from pfn_protocol.known_peers import KnownPeers
from pfn_protocol.limits import (
    anchors_max,
    compare_again_ms,
    compare_links_alone_max,
    compare_links_max,
    compare_links_reserve_max,
    dial_again_ms_min,
    link_young_ms,
)
from pfn_protocol.outgoing import earliest
from pfn_protocol.peer import Peer

# After the start: until then the first views have come.
_compare_first_ms = 60_000


class ComparingLinks(KnownPeers):
    """The links for comparing among all that are known."""

    _compare_ms: int | None = None  # when they are chosen anew; None: before the first `dial`
    _missing_ms: int | None = None  # when those that are missing are looked for before that

    def compare_anew(self, now_ms: int) -> None:
        """Compare sets with others than until now."""
        self._compare_ms = now_ms
        self.has_changed = True

    def _links_for_comparing(self, now_ms: int) -> int:
        """How many are wanted."""
        named = [peer for peer in self._peers.values() if peer.named]
        linked = [peer for peer in named if peer.linked]
        if named and not linked:
            return compare_links_alone_max
        is_young = len(named) == 1 and now_ms - linked[0].linked_since_ms < link_young_ms
        return compare_links_reserve_max if is_young else compare_links_max

    @property
    def _compare_wake_at(self) -> int | None:
        return earliest(self._compare_ms, self._missing_ms)

    def _begin_comparing(self, now_ms: int) -> None:
        self._compare_ms = now_ms + self._with_jitter(_compare_first_ms)
        self._missing_ms = None

    def _look_for_missing(self, now_ms: int) -> None:
        """A link ended that others may have to replace; it is asked for anew first, for it may only have restarted."""
        due_ms = now_ms + self._with_jitter(2 * dial_again_ms_min)
        self._missing_ms = due_ms if self._missing_ms is None else min(self._missing_ms, due_ms)

    def _compared_for_long(self, now_ms: int) -> list[Peer]:
        """The links for comparing whose time is over."""
        if self._compare_ms is None or now_ms < self._compare_ms:
            return []
        return [peer for peer in self._linked.values() if peer.compare_only and peer.outbound]

    def _to_compare(self, now_ms: int, *, is_shuffled: bool) -> list[Peer]:
        """Whom to ask for a link for comparing now, if the time has come; those who go without look more often."""
        assert self._compare_ms is not None, "it began with the first `dial`"
        is_missing = is_shuffled or (self._missing_ms is not None and now_ms >= self._missing_ms)
        if is_missing:
            self._missing_ms = None
        wanted = self._links_for_comparing(now_ms)
        is_exposed = wanted > compare_links_max
        if now_ms >= self._compare_ms:
            self._compare_ms = now_ms + self._with_jitter(compare_again_ms)
            if is_exposed:
                self._look_for_missing(now_ms)
        elif not (is_missing and is_exposed):
            return []
        asked = (*self._linked.values(), *self._linking.values())
        held = sum(peer.compare_only and (peer.outbound or not peer.linked) for peer in asked)
        return self._choose_to_compare(now_ms, wanted - held, is_exposed=is_exposed)

    def _choose_to_compare(self, now_ms: int, room: int, *, is_exposed: bool) -> list[Peer]:
        """One that has been known for long, and any others: when exposed, those whom named nodes named come first."""
        if room <= 0:
            return []
        proven = [peer for peer in self._peers.values() if peer.reached]
        oldest = [peer.node_id for peer in proven[:anchors_max]]
        due = [peer for peer in self._peers.values() if self._is_dialable(peer) and peer.next_dial_ms <= now_ms]
        free = [peer for peer in due if peer.reached]
        anchors = [peer for peer in free if peer.named or peer.node_id in oldest]
        chosen = self._rng.sample(anchors, min(1, len(anchors)))
        introduced = [peer for peer in due if peer.introduced] if is_exposed else []
        for pool in (introduced, free):
            others = [peer for peer in pool if peer not in chosen]
            chosen += self._rng.sample(others, min(room - len(chosen), len(others)))
        return chosen
