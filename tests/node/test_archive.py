"""The gate for zips lets through what real tools make."""

import base64
import io
import json
import random
import shutil
import stat
import subprocess
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfn_node.archive import ArchiveFacts, ArchiveLimits, ArchiveRefused, inspect
from tests.node.zip_forge import (
    FILE,
    FOLDER,
    HEADER,
    MASK,
    Forged,
    asi_field,
    descriptor,
    end64_record,
    forge,
    libarchive_field,
    main_file,
    unicode_path,
    zip64_field,
)

TOOL_ZIPS = json.loads((Path(__file__).parents[1] / "data" / "tool_zips.json").read_text())
FILES = {
    "tiny-plugin/tiny-plugin.php": b"<?php\n/* Plugin Name: Tiny Plugin\n * Version: 1.2.3 */\n",
    "tiny-plugin/inc/a.txt": b"hello",
    "tiny-plugin/inc/zero.txt": b"",
    "tiny-plugin/inc/ubung \u2013 \u201cq\u201d.txt": b"x" * 500,
}


def looked_at(tmp_path: Path, data: bytes, limits: ArchiveLimits | None = None) -> ArchiveFacts:
    path = tmp_path / "plugin.zip"
    path.write_bytes(data)
    return inspect(path, limits=limits or ArchiveLimits())


@pytest.mark.parametrize("tool", [name for name in TOOL_ZIPS if name.endswith(".zip") and name != "bsdtar-stream.zip"])
def test_zips_of_real_tools_are_accepted(tmp_path: Path, tool: str) -> None:
    facts = looked_at(tmp_path, base64.b64decode(TOOL_ZIPS[tool]))

    assert (facts.type, facts.name, facts.version) == ("plugin", "Tiny Plugin", "1.2.3")
    assert facts.folder == ("tiny-plugin-1.2.3" if tool == "git-prefix.zip" else "tiny-plugin")
    assert facts.headers == {"Plugin Name": "Tiny Plugin", "Version": "1.2.3", "Description": "Small."}


def test_padding_behind_the_end_is_refused_even_from_a_real_tool(tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused, match=r"^end: "):
        looked_at(tmp_path, base64.b64decode(TOOL_ZIPS["bsdtar-stream.zip"]))


class _Pipe(io.RawIOBase):
    """A target that cannot seek, so that the writer must stream."""

    def __init__(self, target: io.BytesIO) -> None:
        self.target = target

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return self.target.write(data)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("force_zip64", [False, True])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips_of_python_are_accepted(tmp_path: Path, streamed: bool, force_zip64: bool, method: int) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(_Pipe(target) if streamed else target, "w", method) as archive:
        for name, data in FILES.items():
            with archive.open(name, "w", force_zip64=force_zip64) as entry:
                entry.write(data)

    facts = looked_at(tmp_path, target.getvalue())

    assert (facts.files, facts.unpacked_bytes) == (4, sum(map(len, FILES.values())))


def test_a_zip_that_was_added_to_and_has_a_comment_is_accepted(tmp_path: Path) -> None:
    target = io.BytesIO(forge([main_file()]))
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("forged/added.txt", b"more")
        archive.comment = b"0123456789abcdef0123456789abcdef01234567"  # as git archive writes it

    assert looked_at(tmp_path, target.getvalue()).files == 2


@pytest.mark.skipif(shutil.which("zip") is None, reason="needs Info-ZIP")
@pytest.mark.parametrize("option", ["-0", "-9", "-X", "-fd", "-fz", "-D"])
def test_zips_of_the_installed_zip_are_accepted(tmp_path: Path, option: str) -> None:
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)

    subprocess.run(["zip", "-qr", option, "made.zip", "tiny-plugin"], cwd=tmp_path, check=True)
    piped = subprocess.run(["zip", "-qr", "-", "tiny-plugin"], cwd=tmp_path, check=True, capture_output=True).stdout

    assert inspect(tmp_path / "made.zip").files == 4
    assert looked_at(tmp_path, piped).files == 4


def test_macos_resource_files_beside_the_top_folder_do_not_count(tmp_path: Path) -> None:
    sizes = {"local_crc": 0, "local_packed": 0, "local_unpacked": 0, "flags": 8}  # as the Finder streams them
    php = main_file(**sizes)
    php.descriptor = descriptor(php.data, php.packed or 0)
    resource = Forged("__MACOSX/forged/._forged.php", b"\0\5\x16\7", local_extra=b"UX\x08\0" + bytes(8))

    facts = looked_at(tmp_path, forge([Forged("forged/", method=0, attributes=FOLDER), php, resource]))

    assert (facts.folder, facts.files) == ("forged", 2)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("form", ["<3L", "<L2Q"])
def test_all_four_forms_of_data_descriptors_are_accepted(tmp_path: Path, signed: bool, form: str) -> None:
    php = main_file(flags=8, local_crc=0, local_packed=0, local_unpacked=0)
    php.descriptor = descriptor(php.data, php.packed or 0, signed=signed, form=form)

    assert looked_at(tmp_path, forge([php, Forged("forged/more.txt", b"more")])).files == 2


def test_a_descriptor_that_was_announced_but_not_needed_may_be_missing(tmp_path: Path) -> None:
    assert looked_at(tmp_path, forge([main_file(flags=8)])).files == 1


def test_the_directory_may_list_entries_in_another_order(tmp_path: Path) -> None:
    first, second = main_file(), Forged("forged/a.txt", b"a", there=False, offset=len(main_file().local()))
    body = Forged("forged/a.txt", b"a", listed=False)

    assert looked_at(tmp_path, forge([second, first, body], here=2, count=2)).files == 2


def test_zip64_end_records_and_fields_are_accepted(tmp_path: Path) -> None:
    php = main_file()
    size, packed = php.unpacked or 0, php.packed or 0
    php.unpacked = php.packed = php.offset = MASK
    php.extra = zip64_field(size, packed, 0)
    php.local_unpacked = php.local_packed = MASK
    php.local_extra = zip64_field(size, packed)
    start, length = len(php.local()), len(php.central(0))
    end64 = end64_record(start + length, 1, length, start)

    data = forge([php], end64=end64, count=0xFFFF, size=MASK, start=MASK)

    assert looked_at(tmp_path, data).unpacked_bytes == len(HEADER)


def test_a_second_name_that_says_the_same_is_accepted(tmp_path: Path) -> None:
    name = "forged/\u00fcbung.txt"
    entry = Forged(name, b"x", extra=unicode_path(name), local_extra=unicode_path(name))

    assert looked_at(tmp_path, forge([main_file(), entry])).files == 2


@pytest.mark.parametrize("comment", [b"", b"0123456789abcdef0123456789abcdef01234567"])
def test_a_zip_in_the_zip_is_accepted(tmp_path: Path, comment: bytes) -> None:
    inner = Forged("forged/demo.zip", forge([main_file(), Forged("forged/a.txt", b"a")]), method=0)

    assert looked_at(tmp_path, forge([main_file(), inner], comment=comment)).files == 2


def test_what_maven_bazel_ant_and_bsdtar_add_is_accepted(tmp_path: Path) -> None:
    data = b"hello " * 20
    folder = Forged("forged/maven/", method=0, attributes=0xFFFF0010)  # its mode is -1
    bazel = Forged("forged/bazel.txt", data)
    bazel.local_extra = zip64_field(len(data), bazel.packed or 0)  # although neither number is masked
    ant = Forged("forged/ant.txt", data, extra=asi_field(0o100644), local_extra=asi_field(0o100644))
    bsdtar = Forged("forged/bsdtar.txt", data, local_extra=libarchive_field(FILE))
    by_bsdtar = Forged("forged/bsdtar/", method=0, attributes=FOLDER, local_extra=libarchive_field(FOLDER))
    bare = Forged("forged/bare.txt", data, local_extra=b"\x78\x6c\3\0\1\x1e\3")  # only who made it

    facts = looked_at(tmp_path, forge([main_file(), folder, bazel, ant, bsdtar, by_bsdtar, bare]))

    assert facts.files == 5


def test_empty_deflated_folders_are_accepted(tmp_path: Path) -> None:
    folder = Forged("forged/empty/", b"", attributes=stat.S_IFDIR << 16)

    assert looked_at(tmp_path, forge([main_file(), folder])).files == 1


def test_a_large_well_packed_file_costs_little_memory(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(200_000) + bytes(30_000_000)
    path = tmp_path / "large.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("forged/forged.php", HEADER)
        archive.writestr("forged/large.bin", data)
    del data
    tracemalloc.start()

    assert inspect(path).unpacked_bytes > 30_000_000

    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("more", [1, 2, 100, 257, 258, 259, 300])
def test_data_that_ends_just_behind_a_full_piece_is_read_to_its_end(tmp_path: Path, more: int) -> None:
    entry = Forged("forged/zeros", bytes(64 * 1024 + more))

    assert looked_at(tmp_path, forge([main_file(), entry])).unpacked_bytes == len(HEADER) + 64 * 1024 + more


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_zip_with_any_bytes_changed_is_refused_or_means_the_same_to_python(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(forge([main_file(), Forged("forged/a.txt", b"a" * 100)], comment=b"c"))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.zip"
    path.write_bytes(whole)

    try:
        facts = inspect(path)
    except ArchiveRefused as refusal:
        assert refusal.sentence.endswith(".")
    else:
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert sum(not info.is_dir() for info in archive.infolist()) == facts.files
