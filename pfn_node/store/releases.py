"""From what was seen to what is said: every version is judged from its observations, and the conclusions are stored.

`releases` and `plugins` are nothing but conclusions: whatever changes the evidence (an announcement, a pin, a
source's key, bytes that come or go) judges again what rests on it, in the same transaction, so that those who read
never judge.

A version is write-once here too. The publisher may put other bytes under a version that this node has seen: the first
digest stays, the second is kept as evidence of the conflict, and the operator is told.
"""

from collections.abc import Collection
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final

import sqlite_utils

from pfn_node.store.advised import Advisories, advisories_by_version
from pfn_node.store.counting import first_counted
from pfn_node.store.evidence import TextLookup, no_texts
from pfn_node.store.facts import own_id
from pfn_node.store.heads import expire, take_head, take_unchecked
from pfn_node.store.holding_back import SIGNED_LEVELS, note_signed, reason_to_hold_back
from pfn_node.store.listing import list_plugin
from pfn_node.store.mirrored import store_mirrored
from pfn_node.store.observations import (
    counted_observations,
    drop_retained,
    raise_standing,
    store_observation,
)
from pfn_node.store.queries import Row, change, select, select_one, to_json
from pfn_node.store.rewrites import report_conflict, report_rewrite
from pfn_node.store.rows import Observation
from pfn_node.store.safety import KeysThen, advisories_in_force, mark_release, tombstone
from pfn_node.store.sightings import sightings_of
from pfn_node.store.standpoint import Standpoint, pins_of, reached_over, standpoint
from pfn_protocol.announcements import Evidence, EvidenceForm
from pfn_protocol.backing import Judgement, Relation, Sighting, judge
from pfn_protocol.identity import did_key
from pfn_protocol.limits import witnesses_trusted_min

# Digests that are kept of one version's own observations: the first, and enough others to prove what was done.
OWN_DIGESTS_MAX: Final = 4


class Observed(StrEnum):
    """What an observation of this node's own was."""

    NEW = "new"
    KNOWN = "known"  # the same bytes as before
    CONFLICT = "conflict"  # other bytes under a version that was seen before: they are not to be served


def observe(
    db: sqlite_utils.Database, observation: Observation, *, stored: bool = True, now: int | None = None
) -> Observed:
    """Keep what this node itself fetched from the publisher; `stored`: the bytes are here (unless they conflict).

    `now` in seconds, needed where the bytes came from elsewhere (`observed_at` is 0).
    """
    own = own_id(db)
    now = observation.observed_at if now is None else now
    assert observation.observer == own, "only this node's own observation is made here"
    version = (observation.source_id, observation.plugin_id, observation.version)
    seen = select(
        db,
        """
        SELECT sha256, received_at FROM observations
        WHERE source_id = ? AND plugin_id = ? AND version = ? AND observer = ? ORDER BY received_at
        """,
        (*version, own),
    )
    outcome = Observed.NEW
    received_at = now
    if seen:
        outcome = Observed.KNOWN if seen[0]["sha256"] == observation.sha256 else Observed.CONFLICT
        # Strictly later, so that the first stays the first also where two came in one second.
        received_at = max(received_at, seen[-1]["received_at"] + 1)
    is_repeated = any(row["sha256"] == observation.sha256 for row in seen)
    if is_repeated or len(seen) < OWN_DIGESTS_MAX:
        store_observation(db, observation, epoch=0, seq=0, admitted=True, received_at=received_at)
        if outcome is Observed.CONFLICT and not is_repeated:
            report_rewrite(db, observation, now)
    if stored and outcome is not Observed.CONFLICT:
        _store_artifact(db, observation.sha256, now, cached=False)
    refresh_version(db, *version, now=now)
    take_heads(db, observation.source_id, observation.evidence, now)
    return outcome


def saw_other(db: sqlite_utils.Database, source_id: str, plugin_id: str, version: str, sha256: bytes) -> bool:
    """Whether this node saw other bytes under this version."""
    seen = select_one(
        db,
        """
        SELECT 1 FROM observations
        WHERE source_id = ? AND plugin_id = ? AND version = ? AND observer = ? AND sha256 != ? LIMIT 1
        """,
        (source_id, plugin_id, version, own_id(db), sha256),
    )
    return seen is not None


def take_heads(db: sqlite_utils.Database, source_id: str, evidence: tuple[Evidence, ...], now: int) -> None:
    """Keep the head that stands among evidence if it is the newest of its key, and judge again what it lifts."""
    pieces = {piece.form: piece.data for piece in evidence}
    head = pieces.get(EvidenceForm.HEAD)
    if head is not None:
        _judge_again(db, source_id, take_head(db, source_id, head, pieces.get(EvidenceForm.KEYBIND), now), now)


def expire_heads(db: sqlite_utils.Database, source_id: str, now: int) -> None:
    """Judge again what rested on heads of a source that have expired."""
    _judge_again(db, source_id, expire(db, source_id, now), now)


def _judge_again(db: sqlite_utils.Database, source_id: str, versions: list[tuple[str, str]], now: int) -> None:
    for plugin_id, version in versions:
        refresh_version(db, source_id, plugin_id, version, now=now)


def set_signed(
    db: sqlite_utils.Database,
    source_id: str,
    plugin_id: str,
    version: str,
    text: TextLookup,
) -> None:
    """Check evidence again whose signed text has arrived (as an artifact that `text` finds)."""
    point = standpoint(db, text=text)
    _refresh_version(db, point, source_id, plugin_id, version)
    list_plugin(db, source_id, plugin_id, point.now)


def refresh(
    db: sqlite_utils.Database,
    source_id: str,
    plugin_id: str,
    text: TextLookup = no_texts,
    *,
    point: Standpoint | None = None,
) -> None:
    """Judge every version of a plugin again."""
    point = point or standpoint(db, text=text)
    rows = select(
        db,
        """
        SELECT version FROM observations WHERE source_id = :source AND plugin_id = :plugin
        UNION SELECT version FROM releases WHERE source_id = :source AND plugin_id = :plugin
        """,
        {"source": source_id, "plugin": plugin_id},
    )
    refresh_versions(db, point, source_id, plugin_id, [row["version"] for row in rows])


def refresh_version(
    db: sqlite_utils.Database, source_id: str, plugin_id: str, version: str, *, now: int | None = None
) -> None:
    """Judge one version again, and what is listed of its plugin; `now` in seconds."""
    point = standpoint(db, now=now)
    _refresh_version(db, point, source_id, plugin_id, version)
    list_plugin(db, source_id, plugin_id, point.now)


def refresh_versions(
    db: sqlite_utils.Database, point: Standpoint, source_id: str, plugin_id: str, versions: Collection[str]
) -> None:
    """Judge these versions of a plugin again, and list it once for all of them."""
    about = advisories_by_version(advisories_in_force(db, source_id, plugin_id) if versions else [], versions)
    for version in versions:
        _refresh_version(db, point, source_id, plugin_id, version, about[version])
    list_plugin(db, source_id, plugin_id, point.now)


def refresh_source(
    db: sqlite_utils.Database, source_id: str, text: TextLookup = no_texts, *, now: int | None = None
) -> None:
    """Judge everything of a source again: its key, its status or what is known of it changed; `now` in seconds."""
    point = standpoint(db, now=now, text=text)
    take_unchecked(db, source_id)
    rows = select(
        db,
        """
        SELECT plugin_id FROM observations WHERE source_id = :source
        UNION SELECT plugin_id FROM releases WHERE source_id = :source
        """,
        {"source": source_id},
    )
    for row in rows:
        refresh(db, source_id, row["plugin_id"], point=point)


def refresh_observer(db: sqlite_utils.Database, node_id: bytes) -> None:
    """Judge again everything that a node saw or attested: it was pinned, unpinned, blocked or heard again."""
    point = standpoint(db)
    for source in select(db, "SELECT source_id FROM attestations WHERE observer = ?", (node_id,)):
        refresh_source(db, source["source_id"])
    for said in select(db, "SELECT source_id, plugin_id FROM notice_claims WHERE node_id = ?", (node_id,)):
        refresh(db, said["source_id"], said["plugin_id"], point=point)
    # With a trust depth over 1, those whom this node pins stand where it stands.
    for observer in (node_id, *reached_over(db, node_id)):
        rows = select(db, "SELECT DISTINCT source_id, plugin_id FROM observations WHERE observer = ?", (observer,))
        for row in rows:
            refresh(db, row["source_id"], row["plugin_id"], point=point)
    refresh_witnessed(db, pins_of(db, node_id))


def refresh_witnessed(db: sqlite_utils.Database, observers: list[bytes]) -> None:
    """Judge again what nodes saw of which two nearer witnesses would make three with them: a pin of a pin changed."""
    point = standpoint(db)
    for observer in observers:
        rows = select(
            db,
            """
            SELECT source_id, plugin_id, version FROM observations AS far
            WHERE observer = :observer AND :near <= (
                SELECT count(*) FROM observations AS near LEFT JOIN peers ON peers.node_id = near.observer
                WHERE near.source_id = far.source_id AND near.plugin_id = far.plugin_id
                  AND near.version = far.version AND near.sha256 = far.sha256
                  AND (near.observer = :own OR coalesce(peers.pinned, 0)))
            """,
            {"observer": observer, "own": point.own, "near": witnesses_trusted_min},
        )
        for row in rows:
            refresh_version(db, row["source_id"], row["plugin_id"], row["version"], now=point.now)


def refresh_all(db: sqlite_utils.Database) -> None:
    """Judge everything again: this node's own id or its trust depth changed."""
    for row in select(db, "SELECT source_id FROM observations UNION SELECT source_id FROM releases"):
        refresh_source(db, row["source_id"])


def mark_mirrored(
    db: sqlite_utils.Database,
    sha256: bytes,
    here: bool,
    *,
    cached: bool = False,
    at: int | None = None,
    damaged: bool = False,
) -> None:
    """Say that an artifact is here now, or no longer; `cached`: only for anonymous demand, so it may go at any time.

    With the bytes goes the evidence that was kept only because of them, unless they are `damaged` and come again.
    """
    point = standpoint(db, now=at)
    touched = select(
        db,
        """
        SELECT source_id, plugin_id, version FROM observations WHERE sha256 = :digest
        UNION SELECT source_id, plugin_id, version FROM releases WHERE sha256 = :digest
        """,
        {"digest": sha256},
    )
    if here:
        _store_artifact(db, sha256, point.now, cached=cached)
    else:
        change(db, "DELETE FROM artifacts WHERE sha256 = ?", (sha256,))
        if not damaged:
            drop_retained(db, sha256, point.own)
    for row in touched:
        _refresh_version(db, point, row["source_id"], row["plugin_id"], row["version"])
        list_plugin(db, row["source_id"], row["plugin_id"], point.now)


def _store_artifact(db: sqlite_utils.Database, sha256: bytes, at: int, *, cached: bool) -> None:
    # What is kept never becomes a mere cache entry by being wanted again.
    change(
        db,
        """
        INSERT INTO artifacts (sha256, stored_at, cached) VALUES (?, ?, ?)
        ON CONFLICT (sha256) DO UPDATE SET cached = min(cached, excluded.cached)
        """,
        (sha256, at, cached),
    )


def _refresh_version(
    db: sqlite_utils.Database,
    point: Standpoint,
    source_id: str,
    plugin_id: str,
    version: str,
    about: Advisories | None = None,
) -> None:
    """Judge one version from the observations that count, and store it. `about`: the advisories about it."""
    key = (source_id, plugin_id, version)
    rows = counted_observations(db, point.own, *key)
    if not rows:
        change(db, "DELETE FROM releases WHERE source_id = ? AND plugin_id = ? AND version = ?", key)
        change(db, "DELETE FROM mirrored_plugins WHERE source_id = ? AND plugin_id = ? AND version = ?", key)
        return
    source = select_one(db, "SELECT * FROM known_sources WHERE id = ?", (source_id,))
    keys = None if source is None else KeysThen(db, source)
    here = {row["sha256"]: _artifact(db, row["sha256"]) for row in rows}
    sightings = sightings_of(db, point, rows, source, keys, {digest for digest, artifact in here.items() if artifact})
    before = select_one(
        db,
        """
        SELECT conflict, held_sha256, signed_sha256 FROM releases WHERE source_id = ? AND plugin_id = ? AND version = ?
        """,
        key,
    ) or {"conflict": 0, "held_sha256": None, "signed_sha256": None}
    judgement = judge(
        sightings,
        key_known=source is not None and _key_known(source),
        held=before["held_sha256"],
        raw_oracle=source is None,  # else each sighting says whether its release proves anything (`may_release`)
        trust_depth=point.trust_depth,
    )
    assert judgement.sha256 is not None, "there are sightings"
    digest = judgement.sha256
    seen = [pair for pair in zip(rows, sightings, strict=True) if pair[0]["sha256"] == digest]
    by_revoked = keys is not None and keys.only_by_revoked(seen)
    by_revoked |= source is not None and source["status"] == "revoked"
    if by_revoked or tombstone(db, *key) is not None:
        judgement = replace(judgement, level="reported", backed_by=None)
    artifact = here[digest]
    shown = _best_description(rows, sightings, digest)
    held_back = reason_to_hold_back(db, key, judgement, before["signed_sha256"])
    is_served = judgement.backed_by is not None and held_back is None
    _store_release(db, judgement, shown, before, held_back, is_here=artifact is not None)
    mark_release(db, key, first_counted(db, source_id, judgement, seen), by_revoked, point.now, about)
    if is_served and artifact is not None:
        _note_standing(db, rows, sightings, digest)
    store_mirrored(db, shown, artifact if is_served else None)
    # What this node saw itself, `observe` reports.
    if judgement.conflict and judgement.backed_by != "self" and not before["conflict"]:
        report_conflict(db, shown, point.now)
    if source is not None and source["origin_bound"]:
        for later in note_signed(db, key, judgement):
            _refresh_version(db, point, source_id, plugin_id, later)


def _key_known(source: Row) -> bool:
    # The same rule as `Source.key_known`, on a row.
    return source["status"] not in ("revoked", "conflict") and bool(
        source["verified_at"] is not None or source["attested"]
    )


def _artifact(db: sqlite_utils.Database, sha256: bytes) -> Row | None:
    return select_one(db, "SELECT stored_at, cached FROM artifacts WHERE sha256 = ?", (sha256,))


def _best_description(rows: list[Row], sightings: list[Sighting], sha256: bytes) -> Row:
    """Return the observation whose words are shown: the nearest observer's; among strangers', signed ones."""

    def order(pair: tuple[Row, Sighting]) -> tuple[Any, ...]:
        row, sighting = pair
        trusted = sighting.relation if sighting.relation >= Relation.PIN else 0
        return (-trusted, not row["vouched"], not sighting.signed, row["received_at"], row["observer"])

    return min(((r, s) for r, s in zip(rows, sightings, strict=True) if s.sha256 == sha256), key=order)[0]


def _note_standing(db: sqlite_utils.Database, rows: list[Row], sightings: list[Sighting], sha256: bytes) -> None:
    for row, sighting in zip(rows, sightings, strict=True):
        if sighting.sha256 == sha256 and sighting.relation > row["standing"]:
            raise_standing(db, row, sighting.relation)


def _store_release(
    db: sqlite_utils.Database,
    judgement: Judgement,
    shown: Row,
    before: Row,
    held_back: str | None,
    *,
    is_here: bool,
) -> None:
    backed = judgement.backed_by is not None and held_back is None
    change(
        db,
        """
        INSERT OR REPLACE INTO releases (
            source_id, plugin_id, version, type, name, description, tags, sha256, size, assurance, backed, mirrored,
            conflict, disputed_by, reported_by, backed_by, icons, observed_at, held_sha256, signed_sha256, held_back)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            *(shown[name] for name in ("source_id", "plugin_id", "version", "type", "name", "description", "tags")),
            judgement.sha256,
            judgement.size,
            judgement.level,
            backed,
            is_here,
            judgement.conflict,
            to_json([did_key(observer) for observer in judgement.disputed_by]),
            to_json([did_key(observer) for observer in judgement.observers]),
            judgement.backed_by,
            shown["icons"],
            min(shown["observed_at"] or shown["received_at"], shown["received_at"]),
            judgement.sha256 if backed and is_here else before["held_sha256"],
            judgement.sha256 if judgement.level in SIGNED_LEVELS else before["signed_sha256"],
            held_back,
        ),
    )
