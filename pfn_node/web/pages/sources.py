"""/sources: the publishers that this node knows, and how each of them behaves."""

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

import sqlite_utils
from pydantic import BeforeValidator, Field

from pfn_node.sources.progress import STEPS, Step, Steps
from pfn_node.sources.standing import skipped_of
from pfn_node.store import catalogue, cursors, registry, source_history
from pfn_node.store.rows import Source, SourceSummary
from pfn_node.web.answers import health_word
from pfn_node.web.errors import ApiError
from pfn_node.web.federation_sources import next_sync
from pfn_node.web.pages.page_routes import Elsewhere, Pages, Visitor
from pfn_node.web.pages.source_figures import duration, health_chart, trust_bar
from pfn_node.web.schemas import OFFSET_MAX, QUERY_CHARACTERS_MAX, Query, QueryInteger
from pfn_node.web.services import Services
from pfn_protocol.identity import did_key, parse_public_key

pages = Pages()

PAGE_ROWS: Final = 25
RELEASES_SHOWN: Final = 25
VERIFICATIONS_SHOWN: Final = 20
FAILURES_SHOWN: Final = 10
SKIPPED_SHOWN: Final = 20
# So long a source that was just added is watched, though its verification has not begun.
EXPECTED_SECONDS: Final = 120
STATUSES: Final = ("verified", "pending", "error", "conflict", "revoked", "discovered")
# Each status: the kind of its mark, and what it means.
STATUS_WORDS: Final = {
    "verified": ("good", "Its publisher proved that it holds the key."),
    "pending": ("busy", "Registered here; nothing has been proved yet."),
    "error": ("bad", "It failed to prove its key, or to answer, lately."),
    "conflict": ("warn", "Somebody else proved the same key, or two successors of it were signed."),
    "revoked": ("bad", "Its key was revoked. Nothing of it is mirrored any more."),
    "discovered": ("", "Heard of from other nodes; nobody registered it here."),
}
STEP_WORDS: Final = {
    "asset_info": "Asset info",
    "keys": "Key changes",
    "challenge": "Challenge and username",
    "signature": "Signature",
    "oracle": "Whether it signs for others",
    "origin": "The origin's own word",
    "record": "Record and announcement",
}
_ORACLE_WORDS: Final = {
    "none": ("good", "signs nothing but challenges"),
    "utf8": ("warn", "signs other texts for anybody"),
    "raw": ("bad", "signs any bytes for anybody"),
    None: ("", "not looked at yet"),
}


class SourcesPageQuery(Query):
    """Which sources are listed."""

    status: Annotated[Literal[STATUSES] | None, BeforeValidator(lambda given: given or None)] = None  # type: ignore[valid-type]
    q: str | None = Field(None, max_length=QUERY_CHARACTERS_MAX)
    offset: QueryInteger = Field(0, ge=0, le=OFFSET_MAX)


class SourcePageQuery(Query):
    """Where the list of its plugins goes on."""

    cursor: str | None = Field(None, max_length=cursors.CURSOR_CHARACTERS_MAX)


@dataclass(frozen=True, slots=True)
class Line:
    """A source in the list."""

    source: Source
    summary: SourceSummary
    health: str


@dataclass(frozen=True, slots=True)
class ShownStep:
    """A step of a verification; `state` also says that one is still to come (`waiting`), or was not taken (`left`)."""

    name: str
    title: str
    state: str
    says: str
    took: str


@pages.get("/sources", "sources.html", title="Sources", menu="main", query=SourcesPageQuery, twin="/federation/sources")
async def show_sources(services: Services, visitor: Visitor, query: SourcesPageQuery) -> dict[str, Any]:
    now = int(services.now())

    def read(db: sqlite_utils.Database) -> dict[str, Any]:
        found = registry.list_sources(
            db, status=query.status, q=query.q or None, limit=PAGE_ROWS + 1, offset=query.offset
        )
        summaries = [(source, registry.summary_of(db, source.id, now)) for source in found[:PAGE_ROWS]]
        return {
            "lines": [Line(source, summary, health_word(summary.healthy)) for source, summary in summaries],
            "more": len(found) > PAGE_ROWS,
            "counts": source_history.counts_by_status(db),
        }

    known = await services.database.read(read)
    known["total"] = sum(count for status, count in known["counts"].items() if status != "discovered")
    return known | {
        "query": query,
        "rows": PAGE_ROWS,
        "statuses": STATUSES,
        "status_words": STATUS_WORDS,
        "duration": duration,
    }


@pages.get(
    "/sources/<source_id>", "source.html", query=SourcePageQuery, twin="/federation/source-status?source_id={source_id}"
)
async def show_source(services: Services, visitor: Visitor, source_id: str, query: SourcePageQuery) -> dict[str, Any]:
    now = int(services.now())

    def read(db: sqlite_utils.Database) -> dict[str, Any]:
        source = registry.get_source(db, source_id)
        if source is None:
            if catalogue.search_plugins(db, catalogue.PluginQuery(source=source_id, limit=1), now=now)[1]:
                raise Elsewhere(f"/plugins?source={quote(source_id)}")  # its releases are only reported by others
            raise ApiError(404, "This node does not know this source; /sources lists those that it knows.")
        return (
            _standing(services, db, source, now) | _record(db, source, now, visitor) | _offered(db, source, query, now)
        )

    known = await services.database.read(read)
    source: Source = known["source"]
    steps = services.sources.progress.verification(source_id)
    expected = steps is None and source.registered and not known["verifications"]
    busy = (steps is not None and steps.ended is None) or (expected and now - source.created_at < EXPECTED_SECONDS)
    return known | {
        "steps": shown_steps(steps, source, now),
        "busy": busy,
        "status_words": STATUS_WORDS,
        "duration": duration,
        "statuses": STATUSES,
    }


def _standing(services: Services, db: sqlite_utils.Database, source: Source, now: int) -> dict[str, Any]:
    summary = registry.summary_of(db, source.id, now)
    failures = registry.failures(db, source.id)[:FAILURES_SHOWN]
    return {
        "source": source,
        "summary": summary,
        "health_state": health_word(summary.healthy),
        "trust": trust_bar(source.trust_score, source.trust_explained),
        "health": health_chart(db, source.id, now),
        "failures": failures,
        "next_sync": next_sync(
            services, source, summary.subscriber_count, failures[0].next_retry if failures else None
        ),
        "skipped": skipped_of(db, source.id)[:SKIPPED_SHOWN],
    }


def _record(db: sqlite_utils.Database, source: Source, now: int, visitor: Visitor) -> dict[str, Any]:
    return {
        "verifications": registry.verifications(db, source.id, limit=VERIFICATIONS_SHOWN),
        "did": did_key(parse_public_key(source.public_key)),
        "oracle": _ORACLE_WORDS[source.oracle_in_force],
        "keys": source_history.key_records(db, source.id),
        "key_changes": source_history.key_changes(db, source.id),
        # Which keys there are is nobody's business who has none.
        "followers": source_history.followers(db, source.id) if visitor.may("read") else (),
        "mirrors": source_history.mirrors(db, source.id, now),
        "subscribed": visitor.key is not None
        and bool(registry.subscriptions(db, source_id=source.id, subscriber=visitor.key.id)),
    }


def _offered(db: sqlite_utils.Database, source: Source, query: SourcePageQuery, now: int) -> dict[str, Any]:
    wanted = catalogue.PluginQuery(source=source.id, sort="updated", limit=RELEASES_SHOWN, cursor=query.cursor)
    try:
        plugins, total, following = catalogue.search_plugins(db, wanted, now=now)
    except catalogue.CatalogueError as error:
        raise ApiError(400, f"{str(error)[0].upper()}{str(error)[1:]}.") from error
    return {
        "plugins": plugins,
        "plugin_total": total,
        "following": following,
        "holdings": source_history.holdings_of(db, source.id),
    }


def shown_steps(steps: Steps | None, source: Source, now: float) -> list[ShownStep]:
    """The steps of a verification that were taken, are under way and are to come; empty if there was none."""
    if steps is None:
        return []
    taken = {step.name: step for step in steps.steps}
    return [_shown(name, taken.get(name), steps, source, now) for name in STEPS]


def _shown(name: str, step: Step | None, steps: Steps, source: Source, now: float) -> ShownStep:
    title = STEP_WORDS[name]
    if step is not None:
        until = step.ended if step.ended is not None else now
        return ShownStep(name, title, step.state, step.says, duration(max(0.0, until - step.began)))
    if name == "oracle" and source.oracle is not None and "signature" in {one.name for one in steps.steps}:
        return ShownStep(name, title, "left", f"asked before: it {_ORACLE_WORDS[source.oracle][1]}", "")
    return ShownStep(name, title, "waiting" if steps.ended is None else "left", "", "")
