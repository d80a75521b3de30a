"""/admin/health: how the publishers answer, and how this node itself is."""

from typing import Any

import sqlite_utils
from pydantic import Field

from pfn_node.store import overview
from pfn_node.web.federation_peers import show_health
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.schemas import OFFSET_MAX, PAGE_DEFAULT, Query, QueryInteger
from pfn_node.web.services import Services

pages = Pages()

# Below this share of free disk somebody should look.
FREE_SHARE_LOW = 0.1


class HealthQuery(Query):
    offset: QueryInteger = Field(0, ge=0, le=OFFSET_MAX)


@pages.get(
    "/admin/health",
    "health.html",
    title="Health",
    menu="admin",
    scope="read",
    query=HealthQuery,
    twin="/federation/health",
)
async def show_node_health(services: Services, visitor: Visitor, query: HealthQuery) -> dict[str, Any]:
    def read(db: sqlite_utils.Database) -> dict[str, Any]:
        found = overview.publishers_health(db, PAGE_DEFAULT + 1, query.offset)
        return {
            "publishers": found[:PAGE_DEFAULT],
            "more": len(found) > PAGE_DEFAULT,
            "answers": overview.health_counts(db),
        }

    known = await services.database.read(read)
    health = await show_health(services)
    low = health.disk.free_bytes < FREE_SHARE_LOW * health.disk.total_bytes
    peers = services.mesh.peers()
    return known | {
        "health": health,
        "disk_low": low,
        "linked": sum(1 for peer in peers if peer.links),
        "streams": services.streams.borrowed_tokens,
        "offset": query.offset,
        "page": PAGE_DEFAULT,
    }
