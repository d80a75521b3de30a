"""Rows of lists of plugins as the JSON that the API answers with, written by SQLite.

Lists are what is asked for most, a page has dozens of rows, and to make objects of them takes six times as long. The
names are those of `PluginRow` (web/release_answers.py), and tests/node/test_web_plugins.py wants every row to be what
that model would say.
"""

import json
from collections.abc import Sequence
from typing import Final

import sqlite_utils

from pfn_node.store.rows import Place


def write_rows(db: sqlite_utils.Database, places: Sequence[Place]) -> list[str]:
    """Return the rows of a page, or of a part of it, each a JSON object."""
    written = dict(db.execute(_WRITTEN, (json.dumps([place.id for place in places]),)).fetchall())
    return [f"{written[place.id][:-1]},{_of_source(place)}}}" for place in places]


def _of_source(place: Place) -> str:
    return f'"mirrors":{place.source.mirrors},"stale":{"true" if place.source.stale else "false"}'


def _boolean(column: str) -> str:
    return f"json(iif({column}, 'true', 'false'))"


_FIELDS: Final = {
    "plugin_id": "r.plugin_id",
    "source_id": "r.source_id",
    "name": "r.name",
    "version": "r.version",
    "description": "r.description",
    "tags": "json(r.tags)",
    "type": "r.type",
    "sha256": "iif(r.sha256 IS NULL, NULL, lower(hex(r.sha256)))",
    "size": "r.size",
    "assurance": "r.assurance",
    "backed": _boolean("r.backed"),
    "held_back": "r.held_back",
    "mirrored": _boolean("r.mirrored"),
    "conflict": _boolean("r.conflict"),
    "disputed_by": "json(r.disputed_by)",
    "reported_by": "json(r.reported_by)",
    "backed_by": "r.backed_by",
    "icons": "json(r.icons)",
    "observed_at": "r.observed_at",
    "yanked": "r.yanked",
    "yanked_by": "r.yanked_by",
    "taken_down": "r.taken_down",
    "revoked_key": _boolean("r.revoked_key"),
    "cooldown": "r.cooldown_until",
    "advisories": "json(r.advisories)",
    "versions": "p.versions",
    "reported_version": "p.reported_version",
    "composer_name": "p.composer_name",
    "downloads": """(
        SELECT coalesce(sum(count), 0) FROM download_counts AS d
        WHERE d.source_id = p.source_id AND d.plugin_id = p.plugin_id)""",
}
_WRITTEN: Final = " ".join(
    (
        "SELECT p.id, json_object(",
        ", ".join(f"'{name}', {column}" for name, column in _FIELDS.items()),
        ") FROM json_each(?) AS shown CROSS JOIN plugins AS p ON p.id = shown.value",
        "JOIN releases AS r ON r.source_id = p.source_id AND r.plugin_id = p.plugin_id AND r.version = p.version",
    )
)
