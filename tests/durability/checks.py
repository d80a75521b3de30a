"""What has to hold of a node that was killed and has come back: sentences about what does not."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep

from pfn_node.cli.audit import _entry
from pfn_node.store.audit import AuditEntry, broken_within
from pfn_node.web.federation_notices import NOTICES_SHOWN_MAX
from pfn_protocol.acceptance import verified
from pfn_protocol.announcements import AcceptedAnnouncement
from pfn_protocol.messages import SnapshotAnswer, SnapshotRequest
from tests.conformance.hostile_peer import MESH
from tests.durability.writers import Writers, taken

# How often the node is asked for what it said, before something counts as forgotten.
LOOKS, LOOK_SECONDS = 20, 0.1
# A sync that the node begins by itself as it starts holds a file for a moment: what stays is left behind.
STAYING_LOOKS = 300


@dataclass
class Checks:
    """Over one data folder."""

    writers: Writers
    said: dict[tuple[int, int], bytes] = field(default_factory=dict)  # (epoch, seq) -> id of an own announcement
    highest: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)  # of each own slot, as it was told
    audit_end: AuditEntry | None = None
    bytes_seen: set[bytes] = field(default_factory=set)
    opened: dict[bytes, AcceptedAnnouncement] = field(default_factory=dict)

    def all(self, *, fresh: bool = True) -> list[str]:
        """Everything; the node is ready, and nobody writes. `fresh`: it was just started, which clears up."""
        return [
            *self._acknowledged(),
            *self._own_voice(),
            *self._audit(),
            *self._files(),
            *(self._left() if fresh else ()),
        ]

    def _acknowledged(self) -> Iterator[str]:
        node, ledger = self.writers.node, self.writers.ledger
        yield from ledger.settle("source", dict.fromkeys(self._sources(), "there"))
        keys = taken(node.get("keys", key=node.key))["keys"]
        self.writers.ids |= {row["description"]: row["id"] for row in keys}
        mine = {row["description"]: "revoked" if row["revoked"] else "valid" for row in keys}
        yield from ledger.settle("key", {name: value for name, value in mine.items() if name.startswith("key ")})
        hooks = taken(node.get("webhooks", key=node.key))["webhooks"]
        self.writers.ids |= {row["description"]: row["id"] for row in hooks}
        yield from ledger.settle("webhook", {row["description"]: "there" for row in hooks})
        slugs = taken(node.get("slugs"))["slugs"]
        yield from ledger.settle("slug", {f"slug {row['slug']}": row["sourceId"] for row in slugs})
        peers = taken(node.get("peers"))["peers"]
        yield from ledger.settle("peer", {f"peer {row['node_id']}": "pinned" for row in peers if row["pinned"]})
        kept = {name: "kept" for name in ledger.asked_for("artifact") if self._serves(name.split()[1])}
        yield from ledger.settle("artifact", kept)
        with self._database() as db:
            ids = {row[0].hex() for row in db.execute("SELECT id FROM announcements")}
            heard = {name: "kept" for name in ledger.asked_for("heard") if name.split()[1] in ids}
            yield from ledger.settle("heard", heard)
            rows = db.execute("SELECT plugin_id, sha256 FROM releases WHERE plugin_id LIKE 'signed-%'")
            yield from ledger.settle("release", {f"release {slug}": sha256.hex() for slug, sha256 in rows})
        yield from self._notices()

    def _notices(self) -> Iterator[str]:
        """The node shows so many at once: those that are not among them are asked for by their plugins."""
        node, ledger, source = self.writers.node, self.writers.ledger, self.writers.publisher.source
        said = taken(node.get("advisories", source_id=source))["notices"]
        if len(said) >= NOTICES_SHOWN_MAX:
            asked_for = [*ledger.asked_for("yank"), *ledger.asked_for("advisory")]
            for plugin in {name.split()[1] for name in asked_for} - {row["plugin_id"] for row in said}:
                said += taken(node.get("advisories", source_id=source, plugin=plugin))["notices"]
        for kind in ("yank", "advisory"):
            found = {
                f"{kind} {row['plugin_id']} {row['about']}": "withdrawn" if row["withdrawn"] else "told"
                for row in said
                if row["kind"] == kind
            }
            yield from ledger.settle(kind, found)

    def _sources(self) -> Iterator[str]:
        offset = 0
        while rows := taken(self.writers.node.get("sources", limit=100, offset=offset)):
            yield from (f"source {row['id']}" for row in rows if row["status"] != "discovered")
            offset += 100

    def _serves(self, sha256: str) -> bool:
        """Asked of the node once; afterwards its file and its row are looked at (`_files`)."""
        path = self.writers.node.folder / "artifacts" / sha256[:2] / sha256[2:]
        if bytes.fromhex(sha256) in self.bytes_seen:
            return path.exists()
        got = self.writers.node.artifact(sha256)
        return got.status == 200 and hashlib.sha256(got.body).hexdigest() == sha256

    def _own_voice(self) -> Iterator[str]:
        """Nothing that was told is forgotten, and no place in the own order was ever used for two things."""
        me = self.writers.peer.linked().to
        told, self.writers.observer.told = self.writers.observer.told, []
        for one in map(self._opened, told):
            if one.author == me:
                yield from self._met(one)
                slot = (str(one.kind), one.subject)
                self.highest[slot] = max(self.highest.get(slot, (0, 0)), (one.epoch, one.seq))
        kept: dict[tuple[str, str], tuple[int, int]] = {}
        for _ in range(LOOKS):  # a page leaves out what is just being replaced, as the node's own word is at a start
            for one in self._kept(me):
                yield from self._met(one)
                slot = (str(one.kind), one.subject)
                kept[slot] = max(kept.get(slot, (0, 0)), (one.epoch, one.seq))
            lost = {slot: place for slot, place in self.highest.items() if kept.get(slot, (0, 0)) < place}
            if not lost:
                return
            sleep(LOOK_SECONDS)
        for slot, place in lost.items():
            yield f"the own announcement {slot} was told at {place}, and is kept at {kept.get(slot)}"

    def _opened(self, raw: bytes) -> AcceptedAnnouncement:
        if raw not in self.opened:
            self.opened[raw] = verified(raw, MESH)
        return self.opened[raw]

    def _met(self, one: AcceptedAnnouncement) -> Iterator[str]:
        place = (one.epoch, one.seq)
        if self.said.setdefault(place, one.id) != one.id:
            yield f"two announcements stand at {place}: {one.kind} {one.subject} is one of them"

    def _kept(self, author: bytes) -> Iterator[AcceptedAnnouncement]:
        after = b""
        while True:
            page = self.writers.peer.ask(SnapshotRequest(after, author))
            assert isinstance(page, SnapshotAnswer), page
            yield from map(self._opened, page.announcements)
            after = page.after
            if not after:
                return

    def _audit(self) -> Iterator[str]:
        node, after = self.writers.node, self.audit_end.seq if self.audit_end else 0
        entries = [self.audit_end] if self.audit_end else []
        while True:
            page = taken(node.get("audit", key=node.key, after=after, limit=1000))
            entries += [_entry(row) for row in page["entries"]]
            after = page["next"]
            if after is None:
                break
        broken = broken_within(entries)
        if broken is not None:
            yield f"audit: {broken}"
        self.audit_end = entries[-1] if entries else None

    def _files(self) -> Iterator[str]:
        """The database and the folder itself."""
        folder = self.writers.node.folder
        with self._database() as db:
            yield from (f"database: {row[0]}" for row in db.execute("PRAGMA integrity_check") if row[0] != "ok")
            yield from (f"database: {row} has no parent" for row in db.execute("PRAGMA foreign_key_check"))
            rows = {sha256 for (sha256,) in db.execute("SELECT sha256 FROM releases WHERE mirrored")}
        stored = dict(_stored(folder / "artifacts"))
        yield from (f"{digest.hex()} is said to be mirrored and is not there" for digest in rows - stored.keys())
        for digest in stored.keys() - self.bytes_seen:
            if hashlib.sha256(stored[digest].read_bytes()).digest() != digest:
                yield f"{digest.hex()} is partial"
            self.bytes_seen.add(digest)

    def _left(self) -> Iterator[str]:
        folder = self.writers.node.folder
        left = [path.name for path in folder.iterdir() if path.name not in OWN_FILES]
        left += _staying(folder / "artifacts" / "incoming")
        yield from (f"{name} was left behind" for name in left)

    def _database(self) -> "closing[sqlite3.Connection]":
        return closing(sqlite3.connect(f"file:{self.writers.node.folder / 'node.db'}?mode=ro", uri=True))


OWN_FILES = frozenset(("node.key", "lock", "node.db", "node.db-wal", "node.db-shm", "artifacts"))


def _staying(folder: Path) -> set[str]:
    """The files that are in a folder for long."""
    staying = {path.name for path in folder.iterdir()}
    for _ in range(STAYING_LOOKS):
        if not staying:
            break
        sleep(LOOK_SECONDS)
        staying &= {path.name for path in folder.iterdir()}
    return staying


def _stored(folder: Path) -> Iterator[tuple[bytes, Path]]:
    for shelf in folder.iterdir():
        if len(shelf.name) == 2:
            yield from ((bytes.fromhex(shelf.name + file.name), file) for file in shelf.iterdir())
