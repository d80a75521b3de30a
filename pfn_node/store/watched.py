"""What an operator's monitoring watches, as counts."""

import sqlite_utils

from pfn_node.store.queries import select, value

# Every status that a source can have, so that a figure that falls to nothing is shown as nothing.
STATUSES = ("pending", "discovered", "verified", "error", "conflict", "revoked")


def sources_by_status(db: sqlite_utils.Database) -> dict[str, int]:
    """Return how many sources stand how."""
    rows = select(db, "SELECT status, count(*) AS n FROM sources GROUP BY status")
    return dict.fromkeys(STATUSES, 0) | {row["status"]: int(row["n"]) for row in rows}


def overdue_sources(db: sqlite_utils.Database, since: int) -> int:
    """Return how many subscribed sources had no good sync since then (seconds since 1970)."""
    sql = """
        SELECT count(*) FROM sources
        WHERE id IN (SELECT source_id FROM subscriptions) AND coalesce(last_sync, 0) < ? AND created_at < ?
    """
    return int(value(db, sql, (since, since)) or 0)


def deliveries_waiting(db: sqlite_utils.Database) -> int:
    """Return how many deliveries of webhooks are still to be made."""
    return int(value(db, "SELECT count(*) FROM webhook_deliveries WHERE next_at IS NOT NULL") or 0)
