"""/admin/subscriptions: what this key has mirrored, what a new subscription would bring, and how far a sync is."""

import re
from dataclasses import dataclass
from typing import Any, Final

import pydantic
import sqlite_utils
from pydantic import Field

from pfn_node.sources.outcomes import SourcesError
from pfn_node.sources.previewing import Preview
from pfn_node.sources.progress import SyncSteps
from pfn_node.sources.standing import skipped_of
from pfn_node.store import registry, source_history
from pfn_node.store.rows import Filters, Source, Subscription, SyncFailure
from pfn_node.store.source_history import Holdings
from pfn_node.web import federation_sources
from pfn_node.web.answers import Done
from pfn_node.web.errors import ApiError, as_api_error
from pfn_node.web.federation_sources import filters_of
from pfn_node.web.pages.blaming import blamed_on
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.pages.source_figures import duration
from pfn_node.web.pages.sources import STATUS_WORDS
from pfn_node.web.schemas import (
    OFFSET_MAX,
    SOURCE_ALIASES,
    Query,
    QueryInteger,
    SourceBody,
    Subscribe,
    SubscriptionFilters,
    Unsubscribe,
)
from pfn_node.web.services import Services
from pfn_protocol.limits import source_id_chars_max

pages = Pages()

PAGE_ROWS: Final = 25
CHOICES_MAX: Final = 200
NAMES_SHOWN: Final = 50
SKIPPED_SHOWN: Final = 10
FILTER_CHARACTERS_MAX: Final = 10_000
FILTERS: Final = ("tags", "slugs", "exclude")
# The page shows how the sync goes, instead of waiting for it.
WAIT_SECONDS: Final = 0.0


class SubscriptionsQuery(Query):
    """What a preview is asked of: the fields of the form that subscribes."""

    source_id: str | None = Field(None, max_length=source_id_chars_max, validation_alias=SOURCE_ALIASES)
    tags: str | None = Field(None, max_length=FILTER_CHARACTERS_MAX, validation_alias="filters.tags")
    slugs: str | None = Field(None, max_length=FILTER_CHARACTERS_MAX, validation_alias="filters.slugs")
    exclude: str | None = Field(None, max_length=FILTER_CHARACTERS_MAX, validation_alias="filters.exclude")
    offset: QueryInteger = Field(0, ge=0, le=OFFSET_MAX)


class SyncNow(SourceBody):
    """Which source is synced."""


@dataclass(frozen=True, slots=True)
class Line:
    """One subscription, and how it goes."""

    subscription: Subscription
    source: Source | None
    holdings: Holdings
    failure: SyncFailure | None
    skipped: list[tuple[str, str, str]]
    sync: SyncSteps | None

    @property
    def syncing(self) -> bool:
        """Whether a sync runs now."""
        return self.sync is not None and self.sync.ended is None


@pages.get(
    "/admin/subscriptions",
    "subscriptions.html",
    title="Subscriptions",
    menu="admin",
    scope="subscribe",
    query=SubscriptionsQuery,
    twin="/federation/subscriptions",
)
async def show_subscriptions(services: Services, visitor: Visitor, query: SubscriptionsQuery) -> dict[str, Any]:
    assert visitor.key is not None
    subscriber = visitor.key.id
    source_id = (query.source_id or "").strip()

    def read(db: sqlite_utils.Database) -> dict[str, Any]:
        mine = registry.subscriptions(db, subscriber=subscriber)
        shown = mine[query.offset : query.offset + PAGE_ROWS]
        return {
            "lines": [_line(services, db, one) for one in shown],
            "total": len(mine),
            "current": next((one for one in mine if one.source_id == source_id), None),
            "choices": registry.list_sources(db, limit=CHOICES_MAX),
        }

    known = await services.database.read(read)
    current: Subscription | None = known["current"]
    typed = {name: getattr(query, name) for name in FILTERS}
    if current is not None and all(text is None for text in typed.values()):
        typed = {name: ", ".join(getattr(current.filters, name)) for name in FILTERS}
    preview, problem = await _preview(services, source_id, typed) if source_id else (None, None)
    return known | {
        "source_id": source_id,
        "typed": {name: text or "" for name, text in typed.items()},
        "preview": preview,
        "problem": problem,
        "busy": any(line.syncing for line in known["lines"]),
        "status_words": STATUS_WORDS,
        "names_shown": NAMES_SHOWN,
        "rows": PAGE_ROWS,
        "query": query,
        "duration": duration,
    }


def _line(services: Services, db: sqlite_utils.Database, subscription: Subscription) -> Line:
    source_id = subscription.source_id
    return Line(
        subscription,
        registry.get_source(db, source_id),
        source_history.holdings_of(db, source_id),
        next(iter(registry.failures(db, source_id)), None),
        skipped_of(db, source_id)[:SKIPPED_SHOWN],
        services.sources.progress.sync(source_id),
    )


async def _preview(
    services: Services, source_id: str, typed: dict[str, str | None]
) -> tuple[Preview | None, str | None]:
    """What would be mirrored, or the sentence that says why that cannot be told."""
    try:
        filters = _read(typed)
        return await services.sources.preview(source_id, filters), None
    except pydantic.ValidationError:
        return None, "A tag, slug or exception is too long, or there are too many of them."
    except SourcesError as error:
        return None, as_api_error(error).sentence


def _read(typed: dict[str, str | None]) -> Filters:
    words = {
        name: [entry.strip() for entry in re.split(r"[,\n]", text or "") if entry.strip()]
        for name, text in typed.items()
    }
    return filters_of(SubscriptionFilters.model_validate(words))


@pages.form(
    "/admin/subscriptions",
    page=show_subscriptions,
    body=Subscribe,
    scope="subscribe",
    lines=("filters.tags", "filters.slugs", "filters.exclude"),
)
async def subscribe(services: Services, visitor: Visitor, body: Subscribe) -> str:
    """Subscribe, or change the filters; the page shows how the sync goes."""
    return await _sync(services, visitor, body.source_id, filters_of(body.filters), f"Subscribed to {body.source_id}")


@pages.form("/admin/subscriptions/sync", page=show_subscriptions, body=SyncNow, scope="subscribe")
async def sync_now(services: Services, visitor: Visitor, body: SyncNow) -> str:
    """Sync a subscription with the filters that it has."""
    assert visitor.key is not None
    subscriber = visitor.key.id
    found = await services.database.read(
        lambda db: registry.subscriptions(db, source_id=body.source_id, subscriber=subscriber)
    )
    if not found:
        raise ApiError(404, f"This key does not subscribe to {body.source_id}.")
    return await _sync(
        services, visitor, body.source_id, found[0].filters, f"{body.source_id} is asked for what is new"
    )


@pages.form("/admin/subscriptions/remove", page=show_subscriptions, body=Unsubscribe, scope="subscribe")
async def unsubscribe(services: Services, visitor: Visitor, body: Unsubscribe) -> Done:
    """End a subscription; what was mirrored stays."""
    assert visitor.key is not None
    return await federation_sources.unsubscribe(services, key=visitor.key, body=body)


async def _sync(services: Services, visitor: Visitor, source_id: str, filters: Filters, done: str) -> str:
    assert visitor.key is not None
    with blamed_on("sourceId", ApiError):
        await federation_sources.known_source(services, source_id)
    result = await services.sources.subscribe(source_id, visitor.key.id, filters, seconds_max=WAIT_SECONDS)
    if result.running:
        return f"{done}; the progress of the sync is shown below."
    return f"{done}; {result.mirrored_count} of {result.total_plugins} plugins are here."
