"""What observers saw at publishers, one row for each digest that one of them saw under a version.

A row counts while its announcement is in the set (`admitted`), while this node holds the bytes that it speaks of
(`retained`), or if this node saw it itself; and never while its observer is blocked. `standing` remembers the
relation in which an observer stood when bytes were served here on its word: when it leaves, or is no longer pinned,
what is held stays served.

`received_at` is when the row came, and `evidence_at` when its evidence did: what is signed may be brought to bytes that
were announced long before, and counts from when it came.
"""

import json
from typing import Final

import sqlite_utils

from pfn_node.store.evidence import Findings, pack_evidence, unpack_evidence
from pfn_node.store.queries import Row, change, select, select_one, storable, to_json
from pfn_node.store.rows import Observation
from pfn_protocol.announcements import EvidenceForm
from pfn_protocol.limits import description_chars_max, name_chars_max

# Where a description is the text of a signature it may be longer than an announcement allows.
DESCRIPTION_CHARACTERS_MAX: Final = 8 * description_chars_max


def store_observation(
    db: sqlite_utils.Database,
    observation: Observation,
    *,
    epoch: int,
    seq: int,
    admitted: bool,
    received_at: int,
) -> None:
    """Keep an observation: of two of one observer and digest the later (epoch, seq). The unchanged stays checked."""
    change(
        db,
        """
        INSERT INTO observations (source_id, plugin_id, version, observer, sha256, size, name, description, tags, type,
                                  icons, evidence, observed_at, received_at, evidence_at, announcement_id, epoch, seq,
                                  admitted)
        VALUES (:source, :plugin, :version, :observer, :sha256, :size, :name, :description, :tags, :type,
                :icons, :evidence, :observed_at, :received_at, :evidence_at, :announcement, :epoch, :seq, :admitted)
        ON CONFLICT (source_id, plugin_id, version, observer, sha256) DO UPDATE SET
            checked_key = CASE
                WHEN (size, name, description, evidence)
                  IS (excluded.size, excluded.name, excluded.description, excluded.evidence) THEN checked_key
            END,
            size = excluded.size, name = excluded.name, description = excluded.description, tags = excluded.tags,
            type = excluded.type, icons = CASE excluded.icons WHEN '{}' THEN icons ELSE excluded.icons END,
            evidence = excluded.evidence, evidence_at = excluded.evidence_at,
            -- 0: not fetched from the publisher; whoever does so later has seen it then.
            observed_at = CASE WHEN 0 IN (observed_at, excluded.observed_at) THEN max(observed_at, excluded.observed_at)
                               ELSE min(observed_at, excluded.observed_at) END,
            announcement_id = coalesce(excluded.announcement_id, announcement_id),
            epoch = CASE WHEN excluded.announcement_id IS NULL THEN epoch ELSE excluded.epoch END,
            seq = CASE WHEN excluded.announcement_id IS NULL THEN seq ELSE excluded.seq END,
            admitted = excluded.admitted
        WHERE (excluded.epoch, excluded.seq) >= (epoch, seq) OR excluded.announcement_id IS NULL
        """,
        {
            "source": observation.source_id,
            "plugin": observation.plugin_id,
            "version": observation.version,
            "observer": observation.observer,
            "sha256": observation.sha256,
            "size": observation.size,
            "name": storable(observation.name, name_chars_max),
            "description": None
            if observation.description is None
            else storable(observation.description, DESCRIPTION_CHARACTERS_MAX),
            "tags": to_json(observation.tags),
            "type": observation.type,
            "icons": to_json(observation.icons),
            "evidence": pack_evidence(observation.evidence),
            "observed_at": observation.observed_at,
            "received_at": received_at,
            "evidence_at": _evidence_at(db, observation, received_at),
            "announcement": observation.announcement_id,
            "epoch": epoch,
            "seq": seq,
            "admitted": admitted,
        },
    )


def _evidence_at(db: sqlite_utils.Database, observation: Observation, at: int) -> int:
    """Since when what is signed about these bytes is known: since before if it says nothing more than it did."""
    before = select_one(
        db,
        """
        SELECT evidence, evidence_at, received_at FROM observations
        WHERE source_id = ? AND plugin_id = ? AND version = ? AND observer = ? AND sha256 = ?
        """,
        (
            observation.source_id,
            observation.plugin_id,
            observation.version,
            observation.observer,
            observation.sha256,
        ),
    )
    if before is None:
        return at
    # A head is renewed every few days, and has a time of its own.
    new = {piece for piece in observation.evidence if piece.form is not EvidenceForm.HEAD}
    if new <= set(unpack_evidence(before["evidence"])):
        return int(before["evidence_at"])
    return max(at, int(before["received_at"]) + 1)  # later than the bytes, whatever the clock says


def note_announced(db: sqlite_utils.Database, observation: Observation, epoch: int, seq: int) -> bool:
    """Note that this node announced what it saw itself, whose words stay as they are; False if it saw no such thing.

    An announcement may be shortened to fit; what was fetched says more.
    """
    return (
        change(
            db,
            """
            UPDATE observations SET announcement_id = ?, epoch = ?, seq = ?
            WHERE source_id = ? AND plugin_id = ? AND version = ? AND observer = ? AND sha256 = ?
            """,
            (
                observation.announcement_id,
                epoch,
                seq,
                observation.source_id,
                observation.plugin_id,
                observation.version,
                observation.observer,
                observation.sha256,
            ),
        )
        == 1
    )


def counted_observations(
    db: sqlite_utils.Database, own: bytes, source_id: str, plugin_id: str, version: str
) -> list[Row]:
    """Return the rows that count for one version, as they came, each with whether its observer is `pinned`.

    What a key saw before it passed its name on counts as the word of its `heir` (R156),
    also when nobody admits that key any more; what it says later does not.
    """
    return select(
        db,
        """
        WITH seen AS (
            SELECT o.*, s.heir, coalesce(peers.pinned, 0) AS pinned_itself,
                   coalesce(named.pinned AND NOT named.blocked AND s.moved_at >= o.received_at, 0) AS inherited
            FROM observations AS o LEFT JOIN peers ON peers.node_id = o.observer
            LEFT JOIN node_successions AS s ON s.old = o.observer AND s.moved_at IS NOT NULL
            LEFT JOIN peers AS named ON named.node_id = s.heir
            WHERE o.source_id = ? AND o.plugin_id = ? AND o.version = ? AND NOT coalesce(peers.blocked, 0)
        )
        SELECT *, pinned_itself OR inherited AS pinned FROM seen AS o
        WHERE admitted OR retained OR inherited OR observer = ?
        ORDER BY o.received_at, o.epoch, o.seq, o.observer, o.sha256
        """,
        (source_id, plugin_id, version, own),
    )


def record_findings(db: sqlite_utils.Database, row: Row, key: bytes, findings: Findings) -> None:
    """Remember what the evidence of a row proves under a key."""
    change(
        db,
        """
        UPDATE observations SET checked_key = ?, signed = ?, released = ?, vouched = ?, release_id = ?, release_key = ?,
                                release_seq = ?
        WHERE source_id = ? AND plugin_id = ? AND version = ? AND observer = ? AND sha256 = ?
        """,
        (
            key,
            findings.signed,
            findings.released,
            findings.vouched,
            findings.release_id,
            findings.release_key,
            findings.release_seq,
            *(row[name] for name in ("source_id", "plugin_id", "version", "observer", "sha256")),
        ),
    )


def raise_standing(db: sqlite_utils.Database, row: Row, relation: int) -> None:
    """Remember that bytes are served here on this observer's word."""
    change(
        db,
        """
        UPDATE observations SET standing = ?
        WHERE source_id = ? AND plugin_id = ? AND version = ? AND observer = ? AND sha256 = ?
        """,
        (relation, *(row[name] for name in ("source_id", "plugin_id", "version", "observer", "sha256"))),
    )


def drop_retained(db: sqlite_utils.Database, sha256: bytes, own: bytes) -> None:
    """Let the evidence go that was kept only because these bytes were here; `own`: this node's own stays."""
    change(
        db,
        """
        DELETE FROM announcements WHERE place = 'evidence' AND id IN (
            SELECT announcement_id FROM observations WHERE sha256 = ? AND retained AND NOT admitted AND observer <> ?)
        """,
        (sha256, own),
    )
    change(
        db,
        """
        DELETE FROM observations WHERE sha256 = :digest AND retained AND NOT admitted AND observer <> :own
          AND NOT EXISTS (SELECT 1 FROM announcements WHERE id = announcement_id)
        """,
        {"digest": sha256, "own": own},
    )
    change(db, "UPDATE observations SET retained = 0, standing = 0 WHERE sha256 = ?", (sha256,))


def observation_from(row: Row) -> Observation:
    """Make an `Observation` of a row of the table."""
    return Observation(
        source_id=row["source_id"],
        plugin_id=row["plugin_id"],
        version=row["version"],
        observer=row["observer"],
        announcement_id=row["announcement_id"],
        sha256=row["sha256"],
        size=row["size"],
        name=row["name"],
        description=row["description"],
        tags=tuple(json.loads(row["tags"])),
        type=row["type"],
        evidence=unpack_evidence(row["evidence"]),
        observed_at=row["observed_at"],
        icons=json.loads(row["icons"]),
    )
