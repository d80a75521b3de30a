"""Reading an export: its index, its shards, and whether its files are those that the node signed."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pfn_node.export.places import Place
from pfn_protocol.errors import Refusal
from pfn_protocol.export_index import ExportedFile, ExportIndex, Shard, ShardRows, open_index, read_shard

INDEX: Final = "pfn-export/index.json"
_OWN_FOLDER: Final = "pfn-export/"


class IndexUnreadable(Exception):
    """There is no index, or none that a node signed, or its shards are not there; `args[0]` is a sentence."""


@dataclass(frozen=True, slots=True)
class SignedIndex:
    """An index, and the key that signed it."""

    index: ExportIndex
    node_id: bytes


@dataclass(frozen=True, slots=True)
class Listed:
    """What an index lists, by path; and when (milliseconds since 1970) went what is not there any more."""

    files: Mapping[str, ExportedFile]
    gone: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Wrong:
    """A file that is not what the index says."""

    path: str
    what: str  # missing, changed, or not listed


def read_index(place: Place) -> SignedIndex:
    """Return the index of a place. Raises IndexUnreadable, PlaceError."""
    data = place.read(INDEX)
    if data is None:
        raise IndexUnreadable(f"there is no {INDEX}: nothing was exported to here, or the export did not end")
    try:
        return SignedIndex(*open_index(data))
    except Refusal as refusal:
        raise IndexUnreadable(f"{INDEX} cannot be believed: {refusal.sentence}") from refusal


def read_listed(place: Place, signed: SignedIndex) -> Listed:
    """Return all that an index lists. Raises IndexUnreadable, PlaceError."""
    files: dict[str, ExportedFile] = {}
    gone: dict[str, int] = {}
    for shard in signed.index.shards:
        rows = _rows(place, shard)
        if isinstance(rows, Wrong):
            raise IndexUnreadable(f"{rows.path} is {rows.what}")
        # Each name is in the list of what is there as well, and once more in what is to be there.
        files |= {sys.intern(path): file for path, file in rows.files.items()}
        gone |= rows.gone
    return Listed(files, gone)


def _rows(place: Place, shard: Shard) -> ShardRows | Wrong:
    data = place.read(shard.path)
    if data is None:
        return Wrong(shard.path, "missing")
    try:
        if len(data) == shard.size and hashlib.sha256(data).digest() == shard.sha256:
            rows = read_shard(data, shard.number)
            if len(rows.files) == shard.files:
                return rows
    except Refusal:
        pass  # by the node's own hand: it is not what it should be all the same
    return Wrong(shard.path, "changed")


def wrong_files(place: Place, signed: SignedIndex, tell: Callable[[int, int], object]) -> Iterator[Wrong]:
    """Look at every file, and tell of each that is wrong. Raises PlaceError."""
    found = place.found()
    known = {INDEX}
    done = 0
    for shard in signed.index.shards:
        known.add(shard.path)
        rows = _rows(place, shard)
        if isinstance(rows, Wrong):
            yield rows
            continue
        for path, file in rows.files.items():
            known.add(path)
            if path not in found:
                yield Wrong(path, "missing")
            elif found[path].size != file.size or _digest(place, path) != file.sha256:
                yield Wrong(path, "changed")
            done += 1
            tell(done, signed.index.files)
    for path in found:
        # Of an export that is under way, or was stopped: shards to come, and whose it is.
        if path not in known and not path.startswith(_OWN_FOLDER):
            yield Wrong(path, "not listed")


def _digest(place: Place, path: str) -> bytes:
    digest = hashlib.sha256()
    for piece in place.pieces(path):
        digest.update(piece)
    return digest.digest()
