"""What is said for people's safety about a release, and what follows here: yanks, advisories, takedowns, cool-downs.

Whose word acts: the publisher's, signed by a key that spoke for the source when this node saw it; this node's own
(an admin's); that of a node that is directly pinned. Everybody else's is listed as reported, and changes nothing.

    yanked        not what "the newest" means while another version is there; had by its number, with a warning
    taken down    an admin's tombstone: not served, not taken in again, whatever its bytes are
    revoked key   only a key that was revoked before this node first saw the release vouches for it: not served
    cooling down  first seen within three days after a key of the source changed: not what "the newest" means while an
                  older version is there, unless an admin approved it
    advisories    listed wherever the release is shown

Concluded where releases are judged (releases.py), and stored with them.
"""

import json
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import sqlite_utils

from pfn_node.store.advised import Advisories, advisories_by_version
from pfn_node.store.evidence import Findings, TextLookup, examine, no_texts
from pfn_node.store.facts import own_id
from pfn_node.store.holding_back import is_approved
from pfn_node.store.observations import observation_from
from pfn_node.store.queries import Row, change, select, select_one, storable, to_json, value
from pfn_node.store.rows import CLEAN_ORACLES, Observation
from pfn_protocol.announcements import AdvisoryStatement, EvidenceForm
from pfn_protocol.backing import Sighting
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import did_key
from pfn_protocol.limits import cooldown_seconds, reason_chars_max
from pfn_protocol.publisher import open_release
from pfn_protocol.publisher_notices import Advisory, Yank, open_notice

# Yanks and advisories were checked when they came, and are read again for each release that is judged, and each list.
_KEPT_OPEN_MAX: Final = 4_096
_open_kept = lru_cache(_KEPT_OPEN_MAX)(open_notice)

PUBLISHER: Final = "publisher"
OWN: Final = "this node"
_PUBLISHER_WORDS: Final = """
    SELECT n.* FROM publisher_notices AS n JOIN known_sources AS s ON s.id = n.source_id
    JOIN source_keys AS k ON k.source_id = n.source_id AND k.key = n.signer
    WHERE n.source_id = ? AND n.kind = ? AND (k.cutoff IS NULL OR n.seen_at < k.cutoff)
      AND (s.verified_at IS NOT NULL OR s.attested) AND NOT n.withdrawn
      AND (NOT k.is_identity OR coalesce(s.oracle_in_force, s.oracle) IN ('none', 'utf8'))
"""
_NODE_WORDS: Final = """
    SELECT c.*, c.node_id = ? AS own FROM notice_claims AS c LEFT JOIN peers ON peers.node_id = c.node_id
    WHERE c.source_id = ? AND c.kind = ? AND c.plugin_id = ? AND length(c.evidence) = 0
      AND (c.node_id = ? OR (c.admitted AND peers.pinned AND NOT peers.blocked))
    ORDER BY own DESC, c.node_id
"""


def yank_in_force(db: sqlite_utils.Database, source_id: str, plugin_id: str, version: str) -> tuple[str, str] | None:
    """Return (reason, by) of the yank that acts on a release here, or None."""
    subject = subject_of_notice(plugin_id, version)
    for row in select(db, f"{_PUBLISHER_WORDS} AND n.subject = ?", (source_id, "yank", subject)):
        notice = _open_kept(row["raw"]).notice
        assert isinstance(notice, Yank), "kept as one"
        return notice.reason, PUBLISHER
    for row in _node_words(db, "yank", source_id, plugin_id):
        if row["about"] == version and not row["withdrawn"]:
            return json.loads(row["content"])["reason"], OWN if row["own"] else did_key(row["node_id"])
    return None


def advisories_in_force(db: sqlite_utils.Database, source_id: str, plugin_id: str) -> list[dict[str, Any]]:
    """Return the advisories about a plugin that count here, each once, in the order of their ids."""
    found: dict[str, dict[str, Any]] = {}
    for row in reversed(_node_words(db, "advisory", source_id, plugin_id)):
        if not row["withdrawn"]:
            by = OWN if row["own"] else did_key(row["node_id"])
            found[row["about"]] = {"advisory_id": row["about"], **json.loads(row["content"]), "by": by}
    # Only what begins with `plugin_id/`: a publisher may have said much about many plugins, and "0" follows "/".
    of_plugin = f"{_PUBLISHER_WORDS} AND n.subject >= ? AND n.subject < ?"
    for row in select(db, of_plugin, (source_id, "advisory", f"{plugin_id}/", f"{plugin_id}0")):
        notice = _open_kept(row["raw"]).notice
        assert isinstance(notice, Advisory), "kept as one"
        content = advisory_content(notice)
        found[notice.advisory_id] = {"advisory_id": notice.advisory_id, **content, "by": PUBLISHER}
    return [found[advisory_id] for advisory_id in sorted(found)]


def advisory_content(notice: Advisory | AdvisoryStatement) -> dict[str, Any]:
    """Return what is shown of an advisory."""
    return {
        "severity": notice.severity,
        "summary": notice.summary,
        "ranges": [{"from": first, "until": until} for first, until in notice.ranges],
        "url": notice.url,
        "aliases": list(notice.aliases),
    }


def subject_of_notice(plugin_id: str, about: str) -> str:
    """Return what a publisher's yank (of a version) or advisory (of an id) is about, within its source."""
    return f"{plugin_id}/{about}"


def _node_words(db: sqlite_utils.Database, kind: str, source_id: str, plugin_id: str) -> list[Row]:
    own = own_id(db)
    return select(db, _NODE_WORDS, (own, source_id, kind, plugin_id, own))


def tombstone(db: sqlite_utils.Database, source_id: str, plugin_id: str, version: str) -> str | None:
    """Return why an admin took a release down here; None: nobody did."""
    found: str | None = value(
        db,
        "SELECT reason FROM tombstones WHERE source_id = ? AND plugin_id = ? AND version = ?",
        (source_id, plugin_id, version),
    )
    return found


def own_yank(db: sqlite_utils.Database, source_id: str, plugin_id: str, version: str) -> Row | None:
    """Return `reason` and `received_at` of what this node itself says to be yanked; None: it does not say so."""
    return select_one(
        db,
        """
        SELECT json_extract(content, '$.reason') AS reason, received_at FROM notice_claims
        WHERE kind = 'yank' AND source_id = ? AND plugin_id = ? AND about = ? AND node_id = ? AND NOT withdrawn
          AND length(evidence) = 0
        """,
        (source_id, plugin_id, version, own_id(db)),
    )


def is_yanked_apart(db: sqlite_utils.Database, source_id: str, plugin_id: str, version: str) -> bool:
    """Whether this node yanked what it took down also for itself: before, or for another reason."""
    yank = own_yank(db, source_id, plugin_id, version)
    down = select_one(
        db,
        "SELECT reason, at FROM tombstones WHERE source_id = ? AND plugin_id = ? AND version = ?",
        (source_id, plugin_id, version),
    )
    if yank is None or down is None:
        return False
    return bool(yank["received_at"] < down["at"] or storable(yank["reason"], reason_chars_max) != down["reason"])


def tombstones(db: sqlite_utils.Database, limit: int) -> list[Row]:
    """Return what an admin took down here, newest first: source_id, plugin_id, version, reason, at."""
    return select(db, "SELECT * FROM tombstones ORDER BY at DESC, source_id, plugin_id, version LIMIT ?", (limit,))


def is_withheld(db: sqlite_utils.Database, sha256: bytes) -> bool:
    """Whether bytes were taken down, or only a revoked key vouches for them, and nothing else speaks for them."""
    row = db.execute(
        "SELECT max(taken_down IS NOT NULL OR revoked_key), max(backed) FROM releases WHERE sha256 = ?", (sha256,)
    ).fetchone()
    return bool(row[0]) and not row[1]


def mark_release(
    db: sqlite_utils.Database,
    key: tuple[str, str, str],
    first_seen: int,
    revoked: bool,
    now: int,
    about: Advisories | None,
) -> None:
    """Store with a release what is said for safety about it. `first_seen`: when it was (counting.py).

    `about`: the advisories about it, if the caller knows them.
    """
    source_id, plugin_id, version = key
    yank = yank_in_force(db, *key)
    if about is None:
        about = advisories_by_version(advisories_in_force(db, source_id, plugin_id), [version])[version]
    change(
        db,
        """
        UPDATE releases SET yanked = ?, yanked_by = ?, taken_down = ?, revoked_key = ?, cooldown_until = ?,
                            advisories = ?
        WHERE source_id = ? AND plugin_id = ? AND version = ?
        """,
        (
            *(yank or (None, None)),
            tombstone(db, *key),
            revoked,
            _cooldown_until(db, key, first_seen, now),
            to_json(about),
            *key,
        ),
    )


def _cooldown_until(db: sqlite_utils.Database, key: tuple[str, str, str], first_seen: int, now: int) -> int | None:
    changed_at = value(db, "SELECT changed_at FROM key_roots WHERE source_id = ?", (key[0],))
    if changed_at is None:
        return None
    until = int(changed_at) + cooldown_seconds
    if not changed_at <= first_seen < until or now >= until:
        return None
    sha256 = value(db, "SELECT sha256 FROM releases WHERE source_id = ? AND plugin_id = ? AND version = ?", key)
    return None if is_approved(db, key, sha256) else until


def cooled_down(db: sqlite_utils.Database, now: int, limit: int) -> list[tuple[str, str, str]]:
    """Return releases whose time of cooling down is over."""
    rows = select(
        db,
        """
        SELECT source_id, plugin_id, version FROM releases
        WHERE cooldown_until IS NOT NULL AND cooldown_until <= ? ORDER BY cooldown_until LIMIT ?
        """,
        (now, limit),
    )
    return [(row["source_id"], row["plugin_id"], row["version"]) for row in rows]


def seen_at(row: Row) -> int:
    """When this node, or one that it pins, saw the evidence for a release; a stranger may name any time it likes."""
    if row["evidence_at"] > row["received_at"]:
        return int(row["evidence_at"])  # the bytes were seen before anything was signed about them
    saw_it = row["pinned"] and row["observed_at"] > 0
    return int(min(row["observed_at"], row["received_at"]) if saw_it else row["received_at"])


class KeysThen:
    """Which keys spoke for a source when something was seen; read once for judging many observations."""

    def __init__(self, db: sqlite_utils.Database, source: Row) -> None:
        self._current: bytes = source["key_raw"]
        self._rows = select(db, "SELECT * FROM source_keys WHERE source_id = ?", (source["id"],))
        self._oracle: str | None = source["oracle_in_force"]
        # Until when a key spoke that was found to sign no raw bytes, and that another one follows which was not probed.
        self._clean_until: int = 0
        if source["oracle"] in CLEAN_ORACLES:
            ends = (row["cutoff"] for row in self._rows if row["key"] == source["oracle_key"])
            self._clean_until = next(ends, None) or 0

    def may_release(self, seen_at: int) -> bool:
        """Whether a release statement that was seen at a moment proves anything, for all that is known of R65.

        What the probe of a key found says nothing of the key that follows, and goes on to say it of what was there.
        """
        return self._oracle in CLEAN_ORACLES or (self._oracle is None and seen_at < self._clean_until)

    def examined(self, observation: Observation, text: TextLookup, seen_at: int) -> Findings:
        """What the evidence proves under the keys that spoke when it was seen."""
        closed = {row["key"] for row in self._rows if row["cutoff"] is not None and row["cutoff"] <= seen_at}
        identities = [row["key"] for row in self._rows if row["is_identity"] and row["key"] not in closed]
        if self._current not in identities and self._current not in closed:
            identities.append(self._current)
        findings = [examine(observation, key, text) for key in identities] or [Findings(False, False, False)]
        best = next((one for one in findings if one.released), findings[-1])
        if best.released and best.release_key in closed:
            best = Findings(best.signed, False, best.vouched)
        signed = True if any(one.signed for one in findings) else best.signed
        return replace(best, signed=signed, vouched=any(one.vouched for one in findings))

    def only_by_revoked(self, seen: list[tuple[Row, Sighting]]) -> bool:
        """Whether a key that was revoked before the bytes were seen vouches for them, and none that counts."""
        if any(sighting.signed or row["released"] for row, sighting in seen):
            return False
        return any(self._is_by_revoked(observation_from(row), seen_at(row)) for row, _ in seen)

    def _is_by_revoked(self, observation: Observation, seen_at: int) -> bool:
        """Whether a key that was revoked before this was seen signed it."""
        revoked = [
            row
            for row in self._rows
            if row["standing"] == "revoked" and row["cutoff"] is not None and row["cutoff"] <= seen_at
        ]
        if not revoked:
            return False
        if _release_signer(observation) in {row["key"] for row in revoked}:
            return True
        return any(examine(observation, row["key"], no_texts).signed for row in revoked if row["is_identity"])


def _release_signer(observation: Observation) -> bytes | None:
    for piece in observation.evidence:
        if piece.form is EvidenceForm.RELEASE:
            try:
                return open_release(piece.data)[1]
            except Refusal:
                return None
    return None


def said(
    db: sqlite_utils.Database, source_id: str | None, plugin_id: str | None, own: bytes, limit: int
) -> list[dict[str, Any]]:
    """Return yanks and advisories, whoever says them, newest first: what they say, by whom, whether it acts here."""
    asked = {"source": source_id, "plugin": plugin_id, "own": own, "limit": limit}
    words = [_publisher_view(db, row) for row in select(db, _EVERY_PUBLISHER_WORD, asked)]
    claims: list[dict[str, Any]] = select(db, _EVERY_CLAIM, asked)
    for claim in claims:
        if claim["by"] == own:
            claim["by"] = OWN
    shown = [word for word in words if plugin_id in (None, word["plugin_id"])] + claims
    return sorted(shown, key=lambda one: -one["at"])[:limit]


_EVERY_PUBLISHER_WORD: Final = """
    SELECT kind, source_id, raw, withdrawn, seen_at FROM publisher_notices
    WHERE kind IN ('yank', 'advisory') AND (:source IS NULL OR source_id = :source)
    ORDER BY seen_at DESC LIMIT :limit
"""
# What a node only relays is listed as what the publisher says, once that is found to be true.
_EVERY_CLAIM: Final = """
    SELECT c.kind, c.source_id, c.plugin_id, c.about, c.content, c.withdrawn, c.node_id AS by, c.received_at AS at,
           (c.node_id = :own OR (c.admitted AND coalesce(peers.pinned, 0) AND NOT peers.blocked))
           AND NOT c.withdrawn AS acts
    FROM notice_claims AS c LEFT JOIN peers ON peers.node_id = c.node_id
    WHERE c.kind IN ('yank', 'advisory') AND length(c.evidence) = 0 AND (c.admitted OR c.node_id = :own)
      AND NOT coalesce(peers.blocked, 0)
      AND (:source IS NULL OR c.source_id = :source) AND (:plugin IS NULL OR c.plugin_id = :plugin)
    ORDER BY c.received_at DESC LIMIT :limit
"""


def _publisher_view(db: sqlite_utils.Database, row: Row) -> dict[str, Any]:
    notice = _open_kept(row["raw"]).notice
    assert isinstance(notice, Yank | Advisory), "kept as one"
    if isinstance(notice, Yank):
        about, content = notice.version, {"reason": notice.reason}
    else:
        about, content = notice.advisory_id, advisory_content(notice)
    asked = (row["source_id"], row["kind"], subject_of_notice(notice.slug, about))
    return {
        "kind": row["kind"],
        "source_id": row["source_id"],
        "plugin_id": notice.slug,
        "about": about,
        "content": to_json(content),
        "withdrawn": row["withdrawn"],
        "by": PUBLISHER,
        "at": row["seen_at"],
        "acts": bool(select(db, f"{_PUBLISHER_WORDS} AND n.subject = ?", asked)),
    }
