"""Which links are branches of the tree: whom news is pushed to, who is told ids, and how the tree is mended.

Bodies that come a second time close a circle, and are pruned; bodies that do not come are pulled, and only the second
miss in a row, or the loss of the parent, makes the link that had the body a branch.
"""

from collections.abc import Container, Iterable, Mapping
from random import Random

from pfn_protocol.announcements import Kind
from pfn_protocol.gossip_links import GossipLink
from pfn_protocol.limits import (
    arrivals_remembered_max,
    ids_wait_ms_max,
    ids_wait_ms_min,
    misses_before_graft,
    shortcut_hops,
)
from pfn_protocol.pulls import Missing, Pulls
from pfn_protocol.registry import Registry
from pfn_protocol.slots import Entry


class Tree:
    """The links as branches. `links` are those that there are; whom there may be something to send to is `touched`."""

    def __init__(self, registry: Registry, links: dict[bytes, GossipLink], pulls: Pulls, rng: Random) -> None:
        self._registry = registry
        self._links = links
        self._pulls = pulls
        self._rng = rng
        self._arrivals: dict[bytes, bool] = {}  # what came lately, and whether another copy is one too many
        self._parent: bytes | None = None
        self._misses = 0  # bodies pulled since the tree last brought one
        self.touched: dict[bytes, None] = {}
        self.ids_due_ms: int | None = None  # when the ids that wait are to be told

    @property
    def has_parent(self) -> bool:
        """Whether a neighbour brings news; without one every link begins as a branch."""
        return self._parent is not None

    def closed(self, peer: bytes) -> None:
        """A link is over."""
        if peer == self._parent:
            self._parent = None

    def clock_set_back(self) -> None:
        """No link is left: ids wait for none of them, and the next that do shall not wait until the former moment."""
        self.ids_due_ms = None
        self._pulls.forget()

    def tell(self, entries: Iterable[Entry], came_from: bytes | None, now_ms: int, *, pulled: bool = False) -> None:
        """These are new: pass them on. What was pulled goes as offers, for others may have it by now."""
        for entry in entries:
            missing = self._pulls.arrived(entry.id)
            late = pulled
            if missing is not None and missing.asked is not None and missing.asked == came_from:
                late = True
                self._missed(came_from, now_ms)
            elif came_from is not None and not pulled:
                self._came_over_the_tree(came_from, missing, now_ms)
            self._remember(entry.id, again_is_too_many=not late and (missing is None or missing.tries == 0))
            self._pass_on(entry, came_from, missing.holders if missing else (), now_ms, late=late)

    def received(self, peer: bytes, delivered: Mapping[bytes, bool]) -> None:
        """This neighbour sent these itself; of each, whether it was new. What is new in the set is told next."""
        link = self._links.get(peer)
        if link is None:
            return
        again = fresh = False
        for announcement_id, is_new in delivered.items():
            link.holds(announcement_id)
            fresh = fresh or is_new
            again = again or (not is_new and self._arrivals.get(announcement_id, False))
            if not is_new or announcement_id not in self._registry:
                self._pulls.arrived(announcement_id)
        link.prunes = again and not fresh

    def make_lazy(self, link: GossipLink, now_ms: int) -> None:
        """The other side gets bodies from elsewhere: from now on it is told ids."""
        link.make_lazy()
        if link.ids:
            self._let_ids_wait(now_ms)

    def grafted(self, link: GossipLink) -> None:
        """The other side made this link its branch: news goes there, and what it was to be told by id is offered.

        What it pushed along with that came here before, but from now on nothing of the kind comes: no reason to prune.
        """
        link.eager = True
        link.prunes = False
        for announcement_id in link.ids:
            link.put_offer(announcement_id)
        link.ids.clear()
        link.ids_due = False
        self.touched[link.peer] = None

    def _let_ids_wait(self, now_ms: int) -> None:
        if self.ids_due_ms is None:
            self.ids_due_ms = now_ms + self._rng.randint(ids_wait_ms_min, ids_wait_ms_max)

    def tell_ids(self) -> None:
        """The ids that wait, over all links, have waited long enough."""
        self.ids_due_ms = None
        for peer, link in self._links.items():
            if link.ids:
                link.ids_due = True
                self.touched[peer] = None

    def _missed(self, peer: bytes, now_ms: int) -> None:
        """The tree did not bring a body that this neighbour had."""
        self._misses += 1
        link = self._links.get(peer)
        if link is not None and not link.compare_only and (self._misses >= misses_before_graft or self._parent is None):
            self._graft(link, now_ms)

    def _graft(self, link: GossipLink, now_ms: int) -> None:
        self._pulls.hasten(link.peer, now_ms)
        self._misses = 0
        self._parent = link.peer
        link.eager = link.graft = True
        self.touched[link.peer] = None

    def _came_over_the_tree(self, peer: bytes, missing: Missing | None, now_ms: int) -> None:
        """News came first from this neighbour: it is the parent, unless another one is clearly nearer."""
        self._misses = 0
        link = self._links.get(peer)
        if link is None or link.compare_only or link.prunes:  # its place was just taken
            return
        nearer = self._nearer(missing, now_ms) if missing is not None else None
        if nearer is not None and link.url:
            self._graft(nearer, now_ms)
            link.prunes = True
            return
        link.eager = True
        self._parent = peer

    def _nearer(self, missing: Missing, now_ms: int) -> GossipLink | None:
        """A neighbour beside the tree that told the id long before the body came."""
        if now_ms - missing.heard_ms < max(ids_wait_ms_min, shortcut_hops * self._pulls.hop_delay_ms):
            return None
        link = self._links.get(next(iter(missing.holders), b""))
        return None if link is None or link.eager or not link.url or link.compare_only else link

    def _pass_on(
        self, entry: Entry, came_from: bytes | None, holders: Container[bytes], now_ms: int, *, late: bool
    ) -> None:
        announcement_id, author = entry.id, entry.author
        waits = False
        for peer, link in self._links.items():
            if peer in (came_from, author) or link.compare_only or peer in holders or author in link.left_out:
                continue
            if link.url and not link.eager:
                link.put_id(announcement_id)
                waits = True
                continue
            if link.url and late:
                link.put_offer(announcement_id)
            else:
                link.put_body(announcement_id, first=entry.kind is Kind.CONVICTION)
            self.touched[peer] = None
        if waits:
            self._let_ids_wait(now_ms)

    def _remember(self, announcement_id: bytes, *, again_is_too_many: bool) -> None:
        if len(self._arrivals) >= arrivals_remembered_max:
            del self._arrivals[next(iter(self._arrivals))]
        self._arrivals[announcement_id] = again_is_too_many
