"""`pfn artifacts move` and `check`: from the folder of a node to an object store, and back."""

import json
import os
from pathlib import Path
from typing import Any

import obstore
import pytest
from typer.testing import CliRunner, Result

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.moving import TRIES_MAX, move_to_store
from pfn_node.artifacts.object_store import MARK, ObjectStore
from pfn_node.cli import app
from tests.object_store.server import Bucket

ZIPS = (b"PK small", b"PK" + os.urandom(6 * 2**20))
TEXT = b"a signed text"
CACHED = b"PK cached"


@pytest.fixture
def data(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a node that was stopped, with zips, a signed text and something in the cache."""
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "data"
    assert CliRunner().invoke(app, ["identity", "show", "--data", str(folder)]).exit_code == 0
    artifacts = opened(folder)
    for data in (*ZIPS, TEXT):
        artifacts.put_bytes(data)
    with artifacts.writer() as writer:
        writer.write(CACHED)
        writer.keep(cache=True)
    return folder


def opened(folder: Path, url: str = "") -> Artifacts:
    artifacts = Artifacts(folder / "artifacts", 2**20, ObjectStore(url) if url else None)
    artifacts.start()
    return artifacts


def run(folder: Path, to: str, *words: str) -> Result:
    return CliRunner().invoke(app, ["artifacts", "move", "--data", str(folder), "--to", to, *words])


def said(result: Result) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def contents(artifacts: Artifacts) -> set[bytes]:
    found = set()
    for sha256 in artifacts.digests():
        with os.fdopen(artifacts.open(sha256).fd, "rb") as file:
            found.add(file.read())
    return found


def count(bucket: Bucket) -> int:
    return sum(entry["path"] != MARK for entry in obstore.list(bucket.store).collect())


def test_zips_move_to_the_store_and_back_and_texts_and_the_cache_stay(data: Path, bucket: Bucket) -> None:
    there = run(data, bucket.url)

    assert there.exit_code == 0, there.output
    assert f"now set PFN_ARTIFACTS={bucket.url}" in there.stdout
    assert count(bucket) == 2
    node = opened(data, bucket.url)
    assert contents(node) == {*ZIPS, TEXT}
    assert node.usage() | {"kept": 3, "stored": 2, "cached": 1} == node.usage()

    back = run(data, "folder", "--delete", "--json")

    assert said(back) == {"moved": 2, "bytes": sum(map(len, ZIPS)), "left": 0, "damaged": {}}
    assert count(bucket) == 0
    assert contents(opened(data)) == {*ZIPS, TEXT}


def test_what_is_brought_back_stays_in_the_store_for_nodes_that_share_it(data: Path, bucket: Bucket) -> None:
    run(data, bucket.url)

    assert run(data, "folder").exit_code == 0

    assert count(bucket) == 2
    assert contents(opened(data)) == {*ZIPS, TEXT}


def test_a_move_to_a_store_that_is_down_is_gone_on_with_later(data: Path, bucket: Bucket) -> None:
    artifacts = opened(data, bucket.url)
    bucket.server.stop()
    slept: list[float] = []
    try:
        done = move_to_store(artifacts, lambda number, total: None, sleep=slept.append)
    finally:
        bucket.server.start()

    assert (done.done, done.left) == (0, 2)
    assert TRIES_MAX <= len(slept) <= 2 * TRIES_MAX
    assert done.problem is not None
    assert contents(opened(data)) == {*ZIPS, TEXT}
    assert said(run(data, bucket.url, "--json"))["moved"] == 2


def test_a_damaged_file_does_not_move_and_is_named(data: Path, bucket: Bucket) -> None:
    artifacts = opened(data)
    sha256 = next(one for one in artifacts.in_folder() if artifacts.path(one).read_bytes() == ZIPS[0])
    artifacts.path(sha256).write_bytes(b"PK SMALL")

    moved = run(data, bucket.url, "--json")

    assert moved.exit_code == 1
    assert said(moved)["moved"] == 1
    assert list(said(moved)["damaged"]) == [sha256.hex()]
    assert count(bucket) == 1
    assert artifacts.path(sha256).exists()


def test_a_damaged_object_does_not_come_back(data: Path, bucket: Bucket) -> None:
    run(data, bucket.url)
    artifacts = opened(data, bucket.url)
    assert artifacts.store is not None
    sha256 = min(artifacts.store.sizes, key=artifacts.store.sizes.__getitem__)
    obstore.put(bucket.store, f"{sha256.hex()[:2]}/{sha256.hex()[2:]}", b"PK SMALL")

    moved = run(data, "folder", "--json")

    assert moved.exit_code == 1
    assert list(said(moved)["damaged"]) == [sha256.hex()]
    assert contents(opened(data)) == {ZIPS[1], TEXT}


@pytest.mark.parametrize(
    ("to", "code", "sentence"),
    [
        ("folder", 1, "nothing of this node lies in an object store"),
        ("s3://key:secret@bucket", 2, "may hold no credentials"),
        ("somewhere", 2, "expected the URL of an object store"),
        ("https://example.org/zips", 1, "is no object store"),
    ],
)
def test_a_move_that_makes_no_sense_says_so(data: Path, to: str, code: int, sentence: str) -> None:
    result = run(data, to)

    assert (result.exit_code, sentence in result.stderr) == (code, True), result.output
    assert "secret" not in result.output
    assert contents(opened(data)) == {*ZIPS, TEXT}


def test_a_folder_that_is_no_node_s_is_refused(tmp_path: Path) -> None:
    result = run(tmp_path, "s3://bucket")

    assert (result.exit_code, "is not the data folder of a node" in result.stderr) == (2, True)


def test_a_check_reads_everything_and_names_what_is_damaged_or_gone(data: Path, bucket: Bucket) -> None:
    run(data, bucket.url)
    obstore.put(bucket.store, "of/another", b"node")

    def check(*words: str) -> Result:
        return CliRunner().invoke(app, ["artifacts", "check", "--data", str(data), *words])

    sound = check()
    assert (sound.exit_code, sound.stdout.split(" are sound")[0]) == (0, f"2 artifacts ({sum(map(len, ZIPS))} bytes)")
    assert "1 objects are not this node's" in sound.stdout

    keys = {entry["size"]: entry["path"] for entry in obstore.list(bucket.store).collect()}
    obstore.delete(bucket.store, keys[len(ZIPS[0])])
    obstore.put(bucket.store, keys[len(ZIPS[1])], ZIPS[1][:-1] + b"?")
    found = check("--json")

    assert found.exit_code == 1
    assert said(found) | {"sound": 0, "left": 0, "others": 2} == said(found)
    assert sorted(why.split()[-1] for why in said(found)["damaged"].values()) == ["more.", f"{bucket.url}."]
    assert contents(opened(data, bucket.url)) == {TEXT}
