"""Which keys speak for each source: kept as the publisher's own envelopes, and concluded anew when one comes.

The key that an admin registered, or chose last, is the root (`key_roots`). From there on the publisher's rotations,
revocations and keybinds decide (pfn_protocol/key_standing.py), each from the moment when this node saw it. What follows
is written to `source_keys`, for those who judge releases; a source that an admin registered, or that proved its key
here, takes over the key that follows without asking anybody, and the operator is alerted.
"""

from collections.abc import Collection
from functools import lru_cache
from typing import Any, Final

import sqlite_utils

from pfn_node.store.activity import record_activity
from pfn_node.store.changes import note_source_change
from pfn_node.store.queries import change, select, select_one, value
from pfn_node.store.releases import refresh_source
from pfn_node.store.rows import Source
from pfn_node.store.sources import get_source, update_source
from pfn_node.store.statements_kept import was_relied_on
from pfn_protocol.identity import did_key, parse_public_key, public_key_pem
from pfn_protocol.key_standing import Seen, SourceKeys, Standing, derive_keys
from pfn_protocol.limits import key_changes_max, keybinds_max
from pfn_protocol.publisher import KeybindStatement, open_keybind
from pfn_protocol.publisher_notices import OpenNotice, Revocation, Rotation, open_notice

# What is kept was checked when it came, and is read again whenever keys are derived: each costs two signatures. As many
# as one source may have keys and keybinds, for some dozens of sources.
_KEPT_OPEN_MAX: Final = 2_048
_open_kept_notice = lru_cache(_KEPT_OPEN_MAX)(open_notice)
_open_kept_keybind = lru_cache(_KEPT_OPEN_MAX)(open_keybind)

# Revocations that are kept of one source though no keybind of their key is known: they may overtake it on their way.
UNBOUND_MAX: Final = 8

ROTATE: Final = "rotate"
REVOKE: Final = "revoke"


def keys_of(
    db: sqlite_utils.Database,
    source: Source,
    also: OpenNotice | None = None,
    now: int = 0,
    without: Collection[str] = (),
) -> SourceKeys:
    """Work out which keys speak for a source; `also` as if it had been kept `now`, and no subject of `without`."""
    root = select_one(db, "SELECT root, epoch FROM key_roots WHERE source_id = ?", (source.id,))
    if not _is_relied_on(db, source):
        root = None  # of what is only heard of, the chain begins where the word of now says
    kept = [
        Seen(_open_kept_notice(row["raw"]), row["signer"], row["seen_at"])
        for row in select(
            db,
            """
            SELECT subject, raw, signer, seen_at FROM publisher_notices
            WHERE source_id = ? AND kind IN ('rotate', 'revoke')
            """,
            (source.id,),
        )
        if row["subject"] not in without
    ]
    if also is not None:
        kept.append(Seen(also, also.signer, now))
    return derive_keys(
        parse_public_key(source.public_key) if root is None else root["root"],
        0 if root is None else root["epoch"],
        _keybinds(db, source.id),
        [
            Seen(one.statement.notice, one.signer, one.seen_s)
            for one in kept
            if isinstance(one.statement.notice, Rotation)
        ],
        [
            Seen(one.statement.notice, one.signer, one.seen_s)
            for one in kept
            if isinstance(one.statement.notice, Revocation)
        ],
    )


def _is_relied_on(db: sqlite_utils.Database, source: Source) -> bool:
    """Whether an admin named its key, or it was proved here: then only the publisher, or the admin, changes it.

    Also if that was before the source was removed, and it is only heard of since.
    """
    return source.registered or source.verified_at is not None or was_relied_on(db, source.id)


def _keybinds(db: sqlite_utils.Database, source_id: str) -> list[Seen[KeybindStatement]]:
    rows = select(db, "SELECT raw, release_key, seen_at FROM keybinds WHERE source_id = ?", (source_id,))
    return [Seen(_open_kept_keybind(row["raw"])[0], row["release_key"], row["seen_at"]) for row in rows]


def state_of(db: sqlite_utils.Database, source_id: str) -> str:
    """Return whether the identity of a source `speaks`, is `frozen`, or is `revoked` with nothing that follows.

    Of a source that is only heard of nobody knows whose keys those are.
    """
    found: str | None = value(
        db,
        """
        SELECT state FROM key_roots JOIN sources ON sources.id = source_id
        WHERE source_id = ? AND (registered OR verified_at IS NOT NULL OR relied)
        """,
        (source_id,),
    )
    return found or "speaks"


def key_changed_at(db: sqlite_utils.Database, source_id: str) -> int | None:
    """Return when a key of a source last changed here, in seconds; None: never."""
    found: int | None = value(db, "SELECT changed_at FROM key_roots WHERE source_id = ?", (source_id,))
    return found


def former_keys(db: sqlite_utils.Database, source_id: str) -> list[bytes]:
    """Return the identity keys that were followed by others, and not revoked: what they signed before may count on."""
    rows = select(
        db,
        """
        SELECT key FROM source_keys
        WHERE source_id = ? AND is_identity AND standing = 'superseded' ORDER BY epoch DESC
        """,
        (source_id,),
    )
    return [row["key"] for row in rows]


def take_keybind(db: sqlite_utils.Database, source: Source, raw: bytes, statement: KeybindStatement, now: int) -> bool:
    """Keep that an identity key that speaks binds a release key; return whether that is kept, now or before."""
    key = (source.id, statement.release_key, statement.identity_key)
    known = "SELECT 1 FROM keybinds WHERE source_id = ? AND release_key = ? AND identity_key = ?"
    if value(db, known, key):
        return True
    if statement.identity_key == statement.release_key:
        return False
    keys = keys_of(db, source)
    if keys.standing(statement.identity_key, now) is not Standing.SPEAKS:
        return False
    if not _make_room_for_keybind(db, source.id, keys):
        return False
    change(
        db,
        "INSERT INTO keybinds (source_id, release_key, identity_key, raw, seen_at) VALUES (?, ?, ?, ?, ?)",
        (*key, raw, now),
    )
    conclude_keys(db, source.id, now)
    return True


def take_key_change(db: sqlite_utils.Database, source: Source, opened: OpenNotice, keybind: bytes, now: int) -> bool:
    """Keep a rotation or revocation if it changes which keys speak for the source; return whether it does.

    That the source's identity revokes a key of which no keybind is known yet is kept for when one comes, and no news.
    """
    before, after = keys_of(db, source), keys_of(db, source, opened, now)
    if before == after:
        return False
    is_unbound = isinstance(opened.notice, Revocation) and opened.notice.key not in before.records
    if is_unbound and len(_unbound(db, source.id, before)) >= UNBOUND_MAX:
        return False
    if not _make_room(db, source, opened, after, now):
        return False
    kind = ROTATE if isinstance(opened.notice, Rotation) else REVOKE
    added = change(
        db,
        """
        INSERT INTO publisher_notices (source_id, kind, subject, raw, signer, keybind, epoch, seq, withdrawn, seen_at)
        VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0, ?) ON CONFLICT DO NOTHING
        """,
        (source.id, kind, opened.id.hex(), opened.raw, opened.signer, keybind, now),
    )
    if added:
        if not is_unbound:
            _alert(db, source, opened, after, now)
        conclude_keys(db, source.id, now)
    return bool(added) and not is_unbound


def _unbound(db: sqlite_utils.Database, source_id: str, keys: SourceKeys) -> list[bytes]:
    """Keys that were revoked before a keybind of them came."""
    bound = {
        row["release_key"] for row in select(db, "SELECT release_key FROM keybinds WHERE source_id = ?", (source_id,))
    }
    return [record.key for record in keys.records.values() if not record.is_identity and record.key not in bound]


def _make_room(db: sqlite_utils.Database, source: Source, opened: OpenNotice, after: SourceKeys, now: int) -> bool:
    """See that a change has a place; where all are taken, the oldest goes that changes nothing any more beside it.

    Whoever stole a key can take every place with keys of his own; what undoes the theft ends these, and so finds one.
    """
    rows = select(
        db,
        """
        SELECT kind, subject FROM publisher_notices
        WHERE source_id = ? AND kind IN ('rotate', 'revoke') ORDER BY seen_at, subject
        """,
        (source.id,),
    )
    gone: list[str] = []
    for row in rows:
        if len(rows) - len(gone) < key_changes_max:
            break
        if keys_of(db, source, opened, now, [*gone, row["subject"]]) == after:
            gone.append(row["subject"])
            change(
                db,
                "DELETE FROM publisher_notices WHERE source_id = ? AND kind = ? AND subject = ?",
                (source.id, row["kind"], row["subject"]),
            )
    return len(rows) - len(gone) < key_changes_max


def _make_room_for_keybind(db: sqlite_utils.Database, source_id: str, keys: SourceKeys) -> bool:
    """See that a keybind has a place; where all are taken, the last goes that a key made which speaks no longer.

    Not that of a revoked key, which has to be known to be revoked. What the others signed while they spoke brings its
    own keybind, and counts on.
    """
    rows = select(
        db, "SELECT release_key, identity_key FROM keybinds WHERE source_id = ? ORDER BY seen_at DESC", (source_id,)
    )
    if len(rows) < keybinds_max:
        return True
    for row in rows:
        record = keys.records.get(row["release_key"])
        if record is None or record.standing is Standing.SUPERSEDED:
            change(
                db,
                "DELETE FROM keybinds WHERE source_id = ? AND release_key = ? AND identity_key = ?",
                (source_id, row["release_key"], row["identity_key"]),
            )
            return True
    return False


def _alert(db: sqlite_utils.Database, source: Source, opened: OpenNotice, after: SourceKeys, now: int) -> None:
    notice = opened.notice
    if after.frozen:
        message = "two different successors of its key were signed: nothing new counts until an admin chooses the key"
    elif isinstance(notice, Rotation):
        message = (
            f"the publisher's {notice.role} key {did_key(notice.old_key)} is followed by {did_key(notice.new_key)}"
        )
    else:
        assert isinstance(notice, Revocation)
        message = f"the publisher's key {did_key(notice.key)} was revoked"
    if isinstance(notice, Rotation | Revocation) and notice.reason:
        message += f' ("{notice.reason}")'
    record_activity(db, "security", message, at=now, source_id=source.id)
    note_source_change(db, source.id, "key", now)


def choose_key(db: sqlite_utils.Database, source_id: str, now: int, *, was_known: bool) -> None:
    """An admin chose the key that the source has now: whatever its publisher signed before is settled by that.

    `was_known`: its key counted before, so that this is a change from which releases have to cool down.
    """
    source = get_source(db, source_id)
    assert source is not None, "an admin chooses the key of a source that is here"
    key = parse_public_key(source.public_key)
    chosen_at = now if was_known else None
    epochs = (
        open_notice(row["raw"]).notice
        for row in select(db, "SELECT raw FROM publisher_notices WHERE source_id = ? AND kind = 'rotate'", (source_id,))
    )
    change(
        db,
        """
        INSERT INTO key_roots (source_id, root, epoch, state, chosen_at, changed_at) VALUES (?, ?, ?, 'speaks', ?, ?)
        ON CONFLICT (source_id) DO UPDATE SET
            root = excluded.root, epoch = excluded.epoch, chosen_at = excluded.chosen_at
        """,
        (
            source_id,
            key,
            max((one.epoch for one in epochs if isinstance(one, Rotation)), default=0),
            chosen_at,
            chosen_at,
        ),
    )
    conclude_keys(db, source_id, now)


def begin_keys(db: sqlite_utils.Database, source_id: str, now: int) -> None:
    """A source is relied on from now on: what its publisher signed before counts on, if the key is of its chain.

    If it is not, what was kept is another's, perhaps a stranger's own key and whatever that signed: it goes, so that it
    neither takes the publisher's room nor holds its epochs up.
    """
    source = get_source(db, source_id)
    assert source is not None, "it was registered just now"
    if value(db, "SELECT 1 FROM key_roots WHERE source_id = ?", (source_id,)) is None:
        return
    record = keys_of(db, source).records.get(parse_public_key(source.public_key))
    if record is not None and record.is_identity:
        conclude_keys(db, source_id, now)
    else:
        _forget_statements(db, source_id)
        choose_key(db, source_id, now, was_known=False)


def hear_key(db: sqlite_utils.Database, source_id: str, now: int) -> None:
    """Another key is heard of a source that nobody relies on: what follows from the one before ends."""
    source = get_source(db, source_id)
    if source is None or not value(db, "SELECT 1 FROM source_keys WHERE source_id = ?", (source_id,)):
        return
    of_chain = "SELECT 1 FROM source_keys WHERE source_id = ? AND key = ? AND is_identity"
    if not value(db, of_chain, (source_id, parse_public_key(source.public_key))):
        _forget_statements(db, source_id)
    conclude_keys(db, source_id, now)


def _forget_statements(db: sqlite_utils.Database, source_id: str) -> None:
    change(db, "DELETE FROM publisher_notices WHERE source_id = ?", (source_id,))
    change(db, "DELETE FROM keybinds WHERE source_id = ?", (source_id,))


def conclude_keys(db: sqlite_utils.Database, source_id: str, now: int) -> None:
    """Write down which keys speak for a source, take over the last of them, and judge its releases again."""
    source = get_source(db, source_id)
    if source is None:
        return
    keys = keys_of(db, source)
    key = parse_public_key(source.public_key)
    _write(db, source_id, keys)
    if _is_relied_on(db, source):
        columns: dict[str, Any] = {}
        if keys.identity != key:
            columns["public_key"] = public_key_pem(keys.identity)
        # At once, and not when the source is looked at next: what follows from less, standing.py derives then.
        if keys.revoked:
            columns |= {"status": "revoked", "trust_score": 0.0}
        elif keys.frozen:
            columns["status"] = "conflict"
        update_source(db, source_id, **columns)
    change(db, "UPDATE observations SET checked_key = NULL WHERE source_id = ?", (source_id,))
    refresh_source(db, source_id, now=now)


def _write(db: sqlite_utils.Database, source_id: str, keys: SourceKeys) -> None:
    change(db, "DELETE FROM source_keys WHERE source_id = ?", (source_id,))
    for record in keys.records.values():
        change(
            db,
            "INSERT INTO source_keys (source_id, key, is_identity, epoch, standing, cutoff) VALUES (?, ?, ?, ?, ?, ?)",
            (source_id, record.key, record.is_identity, record.epoch, str(record.standing), record.cutoff_s),
        )
    state = "frozen" if keys.frozen else "revoked" if keys.revoked else "speaks"
    change(
        db,
        """
        INSERT INTO key_roots (source_id, root, epoch, state, changed_at) VALUES (:id, :root, :epoch, :state, :changed)
        ON CONFLICT (source_id) DO UPDATE SET
            root = excluded.root, epoch = excluded.epoch, state = excluded.state,
            changed_at = nullif(max(coalesce(chosen_at, 0), coalesce(:changed, 0)), 0)
        """,
        {"id": source_id, "root": keys.root, "epoch": keys.root_epoch, "state": state, "changed": keys.changed_s},
    )
