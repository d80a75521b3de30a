"""The tables, as migrations in the order in which they were made. A migration that was released is never edited.

The first tables are the original node's, with its column names, so that whoever knows that database knows this one;
what is ours besides stands after them. Digests, keys and ids of announcements are raw bytes; times are seconds since
1970; lists are JSON text. Every table is STRICT: a value of the wrong kind is an error here, not a surprise later.

What peers said (`observations`, `attestations`, `mirror_claims`, `node_claims`) is kept beside what this node
concludes from it (`releases`, `plugins`), so that a conclusion can always be drawn again from the evidence
(releases.py).
"""

from typing import Final

import sqlite_utils
from sqlite_utils import Migrations

from pfn_node.store.schema_access import AUDIT_AND_SESSIONS
from pfn_node.store.schema_assurance import ASSURANCE, CONVICTIONS, ORACLE_OF_ATTESTATIONS, SUCCESSIONS
from pfn_node.store.schema_catalogue import CATALOGUE_PAGES
from pfn_node.store.schema_composer import add_composer
from pfn_node.store.schema_notices import NOTICE_TABLES, RELIED_SOURCES

migrations: Final = Migrations("node")

_ORIGINAL_TABLES: Final = (
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

_NODE_TABLES: Final = (
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

_ANNOUNCEMENT_TABLES: Final = (
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

_CATALOGUE_TABLES: Final = (
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


@migrations()
def m001_first_tables(db: sqlite_utils.Database) -> None:
    """Everything that the first release knows."""
    for statement in (*_ORIGINAL_TABLES, *_NODE_TABLES, *_ANNOUNCEMENT_TABLES, *_CATALOGUE_TABLES):
        db.execute(statement)


@migrations()
def m002_oracle_of_attestations(db: sqlite_utils.Database) -> None:
    """What pinned nodes found that a publisher signs for anybody, beside what they say of its key."""
    for statement in ORACLE_OF_ATTESTATIONS:
        db.execute(statement)


@migrations()
def m003_audit_and_sessions(db: sqlite_utils.Database) -> None:
    """What was done with keys and by whom; sessions of the web interface, each bound to a key."""
    for statement in AUDIT_AND_SESSIONS:
        db.execute(statement)


@migrations()
def m004_assurance(db: sqlite_utils.Database) -> None:
    """Heads, origins that were bound, levels that are kept to, and digests that are looked at again."""
    for statement in ASSURANCE:
        db.execute(statement)


@migrations()
def m005_convictions(db: sqlite_utils.Database) -> None:
    """Who was proved to have told two stories, and by what; a version slot's other announcement is looked for."""
    for statement in CONVICTIONS:
        db.execute(statement)


@migrations()
def m006_notices(db: sqlite_utils.Database) -> None:
    """What publishers and nodes say about keys and about releases that are out."""
    for statement in NOTICE_TABLES:
        db.execute(statement)


@migrations()
def m007_introduced_peers(db: sqlite_utils.Database) -> None:
    """Whom the operator's own nodes named, which no flood of other addresses pushes out."""
    db.execute("ALTER TABLE peers ADD COLUMN introduced INTEGER NOT NULL DEFAULT 0")


@migrations()
def m008_catalogue_pages(db: sqlite_utils.Database) -> None:
    """What pages of the catalogue look up and sort by."""
    for statement in CATALOGUE_PAGES:
        db.execute(statement)


@migrations()
def m009_mirror_claims_by_node(db: sqlite_utils.Database) -> None:
    """What one node holds, for those who look at the mesh; counted from the index alone."""
    db.execute("CREATE INDEX mirror_claims_by_node ON mirror_claims (node_id, admitted, expires_at, count)")


@migrations()
def m010_relied_sources(db: sqlite_utils.Database) -> None:
    """Of which sources that are gone the keys are remembered; what was kept of the others goes."""
    for statement in RELIED_SOURCES:
        db.execute(statement)


@migrations()
def m011_overviews(db: sqlite_utils.Database) -> None:
    """What an administrator looks over is found without reading whole tables (overview.py, activity.py)."""
    db.execute("CREATE INDEX activity_by_source ON activity (source_id, id)")
    db.execute("CREATE INDEX releases_held_back ON releases (observed_at) WHERE held_back IS NOT NULL")
    db.execute("CREATE INDEX releases_unbacked ON releases (observed_at) WHERE NOT backed")
    db.execute("CREATE INDEX releases_mirrored ON releases (source_id, size) WHERE mirrored")


@migrations()
def m012_node_successions(db: sqlite_utils.Database) -> None:
    """Which next key nodes committed to, and who took over the name of whom."""
    for statement in SUCCESSIONS:
        db.execute(statement)


@migrations()
def m013_composer(db: sqlite_utils.Database) -> None:
    """What Composer asks for: plugins by its names for them, other digests and headers of zips, and downloads."""
    add_composer(db)
