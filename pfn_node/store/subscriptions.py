"""Who wants which source mirrored, and what went wrong when this was tried."""

import json
from typing import Final

import sqlite_utils

from pfn_node.store.queries import Row, change, select, select_one, storable, to_json, value
from pfn_node.store.rows import Filters, Subscription, SyncFailure

# After these many hours a failed sync is tried again; from the fifth failure on, the last.
RETRY_HOURS: Final = (1, 2, 4, 8, 16)
# Failures that are remembered of a source; three within a day already make it `error`.
FAILURES_MAX: Final = 100
MESSAGE_CHARACTERS_MAX: Final = 1_000
_HOUR_SECONDS: Final = 3_600


def set_subscription(db: sqlite_utils.Database, source_id: str, subscriber: str, filters: Filters, at: int) -> bool:
    """Subscribe, or replace the filters of a subscription; return whether it is new."""
    parameters = {
        "source": source_id,
        "subscriber": subscriber,
        "filters": to_json({"tags": filters.tags, "slugs": filters.slugs, "exclude": filters.exclude}),
        "at": at,
    }
    added = change(
        db,
        """
        INSERT INTO subscriptions (source_id, subscriber, filters, created_at)
        VALUES (:source, :subscriber, :filters, :at) ON CONFLICT (source_id, subscriber) DO NOTHING
        """,
        parameters,
    )
    if not added:
        change(
            db,
            "UPDATE subscriptions SET filters = :filters WHERE source_id = :source AND subscriber = :subscriber",
            {name: parameters[name] for name in ("filters", "source", "subscriber")},
        )
    return added == 1


def delete_subscription(db: sqlite_utils.Database, source_id: str, subscriber: str) -> bool:
    """Unsubscribe; return whether there was a subscription."""
    return change(db, "DELETE FROM subscriptions WHERE source_id = ? AND subscriber = ?", (source_id, subscriber)) == 1


def hand_over_subscriptions(db: sqlite_utils.Database, subscriber: str, successor: str) -> int:
    """Give a key's subscriptions to the one that takes its place, which is new; return how many there are."""
    return change(db, "UPDATE subscriptions SET subscriber = ? WHERE subscriber = ?", (successor, subscriber))


def subscriptions(
    db: sqlite_utils.Database, source_id: str | None = None, subscriber: str | None = None
) -> list[Subscription]:
    """Return all subscriptions, or those of a source, of a subscriber, or of both, oldest first."""
    rows = select(
        db,
        """
        SELECT source_id, subscriber, filters, created_at FROM subscriptions
        WHERE (:source IS NULL OR source_id = :source) AND (:subscriber IS NULL OR subscriber = :subscriber)
        ORDER BY id
        """,
        {"source": source_id, "subscriber": subscriber},
    )
    return [_subscription_from(row) for row in rows]


def subscriber_count(db: sqlite_utils.Database, source_id: str) -> int:
    """Return how many keys subscribe to a source here."""
    return int(value(db, "SELECT count(*) FROM subscriptions WHERE source_id = ?", (source_id,)))


def record_failure(db: sqlite_utils.Database, source_id: str, message: str, at: int) -> SyncFailure:
    """Keep that a sync failed; return when to try again: after 1, 2, 4, 8, then always 16 hours."""
    last = select_one(
        db, "SELECT retry_count FROM sync_failures WHERE source_id = ? ORDER BY id DESC LIMIT 1", (source_id,)
    )
    count = 1 if last is None else last["retry_count"] + 1
    hours = RETRY_HOURS[min(count, len(RETRY_HOURS)) - 1]
    failure = SyncFailure(source_id, storable(message, MESSAGE_CHARACTERS_MAX), count, at + hours * _HOUR_SECONDS, at)
    change(
        db,
        """
        INSERT INTO sync_failures (source_id, error_message, retry_count, next_retry, created_at)
        VALUES (?, ?, ?, ?, ?)
        """,
        (source_id, failure.error_message, count, failure.next_retry, at),
    )
    change(
        db,
        """
        DELETE FROM sync_failures WHERE source_id = :source AND id <= (
            SELECT id FROM sync_failures WHERE source_id = :source ORDER BY id DESC LIMIT 1 OFFSET :kept)
        """,
        {"source": source_id, "kept": FAILURES_MAX},
    )
    return failure


def clear_failures(db: sqlite_utils.Database, source_id: str) -> int:
    """Forget the failures of a source, because a sync succeeded; return how many there were."""
    return change(db, "DELETE FROM sync_failures WHERE source_id = ?", (source_id,))


def failures(db: sqlite_utils.Database, source_id: str | None = None) -> list[SyncFailure]:
    """Return the failures of a source, or of all, newest first."""
    rows = select(
        db,
        """
        SELECT source_id, error_message, retry_count, next_retry, created_at FROM sync_failures
        WHERE :source IS NULL OR source_id = :source ORDER BY id DESC
        """,
        {"source": source_id},
    )
    return [SyncFailure(**row) for row in rows]


def _subscription_from(row: Row) -> Subscription:
    filters = json.loads(row["filters"])
    return Subscription(
        source_id=row["source_id"],
        subscriber=row["subscriber"],
        filters=Filters(*(tuple(filters.get(name, ())) for name in ("tags", "slugs", "exclude"))),
        created_at=row["created_at"],
    )
