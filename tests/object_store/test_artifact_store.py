"""Artifacts in an object store, without a node around them."""

import errno
import hashlib
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path

import obstore
import pytest

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactError, ArtifactMismatch, ArtifactMissing, StoreUnavailable
from pfn_node.artifacts.object_store import MARK, PAUSE_SECONDS, ObjectStore
from pfn_node.artifacts.store import BLOCK_BYTES, StoredArtifact
from tests.object_store.server import Bucket

SMALL = b"a small plugin"
LARGE = os.urandom(7 * 2**20 + 5)  # in two parts, and many blocks
CACHE_BYTES = 2**20

Open = Callable[..., Artifacts]


@pytest.fixture
def open_artifacts(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens the artifacts of a node; of the same node again if it has the same name."""
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)

    def opened(name: str = "node", url: str = bucket.url + "/of/us") -> Artifacts:
        artifacts = Artifacts(tmp_path / name, CACHE_BYTES, ObjectStore(url) if url else None)
        artifacts.start()
        return artifacts

    return opened


def key_of(data: bytes) -> str:
    name = hashlib.sha256(data).hexdigest()
    return f"of/us/{name[:2]}/{name[2:]}"


def in_bucket(bucket: Bucket) -> set[str]:
    return {entry["path"] for entry in obstore.list(bucket.store).collect()} - {f"of/us/{MARK}"}


def read_through(artifacts: Artifacts, sha256: bytes) -> bytes:
    with os.fdopen(artifacts.open(sha256).fd, "rb") as file:
        return file.read()


def stored(artifacts: Artifacts, sha256: bytes) -> StoredArtifact:
    opened = artifacts.serve(sha256)
    assert isinstance(opened, StoredArtifact)
    return opened


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "stored" not in path.parts]


@pytest.mark.parametrize("data", [SMALL, LARGE, b""])
def test_what_is_kept_lies_in_the_store_and_nowhere_else(
    open_artifacts: Open, bucket: Bucket, tmp_path: Path, data: bytes
) -> None:
    artifacts = open_artifacts()

    sha256 = artifacts.put_bytes(data)

    assert in_bucket(bucket) == {key_of(data)}
    assert files_in(tmp_path) == []
    assert read_through(artifacts, sha256) == data
    assert artifacts.usage()["kept_bytes"] == artifacts.usage()["stored_bytes"] == len(data)
    assert artifacts.digests() == (sha256,)


def test_a_restarted_node_knows_what_is_there_without_asking_the_store(open_artifacts: Open, bucket: Bucket) -> None:
    sha256 = open_artifacts().put_bytes(LARGE)

    bucket.server.stop()
    try:
        again = open_artifacts()
        known = again.has(sha256), again.usage()["kept"]
    finally:
        bucket.server.start()

    assert known == (True, 1)
    assert stored(again, sha256).blocks(28, 9) == LARGE[28 * BLOCK_BYTES :]


def test_an_object_is_sent_once_whoever_has_it(open_artifacts: Open, bucket: Bucket) -> None:
    open_artifacts("one").put_bytes(LARGE)
    first = obstore.head(bucket.store, key_of(LARGE))

    other = open_artifacts("two")
    sha256 = other.put_bytes(LARGE)

    assert obstore.head(bucket.store, key_of(LARGE)) == first
    assert read_through(other, sha256) == LARGE


@pytest.mark.parametrize("there", [b"x", b"x" * len(LARGE)])
def test_an_object_that_is_there_but_wrong_is_sent_again(open_artifacts: Open, bucket: Bucket, there: bytes) -> None:
    obstore.put(bucket.store, key_of(LARGE), there)

    artifacts = open_artifacts()
    sha256 = artifacts.put_bytes(LARGE)

    assert read_through(artifacts, sha256) == LARGE


@pytest.mark.parametrize("at", [0, 3 * BLOCK_BYTES + 7, len(LARGE) - 1])
def test_no_byte_of_a_damaged_block_is_read_and_the_artifact_is_not_listed_any_more(
    open_artifacts: Open, bucket: Bucket, at: int
) -> None:
    artifacts = open_artifacts()
    sha256 = artifacts.put_bytes(LARGE)
    obstore.put(bucket.store, key_of(LARGE), LARGE[:at] + bytes([LARGE[at] ^ 1]) + LARGE[at + 1 :])
    opened = stored(artifacts, sha256)

    with pytest.raises(ArtifactMismatch):
        opened.blocks(at // BLOCK_BYTES, 1)

    assert not artifacts.has(sha256)
    assert not open_artifacts().has(sha256)
    assert artifacts.put_bytes(LARGE) == sha256
    assert read_through(artifacts, sha256) == LARGE


@pytest.mark.parametrize("lines", [b"", b"an etag\n", b"an etag\n" + bytes(32), b"\xff" * 40])
def test_nothing_is_read_of_an_artifact_of_which_too_little_is_known(
    open_artifacts: Open, bucket: Bucket, tmp_path: Path, lines: bytes
) -> None:
    artifacts = open_artifacts()
    sha256 = artifacts.put_bytes(LARGE)
    (entry,) = (tmp_path / "node" / "stored").rglob(f"*.{len(LARGE)}")
    entry.write_bytes(lines)  # the disk lost the rest
    obstore.put(bucket.store, key_of(LARGE), bytes(len(LARGE)))

    with pytest.raises(ArtifactMissing):
        artifacts.open(sha256)

    assert not artifacts.has(sha256)
    assert artifacts.put_bytes(LARGE) == sha256
    assert read_through(artifacts, sha256) == LARGE


@pytest.mark.parametrize("data", [LARGE[:-1], LARGE + b"x", b""])
def test_an_object_of_another_length_is_not_the_artifact(open_artifacts: Open, bucket: Bucket, data: bytes) -> None:
    artifacts = open_artifacts()
    sha256 = artifacts.put_bytes(LARGE)
    obstore.put(bucket.store, key_of(LARGE), data)

    if len(data) < len(LARGE):
        with pytest.raises(ArtifactMismatch):
            artifacts.open(sha256)
        assert not artifacts.has(sha256)
    else:  # what follows its end is never read
        assert read_through(artifacts, sha256) == LARGE


def test_an_object_that_was_deleted_there_is_missing_and_comes_back_when_it_is_put_again(
    open_artifacts: Open, bucket: Bucket
) -> None:
    artifacts = open_artifacts()
    sha256 = artifacts.put_bytes(SMALL)
    obstore.delete(bucket.store, key_of(SMALL))

    with pytest.raises(ArtifactMissing):
        artifacts.open(sha256)

    assert not artifacts.has(sha256)
    artifacts.put_bytes(SMALL)
    assert read_through(artifacts, sha256) == SMALL


def test_a_full_disk_leaves_nothing_half_written_of_what_is_known(
    open_artifacts: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = open_artifacts()
    sha256 = artifacts.put_bytes(SMALL)
    flush = os.fsync

    def refuse(fd: int) -> None:
        if "stored/incoming" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(fd)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        artifacts.put_bytes(LARGE)

    assert not list((tmp_path / "node" / "stored" / "incoming").iterdir())
    assert artifacts.digests() == (sha256,)


def test_a_store_that_is_another_one_makes_nothing_look_lost(open_artifacts: Open, bucket: Bucket) -> None:
    artifacts = open_artifacts()
    sha256 = artifacts.put_bytes(SMALL)
    obstore.delete(bucket.store, [key_of(SMALL), f"of/us/{MARK}"])

    with pytest.raises(StoreUnavailable, match="is not the store"):
        artifacts.open(sha256)

    assert artifacts.has(sha256)
    again = open_artifacts()
    assert again.store is not None
    with pytest.raises(StoreUnavailable, match="is not the store"):
        again.store.look()


def test_a_store_that_is_down_keeps_nothing_and_loses_nothing(
    open_artifacts: Open, bucket: Bucket, tmp_path: Path
) -> None:
    artifacts = open_artifacts()
    sha256 = artifacts.put_bytes(SMALL)
    store = artifacts.store
    assert store is not None

    bucket.server.stop()
    try:
        with pytest.raises(StoreUnavailable) as down:
            artifacts.put_bytes(LARGE)
        with pytest.raises(StoreUnavailable):  # at once: it is left alone for a moment
            artifacts.open(sha256)
        figures, problem = artifacts.usage(), store.problem
    finally:
        bucket.server.start()

    assert 0 < down.value.retry_seconds <= PAUSE_SECONDS
    assert (figures["kept"], figures["store_up"], figures["store_failures"]) == (1, 0, 1)
    assert problem is not None
    assert bucket.url in problem
    assert files_in(tmp_path) == []
    store.look()
    assert artifacts.usage()["store_up"] == 1
    assert read_through(artifacts, sha256) == SMALL


def test_what_is_deleted_while_the_store_is_down_is_deleted_there_later(open_artifacts: Open, bucket: Bucket) -> None:
    artifacts = open_artifacts()
    sha256 = artifacts.put_bytes(SMALL)
    bucket.server.stop()
    try:
        artifacts.delete(sha256)
        known = artifacts.has(sha256)
    finally:
        bucket.server.start()

    again = open_artifacts()
    assert again.store is not None
    still_there = in_bucket(bucket)
    again.store.look()

    assert (known, again.has(sha256)) == (False, False)
    assert still_there == {key_of(SMALL)}
    assert in_bucket(bucket) == set()


def test_files_that_are_none_of_its_own_are_left_alone(open_artifacts: Open, tmp_path: Path) -> None:
    artifacts = open_artifacts()
    sha256 = artifacts.put_bytes(SMALL)
    folder = tmp_path / "node" / "stored"
    strange = [folder / "doomed" / ".nfs0001", folder / "ab" / f"{'x' * 62}.5", folder / "ab" / f"{'0' * 62}.\u00b2"]
    for path in strange:
        path.parent.mkdir(exist_ok=True)
        path.touch()

    again = open_artifacts()
    assert again.store is not None
    again.store.look()

    assert (again.has(sha256), len(again.digests())) == (True, 1)
    assert all(path.exists() for path in strange)


def test_what_is_deleted_and_put_again_stays(
    open_artifacts: Open, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pfn_node.artifacts.object_store.PAUSE_SECONDS", 600.0)  # however slow the server starts
    artifacts = open_artifacts()
    sha256 = artifacts.put_bytes(SMALL)
    bucket.server.stop()
    artifacts.delete(sha256)
    bucket.server.start()
    assert artifacts.store is not None

    with pytest.raises(StoreUnavailable):  # it is left alone for a moment more
        artifacts.put_bytes(SMALL)
    artifacts.store.look()
    artifacts.put_bytes(SMALL)
    artifacts.store.look()

    assert read_through(artifacts, sha256) == SMALL


def test_the_cache_is_in_the_folder_until_somebody_keeps_it(
    open_artifacts: Open, bucket: Bucket, tmp_path: Path
) -> None:
    artifacts = open_artifacts()
    with artifacts.writer() as writer:
        writer.write(SMALL)
        sha256 = writer.keep(cache=True)
    cached = files_in(tmp_path), in_bucket(bucket)

    artifacts.promote(sha256)

    assert (len(cached[0]), cached[1]) == (1, set())
    assert (files_in(tmp_path), in_bucket(bucket)) == ([], {key_of(SMALL)})


def test_a_cached_artifact_that_is_damaged_is_not_sent(open_artifacts: Open, bucket: Bucket, tmp_path: Path) -> None:
    artifacts = open_artifacts()
    with artifacts.writer() as writer:
        writer.write(SMALL)
        sha256 = writer.keep(cache=True)
    files_in(tmp_path)[0].write_bytes(SMALL.upper())

    with pytest.raises(ArtifactMismatch):
        artifacts.promote(sha256)

    assert in_bucket(bucket) == set()


def test_signed_texts_stay_in_the_folder(open_artifacts: Open, bucket: Bucket) -> None:
    artifacts = open_artifacts()

    with artifacts.writer(local=True) as writer:
        writer.write(SMALL)
        sha256 = writer.keep()

    assert in_bucket(bucket) == set()
    assert artifacts.read_text(sha256, len(SMALL)) == SMALL


def test_a_presigned_url_is_only_given_for_what_was_put_there(open_artifacts: Open, bucket: Bucket) -> None:
    artifacts = open_artifacts()
    sha256 = artifacts.put_bytes(LARGE)

    url = stored(artifacts, sha256).signed_url()
    assert url is not None
    with urllib.request.urlopen(url, timeout=10) as answer:
        body, headers = answer.read(), answer.headers
    assert body == LARGE
    assert (headers["Content-Type"], headers["Content-Disposition"]) == ("application/zip", "attachment")

    opened = stored(artifacts, sha256)
    obstore.put(bucket.store, key_of(LARGE), LARGE.swapcase())
    with pytest.raises(ArtifactMismatch):
        opened.signed_url()
    assert not artifacts.has(sha256)


def test_an_upload_that_is_cut_off_leaves_nothing_to_be_seen(open_artifacts: Open, bucket: Bucket) -> None:
    artifacts = open_artifacts()
    assert artifacts.store is not None
    artifacts.store.close()

    with pytest.raises(StoreUnavailable, match="node stops"):
        artifacts.put_bytes(LARGE)

    assert in_bucket(bucket) == set()
    assert artifacts.digests() == ()


def test_a_node_that_is_pointed_elsewhere_says_where_its_artifacts_are(open_artifacts: Open, bucket: Bucket) -> None:
    open_artifacts().put_bytes(SMALL)

    with pytest.raises(ArtifactError, match=f"1 artifacts of this node lie in {bucket.url}/of/us"):
        open_artifacts(url=f"{bucket.url}/elsewhere")
    with pytest.raises(ArtifactError, match=f"lie in {bucket.url}/of/us: set PFN_ARTIFACTS"):
        open_artifacts(url="")


def test_wrong_credentials_are_said_and_not_shown(
    open_artifacts: Open, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-of-it")

    with pytest.raises(StoreUnavailable, match="look at its credentials") as refused:
        open_artifacts().put_bytes(SMALL)

    assert "not-the-secret-of-it" not in str(refused.value)


def test_a_bucket_that_does_not_exist_is_said(open_artifacts: Open) -> None:
    with pytest.raises(StoreUnavailable, match="is there such a bucket"):
        open_artifacts(url="s3://no-such-bucket").put_bytes(SMALL)
