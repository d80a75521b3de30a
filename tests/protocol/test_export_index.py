"""The index of an export: what its reader believes, and what it refuses whoever wrote it."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfn_protocol.encoding import Value, seal
from pfn_protocol.errors import Refusal
from pfn_protocol.export_index import (
    ExportedFile,
    ExportIndex,
    Shard,
    check_export_path,
    export_gone_max,
    export_index_bytes_max,
    export_path_chars_max,
    open_index,
    read_shard,
    shard_of,
    sign_index,
    write_shard,
)
from tests.protocol.vectors.case import ALICE, BOB, MESH, NOW_MS

SHARDS = (Shard(3, bytes(32), 90, 1), Shard(255, b"\xaa" * 32, 180, 2))
INDEX = ExportIndex(NOW_MS, 12, "https://files.test/pfn", 3, 1_000, SHARDS)
FILES = [f"composer/p2/pfn/some-name-{number}.json" for number in range(2_000)]
SAFE = st.from_regex(r"[A-Za-z0-9][a-z0-9._+-]{0,20}[a-z0-9]", fullmatch=True)


def test_an_index_comes_back_with_the_key_that_signed_it() -> None:
    assert open_index(sign_index(ALICE, MESH, INDEX)) == (INDEX, ALICE.public)


def test_an_index_shows_what_it_says_to_whoever_reads_json() -> None:
    shown = json.loads(sign_index(ALICE, MESH, INDEX))

    assert {name: shown[name] for name in ("form", "mesh", "made_ms", "change", "url", "files", "size")} == {
        "form": "pfn-export/1",
        "mesh": MESH,
        "made_ms": NOW_MS,
        "change": 12,
        "url": "https://files.test/pfn",
        "files": 3,
        "size": 1_000,
    }
    assert shown["shards"][1] == {
        "path": f"pfn-export/files-ff-{'aa' * 16}.txt",
        "sha256": "aa" * 32,
        "size": 180,
        "files": 2,
    }


def change(**members: Any) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps(json.loads(data) | members, indent=1).encode() + b"\n"


@pytest.mark.parametrize(
    "spoil",
    [
        change(files=4),
        change(node_id="did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"),
        change(more=1),
        change(mesh="other"),
        change(mesh="No Mesh"),
        change(envelope="!"),
        change(envelope=7),
        lambda data: data + b" ",
        lambda data: data.replace(b"\n ", b"\n  "),
        lambda data: data.replace(b' "files"', b' "files": 9,\n "files"', 1),
        lambda data: b"[" * 100_000,
        lambda data: b"[]",
        lambda data: b"\xff",
        lambda data: data + b" " * export_index_bytes_max,
    ],
)
def test_an_index_that_was_changed_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Refusal):
        open_index(spoil(sign_index(ALICE, MESH, INDEX)))


def test_an_envelope_of_another_node_does_not_fit_what_the_index_shows() -> None:
    mine = sign_index(ALICE, MESH, INDEX)
    other = json.loads(sign_index(BOB, MESH, INDEX))["envelope"]

    with pytest.raises(Refusal, match="R171"):
        open_index(change(envelope=other)(mine))


@pytest.mark.parametrize(
    "index",
    [
        replace(INDEX, made_ms=5),
        replace(INDEX, files=4),
        replace(INDEX, shards=SHARDS[::-1]),
        replace(INDEX, shards=(SHARDS[0], SHARDS[0]), files=2),
        replace(INDEX, shards=(Shard(256, bytes(32), 90, 3),)),
        replace(INDEX, shards=(Shard(2, bytes(31), 90, 3),)),
        replace(INDEX, url="x" * 5_000),
    ],
)
def test_an_index_that_nobody_would_accept_is_not_signed(index: ExportIndex) -> None:
    with pytest.raises(Refusal, match="R170"):
        sign_index(ALICE, MESH, index)


@pytest.mark.parametrize("body", [(), (NOW_MS, 1, "", 0, 0, 7), (NOW_MS, 1, "", 0, 0, ((1, 2),)), None])
def test_an_index_of_another_shape_is_refused(body: Value) -> None:
    envelope = base64.b64encode(seal(ALICE, "pfn/export/1", MESH, body).raw).decode()

    with pytest.raises(Refusal, match="R170"):
        open_index(change(envelope=envelope)(sign_index(ALICE, MESH, INDEX)))


def rows(number: int) -> dict[str, ExportedFile]:
    return {path: ExportedFile(bytes([number]) * 32, number) for path in FILES if shard_of(path) == number}


def test_a_shard_comes_back_with_what_went() -> None:
    files = rows(7)
    *_, gone = files
    del files[gone]

    read = read_shard(write_shard(files, {gone: NOW_MS}), 7)

    assert (read.files, read.gone) == (files, {gone: NOW_MS})


def test_a_shard_tells_of_the_newest_that_went_and_of_no_more() -> None:
    gone = {f"a/{number:06}": number + 1 for number in range(export_gone_max + 10)}

    lines = write_shard({}, gone).decode().splitlines()

    assert len(lines) == export_gone_max
    assert lines[0] == "gone 11 a/000010"


PATH = next(iter(rows(7)))
LATER = list(rows(7))[1]
LINE = f"{'07' * 32} 7 {PATH}\n"


@pytest.mark.parametrize(
    "lines",
    [
        "",
        LINE[:-1],
        f"\n{LINE}",
        LINE.replace("07", "0A"),
        LINE.replace(" 7 ", " 07 "),
        LINE.replace(" 7 ", " -7 "),
        LINE.replace(" 7 ", "  7 "),
        LINE.replace("\n", "\r\n"),
        LINE + LINE,
        LINE.replace(PATH, max(PATH, LATER)) + LINE.replace(PATH, min(PATH, LATER)),
        LINE.replace(PATH, "é"),
        LINE.replace(PATH, "../../etc/passwd"),
        f"gone 0 {PATH}\n",
        f"gone {PATH}\n",
    ],
)
def test_a_shard_with_another_line_is_refused(lines: str) -> None:
    with pytest.raises(Refusal, match=r"R17[23]"):
        read_shard(lines.encode(), 7)


def test_a_path_that_climbs_is_refused_though_it_belongs_to_its_shard() -> None:
    climbing = next(path for number in range(10_000) if shard_of(path := f"../../etc/passwd{number}") == 7)

    for line in (LINE.replace(PATH, climbing), f"gone 9 {climbing}\n"):
        with pytest.raises(Refusal, match="R172"):
            read_shard(line.encode(), 7)


def test_a_path_stands_in_its_own_shard_and_in_no_other() -> None:
    assert read_shard(LINE.encode(), 7).files == {PATH: ExportedFile(b"\x07" * 32, 7)}
    with pytest.raises(Refusal, match="R173"):
        read_shard(LINE.encode(), 8)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "a/../b",
        "a//b",
        "a/",
        ".hidden",
        "a/.",
        "a/b.",
        "a/b ",
        "a\\b",
        "a:b",
        "a/é",
        "a/con",
        "a/NUL.json",
        "lpt1.1.0.zip",
        "a/%2e%2e",
        "a/-rf",
        "a/" + "b" * 256,
        "/".join(["ab"] * export_path_chars_max),
    ],
)
def test_a_path_that_some_file_system_could_take_for_another_is_refused(path: str) -> None:
    with pytest.raises(Refusal, match="R172"):
        check_export_path(path)


@settings(derandomize=True, max_examples=200)
@given(st.lists(SAFE, min_size=1, max_size=4))
def test_letters_digits_and_a_few_marks_make_a_path(segments: list[str]) -> None:
    check_export_path("/".join(["x", *(f"n{segment}" for segment in segments)]))


@pytest.mark.parametrize("path", ["composer/p2/pfn/a--b.json", "download/plugin/constant.1.0+x.zip", "a_b/C-1.2_"])
def test_real_paths_pass(path: str) -> None:
    check_export_path(path)
