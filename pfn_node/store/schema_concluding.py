"""Announcements that were kept in bulk: what follows from them is concluded later, plugin by plugin."""

from typing import Final

CONCLUDING: Final = (
    "ALTER TABLE announcements ADD COLUMN concluded INTEGER NOT NULL DEFAULT 1",
    "CREATE INDEX announcements_to_conclude ON announcements (subject, received_at) WHERE NOT concluded",
)
