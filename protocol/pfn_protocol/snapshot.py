"""Filling a nearly empty node: bodies in the order of their ids, from one neighbour at a time.

Every neighbour has the same set, nearly, so a snapshot that one of them broke off goes on at another one.
"""

from pfn_protocol.comparison import Comparison
from pfn_protocol.limits import snapshot_ratio_min, snapshot_set_min
from pfn_protocol.messages import SnapshotRequest


class Snapshot:
    """How far the snapshot has come, and who gives it."""

    def __init__(self) -> None:
        self._giver: bytes | None = None
        self._after = b""

    @property
    def is_under_way(self) -> bool:
        return self._giver is not None

    def begin(self, peer: bytes) -> SnapshotRequest:
        """Ask this neighbour, from where the last one stopped."""
        self._giver = peer
        return self._request()

    def go_on(self, after: bytes, gained: int) -> SnapshotRequest | None:
        """A page came, of which so many were new. None: that was all, or it leads nowhere."""
        if gained and after > self._after:
            self._after = after
            return self._request()
        self._giver, self._after = None, b""
        return None

    def stop(self, peer: bytes) -> None:
        """This neighbour does not answer any more, if it was the one."""
        if self._giver == peer:
            self._giver = None

    def _request(self) -> SnapshotRequest:
        return SnapshotRequest(self._after, b"")


def is_nearly_empty(comparison: Comparison) -> bool:
    """Whether nearly everything is lacking here, so that the bodies are all that is worth sending."""
    status = comparison.their_status
    if status is None or comparison.snapshot_taken or status.count < snapshot_set_min:
        return False
    return comparison.link_set.status().count * snapshot_ratio_min <= status.count
