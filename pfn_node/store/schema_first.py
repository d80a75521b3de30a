"""The tables of the first release: the original node's, then ours, what peers said, and the catalogue of it."""

from typing import Final

ORIGINAL_TABLES: Final = (
    """
    CREATE TABLE sources (
        id TEXT PRIMARY KEY,
        instance_url TEXT NOT NULL,
        username TEXT NOT NULL,
        public_key TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('pending', 'discovered', 'verified', 'error', 'conflict', 'revoked')),
        trust_score REAL NOT NULL DEFAULT 0,
        created_at INTEGER NOT NULL,
        last_sync INTEGER,
        asset_domain TEXT,
        asset_naming_scheme TEXT,
        key_raw BLOB NOT NULL,
        host TEXT NOT NULL,
        registered INTEGER NOT NULL DEFAULT 0,
        allow_unsigned INTEGER NOT NULL DEFAULT 0,
        oracle TEXT CHECK (oracle IN ('none', 'utf8', 'raw')),
        verified_at INTEGER,
        trust TEXT NOT NULL DEFAULT '{}',
        UNIQUE (instance_url, username)
    ) STRICT
    """,
    "CREATE INDEX sources_by_host ON sources (host)",
    "CREATE INDEX sources_by_status ON sources (status, id)",
    """
    CREATE TABLE source_verifications (
        id INTEGER PRIMARY KEY,
        source_id TEXT NOT NULL REFERENCES sources (id) ON DELETE CASCADE,
        verifier TEXT NOT NULL,
        verification_type TEXT NOT NULL CHECK (verification_type IN ('initial', 'periodic', 'manual')),
        result TEXT NOT NULL,
        details TEXT,
        verified_at INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX source_verifications_by_source ON source_verifications (source_id, id)",
    """
    CREATE TABLE version_updates (
        id INTEGER PRIMARY KEY,
        plugin_id TEXT NOT NULL,
        source_id TEXT NOT NULL,
        old_version TEXT NOT NULL,
        new_version TEXT NOT NULL,
        update_time INTEGER NOT NULL,
        notified INTEGER NOT NULL DEFAULT 0,
        UNIQUE (source_id, plugin_id, new_version)
    ) STRICT
    """,
    """
    CREATE TABLE mirrored_plugins (
        id INTEGER PRIMARY KEY,
        plugin_id TEXT NOT NULL,
        source_id TEXT NOT NULL,
        name TEXT NOT NULL,
        version TEXT NOT NULL,
        description TEXT,
        local_path TEXT NOT NULL,
        signature TEXT,
        mirror_date INTEGER NOT NULL,
        UNIQUE (plugin_id, source_id, version)
    ) STRICT
    """,
    "CREATE INDEX mirrored_plugins_by_source ON mirrored_plugins (source_id, plugin_id)",
    """
    CREATE TABLE subscriptions (
        id INTEGER PRIMARY KEY,
        source_id TEXT NOT NULL REFERENCES sources (id) ON DELETE CASCADE,
        subscriber TEXT NOT NULL,
        filters TEXT NOT NULL DEFAULT '{}',
        created_at INTEGER NOT NULL,
        UNIQUE (source_id, subscriber)
    ) STRICT
    """,
    "CREATE INDEX subscriptions_by_subscriber ON subscriptions (subscriber)",
    """
    CREATE TABLE sync_failures (
        id INTEGER PRIMARY KEY,
        source_id TEXT NOT NULL REFERENCES sources (id) ON DELETE CASCADE,
        error_message TEXT NOT NULL,
        retry_count INTEGER NOT NULL,
        next_retry INTEGER NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX sync_failures_by_source ON sync_failures (source_id, id)",
)

NODE_TABLES: Final = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    """
    CREATE TABLE health_checks (
        id INTEGER PRIMARY KEY,
        source_id TEXT NOT NULL REFERENCES sources (id) ON DELETE CASCADE,
        ok INTEGER NOT NULL,
        seconds REAL,
        details TEXT,
        checked_at INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX health_checks_by_source ON health_checks (source_id, checked_at)",
    # AUTOINCREMENT: the id is the cursor of event streams, and must never be used twice.
    """
    CREATE TABLE activity (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        type TEXT NOT NULL,
        source_id TEXT,
        plugin_id TEXT,
        plugin_name TEXT,
        source_username TEXT,
        old_version TEXT,
        new_version TEXT,
        message TEXT NOT NULL,
        timestamp INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX activity_by_type ON activity (type, id)",
    """
    CREATE TABLE api_keys (
        id TEXT PRIMARY KEY,
        secret_hash BLOB NOT NULL,
        description TEXT NOT NULL,
        scopes TEXT NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER,
        last_used INTEGER,
        revoked INTEGER
    ) STRICT
    """,
    """
    CREATE TABLE peers (
        node_id BLOB PRIMARY KEY,
        url TEXT,
        joined INTEGER NOT NULL DEFAULT 0,
        pinned INTEGER NOT NULL DEFAULT 0,
        provisional INTEGER NOT NULL DEFAULT 0,
        blocked INTEGER NOT NULL DEFAULT 0,
        unpinned INTEGER NOT NULL DEFAULT 0,
        last_seen INTEGER
    ) STRICT
    """,
    "CREATE INDEX peers_by_last_seen ON peers (last_seen)",
    "CREATE TABLE join_targets (url TEXT PRIMARY KEY, node_id BLOB) STRICT",
    "CREATE TABLE slug_owners (slug TEXT PRIMARY KEY, source_id TEXT NOT NULL) STRICT",
)

ANNOUNCEMENT_TABLES: Final = (
    # `place` says where one stands: in the set, parked beside it, or kept only as evidence for bytes held here.
    """
    CREATE TABLE announcements (
        id BLOB PRIMARY KEY,
        raw BLOB NOT NULL,
        author BLOB NOT NULL,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        place TEXT NOT NULL CHECK (place IN ('set', 'parked', 'evidence')),
        received_at INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX announcements_by_author ON announcements (author, epoch, seq)",
    "CREATE INDEX announcements_by_place ON announcements (place)",
    """
    CREATE TABLE attestations (
        source_id TEXT NOT NULL,
        observer BLOB NOT NULL,
        public_key BLOB NOT NULL,
        verified INTEGER NOT NULL,
        verified_at INTEGER NOT NULL,
        instance_url TEXT NOT NULL,
        username TEXT NOT NULL,
        asset_domain TEXT NOT NULL,
        asset_naming_scheme TEXT NOT NULL,
        announcement_id BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        admitted INTEGER NOT NULL,
        received_at INTEGER NOT NULL,
        PRIMARY KEY (source_id, observer)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX attestations_by_observer ON attestations (observer)",
    "CREATE INDEX attestations_by_announcement ON attestations (announcement_id)",
    """
    CREATE TABLE mirror_claims (
        source_id TEXT NOT NULL,
        node_id BLOB NOT NULL,
        count INTEGER NOT NULL,
        digest BLOB NOT NULL,
        announcement_id BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        admitted INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        PRIMARY KEY (source_id, node_id)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX mirror_claims_by_announcement ON mirror_claims (announcement_id)",
    """
    CREATE TABLE node_claims (
        node_id BLOB PRIMARY KEY,
        url TEXT NOT NULL,
        software TEXT NOT NULL,
        pins BLOB NOT NULL,
        departed INTEGER NOT NULL,
        announcement_id BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        admitted INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX node_claims_by_announcement ON node_claims (announcement_id)",
    """
    CREATE VIEW known_sources AS
    SELECT sources.*, EXISTS (
        SELECT 1 FROM attestations JOIN peers ON peers.node_id = attestations.observer
        WHERE attestations.source_id = sources.id AND attestations.public_key = sources.key_raw
          AND attestations.verified AND attestations.admitted AND peers.pinned AND NOT peers.blocked
    ) AS attested
    FROM sources
    """,
)

CATALOGUE_TABLES: Final = (
    # One row for each digest that an observer saw under a version: a second digest is evidence too.
    """
    CREATE TABLE observations (
        source_id TEXT NOT NULL,
        plugin_id TEXT NOT NULL,
        version TEXT NOT NULL,
        observer BLOB NOT NULL,
        sha256 BLOB NOT NULL,
        size INTEGER NOT NULL,
        name TEXT NOT NULL,
        description TEXT,
        tags TEXT NOT NULL,
        type TEXT NOT NULL,
        icons TEXT NOT NULL,
        evidence BLOB NOT NULL,
        observed_at INTEGER NOT NULL,
        received_at INTEGER NOT NULL,
        announcement_id BLOB,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        admitted INTEGER NOT NULL,
        retained INTEGER NOT NULL DEFAULT 0,
        standing INTEGER NOT NULL DEFAULT 0,
        checked_key BLOB,
        signed INTEGER,
        released INTEGER NOT NULL DEFAULT 0,
        vouched INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (source_id, plugin_id, version, observer, sha256)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX observations_by_announcement ON observations (announcement_id)",
    "CREATE INDEX observations_by_observer ON observations (observer)",
    "CREATE INDEX observations_by_digest ON observations (sha256)",
    "CREATE TABLE artifacts (sha256 BLOB PRIMARY KEY, stored_at INTEGER NOT NULL, cached INTEGER NOT NULL) STRICT",
    """
    CREATE TABLE releases (
        source_id TEXT NOT NULL,
        plugin_id TEXT NOT NULL,
        version TEXT NOT NULL,
        type TEXT NOT NULL,
        name TEXT NOT NULL,
        description TEXT,
        tags TEXT NOT NULL,
        sha256 BLOB,
        size INTEGER NOT NULL,
        assurance TEXT NOT NULL,
        backed INTEGER NOT NULL,
        mirrored INTEGER NOT NULL,
        conflict INTEGER NOT NULL,
        disputed_by TEXT NOT NULL,
        reported_by TEXT NOT NULL,
        backed_by TEXT,
        icons TEXT NOT NULL,
        observed_at INTEGER NOT NULL,
        held_sha256 BLOB,
        PRIMARY KEY (source_id, plugin_id, version)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX releases_by_digest ON releases (sha256)",
    # AUTOINCREMENT: a plugin whose newest version changes gets a new id, so that ids run in the order of change.
    """
    CREATE TABLE plugins (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        source_id TEXT NOT NULL,
        plugin_id TEXT NOT NULL,
        version TEXT NOT NULL,
        reported_version TEXT,
        versions INTEGER NOT NULL,
        type TEXT NOT NULL,
        name_key TEXT NOT NULL,
        assurance_rank INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        UNIQUE (source_id, plugin_id)
    ) STRICT
    """,
    "CREATE INDEX plugins_by_time ON plugins (updated_at, id)",
    "CREATE INDEX plugins_by_name ON plugins (name_key, id)",
    """
    CREATE TABLE plugin_tags (
        tag TEXT NOT NULL,
        plugin INTEGER NOT NULL REFERENCES plugins (id) ON DELETE CASCADE,
        PRIMARY KEY (tag, plugin)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX plugin_tags_by_plugin ON plugin_tags (plugin)",
    """
    CREATE VIRTUAL TABLE plugin_texts USING fts5 (
        name, description, tags, plugin_id, username, tokenize = 'unicode61', prefix = '2 3'
    )
    """,
)
