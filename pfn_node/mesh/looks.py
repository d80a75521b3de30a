"""The other nodes as they are shown: one look for all who ask.

Anybody may ask for the list, again and again, and a look takes the machine's own thread: with thousands of nodes and
authors a tenth of a second. So a look that took long is shown again for a multiple of that time, and no crowd of askers
gets more than a small share of the processor. What the operator changed is seen at once.
"""

import time
from collections.abc import Callable

from pfn_node.mesh.traffic import Traffic
from pfn_node.mesh.views import PEERS_SHOWN_MAX, PeerView, peer_views
from pfn_node.store import announcements
from pfn_node.store import peers as peer_store
from pfn_node.store.database import Database
from pfn_protocol.mesh import Mesh

# Of the time, what goes into looking at most.
SHARE_MAX = 0.05
# Quicker looks are not worth being kept.
SECONDS_MIN = 0.02


class Looks:
    """`clock` gives seconds since 1970, `stopwatch` those since any moment."""

    def __init__(
        self,
        *,
        me: bytes,
        database: Database,
        traffic: Traffic,
        clock: Callable[[], float],
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._me = me
        self._database = database
        self._traffic = traffic
        self._clock = clock
        self._stopwatch = stopwatch
        self._seen: list[PeerView] = []
        self._due = 0.0  # when to look again, by the stopwatch

    def peers(self, mesh: Mesh) -> list[PeerView]:
        """The other nodes, those with an opinion about them and links first."""
        began = self._stopwatch()
        if began >= self._due:
            self._seen = self._look(mesh)
            took = self._stopwatch() - began
            self._due = began + took / SHARE_MAX if took >= SECONDS_MIN else 0.0
        return self._seen

    def look_again(self) -> None:
        """What was seen does not hold any more."""
        self._due = 0.0

    def _look(self, mesh: Mesh) -> list[PeerView]:
        linked = mesh.neighbours()
        known, proofs = self._database.read_now(
            lambda db: (
                peer_store.first_peers(db, linked, PEERS_SHOWN_MAX),
                announcements.convictions(db, PEERS_SHOWN_MAX),
            )
        )
        return peer_views(mesh, self._me, known, proofs, self._traffic, self._clock())
