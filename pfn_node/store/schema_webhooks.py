"""Webhooks: whom to tell of which news, and what became of it."""

from typing import Final

import sqlite_utils

_TABLES: Final = (
    # `after`: the last of the news (schema_feeds.py) that was looked at for it. `disabled` says why it is.
    """
    CREATE TABLE webhooks (
        id TEXT PRIMARY KEY,
        url TEXT NOT NULL,
        description TEXT NOT NULL,
        secret BLOB NOT NULL,
        events TEXT NOT NULL,
        source_id TEXT,
        tag TEXT,
        made_by TEXT NOT NULL,
        created INTEGER NOT NULL,
        after INTEGER NOT NULL,
        failing_since INTEGER,
        disabled TEXT
    ) STRICT
    """,
    # `next_at` is null once it was delivered or given up; `delivered` once it was.
    """
    CREATE TABLE webhook_deliveries (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        webhook_id TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
        type TEXT NOT NULL,
        body BLOB NOT NULL,
        created INTEGER NOT NULL,
        attempts TEXT NOT NULL,
        next_at INTEGER,
        delivered INTEGER
    ) STRICT
    """,
    "CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_at) WHERE next_at IS NOT NULL",
    "CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (webhook_id, seq)",
)


def add_webhooks(db: sqlite_utils.Database) -> None:
    """Add the tables."""
    for statement in _TABLES:
        db.execute(statement)
