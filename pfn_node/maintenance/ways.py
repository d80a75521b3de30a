"""How artifacts are got again: what other rooms of the node hand in."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class FetchArtifact(Protocol):
    """Brings an artifact from its holders in the mesh; True if it is here now."""

    def __call__(self, sha256: bytes, size: int, source_id: str, *, cache: bool) -> Awaitable[bool]: ...


class FetchRelease(Protocol):
    """Asks the publisher for a release, now; True if its bytes are here."""

    def __call__(self, source_id: str, plugin_id: str, version: str, *, cache: bool) -> Awaitable[bool]: ...


class InThread(Protocol):
    """Runs what blocks elsewhere than in the event loop."""

    async def __call__(self, work: Callable[[], T]) -> T: ...
