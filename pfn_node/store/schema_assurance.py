"""Tables of assurance over time: heads, origins, levels that are kept to, provisional digests (SPEC.md, R150 on)."""

from typing import Final

ASSURANCE: Final = (
    # Of a row with `released`: which envelope it is, by whose key, and where that stands among the key's statements.
    "ALTER TABLE observations ADD COLUMN release_id BLOB",
    "ALTER TABLE observations ADD COLUMN release_key BLOB",
    "ALTER TABLE observations ADD COLUMN release_seq INTEGER",
    "UPDATE observations SET checked_key = NULL WHERE released",
    # The greatest seq ever seen of each key. `counted`: it has not expired, as far as releases have been judged by it.
    """
    CREATE TABLE heads (
        source_id TEXT NOT NULL,
        identity_key BLOB NOT NULL,
        release_key BLOB NOT NULL,
        raw BLOB NOT NULL,
        root BLOB NOT NULL,
        count INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        counted INTEGER NOT NULL,
        PRIMARY KEY (source_id, release_key)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX heads_by_expiry ON heads (expires_at) WHERE counted",
    "ALTER TABLE sources ADD COLUMN origin_bound INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE sources ADD COLUMN trust_explained TEXT NOT NULL DEFAULT '[]'",
    # `signed_sha256`: the digest with which this version was covered by a release that counted.
    "ALTER TABLE releases ADD COLUMN signed_sha256 BLOB",
    "ALTER TABLE releases ADD COLUMN held_back TEXT",
    """
    CREATE INDEX releases_provisional ON releases (source_id) WHERE backed AND backed_by IN ('pin', 'depth')
    """,
    # From which version on a plugin is signed: what comes after it and is not is held back.
    """
    CREATE TABLE signed_since (
        source_id TEXT NOT NULL,
        plugin_id TEXT NOT NULL,
        version TEXT NOT NULL,
        PRIMARY KEY (source_id, plugin_id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE approvals (
        source_id TEXT NOT NULL,
        plugin_id TEXT NOT NULL,
        version TEXT NOT NULL,
        sha256 BLOB NOT NULL,
        approved_at INTEGER NOT NULL,
        PRIMARY KEY (source_id, plugin_id, version, sha256)
    ) STRICT, WITHOUT ROWID
    """,
    # What was drawn for a provisional digest. `due` is null once it was fetched, or if that is left to others.
    """
    CREATE TABLE refetches (
        source_id TEXT NOT NULL,
        plugin_id TEXT NOT NULL,
        version TEXT NOT NULL,
        sha256 BLOB NOT NULL,
        due INTEGER,
        disputed INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (source_id, plugin_id, version)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX refetches_by_due ON refetches (due) WHERE due IS NOT NULL",
    # Everything is judged again at the next start.
    "DELETE FROM facts WHERE name = 'trust_depth'",
)

CONVICTIONS: Final = (
    """
    CREATE TABLE convictions (
        node_id BLOB PRIMARY KEY,
        announcement_id BLOB NOT NULL,
        told TEXT NOT NULL,
        first BLOB NOT NULL,
        second BLOB NOT NULL,
        admitted INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX convictions_by_announcement ON convictions (announcement_id)",
    "CREATE INDEX versions_by_slot ON announcements (author, subject) WHERE kind = 'version'",
)

# `void`: two different ones were seen. `heir`: of a key that was succeeded (`moved_at`), who has its name now.
SUCCESSIONS: Final = (
    """
    CREATE TABLE node_commitments (
        author BLOB PRIMARY KEY,
        hash BLOB NOT NULL,
        first_seen INTEGER NOT NULL,
        void INTEGER NOT NULL DEFAULT 0,
        announcement_id BLOB NOT NULL
    ) STRICT
    """,
    "CREATE INDEX node_commitments_by_announcement ON node_commitments (announcement_id)",
    """
    CREATE TABLE node_successions (
        old BLOB PRIMARY KEY,
        new BLOB NOT NULL,
        heir BLOB NOT NULL,
        first_seen INTEGER NOT NULL,
        void INTEGER NOT NULL DEFAULT 0,
        moved_at INTEGER
    ) STRICT
    """,
    "CREATE INDEX node_successions_by_heir ON node_successions (heir)",
)

# `oracle_in_force`: what this node found; else the worst that pinned nodes found, of whom one that cannot prove the key
# (any more) may warn of it, and not clear it.
ORACLE_OF_ATTESTATIONS: Final = (
    """
    ALTER TABLE attestations
    ADD COLUMN oracle TEXT NOT NULL DEFAULT '' CHECK (oracle IN ('', 'none', 'utf8', 'raw'))
    """,
    # Their form has changed: the old one can be neither read nor sent on. They are told anew with every verification.
    "DELETE FROM announcements WHERE kind = 'source'",
    "DELETE FROM attestations",
    "DROP VIEW known_sources",
    """
    CREATE VIEW known_sources AS
    SELECT sources.*, EXISTS (
        SELECT 1 FROM attestations JOIN peers ON peers.node_id = attestations.observer
        WHERE attestations.source_id = sources.id AND attestations.public_key = sources.key_raw
          AND attestations.verified AND attestations.admitted AND peers.pinned AND NOT peers.blocked
    ) AS attested, coalesce(sources.oracle, (
        SELECT attestations.oracle FROM attestations JOIN peers ON peers.node_id = attestations.observer
        WHERE attestations.source_id = sources.id AND attestations.public_key = sources.key_raw
          AND attestations.admitted AND peers.pinned AND NOT peers.blocked
          AND (attestations.oracle = 'raw' OR attestations.verified AND attestations.oracle <> '')
        ORDER BY CASE attestations.oracle WHEN 'raw' THEN 0 WHEN 'utf8' THEN 1 ELSE 2 END LIMIT 1
    )) AS oracle_in_force
    FROM sources
    """,
)
