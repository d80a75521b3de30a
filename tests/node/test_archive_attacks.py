"""The gate for zips refuses what could mean two things, or harm whoever unpacks it: one named attack per case."""

from pathlib import Path

import pytest

from pfn_node.archive import ArchiveLimits, ArchiveRefused, inspect
from tests.node.zip_forge import (
    FOLDER,
    HEADER,
    LINK,
    MASK,
    PIPE,
    Forged,
    descriptor,
    end64_record,
    forge,
    main_file,
    unicode_path,
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
    "a picture in front": (b"GIF89a<script>" + HONEST, "prefix"),
    "an empty zip": (forge([]), "prefix"),
    "an end record alone behind a local signature": (b"PK\3\4" + forge([]), "directory"),
    "cut off": (HONEST[:-1], "end"),
    "bytes behind the end": (HONEST + b"\n", "end"),
    "a comment longer than it is": (forge([main_file()], comment=b"abc", comment_length=9), "end"),
    "a comment shorter than it is": (forge([main_file()], comment=b"abc", comment_length=1), "end"),
    "an end record in the comment": (forge([main_file()], comment=b"PK\5\6" + bytes(18)), "end"),
    "half an end record in the comment": (forge([main_file()], comment=b"PK\5\6"), "end"),
    "two zips in one": (HONEST + HONEST, "directory"),
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
    "a folder without a slash": (forge([main_file(), Forged("forged/folder", attributes=FOLDER)]), "special"),
    "a folder that holds data": (forge([main_file(), Forged("forged/folder/", b"x", attributes=FOLDER)]), "special"),
    "an encrypted entry": (forge([main_file(flags=1)]), "encrypted"),
    "an AES-encrypted entry": (forge([main_file(extra=AES)]), "encrypted"),
    "a masked directory": (forge([main_file(flags=0x2000)]), "encrypted"),
    "patched data": (forge([main_file(flags=0x20)]), "flags"),
    "a format of the future": (forge([main_file(needed=64)]), "flags"),
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
    "two top folders": (forge([main_file(), Forged("evil/evil.php", HEADER)]), "layout"),
    "a file beside the top folder": (forge([main_file(), Forged("readme.txt", b"x")]), "layout"),
    "no folder": (forge([Forged("forged.php", HEADER)]), "layout"),
    "nothing but macOS files": (forge([Forged("__MACOSX/forged/._x", b"x")]), "layout"),
    "no header": (forge([Forged("forged/forged.php", b"<?php echo 1;")]), "headers"),
    "a header in a subfolder only": (forge([Forged("forged/a/forged.php", HEADER)]), "headers"),
    "a header without a version": (forge([Forged("forged/forged.php", b"<?php /* Plugin Name: X */")]), "headers"),
    "a style without a theme name": (forge([Forged("forged/style.css", b"/* Version: 1 */")]), "headers"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused_with_their_reason(tmp_path: Path, attack: str) -> None:
    data, reason = ATTACKS[attack]
    path = tmp_path / "attack.zip"
    path.write_bytes(data)

    with pytest.raises(ArchiveRefused) as refused:
        inspect(path)

    assert refused.value.reason == reason
    assert refused.value.sentence.endswith(".")


@pytest.mark.parametrize(
    "name",
    [
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
    ],
)
def test_names_that_could_lead_or_look_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "attack.zip"
    path.write_bytes(forge([main_file(), Forged(name, b"x")]))

    with pytest.raises(ArchiveRefused, match=r"^name: "):
        inspect(path)


def test_a_file_that_would_grow_too_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(forge([main_file(), Forged("forged/zeros", bytes(2_000_000))]))

    with pytest.raises(ArchiveRefused, match=r"^ratio: .*'forged/zeros'"):
        inspect(path)


def test_many_small_files_that_grow_too_much_together_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(forge([main_file(), *(Forged(f"forged/{n}", bytes(1_000_000)) for n in range(12))]))

    with pytest.raises(ArchiveRefused, match=r"^ratio: The zip"):
        inspect(path)


def test_a_bomb_that_claims_to_be_small_is_stopped_at_its_claim(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(forge([main_file(), Forged("forged/zeros", bytes(50_000_000), unpacked=10, local_unpacked=10)]))

    with pytest.raises(ArchiveRefused, match=r"^size: "):
        inspect(path)


def test_the_limits_hold(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    path.write_bytes(forge([main_file(), *(Forged(f"forged/{n}", b"x") for n in range(9))]))

    assert inspect(path, limits=ArchiveLimits(entries_max=10)).files == 10
    with pytest.raises(ArchiveRefused, match=r"^entries: "):
        inspect(path, limits=ArchiveLimits(entries_max=9))
    with pytest.raises(ArchiveRefused, match=r"^size: "):
        inspect(path, limits=ArchiveLimits(unpacked_bytes_max=50))


def test_overlapping_entries_that_share_one_large_kernel_are_refused(tmp_path: Path) -> None:
    kernel = Forged("forged/kernel", bytes(1_000_000))
    quoted = [
        Forged(f"forged/{n}", bytes(1_000_000), packed=kernel.packed, there=False, offset=len(main_file().local()))
        for n in range(50)
    ]
    path = tmp_path / "overlap.zip"
    path.write_bytes(forge([main_file(), kernel, *quoted]))

    with pytest.raises(ArchiveRefused, match=r"^framing: "):
        inspect(path)


def test_a_missing_file_is_an_operating_system_error_and_no_refusal(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inspect(tmp_path / "none.zip")
