"""/: what this node is, whether it is well, and what is new."""

from typing import Any

import sqlite_utils

from pfn_node.store import catalogue, registry
from pfn_node.web.federation_peers import node_view
from pfn_node.web.federation_plugins import download_path
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.services import Services

pages = Pages()

PLUGINS_SHOWN = 10
SOURCES_SHOWN = 5
PEERS_SHOWN = 50


@pages.get("/", "home.html", title="Home", twin="/federation/health")
async def show_home(services: Services, visitor: Visitor) -> dict[str, Any]:
    now = int(services.now())

    def read(db: sqlite_utils.Database) -> dict[str, Any]:
        newest, _, _ = catalogue.search_plugins(db, catalogue.PluginQuery(sort="updated", limit=PLUGINS_SHOWN), now=now)
        return {
            "counts": catalogue.counts(db),
            "plugins": [{"release": plugin.release, "download": download_path(plugin.release)} for plugin in newest],
            "sources": registry.list_sources(db, limit=SOURCES_SHOWN, offset=0),
        }

    known = await services.database.read(read)
    return known | {"node": node_view(services), "peers": list(services.mesh.peers())[:PEERS_SHOWN]}
