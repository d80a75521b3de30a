"""Full-text search over very many versions, each of a plugin of its own: the most rows that so many versions can make.

Asked as the API asks, on one connection in one thread: rare, frequent and common words, and beginnings of three
letters, which common words begin with too. Beside the time on the clock stands that of the processor: the first is as
good as the machine is idle.
"""

import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import quantiles

from pfn_node.store import catalogue, facts
from pfn_node.store.database import Database

VERSIONS = 1_000_000
QUERIES = 60  # of each kind
BAR_MS = 30.0
_AT_ONCE = 20_000
# How often a word of each kind stands in a text.
_COMMON = ("calendar", "gallery", "security", "payment")  # in every second
_MID = tuple(f"mid{letter}{number}ular" for letter in "abcdefgh" for number in range(10))  # in one of a hundred
_SQL = {
    "plugins": """
        INSERT INTO plugins (id, source_id, plugin_id, version, versions, type, name_key, assurance_rank, updated_at,
                             composer_name)
        VALUES (?, ?, ?, '1.0.0', 1, 'plugin', ?, 1, ?, ?)
    """,
    "releases": """
        INSERT INTO releases (source_id, plugin_id, version, type, name, description, tags, sha256, size, assurance,
                              backed, mirrored, conflict, disputed_by, reported_by, icons, observed_at)
        VALUES (?, ?, '1.0.0', 'plugin', ?, ?, '[]', ?, 100000, 'A0', 1, 0, 0, '[]', '[]', '{}', ?)
    """,
    "texts": """
        INSERT INTO plugin_texts (rowid, name, description, tags, plugin_id, username) VALUES (?, ?, ?, '', ?, ?)
    """,
}


def run(versions: int = VERSIONS) -> dict[str, float | int | str]:
    """Measure; milliseconds."""
    with tempfile.TemporaryDirectory(prefix="pfn-bench-") as folder:
        path = Path(folder) / "node.db"
        fill(path, versions)
        return measure(path, versions)


def fill(path: Path, versions: int) -> None:
    """The tables that a search reads, as the store would leave them."""
    database = Database.open(path, inline=True)
    facts.set_identity(database._writer, bytes(32), 1)
    connection = database._writer.conn
    rng = random.Random(1)
    for start in range(0, versions, _AT_ONCE):
        rows = [_row(number, rng) for number in range(start, min(start + _AT_ONCE, versions))]
        connection.execute("BEGIN")
        for statement, place in zip(_SQL.values(), range(3), strict=True):
            connection.executemany(statement, (row[place] for row in rows))
        connection.execute("COMMIT")
    database.close()


def _row(number: int, rng: random.Random) -> tuple[tuple[object, ...], tuple[object, ...], tuple[object, ...]]:
    source, author = f"author-{number % 1000}@plugins.example", f"author-{number % 1000}"
    slug = f"plugin-{number}"
    words = [word for word in _COMMON if rng.random() < 0.5] + ([rng.choice(_MID)] if rng.random() < 0.8 else [])
    name, text = f"Plugin {number}", f"Keeps {' '.join(words)} in step for rare{number // 20}word"
    return (
        (number + 1, source, slug, name.casefold(), number, f"{author}/{slug}"),
        (source, slug, name, text, number.to_bytes(32, "big"), number),
        (number + 1, name, text, slug, author),
    )


def measure(path: Path, versions: int) -> dict[str, float | int | str]:
    """Ask each kind of question, taking turns."""
    rng = random.Random(2)
    kinds: dict[str, Callable[[], str]] = {
        "rare": lambda: f"rare{rng.randrange(versions // 20)}word",
        "mid": lambda: rng.choice(_MID),
        "common": lambda: rng.choice(_COMMON),
        "prefix": lambda: rng.choice(("cal", "gal", "sec", "pay", "mid", "rar", "plu", "aut")),
        "two_words": lambda: f"{rng.choice(_COMMON)} {rng.choice(_MID)}",
    }
    database = Database.open(path, inline=True)
    wall: dict[str, list[float]] = {kind: [] for kind in kinds}
    processor: dict[str, list[float]] = {kind: [] for kind in kinds}
    totals: dict[str, int] = {}
    for _ in range(QUERIES):
        for kind, words in kinds.items():
            query = catalogue.PluginQuery(q=words(), limit=20)
            started, used = time.perf_counter(), time.thread_time()
            found, totals[kind], _following = database.read_now(partial(catalogue.search_plugins, query=query))
            wall[kind].append(1000 * (time.perf_counter() - started))
            processor[kind].append(1000 * (time.thread_time() - used))
            assert found, query
    database.close()
    figures: dict[str, float | int | str] = {"versions": versions, "bar_p95_ms": BAR_MS}
    for kind in kinds:
        figures[f"{kind}_p95_ms"] = round(quantiles(wall[kind], n=20)[18], 1)
        figures[f"{kind}_processor_p95_ms"] = round(quantiles(processor[kind], n=20)[18], 1)
        figures[f"{kind}_total"] = totals[kind]
    return figures
