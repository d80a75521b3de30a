"""/activity: what happened on this node, as it happens."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Any

from pfn_node.store import registry
from pfn_node.store.rows import Activity
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.schemas import PAGE_DEFAULT, ActivityQuery
from pfn_node.web.services import Services

pages = Pages()

# A word and a sentence for each type.
TYPES = {
    "version_update": ("Versions", "A new version is mirrored here."),
    "source_verification": ("Verifications", "A publisher proved its key, or could not."),
    "source_health": ("Health", "A publisher went up or down, or its status changed."),
    "federation_event": ("Federation", "Sources come and go, nodes are met, plugins are left out."),
    "security": ("Security", "Keys, yanks, advisories, disputes: what an administrator should see."),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A row with a word for what it says and the kind of mark beside it: good, warn, bad, or plain."""

    row: Activity
    kind: str
    word: str

    @property
    def said(self) -> str:
        """The message as a sentence; one that begins with an id or a slug stays as it is, for those are not words."""
        first, message = self.row.message.partition(" ")[0], self.row.message
        is_word = first.isalpha() and first != self.row.plugin_id
        return message[:1].upper() + message[1:] if is_word else message


@dataclass(frozen=True, slots=True)
class Day:
    """A day, in UTC, with its entries."""

    date: date
    title: str
    entries: list[Entry]


@pages.get(
    "/activity",
    "activity.html",
    title="Activity",
    menu="admin",
    scope="read",
    query=ActivityQuery,
    twin="/federation/activity",
)
async def show_activity(services: Services, visitor: Visitor, query: ActivityQuery) -> dict[str, Any]:
    rows = await services.database.read(
        lambda db: registry.activity_page(db, query.type, query.source_id or None, query.before, PAGE_DEFAULT + 1)
    )
    shown = rows[:PAGE_DEFAULT]
    return {
        "days": by_day(shown, services.now()),
        "types": TYPES,
        "query": query,
        "older": shown[-1].id if len(rows) > PAGE_DEFAULT else None,
        "newest": query.before is None,
    }


def by_day(rows: list[Activity], now: float) -> list[Day]:
    """Group rows, newest first, by their day in UTC."""
    today = datetime.fromtimestamp(now, UTC).date()
    days = groupby(rows, key=lambda row: datetime.fromtimestamp(row.timestamp, UTC).date())
    return [Day(day, day_title(day, today), [entry_of(row) for row in of_day]) for day, of_day in days]


def day_title(day: date, today: date) -> str:
    """A day as people say it."""
    written = f"{day:%A}, {day.day} {day:%B %Y}"
    return {0: f"Today, {written}", 1: f"Yesterday, {written}"}.get((today - day).days, written)


def entry_of(row: Activity) -> Entry:
    """What a row says in a word."""
    match row.type:
        case "version_update":
            return Entry(row, "good", "new version")
        case "source_verification":
            failed = row.message.startswith(f"verification of {row.source_id}: failure")
            return Entry(row, "bad" if failed else "good", "not verified" if failed else "verified")
        case "source_health":
            down = row.message.startswith("the publisher is down")
            bad = down or row.message.endswith((" to error", " to conflict", " to revoked"))
            return Entry(row, "bad" if bad else "good", "down" if down else "health")
        case "security":
            return Entry(row, "warn", "security")
        case _:
            return Entry(row, "plain", "federation")
