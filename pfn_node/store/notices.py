"""Notices as they come: from a publisher, from whoever hands one in, or inside a node's announcement.

A notice certifies itself, so it does not matter who brings it. It is kept if a key that speaks for the source now has
signed it and it says something new: of two about one subject the greater (epoch of the key, seq) counts, and that place
stays remembered, so that what was said before never comes back. What a node says for itself is kept beside it, as a
claim of that node; whether it acts here is decided where releases are judged (safety.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlite_utils

from pfn_node.store import releases
from pfn_node.store.activity import record_activity
from pfn_node.store.advised import mark_advisories
from pfn_node.store.facts import own_id
from pfn_node.store.key_changes import conclude_keys, keys_of, state_of, take_key_change, take_keybind
from pfn_node.store.queries import Row, change, select, select_one, to_json, value
from pfn_node.store.rows import CLEAN_ORACLES, Source
from pfn_node.store.safety import advisories_in_force, advisory_content, subject_of_notice
from pfn_node.store.sources import get_source, host_of
from pfn_protocol.announcements import (
    AcceptedAnnouncement,
    AdvisoryStatement,
    NoticeStatement,
    RevokeStatement,
    YankStatement,
)
from pfn_protocol.errors import Refusal, Severity
from pfn_protocol.key_standing import Standing
from pfn_protocol.limits import future_ms_max, notices_at_once_max, notices_per_source_max
from pfn_protocol.names import source_id_of
from pfn_protocol.publisher import KeybindStatement, open_keybind
from pfn_protocol.publisher_notices import Advisory, OpenNotice, Revocation, Rotation, Yank, open_notice

# Evidence of a source that waits for a key to be known is looked at again this often in a row: each look may make
# another key known.
_LOOKS_MAX: Final = 8
# Authors of one publisher that share a key, as in the original; names cost a stranger nothing.
_AUTHORS_OF_KEY_MAX: Final = 64
# Who can be talked into signing another's rotation must not be pulled into a conflict by it.
_IS_REGISTERED_ELSEWHERE: Final = "SELECT 1 FROM sources WHERE key_raw = ? AND registered AND host <> ?"


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a notice. `statement`: what a node that took it may announce; None: it said nothing new."""

    source_id: str
    statement: NoticeStatement | None


def take_notice(db: sqlite_utils.Database, raw: bytes, now: int, advised: set[tuple[str, str]] | None = None) -> Taken:
    """Keep a publisher's notice if it counts and is new.

    What an advisory says is stored with the releases at once; with `advised`, which takes up the (source, plugin), its
    caller does so when all have come (`mark_advised`): each time costs as much as the plugin has versions.
    Raise `Refusal` for one that does not certify itself (R66 to R69), or does not count here (R140, R143, R144).
    """
    opened = open_notice(raw)
    source = get_source(db, opened.source_id)
    if source is None:
        raise Refusal("R144", f"{opened.source_id} is not known here", Severity.HARMLESS)
    keybind = _binding_of(db, source.id, opened.signer)
    taken = _take(db, source, opened, keybind, now)
    if taken and isinstance(opened.notice, Rotation | Revocation):
        look_again(db, source.id, now)
    if taken and isinstance(opened.notice, Advisory):
        plugin = (source.id, opened.notice.slug)
        if advised is None:
            mark_advised(db, [plugin])
        else:
            advised.add(plugin)
    return Taken(source.id, statement_of(opened, keybind) if taken else None)


def mark_advised(db: sqlite_utils.Database, plugins: Iterable[tuple[str, str]]) -> None:
    """Store with the releases of each (source, plugin) the advisories about them."""
    for source_id, plugin_id in plugins:
        mark_advisories(db, source_id, plugin_id, advisories_in_force(db, source_id, plugin_id))


def take_binding(db: sqlite_utils.Database, keybind: bytes, now: int) -> bool:
    """Keep a keybind for the sources of its origin whose key binds; return whether one of them has it now.

    What nodes relay of the key that it binds, and could not count before, is looked at again.
    """
    kept, changed = _bind(db, keybind, now)
    for source_id in changed:
        look_again(db, source_id, now)
    return kept


def _bind(db: sqlite_utils.Database, keybind: bytes, now: int) -> tuple[bool, list[str]]:
    """Keep a keybind; return whether a source has it now, and the sources for which it is new."""
    try:
        statement, _ = open_keybind(keybind)
    except Refusal:
        return False, []
    kept: list[str] = []
    before = _bound_by(db, statement)
    # A keybind names no author: it counts for every author of its origin whose key it is.
    rows = select(
        db,
        """
        SELECT id FROM sources WHERE instance_url = :origin AND (key_raw = :key OR EXISTS (
            SELECT 1 FROM source_keys WHERE source_id = sources.id AND source_keys.key = :key))
        ORDER BY registered DESC, verified_at IS NULL, id LIMIT :limit
        """,
        {"origin": statement.origin, "key": statement.identity_key, "limit": _AUTHORS_OF_KEY_MAX},
    )
    for row in rows:
        source = get_source(db, row["id"])
        if source is not None and take_keybind(db, source, keybind, statement, now):
            kept.append(source.id)
    return bool(kept), [source_id for source_id in kept if source_id not in before]


def _bound_by(db: sqlite_utils.Database, statement: KeybindStatement) -> set[str]:
    rows = select(
        db,
        "SELECT source_id FROM keybinds WHERE release_key = ? AND identity_key = ?",
        (statement.release_key, statement.identity_key),
    )
    return {row["source_id"] for row in rows}


def _binding_of(db: sqlite_utils.Database, source_id: str, signer: bytes) -> bytes:
    found: bytes | None = value(
        db,
        "SELECT raw FROM keybinds WHERE source_id = ? AND release_key = ? ORDER BY seen_at DESC LIMIT 1",
        (source_id, signer),
    )
    return found or b""


def _take(db: sqlite_utils.Database, source: Source, opened: OpenNotice, keybind: bytes, now: int) -> bool:
    match opened.notice:
        case Rotation() as rotation:
            if rotation.effective_s > now:
                raise Refusal("R140", "this rotation is not in effect yet", Severity.HARMLESS)
            if value(db, _IS_REGISTERED_ELSEWHERE, (rotation.new_key, host_of(source.id))):
                raise Refusal("R140", "the new key is that of a registered source of another host")
            _check_voucher(db, source, rotation)
            return take_key_change(db, source, opened, keybind, now)
        case Revocation():
            return take_key_change(db, source, opened, keybind, now)
        case Yank() as yank:
            return _take_word(db, source, opened, yank, subject_of_notice(yank.slug, yank.version), keybind, now)
        case Advisory() as advisory:
            subject = subject_of_notice(advisory.slug, advisory.advisory_id)
            return _take_word(db, source, opened, advisory, subject, keybind, now)


def _check_voucher(db: sqlite_utils.Database, source: Source, rotation: Rotation) -> None:
    """Who has any bytes signed by an identity key would have it vouch for a key of his own."""
    record = keys_of(db, source).records.get(rotation.voucher)
    if record is not None and record.is_identity and "raw" in (source.oracle_in_force, source.former_oracle):
        raise Refusal("R140", f"{source.id} signs whatever it is sent with the key that vouches for this")


def _take_word(
    db: sqlite_utils.Database,
    source: Source,
    opened: OpenNotice,
    notice: Yank | Advisory,
    subject: str,
    keybind: bytes,
    now: int,
) -> bool:
    keys = keys_of(db, source)
    standing = keys.standing(opened.signer, now)
    if standing is not Standing.SPEAKS:
        raise Refusal("R144", f"the key that signed this does not speak for {source.id}: it is {standing}")
    record = keys.records[opened.signer]
    if record.is_identity and source.oracle_of_words not in CLEAN_ORACLES:
        raise Refusal("R144", f"it is not known here that {source.id} does not sign whatever it is sent with this key")
    if notice.seq > now * 1_000 + future_ms_max:
        raise Refusal("R143", "this notice lies in the future; check the clocks", Severity.HARMLESS)
    kind = "yank" if isinstance(notice, Yank) else "advisory"
    before = select_one(
        db,
        "SELECT epoch, seq FROM publisher_notices WHERE source_id = ? AND kind = ? AND subject = ?",
        (source.id, kind, subject),
    )
    if before is not None and (record.epoch, notice.seq) <= (before["epoch"], before["seq"]):
        return False
    if before is None and _count(db, source.id) >= notices_per_source_max:
        raise Refusal("R143", f"{source.id} has said as much as is kept here", Severity.HARMLESS)
    change(
        db,
        """
        INSERT OR REPLACE INTO publisher_notices (source_id, kind, subject, raw, signer, keybind, epoch, seq,
                                                  withdrawn, seen_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            *(source.id, kind, subject, opened.raw, opened.signer, keybind, record.epoch, notice.seq),
            *(notice.withdrawn, now),
        ),
    )
    if not value(db, "SELECT 1 FROM source_keys WHERE source_id = ?", (source.id,)):
        conclude_keys(db, source.id, now)
    _report(db, source.id, notice, now)
    if isinstance(notice, Yank):
        releases.refresh_version(db, source.id, notice.slug, notice.version, now=now)
    return True


def _count(db: sqlite_utils.Database, source_id: str) -> int:
    return int(value(db, "SELECT count(*) FROM publisher_notices WHERE source_id = ?", (source_id,)))


def _report(db: sqlite_utils.Database, source_id: str, notice: Yank | Advisory, now: int) -> None:
    taken_back = "took back what it said about" if notice.withdrawn else "warns of"
    what = notice.version if isinstance(notice, Yank) else notice.advisory_id
    word = notice.reason if isinstance(notice, Yank) else notice.summary
    record_activity(
        db,
        "security",
        f"the publisher {taken_back} {notice.slug} ({what})" + (f": {word}" if word else ""),
        at=now,
        source_id=source_id,
        plugin_id=notice.slug,
        new_version=notice.version if isinstance(notice, Yank) else None,
    )


def statement_of(opened: OpenNotice, keybind: bytes) -> NoticeStatement:
    """Return what a node announces to relay a publisher's notice."""
    source_id = source_id_of(opened.notice.origin, opened.notice.author)
    match opened.notice:
        case Rotation() as rotation:
            return RevokeStatement(source_id, "rotate", rotation.new_key, opened.raw, keybind)
        case Revocation() as revocation:
            return RevokeStatement(source_id, "revoke", revocation.key, opened.raw, keybind)
        case Yank() as yank:
            return YankStatement(source_id, yank.slug, yank.version, opened.raw, keybind)
        case Advisory() as advisory:
            return AdvisoryStatement(source_id, advisory.slug, advisory.advisory_id, opened.raw, keybind)


def untold(db: sqlite_utils.Database) -> list[NoticeStatement]:
    """Return what is kept here and was told by nobody: publishers' notices, and what an admin took down."""
    kept = select(
        db,
        """
        SELECT n.raw, n.keybind FROM publisher_notices AS n JOIN sources ON sources.id = n.source_id
        WHERE NOT EXISTS (SELECT 1 FROM notice_claims WHERE source_id = n.source_id AND evidence = n.raw)
        ORDER BY n.seen_at LIMIT ?
        """,
        (notices_at_once_max,),
    )
    taken_down = select(
        db,
        """
        SELECT source_id, plugin_id, version, reason FROM tombstones AS t
        WHERE NOT EXISTS (
            SELECT 1 FROM notice_claims
            WHERE kind = 'yank' AND source_id = t.source_id AND plugin_id = t.plugin_id AND about = t.version
              AND node_id = ? AND NOT withdrawn)
        ORDER BY at LIMIT ?
        """,
        (own_id(db), notices_at_once_max),
    )
    return [
        *(statement_of(open_notice(row["raw"]), row["keybind"]) for row in kept),
        *(YankStatement(**row) for row in taken_down),
    ]


def told_by_pins(db: sqlite_utils.Database, statement: NoticeStatement) -> int:
    """Return how many directly pinned nodes announce this very evidence already."""
    return int(
        value(
            db,
            """
            SELECT count(*) FROM notice_claims AS c JOIN peers ON peers.node_id = c.node_id
            WHERE c.kind = ? AND c.subject = ? AND c.evidence = ? AND c.admitted AND peers.pinned AND NOT peers.blocked
            """,
            (str(statement.kind), statement.subject, statement.evidence),
        )
    )


# ---- What nodes say.


def keep_claim(
    db: sqlite_utils.Database, announcement: AcceptedAnnouncement, statement: NoticeStatement, admitted: bool, at: int
) -> None:
    """Keep what a node says, take in the publisher's word that it relays, conclude what follows; `at` in seconds."""
    change(
        db,
        """
        INSERT INTO notice_claims (kind, subject, node_id, source_id, plugin_id, about, content, evidence, keybind,
                                   withdrawn, announcement_id, epoch, seq, admitted, received_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (kind, subject, node_id) DO UPDATE SET
            content = excluded.content, evidence = excluded.evidence, keybind = excluded.keybind,
            withdrawn = excluded.withdrawn, announcement_id = excluded.announcement_id,
            epoch = excluded.epoch, seq = excluded.seq, admitted = excluded.admitted,
            received_at = excluded.received_at
        WHERE (excluded.epoch, excluded.seq) >= (epoch, seq)
        """,
        (
            str(statement.kind),
            statement.subject,
            announcement.author,
            statement.source_id,
            getattr(statement, "plugin_id", ""),
            _about(statement),
            to_json(_content(statement)),
            statement.evidence,
            statement.keybind,
            getattr(statement, "withdrawn", False),
            announcement.id,
            announcement.epoch,
            announcement.seq,
            admitted,
            at,
        ),
    )
    for claim in select(db, CLAIM, (announcement.id,)) if admitted else ():
        reconsider_claim(db, claim, at)


CLAIM: Final = "SELECT * FROM notice_claims WHERE announcement_id = ?"


def reconsider_claim(db: sqlite_utils.Database, claim: Row, now: int) -> None:
    """Take in the publisher's word that a claim relays, or judge again what the node's own word acts on.

    `now`, in seconds, and not when the claim came: a change of key that waited in the announcement of a stranger was
    seen by nobody, and begins to cool down, and may be undone, when it begins to count.
    """
    if claim["evidence"]:
        take_quietly(db, claim["evidence"], claim["keybind"], now)
        return
    node_id: bytes = claim["node_id"]
    acts = node_id == own_id(db) or value(db, "SELECT pinned AND NOT blocked FROM peers WHERE node_id = ?", (node_id,))
    if acts:
        releases.refresh(db, claim["source_id"], claim["plugin_id"])


def take_quietly(db: sqlite_utils.Database, raw: bytes, keybind: bytes, now: int) -> None:
    """Take in a notice that came with something else; one that does not count yet stays a claim."""
    try:
        if keybind:
            take_binding(db, keybind, now)
        take_notice(db, raw, now)
    except Refusal:
        pass  # It stays as evidence of a claim, and is looked at again when a key of the source becomes known.


def look_again(db: sqlite_utils.Database, source_id: str, now: int) -> None:
    """Take in what nodes relay of a source's publisher, and could not be believed before; `now` in seconds.

    The source is known now, or another of its keys, or what its key signs for anybody.
    """
    rows: list[Row] = select(
        db,
        """
        SELECT evidence, keybind FROM notice_claims AS c LEFT JOIN peers ON peers.node_id = c.node_id
        WHERE source_id = ? AND admitted AND length(evidence) > 0
        GROUP BY evidence ORDER BY max(coalesce(peers.pinned, 0)) DESC, max(received_at) DESC LIMIT ?
        """,
        (source_id, notices_at_once_max),
    )
    for _ in range(_LOOKS_MAX):
        before = state_of(db, source_id), _count(db, source_id)
        advised: set[tuple[str, str]] = set()
        for row in rows:
            try:
                opened = open_notice(row["evidence"])
                source = get_source(db, opened.source_id)
                if source is not None:
                    _bind(db, row["keybind"], now)
                    if _take(db, source, opened, row["keybind"], now) and isinstance(opened.notice, Advisory):
                        advised.add((source.id, opened.notice.slug))
            except Refusal:
                continue
        mark_advised(db, advised)
        if (state_of(db, source_id), _count(db, source_id)) == before:
            return


def _about(statement: NoticeStatement) -> str:
    match statement:
        case YankStatement():
            return statement.version
        case AdvisoryStatement():
            return statement.advisory_id
        case RevokeStatement():
            return statement.change


def _content(statement: NoticeStatement) -> dict[str, Any]:
    match statement:
        case YankStatement():
            return {"reason": statement.reason}
        case AdvisoryStatement():
            return advisory_content(statement) if not statement.evidence else {}
        case RevokeStatement():
            return {}
