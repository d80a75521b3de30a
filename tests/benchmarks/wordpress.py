"""How long the node works on what WordPress and Composer ask, with 60,000 plugins and 1,000 sources.

Measured as the pages are (pages.py): everything but the network, one request after the other, the time on the clock and
that of the processor. Set PFN_PLUGIN_FACTS to a file of facts of real plugins; else they are made up.
"""

import json
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import sqlite_utils
import trio

from pfn_node.store import catalogue
from pfn_node.store.queries import change, select, to_json
from tests.benchmarks import catalogue_facts
from tests.benchmarks.pages import SEARCHES, Took, loaded_node, ms, p95

SEARCH_GOAL_MS: Final = 60
UPDATE_GOAL_MS: Final = 30
COMPOSER_GOAL_MS: Final = 15
SITE_PLUGINS: Final = 50
SITES: Final = 60
PACKAGES: Final = 100
INFORMATION: Final = 60
INFO: Final = "/plugins/info/1.2/"
# What WordPress shows before anybody types, and the tags that it offers there.
LISTS: Final = (
    *({"browse": browse} for browse in ("featured", "popular", "recommended", "new")),
    *({"tag": tag} for tag in ("seo", "woocommerce", "widget", "gallery", "cache")),
    *({"author": author} for author in ("author-0", "author-700", "nobody")),
    {},
    {"page": "30"},
)
HEADERS: Final = to_json(
    {
        "Plugin Name": "A plugin",
        "Version": "1.0",
        "Requires at least": "5.8",
        "Requires PHP": "7.4",
        "Author": "Somebody",
    }
)


def run() -> dict[str, float | int | str]:
    """Measure; times are milliseconds of the server's."""
    return trio.run(_measure)


async def _measure() -> dict[str, float | int | str]:
    with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
        async with loaded_node(Path(folder), int(time.time()), _prepare) as (client, database):
            listed = await database.read(_listed)
            await _ask(client, "GET", f"{INFO}?{_question(search='warm')}")  # caches are filled
            searches = {q: await _ask(client, "GET", f"{INFO}?{_question(search=q)}") for q in SEARCHES}
            lists = [await _ask(client, "GET", f"{INFO}?{_question(**asked)}") for asked in LISTS]
            tags = [await _ask(client, "GET", f"{INFO}?action=hot_tags") for _ in range(3)]
            one = [
                await _ask(client, "GET", f"{INFO}?action=plugin_information&request%5Bslug%5D={row['plugin_id']}")
                for row in listed[:INFORMATION]
            ]
            updates = [
                await _ask(client, "POST", "/plugins/update-check/1.1/", site_form(listed, site))
                for site in range(SITES)
            ]
            packages = [
                await _ask(client, "GET", f"/composer/p2/{row['composer_name']}.json") for row in listed[-PACKAGES:]
            ]
    slowest = max(searches, key=lambda q: searches[q].processor)
    return {
        "plugins": catalogue_facts.PLUGINS,
        "sources": catalogue_facts.SOURCES,
        **_figures("search", list(searches.values()), SEARCH_GOAL_MS),
        "search_slowest": slowest,
        "search_slowest_processor_ms": ms(searches[slowest].processor),
        **_figures("lists", lists, SEARCH_GOAL_MS),
        **_figures("hot_tags", tags, SEARCH_GOAL_MS),
        **_figures("information", one, SEARCH_GOAL_MS),
        **_figures("update_check", updates, UPDATE_GOAL_MS),
        **_figures("composer_p2", packages, COMPOSER_GOAL_MS),
    }


def _figures(name: str, took: list[Took], goal: int) -> dict[str, float | int | str]:
    return {
        f"{name}_requests": len(took),
        f"{name}_p95_ms": ms(p95([each.clock for each in took])),
        f"{name}_processor_p95_ms": ms(p95([each.processor for each in took])),
        f"{name}_goal_p95_ms": goal,
    }


def _prepare(db: sqlite_utils.Database) -> None:
    """Every zip was read, as it is when it is mirrored; some were had more often than others, some slugs are owned."""
    change(
        db,
        "INSERT OR IGNORE INTO package_facts SELECT sha256, zeroblob(20), zeroblob(48), ? FROM releases",
        (HEADERS,),
    )
    change(
        db,
        """
        INSERT INTO download_counts
        SELECT source_id, plugin_id, version, size % 1000 FROM releases WHERE size % 3 = 0
        """,
    )
    for row in _listed(db)[::3]:
        catalogue.set_slug_owner(db, row["plugin_id"], row["source_id"])


def _listed(db: sqlite_utils.Database) -> list[dict[str, Any]]:
    """Plugins that may be installed, from all over the catalogue."""
    return select(
        db,
        """
        SELECT p.source_id, p.plugin_id, p.composer_name, s.instance_url FROM plugins AS p
        JOIN sources AS s ON s.id = p.source_id
        JOIN releases AS r ON r.source_id = p.source_id AND r.plugin_id = p.plugin_id AND r.version = p.version
        WHERE p.type = 'plugin' AND p.assurance_rank >= 2 AND p.id % 29 = 0 AND r.backed AND r.type = 'plugin'
        """,
    )


def site_form(listed: list[dict[str, Any]], site: int, count: int = SITE_PLUGINS) -> str:
    """The update-check of a site: a third names the instance, a third the node's page, a third nobody."""
    plugins = {}
    for number, row in enumerate(islice(cycle(listed), site * 7, site * 7 + count)):
        slug = row["plugin_id"]
        uri = (
            f"{row['instance_url']}/{slug}",
            f"https://node.test/plugins/{row['source_id']}/{slug}",
            "",
        )[(site + number) % 3]
        plugins[f"{slug}/{slug}.php"] = {
            "Name": f"The plugin {slug}",
            "PluginURI": f"https://example.org/{slug}",
            "Version": "0.0.1",
            "Description": "What it does, in a sentence or two, as the headers of plugins say it. " * 2,
            "Author": "Somebody",
            "AuthorURI": "https://example.org",
            "TextDomain": slug,
            "DomainPath": "/languages",
            "Network": False,
            "RequiresWP": "5.8",
            "RequiresPHP": "7.4",
            "UpdateURI": uri,
            "Title": f"The plugin {slug}",
            "AuthorName": "Somebody",
        }
    asked = json.dumps({"plugins": plugins, "active": list(plugins)})
    return urlencode({"plugins": asked, "translations": "{}", "locale": '["en_US"]', "all": "true"})


def _question(**request: str) -> str:
    """As WordPress asks for a list."""
    asked = {"locale": "en_US", "wp_version": "6.1", "page": "1", "per_page": "36"} | request
    return urlencode({"action": "query_plugins"} | {f"request[{name}]": text for name, text in asked.items()})


async def _ask(client: Any, method: str, path: str, form: str | None = None) -> Took:
    """What one request takes."""
    started = Took(time.perf_counter(), time.process_time())
    response = await client.open(path, method=method, data=form)
    await response.get_data(as_text=False)
    took = Took(time.perf_counter() - started.clock, time.process_time() - started.processor)
    assert response.status_code == 200, (path, response.status_code)
    return took
