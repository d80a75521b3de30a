"""/plugins: what can be had, found by words, tags, sources and levels; and one plugin, with why to trust it."""

from typing import Any
from urllib.parse import urlencode

import sqlite_utils
from pydantic import Field
from quart import request

from pfn_node.store import catalogue, registry, wordpress
from pfn_node.store.facets import facets_of
from pfn_node.store.key_changes import former_keys
from pfn_node.store.rows import Release
from pfn_node.store.safety import said
from pfn_node.web import federation_plugins
from pfn_node.web.evidence import check_signatures, text_lookup
from pfn_node.web.federation_notices import notice_view
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.release_answers import PluginRow, SignatureView
from pfn_node.web.schemas import PAGE_MAX, PluginsQuery, QueryInteger
from pfn_node.web.services import Services
from pfn_protocol.announcements import EvidenceForm
from pfn_protocol.identity import did_key

pages = Pages()

ROWS_DEFAULT = 25
NOTICES_LOOKED_AT = 50
CLAIMS_SHOWN = 10
OTHERS_SHOWN = 10
WORDS_SIGNED = (EvidenceForm.METADATA, EvidenceForm.PLUGIN_DATA)
_FILTERS = ("q", "tag", "source", "type", "min_assurance", "sort")


class ListQuery(PluginsQuery):
    """As the API is asked, but for pages of a length that people read."""

    limit: QueryInteger = Field(ROWS_DEFAULT, ge=1, le=PAGE_MAX)


class Narrowing:
    """Links to the same list, narrowed or sorted otherwise: each begins at the first page."""

    def __init__(self, query: PluginsQuery) -> None:
        self._given: dict[str, str | None] = {name: getattr(query, name) for name in _FILTERS}
        self._given["limit"] = None if query.limit == ROWS_DEFAULT else str(query.limit)

    def link(self, **changed: str | None) -> str:
        """The path with some filters changed; None takes one away."""
        kept = {name: given for name, given in (self._given | changed).items() if given is not None}
        return f"/plugins?{urlencode(kept)}" if kept else "/plugins"

    def page(self, cursor: str) -> str:
        """The path of the page that a cursor leads to."""
        return self.link(cursor=cursor)

    @property
    def chosen(self) -> dict[str, str]:
        """What narrows the list now, besides the words."""
        chosen = {name: self._given[name] for name in ("tag", "source", "type", "min_assurance")}
        return {name: given for name, given in chosen.items() if given is not None}


@pages.get("/plugins", "plugins.html", title="Plugins", menu="main", query=ListQuery, twin="/federation/plugins")
async def list_plugins(services: Services, visitor: Visitor, query: ListQuery) -> dict[str, Any]:
    found = await federation_plugins.find_plugins(services, query)
    asked = federation_plugins.asked(query)
    facets = await services.database.read(lambda db: facets_of(db, asked, found.total))
    return {
        "query": query,
        "rows": found.plugins,
        "total": found.total,
        "matches_max": catalogue.SEARCH_MATCHES_MAX,
        "narrowing": Narrowing(query),
        "next_page": found.next,
        "facets": facets,
        "sort": query.sort or ("relevance" if query.q else "updated"),
    }


@pages.get(
    "/plugins/<source_id>/<plugin_id>",
    "plugin.html",
    title="Plugin",
    twin="/federation/plugins/<source_id>/<plugin_id>",
)
async def show_plugin(services: Services, visitor: Visitor, source_id: str, plugin_id: str) -> dict[str, Any]:
    plugin = await federation_plugins.show_plugin(services, source_id, plugin_id)
    texts = text_lookup(services.artifacts)

    def read(db: sqlite_utils.Database) -> dict[str, Any]:
        release = catalogue.get_release(db, source_id, plugin_id, plugin.version)
        source = registry.get_source(db, source_id)
        signatures: list[SignatureView] = []
        if release is not None and source is not None:
            seen = catalogue.observations_of(db, source_id, plugin_id, release.version)
            same = [each for each in seen if each.sha256 == release.sha256]
            signatures = check_signatures(same, source, texts, None, former_keys(db, source_id))
        notices = said(db, source_id, plugin_id, services.node_id, NOTICES_LOOKED_AT)
        idle = [notice for notice in notices if not notice["acts"] and not notice["withdrawn"]]
        return {
            "source": source,
            "signatures": signatures,
            "signed_bytes": any(each.valid and each.covers_bytes for each in signatures),
            "signed_words": any(each.valid and each.form in WORDS_SIGNED for each in signatures),
            "claims": [notice_view(notice) for notice in idle[:CLAIMS_SHOWN]],
            "others": _others(db, source_id, plugin_id),
            "slug_owner": catalogue.slug_owner(db, plugin_id),
        }

    known = await services.database.read(read)
    listed = next((version for version in plugin.releases if version.version == plugin.version), None)
    return known | {
        "plugin": plugin,
        "listed": listed,
        "observed": [seen for seen in listed.observations if seen.sha256 == plugin.sha256] if listed else [],
        "own_id": did_key(services.node_id),
        "base": services.url or request.host_url.rstrip("/"),
        "is_served": is_served(plugin),
    }


def is_served(plugin: PluginRow) -> bool:
    """Whether the newest version is given to whoever asks for none in particular."""
    refused = plugin.taken_down is not None or plugin.revoked_key or plugin.yanked is not None
    return plugin.backed and plugin.held_back is None and not refused


def _others(db: sqlite_utils.Database, source_id: str, plugin_id: str) -> list[Release]:
    """What other sources list under the same slug: WordPress knows plugins by it alone."""
    found = wordpress.plugins_with_slug(db, plugin_id, OTHERS_SHOWN + 1)
    return [release for release in found if release.source_id != source_id][:OTHERS_SHOWN]
