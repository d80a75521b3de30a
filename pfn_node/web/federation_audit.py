"""/federation/audit: who changed what on this node."""

from pfn_node.store import audit
from pfn_node.store.rows import ApiKey
from pfn_node.web.access_answers import AuditPage, AuditRow
from pfn_node.web.routes import Routes
from pfn_node.web.schemas import AuditQuery
from pfn_node.web.services import Services

routes = Routes("keys")


@routes.get("/federation/audit", query=AuditQuery, answer=AuditPage, scope="keys")
async def list_audit(services: Services, key: ApiKey, query: AuditQuery) -> AuditPage:
    """The audit log, oldest first, each entry chained to the one before by its hash."""
    found = await services.database.read(lambda db: audit.entries(db, query.after, query.limit + 1))
    rows = [AuditRow.of(entry) for entry in found[: query.limit]]
    return AuditPage(entries=rows, next=rows[-1].seq if len(found) > query.limit else None)
