"""What consumers ask for: conclusions only, read by primary key or index, never judged here.

A search (see `matching`) looks at the newest `SEARCH_MATCHES_MAX` matches: all those of a common word among a million
plugins would take seconds. Where something else narrows it, the newest `LOOKED_AT_MAX` that have its words (and are of
the source, and have the tag, that it names) are held against that. Pages are continued by the sort key of their last
row, never by an offset: a page costs the same wherever it is, and rows that come meanwhile shift nothing.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlite_utils

from pfn_node.store import cursors
from pfn_node.store.facts import own_id
from pfn_node.store.freshness import is_stale
from pfn_node.store.listing import ASSURANCE_RANKS
from pfn_node.store.matching import RELEVANCE, condition_of
from pfn_node.store.observations import counted_observations, observation_from
from pfn_node.store.queries import Row, change, iterate, select, select_one, value
from pfn_node.store.rows import Observation, OfSource, Page, Place, Plugin, Release
from pfn_protocol.versions import sort_key

SEARCH_MATCHES_MAX: Final = 2_000
# About ten milliseconds.
LOOKED_AT_MAX: Final = 10_000
PAGE_ROWS_MAX: Final = 250
# What narrows to so few rows is answered sooner in the event loop than a thread is asked.
SMALL_ROWS_MAX: Final = 200
SORTS: Final = ("updated", "name", "relevance")

_Found = tuple[int, str, str | float]  # id, source and sort key of a row


class CatalogueError(ValueError):
    """A question that has no answer: the sentence says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class PluginQuery:
    """Which plugins, in which order, from where on. What is None does not narrow."""

    q: str | None = None
    tag: str | None = None
    source: str | None = None
    type: str | None = None  # plugin, theme
    min_assurance: str | None = None  # reported, A0 .. A4
    sort: str | None = None  # updated, name, relevance; None: relevance where there is a q, else updated
    limit: int = 50
    cursor: str | None = None


def search_plugins(
    db: sqlite_utils.Database, query: PluginQuery, *, now: int | None = None
) -> tuple[list[Plugin], int, str | None]:
    """Return a page of plugins, how many rows all pages have, and the cursor of the next page (None: there is none).

    As `find_page` does.
    """
    page = find_page(db, query, now=now)
    plugins = plugins_at(db, page.places)
    return [plugins[place] for place in page.places], page.total, page.next


def find_page(db: sqlite_utils.Database, query: PluginQuery, *, now: int | None = None) -> Page:
    """Return which plugins are on a page.

    With a `q` at most the newest `SEARCH_MATCHES_MAX` matches count, out of the newest `LOOKED_AT_MAX`. Raise
    `CatalogueError` for an unknown sort, assurance or cursor. `now` in seconds, the clock's if left out.
    """
    sort = _sort_of(query)
    limit = max(1, min(query.limit, PAGE_ROWS_MAX))
    if query.q is None:
        found, total = _listed(db, query, sort, limit)
    else:
        found, total = _searched(db, query, sort, limit)
    at = int(time.time()) if now is None else now
    shown = found[:limit]
    sources = {source: _of_source(db, source, at) for source in {source for _, source, _ in shown}}
    following = cursors.write(sort, shown[-1][2], shown[-1][0]) if len(found) > limit else None
    return Page([Place(identity, sources[source]) for identity, source, _ in shown], total, following)


def _listed(db: sqlite_utils.Database, query: PluginQuery, sort: str, limit: int) -> tuple[list[_Found], int]:
    """What a query without words has on a page, one more where there is a next one, and how many rows there are."""
    chosen = selection(query)
    assert chosen is not None, "without words something can match"
    ids, parameters = chosen
    table = _FEW_SO_SURE if _are_few_so_sure(db, parameters["rank"]) else "FROM plugins AS p"
    page = ["SELECT p.id, p.source_id,", _SORT_COLUMNS[sort], table, "WHERE TRUE", *_conditions(query)]
    if query.cursor is not None:
        parameters["after"], parameters["after_id"] = _read_cursor(query.cursor, sort)
        page += ["AND", _CONTINUE[sort]]
    page.append(_ORDER[sort])
    found = db.execute(" ".join(page), {**parameters, "limit": limit + 1}).fetchall()
    if query.cursor is None and len(found) <= limit:
        return found, len(found)
    return found, value(db, " ".join(("SELECT count(*) FROM (", ids, ")")), parameters)


def _searched(db: sqlite_utils.Database, query: PluginQuery, sort: str, limit: int) -> tuple[list[_Found], int]:
    """The same of a query with words: what they find is a short list, and dear."""
    chosen = selection(query, ranked=sort == "relevance")
    if chosen is None:
        return [], 0  # punctuation only: no plugin has that as a word
    ids, parameters = chosen
    page = ["WITH chosen AS MATERIALIZED (", ids, ") SELECT p.id, p.source_id,", _SORT_COLUMNS[sort], _OF_CHOSEN]
    if query.cursor is not None:
        parameters["after"], parameters["after_id"] = _read_cursor(query.cursor, sort)
        page += ["WHERE", _CONTINUE[sort]]
    page.append(_ORDER[sort])
    rows = db.execute(" ".join(page), {**parameters, "limit": limit + 1}).fetchall()
    total = rows[0][3] if rows else value(db, " ".join(("SELECT count(*) FROM (", ids, ")")), parameters)
    return [row[:3] for row in rows], total


def _are_few_so_sure(db: sqlite_utils.Database, rank: int) -> bool:
    """Whether it is quicker to read all that are so sure, than to look for them among all in the order of the page."""
    if not rank:
        return False
    counting = "SELECT count(*) FROM (SELECT 1 FROM plugins WHERE assurance_rank >= ? LIMIT ?)"
    return int(value(db, counting, (rank, LOOKED_AT_MAX + 1))) <= LOOKED_AT_MAX


def plugins_at(db: sqlite_utils.Database, places: Sequence[Place]) -> dict[Place, Plugin]:
    """Return the plugins on a page, or some of them."""
    rows = {row["id"]: row for row in select(db, _SHOWN, (json.dumps([place.id for place in places]),))}
    return {place: _plugin_from(rows[place.id], place.source) for place in places}


def is_small(db: sqlite_utils.Database, query: PluginQuery) -> bool:
    """Whether a query without words looks at `SMALL_ROWS_MAX` rows at most: then answering takes about a millisecond.

    Finding that out takes some microseconds.
    """
    if query.q is not None or (query.source is None and query.tag is None):
        return False
    narrow = "SELECT count(*) FROM (SELECT 1 FROM plugins WHERE source_id = ? LIMIT ?)", query.source
    if query.source is None:
        tag = (query.tag or "").casefold()
        narrow = "SELECT count(*) FROM (SELECT 1 FROM plugin_tags WHERE tag = ? LIMIT ?)", tag
    sql, name = narrow
    return int(value(db, sql, (name, SMALL_ROWS_MAX + 1))) <= SMALL_ROWS_MAX


def selection(query: PluginQuery, *, ranked: bool = False, newest: bool = False) -> tuple[str, dict[str, Any]] | None:
    """Return the query for the ids of all rows that match, and its parameters; None: nothing can match.

    `ranked`: with their relevance, the best with the lowest. `newest`: only the newest `SEARCH_MATCHES_MAX`, as it is
    with words anyhow. The text is made of constants alone. Raise `CatalogueError` for an unknown assurance.
    """
    parameters: dict[str, Any] = {
        "source": query.source,
        "type": query.type,
        "tag": None if query.tag is None else query.tag.casefold(),
        "rank": _rank_of(query.min_assurance),
        "matches": SEARCH_MATCHES_MAX,
    }
    conditions = _conditions(query)
    if query.q is None:
        pieces = ["SELECT p.id, 0.0 AS relevance FROM plugins AS p WHERE TRUE", *conditions]
        if newest:
            pieces.append("ORDER BY p.id DESC LIMIT :matches")
        return " ".join(pieces), parameters
    search = condition_of(query.q, source=query.source, tag=query.tag)
    if search is None:
        return None
    found, words = search
    pieces = ["SELECT p.id,", RELEVANCE if ranked else "0.0", "AS relevance FROM (SELECT rowid AS id FROM plugin_texts"]
    pieces += ["WHERE", found, "ORDER BY rowid DESC LIMIT :looked_at) AS found"]
    # In the order in which they are found, and no further than until there are enough: to sort would be to read all.
    pieces += ["CROSS JOIN plugins AS p ON p.id = found.id WHERE TRUE", *conditions, "LIMIT :matches"]
    looked_at = LOOKED_AT_MAX if conditions else SEARCH_MATCHES_MAX
    return " ".join(pieces), {**parameters, **words, "looked_at": looked_at}


def get_plugin(db: sqlite_utils.Database, source_id: str, plugin_id: str, *, now: int | None = None) -> Plugin | None:
    """Return one plugin with its newest backed release (or newest reported one)."""
    row = select_one(
        db,
        """
        SELECT p.reported_version, p.versions, (
            SELECT total(count) FROM download_counts AS d
            WHERE d.source_id = p.source_id AND d.plugin_id = p.plugin_id) AS downloads, r.*
        FROM plugins AS p JOIN releases AS r
          ON r.source_id = p.source_id AND r.plugin_id = p.plugin_id AND r.version = p.version
        WHERE p.source_id = ? AND p.plugin_id = ?
        """,
        (source_id, plugin_id),
    )
    if row is None:
        return None
    return _plugin_from(row, _of_source(db, source_id, int(time.time()) if now is None else now))


def releases_of(db: sqlite_utils.Database, source_id: str, plugin_id: str) -> list[Release]:
    """Return every version of a plugin, newest first in PHP's order of versions."""
    rows = iterate(db, "SELECT * FROM releases WHERE source_id = ? AND plugin_id = ?", (source_id, plugin_id))
    return sorted((release_from(row) for row in rows), key=lambda release: sort_key(release.version), reverse=True)


def newest_releases(db: sqlite_utils.Database, source_id: str, plugin_id: str, limit: int) -> list[Release]:
    """Return the first of them; of very many versions only these are read whole."""
    key = (source_id, plugin_id)
    rows = iterate(db, "SELECT version FROM releases WHERE source_id = ? AND plugin_id = ?", key)
    versions = sorted((row["version"] for row in rows), key=sort_key, reverse=True)[:limit]
    found = (get_release(db, *key, version) for version in versions)
    return [release for release in found if release is not None]


def get_release(
    db: sqlite_utils.Database, source_id: str, plugin_id: str, version: str | None = None
) -> Release | None:
    """Return one version; without `version` the one that the plugin is listed with (newest backed, else reported)."""
    if version is None:
        version = value(db, "SELECT version FROM plugins WHERE source_id = ? AND plugin_id = ?", (source_id, plugin_id))
    row = select_one(
        db,
        "SELECT * FROM releases WHERE source_id = ? AND plugin_id = ? AND version = ?",
        (source_id, plugin_id, version),
    )
    return None if row is None else release_from(row)


def observations_of(db: sqlite_utils.Database, source_id: str, plugin_id: str, version: str) -> list[Observation]:
    """Return everything that was seen of one version and counts now: admitted, kept with its bytes, or seen here."""
    rows = counted_observations(db, own_id(db), source_id, plugin_id, version)
    return [observation_from(row) for row in rows]


def release_by_digest(db: sqlite_utils.Database, sha256: bytes) -> Release | None:
    """Return the release that these bytes are, a backed one first; None if nobody reported them as anything."""
    row = select_one(
        db,
        """
        SELECT * FROM releases WHERE sha256 = ?
        ORDER BY backed DESC, observed_at, source_id, plugin_id LIMIT 1
        """,
        (sha256,),
    )
    return None if row is None else release_from(row)


def look(db: sqlite_utils.Database) -> None:
    """Read a row, whichever: raises sqlite3.Error where the store cannot be read."""
    value(db, "SELECT version FROM releases LIMIT 1")


def counts(db: sqlite_utils.Database) -> dict[str, int]:
    """Return how much of everything is here, for health and metrics."""
    row = select_one(
        db,
        """
        SELECT (SELECT count(*) FROM sources WHERE status <> 'discovered') AS sources,
               (SELECT count(*) FROM sources WHERE status = 'discovered') AS discovered_sources,
               (SELECT count(*) FROM plugins) AS plugins,
               (SELECT count(*) FROM releases) AS releases,
               (SELECT count(*) FROM releases WHERE backed) AS backed_releases,
               (SELECT count(*) FROM releases WHERE backed AND mirrored) AS mirrored_releases,
               (SELECT count(*) FROM artifacts) AS artifacts,
               (SELECT count(*) FROM subscriptions) AS subscriptions,
               (SELECT count(*) FROM announcements WHERE place = 'set') AS announcements,
               (SELECT count(*) FROM announcements WHERE place = 'parked') AS parked_announcements,
               (SELECT count(*) FROM peers) AS peers,
               (SELECT count(*) FROM peers WHERE pinned AND NOT blocked) AS pinned_peers
        """,
    )
    assert row is not None
    return {name: int(count) for name, count in row.items()}


def slug_owner(db: sqlite_utils.Database, slug: str) -> str | None:
    """Return the source that an admin named as the owner of a bare slug."""
    found: str | None = value(db, "SELECT source_id FROM slug_owners WHERE slug = ?", (slug,))
    return found


def slug_owners(db: sqlite_utils.Database) -> dict[str, str]:
    """Return every slug that has an owner, and the owner."""
    return dict(db.execute("SELECT slug, source_id FROM slug_owners ORDER BY slug").fetchall())


def set_slug_owner(db: sqlite_utils.Database, slug: str, source_id: str | None) -> None:
    """Name the owner of a bare slug; None: nobody any more."""
    if source_id is None:
        change(db, "DELETE FROM slug_owners WHERE slug = ?", (slug,))
        return
    change(
        db,
        """
        INSERT INTO slug_owners (slug, source_id) VALUES (?, ?)
        ON CONFLICT (slug) DO UPDATE SET source_id = excluded.source_id
        """,
        (slug, source_id),
    )


def release_from(row: Row) -> Release:
    """Make a `Release` of a row of the table."""
    return Release(
        source_id=row["source_id"],
        plugin_id=row["plugin_id"],
        version=row["version"],
        type=row["type"],
        name=row["name"],
        description=row["description"],
        tags=_list(row["tags"]),
        sha256=row["sha256"],
        size=row["size"],
        assurance=row["assurance"],
        backed=bool(row["backed"]),
        mirrored=bool(row["mirrored"]),
        conflict=bool(row["conflict"]),
        disputed_by=_list(row["disputed_by"]),
        reported_by=_list(row["reported_by"]),
        backed_by=row["backed_by"],
        icons={} if row["icons"] == "{}" else json.loads(row["icons"]),
        observed_at=row["observed_at"],
        yanked=row["yanked"],
        yanked_by=row["yanked_by"],
        taken_down=row["taken_down"],
        revoked_key=bool(row["revoked_key"]),
        cooldown_until=row["cooldown_until"],
        advisories=_list(row["advisories"]),
        held_back=row["held_back"],
    )


def _list(text: str) -> tuple[Any, ...]:
    return () if text == "[]" else tuple(json.loads(text))  # most are empty


_FEW_SO_SURE: Final = "FROM plugins AS p INDEXED BY plugins_by_assurance"
_OF_CHOSEN: Final = ", (SELECT count(*) FROM chosen) AS total FROM chosen JOIN plugins AS p ON p.id = chosen.id"
# Only what the page shows is read whole.
_SHOWN: Final = """
    SELECT p.id, p.reported_version, p.versions, (
        SELECT total(count) FROM download_counts AS d
        WHERE d.source_id = p.source_id AND d.plugin_id = p.plugin_id) AS downloads, r.*
    FROM json_each(?) AS shown CROSS JOIN plugins AS p ON p.id = shown.value
    JOIN releases AS r ON r.source_id = p.source_id AND r.plugin_id = p.plugin_id AND r.version = p.version
"""
_CONTINUE: Final = {
    "updated": "(p.updated_at, p.id) < (:after, :after_id)",
    "name": "(p.name_key, p.id) > (:after, :after_id)",
    "relevance": "(chosen.relevance, -p.id) > (:after, -:after_id)",
}
_ORDER: Final = {
    "updated": "ORDER BY p.updated_at DESC, p.id DESC LIMIT :limit",
    "name": "ORDER BY p.name_key, p.id LIMIT :limit",
    "relevance": "ORDER BY chosen.relevance, p.id DESC LIMIT :limit",
}
_SORT_COLUMNS: Final = {"updated": "p.updated_at", "name": "p.name_key", "relevance": "chosen.relevance"}


def _sort_of(query: PluginQuery) -> str:
    sort = query.sort or ("updated" if query.q is None else "relevance")
    if sort not in SORTS:
        raise CatalogueError(f"sort is one of {', '.join(SORTS)}")
    # Without words nothing is more relevant than anything else.
    return "updated" if sort == "relevance" and query.q is None else sort


def _read_cursor(cursor: str, sort: str) -> tuple[str | float, int]:
    try:
        return cursors.read(cursor, sort)
    except ValueError:
        raise CatalogueError("this cursor is not one that this query gave; ask again without a cursor") from None


def _rank_of(min_assurance: str | None) -> int:
    if min_assurance is None:
        return 0
    if min_assurance not in ASSURANCE_RANKS:
        raise CatalogueError(f"min_assurance is one of {', '.join(ASSURANCE_RANKS)}")
    return ASSURANCE_RANKS[min_assurance]


def _conditions(query: PluginQuery) -> list[str]:
    """Return the pieces of the query that narrow it without words; every piece is a constant."""
    conditions = [
        (query.source is not None, "AND p.source_id = :source"),
        (query.type is not None, "AND p.type = :type"),
        (query.min_assurance is not None, "AND p.assurance_rank >= :rank"),
        (query.tag is not None, "AND p.id IN (SELECT plugin FROM plugin_tags WHERE tag = :tag)"),
    ]
    return [condition for wanted, condition in conditions if wanted]


def _of_source(db: sqlite_utils.Database, source_id: str, now: int) -> OfSource:
    return OfSource(_mirrors(db, source_id, now), is_stale(db, source_id, now))


def _plugin_from(row: Row, source: OfSource) -> Plugin:
    return Plugin(
        release=release_from(row),
        reported_version=row["reported_version"],
        mirrors=source.mirrors,
        versions=row["versions"],
        stale=source.stale,
        downloads=int(row["downloads"]),
    )


def _mirrors(db: sqlite_utils.Database, source_id: str, now: int) -> int:
    """How many nodes hold artifacts of a source: those that say so, and this one."""
    own = own_id(db)
    others = value(
        db,
        """
        SELECT count(*) FROM mirror_claims AS m LEFT JOIN peers ON peers.node_id = m.node_id
        WHERE m.source_id = ? AND m.admitted AND m.count > 0 AND m.expires_at > ? AND m.node_id <> ?
          AND NOT coalesce(peers.blocked, 0)
        """,
        (source_id, now, own),
    )
    here = value(db, "SELECT EXISTS (SELECT 1 FROM mirrored_plugins WHERE source_id = ?)", (source_id,))
    return int(others) + int(here)
