"""/admin/versions: what was updated when, and which releases wait for what."""

from typing import Any
from urllib.parse import urlencode

import sqlite_utils
from pydantic import Field

from pfn_node.store import catalogue, overview
from pfn_node.web.federation_notices import approve_release
from pfn_node.web.notice_answers import Said
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.schemas import PAGE_DEFAULT, SECONDS_MAX, ApproveRelease, Query, QueryInteger
from pfn_node.web.services import Services
from pfn_protocol.identity import did_key
from pfn_protocol.limits import source_id_chars_max

pages = Pages()

WAITING_SHOWN_MAX = 25


class VersionsQuery(Query):
    source: str | None = Field(None, max_length=source_id_chars_max, description="Only of this source.")
    before: QueryInteger | None = Field(None, ge=1, le=SECONDS_MAX)


@pages.get("/admin/versions", "versions.html", title="Versions", menu="admin", scope="read", query=VersionsQuery)
async def show_versions(services: Services, visitor: Visitor, query: VersionsQuery) -> dict[str, Any]:
    def read(db: sqlite_utils.Database) -> dict[str, Any]:
        found = overview.updates(db, query.source or None, query.before, PAGE_DEFAULT + 1)
        return {
            "updates": found[:PAGE_DEFAULT],
            "more": len(found) > PAGE_DEFAULT,
            "waiting": overview.waiting(db, WAITING_SHOWN_MAX) if query.before is None else None,
            "counts": catalogue.counts(db) if query.before is None else {},
        }

    known = await services.database.read(read)
    return known | {"query": query, "older": _older(query, known), "did_key": did_key, "shown_max": WAITING_SHOWN_MAX}


def _older(query: VersionsQuery, known: dict[str, Any]) -> str | None:
    if not known["more"]:
        return None
    asked = {"source": query.source, "before": known["updates"][-1].id}
    return f"?{urlencode({name: value for name, value in asked.items() if value})}"


@pages.form("/admin/versions/approve", page=show_versions, body=ApproveRelease, scope="advisories")
async def approve(services: Services, visitor: Visitor, body: ApproveRelease) -> Said:
    """Let a release that waits be given out now: these very bytes."""
    assert visitor.key is not None
    return await approve_release(services, key=visitor.key, body=body)
