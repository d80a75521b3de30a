"""/admin/audit: who changed what on this node, with the chain of hashes checked as far as it is shown."""

from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from pydantic import Field

from pfn_node.store import audit
from pfn_node.store.audit import AuditEntry
from pfn_node.web.access_answers import AuditRow
from pfn_node.web.pages.page_routes import Pages, Visitor
from pfn_node.web.schemas import PAGE_DEFAULT, QUERY_CHARACTERS_MAX, SECONDS_MAX, Query, QueryInteger
from pfn_node.web.services import Services

pages = Pages()

# Entries that one page looks at: their hashes are checked, and filters choose among them.
LOOKED_AT_MAX = 1_000


class AuditPageQuery(Query):
    before: QueryInteger | None = Field(None, ge=1, le=SECONDS_MAX, description="Older than the entry of this number.")
    outcome: Literal["done", "refused", "failed", "cancelled"] | None = None
    actor: str | None = Field(None, max_length=QUERY_CHARACTERS_MAX)
    q: str | None = Field(None, max_length=QUERY_CHARACTERS_MAX, description="Part of the action or target.")


@dataclass(frozen=True, slots=True)
class Looked:
    """A page: the entries that are shown, newest first, and what was looked at for it."""

    shown: list[AuditEntry]
    first: int
    last: int
    broken: str | None
    older: int | None  # `before` of the next page


@pages.get(
    "/admin/audit",
    "audit.html",
    title="Audit log",
    menu="admin",
    scope="keys",
    query=AuditPageQuery,
    twin="/federation/audit",
)
async def show_audit(services: Services, visitor: Visitor, query: AuditPageQuery) -> dict[str, Any]:
    found = await services.database.read(lambda db: audit.entries_before(db, query.before, LOOKED_AT_MAX))
    looked = look(found, query)
    return {
        "looked": looked,
        "rows": [AuditRow.of(entry) for entry in looked.shown],
        "query": query,
        "older": None if looked.older is None else _link(query, before=looked.older),
        "outcomes": [(outcome, _link(query, outcome=outcome)) for outcome in OUTCOMES],
        "everything": _link(query, outcome=None),
        "filtered": any((query.outcome, query.actor, query.q)),
    }


OUTCOMES = ("done", "refused", "failed", "cancelled")


def look(found: list[AuditEntry], query: AuditPageQuery) -> Looked:
    """Choose what is shown of entries in their order, and check the chain over all that were passed."""
    shown: list[AuditEntry] = []
    first = 0
    for at in range(len(found) - 1, -1, -1):
        first = at
        if _matches(found[at], query):
            shown.append(found[at])
            if len(shown) == PAGE_DEFAULT:
                break
    passed = found[max(first - 1, 0) :]  # the entry before the oldest shown is what that one has to follow
    older = found[first].seq if found and found[first].seq > 1 and (first or len(found) == LOOKED_AT_MAX) else None
    numbers = (passed[0].seq, passed[-1].seq) if passed else (0, 0)
    return Looked(shown, *numbers, audit.broken_within(passed), older)


def _matches(entry: AuditEntry, query: AuditPageQuery) -> bool:
    return (
        query.outcome in (None, entry.outcome)
        and query.actor in (None, "", entry.actor)
        and (not query.q or query.q.casefold() in f"{entry.action} {entry.target or ''}".casefold())
    )


def _link(query: AuditPageQuery, **changed: Any) -> str:
    asked = query.model_dump(exclude={"before"}) | changed
    return f"?{urlencode({name: value for name, value in asked.items() if value})}"
