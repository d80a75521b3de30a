"""The tables of what is said about keys and about releases that are out; a migration of schema.py makes them."""

from typing import Final

# What publishers signed about keys and releases (`publisher_notices`, `keybinds`), what nodes say about them
# (`notice_claims`), what an admin decided here (`tombstones`, `key_roots`), and what follows from it.
NOTICE_TABLES: Final = (
    # Of yanks and advisories one for each subject; of rotations and revocations every one. Never deleted with what it
    # is about: the place (epoch, seq) is the mark below which nothing counts any more.
    """
    CREATE TABLE publisher_notices (
        source_id TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('rotate', 'revoke', 'yank', 'advisory')),
        subject TEXT NOT NULL,
        raw BLOB NOT NULL,
        signer BLOB NOT NULL,
        keybind BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        withdrawn INTEGER NOT NULL,
        seen_at INTEGER NOT NULL,
        PRIMARY KEY (source_id, kind, subject)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE keybinds (
        source_id TEXT NOT NULL,
        release_key BLOB NOT NULL,
        identity_key BLOB NOT NULL,
        raw BLOB NOT NULL,
        seen_at INTEGER NOT NULL,
        PRIMARY KEY (source_id, release_key, identity_key)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE key_roots (
        source_id TEXT PRIMARY KEY,
        root BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('speaks', 'frozen', 'revoked')),
        chosen_at INTEGER,
        changed_at INTEGER
    ) STRICT
    """,
    """
    CREATE TABLE source_keys (
        source_id TEXT NOT NULL,
        key BLOB NOT NULL,
        is_identity INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        standing TEXT NOT NULL,
        cutoff INTEGER,
        PRIMARY KEY (source_id, key)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE notice_claims (
        kind TEXT NOT NULL CHECK (kind IN ('yank', 'advisory', 'revoke')),
        subject TEXT NOT NULL,
        node_id BLOB NOT NULL,
        source_id TEXT NOT NULL,
        plugin_id TEXT,
        about TEXT NOT NULL,
        content TEXT NOT NULL,
        evidence BLOB NOT NULL,
        keybind BLOB NOT NULL,
        withdrawn INTEGER NOT NULL,
        announcement_id BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        admitted INTEGER NOT NULL,
        received_at INTEGER NOT NULL,
        PRIMARY KEY (kind, subject, node_id)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX notice_claims_by_announcement ON notice_claims (announcement_id)",
    "CREATE INDEX notice_claims_by_source ON notice_claims (source_id, plugin_id)",
    "CREATE INDEX notice_claims_by_node ON notice_claims (node_id)",
    """
    CREATE TABLE tombstones (
        source_id TEXT NOT NULL,
        plugin_id TEXT NOT NULL,
        version TEXT NOT NULL,
        reason TEXT NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (source_id, plugin_id, version)
    ) STRICT, WITHOUT ROWID
    """,
    "ALTER TABLE releases ADD COLUMN yanked TEXT",
    "ALTER TABLE releases ADD COLUMN yanked_by TEXT",
    "ALTER TABLE releases ADD COLUMN taken_down TEXT",
    "ALTER TABLE releases ADD COLUMN revoked_key INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE releases ADD COLUMN cooldown_until INTEGER",
    "ALTER TABLE releases ADD COLUMN advisories TEXT NOT NULL DEFAULT '[]'",
    "CREATE INDEX releases_cooling ON releases (cooldown_until) WHERE cooldown_until IS NOT NULL",
)

# `relied`: its source was removed when an admin had registered it, or it had proved its key here: what was kept of its
# keys and notices stays (statements_kept.py). Of sources that were gone before, their activity tells it.
RELIED_SOURCES: Final = (
    "ALTER TABLE key_roots ADD COLUMN relied INTEGER NOT NULL DEFAULT 0",
    """
    UPDATE key_roots SET relied = 1 WHERE source_id NOT IN (SELECT id FROM sources) AND (
        chosen_at IS NOT NULL
        OR source_id IN (SELECT source_id FROM signed_since)
        OR source_id IN (
            SELECT source_id FROM activity
            WHERE type = 'federation_event' AND message = source_id || ' was registered'))
    """,
    """
    CREATE TEMP VIEW kept_sources AS SELECT id FROM sources UNION SELECT source_id FROM key_roots WHERE relied
    """,
    "DELETE FROM publisher_notices WHERE NOT EXISTS (SELECT 1 FROM kept_sources WHERE id = source_id)",
    "DELETE FROM keybinds WHERE NOT EXISTS (SELECT 1 FROM kept_sources WHERE id = source_id)",
    "DELETE FROM heads WHERE NOT EXISTS (SELECT 1 FROM kept_sources WHERE id = source_id)",
    "DELETE FROM source_keys WHERE NOT EXISTS (SELECT 1 FROM kept_sources WHERE id = source_id)",
    "DELETE FROM key_roots WHERE NOT EXISTS (SELECT 1 FROM kept_sources WHERE id = source_id)",
    "DROP VIEW kept_sources",
)
