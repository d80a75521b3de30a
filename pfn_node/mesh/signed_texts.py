"""Signed texts from other nodes: fetched, judged, and kept only where they are what they are said to be.

What a text is for is a signature of a publisher. A text under which that signature does not hold is anybody's bytes,
named by anybody: it is thrown away. One that holds lies in the cache, as what anonymous demand brings does; where the
source is subscribed to it is kept, like the artifacts that it belongs to. So what strangers announce fills no disk.

Texts have transfers of their own: whoever names one that does not come holds up no artifact.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import sqlite_utils
import structlog
import trio

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactError
from pfn_node.mesh.artifact_fetch import ArtifactFetch, Wanted
from pfn_node.mesh.availability import Availability
from pfn_node.mesh.blocking import InThread
from pfn_node.mesh.peer_client import PeerClient
from pfn_node.store import catalogue, registry, releases
from pfn_node.store.database import Database
from pfn_node.store.rows import Peer, Source
from pfn_protocol.announcements import Evidence, VersionStatement
from pfn_protocol.identity import parse_public_key, verify
from pfn_protocol.limits import evidence_text_bytes_max

log = structlog.get_logger()

# A signed text is small: who does not bring it in this time is not the one to wait for.
TEXT_SECONDS_MAX: Final = 30.0


class SignedTexts:
    """Brings the texts that evidence names."""

    def __init__(
        self,
        *,
        database: Database,
        artifacts: Artifacts,
        client: PeerClient,
        bytes_per_second_min: int,
        report_lie: Callable[[Peer, str], Awaitable[None]],
        in_thread: InThread,
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._in_thread = in_thread
        self._fetches = ArtifactFetch(
            artifacts=artifacts,
            client=client,
            availability=Availability(client),
            bytes_per_second_min=bytes_per_second_min,
            report_kept=_record_nothing,
            report_lie=report_lie,
            in_thread=in_thread,
            local=True,  # they are read while others wait
        )

    async def bring(
        self,
        nursery: trio.Nursery,
        author: bytes,
        statement: VersionStatement,
        holders: Callable[[], Awaitable[Sequence[Peer]]],
    ) -> None:
        """Get the signed texts of a version, from its author or who has its artifact; then it is judged again."""

        async def author_first() -> Sequence[Peer]:
            return sorted(await holders(), key=lambda peer: peer.node_id != author)

        source, subscribed = await self._database.read(
            lambda db: (
                registry.get_source(db, statement.source_id),
                registry.subscriber_count(db, statement.source_id) > 0,
            )
        )
        came: list[Evidence] = []
        for piece in statement.evidence:
            if not piece.text_sha256:
                continue
            was_here = self._artifacts.has(piece.text_sha256)
            wanted = Wanted(piece.text_sha256, evidence_text_bytes_max, None, TEXT_SECONDS_MAX)
            if not await self._fetches.fetch(nursery, wanted, author_first, cache=not subscribed):
                continue
            if was_here or self._may_stay(source, piece):
                came.append(piece)
            else:
                await self._throw_away(piece.text_sha256)
        if came:
            version = (statement.source_id, statement.plugin_id, statement.version)
            await self._database.write(lambda db: releases.set_signed(db, *version, self._text))

    def _may_stay(self, source: Source | None, piece: Evidence) -> bool:
        """As long as the source's key is not known, nothing speaks against a text."""
        if source is None or not source.key_known:
            return True
        text = self._text(piece.text_sha256)
        return text is not None and verify(parse_public_key(source.public_key), text, piece.data)

    async def _throw_away(self, sha256: bytes) -> None:
        """Unless it is an artifact as well, which somebody may have wanted meanwhile."""

        def is_artifact(db: sqlite_utils.Database) -> bool:
            return catalogue.release_by_digest(db, sha256) is not None

        if await self._database.read(is_artifact):
            return
        try:
            await self._in_thread(lambda: self._artifacts.delete(sha256))
        except OSError as error:  # the operator's business, not the end of the mesh
            log.error("text_not_deleted", sha256=sha256.hex(), error=str(error))

    def _text(self, sha256: bytes) -> bytes | None:
        """A signed text that is here."""
        try:
            return self._artifacts.read_text(sha256, evidence_text_bytes_max)
        except ArtifactError:
            return None


async def _record_nothing(sha256: bytes, cache: bool) -> None:
    """The database lists artifacts; a text is found by the evidence that names it."""
