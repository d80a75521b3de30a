"""The tables, as migrations in the order in which they were made. A migration that was released is never edited.

The first tables are the original node's, with its column names, so that whoever knows that database knows this one;
what is ours besides stands after them. Digests, keys and ids of announcements are raw bytes; times are seconds since
1970; lists are JSON text. Every table is STRICT: a value of the wrong kind is an error here, not a surprise later.

What peers said (`observations`, `attestations`, `mirror_claims`, `node_claims`) is kept beside what this node
concludes from it (`releases`, `plugins`), so that a conclusion can always be drawn again from the evidence
(releases.py).
"""

import sqlite3
from typing import Final

import sqlite_utils
from sqlite_utils import Migrations

from pfn_node.store.schema_access import AUDIT_AND_SESSIONS
from pfn_node.store.schema_assurance import ASSURANCE, CONVICTIONS, ORACLE_OF_ATTESTATIONS, SUCCESSIONS
from pfn_node.store.schema_catalogue import CATALOGUE_PAGES
from pfn_node.store.schema_composer import add_composer
from pfn_node.store.schema_concluding import CONCLUDING
from pfn_node.store.schema_fair import FAIR
from pfn_node.store.schema_feeds import add_feeds
from pfn_node.store.schema_first import ANNOUNCEMENT_TABLES, CATALOGUE_TABLES, NODE_TABLES, ORIGINAL_TABLES
from pfn_node.store.schema_moments import MOMENTS
from pfn_node.store.schema_notices import NOTICE_TABLES, RELIED_SOURCES
from pfn_node.store.schema_restarts import RESTARTS
from pfn_node.store.schema_webhooks import add_webhooks

migrations: Final = Migrations("node")


@migrations()
def m001_first_tables(db: sqlite_utils.Database) -> None:
    """Everything that the first release knows."""
    for statement in (*ORIGINAL_TABLES, *NODE_TABLES, *ANNOUNCEMENT_TABLES, *CATALOGUE_TABLES):
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


@migrations()
def m014_feeds(db: sqlite_utils.Database) -> None:
    """Plugins in the order in which they changed, and news of them: for feeds, mirrors of the catalogue and hooks."""
    add_feeds(db)


@migrations()
def m015_webhooks(db: sqlite_utils.Database) -> None:
    """Whom to tell of news, and the queue and log of what they are told."""
    add_webhooks(db)


@migrations()
def m016_fair(db: sqlite_utils.Database) -> None:
    """Which DID a zip names, for FAIR's view; zips are read once more, since that was not looked at before."""
    for statement in FAIR:
        db.execute(statement)


@migrations()
def m017_concluding(db: sqlite_utils.Database) -> None:
    """Which announcements were kept in bulk, and have not been concluded yet."""
    for statement in CONCLUDING:
        db.execute(statement)


@migrations()
def m018_moments(db: sqlite_utils.Database) -> None:
    """Since when the evidence of observations is known, and which key of a source was probed."""
    for statement in MOMENTS:
        db.execute(statement)


@migrations()
def m019_restarts(db: sqlite_utils.Database) -> None:
    """What a version states and replaces, and sums of ids: a start reads a million of them."""
    for statement in RESTARTS:
        db.execute(statement)


def unknown_migrations(connection: sqlite3.Connection) -> list[str]:
    """The names of migrations that a database has had and this version does not know: a newer one wrote it."""
    empty = sqlite_utils.Database(memory=True, execute_plugins=False)
    known = {migration.name for migration in migrations.pending(empty)}
    empty.close()
    db = sqlite_utils.Database(connection, execute_plugins=False)
    return sorted({migration.name for migration in migrations.applied(db)} - known)
