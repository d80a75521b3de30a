"""Makes zips byte by byte, honest or not: whatever a header says can be made to differ from what is there."""

import io
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HEADER = b"<?php\n/*\n * Plugin Name: Forged\n * Version: 1.0\n */\n"
EVIL = b"<?php\n/* Plugin Name: Evil\n * Version: 1.0 */\n"
MASK = 0xFFFFFFFF
FILE, FOLDER, LINK, PIPE = 0o100644 << 16, 0o040755 << 16, 0o120777 << 16, 0o010644 << 16


@dataclass
class Forged:
    """One entry. Fields left None say the truth; `local_` ones stand before the data, the others in the directory."""

    name: str | bytes
    data: bytes = b""
    method: int = 8
    flags: int = 0
    attributes: int = FILE
    packed_data: bytes | None = None
    crc: int | None = None
    packed: int | None = None
    unpacked: int | None = None
    extra: bytes = b""
    local_name: bytes | None = None
    local_method: int | None = None
    local_flags: int | None = None
    local_crc: int | None = None
    local_packed: int | None = None
    local_unpacked: int | None = None
    local_extra: bytes = b""
    descriptor: bytes = b""
    offset: int | None = None
    disk: int = 0
    needed: int = 20  # version of the format, times ten
    before: bytes = b""  # bytes that belong to nothing, in front of this entry
    listed: bool = True
    there: bool = True

    def __post_init__(self) -> None:
        self.raw = self.name.encode() if isinstance(self.name, str) else self.name
        if self.packed_data is None:
            squeezed = zlib.compressobj(9, zlib.DEFLATED, -15)
            self.packed_data = self.data if self.method == 0 else squeezed.compress(self.data) + squeezed.flush()
        self.crc = zlib.crc32(self.data) if self.crc is None else self.crc
        self.packed = len(self.packed_data) if self.packed is None else self.packed
        self.unpacked = len(self.data) if self.unpacked is None else self.unpacked

    def local(self) -> bytes:
        def first(*choices: int | None) -> int:
            return next(choice for choice in choices if choice is not None)

        name = self.raw if self.local_name is None else self.local_name
        assert self.packed_data is not None
        return (
            struct.pack(
                "<4s5H3L2H",
                b"PK\3\4",
                20,
                first(self.local_flags, self.flags),
                first(self.local_method, self.method),
                0,
                33,
                first(self.local_crc, self.crc),
                first(self.local_packed, self.packed),
                first(self.local_unpacked, self.unpacked),
                len(name),
                len(self.local_extra),
            )
            + name
            + self.local_extra
            + self.packed_data
            + self.descriptor
        )

    def central(self, offset: int) -> bytes:
        return (
            struct.pack(
                "<4s6H3L5H2L",
                b"PK\1\2",
                0x031E,
                self.needed,
                self.flags,
                self.method,
                0,
                33,
                self.crc,
                self.packed,
                self.unpacked,
                len(self.raw),
                len(self.extra),
                0,
                self.disk,
                0,
                self.attributes,
                offset if self.offset is None else self.offset,
            )
            + self.raw
            + self.extra
        )


def main_file(**changes: object) -> Forged:
    """An entry with a plugin header, `forged/forged.php`, changed as told."""
    return Forged(**{"name": "forged/forged.php", "data": HEADER, **changes})  # type: ignore[arg-type]


def forge(
    entries: Sequence[Forged],
    *,
    comment: bytes = b"",
    comment_length: int | None = None,
    before_directory: bytes = b"",
    in_directory: bytes = b"",
    after_directory: bytes = b"",
    end64: bytes | None = None,
    count: int | None = None,
    here: int | None = None,
    disk: int = 0,
    start: int | None = None,
    size: int | None = None,
    trailing: bytes = b"",
) -> bytes:
    """The zip. `end64` stands before the end record; `end64_record` makes one."""
    body, directory, listed = b"", b"", 0
    for entry in entries:
        body += entry.before
        if entry.listed:
            directory += entry.central(len(body))
            listed += 1
        if entry.there:
            body += entry.local()
    body += before_directory
    directory += in_directory
    total = listed if count is None else count
    end = struct.pack(
        "<4s4H2LH",
        b"PK\5\6",
        disk,
        disk,
        total if here is None else here,
        total,
        len(directory) if size is None else size,
        len(body) if start is None else start,
        len(comment) if comment_length is None else comment_length,
    )
    return body + directory + after_directory + (end64 or b"") + end + comment + trailing


def forge_many(entries: Iterable[Forged]) -> bytes:
    """A plain zip of very many entries, made in one go; over 65,535 of them the count starts again at zero."""
    body, directory, at, listed = io.BytesIO(), io.BytesIO(), 0, 0
    for entry in entries:
        directory.write(entry.central(at))
        listed += 1
        if entry.there:
            at += body.write(entry.local())
    counted = listed & 0xFFFF
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, counted, counted, directory.tell(), at, 0)
    return body.getvalue() + directory.getvalue() + tail


def end64_record(at: int, count: int, size: int, start: int, *, length: int = 44, disks: int = 1) -> bytes:
    """A zip64 end record that lies at `at`, and its locator."""
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", length, 45, 45, 0, 0, count, count, size, start)
    return record + struct.pack("<4sLQL", b"PK\6\7", 0, at, disks)


def zip64_field(*numbers: int) -> bytes:
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


def unicode_path(name: str) -> bytes:
    return struct.pack("<2HBL", 0x7075, 5 + len(name.encode()), 1, 0) + name.encode()


def descriptor(data: bytes, packed: int, *, signed: bool = True, form: str = "<3L") -> bytes:
    return b"PK\7\x08" * signed + struct.pack(form, zlib.crc32(data), packed, len(data))


def with_hidden_zip(*, comment: bytes = b"", masked: bool = False, main: Forged | None = None) -> bytes:
    """A file of it holds another zip of the same names, which counts from the start of the whole file."""
    main = main or main_file()
    hidden, name = Forged(main.raw, EVIL), main.raw.partition(b"/")[0] + b"/data.bin"
    at = len(main.local()) + 30 + len(name)
    start, directory = at + len(hidden.local()), hidden.central(at)
    end = start + len(directory)
    if masked:
        tail = end64_record(end, 1, len(directory), start)
        tail += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, MASK, MASK, 0)
    else:
        tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), start, 0)
    carrier = Forged(name, hidden.local() + directory + tail, method=0)
    return forge([main, carrier], comment=comment)


def asi_field(mode: int) -> bytes:
    """The extra field of the ASi for Unix: what Ant writes."""
    value = struct.pack("<H3L", mode, 0, 0, 0)[:10]
    return struct.pack("<2HL", 0x756E, 4 + len(value), zlib.crc32(value)) + value


def libarchive_field(attributes: int) -> bytes:
    """The extra field that bsdtar puts before the data: who made the entry, and its external attributes."""
    return struct.pack("<2HBHL", 0x6C78, 7, 1 | 4, 0x031E, attributes)
