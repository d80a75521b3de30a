"""Releases that somebody wants now, outside any subscription: read-through, and statements handed in by authors.

Both can be set off by anybody, so both are bounded by what a publisher has to bear: a source whose key is not known is
verified at most once in ten minutes for each *host* (source ids cost a peer nothing, hosts do), and a plugin that could
not be had is not asked for again for as long.

A statement that an author signed offline certifies itself. Nothing is dialled before its signature, and the binding of
its key to the source's key, have been checked; and then only the source's own hosts. Where those fail, the bytes may
come from any node that has them, since their digest is signed: but only if it is known that the publisher does not sign
whatever it is sent. Otherwise the statement may be anybody's, and only the publisher's own answer speaks for the bytes.
"""

import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import structlog
import trio

from pfn_node import package_facts
from pfn_node.archive import ArchiveRefused
from pfn_node.archive_process import Examined
from pfn_node.archive_readers import Examine
from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactError
from pfn_node.artifacts.writer import ArtifactWriter
from pfn_node.sources.announcing import Announcer, fitted
from pfn_node.sources.blocking import RunBlocking
from pfn_node.sources.bringing import Skipped
from pfn_node.sources.evidence import InvalidSignature, check_release
from pfn_node.sources.mirroring import (
    MESH_BYTES_PER_SECOND,
    MESH_SECONDS_MIN,
    FetchArtifact,
    Mirroring,
)
from pfn_node.sources.outcomes import NotVerified, PublisherFailed, UnknownSource, VerificationOutcome
from pfn_node.sources.publisher_answers import clean_text
from pfn_node.sources.publisher_client import ByteSink, PublisherClient, TransferFailed
from pfn_node.sources.verification import VerificationType
from pfn_node.store import catalogue, releases
from pfn_node.store.database import Database
from pfn_node.store.notices import take_binding
from pfn_node.store.rows import Observation, Release, Source
from pfn_node.store.safety import tombstone
from pfn_node.store.sources import get_source, host_of
from pfn_node.zip_addresses import zip_addresses
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.bundle_proof import Measured
from pfn_protocol.errors import Refusal, Severity
from pfn_protocol.limits import description_chars_max, name_chars_max
from pfn_protocol.names import source_id_of
from pfn_protocol.publisher import ReleaseStatement, open_release

log = structlog.get_logger()

HOST_SECONDS: Final = 600
MISSED_SECONDS: Final = 600
REMEMBERED_MAX: Final = 10_000
COPIED_AT_ONCE_BYTES: Final = 2**20

Key = TypeVar("Key")
Verify = Callable[[str, VerificationType], Awaitable[VerificationOutcome]]


class OnDemand:
    """Fetches single releases from publishers, and takes in what authors hand in."""

    def __init__(
        self,
        database: Database,
        artifacts: Artifacts,
        client: PublisherClient,
        mirroring: Mirroring,
        announcer: Announcer,
        verify: Verify,
        *,
        node_id: bytes,
        clock: Callable[[], float],
        run_blocking: RunBlocking,
        examine: Examine,
        fetch_artifact: FetchArtifact | None,
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._client = client
        self._mirroring = mirroring
        self._announcer = announcer
        self._verify = verify
        self._node_id = node_id
        self._clock = clock
        self._run_blocking = run_blocking
        self._examine = examine
        self._fetch_artifact = fetch_artifact
        self._hosts_verified: OrderedDict[str, float] = OrderedDict()
        self._missed: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    def seconds_until_turn(self, source: Source) -> float:
        """How long until the host of a source that nobody registered here may be asked for a proof; 0: now."""
        if source.registered:
            return 0.0
        return max(0.0, self._hosts_verified.get(host_of(source.id), 0.0) + HOST_SECONDS - self._clock())

    def take_turn(self, source: Source) -> None:
        """Note that the source's host is asked for a proof now."""
        self._note(self._hosts_verified, host_of(source.id))

    async def fetch_release(self, source_id: str, plugin_id: str, version: str, *, cache: bool = False) -> bool:
        """Fetch a release from its publisher and observe it; True if its bytes are here now.

        Other nodes are not asked: whoever calls has done so. The source is verified first if its key is not known.
        `cache`: nobody with a key asked, so it is only cached.
        """
        wanted = (source_id, plugin_id, version)
        if self._missed.get(wanted, 0.0) + MISSED_SECONDS > self._clock():
            return False
        source = await self._with_known_key(source_id)
        if source is None:
            return False
        try:
            listed = await self._mirroring.author_data(source)
            entry = next((one for one in listed.entries if (one.slug, one.version) == (plugin_id, version)), None)
            if entry is not None:
                await self._mirroring.bring(source, entry, cache=cache, ask_mesh=False)
                return True
        except PublisherFailed as failure:
            if failure.ours:  # nobody was asked, so the next one may try at once
                return False
        except Skipped:
            pass  # As good as not listed: the caller says what is known of it without the publisher.
        self._note(self._missed, wanted)
        return False

    async def accept_release(self, raw: bytes, keybind: bytes | None, artifact_url: str | None) -> Release:
        """Take in a release that its author signed offline; return it as it stands then.

        Raises Refusal (nothing was dialled, or the bytes are not what was signed), UnknownSource, NotVerified, and
        PublisherFailed if the bytes can be fetched neither from the publisher nor from other nodes.
        """
        statement, _ = open_release(raw)
        source = await self._source_of(statement)
        try:
            check_release(raw, keybind, source, None)
        except InvalidSignature as invalid:
            raise Refusal("R53", invalid.reason, Severity.HOSTILE) from invalid
        if (
            await self._database.read(lambda db: tombstone(db, source.id, statement.slug, statement.version))
            is not None
        ):
            raise Refusal("R147", "an admin of this node took this version down; it is not taken in again")
        addresses = _addresses(source, statement, artifact_url)
        evidence = [Evidence(EvidenceForm.RELEASE, raw)]
        if keybind is not None:
            evidence.append(Evidence(EvidenceForm.KEYBIND, keybind))
            # A key has to be known to be revoked (R142).
            await self._database.write(partial(take_binding, keybind=keybind, now=int(self._clock())))
        async with self._mirroring.turn(source.id, statement.slug):
            seen = await self._seen_here(source, statement)
            if seen is None:
                await self._fetch_stated(source, statement, addresses, tuple(evidence))
            else:
                await self._strengthen(seen, tuple(evidence))
        await self._announcer.mirror(source.id)
        release = await self._database.read(
            lambda db: catalogue.get_release(db, source.id, statement.slug, statement.version)
        )
        assert release is not None, "it was observed just now"
        return release

    async def _with_known_key(self, source_id: str) -> Source | None:
        """The source, if its key is known or can be proved now."""
        source = await self._database.read(lambda db: get_source(db, source_id))
        if source is None or source.key_known:
            return source
        if source.status in ("conflict", "revoked") or self.seconds_until_turn(source) > 0:
            return None
        self.take_turn(source)
        try:
            proved = (await self._verify(source_id, "initial")).success
        except PublisherFailed:
            return None  # This node is too busy to ask.
        again = await self._database.read(lambda db: get_source(db, source_id))
        return again if proved and again is not None and again.key_known else None

    async def _source_of(self, statement: ReleaseStatement) -> Source:
        source_id = source_id_of(statement.origin, statement.author)
        source = await self._database.read(lambda db: get_source(db, source_id))
        if source is None:
            raise UnknownSource(source_id)
        if not source.key_known:
            raise NotVerified(
                f"the key of {source_id} is not known here (its status is {source.status}); verify it first"
            )
        return source

    async def _seen_here(self, source: Source, statement: ReleaseStatement) -> Observation | None:
        """This node's own observation of the very bytes that are stated, if it holds them."""
        if not self._artifacts.has(statement.sha256):
            return None
        observations = await self._database.read(
            lambda db: catalogue.observations_of(db, source.id, statement.slug, statement.version)
        )
        key = (self._node_id, statement.sha256, statement.size)
        return next((one for one in observations if (one.observer, one.sha256, one.size) == key), None)

    async def _strengthen(self, seen: Observation, evidence: tuple[Evidence, ...]) -> None:
        """The bytes were seen already; now there is more to say for them."""
        given = {piece.form for piece in evidence}
        kept = tuple(piece for piece in seen.evidence if piece.form not in given)
        stronger = fitted(replace(seen, evidence=(*kept, *evidence), announcement_id=None))
        if stronger.evidence == seen.evidence:
            return
        await self._database.write(lambda db: releases.observe(db, stronger, now=int(self._clock())))
        await self._announcer.version(stronger)

    async def _fetch_stated(
        self, source: Source, statement: ReleaseStatement, addresses: list[str], evidence: tuple[Evidence, ...]
    ) -> None:
        """Fetch the stated bytes, from the publisher or else from the mesh, judge them, keep, record and tell them."""
        try:
            with self._artifacts.writer() as writer:
                await self._download(addresses, writer)
                await self._take_in_stated(source, statement, writer, evidence, seen_at=int(self._clock()))
        except PublisherFailed:
            with self._artifacts.writer() as writer:
                if not await self._from_mesh(source, statement, writer):
                    raise
                # Others gave them: it is the author's word that backs these bytes, and nobody saw them served.
                await self._take_in_stated(source, statement, writer, evidence, seen_at=0)

    async def _from_mesh(self, source: Source, statement: ReleaseStatement, writer: ArtifactWriter) -> bool:
        """Whether other nodes gave the bytes and they were written; until they are judged they are only cached."""
        if self._fetch_artifact is None or not source.signs_no_raw_bytes:
            return False
        found = False
        with trio.move_on_after(MESH_SECONDS_MIN + statement.size / MESH_BYTES_PER_SECOND):
            found = await self._fetch_artifact(statement.sha256, statement.size, source.id, cache=True)
        if not found:
            return False
        try:
            await self._run_blocking(partial(_copy, self._artifacts, statement.sha256, writer))
        except (ArtifactError, OSError) as error:
            log.warning("artifact_not_read", sha256=statement.sha256.hex(), error=str(error))
            return False
        return True

    async def _take_in_stated(
        self,
        source: Source,
        statement: ReleaseStatement,
        writer: ArtifactWriter,
        evidence: tuple[Evidence, ...],
        *,
        seen_at: int,
    ) -> None:
        measured = Measured(writer.digest(), b"", writer.size)
        if (measured.sha256, measured.size) != (statement.sha256, statement.size):
            raise Refusal(
                "R53",
                f"the zip has sha256 {measured.sha256.hex()} and {measured.size} bytes; "
                f"the release states {statement.sha256.hex()} and {statement.size}",
            )
        examined = await self._examined(writer.path, statement)
        facts = examined.facts
        observation = Observation(
            source_id=source.id,
            plugin_id=statement.slug,
            version=statement.version,
            observer=self._node_id,
            announcement_id=None,
            sha256=measured.sha256,
            size=measured.size,
            name=clean_text(facts.name, name_chars_max),
            description=clean_text(facts.headers.get("Description", ""), description_chars_max) or None,
            tags=(),
            type=facts.type,
            evidence=evidence,
            observed_at=seen_at,
        )
        try:
            await self._mirroring.take_in(writer, observation, None, package_facts.facts_of(examined), cache=False)
        except Skipped as skipped:
            if isinstance(skipped.__cause__, OSError):  # our disk says nothing about the statement
                raise skipped.__cause__ from skipped
            raise Refusal("R53", skipped.reason) from skipped

    async def _download(self, addresses: list[str], sink: ByteSink) -> None:
        failure: PublisherFailed | None = None
        for address in addresses:
            try:
                await self._client.download_from(address, sink)
                return
            except TransferFailed:
                raise  # some of it has been written
            except PublisherFailed as failed:
                failure = failed
        assert failure is not None, "there is at least one address"
        raise failure

    async def _examined(self, zip_file: Path, statement: ReleaseStatement) -> Examined:
        try:
            examined = await self._examine(zip_file)
        except ArchiveRefused as refused:
            raise Refusal("R53", f"the zip is not accepted: {refused.sentence}") from refused
        version = examined.facts.version
        if version != statement.version:
            raise Refusal("R53", f"the zip says version {version[:40]!r}, the release states {statement.version!r}")
        return examined

    def _note(self, memory: OrderedDict[Key, float], key: Key) -> None:
        memory[key] = self._clock()
        memory.move_to_end(key)
        while len(memory) > REMEMBERED_MAX:
            memory.popitem(last=False)


def _copy(artifacts: Artifacts, sha256: bytes, writer: ArtifactWriter) -> None:
    with os.fdopen(artifacts.open(sha256).fd, "rb") as file:
        while piece := file.read(COPIED_AT_ONCE_BYTES):
            writer.write(piece)


def _addresses(source: Source, statement: ReleaseStatement, artifact_url: str | None) -> list[str]:
    """Where the stated zip may be fetched; raises Refusal for an address that is not one of the source's hosts."""
    own = zip_addresses(source, statement.slug, statement.version)
    if artifact_url is None:
        return own
    hosts = {urlsplit(address).netloc for address in (source.instance_url, *own)}
    try:
        host = urlsplit(artifact_url).netloc.lower()
    except ValueError:
        host = ""
    if host not in hosts:
        raise Refusal("R53", f"artifact_url must lie on a host of the source: {', '.join(sorted(hosts))}")
    return [artifact_url]
