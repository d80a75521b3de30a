"""Bringing the releases of one source here: what is asked for, in which order, and what is refused.

A sync reads the author's list, applies the filters of all subscriptions to it, and looks at each version that is left:

1. Its bytes are here already: nothing is fetched, ever again.
2. Its digest is backed by others (pfn_protocol/backing.py): a mirror in the mesh gives the bytes, and the publisher is
   spared.
3. Otherwise the publisher is asked, and this node sees for itself: signatures over text first, since they decide
   whether the bytes are worth fetching; then the zip, hashed while it is written; the gate for zips; the version inside
   the zip, which must be the listed one, because publishers cache their lists while the file has changed already;
   signatures over bytes; and only then is it kept, recorded and told to the mesh, in this order.

Whatever fails leaves no bytes behind and gives a reason, which the subscriber sees and the next sync tries to overcome.
A version is write-once: other bytes under a version that was seen here are evidence against the publisher, not a
release.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NoReturn, Protocol, TypeVar

import sqlite_utils
import trio

from pfn_node.archive_readers import Examine
from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactError
from pfn_node.artifacts.writer import ArtifactWriter
from pfn_node.sources.announcing import Announcer, fitted
from pfn_node.sources.blocking import KEEPING_MAX, RunBlocking, in_threads
from pfn_node.sources.bringing import Skipped, bring_all
from pfn_node.sources.evidence import (
    InvalidSignature,
    SignedText,
    check_metadata_signature,
    check_plugin_data,
)
from pfn_node.sources.filtering import wanted_entries
from pfn_node.sources.judging import NOT_STORED, Judged, Keeping, ZipRefused, judge, keep
from pfn_node.sources.notices import Notices
from pfn_node.sources.outcomes import PublisherFailed, UnknownSource
from pfn_node.sources.progress import SyncProgress
from pfn_node.sources.publisher_answers import AuthorData, AuthorEntry
from pfn_node.sources.publisher_client import NotModified, PublisherClient
from pfn_node.sources.remembered_lists import RememberedLists
from pfn_node.store import catalogue, packages, releases
from pfn_node.store.database import Database
from pfn_node.store.holdings import is_kept
from pfn_node.store.rows import Filters, Observation, PackageFacts, Release, Source
from pfn_node.store.safety import tombstone
from pfn_node.store.sources import get_source
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.identity import parse_public_key
from pfn_protocol.limits import heads_per_source_max

T = TypeVar("T")

REFUSED_REMEMBERED_MAX: Final = 2_000  # zips at publishers that were judged and not kept
PUT_OFF_MAX: Final = 2_000
# Mirrors may be anybody's: for longer than this, and at a lower rate, the publisher is not spared for their sake.
MESH_SECONDS_MIN: Final = 20.0
MESH_BYTES_PER_SECOND: Final = 256 * 1024


class FetchArtifact(Protocol):
    """Brings an artifact from its holders in the mesh; True if it is here now."""

    def __call__(self, sha256: bytes, size: int, source_id: str, *, cache: bool) -> Awaitable[bool]: ...


@dataclass(frozen=True, slots=True)
class _Refused:
    """A zip at a publisher that was fetched for this entry, judged, and not kept."""

    entry: AuthorEntry
    etag: str
    reason: str


class Mirroring:
    """Mirrors releases of sources. Remembers, in bounded memory only, what it need not ask a publisher again."""

    def __init__(
        self,
        database: Database,
        artifacts: Artifacts,
        client: PublisherClient,
        announcer: Announcer,
        notices: Notices,
        prove: Callable[[str], Awaitable[object]],
        *,
        node_id: bytes,
        clock: Callable[[], float],
        examine: Examine,
        write_blocking: RunBlocking,
        fetch_artifact: FetchArtifact | None,
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._client = client
        self._announcer = announcer
        self._notices = notices
        self._prove = prove
        self._node_id = node_id
        self._clock = clock
        self._examine = examine
        self._run_keeping = write_blocking if artifacts.store is None else in_threads(KEEPING_MAX)
        self._fetch_artifact = fetch_artifact
        self._lists = RememberedLists()
        self._refused: OrderedDict[str, _Refused] = OrderedDict()
        self._put_off: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._one_at_a_time: dict[tuple[str, str], trio.Lock] = {}

    async def author_data(self, source: Source) -> AuthorData:
        """What the author lists now, asked for with the ETag of the last answer. Raises PublisherFailed."""
        key = (source.instance_url, source.username)
        known = self._lists.get(key)
        fresh = await self._client.author_data(*key, etag=known.etag if known else None)
        if fresh is None:
            assert known is not None, "only an answer with an ETag can be unchanged"
            return known
        self._lists.put(key, fresh)
        return fresh

    async def sync(self, source: Source, filters: list[Filters], progress: SyncProgress) -> None:
        """Mirror what the filters let through; `progress` may be read meanwhile. Raises PublisherFailed."""
        if progress.author_data is None:
            progress.author_data = await self.author_data(source)
        await self._notices.take(progress.author_data.signed.notices, progress.author_data.keybinds)
        renewed = await self._with_probed_key(source.id)
        if renewed is None or renewed.status == "revoked":
            raise PublisherFailed(f"nothing of {source.id} is mirrored: its key was revoked, or it was removed")
        source = renewed
        await self._take_heads(source, progress.author_data)
        wanted = wanted_entries(progress.author_data, filters)
        progress.steps.wanted = len(wanted)
        await bring_all(wanted, partial(self.bring, source), progress)

    async def _with_probed_key(self, source_id: str) -> Source | None:
        """The source as it is now; a key that has followed another is proved and probed before its releases come."""
        source = await self._database.read(lambda db: get_source(db, source_id))
        if source is None or source.former_oracle is None or source.status == "revoked":
            return source
        with suppress(UnknownSource):
            await self._prove(source_id)
        return await self._database.read(lambda db: get_source(db, source_id))

    async def _take_heads(self, source: Source, listed: AuthorData) -> None:
        """Keep the newest head that the list brings: also when nothing else is new, which is what it then says."""
        heads = {entry.head: entry.keybind for entry in listed.entries if entry.head is not None}
        for head, keybind in list(heads.items())[:heads_per_source_max]:
            evidence = [Evidence(EvidenceForm.HEAD, head)]
            if keybind is not None:
                evidence.append(Evidence(EvidenceForm.KEYBIND, keybind))
            await self._database.write(
                partial(releases.take_heads, source_id=source.id, evidence=tuple(evidence), now=int(self._clock()))
            )

    async def bring(self, source: Source, entry: AuthorEntry, *, cache: bool = False, ask_mesh: bool = True) -> None:
        """See that the listed version of a plugin is here; raises Skipped, or PublisherFailed if nobody answers at all.

        `cache`: nobody with a key asked for it, so it need not be kept for ever. `ask_mesh`: whether other nodes are
        asked before the publisher; whoever has done so in vain need not wait for it twice.
        """
        async with self.turn(source.id, entry.slug):
            await self._bring(source, entry, cache, ask_mesh)

    @asynccontextmanager
    async def turn(self, source_id: str, plugin_id: str) -> AsyncIterator[None]:
        """Wait for one's turn with a plugin: however many ask for it at the same time, one at a time fetches it."""
        key = (source_id, plugin_id)
        lock = self._one_at_a_time.setdefault(key, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._one_at_a_time.pop(key, None)

    async def refetch(self, source: Source, entry: AuthorEntry) -> None:
        """Fetch from the publisher what others' word backs here, and let what is seen now decide. As `bring` raises."""
        async with self.turn(source.id, entry.slug):
            await self._from_publisher(source, entry, cache=False)

    async def _bring(self, source: Source, entry: AuthorEntry, cache: bool, ask_mesh: bool) -> None:
        key = (source.id, entry.slug, entry.version)
        taken_down, release = self._database.read_now(lambda db: (tombstone(db, *key), catalogue.get_release(db, *key)))
        if taken_down is not None:
            raise Skipped("taken down: an admin of this node took this version down")
        if release is not None and release.held_back and release.sha256 and self._artifacts.has(release.sha256):
            raise Skipped(f"held back: {release.held_back}")
        if release is not None and release.backed and release.sha256 is not None:
            if self._artifacts.has(release.sha256):
                await self._keep_held(release, cache)
                await self._announcer.untold(source.id, entry.slug, entry.version)
                return
            if ask_mesh and await self._from_mesh(release, cache):
                return
        await self._from_publisher(source, entry, cache)

    async def _keep_held(self, release: Release, cache: bool) -> None:
        """The bytes are here; from now on they stay, if somebody with a key wants them."""
        sha256 = release.sha256
        assert sha256 is not None
        if cache or self._is_kept(sha256):
            return
        try:
            await self._run_keeping(partial(self._artifacts.promote, sha256))
        except (ArtifactError, OSError) as error:
            raise Skipped(NOT_STORED) from error
        await self._mark(sha256, cached=False)

    def _is_kept(self, sha256: bytes) -> bool:
        """Whether it stays already, as most of what every sync finds here again."""
        return self._artifacts.keeps(sha256) and self._database.read_now(lambda db: is_kept(db, sha256))

    async def _from_mesh(self, release: Release, cache: bool) -> bool:
        sha256 = release.sha256
        assert sha256 is not None
        if self._fetch_artifact is None:
            return False
        found = False
        with trio.move_on_after(MESH_SECONDS_MIN + release.size / MESH_BYTES_PER_SECOND):
            found = await self._fetch_artifact(sha256, release.size, release.source_id, cache=cache)
        if not found:
            return False
        await self._mark(sha256, cached=cache)
        return True

    async def _mark(self, sha256: bytes, *, cached: bool) -> None:
        now = int(self._clock())
        await self._database.write(lambda db: releases.mark_mirrored(db, sha256, True, cached=cached, at=now))

    async def _from_publisher(self, source: Source, entry: AuthorEntry, cache: bool) -> None:
        put_off = self._put_off.get((source.id, entry.slug), 0.0)
        if put_off > self._clock():
            raise Skipped(f"the publisher limits downloads; it is asked again in {put_off - self._clock():.0f} s")
        public_key = parse_public_key(source.public_key)
        try:
            signed = await self._signed_text(source, entry, public_key)
            is_signed = signed is not None or entry.release is not None or entry.sha384_signature is not None
            if not is_signed and not source.allow_unsigned:
                raise Skipped("unsigned: the publisher gives no signature for it, and the source does not allow that")
            await self._fetch(source, entry, signed, cache)
        except InvalidSignature as invalid:
            raise Skipped(invalid.reason) from invalid

    async def _signed_text(self, source: Source, entry: AuthorEntry, public_key: bytes) -> SignedText | None:
        signed = check_metadata_signature(entry, public_key)
        if signed is not None or entry.release is not None:
            return signed
        try:
            data = await self._client.plugin_data(source.instance_url, source.username, entry.slug)
        except PublisherFailed as failure:
            raise self._skipped(source, entry, failure) from failure
        if data is None:
            return None
        signed = check_plugin_data(entry, data, public_key)
        if signed is not None and data.version != entry.version:
            raise Skipped(
                f"version mismatch: the signed plugin data is about {data.version}, the list about {entry.version}"
            )
        return signed

    async def _fetch(self, source: Source, entry: AuthorEntry, signed: SignedText | None, cache: bool) -> None:
        """Fetch the zip from the publisher, judge it, keep it, record it, tell it. Raises Skipped, InvalidSignature."""
        with self._artifacts.writer() as writer:
            try:
                known = partial(self._etag_of_refused, entry)
                downloaded = await self._client.download(source, entry.slug, entry.version, writer, known=known)
            except NotModified as unchanged:
                raise Skipped(self._refused[unchanged.url].reason) from unchanged
            except PublisherFailed as failure:
                raise self._skipped(source, entry, failure) from failure
            except OSError as error:
                raise Skipped(f"this node could not store it: {error.strerror}") from error
            try:
                judged = await judge(self._examine, source, entry, writer)
            except (ZipRefused, InvalidSignature) as refused:
                if downloaded.etag:
                    remembered = _Refused(entry, downloaded.etag, refused.reason)
                    _remember(self._refused, downloaded.url, remembered, REFUSED_REMEMBERED_MAX)
                raise Skipped(refused.reason) from refused
            self._refused.pop(downloaded.url, None)
            observation = self._observation(source, entry, writer, judged)
            await self.take_in(writer, observation, signed, judged.read, cache=cache)

    def _observation(self, source: Source, entry: AuthorEntry, writer: ArtifactWriter, judged: Judged) -> Observation:
        return Observation(
            source_id=source.id,
            plugin_id=entry.slug,
            version=entry.version,
            observer=self._node_id,
            announcement_id=None,
            sha256=writer.digest(),
            size=writer.size,
            name=entry.name,
            description=entry.description,
            tags=entry.tags,
            type=judged.type,
            evidence=judged.evidence,
            observed_at=int(self._clock()),
            icons=entry.icons,
        )

    async def take_in(
        self,
        writer: ArtifactWriter,
        observation: Observation,
        signed: SignedText | None,
        read: PackageFacts,
        *,
        cache: bool,
    ) -> None:
        """Keep the bytes that were judged good, record that they were seen, and tell it. Raises Skipped."""
        version = (observation.source_id, observation.plugin_id, observation.version)
        if self._contradicts(version, observation.sha256):
            await self._tell_contradiction(observation)
        text_sha256 = await self._run_keeping(partial(keep, self._artifacts, writer, _keeping(signed, cache)))
        await self._record(observation, signed, text_sha256, read, cache)

    def _contradicts(self, version: tuple[str, str, str], sha256: bytes) -> bool:
        """Whether this node saw other bytes under this version before."""
        return self._database.read_now(lambda db: releases.saw_other(db, *version, sha256))

    async def _tell_contradiction(self, observation: Observation) -> NoReturn:
        """Not kept, but evidence: told with the earlier announcement's id, so that nobody takes it for a fork."""
        seen = fitted(observation)
        await self._database.write(lambda db: releases.observe(db, seen, stored=False, now=int(self._clock())))
        await self._announcer.version(seen)
        raise Skipped(f"conflict: the publisher serves other bytes as {observation.version} than it did before")

    async def _record(
        self, observation: Observation, signed: SignedText | None, text_sha256: bytes, read: PackageFacts, cache: bool
    ) -> None:
        """Record what was seen and is kept by now, and tell it. Raises Skipped if it is held back."""
        texts: dict[bytes, bytes] = {}
        if signed is not None:
            if signed.text is not None:
                texts[text_sha256] = signed.text
            piece = Evidence(signed.form, signed.signature, text_sha256)
            observation = replace(observation, evidence=(piece, *observation.evidence))
        seen, now = fitted(observation), int(self._clock())

        def record(db: sqlite_utils.Database) -> tuple[bytes | None, Release | None]:
            _record(db, seen, texts, cache, now, read)
            key = (seen.source_id, seen.plugin_id, seen.version)
            return self._announcer.replaces(db, seen), catalogue.get_release(db, *key)

        replaces, release = await self._database.write(record)
        if replaces is not None:
            await self._announcer.tell(seen, replaces)
        if release is not None and release.held_back:
            raise Skipped(f"held back: {release.held_back}")

    def _etag_of_refused(self, entry: AuthorEntry, url: str) -> str | None:
        """Only for the very entry that it was judged by: with a new list the same zip may be the right one."""
        refused = self._refused.get(url)
        return refused.etag if refused is not None and refused.entry == entry else None

    def _skipped(self, source: Source, entry: AuthorEntry, failure: PublisherFailed) -> Skipped:
        if failure.retry_after is not None:
            until = self._clock() + failure.retry_after
            _remember(self._put_off, (source.id, entry.slug), until, PUT_OFF_MAX)
        return Skipped(failure.sentence, answered=failure.answered or failure.ours)


def _keeping(signed: SignedText | None, cache: bool) -> Keeping:
    return Keeping(None if signed is None else signed.text, cache)


def _record(
    db: sqlite_utils.Database,
    observation: Observation,
    texts: dict[bytes, bytes],
    cache: bool,
    now: int,
    read: PackageFacts,
) -> None:
    """In one transaction: what was seen, that its bytes are here, what is in them, and what its signed text proves."""
    packages.keep_facts(db, {observation.sha256: read})
    releases.observe(db, observation, stored=not cache, now=now)
    if cache:
        releases.mark_mirrored(db, observation.sha256, True, cached=True, at=now)
    if texts:
        releases.set_signed(db, observation.source_id, observation.plugin_id, observation.version, texts.get)


Key = TypeVar("Key")
Remembered = TypeVar("Remembered")


def _remember(memory: "OrderedDict[Key, Remembered]", key: Key, value: Remembered, count_max: int) -> None:
    """Put a value in as the newest, and drop the oldest beyond `count_max`."""
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > count_max:
        memory.popitem(last=False)
