"""Whether this node is well, in a word; and what is wrong, in sentences that say what to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pfn_node.store.showcase import SourceStates
from pfn_node.web.services import PeerView, Services

# A mirror fills a disk in hours; below this an operator has to act today.
DISK_FREE_BYTES_MIN = 500_000_000
BYTES_A_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with what the node keeps: artifacts that nobody has given again, the database, as a sentence."""

    artifacts: int = 0
    database: str | None = None
    store_answers: bool = True


def damage_of(services: Services) -> Damage:
    """What is known of it now."""
    artifacts = services.artifacts
    return Damage(artifacts.usage()["damaged"], services.database.damage, artifacts.store_problem is None)


def node_problems(
    mesh: Mapping[str, Any], peers: Sequence[PeerView], sources: SourceStates, disk_free: int, damage: Damage
) -> list[str]:
    """Return why the node is degraded; empty: it is healthy. `disk_free` in bytes."""
    problems = []
    if mesh.get("reading"):
        problems.append("It still reads the announcements that it kept; until then it says and hears nothing.")
    if mesh.get("muted"):
        problems.append("Another node uses the same key, so this one says nothing. Stop one of them.")
    joined = [peer for peer in peers if peer.joined and not peer.blocked]
    if joined and not any(peer.state == "linked" for peer in peers):
        problems.append(f"None of the {len(joined)} nodes that it joined is linked now; it goes on trying.")
    if sources.failing * 2 > sources.registered:
        problems.append(f"{sources.failing} of {sources.registered} sources cannot be verified; their pages say why.")
    if disk_free < DISK_FREE_BYTES_MIN:
        problems.append(f"Only {disk_free // BYTES_A_MEGABYTE} MB are free on its disk; make room soon.")
    if not damage.store_answers:
        problems.append(
            "Its object store does not answer; what is kept there is not served meanwhile. Its log says why."
        )
    if damage.database is not None:
        problems.append(f"{damage.database}.")
    if damage.artifacts:
        problems.append(
            f"{damage.artifacts} artifacts were damaged on the disk, and nobody has given them again yet. Look at the "
            "disk, and then at: pfn fsck."
        )
    return problems
