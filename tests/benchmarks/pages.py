"""How long the node works on its pages with 60,000 plugins and 1,000 sources; how much a browser loads for the first.

Everything but the network: the app answers a client in the same process, one request after the other, each read in a
worker thread as it is when the node runs. Set PFN_PLUGIN_FACTS to a file of facts of real plugins
(tests/benchmarks/catalogue_facts.py says which); else they are made up. Beside the time on the clock stands that of
the processor, which says what it would be on a machine that does nothing else.
"""

import math
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import sqlite_utils
import trio

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.settings import Settings
from pfn_node.store import facts as node_facts
from pfn_node.store.database import Database
from pfn_node.web.app import create_app
from tests.benchmarks import catalogue_facts
from tests.benchmarks.lone_services import lone_services
from tests.node.web_node import NODE

GOAL_MS = 150
GOAL_BYTES = 120_000
HOME_REQUESTS = 40
DEEP_PAGES = 10

# Common words, rare ones, several, beginnings, an author, other scripts, and what nobody has.
SEARCHES = (
    *("wordpress", "the", "woocommerce", "post", "for", "plugin", "wp", "simple", "a", "widget", "w", "co"),
    *("contact form", "seo", "image gallery", "security", "backup", "login redirect", "custom post type", "cache"),
    *("woocommerce payment gateway", "google analytics", "social share buttons", "email", "menu", "slider", "the for"),
    *("author-7", "author-500", "elementor addons", "gutenberg blocks", "popup", "cookie consent", "event calendar"),
    *("multilingual", "shortcode", "acf", "csv import", "chat", "bbpress", "buddypress members", "rest api", "数据"),
    *("перевод", "zzzqqqxxx", "xyzzy plugh", "2fa", "pdf", "jquery", "author-42 seo"),
)
FILTERS: tuple[dict[str, str], ...] = (
    {"tag": "seo"},
    {"tag": "woocommerce"},
    {"tag": "widget"},
    {"type": "theme"},
    {"type": "plugin"},
    {"min_assurance": "A1"},
    {"min_assurance": "A3"},
    {"min_assurance": "A4"},
    {"source": catalogue_facts.source_id(0)},
    {"source": catalogue_facts.source_id(700)},
    {"tag": "woocommerce", "min_assurance": "A3"},
    {"tag": "widget", "sort": "name"},
    {"sort": "name"},
    {"type": "theme", "min_assurance": "A2", "sort": "name"},
    {"q": "form", "tag": "woocommerce"},
    {"q": "the", "min_assurance": "A3", "type": "plugin"},
)


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds."""

    clock: float
    processor: float


def run() -> dict[str, float | int | str]:
    """Measure; times are milliseconds of the server's."""
    return trio.run(_measure)


async def _measure() -> dict[str, float | int | str]:
    now = int(time.time())
    with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
        async with loaded_node(Path(folder), now) as (client, _):
            await _ask(client, "/")  # templates are compiled, caches are filled
            home = [await _ask(client, "/") for _ in range(HOME_REQUESTS)]
            searches = {q: await _ask(client, f"/plugins?{urlencode({'q': q})}") for q in SEARCHES}
            filters = {str(given): await _ask(client, f"/plugins?{urlencode(given)}") for given in FILTERS}
            deep = [
                took
                for start in ("/plugins?", "/plugins?q=wordpress", "/plugins?sort=name")
                for took in await _deep(client, start)
            ]
            plugins = [await _ask(client, path) for path in await _plugin_paths(client)]
            weight = await _weight(client)
    every_search = [*searches.values(), *filters.values(), *deep]
    slowest = max([*searches, *filters], key=lambda name: (searches | filters)[name].processor)
    return {
        "plugins": catalogue_facts.PLUGINS,
        "sources": catalogue_facts.SOURCES,
        **_figures("home", home),
        **_figures("search", every_search),
        **_figures("words", list(searches.values())),
        **_figures("filters", list(filters.values())),
        **_figures("deep_pages", deep),
        **_figures("plugin", plugins),
        "slowest": slowest,
        "slowest_processor_ms": ms((searches | filters)[slowest].processor),
        "goal_p95_ms": GOAL_MS,
        "home_bytes": weight,
        "goal_bytes": GOAL_BYTES,
    }


def _figures(name: str, took: list[Took]) -> dict[str, float | int | str]:
    clock, processor = [each.clock for each in took], [each.processor for each in took]
    return {
        f"{name}_pages": len(took),
        f"{name}_p95_ms": ms(p95(clock)),
        f"{name}_processor_p95_ms": ms(p95(processor)),
    }


@asynccontextmanager
async def loaded_node(
    folder: Path, now: int, prepare: Callable[[sqlite_utils.Database], None] = lambda db: None
) -> AsyncIterator[tuple[Any, Database]]:
    """A client of a node with the catalogue of a large mesh, and the node's database; `prepare` adds to it."""
    database = Database.open(folder / "node.db")
    artifacts = Artifacts(folder / "artifacts", 0)
    artifacts.start()
    settings = Settings(data=folder, url="https://node.test")
    async with trio.open_nursery() as nursery:
        await nursery.start(database.run_writer)
        await database.write(lambda db: node_facts.set_identity(db, NODE.public, 1))
        await database.write(lambda db: catalogue_facts.load(db, now))
        await database.write(prepare)
        services = lone_services(settings, database, artifacts)
        yield create_app(services).test_client(use_cookies=False), database
        database.close()


async def _ask(client: Any, path: str) -> Took:
    """What one page takes."""
    started = Took(time.perf_counter(), time.process_time())
    response = await client.get(path, headers={"Accept": "text/html"})
    await response.get_data(as_text=False)
    took = Took(time.perf_counter() - started.clock, time.process_time() - started.processor)
    assert response.status_code == 200, (path, response.status_code)
    return took


async def _deep(client: Any, path: str) -> list[Took]:
    """What each of the pages that follow one takes."""
    took = []
    for _ in range(DEEP_PAGES):
        response = await client.get(path, headers={"Accept": "text/html"})
        found = re.search(r'rel="next" href="([^"]+)"', await response.get_data(as_text=True))
        assert found is not None, path
        path = found[1].replace("&amp;", "&")
        took.append(await _ask(client, path))
    return took


async def _plugin_paths(client: Any) -> list[str]:
    """Where the plugins of the first page of a list are."""
    response = await client.get("/plugins", headers={"Accept": "text/html"})
    return re.findall(r'class="row-name" href="([^"]+)"', await response.get_data(as_text=True))


async def _weight(client: Any) -> int:
    """Bytes of the home page with its style sheets and scripts, icons left out, as they are sent."""
    response = await client.get("/", headers={"Accept": "text/html"})
    page = await response.get_data(as_text=True)
    weight = len(page.encode())
    loaded = set(re.findall(r'(?:href|src)="(/static/[^"]+\.(?:css|js))"', page))
    for path in loaded:
        weight += len(await (await client.get(path)).get_data(as_text=False))
    return weight


def p95(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
