"""What lets a node with very many announcements start fast: marks of versions, and sums of ids."""

from typing import Final

# The columns are NULL of what was kept before there were any: announcements.restore reads it out of the announcement.
# They are not filled in here: that would write every page of the table, and nobody has looked for room on the disk.
RESTARTS: Final = (
    "ALTER TABLE announcements ADD COLUMN content BLOB",
    "ALTER TABLE announcements ADD COLUMN replaces BLOB",
    """
    CREATE TABLE set_sums (
        author BLOB PRIMARY KEY,
        count INTEGER NOT NULL,
        digest BLOB NOT NULL,
        state BLOB NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)
