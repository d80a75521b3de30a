"""/federation/*: publishers (sources), subscriptions to them, and the activity."""

from collections.abc import Coroutine
from typing import Any, TypeVar

import sqlite_utils

from pfn_node.sources.outcomes import SyncResult
from pfn_node.store import registry
from pfn_node.store.rows import ApiKey, Filters, Source
from pfn_node.web.answers import (
    Activities,
    ActivityRow,
    AuthorInfo,
    Done,
    FailureRow,
    Skipped,
    SourceAdded,
    SourceColumns,
    SourceRow,
    Sources,
    SourceStatus,
    SourceUpdated,
    Subscribed,
    SubscriptionRow,
    Subscriptions,
    SyncReport,
    VerificationRow,
    Verified,
    health_word,
)
from pfn_node.web.errors import ApiError
from pfn_node.web.routes import Routes
from pfn_node.web.schemas import (
    ActivityQuery,
    AddSource,
    RemoveSource,
    SourceQuery,
    SourcesQuery,
    Subscribe,
    SubscriptionFilters,
    Unsubscribe,
    UpdateSource,
    VerifySource,
)
from pfn_node.web.services import Services
from pfn_protocol.errors import Refusal

routes = Routes("sources")

T = TypeVar("T")

_VERIFICATIONS_SHOWN_MAX = 20
_FAILURES_SHOWN_MAX = 20
_UNSOUND_KEY_RULE = "R1"

_ADDED_MESSAGES = {
    "pending": "Source added successfully, pending verification",
    "verified": "Source added successfully and verified",
}


@routes.post("/federation/add-source", body=AddSource, answer=SourceAdded, scope="sources", errors=(409,))
async def add_source(services: Services, key: ApiKey, body: AddSource) -> SourceAdded:
    """Register a publisher. It is verified at once, in the background; `status` is what it is now."""
    source, created = await _with_sound_key(services.sources.add(body.instance_url, body.username, body.public_key))
    message = _ADDED_MESSAGES.get(source.status, f"Source added; its status is {source.status}")
    if not created:
        message = f"Source was known from other nodes and is registered now; its status is {source.status}"
    return SourceAdded(success=True, source_id=source.id, status=source.status, message=message)


@routes.get("/federation/sources", query=SourcesQuery, answer=Sources, ready=True)
async def list_sources(services: Services, query: SourcesQuery) -> Sources:
    """The sources; those only heard of from other nodes with `status=discovered`."""
    now = int(services.now())

    def rows(db: sqlite_utils.Database) -> list[SourceRow]:
        found = registry.list_sources(db, status=query.status, q=query.q, limit=query.limit, offset=query.offset)
        return [SourceRow.with_summary(source, registry.summary_of(db, source.id, now)) for source in found]

    return Sources(await services.database.read(rows))


@routes.get("/federation/source-status", query=SourceQuery, answer=SourceStatus, ready=True)
async def source_status(services: Services, query: SourceQuery) -> SourceStatus:
    """How a source stands, and how its last verifications and syncs went."""
    now = int(services.now())

    def status(db: sqlite_utils.Database) -> SourceStatus:
        source = registry.get_source(db, query.source_id)
        return SourceStatus(exists=False) if source is None else _status_of(services, db, source, now)

    return services.database.read_now(status)  # by keys and indexes, and bounded


def _status_of(services: Services, db: sqlite_utils.Database, source: Source, now: int) -> SourceStatus:
    summary = registry.summary_of(db, source.id, now)
    failures = registry.failures(db, source.id)[:_FAILURES_SHOWN_MAX]
    return SourceStatus(
        exists=True,
        status=source.status,
        instance_url=source.instance_url,
        username=source.username,
        trust_score=source.trust_score,
        health=health_word(summary.healthy),
        oracle=source.oracle_in_force,
        origin_bound=source.origin_bound,
        stale=summary.stale,
        last_sync=source.last_sync,
        next_sync=next_sync(services, source, summary.subscriber_count, failures[0].next_retry if failures else None),
        failures=[
            FailureRow(**{name: getattr(failure, name) for name in FailureRow.model_fields}) for failure in failures
        ],
        verifications=[
            VerificationRow(**{name: getattr(verification, name) for name in VerificationRow.model_fields})
            for verification in registry.verifications(db, source.id, limit=_VERIFICATIONS_SHOWN_MAX)
        ],
    )


def next_sync(services: Services, source: Source, subscribers: int, next_retry: int | None) -> int | None:
    """About when the source is synced again; None if nobody subscribes to it."""
    if not subscribers:
        return None
    if next_retry is not None:
        return next_retry
    return None if source.last_sync is None else source.last_sync + int(services.settings.sync_seconds)


@routes.post("/federation/verify-source", body=VerifySource, answer=Verified, scope="sources", errors=(404,))
async def verify_source(services: Services, key: ApiKey, body: VerifySource) -> Verified:
    """Let the publisher prove its key again, now. When it is down: `success` false and status `error`."""
    await known_source(services, body.source_id)
    outcome = await services.sources.verify(body.source_id, "manual")
    return Verified(success=outcome.success, status=outcome.status, details=outcome.details)


@routes.post(
    "/federation/update-source", body=UpdateSource, answer=SourceUpdated, scope="sources", errors=(404, 409, 422, 502)
)
async def update_source(services: Services, key: ApiKey, body: UpdateSource) -> SourceUpdated:
    """Read the publisher's asset info again, and change what is given."""
    await known_source(services, body.source_id)
    source = await _with_sound_key(
        services.sources.update(
            body.source_id,
            instance_url=body.instance_url,
            public_key=body.public_key,
            allow_unsigned=body.allow_unsigned,
        )
    )
    return SourceUpdated(success=True, message="Source asset info updated", source=SourceColumns.of(source))


@routes.post("/federation/remove-source", body=RemoveSource, answer=Done, scope="sources", errors=(404,))
async def remove_source(services: Services, key: ApiKey, body: RemoveSource) -> Done:
    """Stop following a publisher. What was mirrored stays, unless `purge` is true."""
    await known_source(services, body.source_id)
    await services.sources.remove(body.source_id, bool(body.purge))
    return Done(success=True, message=f"{body.source_id} is removed{', with all of its files' if body.purge else ''}.")


@routes.post("/federation/subscribe", body=Subscribe, answer=Subscribed, scope="subscribe", errors=(404, 409, 422, 502))
async def subscribe(services: Services, key: ApiKey, body: Subscribe) -> Subscribed:
    """Mirror a source's plugins, now and from now on. Subscribing again is "sync now", with the new filters."""
    await known_source(services, body.source_id)
    result = await services.sources.subscribe(body.source_id, key.id, filters_of(body.filters))
    source = await known_source(services, body.source_id)
    return Subscribed(
        success=result.success,
        message=_subscribed_message(result),
        source=SourceColumns.of(source),
        sync_result=_report(result),
    )


def filters_of(given: SubscriptionFilters | None) -> Filters:
    """The filters of a request; what it leaves out lets everything through."""
    if given is None:
        return Filters()
    return Filters(tuple(given.tags or ()), tuple(given.slugs or ()), tuple(given.exclude or ()))


def _subscribed_message(result: SyncResult) -> str:
    if result.running:
        return "Subscription created; its first sync goes on in the background"
    if not result.success:
        return f"Subscription created, but none of {result.total_plugins} plugins could be mirrored; see skipped"
    return "Subscription created and initial sync completed"


def _report(result: SyncResult) -> SyncReport:
    author = result.author_info
    return SyncReport(
        success=result.success,
        running=result.running,
        mirrored_count=result.mirrored_count,
        total_plugins=result.total_plugins,
        skipped=[Skipped(slug=slug, reason=reason) for slug, reason in result.skipped],
        author_info=AuthorInfo(
            username=author.username,
            member_since=author.member_since,
            website=author.website,
            github=author.github,
            twitter=author.twitter,
        ),
    )


@routes.post("/federation/unsubscribe", body=Unsubscribe, answer=Done, scope="subscribe", errors=(404,))
async def unsubscribe(services: Services, key: ApiKey, body: Unsubscribe) -> Done:
    """End the key's subscription. What was mirrored stays."""
    if not await services.sources.unsubscribe(body.source_id, key.id):
        raise ApiError(404, f"This key does not subscribe to {body.source_id}.", details={"sourceId": body.source_id})
    return Done(success=True, message=f"Unsubscribed from {body.source_id}.")


@routes.get("/federation/subscriptions", answer=Subscriptions, scope="read")
async def list_subscriptions(services: Services, key: ApiKey) -> Subscriptions:
    """What this key subscribes to."""
    rows = await services.database.read(lambda db: registry.subscriptions(db, subscriber=key.id))
    return Subscriptions(subscriptions=[SubscriptionRow.of(row) for row in rows])


@routes.get("/federation/activity", query=ActivityQuery, answer=Activities, scope="read")
async def list_activity(services: Services, key: ApiKey, query: ActivityQuery) -> Activities:
    """What happened, newest first."""
    rows, total = await services.database.read(
        lambda db: registry.activities(
            db,
            type=query.type,
            source_id=query.source_id or None,
            since=query.since,
            before_id=query.before,
            limit=query.limit,
            offset=query.offset,
        )
    )
    return Activities(activities=[ActivityRow.of(row) for row in rows], total=total)


async def known_source(services: Services, source_id: str) -> Source:
    """The source, or the 404 that the original gives for an unknown one."""
    source = services.database.read_now(lambda db: registry.get_source(db, source_id))
    if source is None:
        raise ApiError(
            404,
            "Source not found; GET /federation/sources lists those that are known.",
            details={"sourceId": source_id, "sourceStatus": {"exists": False}},
        )
    return source


async def _with_sound_key(call: Coroutine[Any, Any, T]) -> T:
    """32 bytes that are no point of the curve were understood well, but no publisher can ever prove such a key: 403."""
    try:
        return await call
    except Refusal as refusal:
        if refusal.rule == _UNSOUND_KEY_RULE:
            raise ApiError(403, "This public key is not usable: nobody, or anybody, can sign with it.") from refusal
        raise
