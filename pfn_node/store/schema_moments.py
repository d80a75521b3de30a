"""Since when evidence is known here, and of which key it was found out what else it signs: two moments that count."""

from typing import Final

MOMENTS: Final = (
    # When the evidence of an observation came as it is now; the observation itself may be older (`received_at`).
    "ALTER TABLE observations ADD COLUMN evidence_at INTEGER NOT NULL DEFAULT 0",
    "UPDATE observations SET evidence_at = received_at",
    # Whose probe `oracle` is: of a key that was followed by another it says nothing about that one (R65). Until now a
    # source was probed once, and for the first key of its chain.
    "ALTER TABLE sources ADD COLUMN oracle_key BLOB",
    """
    UPDATE sources SET oracle_key = coalesce((SELECT root FROM key_roots WHERE source_id = sources.id), key_raw)
    WHERE oracle IS NOT NULL
    """,
    "DROP VIEW known_sources",
    """
    CREATE VIEW known_sources AS
    SELECT sources.*, EXISTS (
        SELECT 1 FROM attestations JOIN peers ON peers.node_id = attestations.observer
        WHERE attestations.source_id = sources.id AND attestations.public_key = sources.key_raw
          AND attestations.verified AND attestations.admitted AND peers.pinned AND NOT peers.blocked
    ) AS attested, coalesce(CASE WHEN sources.oracle_key = sources.key_raw THEN sources.oracle END, (
        SELECT attestations.oracle FROM attestations JOIN peers ON peers.node_id = attestations.observer
        WHERE attestations.source_id = sources.id AND attestations.public_key = sources.key_raw
          AND attestations.admitted AND peers.pinned AND NOT peers.blocked
          AND (attestations.oracle = 'raw' OR attestations.verified AND attestations.oracle <> '')
        ORDER BY CASE attestations.oracle WHEN 'raw' THEN 0 WHEN 'utf8' THEN 1 ELSE 2 END LIMIT 1
    )) AS oracle_in_force
    FROM sources
    """,
)
