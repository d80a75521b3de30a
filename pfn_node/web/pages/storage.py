"""/admin/storage: what is kept here, of whom, and what would become free."""

import shutil
from typing import Any

import sqlite_utils
import trio

from pfn_node.store import overview
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.services import Services

pages = Pages()

SOURCES_SHOWN = 25


@pages.get("/admin/storage", "storage.html", title="Storage", menu="admin", scope="read", twin="/federation/health")
async def show_storage(services: Services, visitor: Visitor) -> dict[str, Any]:
    def read(db: sqlite_utils.Database) -> dict[str, Any]:
        return {"stocks": overview.largest_stocks(db, SOURCES_SHOWN), "database": overview.database_sizes(db)}

    known = await services.database.read(read)
    disk = await trio.to_thread.run_sync(shutil.disk_usage, services.settings.data)
    return known | {
        "disk": disk,
        "artifacts": services.artifacts.usage(),
        "folder": services.settings.data,
        "store": services.artifacts.store,
    }
