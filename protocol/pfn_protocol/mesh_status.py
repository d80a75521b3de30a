"""The mesh as it is shown in numbers."""

from dataclasses import dataclass

from pfn_protocol.snapshot import SnapshotProgress


@dataclass(frozen=True, slots=True)
class MeshStatus:
    """The mesh in a few numbers."""

    announcements: int  # in the set
    digest: bytes  # of the set
    authors: int  # admitted
    parked: int
    links: int
    last: tuple[int, int]  # (epoch, seq) of the last own announcement
    muted: bool  # another node uses the same key, so this one is silent
    snapshot: SnapshotProgress | None  # while this node is filled by its neighbours
