"""/: what this node is, whether it is well, what its peers do, and what is new."""

import shutil
from typing import Any

import sqlite_utils

from pfn_node.store import catalogue, showcase
from pfn_node.store.showcase import DAY_SECONDS
from pfn_node.web.federation_peers import node_view
from pfn_node.web.node_health import damage_of, node_problems
from pfn_node.web.pages.mesh import small_map
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.release_answers import PluginRow
from pfn_node.web.services import Services

pages = Pages()

RELEASES_SHOWN = 8
SOURCES_SHOWN = 6


@pages.get("/", "home.html", title="Home", twin="/federation/health")
async def show_home(services: Services, visitor: Visitor) -> dict[str, Any]:
    now = int(services.now())

    def read(db: sqlite_utils.Database) -> dict[str, Any]:
        newest, _, _ = catalogue.search_plugins(db, catalogue.PluginQuery(limit=RELEASES_SHOWN), now=now)
        return {
            "releases": [PluginRow.of(plugin) for plugin in newest],
            "trusted": showcase.most_trusted(db, SOURCES_SHOWN),
            "disk_free": shutil.disk_usage(services.settings.data).free,
        }

    # Its history ends with today.
    counted = await services.figure(f"of day {now // DAY_SECONDS}", lambda db: showcase.figures(db, now))
    known = await services.database.read(read) | {"figures": counted}
    peers = [peer for peer in services.mesh.peers() if not peer.blocked]
    figures, free = known["figures"], known["disk_free"]
    mesh = services.mesh.status()
    problems = node_problems(mesh, peers, figures.sources, free, damage_of(services))
    return known | {
        "node": node_view(services),
        "peers": peers,
        "mesh": mesh,
        "problems": problems,
        "small_map": await small_map(services),
    }
