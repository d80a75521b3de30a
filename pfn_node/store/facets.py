"""By what a list of plugins can be narrowed further: the tags, sources, types and levels that occur in it most.

They are counted among the newest matches, as a search looks only at those. Where there are more matches than that, what
is frequent among the newest is offered, without a number: it would not be that of the whole list.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import sqlite_utils

from pfn_node.store.catalogue import SEARCH_MATCHES_MAX, PluginQuery, selection
from pfn_node.store.listing import ASSURANCE_RANKS
from pfn_node.store.queries import select

# Of each kind; more is a list to read, not a choice to make.
FACET_VALUES_MAX: Final = 10
FACETS: Final = ("tag", "source", "type", "assurance")
_LEVELS: Final = {rank: level for level, rank in ASSURANCE_RANKS.items()}


@dataclass(frozen=True, slots=True)
class FacetValue:
    value: str
    plugins: int | None  # that it would leave; None: not counted


def facets_of(db: sqlite_utils.Database, query: PluginQuery, total: int) -> Mapping[str, list[FacetValue]]:
    """Return what narrows a query further, most frequent first, under the names in `FACETS`; levels best first.

    `total`: how many rows the query has. Raise `CatalogueError` as `search_plugins` does.
    """
    found: dict[str, list[FacetValue]] = {facet: [] for facet in FACETS}
    newest = selection(query, newest=True)
    if newest is None:
        return found
    ids, parameters = newest
    is_whole = total <= SEARCH_MATCHES_MAX
    reached = 0
    for row in select(db, " ".join((_CHOSEN, ids, _COUNT)), parameters):
        facet, content, plugins = row["facet"], row["value"], row["plugins"]
        if facet == "assurance":  # a filter by a level keeps those above it as well
            content, reached = _LEVELS[int(content)], reached + plugins
            plugins = reached
        if len(found[facet]) < FACET_VALUES_MAX:
            found[facet].append(FacetValue(content, plugins if is_whole else None))
    return found


_CHOSEN: Final = "WITH chosen AS MATERIALIZED (SELECT p.id, p.source_id, p.type, p.assurance_rank FROM ("
_COUNT: Final = """
    ) AS ids JOIN plugins AS p ON p.id = ids.id)
    SELECT 'tag' AS facet, t.tag AS value, count(*) AS plugins, count(*) AS place
    FROM chosen JOIN plugin_tags AS t ON t.plugin = chosen.id GROUP BY t.tag
    UNION ALL SELECT 'source', source_id, count(*), count(*) FROM chosen GROUP BY source_id
    UNION ALL SELECT 'type', type, count(*), count(*) FROM chosen GROUP BY type
    UNION ALL SELECT 'assurance', CAST(assurance_rank AS TEXT), count(*), assurance_rank
    FROM chosen GROUP BY assurance_rank
    ORDER BY place DESC, value
"""
