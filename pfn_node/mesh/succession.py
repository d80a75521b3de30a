"""Pins that the store moved, or took away, by what it was told (successions.py), and the machine that has to know."""

from collections.abc import Awaitable, Callable, Collection, Mapping

from pfn_node.mesh.turns import Kept, Stopped
from pfn_node.store.outlasting import outlast
from pfn_node.store.rows import Peer
from pfn_protocol.announcements import Conviction, SuccessionStatement
from pfn_protocol.effects import ChangeAdmission, KeepAnnouncement, KeepConviction
from pfn_protocol.events import PeerFound


def moves_pins(
    kept: Kept, is_pinned: Callable[[bytes], bool], is_conviction_among: Callable[[Collection[bytes]], bool]
) -> bool:
    """Whether the pins in the database may differ now: `is_pinned` tells of those before.

    `is_conviction_among` tells of the ids of announcements: one that waited takes pins away when it is admitted.
    """
    if isinstance(kept, KeepConviction):
        return True
    if isinstance(kept, ChangeAdmission):
        return bool(kept.admitted) and is_conviction_among(kept.admitted)
    if not isinstance(kept, KeepAnnouncement):
        return False
    statement = kept.announcement.statement
    if isinstance(statement, SuccessionStatement):
        return is_pinned(statement.old_key)
    return isinstance(statement, Conviction)


async def follow_pins(
    opinions: Callable[[], Mapping[bytes, Peer]],
    apply: Callable[[], Awaitable[None]],
    report: Callable[[PeerFound], Awaitable[None]],
) -> None:
    """Have the opinions read anew and told to the machine, and where a node is that is newly among those joined."""
    before = opinions()
    try:
        await outlast(apply, "follow pins")
        for node_id, peer in opinions().items():
            if peer.joined and peer.url and node_id not in before:
                await report(PeerFound(node_id, peer.url))
    except Stopped:
        pass  # the next start reads them
