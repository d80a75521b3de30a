"""Whether this node is well, in a word; and what is wrong, in sentences that say what to do."""

from collections.abc import Mapping, Sequence
from typing import Any

from pfn_node.store.showcase import SourceStates
from pfn_node.web.services import PeerView

# A mirror fills a disk in hours; below this an operator has to act today.
DISK_FREE_BYTES_MIN = 500_000_000
BYTES_A_MEGABYTE = 1_000_000


def node_problems(
    mesh: Mapping[str, Any], peers: Sequence[PeerView], sources: SourceStates, disk_free: int, store_up: int = 1
) -> list[str]:
    """Return why the node is degraded; empty: it is healthy. `disk_free` in bytes."""
    problems = []
    if mesh.get("muted"):
        problems.append("Another node uses the same key, so this one says nothing. Stop one of them.")
    joined = [peer for peer in peers if peer.joined and not peer.blocked]
    if joined and not any(peer.state == "linked" for peer in peers):
        problems.append(f"None of the {len(joined)} nodes that it joined is linked now; it goes on trying.")
    if sources.failing * 2 > sources.registered:
        problems.append(f"{sources.failing} of {sources.registered} sources cannot be verified; their pages say why.")
    if disk_free < DISK_FREE_BYTES_MIN:
        problems.append(f"Only {disk_free // BYTES_A_MEGABYTE} MB are free on its disk; make room soon.")
    if not store_up:
        problems.append(
            "Its object store does not answer; what is kept there is not served meanwhile. Its log says why."
        )
    return problems
