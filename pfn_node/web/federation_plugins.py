"""/federation/*: what can be had: searching, one plugin, and who owns a bare slug."""

from collections.abc import Callable
from typing import TypeVar

import sqlite_utils

from pfn_node.own_paths import download_path
from pfn_node.store import announcements, catalogue, registry
from pfn_node.store.downloads import downloads_of
from pfn_node.store.rows import ApiKey, Page, Plugin, Release
from pfn_node.store.written_rows import write_rows
from pfn_node.web.answers import SlugRow, Slugs
from pfn_node.web.errors import ApiError
from pfn_node.web.evidence import observation_views
from pfn_node.web.federation_sources import known_source
from pfn_node.web.release_answers import (
    Holder,
    PluginRow,
    Plugins,
    PluginView,
    ReleaseFields,
    VersionView,
    WrittenPlugins,
    plugin_fields,
)
from pfn_node.web.routes import Routes
from pfn_node.web.schemas import PluginsQuery, SetSlug, SlugsQuery
from pfn_node.web.services import Services
from pfn_protocol.identity import did_key

routes = Routes("plugins")

T = TypeVar("T")

# Older versions than these are had by name all the same; they are not listed.
VERSIONS_SHOWN_MAX = 100
HOLDERS_SHOWN_MAX = 50


@routes.get("/federation/plugins", query=PluginsQuery, answer=Plugins, ready=True, errors=(404,))
async def list_plugins(services: Services, query: PluginsQuery) -> WrittenPlugins:
    """Search or list plugins: one row for each plugin of each source, its newest backed version."""
    now = int(services.now())

    def search(db: sqlite_utils.Database) -> tuple[Page, list[str]]:
        page = catalogue.find_page(db, asked(query), now=now)
        return page, write_rows(db, page.places)

    page, rows = await _searched(services, query, search)
    return WrittenPlugins(rows=rows, total=page.total, next=page.next)


async def find_plugins(services: Services, query: PluginsQuery) -> Plugins:
    """The same for a page that shows it."""
    now = int(services.now())
    found, total, following = await _searched(
        services, query, lambda db: catalogue.search_plugins(db, asked(query), now=now)
    )
    return Plugins(plugins=[PluginRow.of(plugin) for plugin in found], total=total, next=following)


async def _searched(services: Services, query: PluginsQuery, search: Callable[[sqlite_utils.Database], T]) -> T:
    question = asked(query)

    def search_small(db: sqlite_utils.Database) -> T | None:
        return search(db) if catalogue.is_small(db, question) else None

    try:
        found = services.database.read_now(search_small)
        return await services.database.read(search) if found is None else found
    except catalogue.CatalogueError as error:  # everything else that it refuses was refused by the query's model
        raise ApiError(404, f"There is no such page: {error}.") from error


def asked(query: PluginsQuery) -> catalogue.PluginQuery:
    """What the catalogue is asked by a query of the API, or of the page that shows the same."""
    return catalogue.PluginQuery(
        q=query.q,
        tag=query.tag,
        source=query.source,
        type=query.type,
        min_assurance=query.min_assurance,
        sort=query.sort,
        limit=query.limit,
        cursor=query.cursor,
    )


@routes.get("/federation/plugins/<source_id>/<plugin_id>", answer=PluginView, ready=True, errors=(404,))
async def show_plugin(services: Services, source_id: str, plugin_id: str) -> PluginView:
    """One plugin with its versions, the evidence for them, and where they can be had."""

    now = int(services.now())

    def view(db: sqlite_utils.Database, versions_max: int | None = None) -> PluginView | None:
        plugin = catalogue.get_plugin(db, source_id, plugin_id, now=now)
        if plugin is None:
            raise unknown_plugin(source_id, plugin_id)
        return None if versions_max is not None and plugin.versions > versions_max else plugin_view(db, plugin, now)

    # By keys and indexes, so at once; but to sort thousands of versions takes long.
    found = services.database.read_now(lambda db: view(db, VERSIONS_SHOWN_MAX)) or await services.database.read(view)
    assert found is not None, "only many versions are put off"
    return found


def unknown_plugin(source_id: str, plugin_id: str, version: str | None = None) -> ApiError:
    """The 404 for a plugin or version that no one here has heard of."""
    which = f"version {version} of the plugin" if version else "plugin"
    return ApiError(
        404,
        f"No such {which} is known here; GET /federation/plugins lists those that are.",
        details={"sourceId": source_id, "plugin": plugin_id, "version": version},
    )


def plugin_view(db: sqlite_utils.Database, plugin: Plugin, now: int) -> PluginView:
    """A plugin with its versions, as it is answered."""
    release = plugin.release
    source = registry.get_source(db, release.source_id)
    holders = announcements.holders(db, release.source_id, release.sha256, now=now) if release.sha256 else []
    releases = catalogue.newest_releases(db, release.source_id, release.plugin_id, VERSIONS_SHOWN_MAX)
    counted = downloads_of(db, release.source_id, release.plugin_id)
    return PluginView(
        **plugin_fields(plugin),
        releases=[_version(db, each, counted.get(each.version, 0)) for each in releases],
        holders=[
            Holder(node_id=did_key(peer.node_id), url=peer.url, pinned=peer.pinned)
            for peer in holders[:HOLDERS_SHOWN_MAX]
        ],
        publisher=source.instance_url if source else None,
    )


def _version(db: sqlite_utils.Database, release: Release, downloads: int) -> VersionView:
    observations = catalogue.observations_of(db, release.source_id, release.plugin_id, release.version)
    return VersionView(
        **ReleaseFields.fields_of(release),
        download=download_path(release),
        downloads=downloads,
        observations=observation_views(observations),
    )


@routes.get("/federation/slugs", query=SlugsQuery, answer=Slugs, ready=True)
async def list_slugs(services: Services, query: SlugsQuery) -> Slugs:
    """Which source owns a bare slug for WordPress clients."""
    owners = await services.database.read(catalogue.slug_owners)
    rows = [SlugRow(slug=slug, source_id=source) for slug, source in owners.items() if query.slug in (None, slug)]
    return Slugs(slugs=rows)


@routes.post("/federation/slugs", body=SetSlug, answer=SlugRow, scope="sources", errors=(404,))
async def set_slug(services: Services, key: ApiKey, body: SetSlug) -> SlugRow:
    """Let a source own a bare slug for WordPress clients."""
    await known_source(services, body.source_id)
    at = int(services.now())

    def write(db: sqlite_utils.Database) -> None:
        catalogue.set_slug_owner(db, body.slug, body.source_id)
        registry.record_activity(
            db,
            "security",
            f"the bare slug {body.slug} belongs to {body.source_id} now, said the key {key.id}",
            source_id=body.source_id,
            plugin_id=body.slug,
            at=at,
        )

    await services.database.write(write)
    return SlugRow(slug=body.slug, source_id=body.source_id)
