"""The room's front: everything that the rest of the node asks of sources goes through `Sources`.

Nothing here talks to a publisher or judges one; this is where a request is checked against what is registered, and is
handed to the part that does it.
"""

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import sqlite_utils
import trio

from pfn_node.archive_readers import Examine
from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.metrics import Metrics
from pfn_node.outbound import Outbound
from pfn_node.settings import Settings
from pfn_node.sources.announcing import Announce, Announcer
from pfn_node.sources.blocking import KEEPING_MAX, RunBlocking, in_threads
from pfn_node.sources.courtesy import Courtesy
from pfn_node.sources.health import HealthMonitor
from pfn_node.sources.mirroring import FetchArtifact, Mirroring
from pfn_node.sources.notices import Notices
from pfn_node.sources.on_demand import OnDemand
from pfn_node.sources.outcomes import (
    NoticeOutcome,
    NotVerified,
    PublisherFailed,
    SourceConflict,
    SyncResult,
    UnknownSource,
    VerificationOutcome,
)
from pfn_node.sources.previewing import AskedLately, Preview, preview
from pfn_node.sources.progress import Progress
from pfn_node.sources.publisher_answers import FederationInfo
from pfn_node.sources.publisher_client import PublisherClient
from pfn_node.sources.purging import Purging
from pfn_node.sources.refetching import Refetching
from pfn_node.sources.schedule import Schedule
from pfn_node.sources.standing import settle, settle_sharing
from pfn_node.sources.syncing import SyncFlight, Syncing, result_of
from pfn_node.sources.verification import VerificationType, Verifier
from pfn_node.store.activity import record_activity
from pfn_node.store.database import Database
from pfn_node.store.key_changes import begin_keys, choose_key
from pfn_node.store.notices import look_again
from pfn_node.store.rows import Filters, Release, Source
from pfn_node.store.sources import (
    get_source,
    host_of,
    insert_source,
    sources_of_host,
    update_source,
)
from pfn_node.store.subscriptions import delete_subscription, set_subscription, subscriptions
from pfn_protocol.announcements import NoticeStatement
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import parse_public_key, public_key_pem
from pfn_protocol.names import parse_instance_url, source_id_of

SUBSCRIBE_SECONDS_MAX: Final = 55.0  # proxies and clients give up after 60

T = TypeVar("T")


class Sources:
    """Publishers: registering, verifying, subscribing, mirroring. `run` must be running for anything that takes time.

    `announce` returns once the announcement is kept. `fetch_artifact` brings bytes that others hold; without it every
    release is fetched from its publisher. `examine` looks at zips. `run_blocking` runs what blocks; tests under a mock
    clock run it inline.
    """

    def __init__(
        self,
        database: Database,
        artifacts: Artifacts,
        outbound: Outbound,
        settings: Settings,
        announce: Announce,
        node_id: bytes,
        examine: Examine,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        *,
        fetch_artifact: FetchArtifact | None = None,
        run_blocking: RunBlocking | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        rng = rng or random.Random()  # noqa: S311 - it spreads work over time, nothing secret comes of it
        courtesy = Courtesy()
        write_blocking = run_blocking or in_threads(KEEPING_MAX)
        run_blocking = run_blocking or in_threads()
        self._database = database
        self._settings = settings
        self._clock = clock
        self.progress: Final = Progress(clock, metrics)
        self._nursery: trio.Nursery | None = None
        self._client = PublisherClient(outbound, settings, metrics)
        announcer = Announcer(database, announce, node_id, clock)
        self._notices = Notices(database, announce, clock)
        self._verifier = Verifier(
            database, self._client, announcer, self._notices, self.progress, courtesy, node_id, clock
        )
        verify = self._verifier.verify
        self._mirroring = Mirroring(
            database,
            artifacts,
            self._client,
            announcer,
            self._notices,
            partial(verify, type="periodic"),
            node_id=node_id,
            clock=clock,
            examine=examine,
            write_blocking=write_blocking,
            fetch_artifact=fetch_artifact,
        )
        self._purging = Purging(database, artifacts, run_blocking, clock)
        self._asked_lately = AskedLately(self._mirroring.author_data)
        self._syncing = Syncing(database, self._mirroring, announcer, self.progress, courtesy, clock)
        self._on_demand = OnDemand(
            database,
            artifacts,
            self._client,
            self._mirroring,
            announcer,
            verify,
            node_id=node_id,
            clock=clock,
            run_blocking=run_blocking,
            examine=examine,
            fetch_artifact=fetch_artifact,
        )
        health = HealthMonitor(database, self._client, clock)
        refetching = Refetching(database, self._mirroring, clock, rng)
        self._schedule = Schedule(
            database, settings, health, verify, self._syncing, announcer, refetching, clock=clock, rng=rng
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Care for the sources until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._syncing.run_in(nursery)
            nursery.start_soon(self._schedule.run)
            nursery.start_soon(self._notices.run)
            nursery.start_soon(self._purging.run)
            task_status.started()

    async def add(self, instance_url: str, username: str, public_key: str) -> tuple[Source, bool]:
        """Register a source, or take over one that was only heard of (False); it is verified in the background.

        Raises Refusal for input that can be no source, SourceConflict for one that stands in the way.
        """
        url = parse_instance_url(instance_url, allow_http=self._settings.allow_private_networks)
        source_id = source_id_of(url, username)
        pem = public_key_pem(parse_public_key(public_key))
        added = await self._database.write(lambda db: self._register(db, source_id, url, username, pem))
        self._schedule.look_soon()
        return added

    async def verify(self, source_id: str, type: VerificationType = "manual") -> VerificationOutcome:
        """Ask the publisher for a proof now. Raises UnknownSource."""
        return await self._verifier.verify(source_id, type)

    async def start_verification(self, source_id: str) -> None:
        """Begin to ask the publisher for a proof; `progress` shows how that goes. Raises UnknownSource."""
        await self._known(source_id)
        assert self._nursery is not None, "Sources.run must be running"
        self._verifier.start(self._nursery, source_id)

    async def update(
        self,
        source_id: str,
        *,
        instance_url: str | None = None,
        public_key: str | None = None,
        allow_unsigned: bool | None = None,
    ) -> Source:
        """Change what is given, and read from the publisher where its zips are.

        Raises UnknownSource, Refusal, SourceConflict. Raises PublisherFailed if the publisher cannot be asked; then
        nothing is changed, unless something was given: that holds whether or not the publisher is up.
        """
        source = await self._known(source_id)
        changes: dict[str, Any] = {}
        if instance_url is not None:
            changes["instance_url"] = self._moved_url(source, instance_url)
        if public_key is not None:
            changes["public_key"] = public_key_pem(parse_public_key(public_key))
        if allow_unsigned is not None:
            changes["allow_unsigned"] = allow_unsigned
        info: FederationInfo | None = None
        try:
            info = await self._client.federation_info(changes.get("instance_url", source.instance_url))
        except PublisherFailed:
            if not changes:
                raise
        updated = await self._database.write(lambda db: self._change(db, source_id, changes, info))
        self._schedule.look_soon()
        return updated

    async def remove(self, source_id: str, purge: bool) -> None:
        """Forget a source; with `purge` also what was mirrored of it. Raises UnknownSource."""
        await self._purging.remove(source_id, purge)

    async def preview(self, source_id: str, filters: Filters) -> Preview:
        """What a subscription with these filters would mirror now. Raises UnknownSource."""
        return await preview(self._database, self._asked_lately, await self._known(source_id), filters)

    async def subscribe(
        self, source_id: str, subscriber: str, filters: Filters, *, seconds_max: float = SUBSCRIBE_SECONDS_MAX
    ) -> SyncResult:
        """Subscribe with these filters, or replace those of the subscription, and sync now.

        Waits for the sync for at most 55 s in all; then the result so far says that it goes on, as `progress` does. A
        source that is not verified is verified first. Raises UnknownSource, NotVerified, PublisherFailed; then there is
        no subscription that was not there before.
        """
        deadline = trio.current_time() + seconds_max
        source = await self._proved(await self._known(source_id))
        try:
            author_data = await self._mirroring.author_data(source)
        except PublisherFailed as failure:
            if not failure.ours:
                await self._syncing.record_failed(source_id, failure)
            raise
        now = int(self._clock())
        is_new = await self._database.write(lambda db: _subscribe(db, source_id, subscriber, filters, now))
        flight = self._syncing.request(source_id, fresh=True, author_data=author_data)
        with trio.CancelScope(deadline=deadline):
            await flight.done.wait()
        await self._raise_failure(flight, subscriber if is_new else None)
        return result_of(flight, filters)

    async def unsubscribe(self, source_id: str, subscriber: str) -> bool:
        """End a subscription; return whether there was one. What was mirrored stays. Raises UnknownSource."""
        await self._known(source_id)

        def end(db: sqlite_utils.Database) -> bool:
            ended = delete_subscription(db, source_id, subscriber)
            settle(db, source_id, int(self._clock()))
            return ended

        return await self._database.write(end)

    async def fetch_release(self, source_id: str, plugin_id: str, version: str, *, cache: bool = False) -> bool:
        """Fetch a release from its publisher now and observe it; True if its bytes are here. See on_demand.py."""
        return await self._on_demand.fetch_release(source_id, plugin_id, version, cache=cache)

    async def accept_release(self, envelope: bytes, keybind: bytes | None, artifact_url: str | None) -> Release:
        """Take in a release that its author signed offline. See on_demand.py for what is raised."""
        return await self._on_demand.accept_release(envelope, keybind, artifact_url)

    async def accept_notices(self, envelopes: Sequence[bytes], keybinds: Sequence[bytes]) -> list[NoticeOutcome]:
        """Take in what publishers signed about keys and releases, whoever brings it. See notices.py."""
        return await self._notices.take(envelopes, keybinds)

    async def say(self, statement: NoticeStatement) -> bool:
        """Announce what an admin of this node says about a release; return whether it was told."""
        return await self._notices.say(statement)

    async def _known(self, source_id: str) -> Source:
        source = await self._database.read(lambda db: get_source(db, source_id))
        if source is None:
            raise UnknownSource(source_id)
        return source

    async def _proved(self, source: Source) -> Source:
        """The source, verified now if need be. Raises NotVerified, PublisherFailed."""
        if source.status == "verified":
            return source
        if source.status == "revoked":
            raise NotVerified(f"the key of {source.id} was revoked; nothing of it is mirrored any more")
        wait = self._on_demand.seconds_until_turn(source)
        if wait > 0:
            raise NotVerified(
                f"{host_of(source.id)} was asked for a proof only a moment ago, and {source.id} is not registered "
                f"here; add it with add-source, or try again in {wait:.0f} s"
            )
        self._on_demand.take_turn(source)
        outcome = await self._verifier.verify(source.id, "initial" if source.verified_at is None else "manual")
        if not outcome.success and not outcome.answered:
            raise PublisherFailed(outcome.details, answered=False)
        if outcome.status == "conflict":
            raise NotVerified(
                f"the key of {source.id} was proved at another host as well, so this node cannot tell whose it is; "
                "remove the source that is wrong, then verify this one again"
            )
        if not outcome.success:
            raise NotVerified(f"{source.id} is not verified: {outcome.details}")
        return await self._known(source.id)

    async def _raise_failure(self, flight: SyncFlight, new_subscriber: str | None) -> None:
        """Raise what a sync failed with, after taking back a subscription that it was the first for."""
        if flight.failure is None:
            return
        if new_subscriber is not None:
            subscriber = new_subscriber
            await self._database.write(lambda db: delete_subscription(db, flight.source_id, subscriber))
        raise flight.failure

    def _register(
        self, db: sqlite_utils.Database, source_id: str, url: str, username: str, pem: str
    ) -> tuple[Source, bool]:
        now = int(self._clock())
        for other in sources_of_host(db, host_of(source_id)):
            if other.registered:
                _refuse_beside(source_id, url, other)
        known = get_source(db, source_id)
        if known is None:
            source = insert_source(
                db, id=source_id, instance_url=url, username=username, public_key=pem, created_at=now
            )
            begin_keys(db, source_id, now)
        else:
            source = self._take_over(db, known, url, pem, now)
        record_activity(db, "federation_event", f"{source_id} was registered", at=now, source_id=source_id)
        look_again(db, source_id, now)
        return source, known is None

    def _take_over(self, db: sqlite_utils.Database, known: Source, url: str, pem: str, now: int) -> Source:
        """The admin's word about a source wins over everything that was heard; a proof of the same key still counts."""
        columns: dict[str, Any] = {"registered": True, "instance_url": url}
        if (known.instance_url, parse_public_key(known.public_key)) != (url, parse_public_key(pem)):
            columns |= _unproved(pem, now)
        update_source(db, known.id, **columns)
        if parse_public_key(known.public_key) != parse_public_key(pem):
            choose_key(db, known.id, now, was_known=known.key_known)
        return settle(db, known.id, now)

    def _change(
        self, db: sqlite_utils.Database, source_id: str, changes: dict[str, Any], info: FederationInfo | None
    ) -> Source:
        now = int(self._clock())
        before = get_source(db, source_id)
        if before is None:
            raise UnknownSource(source_id)
        columns = dict(changes)
        if info is not None:
            columns |= {"asset_domain": info.asset_domain, "asset_naming_scheme": info.asset_naming_scheme}
        pem = columns.get("public_key", before.public_key)
        if (columns.get("instance_url", before.instance_url), pem) != (before.instance_url, before.public_key):
            columns |= _unproved(pem, now)
        update_source(db, source_id, **columns)
        if "public_key" in changes:
            choose_key(db, source_id, now, was_known=before.key_known)
            record_activity(db, "security", f"the admin chose the key of {source_id}", at=now, source_id=source_id)
        if changes:
            message = f"the admin changed {', '.join(sorted(changes))} of {source_id}"
            record_activity(db, "federation_event", message, at=now, source_id=source_id)
        settle_sharing(db, parse_public_key(before.public_key), now)
        return settle(db, source_id, now)

    def _moved_url(self, source: Source, instance_url: str) -> str:
        url = parse_instance_url(instance_url, allow_http=self._settings.allow_private_networks)
        if source_id_of(url, source.username) != source.id:
            raise Refusal(
                "R58",
                f"{source.id} lives at {host_of(source.id)}; a publisher at another host is another source: "
                "add that one, and remove this one",
            )
        return url


def _subscribe(db: sqlite_utils.Database, source_id: str, subscriber: str, filters: Filters, now: int) -> bool:
    """Keep a subscription; True if it is new. The source may have been removed while its publisher was asked."""
    if get_source(db, source_id) is None:
        raise UnknownSource(source_id)
    is_new = not subscriptions(db, source_id=source_id, subscriber=subscriber)
    set_subscription(db, source_id, subscriber, filters, now)
    settle(db, source_id, now)
    return is_new


def _unproved(pem: str, now: int) -> dict[str, Any]:
    """The columns of a source whose key or address is new: what was proved before does not count (standing.py)."""
    return {
        "public_key": pem,
        "verified_at": None,
        "oracle": None,
        "origin_bound": False,
        "status": "pending",
        "created_at": now,
    }


def _refuse_beside(source_id: str, url: str, other: Source) -> None:
    """Raise SourceConflict if a source cannot be registered beside one of the same host."""
    if other.instance_url != url and other.instance_url.partition("://")[2] != url.partition("://")[2]:
        raise SourceConflict(
            f"{other.instance_url} is registered, and differs from {url} only by its path; a host can be one publisher "
            f"only: use its URL, or remove {other.id} first"
        )
    if other.id == source_id:
        raise SourceConflict(f"{source_id} is registered already; change it with update-source")
