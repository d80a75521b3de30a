"""By what a list of plugins can be narrowed further: the tags, sources, types and levels that occur in it most.

Of the whole catalogue they are counted as it changes (schema_catalogue.py). Of a search they are counted among its
matches, which are few. Of a filter that matches more than that, the catalogue's most frequent ones are offered,
without a number: counting them would take longer than the page may.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import sqlite_utils

from pfn_node.store.catalogue import PluginQuery, selection
from pfn_node.store.listing import ASSURANCE_RANKS
from pfn_node.store.queries import select, value

# Of each kind; more is a list to read, not a choice to make.
FACET_VALUES_MAX: Final = 12
# Matches among which it is counted; a search never has more (`SEARCH_MATCHES_MAX`).
COUNTED_MATCHES_MAX: Final = 2_000
FACETS: Final = ("tag", "source", "type", "assurance")
_LEVELS: Final = {str(rank): level for level, rank in ASSURANCE_RANKS.items()}


@dataclass(frozen=True, slots=True)
class FacetValue:
    value: str
    plugins: int | None  # None: not counted


def facets_of(db: sqlite_utils.Database, query: PluginQuery, total: int) -> Mapping[str, list[FacetValue]]:
    """Return what narrows a query further, most frequent first, under the names in `FACETS`.

    `total`: how many rows the query has. Raise `CatalogueError` as `search_plugins` does.
    """
    found = _facets_of(db, query, total)
    return found | {"assurance": _at_least(found["assurance"])}


def _facets_of(db: sqlite_utils.Database, query: PluginQuery, total: int) -> dict[str, list[FacetValue]]:
    is_whole = (query.q, query.tag, query.source, query.type, query.min_assurance) == (None,) * 5
    if not is_whole and total <= COUNTED_MATCHES_MAX:
        return _counted(db, query)
    return {facet: most_frequent(db, facet, counted=is_whole) for facet in FACETS}


def _at_least(levels: list[FacetValue]) -> list[FacetValue]:
    """Count with each level those above it, best first: that is what a filter by it keeps."""
    reached: list[FacetValue] = []
    kept = 0
    for each in sorted(levels, key=lambda one: ASSURANCE_RANKS[one.value], reverse=True):
        kept += each.plugins or 0
        reached.append(FacetValue(each.value, None if each.plugins is None else kept))
    return reached


def most_frequent(db: sqlite_utils.Database, facet: str, *, counted: bool = True) -> list[FacetValue]:
    """Return the values that most listed plugins have, with their numbers if `counted`."""
    rows = select(
        db,
        "SELECT value, plugins FROM plugin_facets WHERE facet = ? ORDER BY plugins DESC, value LIMIT ?",
        (facet, FACET_VALUES_MAX),
    )
    return [FacetValue(_shown(facet, row["value"]), row["plugins"] if counted else None) for row in rows]


def plugins_having(db: sqlite_utils.Database, facet: str, content: str) -> int:
    """Return how many listed plugins have a tag, source, type or level."""
    kept = str(ASSURANCE_RANKS[content]) if facet == "assurance" else content
    return int(value(db, "SELECT plugins FROM plugin_facets WHERE facet = ? AND value = ?", (facet, kept)) or 0)


def plugins_listed(db: sqlite_utils.Database) -> int:
    """Return how many plugins are listed."""
    return int(value(db, "SELECT sum(plugins) FROM plugin_facets WHERE facet = 'type'") or 0)


_CHOSEN: Final = "WITH chosen AS MATERIALIZED (SELECT p.id, p.source_id, p.type, p.assurance_rank FROM ("
_COUNT: Final = """
    ) AS ids JOIN plugins AS p ON p.id = ids.id)
    SELECT 'tag' AS facet, t.tag AS value, count(*) AS plugins
    FROM chosen JOIN plugin_tags AS t ON t.plugin = chosen.id GROUP BY t.tag
    UNION ALL SELECT 'source', source_id, count(*) FROM chosen GROUP BY source_id
    UNION ALL SELECT 'type', type, count(*) FROM chosen GROUP BY type
    UNION ALL SELECT 'assurance', CAST(assurance_rank AS TEXT), count(*) FROM chosen GROUP BY assurance_rank
    ORDER BY 3 DESC, 2
"""


def _counted(db: sqlite_utils.Database, query: PluginQuery) -> dict[str, list[FacetValue]]:
    found: dict[str, list[FacetValue]] = {facet: [] for facet in FACETS}
    chosen = selection(query)
    if chosen is None:
        return found
    ids, parameters = chosen
    for row in select(db, " ".join((_CHOSEN, ids, _COUNT)), parameters):
        values = found[row["facet"]]
        if len(values) < FACET_VALUES_MAX:
            values.append(FacetValue(_shown(row["facet"], row["value"]), row["plugins"]))
    return found


def _shown(facet: str, content: str) -> str:
    return _LEVELS[content] if facet == "assurance" else content
