"""What is fetched because of what was heard, with nobody waiting: signed texts, and artifacts of subscribed sources.

An announcement alone makes this node fetch no artifact: that happens when somebody wants it. Of the sources that are
subscribed to here every backed release is wanted. Signed texts are small and decide what a publisher's signature is
worth, so they are fetched wherever that counts: for sources whose key is known, and for what a pinned node announced.
Texts are anybody's to name, so they have workers of their own, and authors take turns (text_queue.py).

The queues hold ids of announcements and are bounded. What does not fit, and what could not be had, is found again by a
sweep over the subscribed sources and the texts that are missing: it comes an hour after the last one, and when what is
backed changed for many releases at once.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

import structlog
import trio

from pfn_node.mesh.bodies import Bodies
from pfn_node.mesh.text_queue import TextQueue
from pfn_node.store import catalogue, missing_texts, subscriptions
from pfn_node.store.database import Database
from pfn_node.store.outlasting import outlast
from pfn_node.store.rows import Filters, Release
from pfn_protocol.acceptance import accept
from pfn_protocol.announcements import VersionStatement
from pfn_protocol.errors import Refusal

log = structlog.get_logger()

# Ids, so two megabytes: more than twice what an author that has just been pinned may bring along.
WAITING_MAX = 20_000
# Announcements whose texts are missing and are looked for again by one sweep.
AGAIN_MAX = 5_000
# Jobs at a time: few, since consumers who wait use the same lines.
WORKERS = 2
TEXT_WORKERS = 2
SWEEP_SECONDS = 3600.0
# The first sweep waits for links and for what the neighbours have to tell.
FIRST_SWEEP_SECONDS = 60.0
# Between two sweeps, however often one is called for: each looks through all that is subscribed to.
SWEEP_SECONDS_MIN = 10.0
# Plugins read at once by a sweep.
PAGE = 200
# If a page lacks so many, the mirrors of the source are asked at once what they have of it.
SURVEY_MIN = 4


class FetchArtifact(Protocol):
    """Brings an artifact from its holders; True if it is here now."""

    async def __call__(self, sha256: bytes, size: int, source_id: str, *, cache: bool) -> bool: ...


# Has the mirrors of a source asked what they have of it.
Survey = Callable[[str], Awaitable[None]]
# Brings the signed texts that the evidence of an author's statement names, and has them judged.
FetchTexts = Callable[[bytes, VersionStatement], Awaitable[None]]


class Backfill:
    """Fetches in the background. `heard` and `sweep_soon` never wait."""

    def __init__(
        self,
        *,
        mesh: str,
        database: Database,
        bodies: Bodies,
        clock: Callable[[], float],
        fetch_artifact: FetchArtifact,
        survey: Survey,
        fetch_texts: FetchTexts,
    ) -> None:
        self._mesh = mesh
        self._database = database
        self._bodies = bodies
        self._clock = clock
        self._fetch_artifact = fetch_artifact
        self._survey = survey
        self._fetch_texts = fetch_texts
        self._send, self._receive = trio.open_memory_channel[bytes](WAITING_MAX)
        self._texts = TextQueue()
        self._sweep_due = trio.Event()

    def heard(self, ids: Iterable[bytes]) -> None:
        """These announcements came into the set."""
        try:
            for announcement_id in ids:
                self._send.send_nowait(announcement_id)
        except trio.WouldBlock:
            self._sweep_due.set()

    def sweep_soon(self) -> None:
        """What is backed may have changed for many releases at once."""
        self._sweep_due.set()

    async def run(self) -> None:
        """Work on what was heard, and sweep, for ever."""
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(self._work)
            for _ in range(TEXT_WORKERS):
                nursery.start_soon(self._bring_texts)
            nursery.start_soon(self._sweep_for_ever)

    async def _work(self) -> None:
        async for announcement_id in self._receive:
            await outlast(partial(self._look_at, announcement_id), "backfill")

    async def _look_at(self, announcement_id: bytes) -> None:
        author, statement = await self._read(announcement_id)
        if not isinstance(statement, VersionStatement):
            return
        if any(piece.text_sha256 for piece in statement.evidence):
            await self._queue_texts(announcement_id, author, statement.source_id)
        filters = await self._filters(statement.source_id)
        if filters:
            await self._mirror_version(statement, filters)

    async def _queue_texts(self, announcement_id: bytes, author: bytes, source_id: str) -> None:
        matter = await self._database.read(lambda db: missing_texts.texts_matter(db, author, source_id))
        if matter.at_all:
            self._texts.put(author, announcement_id, pinned=matter.pinned)

    async def _bring_texts(self) -> None:
        while True:
            await outlast(partial(self._bring_text, await self._texts.next()), "texts")

    async def _bring_text(self, announcement_id: bytes) -> None:
        author, statement = await self._read(announcement_id)
        if isinstance(statement, VersionStatement):
            await self._fetch_texts(author, statement)

    async def _read(self, announcement_id: bytes) -> tuple[bytes, object]:
        """Author and statement; no statement if it is gone or expired by now."""
        for raw in (await self._bodies.find((announcement_id,))).values():
            try:
                announcement = accept(raw, mesh=self._mesh, now_ms=int(self._clock() * 1000))
            except Refusal:
                break
            return announcement.author, announcement.statement
        return b"", None

    async def _mirror_version(self, statement: VersionStatement, filters: Sequence[Filters]) -> None:
        release = await self._database.read(
            lambda db: catalogue.get_release(db, statement.source_id, statement.plugin_id, statement.version)
        )
        if release is not None:
            await self._mirror(release, filters)

    async def _filters(self, source_id: str) -> list[Filters]:
        """Of those who subscribe to the source here; none if nobody does."""
        found = await self._database.read(lambda db: subscriptions.subscriptions(db, source_id=source_id))
        return [subscription.filters for subscription in found]

    async def _mirror(self, release: Release, filters: Sequence[Filters]) -> None:
        if not _is_lacking(release, filters) or release.sha256 is None:
            return
        fetched = await self._fetch_artifact(release.sha256, release.size, release.source_id, cache=False)
        log.info(
            "artifact_announced",
            source=release.source_id,
            plugin=release.plugin_id,
            version=release.version,
            fetched=fetched,
        )

    async def _sweep_for_ever(self) -> None:
        wait = FIRST_SWEEP_SECONDS
        await outlast(self._sweep_texts, "texts")
        while True:
            with trio.move_on_after(wait):
                await self._sweep_due.wait()
            self._sweep_due = trio.Event()
            await outlast(self._sweep_texts, "texts")
            await outlast(self._sweep, "sweep")
            await trio.sleep(SWEEP_SECONDS_MIN)
            wait = SWEEP_SECONDS

    async def _sweep_texts(self) -> None:
        lacking = await self._database.read(lambda db: missing_texts.lacking_text(db, AGAIN_MAX))
        for author, announcement_id, pinned in lacking:
            self._texts.put(author, announcement_id, pinned=pinned)

    async def _sweep(self) -> None:
        """The newest backed release of every plugin of the subscribed sources."""
        by_source: dict[str, list[Filters]] = {}
        for subscription in await self._database.read(subscriptions.subscriptions):
            by_source.setdefault(subscription.source_id, []).append(subscription.filters)
        for source_id, filters in by_source.items():
            cursor: str | None = None
            surveyed = False
            while True:
                query = catalogue.PluginQuery(source=source_id, limit=PAGE, cursor=cursor)
                found, _, cursor = await self._database.read(
                    lambda db, query=query: catalogue.search_plugins(db, query)  # type: ignore[misc]
                )
                if not surveyed and sum(_is_lacking(plugin.release, filters) for plugin in found) >= SURVEY_MIN:
                    surveyed = True
                    await self._survey(source_id)
                for plugin in found:
                    await self._mirror(plugin.release, filters)
                if cursor is None:
                    break


def _is_lacking(release: Release, filters: Sequence[Filters]) -> bool:
    """Whether the release is wanted here, may be had from others, and is not here yet."""
    return release.backed and not release.mirrored and any(is_wanted(release, one) for one in filters)


def is_wanted(release: Release, filters: Filters) -> bool:
    """Whether a subscriber with these filters wants the release."""
    if release.plugin_id in filters.exclude:
        return False
    if filters.slugs and release.plugin_id not in filters.slugs:
        return False
    return not filters.tags or any(tag in filters.tags for tag in release.tags)
