"""The announcements that the mesh machine decided to keep, and what each of them says, in one transaction.

The raw envelope is kept as it was received, to be relayed and to be proof. Beside it stands what it says, in the
table of its kind, marked with whether the author is admitted; and what follows from it for sources and releases is
concluded at once. The machine decides what is in the set; nothing here judges that.

An announcement that leaves the set while its bytes are held here stays as *evidence*, outside the set: it is neither
relayed nor restored, but what it saw still counts for those bytes. Not if its author was convicted: then everything of
it goes at once, and bytes that rested on its word alone are no longer served.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import sqlite_utils

from pfn_node.store import claims, successions
from pfn_node.store.activity import record_activity
from pfn_node.store.facts import get_fact, own_id, set_fact
from pfn_node.store.peers import peer_from
from pfn_node.store.queries import Row, change, select, select_one, to_json, value
from pfn_node.store.rows import Peer
from pfn_node.store.standpoint import pinned_by_pinned
from pfn_protocol.acceptance import KIND_OF_DOMAIN
from pfn_protocol.announcement_fields import decode, marks_of_version
from pfn_protocol.announcements import AcceptedAnnouncement, Conviction, Kind
from pfn_protocol.encoding import accepted_body, unpack
from pfn_protocol.equivocation import convict
from pfn_protocol.limits import announcement_bytes_max
from pfn_protocol.slots import Entry, entry_of

IN_SET: Final = "set"
PARKED: Final = "parked"
EVIDENCE: Final = "evidence"

# Candidates for a download: three are tried, and the mesh room asks them first which of them have it.
HOLDERS_MAX: Final = 32
# A slot with fewer announcements has no other one.
_SLOT_MIN: Final = 2
# Releases that a sentence about many names.
NAMED_MAX: Final = 5
# Integers that are shared, as Python shares none over 256.
_SIZES: Final = tuple(range(announcement_bytes_max + 1))
_OWN_LAST: Final = "own_last"


def keep(db: sqlite_utils.Database, announcement: AcceptedAnnouncement, admitted: bool, at: int) -> bool:
    """Keep an announcement and what it says; `at` in seconds. Return False if it stood in the same place already."""
    place = IN_SET if admitted else PARKED
    before = value(db, "SELECT place FROM announcements WHERE id = ?", (announcement.id,))
    if before == place:
        return False
    change(
        db,
        """
        INSERT INTO announcements (id, raw, author, kind, subject, epoch, seq, content, replaces, place, received_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET place = excluded.place, concluded = 1
        """,
        (
            announcement.id,
            announcement.raw,
            announcement.author,
            str(announcement.kind),
            announcement.subject,
            announcement.epoch,
            announcement.seq,
            announcement.content,
            announcement.replaces,
            place,
            at,
        ),
    )
    if announcement.author == own_id(db):
        _remember_own(db, announcement)
    claims.add(db, announcement, admitted, at)
    if admitted and announcement.kind is Kind.CONVICTION:
        _disbelieve(db, announcement.author, at)
    return True


def keep_conviction(db: sqlite_utils.Database, one: bytes, other: bytes, at: int) -> None:
    """Keep the conviction that two announcements make which are kept; nothing else of their author is, from now on."""
    rows = select(db, "SELECT id, raw, author, kind FROM announcements WHERE id IN (?, ?)", (one, other))
    keep(db, convict(*(announcement_from(db, row) for row in rows)), True, at)


def drop(db: sqlite_utils.Database, ids: Iterable[bytes]) -> None:
    """Forget announcements that left the set for good, except what is evidence for bytes held here."""
    for announcement_id in ids:
        row = _head(db, announcement_id)
        if row is None:
            continue
        others = _same_bytes(db, announcement_id, row) if row["kind"] == Kind.VERSION else []
        if row["kind"] == Kind.VERSION and not others and _retain(db, announcement_id, row):
            continue
        change(db, "DELETE FROM announcements WHERE id = ?", (announcement_id,))
        _withdraw(db, announcement_id, row)
        for other, place, received_at in others:
            claims.add(db, other, place == IN_SET, received_at)


def change_admission(db: sqlite_utils.Database, admitted_ids: Iterable[bytes], parked_ids: Iterable[bytes]) -> None:
    """Move announcements into the set, or out of it without dropping them; conclude anew what rests on them."""
    for ids, admitted in ((admitted_ids, True), (parked_ids, False)):
        for announcement_id in ids:
            row = _head(db, announcement_id)
            if row is not None:
                _move(db, announcement_id, row, admitted)


def bodies(db: sqlite_utils.Database, ids: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return the raw announcements with these ids, in their order; those that are not here are left out."""
    found = {}
    for announcement_id in ids:
        raw = value(db, "SELECT raw FROM announcements WHERE id = ? AND place <> 'evidence'", (announcement_id,))
        if raw is not None:
            found[announcement_id] = raw
    return found


def restore(db: sqlite_utils.Database) -> Iterator[tuple[Entry, bool]]:
    """Yield of every announcement that was kept what the machine remembers of it, and whether it is in the set.

    Read row by row, so use it up inside the `read` that it was made in.
    """
    # One object for all that is the same in thousands of rows.
    authors: dict[bytes, bytes] = {}
    parked = {row[0] for row in db.execute("SELECT id FROM announcements WHERE place = 'parked'")}
    for one, told, size, author, kind, subject, epoch, seq, replaces in db.execute(_KEPT):
        author = authors.setdefault(author, author)
        if kind is not None:
            entry = entry_of(announcement_from(db, {"id": one, "raw": told, "author": author, "kind": kind}))
        else:
            if replaces is None:
                told, replaces = marks_of_version(accepted_body(told))
            entry = Entry(one, author, Kind.VERSION, subject, epoch, seq, _SIZES[size], told, replaces)
        yield entry, one not in parked


# What was told: of a version the digest that stands beside it; the whole announcement if it is of another kind, or from
# before the marks of a version stood beside it. Every column more takes a quarter of a second for a million rows.
_KEPT: Final = """
    SELECT id, CASE WHEN kind = 'version' AND replaces IS NOT NULL THEN content ELSE raw END, length(raw), author,
           nullif(kind, 'version'), subject, epoch, seq, replaces
    FROM announcements
    WHERE place <> 'evidence'
    ORDER BY rowid
"""


def own_last(db: sqlite_utils.Database, author: bytes) -> tuple[int, int]:
    """Return the greatest (epoch, seq) that an author is known to have used; (0, 0) if none.

    For this node itself it is remembered also when all that it announced has expired: no number is ever used twice.
    """
    row = db.execute(
        "SELECT epoch, seq FROM announcements WHERE author = ? ORDER BY epoch DESC, seq DESC LIMIT 1", (author,)
    ).fetchone()
    last = (0, 0) if row is None else (int(row[0]), int(row[1]))
    return max(last, _remembered_own(db)) if author == own_id(db) else last


def convictions(db: sqlite_utils.Database, limit: int) -> dict[bytes, tuple[bytes, bytes]]:
    """Return nodes in the set that were proved to have told two stories, each with the ids of the two.

    At most so many, first those that the operator joined, pinned or blocked: keys to be convicted of cost nothing.
    """
    rows = select(
        db,
        """
        SELECT node_id, first, second FROM convictions LEFT JOIN peers USING (node_id) WHERE admitted
        ORDER BY coalesce(joined OR pinned OR blocked, 0) DESC, node_id LIMIT ?
        """,
        (limit,),
    )
    return {row["node_id"]: (row["first"], row["second"]) for row in rows}


def holders(db: sqlite_utils.Database, source_id: str, sha256: bytes, *, now: int | None = None) -> list[Peer]:
    """Return nodes that may serve an artifact: pinned ones first, then those that pinned ones pin, then anybody.

    Among equals who observed it comes before who mirrors the source. Saying either costs a stranger nothing, and ids
    can be made to order; so strangers come in no order that they could choose, and another time others of them come.
    Nodes without a URL, blocked ones and this one itself are left out. `now` in seconds, the clock's if left out.
    """
    rows = select(
        db,
        """
        WITH candidates AS (
            SELECT observer AS node_id, 1 AS saw_it FROM observations WHERE sha256 = :digest AND source_id = :source
            UNION ALL
            SELECT node_id, 0 FROM mirror_claims
            WHERE source_id = :source AND admitted AND count > 0 AND expires_at > :now
        )
        SELECT c.node_id, coalesce(peers.url, nullif(n.url, '')) AS url, coalesce(peers.joined, 0) AS joined,
               coalesce(peers.pinned, 0) AS pinned, coalesce(peers.provisional, 0) AS provisional, 0 AS blocked,
               coalesce(peers.unpinned, 0) AS unpinned, coalesce(peers.introduced, 0) AS introduced, peers.last_seen,
               hex(c.node_id) IN (SELECT upper(value) FROM json_each(:vouched)) AS vouched
        FROM candidates AS c
        LEFT JOIN peers ON peers.node_id = c.node_id
        LEFT JOIN node_claims AS n ON n.node_id = c.node_id
        WHERE c.node_id <> :own AND NOT coalesce(peers.blocked, 0) AND NOT coalesce(n.departed, 0)
          AND coalesce(peers.url, nullif(n.url, '')) IS NOT NULL
        GROUP BY c.node_id
        ORDER BY pinned DESC, vouched DESC, coalesce(n.admitted, 0) DESC, max(c.saw_it) DESC,
                 CASE WHEN pinned OR vouched THEN peers.last_seen END DESC, random()
        LIMIT :limit
        """,
        {
            "digest": sha256,
            "source": source_id,
            "now": int(time.time()) if now is None else now,
            "own": own_id(db),
            "vouched": to_json([node.hex() for node in pinned_by_pinned(db)]),
            "limit": HOLDERS_MAX,
        },
    )
    return [peer_from(row) for row in rows]


def _head(db: sqlite_utils.Database, announcement_id: bytes) -> Row | None:
    """What is known of an announcement that is about to move; concluded first, if it still waited for that."""
    row = select_one(
        db,
        """
        SELECT id, raw, author, kind, subject, place, received_at, concluded FROM announcements WHERE id = ?
        """,
        (announcement_id,),
    )
    if row is not None and not row["concluded"]:
        claims.add(db, announcement_from(db, row), row["place"] == IN_SET, row["received_at"])
        change(db, "UPDATE announcements SET concluded = 1 WHERE id = ?", (announcement_id,))
    return row


def _same_bytes(
    db: sqlite_utils.Database, announcement_id: bytes, row: Row
) -> list[tuple[AcceptedAnnouncement, str, int]]:
    """What else stands in a version slot and says the same as the one that goes: what was seen stands on it."""
    slot = select(
        db,
        """
        SELECT id, raw, author, kind, place, received_at FROM announcements
        WHERE author = ? AND subject = ? AND kind = 'version' AND place <> 'evidence'
        """,
        (row["author"], row["subject"]),
    )
    if len(slot) < _SLOT_MIN:
        return []
    told = [(announcement_from(db, one), one["place"], one["received_at"]) for one in slot]
    content = next((one.content for one, _, _ in told if one.id == announcement_id), b"")
    return [each for each in told if each[0].id != announcement_id and each[0].content == content]


def _move(db: sqlite_utils.Database, announcement_id: bytes, row: Row, admitted: bool) -> None:
    if row["kind"] == Kind.VERSION:
        _retain_bytes_held(db, announcement_id)
    change(
        db,
        "UPDATE announcements SET place = ? WHERE id = ?",
        (IN_SET if admitted else PARKED, announcement_id),
    )
    affected = claims.affected(db, announcement_id, row)
    if row["kind"] in claims.ADMIT:
        change(db, claims.ADMIT[row["kind"]], (admitted, announcement_id))
    claims.conclude(db, row, affected)
    if admitted and row["kind"] == Kind.CONVICTION:
        _disbelieve(db, row["author"], int(time.time()))


def _retain(db: sqlite_utils.Database, announcement_id: bytes, row: Row) -> bool:
    """Keep a version outside the set, if its bytes are held here; return whether it is kept."""
    if not _retain_bytes_held(db, announcement_id):
        return False
    affected = claims.affected(db, announcement_id, row)
    change(db, "UPDATE announcements SET place = 'evidence' WHERE id = ?", (announcement_id,))
    change(db, "UPDATE observations SET admitted = 0 WHERE announcement_id = ?", (announcement_id,))
    claims.conclude(db, row, affected)
    return True


def _retain_bytes_held(db: sqlite_utils.Database, announcement_id: bytes) -> bool:
    retained = change(
        db,
        """
        UPDATE observations SET retained = 1
        WHERE announcement_id = ? AND EXISTS (SELECT 1 FROM artifacts WHERE artifacts.sha256 = observations.sha256)
        """,
        (announcement_id,),
    )
    return retained > 0


def _withdraw(db: sqlite_utils.Database, announcement_id: bytes, row: Row) -> None:
    affected = claims.affected(db, announcement_id, row)
    if row["kind"] == Kind.VERSION:
        # What this node saw itself it saw, whether or not it still says so.
        change(
            db,
            "UPDATE observations SET announcement_id = NULL WHERE announcement_id = ? AND observer = ?",
            (announcement_id, own_id(db)),
        )
    if row["kind"] in claims.DELETE:
        change(db, claims.DELETE[row["kind"]], (announcement_id,))
    claims.conclude(db, row, affected)


def _remember_own(db: sqlite_utils.Database, announcement: AcceptedAnnouncement) -> None:
    epoch, seq = max((announcement.epoch, announcement.seq), _remembered_own(db))
    set_fact(db, _OWN_LAST, f"{epoch} {seq}")


def _remembered_own(db: sqlite_utils.Database) -> tuple[int, int]:
    epoch, _, seq = (get_fact(db, _OWN_LAST) or "0 0").partition(" ")
    return int(epoch), int(seq)


_HELD_ON_ITS_WORD: Final = """
    SELECT r.source_id, r.plugin_id, r.version FROM releases AS r JOIN observations AS o
      ON o.source_id = r.source_id AND o.plugin_id = r.plugin_id AND o.version = r.version AND o.sha256 = r.sha256
    WHERE o.observer = ? AND r.backed AND r.mirrored ORDER BY r.source_id, r.plugin_id, r.version
"""
_IS_BACKED: Final = "SELECT 1 FROM releases WHERE source_id = ? AND plugin_id = ? AND version = ? AND backed"


def _disbelieve(db: sqlite_utils.Database, author: bytes, at: int) -> None:
    """Withdraw everything that a convicted node said, and tell of the bytes that rested on its word alone."""
    held = [tuple(row.values()) for row in select(db, _HELD_ON_ITS_WORD, (author,))]
    rows = select(
        db,
        "SELECT id, author, kind, subject, place FROM announcements WHERE author = ? AND kind <> 'conviction'",
        (author,),
    )
    for row in rows:
        change(db, "DELETE FROM announcements WHERE id = ?", (row["id"],))
        _withdraw(db, row["id"], row)
    successions.disinherit(db, author, at)
    lost = [" ".join(release[1:]) for release in held if value(db, _IS_BACKED, release) is None]
    if lost:
        named = ", ".join(lost[:NAMED_MAX]) + (", ..." if len(lost) > NAMED_MAX else "")
        sentence = (
            f"{len(lost)} releases rested on the word of a convicted node alone and are no longer served: {named}"
        )
        record_activity(db, "security", sentence, at=at)


def announcement_from(db: sqlite_utils.Database, row: Row) -> AcceptedAnnouncement:
    """Return the announcement of a row. It was accepted before it was stored: nothing is checked again."""
    if row["kind"] == Kind.CONVICTION:
        proof = select_one(db, "SELECT told, first, second FROM convictions WHERE node_id = ?", (row["author"],))
        assert proof is not None, "what an announcement says is kept with it"
        statement = Conviction((proof["first"], proof["second"]), proof["told"])
        return AcceptedAnnouncement(row["id"], row["raw"], row["author"], 0, 0, statement)
    envelope: Any = unpack(row["raw"], announcement_bytes_max)
    _, domain, author, body, _ = envelope
    epoch, seq, said = decode(KIND_OF_DOMAIN[domain], unpack(body, announcement_bytes_max))
    return AcceptedAnnouncement(row["id"], row["raw"], author, epoch, seq, said)
