"""Webhooks and their deliveries: a queue that survives a restart, and the log that is left of it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import sqlite_utils

from pfn_node.store.queries import Row, change, select, select_one, to_json, value

WEBHOOKS_MAX: Final = 50
# Deliveries of one webhook that wait; beyond it news wait where they are (`after`), so nothing is lost.
WAITING_MAX: Final = 500
# Deliveries of one webhook that are shown after they came through, or were given up.
LOG_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Webhook:
    """Whom to tell what. `source_id` and `tag` narrow; times in seconds since 1970."""

    id: str
    url: str
    description: str
    secret: bytes
    events: tuple[str, ...]
    source_id: str | None
    tag: str | None
    made_by: str  # the id of the API key
    created: int
    after: int  # of the news, the last that was looked at for it
    failing_since: int | None  # the first failure since the last success
    disabled: str | None  # why nothing is sent any more


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver: which status came, or why none did."""

    at: int
    status: int | None
    error: str | None  # None: it was taken

    @property
    def succeeded(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one webhook."""

    id: str
    webhook_id: str
    type: str
    body: bytes
    created: int
    attempts: tuple[Attempt, ...]
    next_at: int | None
    delivered: int | None


def insert_webhook(db: sqlite_utils.Database, webhook: Webhook) -> bool:
    """Add a webhook; return False if there are as many as there may be."""
    if value(db, "SELECT count(*) FROM webhooks") >= WEBHOOKS_MAX:
        return False
    columns = asdict(webhook) | {"events": to_json(webhook.events)}
    db.table("webhooks").insert(columns)
    return True


def webhooks(db: sqlite_utils.Database) -> list[Webhook]:
    """Return all, the oldest first."""
    return [_webhook_from(row) for row in select(db, "SELECT * FROM webhooks ORDER BY created, id")]


def get_webhook(db: sqlite_utils.Database, webhook_id: str) -> Webhook | None:
    """Return one."""
    row = select_one(db, "SELECT * FROM webhooks WHERE id = ?", (webhook_id,))
    return None if row is None else _webhook_from(row)


def delete_webhook(db: sqlite_utils.Database, webhook_id: str) -> bool:
    """Delete one with its deliveries; return whether it was there."""
    return bool(change(db, "DELETE FROM webhooks WHERE id = ?", (webhook_id,)))


def waiting(db: sqlite_utils.Database, webhook_id: str) -> int:
    """Return how many deliveries of a webhook wait for an attempt."""
    sql = "SELECT count(*) FROM webhook_deliveries WHERE webhook_id = ? AND next_at IS NOT NULL"
    return int(value(db, sql, (webhook_id,)))


def looked_at(db: sqlite_utils.Database, webhook_id: str, news_id: int) -> None:
    """Note up to which of the news was looked for what a webhook is told."""
    change(db, "UPDATE webhooks SET after = ? WHERE id = ?", (news_id, webhook_id))


def insert_delivery(db: sqlite_utils.Database, delivery: Delivery) -> None:
    """Add a message that is to be delivered, or (with its attempts) one that was."""
    row = asdict(delivery) | {"attempts": _attempts_text(delivery.attempts)}
    db.table("webhook_deliveries").insert(row)


def due_deliveries(db: sqlite_utils.Database, now: int) -> list[Delivery]:
    """Return of each webhook that is not disabled the delivery that is due first, by `now`."""
    rows = select(
        db,
        """
        SELECT d.*, min(d.next_at) FROM webhook_deliveries AS d JOIN webhooks AS w ON w.id = d.webhook_id
        WHERE d.next_at <= ? AND w.disabled IS NULL GROUP BY d.webhook_id
        """,
        (now,),
    )
    return [_delivery_from(row) for row in rows]


def next_due(db: sqlite_utils.Database, now: int) -> int | None:
    """Return when the next delivery after `now` is due; None: none is waiting for that."""
    found: int | None = value(db, "SELECT min(next_at) FROM webhook_deliveries WHERE next_at > ?", (now,))
    return found


def put_off(db: sqlite_utils.Database, delivery_id: str, next_at: int) -> None:
    """Try later, without having tried."""
    change(db, "UPDATE webhook_deliveries SET next_at = ? WHERE id = ?", (next_at, delivery_id))


def note_attempt(db: sqlite_utils.Database, delivery: Delivery, attempt: Attempt, next_at: int | None) -> None:
    """Note how an attempt went; `next_at`: when the next one is due, None if it came through or is given up."""
    change(
        db,
        "UPDATE webhook_deliveries SET attempts = ?, next_at = ?, delivered = ? WHERE id = ?",
        (
            _attempts_text((*delivery.attempts, attempt)),
            next_at,
            attempt.at if attempt.succeeded else None,
            delivery.id,
        ),
    )
    if next_at is None:
        prune_log(db, delivery.webhook_id)
    note_health(db, delivery.webhook_id, attempt)


def note_health(db: sqlite_utils.Database, webhook_id: str, attempt: Attempt) -> None:
    """Note since when a webhook fails, or that it does not."""
    since = None if attempt.succeeded else attempt.at
    keep = "coalesce(failing_since, ?)" if since is not None else "?"
    change(db, " ".join(("UPDATE webhooks SET failing_since =", keep, "WHERE id = ?")), (since, webhook_id))


def disable(db: sqlite_utils.Database, webhook_id: str, why: str) -> None:
    """Send a webhook nothing any more; what waits for it is given up."""
    change(db, "UPDATE webhooks SET disabled = ? WHERE id = ?", (why, webhook_id))
    change(db, "UPDATE webhook_deliveries SET next_at = NULL WHERE webhook_id = ?", (webhook_id,))
    prune_log(db, webhook_id)


def enable(db: sqlite_utils.Database, webhook_id: str, after: int) -> None:
    """Begin again to tell a webhook what comes after that one of the news."""
    sql = "UPDATE webhooks SET disabled = NULL, failing_since = NULL, after = ? WHERE id = ?"
    change(db, sql, (after, webhook_id))


def deliveries_of(db: sqlite_utils.Database, webhook_id: str, limit: int) -> list[Delivery]:
    """Return the deliveries of a webhook, newest first."""
    sql = "SELECT * FROM webhook_deliveries WHERE webhook_id = ? ORDER BY seq DESC LIMIT ?"
    return [_delivery_from(row) for row in select(db, sql, (webhook_id, limit))]


def prune_log(db: sqlite_utils.Database, webhook_id: str) -> None:
    """Keep the newest deliveries of those that are settled."""
    change(
        db,
        """
        DELETE FROM webhook_deliveries WHERE webhook_id = :webhook AND next_at IS NULL AND seq <= (
            SELECT seq FROM webhook_deliveries WHERE webhook_id = :webhook AND next_at IS NULL
            ORDER BY seq DESC LIMIT 1 OFFSET :kept)
        """,
        {"webhook": webhook_id, "kept": LOG_MAX},
    )


def _webhook_from(row: Row) -> Webhook:
    return Webhook(**row | {"events": tuple(json.loads(row["events"]))})


def _delivery_from(row: Row) -> Delivery:
    columns: dict[str, Any] = {name: row[name] for name in Delivery.__slots__}
    attempts = tuple(Attempt(**one) for one in json.loads(row["attempts"]))
    return Delivery(**columns | {"attempts": attempts})


def _attempts_text(attempts: Sequence[Attempt]) -> str:
    return to_json([asdict(one) for one in attempts])
