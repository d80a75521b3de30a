"""Publishers as this node knows them, and the record of how they proved their key and answered.

`key_raw` and `host` are derived from `public_key` and `id`, and only ever written beside them; so is `oracle_key`, the
key that was probed, beside `oracle`. Whatever changes how far a source's key counts makes this room judge the source's
releases again, in the same transaction.
"""

import json
from typing import Any, Final

import sqlite_utils

from pfn_node.store import releases
from pfn_node.store.database import StoreError
from pfn_node.store.facts import own_id
from pfn_node.store.freshness import is_stale
from pfn_node.store.queries import Row, change, select, select_one, storable, to_json, value
from pfn_node.store.rows import HealthCheck, Source, SourceSummary, Verification
from pfn_node.store.statements_kept import forget_statements, note_relied_on
from pfn_protocol.identity import parse_public_key

# Two years of daily verifications; the trust score reads 90 days.
VERIFICATIONS_MAX: Final = 800
# A month of checks every five minutes.
HEALTH_CHECKS_MAX: Final = 9_000
DETAILS_CHARACTERS_MAX: Final = 2_000
_DAY_SECONDS: Final = 86_400

_COLUMNS: Final = frozenset(
    {
        "instance_url",
        "public_key",
        "status",
        "trust_score",
        "last_sync",
        "asset_domain",
        "asset_naming_scheme",
        "registered",
        "allow_unsigned",
        "oracle",
        "verified_at",
        "trust",
        "trust_explained",
        "origin_bound",
        "created_at",
    }
)


class SourceExists(StoreError):
    """A source with this id, or with this instance URL and username, is there already."""


def host_of(source_id: str) -> str:
    """Return the host (with its port, where the id has one) of `username@host`."""
    return source_id.partition("@")[2]


def source_from(row: Row) -> Source:
    """Make a `Source` of a row of the view `known_sources`."""
    is_probed = row["oracle_key"] == row["key_raw"]
    return Source(
        id=row["id"],
        instance_url=row["instance_url"],
        username=row["username"],
        public_key=row["public_key"],
        status=row["status"],
        trust_score=row["trust_score"],
        created_at=row["created_at"],
        last_sync=row["last_sync"],
        asset_domain=row["asset_domain"],
        asset_naming_scheme=row["asset_naming_scheme"],
        registered=bool(row["registered"]),
        allow_unsigned=bool(row["allow_unsigned"]),
        oracle=row["oracle"] if is_probed else None,
        verified_at=row["verified_at"],
        attested=bool(row["attested"]),
        trust=json.loads(row["trust"]),
        oracle_in_force=row["oracle_in_force"],
        origin_bound=bool(row["origin_bound"]),
        trust_explained=tuple(json.loads(row["trust_explained"])),
        former_oracle=None if is_probed else row["oracle"],
    )


def get_source(db: sqlite_utils.Database, source_id: str) -> Source | None:
    """Return the source with this id, also one that is only discovered."""
    row = select_one(db, "SELECT * FROM known_sources WHERE id = ?", (source_id,))
    return None if row is None else source_from(row)


def find_source_by_url(db: sqlite_utils.Database, instance_url: str, username: str) -> Source | None:
    """Return the source with this normalised instance URL and username."""
    row = select_one(
        db, "SELECT * FROM known_sources WHERE instance_url = ? AND username = ?", (instance_url, username)
    )
    return None if row is None else source_from(row)


def sources_of_host(db: sqlite_utils.Database, host: str) -> list[Source]:
    """Return the sources whose id ends in this host (written as in the id: with the port where that has one)."""
    return [source_from(row) for row in select(db, "SELECT * FROM known_sources WHERE host = ? ORDER BY id", (host,))]


def list_sources(
    db: sqlite_utils.Database,
    status: str | None = None,
    q: str | None = None,
    limit: int = 100,
    offset: int = 0,
    include_discovered: bool = False,
) -> list[Source]:
    """Return sources in the order of their ids; discovered ones only if `status` or `include_discovered` asks for them.

    `q` is looked for in id and instance URL, without regard to ASCII case.
    """
    rows = select(
        db,
        """
        SELECT * FROM known_sources
        WHERE (:status IS NULL OR status = :status)
          AND (:discovered OR status <> 'discovered')
          AND (:q IS NULL OR instr(lower(id), lower(:q)) OR instr(lower(instance_url), lower(:q)))
        ORDER BY id LIMIT :limit OFFSET :offset
        """,
        {
            "status": status,
            "discovered": include_discovered or status == "discovered",
            "q": q,
            "limit": limit,
            "offset": offset,
        },
    )
    return [source_from(row) for row in rows]


def insert_source(
    db: sqlite_utils.Database,
    *,
    id: str,
    instance_url: str,
    username: str,
    public_key: str,
    created_at: int,
    status: str = "pending",
    asset_domain: str | None = None,
    asset_naming_scheme: str | None = None,
    registered: bool = True,
    allow_unsigned: bool = False,
) -> Source:
    """Add a source; `public_key` is PEM. Raise `SourceExists` if it is known, `Refusal` if the key is none."""
    taken = value(
        db, "SELECT id FROM sources WHERE id = ? OR (instance_url = ? AND username = ?)", (id, instance_url, username)
    )
    if taken is not None:
        raise SourceExists(f"{taken} is known already; change it with update-source")
    change(
        db,
        """
        INSERT INTO sources (id, instance_url, username, public_key, status, created_at, asset_domain,
                             asset_naming_scheme, key_raw, host, registered, allow_unsigned)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            id,
            instance_url,
            username,
            public_key,
            status,
            created_at,
            asset_domain,
            asset_naming_scheme,
            parse_public_key(public_key),
            host_of(id),
            registered,
            allow_unsigned,
        ),
    )
    releases.refresh_source(db, id)
    return _known(db, id)


def update_source(db: sqlite_utils.Database, source_id: str, **columns: Any) -> Source:
    """Change the named columns; judge the source's releases again if its standing changed.

    Raise `StoreError` if the source is unknown, `SourceExists` if the new instance URL is another source's.
    """
    unknown = columns.keys() - _COLUMNS
    assert not unknown, f"no such columns of a source: {sorted(unknown)}"
    before = _known(db, source_id)
    changes = dict(columns)
    if "public_key" in changes:
        changes["key_raw"] = parse_public_key(changes["public_key"])
    if "oracle" in changes:
        key = changes.get("key_raw") or parse_public_key(before.public_key)
        changes["oracle_key"] = None if changes["oracle"] is None else key
    for column in changes.keys() & {"trust", "trust_explained"}:
        changes[column] = to_json(changes[column])
    if "instance_url" in changes:
        other = find_source_by_url(db, changes["instance_url"], before.username)
        if other is not None and other.id != source_id:
            raise SourceExists(f"{changes['instance_url']} already belongs to {other.id}")
    if changes:
        db.table("sources").update(source_id, changes)
    after = _known(db, source_id)
    if _standing(after) != _standing(before):
        releases.refresh_source(db, source_id)
    return after


def delete_source(db: sqlite_utils.Database, source_id: str, purge: bool) -> bool:
    """Stop dealing with a source; return whether it was known.

    Its subscriptions, failures, verifications and health checks go. Without `purge` what is mirrored stays and is
    served, and the source becomes a discovered one if anything is left of it. With `purge` everything that this node
    itself saw of it goes too; what other nodes say about it remains theirs to say. What its publisher signed about its
    keys and releases stays if it was relied on.
    """
    if value(db, "SELECT 1 FROM sources WHERE id = ?", (source_id,)) is None:
        return False
    note_relied_on(db, source_id)
    for statement in _FORGET_DEALINGS:
        change(db, statement, (source_id,))
    if purge:
        change(db, "DELETE FROM observations WHERE source_id = ? AND observer = ?", (source_id, own_id(db)))
        for statement in _FORGET_MIRRORED:
            change(db, statement, (source_id,))
        change(db, "DELETE FROM sources WHERE id = ?", (source_id,))
    else:
        change(
            db, "UPDATE sources SET status = 'discovered', registered = 0, trust_score = 0 WHERE id = ?", (source_id,)
        )
        change(
            db,
            """
            DELETE FROM sources WHERE id = :id
              AND NOT EXISTS (SELECT 1 FROM observations WHERE source_id = :id)
              AND NOT EXISTS (SELECT 1 FROM attestations WHERE source_id = :id)
            """,
            {"id": source_id},
        )
    if value(db, "SELECT 1 FROM sources WHERE id = ?", (source_id,)) is None:
        forget_statements(db, source_id)
    releases.refresh_source(db, source_id)
    return True


_FORGET_DEALINGS: Final = (
    "DELETE FROM subscriptions WHERE source_id = ?",
    "DELETE FROM sync_failures WHERE source_id = ?",
    "DELETE FROM source_verifications WHERE source_id = ?",
    "DELETE FROM health_checks WHERE source_id = ?",
    "DELETE FROM slug_owners WHERE source_id = ?",
    "DELETE FROM facts WHERE name = 'skipped:' || ?",  # what its last sync left out (sources/standing.py)
)
_FORGET_MIRRORED: Final = (
    "DELETE FROM mirrored_plugins WHERE source_id = ?",
    "DELETE FROM version_updates WHERE source_id = ?",
    "UPDATE releases SET held_sha256 = NULL WHERE source_id = ?",
)


def summary_of(db: sqlite_utils.Database, source_id: str, now: int) -> SourceSummary:
    """Return the counts and averages that lists show beside a source; `now` in seconds."""
    row = select_one(
        db,
        """
        SELECT
            (SELECT count(*) FROM subscriptions WHERE source_id = :id) AS subscribers,
            (SELECT count(*) FROM plugins WHERE source_id = :id) AS plugins,
            (SELECT result FROM source_verifications WHERE source_id = :id ORDER BY id DESC LIMIT 1) AS result,
            (SELECT count(*) FROM source_verifications WHERE source_id = :id AND result = 'success') AS successes,
            (SELECT avg(seconds) FROM health_checks
             WHERE source_id = :id AND ok AND checked_at > :since) AS seconds,
            (SELECT ok FROM health_checks WHERE source_id = :id ORDER BY checked_at DESC, id DESC LIMIT 1) AS ok
        """,
        {"id": source_id, "since": now - _DAY_SECONDS},
    )
    assert row is not None
    return SourceSummary(
        subscriber_count=row["subscribers"],
        plugin_count=row["plugins"],
        last_verification_result=row["result"],
        successful_verifications=row["successes"],
        response_time_avg=row["seconds"],
        healthy=None if row["ok"] is None else bool(row["ok"]),
        stale=is_stale(db, source_id, now),
    )


def record_verification(
    db: sqlite_utils.Database,
    source_id: str,
    verifier: str,
    type: str,
    result: str,
    details: str | None,
    at: int,
) -> Verification:
    """Keep how a verification went. `type`: initial, periodic, manual; `result`: success, failure; `at` in seconds."""
    details = None if details is None else storable(details, DETAILS_CHARACTERS_MAX)
    cursor = db.execute(
        """
        INSERT INTO source_verifications (source_id, verifier, verification_type, result, details, verified_at)
        VALUES (?, ?, ?, ?, ?, ?)
        """,
        (source_id, verifier, type, result, details, at),
    )
    assert cursor.lastrowid is not None
    change(
        db,
        """
        DELETE FROM source_verifications WHERE source_id = :source AND id <= (
            SELECT id FROM source_verifications WHERE source_id = :source ORDER BY id DESC LIMIT 1 OFFSET :kept)
        """,
        {"source": source_id, "kept": VERIFICATIONS_MAX},
    )
    return Verification(cursor.lastrowid, source_id, verifier, type, result, details, at)


def verifications(db: sqlite_utils.Database, source_id: str, limit: int = 100) -> list[Verification]:
    """Return the verifications of a source, newest first."""
    rows = select(
        db, "SELECT * FROM source_verifications WHERE source_id = ? ORDER BY id DESC LIMIT ?", (source_id, limit)
    )
    return [Verification(**row) for row in rows]


def record_health(db: sqlite_utils.Database, check: HealthCheck) -> None:
    """Keep whether a publisher answered, and how fast."""
    change(
        db,
        "INSERT INTO health_checks (source_id, ok, seconds, details, checked_at) VALUES (?, ?, ?, ?, ?)",
        (
            check.source_id,
            check.ok,
            check.seconds,
            None if check.details is None else storable(check.details, DETAILS_CHARACTERS_MAX),
            check.checked_at,
        ),
    )
    change(
        db,
        """
        DELETE FROM health_checks WHERE source_id = :source AND checked_at < (
            SELECT checked_at FROM health_checks WHERE source_id = :source
            ORDER BY checked_at DESC LIMIT 1 OFFSET :kept)
        """,
        {"source": check.source_id, "kept": HEALTH_CHECKS_MAX},
    )


def health_checks(db: sqlite_utils.Database, source_id: str, since: int = 0) -> list[HealthCheck]:
    """Return the health checks of a source from a time (seconds) on, newest first."""
    rows = select(
        db,
        """
        SELECT source_id, ok, seconds, details, checked_at FROM health_checks
        WHERE source_id = ? AND checked_at >= ? ORDER BY checked_at DESC, id DESC LIMIT ?
        """,
        (source_id, since, HEALTH_CHECKS_MAX),
    )
    return [HealthCheck(**{**row, "ok": bool(row["ok"])}) for row in rows]


def _standing(source: Source) -> tuple[str, bool, bool, bool, bool]:
    """What decides how far the releases of a source are believed."""
    return (
        source.public_key,
        source.key_known,
        source.status == "revoked",
        source.signs_no_raw_bytes,
        source.origin_bound,
    )


def _known(db: sqlite_utils.Database, source_id: str) -> Source:
    source = get_source(db, source_id)
    if source is None:
        raise StoreError(f"the source {source_id} is not known here; add it with add-source")
    return source
