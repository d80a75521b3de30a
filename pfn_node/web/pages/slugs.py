"""/admin/slugs: plugins of one name from several sources, and which of them a bare name means."""

from typing import Any

import sqlite_utils
from pydantic import Field

from pfn_node.store import catalogue, overview, wordpress
from pfn_node.web.federation_plugins import set_slug
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.schemas import PAGE_DEFAULT, Query, SetSlug, Slug
from pfn_node.web.services import Services

pages = Pages()

CANDIDATES_SHOWN_MAX = 10
OWNERS_SHOWN_MAX = 500


class SlugsPageQuery(Query):
    after: Slug | None = Field(None, description="The last slug of the page before.")


@pages.get(
    "/admin/slugs",
    "slugs.html",
    title="Slugs",
    menu="admin",
    scope="sources",
    query=SlugsPageQuery,
    twin="/federation/slugs",
)
async def show_slugs(services: Services, visitor: Visitor, query: SlugsPageQuery) -> dict[str, Any]:
    def read(db: sqlite_utils.Database) -> dict[str, Any]:
        shared = overview.shared_slugs(db, PAGE_DEFAULT + 1, query.after or "")
        return {
            "shared": [
                {
                    "slug": slug,
                    "owner": catalogue.slug_owner(db, slug),
                    "candidates": wordpress.plugins_with_slug(db, slug, CANDIDATES_SHOWN_MAX),
                }
                for slug in shared[:PAGE_DEFAULT]
            ],
            "more": shared[PAGE_DEFAULT - 1] if len(shared) > PAGE_DEFAULT else None,
            "owners": list(catalogue.slug_owners(db).items())[:OWNERS_SHOWN_MAX],
        }

    return await services.database.read(read)


@pages.form("/admin/slugs", page=show_slugs, body=SetSlug, scope="sources")
async def choose_owner(services: Services, visitor: Visitor, body: SetSlug) -> str:
    """Say which source a bare slug means."""
    assert visitor.key is not None
    row = await set_slug(services, key=visitor.key, body=body)
    return f"{row.slug} means the plugin of {row.source_id} now."
