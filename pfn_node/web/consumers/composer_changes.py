"""/composer/changes.json: which packages changed since a time, for those who mirror the repository's metadata.

`since` is the `timestamp` of the answer before: a time in milliseconds, and the number of the last change that was told
(store/changes.py). Who says none, or one from which on packages that went are forgotten here, is told to begin anew.
"""

import json
from typing import Any, Final

import sqlite_utils
from pydantic import Field
from quart import Response

from pfn_node.store import changes, packages
from pfn_node.web.routes import Bytes, Routes
from pfn_node.web.schemas import Query, QueryInteger
from pfn_node.web.services import Services

routes = Routes("composer")

JSON: Final = "application/json"
# Packages that one answer names; who is told of so many asks again, from its timestamp on.
ACTIONS_MAX: Final = 2_000


class ChangesQuery(Query):
    since: QueryInteger = Field(-1, ge=0, le=changes.CHANGE_MAX, description="`timestamp` of the answer before.")


@routes.get("/composer/changes.json", query=ChangesQuery, answer=Bytes(JSON), in_document=False)
async def list_composer_changes(services: Services, query: ChangesQuery) -> Response:
    """The packages that changed, oldest change first; as Composer's own repository tells it."""
    answer = await services.database.read(lambda db: _changes(db, query.since))
    return Response(json.dumps(answer), content_type=JSON, headers={"Cache-Control": "no-cache"})


def _changes(db: sqlite_utils.Database, since: int) -> dict[str, Any]:
    newest = changes.newest_change(db)
    if since < changes.forgotten_up_to(db):
        return {"timestamp": newest, "actions": [{"type": "resync", "time": newest // 1000, "package": "*"}]}
    found = packages.changed_packages(db, since, ACTIONS_MAX)
    actions = [
        {"type": "update" if offered else "delete", "package": one.composer_name, "time": one.seq // 1000}
        for one, offered in found
    ]
    # Never the `since` of somebody whose clock is ahead: it would miss what changes until then.
    return {"timestamp": found[-1][0].seq if found else newest, "actions": actions}
