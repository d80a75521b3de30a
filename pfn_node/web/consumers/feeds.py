"""/feeds/releases.*: releases that may be installed, newest first, for feed readers: all, of a source, with a tag.

Atom (RFC 4287) and JSON Feed 1.1 say the same. An entry's id follows from source, plugin and version alone, so it is
the same at every node; what was yanked or taken down since stands in no feed any more.
"""

from typing import Final
from urllib.parse import urlencode

from pydantic import Field
from quart import Response

from pfn_node.store import news
from pfn_node.web.consumers.conditional_answer import answer_unless_known
from pfn_node.web.consumers.feed_forms import Feed, atom, json_feed
from pfn_node.web.consumers.own_url import own_url
from pfn_node.web.routes import Bytes, Routes
from pfn_node.web.schemas import SOURCE_ALIASES, Query
from pfn_node.web.services import Services
from pfn_protocol.limits import slug_chars_max, source_id_chars_max

routes = Routes("feeds")

ATOM: Final = "application/atom+xml"
JSON_FEED: Final = "application/feed+json"
# Of releases; who asks less often than that many come reads /export/plugins.ndjson.
ENTRIES_MAX: Final = 50


class FeedQuery(Query):
    """Which releases; both narrow."""

    source: str | None = Field(
        None, min_length=1, max_length=source_id_chars_max, validation_alias=SOURCE_ALIASES, description="Of this one."
    )
    tag: str | None = Field(None, min_length=1, max_length=slug_chars_max)


@routes.get("/feeds/releases.atom", query=FeedQuery, answer=Bytes(ATOM, "Releases as Atom, newest first."))
async def show_atom_feed(services: Services, query: FeedQuery) -> Response:
    """Releases that may be installed, as an Atom feed."""
    feed = await _feed(services, query, "/feeds/releases.atom")
    return answer_unless_known(services, atom(feed), f"{ATOM}; charset=utf-8")


@routes.get("/feeds/releases.json", query=FeedQuery, answer=Bytes(JSON_FEED, "Releases as JSON Feed 1.1."))
async def show_json_feed(services: Services, query: FeedQuery) -> Response:
    """Releases that may be installed, as a JSON Feed."""
    feed = await _feed(services, query, "/feeds/releases.json")
    return answer_unless_known(services, json_feed(feed), JSON_FEED)


async def _feed(services: Services, query: FeedQuery, path: str) -> Feed:
    added = await services.database.read(lambda db: news.releases_added(db, query.source, query.tag, ENTRIES_MAX))
    narrowed = {name: given for name, given in (("source", query.source), ("tag", query.tag)) if given is not None}
    asked = f"?{urlencode(narrowed)}" if narrowed else ""
    return Feed(services.node_id, own_url(services), f"{path}{asked}", query.source, query.tag, added)
