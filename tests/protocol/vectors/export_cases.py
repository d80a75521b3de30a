"""Exports, R170 to R173: what an index and a shard say, and which paths may be in them."""

import json
from collections.abc import Iterator

from pfn_protocol.export_index import ExportedFile, ExportIndex, Shard, sign_index, write_shard
from tests.protocol.vectors.case import ALICE, MESH, NOW_MS, Case, plain

_PATH = "composer/packages.json"  # of shard 201
_SHARD = write_shard({_PATH: ExportedFile(bytes(range(32)), 296)}, {}).decode()
_INDEX = ExportIndex(NOW_MS, 7, "https://files.example/pfn", 1, 296, (Shard(201, bytes(32), len(_SHARD), 1),))


def cases() -> Iterator[Case]:
    yield from _indexes()
    yield from _shards()
    yield from _paths()


def _indexes() -> Iterator[Case]:
    text = sign_index(ALICE, MESH, _INDEX).decode()
    accepted = {"index": plain(_INDEX), "signed_by": ALICE.public.hex()}
    yield Case("an index", "R171", "export-index", {"text": text}, accepted)
    for name, spoilt in (
        ("more files than are signed", text.replace('"files": 1,', '"files": 2,', 1)),
        ("another member", text.replace("{\n", '{\n "more": 1,\n', 1)),
        ("another layout", json.dumps(json.loads(text))),
        ("no line feed at the end", text[:-1]),
    ):
        yield Case(name, "R171", "export-index", {"text": spoilt}, refused="R171")


def _shards() -> Iterator[Case]:
    gone = f"gone {NOW_MS} {_PATH}\n"
    files = {_PATH: {"sha256": bytes(range(32)).hex(), "size": 296}}
    yield Case("a file", "R173", "export-shard", {"text": _SHARD, "number": 201}, {"files": files, "gone": {}})
    yield Case(
        "what went", "R173", "export-shard", {"text": gone, "number": 201}, {"files": {}, "gone": {_PATH: NOW_MS}}
    )
    for name, spoilt, number in (
        ("of another shard", _SHARD, 202),
        ("twice", _SHARD + _SHARD, 201),
        ("capital letters", _SHARD.replace("0a0b", "0A0B"), 201),
        ("a size with a zero before it", _SHARD.replace(" 296 ", " 0296 "), 201),
        ("no line feed at the end", _SHARD[:-1], 201),
        ("nothing", "", 201),
    ):
        yield Case(name, "R173", "export-shard", {"text": spoilt, "number": number}, refused="R173")


def _paths() -> Iterator[Case]:
    for path in (_PATH, "download/plugin/a.1.0+b_2-RC1.zip", "plugins/info/1.0/constant.json"):
        yield Case(path, "R172", "export-path", {"text": path}, path)
    refused = ("", "/a", "a/", "a//b", "a/../b", ".a", "a.", "a b", "a:b", "a\\b", "ä", "con", "a/Nul.json", "x" * 256)
    for path in refused:
        yield Case(path[:40], "R172", "export-path", {"text": path}, refused="R172")
