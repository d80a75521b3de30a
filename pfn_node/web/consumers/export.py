"""/export/plugins.ndjson: the catalogue's metadata, one plugin a line, to be mirrored once and then followed.

Plugins come in the order in which they changed (store/changes.py), each as it is now. Every line has its number, `seq`;
the last line of an answer, and its Link header, say how to go on, also where there is nothing more today: asking that
later brings what changed since. A line with `gone` is of a plugin that is not listed any more. Zips are not in it:
`download` says where each is.
"""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import sqlite_utils
from pydantic import Field
from quart import Response, current_app

from pfn_node.own_paths import download_path
from pfn_node.store import catalogue, changes
from pfn_node.store.changes import Change
from pfn_node.store.database import DatabaseClosed
from pfn_node.store.rows import Release
from pfn_node.web.errors import ApiError
from pfn_node.web.routes import Bytes, Routes
from pfn_node.web.schemas import Query, QueryInteger
from pfn_node.web.services import Services

routes = Routes("feeds")

NDJSON: Final = "application/x-ndjson"
PATH: Final = "/export/plugins.ndjson"
PLUGINS_MAX: Final = 1_000  # of an answer
PLUGINS_DEFAULT: Final = 500
# Plugins that are read at once: a reader that is slow holds no more than these in memory.
BATCH_PLUGINS: Final = 20
# Versions that a line tells of, the newest; others are had by /federation/plugins or by their number.
RELEASES_MAX: Final = 500


class ExportQuery(Query):
    after: QueryInteger = Field(
        0, ge=0, le=changes.CHANGE_MAX, description="`after` of the answer before; 0 = from the start."
    )
    limit: QueryInteger = Field(PLUGINS_DEFAULT, ge=1, le=PLUGINS_MAX, description="Plugins.")


@routes.get(
    PATH,
    query=ExportQuery,
    answer=Bytes(NDJSON, "A plugin a line, in the order of their last change; the last line says how to go on."),
    errors=(409,),
)
async def export_plugins(services: Services, query: ExportQuery) -> Response:
    """The metadata of all listed plugins with their releases, a page at a time; then what changed since."""
    found = await services.database.read(lambda db: _changed(db, query))
    page, more = found[: query.limit], len(found) > query.limit
    after = page[-1].seq if page else query.after
    following = f"{PATH}?after={after}&limit={query.limit}"
    last = {"after": after, "more": more, "next": following}
    response: Response = current_app.response_class(_lines(services, page, last), content_type=NDJSON)
    response.headers["Link"] = f'<{following}>; rel="next"'
    response.headers["Cache-Control"] = "no-cache"
    response.timeout = None
    return response


def _changed(db: sqlite_utils.Database, query: ExportQuery) -> list[Change]:
    if query.after and not changes.forgotten_up_to(db) <= query.after <= changes.newest_change(db):
        raise ApiError(
            409,
            "Not everything that changed since is known here any more, or it never was: begin anew, without `after`, "
            "and forget the plugins that are not told of again.",
            details={"after": query.after},
        )
    return changes.changes_after(db, query.after, query.limit + 1)


async def _lines(services: Services, page: Sequence[Change], last: dict[str, Any]) -> AsyncIterator[bytes]:
    try:
        for start in range(0, len(page), BATCH_PLUGINS):
            batch = page[start : start + BATCH_PLUGINS]
            rows = await services.database.read(lambda db, batch=batch: [_row(db, one) for one in batch])  # type: ignore[misc]
            yield b"".join(map(_line, rows))
        yield _line(last)
    except DatabaseClosed:
        return  # the node stops; without its last line an answer is not whole


def line_of(db: sqlite_utils.Database, one: Change) -> bytes:
    """The line of one plugin."""
    return _line(_row(db, one))


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode("ascii") + b"\n"


def _row(db: sqlite_utils.Database, one: Change) -> dict[str, Any]:
    named = {"seq": one.seq, "source_id": one.source_id, "plugin_id": one.plugin_id}
    plugin = catalogue.get_plugin(db, one.source_id, one.plugin_id)
    if plugin is None:
        return named | {"gone": True}
    listed = plugin.release
    releases = catalogue.releases_of(db, one.source_id, one.plugin_id)
    return named | {
        "gone": False,
        "composer_name": one.composer_name,
        "type": listed.type,
        "name": listed.name,
        "description": listed.description,
        "tags": list(listed.tags),
        "icons": listed.icons,
        "version": listed.version,
        "reported_version": plugin.reported_version,
        "versions": plugin.versions,
        "releases": [_release(release) for release in releases[:RELEASES_MAX]],
    }


def _release(release: Release) -> dict[str, Any]:
    """What is told of a version: what makes it change, and where its zip is."""
    return {
        "version": release.version,
        "sha256": release.sha256.hex() if release.sha256 else None,
        "size": release.size,
        "assurance": release.assurance,
        "backed": release.backed,
        "held_back": release.held_back,
        "yanked": release.yanked,
        "taken_down": release.taken_down,
        "revoked_key": release.revoked_key,
        "cooldown": release.cooldown_until,
        "advisories": list(release.advisories),
        "observed_at": release.observed_at,
        "download": download_path(release),
    }
