"""What announcements say, table by table, and what has to be concluded anew when one comes, moves or goes.

Of the claims of one author about one subject the latest (epoch, seq) stands. `admitted` says whether the author is in
the set: claims of others are kept, so that they count at once when their author is admitted, and are shown to nobody.
"""

import time
from typing import Any, Final, assert_never

import sqlite_utils

from pfn_node.store import discovery, notices, releases, successions
from pfn_node.store.facts import own_id, trust_depth
from pfn_node.store.observations import note_announced, store_observation
from pfn_node.store.queries import Row, change, select, select_one, value
from pfn_node.store.rows import Observation
from pfn_node.store.standpoint import has_standing, pins_of, reached_over
from pfn_protocol.announcements import (
    AcceptedAnnouncement,
    AdvisoryStatement,
    Conviction,
    Kind,
    MirrorStatement,
    NodeStatement,
    RevokeStatement,
    SourceStatement,
    SuccessionStatement,
    SuccessorStatement,
    VersionStatement,
    YankStatement,
)
from pfn_protocol.limits import mirror_lifetime_ms

# By kind: the statements that move, and remove, what an announcement says. A commitment to a next key counts since it
# was seen, wherever its announcement stands; a succession is judged when it comes, and leaves nothing to move.
ADMIT: Final[dict[str, str]] = {
    Kind.NODE: "UPDATE node_claims SET admitted = ? WHERE announcement_id = ?",
    Kind.SOURCE: "UPDATE attestations SET admitted = ? WHERE announcement_id = ?",
    Kind.VERSION: "UPDATE observations SET admitted = ? WHERE announcement_id = ?",
    Kind.MIRROR: "UPDATE mirror_claims SET admitted = ? WHERE announcement_id = ?",
    Kind.YANK: "UPDATE notice_claims SET admitted = ? WHERE announcement_id = ?",
    Kind.ADVISORY: "UPDATE notice_claims SET admitted = ? WHERE announcement_id = ?",
    Kind.REVOKE: "UPDATE notice_claims SET admitted = ? WHERE announcement_id = ?",
    Kind.CONVICTION: "UPDATE convictions SET admitted = ? WHERE announcement_id = ?",
}
DELETE: Final[dict[str, str]] = {
    Kind.NODE: "DELETE FROM node_claims WHERE announcement_id = ?",
    Kind.SOURCE: "DELETE FROM attestations WHERE announcement_id = ?",
    Kind.VERSION: "DELETE FROM observations WHERE announcement_id = ?",
    Kind.MIRROR: "DELETE FROM mirror_claims WHERE announcement_id = ?",
    Kind.YANK: "DELETE FROM notice_claims WHERE announcement_id = ?",
    Kind.ADVISORY: "DELETE FROM notice_claims WHERE announcement_id = ?",
    Kind.REVOKE: "DELETE FROM notice_claims WHERE announcement_id = ?",
    Kind.SUCCESSOR: successions.FORGET_COMMITMENT,
    Kind.CONVICTION: "DELETE FROM convictions WHERE announcement_id = ?",
}


def add(db: sqlite_utils.Database, announcement: AcceptedAnnouncement, admitted: bool, at: int) -> None:
    """Store what an announcement says, and conclude what follows; `at` in seconds."""
    match announcement.statement:
        case NodeStatement() as node:
            _keep_node(db, announcement, node, admitted)
        case SourceStatement() as source:
            _keep_source(db, announcement, source, admitted, at)
        case VersionStatement() as version:
            _keep_version(db, announcement, version, admitted, at)
        case MirrorStatement() as mirror:
            _keep_mirror(db, announcement, mirror, admitted)
        case (YankStatement() | AdvisoryStatement() | RevokeStatement()) as notice:
            notices.keep_claim(db, announcement, notice, admitted, at)
        case SuccessorStatement() as successor:
            successions.keep_commitment(db, announcement, successor, at)
        case SuccessionStatement() as succession:
            successions.keep_succession(db, announcement, succession, at)
        case Conviction() as conviction:
            _keep_conviction(db, announcement, conviction, admitted)
        case _:
            assert_never(announcement.statement)


def affected(db: sqlite_utils.Database, announcement_id: bytes, row: Row) -> list[Any]:
    """Return what rests on an announcement: a source and its standing, a version, or nodes reached over pins."""
    match Kind(row["kind"]):
        case Kind.NODE:
            return _reached(db, row["author"])
        case Kind.SOURCE:
            return [(row["subject"], discovery.standing(db, row["subject"]))]
        case Kind.VERSION:
            return [tuple(row["subject"].rsplit("/", 2))]
        case Kind.MIRROR | Kind.CONVICTION | Kind.SUCCESSOR | Kind.SUCCESSION:
            return []
        case Kind.YANK | Kind.ADVISORY | Kind.REVOKE:
            return select(db, notices.CLAIM, (announcement_id,))


def conclude(db: sqlite_utils.Database, row: Row, affected: list[Any]) -> None:
    """Draw anew the conclusions that rested on an announcement, as `affected` named them before it moved."""
    match Kind(row["kind"]):
        case Kind.NODE:
            _refresh_reached(db, row["author"], affected)
        case Kind.SOURCE:
            for source_id, before in affected:
                discovery.reconsider(db, source_id, before)
        case Kind.VERSION:
            for source_id, plugin_id, version in affected:
                releases.refresh_version(db, source_id, plugin_id, version)
        case Kind.MIRROR | Kind.CONVICTION | Kind.SUCCESSOR | Kind.SUCCESSION:
            pass  # who mirrors what is counted where it is shown; what rested on a convicted node has gone by itself
        case Kind.YANK | Kind.ADVISORY | Kind.REVOKE:
            for claim in affected:
                notices.reconsider_claim(db, claim, int(time.time()))


_WORD_OF_NODE: Final = "SELECT pins, admitted, departed FROM node_claims WHERE node_id = ?"


def _keep_node(
    db: sqlite_utils.Database, announcement: AcceptedAnnouncement, statement: NodeStatement, admitted: bool
) -> None:
    pins = b"".join(statement.pins)
    before = select_one(db, _WORD_OF_NODE, (announcement.author,))
    # A stranger may name anybody in its pins, as often as it likes; nobody's standing rests on that.
    matters = has_standing(db, announcement.author)
    reached_before = _reached(db, announcement.author)
    change(
        db,
        """
        INSERT INTO node_claims (node_id, url, software, pins, departed, announcement_id, epoch, seq, admitted)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (node_id) DO UPDATE SET
            url = excluded.url, software = excluded.software, pins = excluded.pins, departed = excluded.departed,
            announcement_id = excluded.announcement_id, epoch = excluded.epoch, seq = excluded.seq,
            admitted = excluded.admitted
        WHERE (excluded.epoch, excluded.seq) >= (epoch, seq)
        """,
        (
            announcement.author,
            statement.url,
            statement.software,
            pins,
            statement.left,
            announcement.id,
            announcement.epoch,
            announcement.seq,
            admitted,
        ),
    )
    # Most renewals change nothing that anybody's standing rests on.
    if matters and before != select_one(db, _WORD_OF_NODE, (announcement.author,)):
        _refresh_reached(db, announcement.author, reached_before)


def _reached(db: sqlite_utils.Database, node: bytes) -> list[bytes]:
    """Whose word rests on the pins of this node: that it backs bytes, or with trust depth 1 that it witnesses."""
    if not has_standing(db, node):
        return []
    return reached_over(db, node) if trust_depth(db) > 1 else pins_of(db, node)


def _refresh_reached(db: sqlite_utils.Database, node: bytes, reached_before: list[bytes]) -> None:
    """Judge again what rests on the word of nodes that are, or were, reached over this one's pins."""
    reached_now = _reached(db, node)
    if trust_depth(db) == 1:
        releases.refresh_witnessed(db, sorted(set(reached_before) ^ set(reached_now)))
        return
    for observer in dict.fromkeys([*reached_before, *reached_now]):
        releases.refresh_observer(db, observer)


def _keep_source(
    db: sqlite_utils.Database, announcement: AcceptedAnnouncement, statement: SourceStatement, admitted: bool, at: int
) -> None:
    before = discovery.standing(db, statement.source_id)
    change(
        db,
        """
        INSERT INTO attestations (source_id, observer, public_key, verified, verified_at, instance_url, username,
                                  asset_domain, asset_naming_scheme, oracle, announcement_id, epoch, seq, admitted,
                                  received_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (source_id, observer) DO UPDATE SET
            public_key = excluded.public_key, verified = excluded.verified, verified_at = excluded.verified_at,
            instance_url = excluded.instance_url, username = excluded.username, asset_domain = excluded.asset_domain,
            asset_naming_scheme = excluded.asset_naming_scheme, oracle = excluded.oracle,
            announcement_id = excluded.announcement_id,
            epoch = excluded.epoch, seq = excluded.seq, admitted = excluded.admitted
        WHERE (excluded.epoch, excluded.seq) >= (epoch, seq)
        """,
        (
            statement.source_id,
            announcement.author,
            statement.public_key,
            statement.verified,
            statement.verified_at,
            statement.instance_url,
            statement.username,
            statement.asset_domain,
            statement.asset_naming_scheme,
            statement.oracle,
            announcement.id,
            announcement.epoch,
            announcement.seq,
            admitted,
            at,
        ),
    )
    discovery.reconsider(db, statement.source_id, before)


_ANNOUNCED_BEFORE: Final = """
    SELECT announcement_id FROM observations
    WHERE source_id = ? AND plugin_id = ? AND version = ? AND observer = ? AND sha256 = ?
"""


def _keep_version(
    db: sqlite_utils.Database, announcement: AcceptedAnnouncement, statement: VersionStatement, admitted: bool, at: int
) -> None:
    if store_version(db, announcement, statement, admitted, at) and admitted:
        releases.refresh_version(db, statement.source_id, statement.plugin_id, statement.version, now=at)
        releases.take_heads(db, statement.source_id, statement.evidence, at)


def store_version(
    db: sqlite_utils.Database, announcement: AcceptedAnnouncement, statement: VersionStatement, admitted: bool, at: int
) -> bool:
    """Store what a node saw, and conclude nothing; return False if it is this node's own, which stands already."""
    observation = Observation(
        source_id=statement.source_id,
        plugin_id=statement.plugin_id,
        version=statement.version,
        observer=announcement.author,
        announcement_id=announcement.id,
        sha256=statement.sha256,
        size=statement.size,
        name=statement.name,
        description=statement.description,
        tags=statement.tags,
        type=statement.type,
        evidence=statement.evidence,
        observed_at=statement.observed_at,
    )
    if announcement.author == own_id(db) and note_announced(db, observation, announcement.epoch, announcement.seq):
        return False
    before = value(db, _ANNOUNCED_BEFORE, (*announcement.subject.rsplit("/", 2), announcement.author, statement.sha256))
    store_observation(
        db, observation, epoch=announcement.epoch, seq=announcement.seq, admitted=admitted, received_at=at
    )
    if before not in (None, announcement.id):
        # Kept as evidence, it has been replaced by this one.
        change(db, "DELETE FROM announcements WHERE id = ? AND place = 'evidence'", (before,))
    return True


def _keep_mirror(
    db: sqlite_utils.Database, announcement: AcceptedAnnouncement, statement: MirrorStatement, admitted: bool
) -> None:
    change(
        db,
        """
        INSERT INTO mirror_claims (source_id, node_id, count, digest, announcement_id, epoch, seq, admitted, expires_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (source_id, node_id) DO UPDATE SET
            count = excluded.count, digest = excluded.digest, announcement_id = excluded.announcement_id,
            epoch = excluded.epoch, seq = excluded.seq, admitted = excluded.admitted, expires_at = excluded.expires_at
        WHERE (excluded.epoch, excluded.seq) >= (epoch, seq)
        """,
        (
            statement.source_id,
            announcement.author,
            statement.count,
            statement.digest,
            announcement.id,
            announcement.epoch,
            announcement.seq,
            admitted,
            (announcement.seq + mirror_lifetime_ms) // 1000,
        ),
    )


def _keep_conviction(
    db: sqlite_utils.Database, announcement: AcceptedAnnouncement, statement: Conviction, admitted: bool
) -> None:
    change(
        db,
        """
        INSERT OR REPLACE INTO convictions (node_id, announcement_id, told, first, second, admitted)
        VALUES (?, ?, ?, ?, ?, ?)
        """,
        (announcement.author, announcement.id, statement.told, *statement.announcements, admitted),
    )
