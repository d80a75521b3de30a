"""Attack zips of every family that is known, each with the reason for which it must be refused.

`ATTACKS` are built at once and small; `LARGE_ATTACKS` are made when they are needed, and are what costs a careless
reader its time or its memory.
"""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

from tests.node.zip_forge import (
    FILE,
    FOLDER,
    HEADER,
    LINK,
    MASK,
    PIPE,
    Forged,
    asi_field,
    descriptor,
    end64_record,
    forge,
    forge_many,
    libarchive_field,
    main_file,
    unicode_path,
    with_hidden_zip,
    zip64_field,
)

OTHER = Forged("forged/other.txt", b"other")
HONEST = forge([main_file(), OTHER])
AES = b"\x01\x99\x07\x00\x02\x00AE\x03\x00\x00"


def _zip64(record: bytes, **changes: int) -> bytes:
    return forge([main_file()], end64=record, **changes)  # type: ignore[arg-type]


def _end64(**changes: int) -> bytes:
    php = main_file()
    start, size = len(php.local()), len(php.central(0))
    return end64_record(**({"at": start + size, "count": 1, "size": size, "start": start} | changes))


def _wrong_descriptor() -> Forged:
    php = main_file(flags=8, local_crc=0, local_packed=0, local_unpacked=0)
    php.descriptor = descriptor(b"other data", php.packed or 0)
    return php


ATTACKS: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "prefix"),
    "not a zip at all": (b"<?php echo 1;", "prefix"),
    "a script in front": (b"#!/bin/sh\nexit\n" + HONEST, "prefix"),
    "a program in front, with its offsets adjusted": (forge([main_file(before=b"MZ" + bytes(62))]), "prefix"),
    "a PDF in front, with its offsets adjusted": (forge([main_file(before=b"%PDF-1.7\n")]), "prefix"),
    "a mark of a split zip in front": (forge([main_file(before=b"PK00")]), "prefix"),
    "a gap of zeros in front": (forge([main_file(before=bytes(512))]), "prefix"),
    "a picture in front": (b"GIF89a<script>" + HONEST, "prefix"),
    "an empty zip": (forge([]), "prefix"),
    "an end record alone behind a local signature": (b"PK\3\4" + forge([]), "directory"),
    "cut off": (HONEST[:-1], "end"),
    "bytes behind the end": (HONEST + b"\n", "end"),
    "a comment longer than it is": (forge([main_file()], comment=b"abc", comment_length=9), "end"),
    "a comment shorter than it is": (forge([main_file()], comment=b"abc", comment_length=1), "end"),
    "an end record in the comment": (forge([main_file()], comment=b"PK\5\6" + bytes(18)), "end"),
    "half an end record in the comment": (forge([main_file()], comment=b"PK\5\6"), "end"),
    "a whole zip in the comment": (forge([main_file()], comment=HONEST), "end"),
    "a zip in front of a comment that hides its end": (forge([main_file()], comment=HONEST[:-1] + b"!"), "end"),
    "an end record in a file, for who takes the first": (with_hidden_zip(comment=b"0" * 40), "end"),
    "an end record in a file, for who tries them all": (with_hidden_zip(), "end"),
    "a zip64 end record in a file": (with_hidden_zip(masked=True), "end"),
    "two zips, the offsets of the second adjusted": (forge([main_file(before=HONEST), OTHER]), "end"),
    "a second central directory": (forge([main_file()], before_directory=main_file().central(0)), "framing"),
    "a central directory in a file": (
        forge([main_file(), Forged("forged/x", main_file().central(0), method=0)], start=len(main_file().local()) + 38),
        "directory",
    ),
    "a central directory that begins too late": (forge([main_file(), OTHER], start=len(HONEST)), "directory"),
    "two zips in one": (HONEST + HONEST, "end"),
    "an end record that points elsewhere": (forge([main_file()], start=0), "directory"),
    "one part of several": (forge([main_file()], disk=1), "disks"),
    "more entries elsewhere": (forge([main_file()], here=1, count=2), "disks"),
    "an entry on another disk": (forge([main_file(disk=1)]), "disks"),
    "fewer entries than counted": (forge([main_file()], count=2), "directory"),
    "more entries than counted": (forge([main_file(), OTHER], count=1), "directory"),
    "a directory with a tail": (forge([main_file()], in_directory=b"PK\5\5\2\0ab"), "directory"),
    "bytes between directory and end": (forge([main_file()], after_directory=b"hidden"), "directory"),
    "bytes before an entry": (forge([main_file(), Forged("forged/x", b"x", before=b"hidden")]), "framing"),
    "bytes before the directory": (forge([main_file()], before_directory=b"hidden"), "framing"),
    "an entry that is not listed": (forge([main_file(), Forged("forged/x", b"x", listed=False)]), "framing"),
    "two entries, one place": (forge([main_file(), Forged("forged/b.php", HEADER, offset=0, there=False)]), "framing"),
    "an entry that reaches into the next": (forge([main_file(packed=200, local_packed=200), OTHER]), "framing"),
    "an entry that lies nowhere": (forge([main_file(offset=4)]), "framing"),
    "an offset beyond the file": (forge([main_file(), Forged("forged/x", offset=2**31, there=False)]), "framing"),
    "another name before the data": (forge([main_file(local_name=b"forged/evil.php..")]), "local"),
    "another size before the data": (forge([main_file(local_unpacked=1)]), "local"),
    "another packed size before the data": (forge([main_file(local_packed=1)]), "local"),
    "another checksum before the data": (forge([main_file(local_crc=1)]), "local"),
    "another method before the data": (forge([main_file(local_method=0)]), "local"),
    "other flags before the data": (forge([main_file(local_flags=0x800)]), "local"),
    "no header before the data": (HONEST[:40] + HONEST[40:].replace(b"PK\3\4", b"PK\3\5"), "local"),
    "sizes given nowhere": (forge([main_file(flags=8, local_crc=0, local_packed=0, local_unpacked=0)]), "local"),
    "a descriptor about other data": (forge([_wrong_descriptor(), OTHER]), "framing"),
    "a descriptor and more": (forge([main_file(flags=8), Forged("forged/x", b"x", before=bytes(25))]), "framing"),
    "a descriptor that was not announced": (forge([main_file(descriptor=descriptor(HEADER, 1)), OTHER]), "framing"),
    "the same name twice": (forge([main_file(), main_file()]), "duplicate"),
    "names that differ in capitals": (forge([main_file(), Forged("forged/FORGED.php", b"x")]), "duplicate"),
    "names that differ in a dot that Windows drops": (
        forge([main_file(), Forged("forged/forged.php.", b"x")]),
        "duplicate",
    ),
    "names that differ in a space that Windows drops": (
        forge([main_file(), Forged("forged/a/x", b"x"), Forged("forged/a /x", b"x")]),
        "duplicate",
    ),
    "names that differ in capitals of Greek": (
        forge([main_file(), Forged("forged/\u0390", b"x"), Forged("forged/\u1fd3", b"x")]),
        "duplicate",
    ),
    "names that differ in composition": (
        forge([main_file(), Forged("forged/\u00e9", b"x"), Forged("forged/e\u0301", b"x")]),
        "duplicate",
    ),
    "a file that is also a folder": (
        forge([main_file(), Forged("forged/a", b"x"), Forged("forged/a/b/c", b"x")]),
        "duplicate",
    ),
    "a file and a folder of one name": (
        forge([main_file(), Forged("forged/a", b"x"), Forged("forged/a/", attributes=FOLDER)]),
        "duplicate",
    ),
    "a link": (forge([main_file(), Forged("forged/link", b"/etc/passwd", attributes=LINK)]), "special"),
    "a pipe": (forge([main_file(), Forged("forged/pipe", attributes=PIPE)]), "special"),
    "a character device": (forge([main_file(), Forged("forged/null", attributes=0o020666 << 16)]), "special"),
    "a block device": (forge([main_file(), Forged("forged/sda", attributes=0o060666 << 16)]), "special"),
    "a socket": (forge([main_file(), Forged("forged/socket", attributes=0o140777 << 16)]), "special"),
    "a link that is called a folder": (forge([main_file(), Forged("forged/link/", attributes=LINK)]), "special"),
    "a folder without a slash": (forge([main_file(), Forged("forged/folder", attributes=FOLDER)]), "special"),
    "a folder that holds data": (forge([main_file(), Forged("forged/folder/", b"x", attributes=FOLDER)]), "special"),
    "a link by the extra field of Ant": (
        forge([main_file(), Forged("forged/link", b"/etc", method=0, attributes=0, extra=asi_field(0o120777))]),
        "special",
    ),
    "a link by an extra field of Ant that is cut off": (forge([main_file(extra=b"\x6e\x75\1\0x")]), "special"),
    "a link by the extra field of bsdtar": (forge([main_file(local_extra=libarchive_field(LINK))]), "special"),
    "a field of bsdtar that is cut off": (forge([main_file(local_extra=b"\x78\x6c\2\0\4x")]), "special"),
    "a field of bsdtar of the future": (forge([main_file(local_extra=b"\x78\x6c\1\0\x80")]), "special"),
    "an empty field of bsdtar": (forge([main_file(local_extra=b"\x78\x6c\0\0")]), "special"),
    "a file marked as a folder": (forge([main_file(), Forged("forged/x", b"x", attributes=FILE | 0x10)]), "special"),
    "a file marked as the name of a disk": (forge([main_file(), Forged("forged/x", b"x", attributes=8)]), "special"),
    "an encrypted entry": (forge([main_file(flags=1)]), "encrypted"),
    "an AES-encrypted entry": (forge([main_file(extra=AES)]), "encrypted"),
    "a masked directory": (forge([main_file(flags=0x2000)]), "encrypted"),
    "patched data": (forge([main_file(flags=0x20)]), "flags"),
    "a format of the future": (forge([main_file(needed=64)]), "flags"),
    "compressed patch data in every flag": (forge([main_file(flags=0xFFFF)]), "encrypted"),
    "strong encryption": (forge([main_file(flags=0x40)]), "encrypted"),
    "the method of AES": (forge([main_file(), Forged("forged/x", b"x", method=99, packed_data=b"x")]), "method"),
    "deflate64": (forge([main_file(), Forged("forged/x", b"x", method=9, packed_data=b"x")]), "method"),
    "lzma": (forge([main_file(), Forged("forged/x", b"x", method=14, packed_data=b"x")]), "method"),
    "zstandard": (forge([main_file(), Forged("forged/x", b"x", method=93, packed_data=b"x")]), "method"),
    "xz": (forge([main_file(), Forged("forged/x", b"x", method=95, packed_data=b"x")]), "method"),
    "a method of nobody": (forge([main_file(), Forged("forged/x", b"x", method=0xFFFF, packed_data=b"x")]), "method"),
    "bzip2": (forge([main_file(), Forged("forged/x", b"x", method=12, packed_data=b"BZh")]), "method"),
    "size smaller than the data": (forge([main_file(unpacked=5, local_unpacked=5)]), "size"),
    "size larger than the data": (forge([main_file(unpacked=5000, local_unpacked=5000)]), "data"),
    "a wrong checksum": (forge([main_file(crc=1)]), "data"),
    "a stored entry with another size": (
        forge([main_file(), Forged("forged/x", b"abc", method=0, unpacked=2, local_unpacked=2)]),
        "size",
    ),
    "data behind the data": (
        forge([main_file(), Forged("forged/x", b"", packed_data=b"\3\0hidden")]),
        "data",
    ),
    "deflate that breaks off": (forge([main_file(), Forged("forged/x", b"", packed_data=b"\x4b")]), "data"),
    "no deflate at all": (forge([main_file(), Forged("forged/x", b"", packed_data=b"")]), "data"),
    "broken deflate": (forge([main_file(), Forged("forged/x", b"x", packed_data=b"\xff\xff\xff")]), "data"),
    "another length of its name before the data": (forge([main_file(local_name=b"forged/forged.ph")]), "local"),
    "a slash more before the data": (forge([main_file(local_name=b"forged/forged.php/")]), "local"),
    "another size in the zip64 field before the data": (
        forge([main_file(local_unpacked=MASK, local_packed=MASK, local_extra=zip64_field(1, 1))]),
        "local",
    ),
    "a second, other name before the data": (forge([main_file(local_extra=unicode_path("forged/evil.php"))]), "name"),
    "a second name that is empty": (forge([main_file(extra=unicode_path(""))]), "name"),
    "a second, other name": (forge([main_file(extra=unicode_path("forged/evil.php"))]), "name"),
    "a cut-off extra field": (forge([main_file(extra=b"\x07\x00\xff\x00")]), "extra"),
    "a name that is not UTF-8": (forge([main_file(), Forged(b"forged/\xff.txt", b"x")]), "name"),
    "a zip64 field that is missing": (forge([main_file(unpacked=MASK)]), "zip64"),
    "a zip64 field that is cut off": (forge([main_file(unpacked=MASK, extra=b"\x01\x00\x04\x00abcd")]), "zip64"),
    "a zip64 field that nobody asked for": (forge([main_file(extra=zip64_field(1))]), "zip64"),
    "two zip64 fields": (forge([main_file(extra=zip64_field(1) + zip64_field(2))]), "zip64"),
    "a zip64 size of 16 EiB": (forge([main_file(unpacked=MASK, extra=zip64_field(2**64 - 1))]), "size"),
    "a zip64 end that counts otherwise": (_zip64(_end64(count=2)), "zip64"),
    "a zip64 end elsewhere": (_zip64(_end64(at=0)), "zip64"),
    "a zip64 end of odd length": (_zip64(_end64(length=45)), "zip64"),
    "a zip64 end on several disks": (_zip64(_end64(disks=2)), "zip64"),
    "a zip64 locator without its record": (_zip64(_end64()[56:]), "zip64"),
    "a zip64 locator at the very start": (b"PK\3\4" + _end64()[56:] + forge([]), "zip64"),
    "a zip64 field with an offset beyond the file": (
        forge([main_file(), Forged("forged/x", offset=MASK, extra=zip64_field(2**63), there=False)]),
        "framing",
    ),
    "a zip64 end that is masked without one": (forge([main_file()], count=0xFFFF, size=MASK, start=MASK), "directory"),
    "a zip64 end record of the second kind": (_zip64(_end64(length=72)), "zip64"),
    "two top folders": (forge([main_file(), Forged("evil/evil.php", HEADER)]), "layout"),
    "a file beside the top folder": (forge([main_file(), Forged("readme.txt", b"x")]), "layout"),
    "a file called like the folder of macOS": (forge([main_file(), Forged("__MACOSX", b"x")]), "layout"),
    "no folder": (forge([Forged("forged.php", HEADER)]), "layout"),
    "nothing but macOS files": (forge([Forged("__MACOSX/forged/._x", b"x")]), "layout"),
    "no header": (forge([Forged("forged/forged.php", b"<?php echo 1;")]), "headers"),
    "a header in a subfolder only": (forge([Forged("forged/a/forged.php", HEADER)]), "headers"),
    "a header without a version": (forge([Forged("forged/forged.php", b"<?php /* Plugin Name: X */")]), "headers"),
    "a style without a theme name": (forge([Forged("forged/style.css", b"/* Version: 1 */")]), "headers"),
}

NAMES = [
    "forged/../../wp-config.php",
    "/forged/forged.php",
    "forged//x",
    "forged/./x",
    "forged/.. /x",
    "forged/.../x",
    "forged/ ",
    "..",
    "forged\\..\\x",
    "C:/x",
    "forged/a:stream",
    "forged/a\0.php",
    "forged/a\nb",
    "forged/a\x7f",
    "forged/a\x85b",
    "forged/\u202ephp.exe",
    "forged/\u2066x",
    "forged/\u200bx",
    "forged/\ufeffx",
    "forged/a\u2028b",
    "forged/" + "a" * 1100,
    "forged/" + "a/" * 50 + "b",
    "",
    "/",
    "\\\\server\\share\\x",
    "//server/share/x",
    "file:///etc/passwd",
    "~/../x",
    "forged/CON",
    "forged/nul.php",
    "forged/aux /x",
    "forged/Com1.tar.gz",
    "forged/lpt\u00b9",
    "forged/" + "\u0300" * 600,
    "forged/forged.php;1",
    "forged/forged.php;",
]


def _plain(data: bytes = b"") -> bytes:
    """A block of deflate that holds data as it is, and is not the last."""
    return struct.pack("<B2H", 0, len(data), len(data) ^ 0xFFFF) + data


def _overlap(files: int) -> bytes:
    """Every entry is the same kernel: 60 KiB that say they are gigabytes."""
    kernel = Forged("forged/kernel", bytes(1_000_000))
    at = len(main_file().local())
    others = [Forged(f"forged/{n}", bytes(1), packed=kernel.packed, unpacked=kernel.unpacked, crc=kernel.crc,
                     there=False, offset=at) for n in range(files)]  # fmt: skip
    return forge_many([main_file(), kernel, *others])


def _quoted_overlap(files: int) -> bytes:
    """Each entry quotes the headers of all that follow, then shares their kernel (Fifield's bomb)."""
    kernel = Forged("forged/kernel", bytes(1_000_000))
    data, crc_of, tail = kernel.data, kernel.crc, kernel.local()
    entries: list[tuple[Forged, int]] = [(kernel, len(tail))]
    for number in range(files):
        quoted = _plain(tail[: 30 + len(entries[-1][0].raw)])
        data = tail[: 30 + len(entries[-1][0].raw)] + data
        packed = quoted + tail[30 + len(entries[-1][0].raw) :]
        entry = Forged(f"forged/{number}", packed_data=packed, crc=zlib.crc32(data), unpacked=len(data))
        tail = entry.local()[: 30 + len(entry.raw)] + packed
        entries.append((entry, len(tail)))
    assert crc_of is not None
    first = main_file().local()
    end = len(first) + len(tail)
    listed = [main_file().central(0), *(entry.central(end - length) for entry, length in reversed(entries))]
    directory = b"".join(listed)
    return first + tail + directory + struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, len(listed), len(listed), len(directory), end, 0
    )  # fmt: skip


def _layers(depth: int) -> bytes:
    """A zip of zips of zips (42.zip)."""
    inner, name = bytes(1_000_000), "forged/kernel"
    for _ in range(depth):
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(16):
                archive.writestr(f"{name}{number}", inner)
        inner, name = target.getvalue(), "lib"
    return inner


def many(count: int, name: Callable[[int], str], **changes: object) -> bytes:
    """A plugin of so many more entries without data."""

    def entries() -> Iterator[Forged]:
        yield main_file()
        for number in range(count):
            yield Forged(name(number), method=0, **changes)  # type: ignore[arg-type]

    return forge_many(entries())


def _in_zip64(zipped: bytes, count: int) -> bytes:
    """The same zip with a zip64 end record that counts its entries."""
    size, start = struct.unpack_from("<2L", zipped, len(zipped) - 10)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, MASK, MASK, 0)
    return zipped[:-22] + end64_record(len(zipped) - 22, count, size, start) + end


def _hardly_shrunk(size: int, *, crc: int | None = None) -> Forged:
    """A file just below the ratio at which it would be refused."""
    piece = random.Random(1).randbytes(400) + bytes(2**16 - 400)
    return Forged("forged/large", piece * (size // 2**16), crc=crc)


def _swollen(blocks: int) -> Forged:
    """Deflate that holds nothing, at length."""
    return Forged("forged/nothing", packed_data=_plain() * blocks + b"\3\0", crc=1)


LARGE_ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "full overlap": (lambda: _overlap(9000), "framing"),
    "quoted overlap": (lambda: _quoted_overlap(200), "framing"),
    "layers of zips": (lambda: _layers(3), "layout"),
    "a bomb in a plugin": (lambda: forge([main_file(), Forged("forged/zeros", bytes(100_000_000))]), "ratio"),
    "a zip full of zeros in a plugin": (
        lambda: forge([main_file(), Forged("forged/inner.zip", forge([Forged("a/z", bytes(2**25), method=0)]))]),
        "ratio",
    ),
    "a bomb that claims to be small": (
        lambda: forge([main_file(), Forged("forged/z", bytes(100_000_000), unpacked=10, local_unpacked=10)]),
        "size",
    ),
    "a bomb of many parts": (
        lambda: forge([main_file(), *(Forged(f"forged/{n}", bytes(1_000_000)) for n in range(50))]),
        "ratio",
    ),
    "65,536 entries": (lambda: _in_zip64(many(65_535, lambda n: f"forged/{n}"), 65_536), "entries"),
    "10,001 entries": (lambda: many(10_000, lambda n: f"forged/{n}"), "entries"),
    "65,536 entries that are counted as none": (
        lambda: many(65_535, lambda n: f"forged/{n}"),
        "entries",
    ),
    "names of 64 KiB": (lambda: many(30, lambda n: f"forged/{n}" + "a" * 65_000), "name"),
    "ten thousand names of a kilobyte": (lambda: many(9_990, lambda n: f"forged/{n}" + "a" * 1000), "entries"),
    "names that are costly to compare": (
        lambda: many(9_000, lambda n: "forged/" + "\u0390" * 105 + str(n % 8_999)),
        "duplicate",
    ),
    "names with one strange character each": (
        lambda: many(9_000, lambda n: "forged/" + "a" * 210 + "\U0001f600" + str(n % 8_999)),
        "duplicate",
    ),
    "folders in folders, all of them different": (
        lambda: many(9_000, lambda n: "forged/" + "/".join(f"{n}-{depth}" for depth in range(20)) + "/x"),
        "entries",
    ),
    "extra fields of 64 KiB": (
        lambda: many(300, lambda n: f"forged/{n}", extra=b"\xfe\xca" + struct.pack("<H", 60_000) + bytes(60_000)),
        "entries",
    ),
    "extra fields of nothing, ten thousand of them": (
        lambda: many(100, lambda n: f"forged/{n}", extra=b"\xfe\xca\0\0" * 5_000),
        "extra",
    ),
    "20 MiB of extra fields of nothing before the data": (
        lambda: many(320, lambda n: f"forged/{n}", local_extra=b"\xfe\xca\0\0" * 16_383),
        "extra",
    ),
    "a file of end records that lead nowhere": (
        lambda: forge([main_file(), Forged("forged/x", b"PK\5\6" * 16_000, method=0, crc=1)]),
        "data",
    ),
    "a comment of end records": (lambda: forge([main_file()], comment=b"PK\5\6" * 16_000), "end"),
    "100 MiB that are damaged at the end": (
        lambda: forge([main_file(), _hardly_shrunk(100 * 2**20, crc=1)]),
        "data",
    ),
    "20 MiB of deflate that hold nothing": (lambda: forge([main_file(), _swollen(4 * 2**20)]), "data"),
    "20 MiB stored that are damaged": (
        lambda: forge([main_file(), Forged("forged/x", bytes(20 * 2**20), method=0, crc=1)]),
        "data",
    ),
}
