"""Writing an export: only what changed, files before the index that names them, and on from where a stop cut it off.

What the index of the last export says of a file is believed if the place has it in that size, and older than that
index; anything else is read again or written again. So a stopped export needs no notes of its own.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from threading import BoundedSemaphore
from typing import IO, Final, TypeVar

from pfn_node.artifacts.errors import ArtifactMissing
from pfn_node.export.answers import Answers, File, Text, Zip
from pfn_node.export.places import Found, Place, PlaceError
from pfn_node.export.reading import INDEX, IndexUnreadable, Listed, belongs, read_index, read_listed
from pfn_node.store import packages
from pfn_node.store.changes import newest_change
from pfn_node.store.database import snapshot
from pfn_protocol.errors import Refusal
from pfn_protocol.export_index import (
    ExportedFile,
    ExportIndex,
    Shard,
    check_export_path,
    shard_of,
    shards_max,
    sign_index,
    write_shard,
)
from pfn_protocol.identity import PrivateKey, did_key

# Says whose export a folder holds, from the first file on: nobody else's files are written over or removed.
OWNER: Final = "pfn-export/node.txt"
# Plugins that are read in one state of the database: a longer look would keep the node's log of changes from ending.
BATCH_PLUGINS: Final = 50
_READ_BYTES: Final = 256 * 1024

T = TypeVar("T")
Tell = Callable[[int, int], object]  # plugins done, of how many
Submit = Callable[[Callable[[], None]], None]


@dataclass(slots=True)
class Written:
    """What an export did."""

    change: int = 0
    files: int = 0
    size: int = 0  # bytes of all files
    written: int = 0
    written_bytes: int = 0
    removed: int = 0
    left_out: list[str] = field(default_factory=list)  # no file system may have such a name, or two plugins have it
    damaged: list[str] = field(default_factory=list)  # artifacts of the node, also those that cannot be read; digests


class Export:
    """One export of a node to one place."""

    def __init__(self, answers: Answers, place: Place, key: PrivateKey, made_ms: int) -> None:
        self._answers = answers
        self._submit: Submit = lambda work: work()
        self._place = place
        self._key = key
        self._made_ms = made_ms
        self._before = Listed({}, {})
        self._found: Mapping[str, Found] = {}
        self._index_written = 0
        self._wanted: dict[str, ExportedFile] = {}
        self._zips: dict[bytes, str] = {}  # of the plugin at hand: where in the place they are
        self.done = Written()

    def run(self, tell: Tell) -> Written:
        """Write the export. Raises PlaceError, StoreError."""
        self._take_stock()
        with self._writers() as submit:
            self._submit = submit
            for number, total in self._write_answers():
                tell(number, total)
        self._remove()
        self._place.settle()
        self._write_index()
        return self.done

    def _take_stock(self) -> None:
        """What is there, and whether it is ours. Raises PlaceError for somebody else's."""
        self._found = self._place.found()
        me = f"{did_key(self._key.public)}\n".encode("ascii")
        owner = self._place.read(OWNER)
        if owner is None:
            if others := sorted(filter(belongs, self._found)):
                raise PlaceError(f"{others[0]} is here, which this node did not export; name another place")
            self._place.write(OWNER, me)
        elif owner != me:
            node = owner.decode("ascii", "replace").strip()[:80]
            raise PlaceError(f"this is the export of another node, {node}; name another place")
        try:
            index = read_index(self._place)
            if index.node_id == self._key.public:
                self._before = read_listed(self._place, index)
                self._index_written = self._found[INDEX].written
        except IndexUnreadable:
            pass  # none yet, or none to be believed: everything is looked at

    def _write_answers(self) -> Iterator[tuple[int, int]]:
        db = self._answers.db
        with snapshot(db):
            self.done.change = newest_change(db)
            plugins = list(self._single(packages.named_plugins(db)))
            for file in self._answers.general():
                self._write(file)
        done = 0
        plugins.sort(key=lambda plugin: shard_of(plugin[0]))
        for shard, group in groupby(plugins, key=lambda plugin: shard_of(plugin[0])):
            members, lines = list(group), []
            for start in range(0, len(members), BATCH_PLUGINS):
                with snapshot(db):
                    for plugin in members[start : start + BATCH_PLUGINS]:
                        lines.append(self._write_plugin(*plugin))
            self._write(Text(f"export/plugins-{shard:02x}.ndjson", b"".join(lines)))
            done += len(members)
            yield done, len(plugins)
        with snapshot(db):
            for file in self._answers.feeds():
                self._write(file)

    def _write_plugin(self, name: str, source_id: str, plugin_id: str) -> bytes:
        """Write what is about one plugin; its line of the catalogue."""
        self._zips.clear()
        for file in self._answers.of_plugin(name, source_id, plugin_id, self._put_zip):
            self._write(file)
        return self._answers.line_of(source_id, plugin_id)

    def _single(self, plugins: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
        """Those whose name nobody shares (store/packages.py)."""
        for name, namesakes in groupby(plugins, key=lambda plugin: plugin[0]):
            one, *others = namesakes
            if others:
                self.done.left_out.append(name)
            else:
                yield one

    def _write(self, file: Text) -> None:
        there = ExportedFile(hashlib.sha256(file.content).digest(), len(file.content))
        if not self._may_be_named(file):
            return
        if not self._is_there(file.path, there):
            self._note_written(there)
            self._submit(lambda: self._place.write(file.path, file.content))
        self._want(file, there)

    def _put_zip(self, file: Zip) -> bool:
        if not self._may_be_named(file):
            return False
        listed = self._before.files.get(file.path)
        if listed is not None and listed.sha256 == file.sha256 and self._is_trusted(file.path, listed):
            self._want(file, listed)
        elif not self._copy_zip(file):
            return False
        self._zips.setdefault(file.sha256, file.path)
        return True

    def _copy_zip(self, file: Zip) -> bool:
        """From the node's artifacts, once it is sure that the bytes are those.

        One that cannot be read ends nothing: what else there is, and above all what was taken away, shall be told.
        """
        try:
            opened = self._answers.artifacts.open(file.sha256)
            with os.fdopen(opened.fd, "rb") as stream:
                is_sound = file.sha256 in self._zips or _digest_of(stream) == file.sha256
        except ArtifactMissing:
            return False
        except OSError:
            is_sound = False
        if not is_sound:
            self.done.damaged.append(file.sha256.hex())
            return False
        there = ExportedFile(file.sha256, opened.size)
        if not self._is_there(file.path, there):
            self._note_written(there)
            first = self._zips.get(file.sha256)
            self._submit(lambda: self._send_zip(file, first))
        self._want(file, there)
        return True

    def _send_zip(self, file: Zip, first: str | None) -> None:
        if first is not None and self._place.link(first, file.path):
            return
        try:
            opened = self._answers.artifacts.open(file.sha256)
        except ArtifactMissing as error:
            raise PlaceError(f"{error.args[0]} The node dropped it from its cache meanwhile; export again.") from error
        with os.fdopen(opened.fd, "rb") as stream:
            self._place.write(file.path, stream)

    def _note_written(self, file: ExportedFile) -> None:
        self.done.written += 1
        self.done.written_bytes += file.size

    def _want(self, file: File, there: ExportedFile) -> None:
        if file.path not in self._wanted:
            before = self._before.files.get(file.path, there)
            # The same objects as in what was read before: of 300,000 files that is 100 MB.
            self._wanted[sys.intern(file.path)] = there if there != before else before
            self.done.files += 1
            self.done.size += there.size

    def _may_be_named(self, file: File) -> bool:
        try:
            check_export_path(file.path)
        except Refusal:
            self.done.left_out.append(file.path)
            return False
        return True

    def _is_trusted(self, path: str, file: ExportedFile) -> bool:
        """Whether the place has had this file since before the index that says so."""
        found = self._found.get(path)
        return (
            found is not None
            and self._before.files.get(path) == file
            and found.size == file.size
            and found.written < self._index_written
        )

    def _is_there(self, path: str, file: ExportedFile) -> bool:
        """Whether the place has this very file: of a stopped export, it is read."""
        if self._is_trusted(path, file):
            return True
        found = self._found.get(path)
        if found is None or found.size != file.size:
            return False
        digest = hashlib.sha256()
        for piece in self._place.pieces(path):
            digest.update(piece)
        return digest.digest() == file.sha256

    @contextmanager
    def _writers(self) -> Iterator[Submit]:
        """Do writes as many at a time as the place takes; the first failure ends the export."""
        if self._place.writers == 1:
            yield self._submit
            return
        waiting = BoundedSemaphore(4 * self._place.writers)
        failures: list[BaseException] = []

        def finished(future: Future[None]) -> None:
            waiting.release()
            error = future.exception()
            if error is not None:
                failures.append(error)

        with ThreadPoolExecutor(self._place.writers) as pool:

            def submit(work: Callable[[], None]) -> None:
                if failures:
                    raise failures[0]
                waiting.acquire()
                pool.submit(work).add_done_callback(finished)

            yield submit
        if failures:
            raise failures[0]

    def _remove(self) -> None:
        """What is there and is not to be. Shards come later: those that the old index names are still asked for."""
        gone = [path for path in self._found if path not in self._wanted and belongs(path)]
        self._place.remove(gone)
        self.done.removed = len(gone)

    def _write_index(self) -> None:
        went = {path: self._made_ms for path in self._before.files if path not in self._wanted}
        gone = {path: at for path, at in self._before.gone.items() if path not in self._wanted} | went
        shards = []
        for number, (files, taken) in enumerate(zip(_by_shard(self._wanted), _by_shard(gone), strict=True)):
            if files or taken:
                lines = write_shard(files, taken)
                shard = Shard(number, hashlib.sha256(lines).digest(), len(lines), len(files))
                shards.append(shard)
                if not self._is_there(shard.path, ExportedFile(shard.sha256, shard.size)):
                    self._place.write(shard.path, lines)
        index = ExportIndex(
            self._made_ms, self.done.change, self._answers.base, self.done.files, self.done.size, tuple(shards)
        )
        self._place.settle()
        self._place.write(INDEX, sign_index(self._key, self._answers.mesh, index))
        self._place.settle()
        kept = {INDEX, OWNER, *(shard.path for shard in shards)}
        self._place.remove(path for path in self._found if path.startswith("pfn-export/") and path not in kept)


def _by_shard(rows: Mapping[str, T]) -> list[dict[str, T]]:
    shards: list[dict[str, T]] = [{} for _ in range(shards_max)]
    for path, row in rows.items():
        shards[shard_of(path)][path] = row
    return shards


def _digest_of(stream: IO[bytes]) -> bytes:
    digest = hashlib.sha256()
    while piece := stream.read(_READ_BYTES):
        digest.update(piece)
    return digest.digest()
