"""Read-through: any node serves any plugin whose bytes are backed, and looks for itself where nothing backs them.

A consumer asks for a release whose bytes are not here. If its digest is backed, the mesh has holders: the bytes are
fetched from one of them, checked, kept. If nothing backs it, or nobody in the mesh gives the bytes, the publisher is
asked: this node's own observation is a word that counts. Anonymous demand fills only the cache, and only for sources
whose key counts as known (protocol/SPEC.md, "Backing").
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

import trio

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.store import catalogue, registry
from pfn_node.store.database import Database
from pfn_node.store.rows import Release

# A consumer waits this long for bytes that are elsewhere; the fetch itself goes on for those who ask again.
WANT_SECONDS_MAX = 50.0
# Holders in the mesh may be anybody: who dribbles or hangs shall not keep a consumer from what the publisher gives.
MESH_SECONDS_MAX = 20.0


class FetchArtifact(Protocol):
    """Brings an artifact from its holders in the mesh; True if it is here now."""

    def __call__(self, sha256: bytes, size: int, source_id: str, *, cache: bool) -> Awaitable[bool]: ...


class FetchRelease(Protocol):
    """Asks the publisher for a release, now; True if its bytes are here."""

    def __call__(self, source_id: str, plugin_id: str, version: str, *, cache: bool) -> Awaitable[bool]: ...


@dataclass
class ReadThrough:
    """The `want` of the web: see that a release is here, if it can be had."""

    database: Database
    artifacts: Artifacts
    fetch_artifact: FetchArtifact
    fetch_release: FetchRelease

    async def __call__(self, release: Release, *, anonymous: bool) -> Release | None:
        """The release as it stands afterwards, with its bytes here; None if they cannot be had.

        The release may come back with another digest than it went in with: the publisher's word replaces reports.
        """
        with trio.move_on_after(WANT_SECONDS_MAX):
            if release.backed and await self._key_known(release) and await self._from_mesh(release, anonymous):
                return await self._again(release)
            if await self.fetch_release(release.source_id, release.plugin_id, release.version, cache=anonymous):
                return await self._again(release)
        return None

    async def _key_known(self, release: Release) -> bool:
        source = await self.database.read(lambda db: registry.get_source(db, release.source_id))
        return source is not None and source.key_known

    async def _from_mesh(self, release: Release, anonymous: bool) -> bool:
        """Whether another node gave the bytes in time; the fetch goes on for those who ask again."""
        assert release.sha256 is not None
        with trio.move_on_after(MESH_SECONDS_MAX):
            return await self.fetch_artifact(release.sha256, release.size, release.source_id, cache=anonymous)
        return False

    async def _again(self, release: Release) -> Release | None:
        found = await self.database.read(
            lambda db: catalogue.get_release(db, release.source_id, release.plugin_id, release.version)
        )
        if found is None or not found.backed or found.sha256 is None:
            return None
        return found if self.artifacts.has(found.sha256) else None
