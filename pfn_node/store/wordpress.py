"""Plugins as WordPress asks for them: by a bare slug, which is the name of a folder on the site.

Two sources may list one slug. Which of them it means is said by an admin (`slug_owners`), or plain because only one of
them has something to install; else it means nobody, and is never a guess.

A question for many plugins looks at the newest `SEARCH_MATCHES_MAX` that fit, as every search of the catalogue does.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

import sqlite_utils

from pfn_node.store.catalogue import SEARCH_MATCHES_MAX, PluginQuery, get_release, release_from, selection
from pfn_node.store.changes import LISTABLE, is_listable
from pfn_node.store.downloads import downloads_of
from pfn_node.store.packages import OF_PLUGIN, VERSIONS_MAX
from pfn_node.store.queries import Row, iterate, select, select_one, value
from pfn_node.store.rows import Release
from pfn_protocol.versions import newest, sort_key

# Sources that an answer about an ambiguous slug names.
CHOICES_MAX: Final = 10
_MIN_ASSURANCE: Final = "A1"


@dataclass(frozen=True, slots=True)
class Question:
    """Which plugins a site wants listed. What is None does not narrow."""

    search: str | None = None
    tag: str | None = None
    author: str | None = None  # a publisher's username, or the id of a source
    browse: str | None = None  # a key of `_ORDER`; None: what fits the words best, else what was updated last
    limit: int = 24
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """A version that may be installed, what its zip says of itself ({}: not read here), and how often it was had."""

    release: Release
    headers: dict[str, str]
    downloads: int


@dataclass(frozen=True, slots=True)
class Meaning:
    """Whose plugin a bare slug means here."""

    source_id: str | None
    choices: list[Release]  # where it means none because there are several


@dataclass(frozen=True, slots=True)
class Closed:
    """A plugin of which nothing may be installed any more, because an admin of this node took it down."""

    release: Release
    at: int
    reason: str


def meaning_of(db: sqlite_utils.Database, slug: str) -> Meaning:
    """Return whose plugin a bare slug means: its owner's, else that of the only source that has one to install.

    Where nobody has one to install, that of the only source that lists it at all.
    """
    owner = value(db, "SELECT source_id FROM slug_owners WHERE slug = ?", (slug,))
    if owner is not None:
        return Meaning(owner, [])
    sources = _sources_with(db, slug)
    if len(sources) > 1:
        listed = (newest_offer(db, source, slug) for source in sources)
        return Meaning(None, [offer.release for offer in listed if offer is not None])
    if not sources:
        sql = "SELECT source_id FROM plugins WHERE plugin_id = ? AND type = 'plugin' LIMIT 2"
        sources = [row["source_id"] for row in select(db, sql, (slug,))]
    return Meaning(sources[0] if len(sources) == 1 else None, [])


def _sources_with(db: sqlite_utils.Database, slug: str) -> list[str]:
    """The sources that have something to install under a slug, at most `CHOICES_MAX`."""
    sql = " ".join(
        (
            "SELECT p.source_id FROM plugins AS p WHERE p.plugin_id = ? AND p.type = 'plugin' AND",
            _HAS_SOMETHING,
            "ORDER BY p.source_id LIMIT ?",
        )
    )
    return [row["source_id"] for row in select(db, sql, (slug, CHOICES_MAX))]


def plugins_with_slug(db: sqlite_utils.Database, slug: str, limit: int = 100) -> list[Release]:
    """Return what every source lists under a bare slug, best assurance first: the choices where a slug is ambiguous."""
    rows = select(
        db,
        """
        SELECT r.* FROM plugins AS p JOIN releases AS r
          ON r.source_id = p.source_id AND r.plugin_id = p.plugin_id AND r.version = p.version
        WHERE p.plugin_id = ? ORDER BY p.assurance_rank DESC, p.source_id LIMIT ?
        """,
        (slug, limit),
    )
    return [release_from(row) for row in rows]


def offered_releases(db: sqlite_utils.Database, source_id: str, slug: str) -> list[Release]:
    """Return the versions of a plugin that may be installed, newest first; at most `VERSIONS_MAX`."""
    sql = " ".join(("SELECT r.*", _OFFERED))
    releases = [release_from(row) for row in iterate(db, sql, (source_id, slug))]
    return sorted(releases, key=lambda one: sort_key(one.version), reverse=True)[:VERSIONS_MAX]


_OFFERED: Final = " ".join(
    ("FROM releases AS r WHERE r.source_id = ? AND r.plugin_id = ? AND r.type = 'plugin' AND", LISTABLE)
)


def newest_offer(db: sqlite_utils.Database, source_id: str, slug: str) -> Offer | None:
    """Return the newest version that may be installed; None: there is none.

    What the plugin is listed with is the newest, unless that may not be installed. A plugin may have thousands: of
    those no more is read than their names.
    """
    listed = get_release(db, source_id, slug)
    if listed is not None and listed.type == "plugin" and is_listable(listed):
        return offer_of(db, listed)
    sql = " ".join(("SELECT r.version", _OFFERED))
    version = newest(row["version"] for row in iterate(db, sql, (source_id, slug)))
    found = None if version is None else get_release(db, source_id, slug, version)
    return None if found is None else offer_of(db, found)


def offer_of(db: sqlite_utils.Database, release: Release) -> Offer:
    """Return a release with what is known of its zip."""
    headers = value(db, "SELECT headers FROM package_facts WHERE sha256 = ?", (release.sha256,))
    downloads = sum(downloads_of(db, release.source_id, release.plugin_id).values())
    return Offer(release, json.loads(headers) if headers else {}, downloads)


def sha384_of(db: sqlite_utils.Database, sha256: bytes) -> bytes | None:
    """Return the SHA-384 of a zip that was read here."""
    found: bytes | None = value(db, "SELECT sha384 FROM package_facts WHERE sha256 = ?", (sha256,))
    return found


def closed(db: sqlite_utils.Database, source_id: str, slug: str) -> Closed | None:
    """Return what was taken down here last of a plugin that has nothing to install."""
    row = select_one(
        db,
        """
        SELECT r.*, t.at, t.reason FROM tombstones AS t JOIN releases AS r
          ON r.source_id = t.source_id AND r.plugin_id = t.plugin_id AND r.version = t.version
        WHERE t.source_id = ? AND t.plugin_id = ? ORDER BY t.at DESC LIMIT 1
        """,
        (source_id, slug),
    )
    return None if row is None else Closed(release_from(row), row["at"], row["reason"])


def search_offers(db: sqlite_utils.Database, question: Question) -> tuple[list[Offer], int]:
    """Return a page of plugins that a site may install by their slugs alone, and how many all pages have."""
    chosen = _chosen(question)
    if chosen is None:
        return [], 0
    ids, parameters = chosen
    order = _ORDER[question.browse or ("relevance" if question.search is not None else "updated")]
    sql = " ".join(("WITH chosen AS MATERIALIZED (", ids, "),", _SHOWN, order, "LIMIT :limit OFFSET :offset"))
    rows = select(db, sql, {**parameters, "limit": question.limit, "offset": question.offset})
    if not rows:
        total = value(db, " ".join(("WITH chosen AS MATERIALIZED (", ids, "),", _COUNT)), parameters)
        return [], int(total)
    return [_offer_from(row) for row in rows], rows[0]["total"]


def hot_tags(db: sqlite_utils.Database, limit: int) -> dict[str, int]:
    """Return the tags that occur most among the newest plugins, and how often; most frequent first."""
    chosen = _chosen(Question())
    assert chosen is not None, "without words something can match"
    ids, parameters = chosen
    sql = " ".join(("WITH chosen AS MATERIALIZED (", ids, "),", _TAGS))
    return {row["tag"]: row["plugins"] for row in select(db, sql, {**parameters, "limit": limit})}


def _chosen(question: Question) -> tuple[str, dict[str, Any]] | None:
    """Return the query for ids that may be shown, and its parameters; None: nothing can match."""
    if question.author is not None:
        return _OF_AUTHOR, {"author": question.author, "matches": SEARCH_MATCHES_MAX}
    query = PluginQuery(q=question.search, tag=question.tag, type="plugin", min_assurance=_MIN_ASSURANCE)
    return selection(query, ranked=question.search is not None and question.browse is None, newest=True)


def _offer_from(row: Row) -> Offer:
    return Offer(release_from(row), json.loads(row["headers"] or "{}"), row["downloads"])


_HAS_SOMETHING: Final = " ".join(("EXISTS (SELECT 1 FROM releases AS r WHERE", OF_PLUGIN, "AND", LISTABLE, ")"))
# Its slug means this plugin: as `meaning_of` says it.
_MEANT: Final = " ".join(
    (
        "CASE WHEN o.source_id IS NOT NULL THEN o.source_id = m.source_id ELSE NOT EXISTS (",
        "SELECT 1 FROM plugins AS p WHERE p.plugin_id = m.plugin_id AND p.source_id <> m.source_id",
        "AND p.type = 'plugin' AND",
        _HAS_SOMETHING,
        ") END",
    )
)
_OF_AUTHOR: Final = """
    SELECT p.id, 0.0 AS relevance FROM plugins AS p
    WHERE p.source_id IN (SELECT id FROM sources WHERE username = :author OR id = :author)
      AND p.type = 'plugin' AND p.assurance_rank >= 2
    ORDER BY p.id DESC LIMIT :matches
"""
# What is listed of each plugin may be installed, and its slug means it.
_MAY_BE_SHOWN: Final = " ".join(
    (
        "FROM chosen JOIN plugins AS m ON m.id = chosen.id",
        "JOIN releases AS r ON r.source_id = m.source_id AND r.plugin_id = m.plugin_id AND r.version = m.version",
        "LEFT JOIN slug_owners AS o ON o.slug = m.plugin_id WHERE",
        LISTABLE,
        "AND",
        _MEANT,
    )
)
_DOWNLOADS: Final = """
    (SELECT coalesce(sum(d.count), 0) FROM download_counts AS d
     WHERE d.source_id = s.source_id AND d.plugin_id = s.plugin_id)
"""
_SHOWN: Final = " ".join(
    (
        "shown AS MATERIALIZED (SELECT m.source_id, m.plugin_id, m.version, m.updated_at, m.assurance_rank, m.id,",
        "chosen.relevance",
        _MAY_BE_SHOWN,
        "), page AS MATERIALIZED (SELECT s.*,",
        _DOWNLOADS,
        "AS downloads FROM shown AS s)",
        "SELECT (SELECT count(*) FROM shown) AS total, page.downloads, f.headers, r.* FROM page",
        "JOIN releases AS r ON r.source_id = page.source_id AND r.plugin_id = page.plugin_id",
        "AND r.version = page.version LEFT JOIN package_facts AS f ON f.sha256 = r.sha256",
    )
)
_COUNT: Final = " ".join(("shown AS (SELECT m.id", _MAY_BE_SHOWN, ") SELECT count(*) FROM shown"))
_TAGS: Final = " ".join(
    (
        "shown AS (SELECT m.id",
        _MAY_BE_SHOWN,
        ") SELECT t.tag, count(*) AS plugins FROM shown JOIN plugin_tags AS t ON t.plugin = shown.id",
        "GROUP BY t.tag ORDER BY plugins DESC, t.tag LIMIT :limit",
    )
)
_ORDER: Final = {
    "relevance": "ORDER BY page.relevance, page.id DESC",
    "updated": "ORDER BY page.updated_at DESC, page.id DESC",
    "new": "ORDER BY page.updated_at DESC, page.id DESC",
    "popular": "ORDER BY page.downloads DESC, page.updated_at DESC, page.id DESC",
    "featured": "ORDER BY page.assurance_rank DESC, page.updated_at DESC, page.id DESC",
    "recommended": "ORDER BY page.assurance_rank DESC, page.downloads DESC, page.updated_at DESC, page.id DESC",
}


def sources_listing(
    db: sqlite_utils.Database,
    slug: str,
    *,
    source_id: str | None = None,
    instance_url: str | None = None,
    public_key: bytes | None = None,
) -> set[str]:
    """Return which sources list a plugin under a slug: the one with this id, or those of this instance, or key."""
    rows = select(
        db,
        """
        SELECT s.id FROM plugins AS p JOIN sources AS s ON s.id = p.source_id
        WHERE p.plugin_id = :slug AND p.type = 'plugin'
          AND (s.id = :source OR s.instance_url = :instance OR s.key_raw = :key)
        """,
        {"slug": slug, "source": source_id, "instance": instance_url, "key": public_key},
    )
    return {row["id"] for row in rows}
