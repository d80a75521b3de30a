"""The index of an export: which files a node wrote out, signed by the node, so that whoever serves them is not trusted.

An export stands on an object store or a CDN that may change, keep back or make up whatever it likes. The index names
each file with its SHA-256. Since there may be hundreds of thousands, their names stand in shards, plain lists of lines,
and what is signed is the shards' digests: a reader of one file fetches the index and one shard.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pfn_protocol.encoding import Envelope, Value, check_mesh_name, open_envelope, seal
from pfn_protocol.errors import Refusal
from pfn_protocol.fields import FieldReader
from pfn_protocol.identity import PrivateKey, did_key
from pfn_protocol.limits import integer_max, seq_min_ms, url_chars_max

FORM: Final = "pfn-export/1"
_DOMAIN: Final = "pfn/export/1"

# A shard for each first byte of a path's SHA-256: of a million files a reader of one fetches some 500 kB.
shards_max: Final = 256
# 256 shards take 15 kB signed and three times that as text.
export_index_bytes_max: Final = 256 * 1_024
# Of 20 million files; a reader holds one shard at a time.
export_shard_bytes_max: Final = 16 * 2**20
# Longer than every path that names of this protocol can make; what file systems take as one name (255) and as a whole.
export_segment_chars_max: Final = 255
export_path_chars_max: Final = 640
# Files that went, in one shard: a mirror that looks less often than that many go compares all that it has.
export_gone_max: Final = 2_048

# Neither hidden, nor climbing, nor ending in a dot, whatever the file system makes of these.
_SEGMENT: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]*[A-Za-z0-9_+-])?")
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
_FILE_LINE: Final = re.compile(r"([0-9a-f]{64}) (0|[1-9][0-9]{0,15}) ([!-~]+)")
_GONE_LINE: Final = re.compile(r"gone ([1-9][0-9]{0,15}) ([!-~]+)")


@dataclass(frozen=True, slots=True)
class Shard:
    """What the index says of one shard."""

    number: int
    sha256: bytes
    size: int  # bytes
    files: int

    @property
    def path(self) -> str:
        """Where it stands in the export. Its digest is in its name: no shard is ever overwritten."""
        return f"pfn-export/files-{self.number:02x}-{self.sha256.hex()[:32]}.txt"


@dataclass(frozen=True, slots=True)
class ExportIndex:
    """A node's word about all files of an export."""

    made_ms: int  # milliseconds since 1970
    change: int  # the number of the last change of the catalogue that it has for certain
    url: str  # where it is to stand; empty: nobody said
    files: int
    size: int  # bytes of all files
    shards: tuple[Shard, ...]


@dataclass(frozen=True, slots=True)
class ExportedFile:
    sha256: bytes
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class ShardRows:
    """The lines of a shard: its files by path, and when (milliseconds since 1970) what went was taken out."""

    files: Mapping[str, ExportedFile]
    gone: Mapping[str, int]


def check_export_path(path: str) -> None:
    """Raise `Refusal` (R172) unless every file system can hold this name, below the export's own folder."""
    segments = path.split("/")
    if len(path) > export_path_chars_max or not all(map(_is_safe, segments)):
        raise Refusal("R172", f"{path[:export_path_chars_max]!r} is no path that an export may have")


def _is_safe(segment: str) -> bool:
    return (
        len(segment) <= export_segment_chars_max
        and _SEGMENT.fullmatch(segment) is not None
        and _DEVICE.fullmatch(segment) is None
    )


def shard_of(path: str) -> int:
    """Return the number of the shard that a path belongs to."""
    return hashlib.sha256(path.encode("ascii")).digest()[0]


def write_shard(files: Mapping[str, ExportedFile], gone: Mapping[str, int]) -> bytes:
    """Return the lines of one shard; of what went at most the newest `export_gone_max` (R173)."""
    newest = sorted(gone, key=lambda path: (-gone[path], path))[:export_gone_max]
    lines = {path: f"{one.sha256.hex()} {one.size} {path}\n" for path, one in files.items()}
    lines |= {path: f"gone {gone[path]} {path}\n" for path in newest}
    return "".join(lines[path] for path in sorted(lines)).encode("ascii")


def read_shard(data: bytes, number: int) -> ShardRows:
    """Return what a shard says; raise `Refusal` (R172, R173) unless every line is as it has to be, and belongs here."""
    files: dict[str, ExportedFile] = {}
    gone: dict[str, int] = {}
    before = ""
    for line in _lines(data):
        if found := _FILE_LINE.fullmatch(line):
            path = found[3]
            files[path] = ExportedFile(bytes.fromhex(found[1]), int(found[2]))
        elif found := _GONE_LINE.fullmatch(line):
            path = found[2]
            gone[path] = int(found[1])
        else:
            raise Refusal("R173", "a line of a shard is a digest, a size and a path, or `gone`, a time and a path")
        check_export_path(path)
        if path <= before or shard_of(path) != number:
            raise Refusal("R173", "the lines of a shard ascend by path, and belong to this shard")
        before = path
    return ShardRows(files, gone)


def _lines(data: bytes) -> Iterable[str]:
    if len(data) > export_shard_bytes_max or not data.isascii() or not data.endswith(b"\n"):
        raise Refusal("R173", f"a shard is lines of ASCII, at most {export_shard_bytes_max} bytes")
    return data.decode("ascii")[:-1].split("\n")


def sign_index(key: PrivateKey, mesh: str, index: ExportIndex) -> bytes:
    """Return the index as its file; raise `Refusal` (R7, R170, R171) if nobody would accept it."""
    shards = tuple((one.number, one.sha256, one.size, one.files) for one in index.shards)
    body: Value = (index.made_ms, index.change, index.url, index.files, index.size, shards)
    envelope = seal(key, _DOMAIN, mesh, body)
    return _document(mesh, envelope, _read_body(envelope.value))


def open_index(data: bytes) -> tuple[ExportIndex, bytes]:
    """Return what the file of an index says, and the key of the node that signed it; raise `Refusal` (R171, R4-R12).

    Whether that is the node that the reader means is for the reader to say.
    """
    mesh, raw = _signed_part(data)
    check_mesh_name(mesh)
    envelope = open_envelope(raw, mesh=mesh, domain=_DOMAIN, bytes_max=export_index_bytes_max)
    index = _read_body(envelope.value)
    if _document(mesh, envelope, index) != data:
        raise Refusal("R171", "what the index shows is not what its envelope says, letter for letter")
    return index, envelope.author


def _signed_part(data: bytes) -> tuple[str, bytes]:
    if len(data) > export_index_bytes_max:
        raise Refusal("R171", f"an index has at most {export_index_bytes_max} bytes")
    try:
        document: Any = json.loads(data)
        match document:
            case {"mesh": str(mesh), "envelope": str(text)}:
                return mesh, base64.b64decode(text, validate=True)
    except (ValueError, RecursionError, binascii.Error):
        pass
    raise Refusal("R171", "an index is a JSON object with its mesh and its envelope in base64")


def _document(mesh: str, envelope: Envelope, index: ExportIndex) -> bytes:
    """The one text of the index: what the envelope says for people and small programs, and the envelope."""
    shown = {
        "form": FORM,
        "node_id": did_key(envelope.author),
        "mesh": mesh,
        "made_ms": index.made_ms,
        "change": index.change,
        "url": index.url,
        "files": index.files,
        "size": index.size,
        "shards": [
            {"path": one.path, "sha256": one.sha256.hex(), "size": one.size, "files": one.files} for one in index.shards
        ],
        "envelope": base64.b64encode(envelope.raw).decode("ascii"),
    }
    return json.dumps(shown, indent=1).encode("ascii") + b"\n"


def _read_body(value: Value) -> ExportIndex:
    reader = FieldReader(value, 6, "R170", "an index")
    index = ExportIndex(
        made_ms=reader.integer("made_ms", seq_min_ms, integer_max),
        change=reader.integer("change"),
        url=reader.text("url", url_chars_max),
        files=reader.integer("files"),
        size=reader.integer("size"),
        shards=tuple(map(_read_shard_field, reader.items("shards", shards_max))),
    )
    reader.check_ascending("shards", [bytes([one.number]) for one in index.shards])
    if sum(one.files for one in index.shards) != index.files:
        raise reader.refusal("files", "as many as the shards have")
    return index


def _read_shard_field(value: Value) -> Shard:
    reader = FieldReader(value, 4, "R170", "a shard")
    return Shard(
        number=reader.integer("number", 0, shards_max - 1),
        sha256=reader.digest("sha256"),
        size=reader.integer("size", 1, export_shard_bytes_max),
        files=reader.integer("files"),
    )
