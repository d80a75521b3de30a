"""The audit log: who changed what on this node, each entry chained to the one before by its hash.

`append` is the one way in, for every room; it belongs into the transaction of the change that it records. The hash of
an entry covers all its fields and the hash of the entry before, so none can be changed, left out or put in between
without every later hash being another. What a chain cannot show by itself is that its end was cut off: for that the
head stands among the facts too, and the log goes on after that one, whatever is left of it. Who can write to the
database can change both; against him an operator notes the head (`GET /federation/health`, or the node's own log, which
has it at every start) and gives it to `pfn audit --check`.

The newest `ENTRIES_MAX` are kept. When older ones go, an entry that names the last of them and its hash takes their
place (`PRUNED`), so that the log still proves where it begins. What strangers can cause is bounded by who calls this
(web/auditing.py).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlite_utils

from pfn_node.logs import without_keys
from pfn_node.store.facts import get_fact, set_fact
from pfn_node.store.queries import Row, change, select, select_one, storable, to_json
from pfn_protocol.encoding import pack

# About 100 MB. A change a minute fills it in a year.
ENTRIES_MAX: Final = 500_000
# Pruned in blocks, for each leaves an entry of its own.
_PRUNE_EVERY: Final = 1_000
TEXT_CHARACTERS_MAX: Final = 400  # of actor, address, action, target, and of each detail
DETAILS_MAX: Final = 20
PRUNED: Final = "audit-pruned"
SYSTEM: Final = "system"  # the actor where nobody asked: the node itself
MASTER: Final = "master"  # the actor who holds the master key

_DOMAIN: Final = "pfn/audit/1"
_HEAD: Final = "audit_head"  # the fact that names the head
_FIRST: Final = bytes(32)  # what stands before the first entry


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry: its number and its hash. Number 0: the log is empty."""

    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that was done, or tried. `at` in seconds; `details` is JSON with sorted names."""

    seq: int
    at: int
    actor: str  # the id of an API key, `master`, `system`, or empty: nobody that this node knows
    address: str | None
    action: str
    target: str | None
    outcome: str  # done, refused, failed, cancelled
    details: str
    previous: bytes
    hash: bytes

    @property
    def told(self) -> dict[str, Any]:
        """`details` as what they say. One damaged entry hides no other: what cannot be read is told as it stands."""
        try:
            told: dict[str, Any] = json.loads(self.details)
        except ValueError:
            return {"unreadable": self.details}
        return told


def append(
    db: sqlite_utils.Database,
    *,
    at: int,
    actor: str,
    action: str,
    target: str | None = None,
    outcome: str = "done",
    address: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> Head:
    """Add an entry and return the new head. Nothing secret may stand in any of it."""
    last = _append(
        db,
        head(db),
        at,
        _text(actor),
        None if address is None else _text(address),
        _text(action),
        None if target is None else _text(target),
        outcome,
        _details(details or {}),
    )
    return _prune(db, last, at) if last.seq % _PRUNE_EVERY == 0 else last


def head(db: sqlite_utils.Database) -> Head:
    """Return the number and hash of the entry that was written last, also if it is not there any more."""
    row = select_one(db, "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
    last = Head(0, _FIRST) if row is None else Head(row["seq"], row["hash"])
    noted = _noted(db)
    return last if noted is None or noted.seq <= last.seq else noted


def cut_off(db: sqlite_utils.Database) -> str | None:
    """Say that the log does not reach to the entry that was written last; None if it does."""
    noted = _noted(db)
    if noted is None:  # nothing was written since this is noted
        return None
    row = select_one(db, "SELECT hash FROM audit WHERE seq = ?", (noted.seq,))
    if row is None:
        return f"entry {noted.seq} was written last, and is not there: the end of the log was cut off"
    return None if row["hash"] == noted.hash else f"entry {noted.seq} is not the one that was written last"


def _noted(db: sqlite_utils.Database) -> Head | None:
    seq, _, digest = (get_fact(db, _HEAD) or "").partition(":")
    return Head(int(seq), bytes.fromhex(digest)) if digest else None


def entries(db: sqlite_utils.Database, after: int = 0, limit: int = 100) -> list[AuditEntry]:
    """Return entries in their order, from the one after number `after` on."""
    rows = select(db, "SELECT * FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))
    return [_entry_from(row) for row in rows]


def entries_before(db: sqlite_utils.Database, before: int | None, limit: int) -> list[AuditEntry]:
    """Return entries in their order, the newest of those before number `before`; None: of all."""
    rows = select(
        db,
        "SELECT * FROM audit WHERE ? IS NULL OR seq < ? ORDER BY seq DESC LIMIT ?",
        (before, before, limit),
    )
    return [_entry_from(row) for row in reversed(rows)]


def broken_within(part: Iterable[AuditEntry]) -> str | None:
    """Say where entries that should follow each other do not, or were changed; what stands before them is not asked."""
    last: AuditEntry | None = None
    for entry in part:
        found = _break_at(entry, last)
        if found is not None:
            return found
        last = entry
    return None


def _break_at(entry: AuditEntry, last: AuditEntry | None) -> str | None:
    """Say why an entry is not what was written after the one before it."""
    if last is not None and entry.seq != last.seq + 1:
        return f"the entries {last.seq + 1} to {entry.seq - 1} are missing"
    if last is not None and entry.previous != last.hash:
        return f"entry {entry.seq} does not follow entry {last.seq}: one of them was changed or put in"
    if entry.hash != hash_of(entry):
        return f"entry {entry.seq} was changed: its hash does not cover what it says"
    return None


def broken(chain: Iterable[AuditEntry], noted: Head | None = None) -> str | None:
    """Say where a log, read from its beginning, is not what was written; None if it is sound.

    `noted` is a head that somebody wrote down earlier: the log has to contain it.
    """
    last: AuditEntry | None = None
    begins_after: Head | None = None
    wanted = noted
    for entry in chain:
        if last is None:
            begins_after = Head(entry.seq - 1, entry.previous)
        found = _break_at(entry, last)
        if found is not None:
            return found
        if wanted is not None and entry.seq == wanted.seq:
            if entry.hash != wanted.hash:
                return f"entry {entry.seq} is not the one that was noted: the log was written anew"
            wanted = None
        if begins_after is not None and _accounts_for(entry, begins_after):
            begins_after = None
        last = entry
    if begins_after is not None and begins_after != Head(0, _FIRST):
        return f"the entries up to {begins_after.seq} are missing, and no entry says that they were pruned"
    if wanted is not None and (last is None or wanted.seq > last.seq):
        return (
            f"the log ends with entry {last.seq if last else 0}, but entry {wanted.seq} was noted: its end was cut off"
        )
    return None


def hash_of(entry: AuditEntry) -> bytes:
    """Return the hash that an entry has to have: SHA-256 over the canonical MessagePack of its fields."""
    fields = (
        _DOMAIN,
        entry.previous,
        entry.seq,
        entry.at,
        entry.actor,
        entry.address,
        entry.action,
        entry.target,
        entry.outcome,
        entry.details,
    )
    return hashlib.sha256(pack(fields)).digest()


def _append(
    db: sqlite_utils.Database,
    before: Head,
    at: int,
    actor: str,
    address: str | None,
    action: str,
    target: str | None,
    outcome: str,
    details: str,
) -> Head:
    open_entry = AuditEntry(before.seq + 1, at, actor, address, action, target, outcome, details, before.hash, hash=b"")
    digest = hash_of(open_entry)
    change(
        db,
        """
        INSERT INTO audit (seq, at, actor, address, action, target, outcome, details, previous, hash)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (open_entry.seq, at, actor, address, action, target, outcome, details, before.hash, digest),
    )
    set_fact(db, _HEAD, f"{open_entry.seq}:{digest.hex()}")
    return Head(open_entry.seq, digest)


def _prune(db: sqlite_utils.Database, last: Head, at: int) -> Head:
    """Let go of what is more than may be kept; the entry that says so is the new head."""
    through = select_one(db, "SELECT seq, hash FROM audit WHERE seq = ?", (last.seq - ENTRIES_MAX,))
    if through is None:
        return last
    change(db, "DELETE FROM audit WHERE seq <= ?", (through["seq"],))
    details = _details({"through": through["seq"], "hash": through["hash"].hex()})
    return _append(db, last, at, SYSTEM, None, PRUNED, None, "done", details)


def _accounts_for(entry: AuditEntry, begins_after: Head) -> bool:
    if entry.action != PRUNED:
        return False
    return entry.told == {"hash": begins_after.hash.hex(), "through": begins_after.seq}


def _text(text: str) -> str:
    """What anybody may have written, bounded, and without API keys that stand in the wrong place."""
    return without_keys(storable(text, TEXT_CHARACTERS_MAX))


def _details(details: Mapping[str, Any]) -> str:
    """As JSON, always spelled the same way; what is long is cut."""
    kept: dict[str, Any] = {}
    for name in sorted(details)[:DETAILS_MAX]:
        detail = _without_keys(details[name])
        text = to_json({"": detail})
        kept[_without_keys(name)] = detail if len(text) <= TEXT_CHARACTERS_MAX else f"{text[4:TEXT_CHARACTERS_MAX]}..."
    return to_json(kept)


def _without_keys(detail: Any) -> Any:
    """Text by text: what looks like one secret in the JSON of several texts may be the end of one and the next."""
    match detail:
        case str():
            return without_keys(detail)
        case Mapping():
            return {_without_keys(name): _without_keys(value) for name, value in detail.items()}
        case list() | tuple():
            return [_without_keys(value) for value in detail]
        case _:
            return detail


def _entry_from(row: Row) -> AuditEntry:
    return AuditEntry(**row)
