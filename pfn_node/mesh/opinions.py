"""What the operator thinks of other nodes: whom it joined, pinned or blocked; kept at hand, for every request asks."""

from collections.abc import Callable

import sqlite_utils
import trio

from pfn_node.mesh.restoring import blocked, pinned
from pfn_node.store import peers as peer_store
from pfn_node.store.database import Database
from pfn_node.store.rows import Peer
from pfn_protocol.events import PolicyChanged

# Links come and go slowly; looking at all of them for every request would cost more than most requests.
LINKS_LOOK_SECONDS = 1.0


class Opinions:
    """The operator's opinions. `neighbours` names the nodes that there is a link with."""

    def __init__(self, database: Database, neighbours: Callable[[], tuple[bytes, ...]]) -> None:
        self._database = database
        self._neighbours = neighbours
        self._reading = trio.Lock()  # or what was read before could come after what was read later
        self.known: dict[bytes, Peer] = {}  # nodes joined, pinned or blocked
        self.told: PolicyChanged | None = None  # what the machine was told last
        self._linked: frozenset[bytes] = frozenset()
        self._linked_until = -float("inf")  # when to look at the links again, in trio's time

    async def read(self) -> None:
        """Read them again: one may have changed."""
        async with self._reading:
            known = await self._database.read(peer_store.peers_of_opinion)
            self.known = {peer.node_id: peer for peer in known}

    async def join(self, node_id: bytes, url: str, at: int) -> None:
        """The operator joined the node, and it was reached at this URL; `at` in seconds."""

        def work(db: sqlite_utils.Database) -> None:
            peer_store.save_peer(db, node_id, url=url, seen=at)
            peer_store.set_peer_policy(db, node_id, joined=True)

        await self._database.write(work)
        await self.read()

    def policy(self) -> PolicyChanged:
        """The opinions as the machine is told of them."""
        known = list(self.known.values())
        return PolicyChanged(pins=pinned(known), blocked=blocked(known))

    def is_known(self, node_id: bytes) -> bool:
        """Whether a sender has an allowance of its own."""
        if trio.current_time() >= self._linked_until:
            self._linked_until = trio.current_time() + LINKS_LOOK_SECONDS
            self._linked = frozenset(self._neighbours())
        return node_id in self.known or node_id in self._linked

    def is_trusted(self, node_id: bytes) -> bool:
        """Whether the operator joined or pinned it."""
        opinion = self.known.get(node_id)
        return opinion is not None and not opinion.blocked

    def is_pinned(self, node_id: bytes) -> bool:
        """Whether the operator pins it."""
        opinion = self.known.get(node_id)
        return opinion is not None and opinion.pinned

    def is_blocked(self, node_id: bytes) -> bool:
        """Whether the operator blocks it."""
        opinion = self.known.get(node_id)
        return opinion is not None and opinion.blocked
