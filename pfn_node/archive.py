"""The gate for zips: what a plugin's or theme's zip may look like before this node keeps it.

Zip has two tables of contents (a header before each file, and the central directory at the end), and readers differ
in which one they believe, in what they do about junk, overlaps and repeated names. So a file that one reader shows to
be harmless may unpack to something else in WordPress. The rule here: **every byte of the file has exactly one
meaning**. The file begins with its first entry; the entries follow one another without overlap or gap; then comes the
central directory, which says the same as the headers before the files; then the end record, last in the file, and no
file holds another one that leads to a directory.

Real tools are met where they need it, and nowhere else: data descriptors (streaming writers), zip64 fields (writers
that do not know sizes beforehand), an archive comment (`git archive`), entries listed in another order than they lie
in, `__MACOSX/` beside the one top folder, extra fields of any kind that do not change a name.

Everything is inflated once, streaming, with its checksum. Nothing is extracted, ever. What comes out are the headers,
read as WordPress' `get_file_data` reads them.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pfn_node.archive_errors import ArchiveRefused
from pfn_node.archive_extra import check_extra, check_mode, unmask
from pfn_node.archive_names import check_name, check_names, decode_name
from pfn_node.plugin_headers import HEADER_BYTES_READ, MainFile

__all__ = ["ArchiveFacts", "ArchiveLimits", "ArchiveRefused", "inspect"]

DIRECTORY_BYTES_MAX = 5 * 2**19  # 262 bytes for each of 10,000 entries; real ones have 100 to 200; read as one piece
RATIO_FLOOR_BYTES = 2**20  # below this size no compression ratio is a danger
CHUNK_BYTES = 256 * 1024  # with each piece the thread waits for its turn again, which costs as much as some inflating

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_LOCATOR = struct.Struct("<4sLQL")
_MASKED = 0xFFFFFFFF  # "see the zip64 field"

_FLAG_ENCRYPTED = 0x2041  # encrypted, strongly encrypted, masked headers
_FLAG_DESCRIPTOR = 0x0008
_FLAGS_LEVEL = 0x0006  # how hard deflate tried; writers need not repeat it
_FLAGS_KNOWN = _FLAG_DESCRIPTOR | _FLAGS_LEVEL | 0x0800  # the last: the name is UTF-8
_STORED, _DEFLATED = 0, 8
_NEEDED_MAX = 63  # version 6.3 of the format; readers give up on what needs a later one
_DOS_VOLUME, _DOS_FOLDER = 0x08, 0x10


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    entries_max: int = 10_000
    unpacked_bytes_max: int = 256 * 2**20
    ratio_max: int = 200  # deflate reaches 1,032; honest text stays far below


@dataclass(frozen=True, slots=True)
class ArchiveFacts:
    """What a zip that passed the gate says about itself."""

    type: Literal["plugin", "theme"]
    name: str
    version: str
    folder: str  # the one top folder; usually the slug
    headers: dict[str, str]  # by WordPress' labels, "Requires PHP" and so on; empty ones left out
    files: int
    unpacked_bytes: int


class _Entry(NamedTuple):
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    unpacked: int
    offset: int  # of the local header

    @property
    def name(self) -> str:
        return decode_name(self.raw_name)  # again each time: one strange character makes text four times as large


def inspect(file: Path | int, *, limits: ArchiveLimits = ArchiveLimits()) -> ArchiveFacts:
    """Reads the whole zip once and says what it holds; raises ArchiveRefused. Blocks: call it in a thread.

    `file` is its path, or a descriptor, which stays open.
    """
    if isinstance(file, int):
        return _Archive(file, limits).inspect()
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _Archive(fd, limits).inspect()
    finally:
        os.close(fd)


class _Archive:
    """One open zip. All offsets are from the start of the file."""

    def __init__(self, fd: int, limits: ArchiveLimits) -> None:
        self._fd = fd
        self._limits = limits
        self._size = os.fstat(fd).st_size

    def inspect(self) -> ArchiveFacts:
        if self._read(0, 4) != b"PK\3\4":
            raise ArchiveRefused("prefix", "The file does not begin with a zip entry; send the plain zip file.")
        directory, count = self._find_directory()
        entries = list(self._entries(directory, count))
        folder = check_names(entry.raw_name for entry in entries)
        main = MainFile(folder)
        start, total = 0, 0
        by_offset = sorted(entries, key=lambda entry: entry.offset)
        for entry, following in zip(by_offset, [*(e.offset for e in by_offset[1:]), directory[0]], strict=True):
            if entry.offset != start:
                raise ArchiveRefused("framing", f"Before {entry.name!r} bytes are unaccounted for, or entries overlap.")
            total += entry.unpacked
            self._check_size(entry, total)
            main.consider(entry.name, self._check_entry(entry, following))
            start = following
        return _facts(main, sum(not entry.name.endswith("/") for entry in entries), total)

    def _read(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def _find_directory(self) -> tuple[tuple[int, int], int]:
        """((start, end) of the central directory, number of entries)."""
        tail_start = max(0, self._size - _END.size - 0xFFFF)
        tail = self._read(tail_start, _END.size + 0xFFFF)
        ends = [
            at for at in _occurrences(tail, b"PK\5\6")
            if at + _END.size <= len(tail) and at + _END.size + _END.unpack_from(tail, at)[7] == len(tail)
        ]  # fmt: skip
        if not ends:
            raise ArchiveRefused("end", "The zip is cut off, or something follows its end.")
        if len(ends) > 1 or tail.rfind(b"PK\5\6") != ends[0]:
            raise ArchiveRefused("end", "The zip has more than one end record, so readers would disagree about it.")
        if any(self._leads_to_a_directory(tail_start + at) for at in _occurrences(tail, b"PK\5\6") if at != ends[0]):
            raise ArchiveRefused("end", "What looks like another end record leads to another directory.")
        disk, start_disk, here, count, size, start, _ = _END.unpack_from(tail, ends[0])[1:]
        end = tail_start + ends[0]
        if end >= _END64_LOCATOR.size and self._read(end - _END64_LOCATOR.size, 4) == b"PK\6\7":
            end, here, count, size, start = self._read_end64(end, (here, count, size, start))
        if disk or start_disk or here != count:
            raise ArchiveRefused("disks", "The zip is one part of several; send it as one file.")
        if start + size != end:
            raise ArchiveRefused("directory", "The end record does not point at the central directory before it.")
        if count > self._limits.entries_max or size > DIRECTORY_BYTES_MAX:
            raise ArchiveRefused("entries", f"The zip has more than {self._limits.entries_max} entries.")
        return (start, end), count

    def _leads_to_a_directory(self, end: int) -> bool:
        """Whether what looks like an end record, in the data of a file, would be one to who believes in it.

        Where the zip has a comment, WordPress' PclZip takes the first in the last 64 KiB; libzip tries all of them, and
        takes the first if anything about the last displeases it. A zip in the zip leads nowhere: it counts from its
        own start.
        """
        start = int.from_bytes(self._read(end + 16, 4), "little")
        locator = self._read(end - _END64_LOCATOR.size, _END64_LOCATOR.size) if end >= _END64_LOCATOR.size else b""
        if locator[:4] == b"PK\6\7":
            where = _END64_LOCATOR.unpack(locator)[2]
            if where < self._size and self._read(where, 4) == b"PK\6\6":
                return True
        return self._read(start, 4) == b"PK\1\2"

    def _read_end64(self, end: int, short: tuple[int, int, int, int]) -> tuple[int, int, int, int, int]:
        """The zip64 end record that stands before the end record; it must say the same wherever both speak."""
        at = end - _END64_LOCATOR.size - _END64.size
        if at < 0:
            raise ArchiveRefused("zip64", "The zip64 end record is cut off.")
        _, disk, where, disks = _END64_LOCATOR.unpack(self._read(at + _END64.size, _END64_LOCATOR.size))
        magic, length, _, _, this, first, here, count, size, start = _END64.unpack(self._read(at, _END64.size))
        masks = (0xFFFF, 0xFFFF, _MASKED, _MASKED)
        agrees = all(
            old in (mask, new) for old, mask, new in zip(short, masks, (here, count, size, start), strict=True)
        )
        if (magic, length, where, disk, this, first) != (b"PK\6\6", 44, at, 0, 0, 0) or disks > 1 or not agrees:
            raise ArchiveRefused("zip64", "The zip64 end record contradicts the rest of the zip.")
        return at, here, count, size, start

    def _entries(self, directory: tuple[int, int], count: int) -> Iterator[_Entry]:
        """The central directory's entries; it must be filled exactly by them."""
        data = self._read(directory[0], directory[1] - directory[0])
        at = 0
        for _ in range(count):
            if data[at : at + 4] != b"PK\1\2" or at + _CENTRAL.size > len(data):
                raise ArchiveRefused("directory", "The central directory is broken.")
            fields = _CENTRAL.unpack_from(data, at)
            _, needed, flags, method, _, _, crc, packed, unpacked = fields[1:10]
            name_length, extra_length, comment_length, disk, _, attributes, offset = fields[10:]
            at += _CENTRAL.size
            raw_name = data[at : at + name_length]
            extra = data[at + name_length : at + name_length + extra_length]
            at += name_length + extra_length + comment_length
            name = check_name(raw_name)
            masked = {"unpacked": unpacked, "packed": packed, "offset": offset}
            unpacked, packed, offset = unmask(list(masked.values()), check_extra(extra, name), name)
            if disk:
                raise ArchiveRefused("disks", f"{name!r} is said to lie on another disk.")
            _check_kind(name, needed, flags, method, attributes, unpacked)
            yield _Entry(raw_name, flags, method, crc, packed, unpacked, offset)
        if at != len(data):
            raise ArchiveRefused("directory", "The central directory holds more, or less, than its entries.")

    def _check_size(self, entry: _Entry, total: int) -> None:
        """Before anything is inflated: what the zip claims must lie within the limits; inflating holds it to that."""
        if total > self._limits.unpacked_bytes_max:
            mebibytes = self._limits.unpacked_bytes_max // 2**20
            raise ArchiveRefused("size", f"Unpacked, the zip is larger than {mebibytes} MiB.")
        ratio_max = self._limits.ratio_max
        if entry.unpacked > RATIO_FLOOR_BYTES and entry.unpacked > ratio_max * entry.packed:
            raise ArchiveRefused("ratio", f"{entry.name!r} would grow more than {ratio_max} times when unpacked.")
        if total > RATIO_FLOOR_BYTES and total > ratio_max * self._size:
            raise ArchiveRefused("ratio", f"The zip would grow more than {ratio_max} times when unpacked.")

    def _check_entry(self, entry: _Entry, following: int) -> bytes:
        """Local header, data and descriptor of one entry, which must end exactly at `following`; -> its first 8 KiB."""
        header = self._read(entry.offset, _LOCAL.size)
        if len(header) < _LOCAL.size or header[:4] != b"PK\3\4":
            raise ArchiveRefused("local", f"Where {entry.name!r} should begin there is no entry.")
        _, _, flags, method, _, _, crc, packed, unpacked, name_length, extra_length = _LOCAL.unpack(header)
        rest = self._read(entry.offset + _LOCAL.size, name_length + extra_length)
        if rest[:name_length] != entry.raw_name:
            raise ArchiveRefused("local", f"{entry.name!r} has another name before its data than in the directory.")
        zip64 = check_extra(rest[name_length:], entry.name)
        unpacked, packed = unmask([unpacked, packed], zip64, entry.name)
        wanted = (entry.crc, entry.packed, entry.unpacked)
        same = (crc, packed, unpacked) == wanted
        if entry.flags & _FLAG_DESCRIPTOR:  # a streaming writer may leave each of the three at zero here
            same = all(here in (0, there) for here, there in zip((crc, packed, unpacked), wanted, strict=True))
        if not same or method != entry.method or (flags ^ entry.flags) & ~_FLAGS_LEVEL:
            raise ArchiveRefused("local", f"What stands before the data of {entry.name!r} contradicts the directory.")
        data = entry.offset + _LOCAL.size + name_length + extra_length
        end = data + entry.packed
        if end != following and not (entry.flags & _FLAG_DESCRIPTOR and self._is_descriptor(entry, end, following)):
            raise ArchiveRefused("framing", f"After {entry.name!r} bytes are unaccounted for, or entries overlap.")
        if end == following and (crc, packed, unpacked) != wanted:
            raise ArchiveRefused("local", f"The sizes of {entry.name!r} are missing before and after its data.")
        return self._inflate(entry, data)

    def _is_descriptor(self, entry: _Entry, start: int, end: int) -> bool:
        """Whether exactly a data descriptor stands there, in one of its four forms, saying what the directory says."""
        if not 12 <= end - start <= 24:
            return False
        found = self._read(start, end - start)
        forms = ("<3L", "<L2Q")
        plain = [struct.pack(form, entry.crc, entry.packed, entry.unpacked) for form in forms]
        return found in plain or (found[:4] == b"PK\7\x08" and found[4:] in plain)

    def _inflate(self, entry: _Entry, start: int) -> bytes:
        """Checks size and checksum of the data; -> its first 8 KiB."""
        head, size, crc = b"", 0, 0
        for piece in self._unpacked(entry, start):
            if len(head) < HEADER_BYTES_READ:
                head += piece[: HEADER_BYTES_READ - len(head)]
            size += len(piece)
            crc = zlib.crc32(piece, crc)
            if size > entry.unpacked:
                raise ArchiveRefused("size", f"{entry.name!r} is larger than the zip says.")
        if size != entry.unpacked or crc != entry.crc:
            raise ArchiveRefused("data", f"{entry.name!r} is damaged: its size or checksum is wrong.")
        return head

    def _unpacked(self, entry: _Entry, start: int) -> Iterator[bytes]:
        """The data in pieces of at most 256 KiB, however well it was packed."""
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        for offset in range(start, start + entry.packed, CHUNK_BYTES):
            packed = self._read(offset, min(CHUNK_BYTES, start + entry.packed - offset))
            if entry.method == _STORED:
                yield packed
                continue
            while packed:
                if inflater.eof:
                    raise ArchiveRefused("data", f"Something is hidden behind the data of {entry.name!r}.")
                yield _inflate_piece(inflater, packed, entry.name)
                packed = inflater.unconsumed_tail or inflater.unused_data
        while entry.method == _DEFLATED and not inflater.eof:
            piece = _inflate_piece(inflater, b"", entry.name)
            if not piece:
                raise ArchiveRefused("data", f"The data of {entry.name!r} is cut off.")
            yield piece


def _inflate_piece(inflater: "zlib._Decompress", packed: bytes, name: str) -> bytes:
    try:
        return inflater.decompress(packed, CHUNK_BYTES)
    except zlib.error as error:
        raise ArchiveRefused("data", f"{name!r} cannot be unpacked.") from error


def _occurrences(data: bytes, pattern: bytes) -> Iterator[int]:
    at = data.find(pattern)
    while at >= 0:
        yield at
        at = data.find(pattern, at + 1)


def _check_kind(name: str, needed: int, flags: int, method: int, attributes: int, unpacked: int) -> None:
    """Only plain files and folders, stored or deflated, with no password."""
    if flags & _FLAG_ENCRYPTED:
        raise ArchiveRefused("encrypted", f"{name!r} is encrypted; send a zip without a password.")
    if flags & ~_FLAGS_KNOWN or needed & 0xFF > _NEEDED_MAX:
        raise ArchiveRefused(
            "flags", f"{name!r} uses a zip feature that WordPress cannot read (flags {flags:#06x}, version {needed})."
        )
    if method not in (_STORED, _DEFLATED):
        raise ArchiveRefused("method", f"{name!r} is compressed with method {method}; use deflate.")
    is_folder = name.endswith("/")
    check_mode(attributes >> 16, name)
    if attributes & _DOS_VOLUME or (attributes & _DOS_FOLDER and not is_folder):
        # PclZip makes a folder of the one, and unzip leaves the other out; everybody else unpacks them.
        raise ArchiveRefused("special", f"{name!r} is marked as something else than a file.")
    if is_folder and unpacked:
        raise ArchiveRefused("special", f"{name!r} is a folder that holds data.")


def _facts(main: MainFile, files: int, unpacked_bytes: int) -> ArchiveFacts:
    kind, headers = main.found()
    name, version = headers.get("Plugin Name" if kind == "plugin" else "Theme Name"), headers.get("Version")
    if not name:
        folder = main.folder
        sentence = f"No *.php file directly in {folder!r} has a 'Plugin Name:' header, nor style.css a 'Theme Name:'."
        raise ArchiveRefused("headers", sentence)
    if not version:
        sentence = f"The header of {name!r} has no 'Version:', so its updates cannot be told apart."
        raise ArchiveRefused("headers", sentence)
    return ArchiveFacts(kind, name, version, main.folder, headers, files, unpacked_bytes)
