"""The store of zips by digest: what is listed is whole, what is kept stays, the cache stays small."""

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest

from pfn_node.artifacts.artifacts import Artifacts
from pfn_node.artifacts.errors import ArtifactMismatch, ArtifactMissing, CacheTooSmall


def _started(folder: Path, cache_bytes_max: int = 100) -> Artifacts:
    artifacts = Artifacts(folder, cache_bytes_max)
    artifacts.start()
    return artifacts


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return _started(tmp_path / "artifacts")


def _cache(artifacts: Artifacts, data: bytes) -> bytes:
    with artifacts.writer() as writer:
        writer.write(data)
        return writer.keep(cache=True)


def _read(artifacts: Artifacts, sha256: bytes) -> bytes:
    artifact = artifacts.open(sha256)
    with os.fdopen(artifact.fd, "rb") as file:
        data = file.read()
    assert len(data) == artifact.size
    return data


def _files(artifacts: Artifacts) -> list[str]:
    return sorted(str(p.relative_to(artifacts._folder)) for p in artifacts._folder.rglob("*") if p.is_file())


def test_bytes_are_kept_under_their_digest(artifacts: Artifacts) -> None:
    sha256 = artifacts.put_bytes(b"plugin")

    assert sha256 == hashlib.sha256(b"plugin").digest()
    assert artifacts.has(sha256)
    assert _read(artifacts, sha256) == b"plugin"
    assert artifacts.digests() == (sha256,)
    name = sha256.hex()
    assert _files(artifacts) == [f"{name[:2]}/{name[2:]}"]
    assert (artifacts._folder / name[:2] / name[2:]).stat().st_mode & 0o777 == 0o644


def test_pieces_are_hashed_while_they_are_written(artifacts: Artifacts) -> None:
    with artifacts.writer() as writer:
        for piece in (b"one", b"", b"two"):
            writer.write(piece)
        assert (writer.size, writer.path.read_bytes()) == (6, b"onetwo")
        assert writer.digest() == hashlib.sha256(b"onetwo").digest()
        sha256 = writer.keep(expected=writer.digest())

    assert _read(artifacts, sha256) == b"onetwo"


def test_a_disk_that_takes_less_than_it_is_given_loses_nothing(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    with artifacts.writer() as writer:
        whole = os.write
        monkeypatch.setattr(os, "write", lambda file, data: whole(file, bytes(data[:2])))
        writer.write(b"plugin")

        assert writer.path.read_bytes() == b"plugin"


def test_what_is_not_kept_leaves_no_trace(artifacts: Artifacts) -> None:
    with pytest.raises(RuntimeError), artifacts.writer() as writer:
        writer.write(b"half of a plug")
        raise RuntimeError

    assert _files(artifacts) == []


def test_another_digest_than_expected_is_not_kept(artifacts: Artifacts) -> None:
    with artifacts.writer() as writer:
        writer.write(b"evil")
        with pytest.raises(ArtifactMismatch):
            writer.keep(expected=hashlib.sha256(b"good").digest())

    assert _files(artifacts) == []


def test_keeping_the_same_bytes_twice_is_keeping_them_once(artifacts: Artifacts) -> None:
    sha256 = artifacts.put_bytes(b"plugin")
    assert artifacts.put_bytes(b"plugin") == sha256
    assert _cache(artifacts, b"plugin") == sha256

    assert artifacts.usage()["kept"] == 1
    assert artifacts.usage()["cached"] == 0
    assert len(_files(artifacts)) == 1


def test_what_is_not_here_says_so(artifacts: Artifacts) -> None:
    for attempt in (artifacts.open, artifacts.promote):
        with pytest.raises(ArtifactMissing):
            attempt(bytes(32))
    artifacts.delete(bytes(32))

    assert not artifacts.has(bytes(32))


def test_the_cache_drops_what_was_used_least_recently(artifacts: Artifacts) -> None:
    first, second = _cache(artifacts, b"1" * 40), _cache(artifacts, b"2" * 40)
    assert _read(artifacts, first) == b"1" * 40

    third = _cache(artifacts, b"3" * 40)

    assert [artifacts.has(sha256) for sha256 in (first, second, third)] == [True, False, True]
    assert artifacts.usage() == {
        "kept": 0,
        "kept_bytes": 0,
        "cached": 2,
        "cached_bytes": 80,
        "cache_bytes_max": 100,
        "damaged": 0,
    }
    assert len(_files(artifacts)) == 2


def test_what_is_larger_than_the_cache_empties_nothing(artifacts: Artifacts) -> None:
    first = _cache(artifacts, b"1" * 40)

    with pytest.raises(CacheTooSmall):
        _cache(artifacts, b"2" * 101)

    assert artifacts.has(first)
    assert len(_files(artifacts)) == 1


def test_kept_artifacts_never_make_room(artifacts: Artifacts) -> None:
    kept = artifacts.put_bytes(b"k" * 1000)
    _cache(artifacts, b"1" * 100)
    _cache(artifacts, b"2" * 100)

    assert artifacts.has(kept)
    assert artifacts.usage()["kept_bytes"] == 1000


@pytest.mark.parametrize("how", ["promote", "keep"])
def test_a_cached_artifact_can_become_a_kept_one(artifacts: Artifacts, how: str) -> None:
    sha256 = _cache(artifacts, b"plugin")

    if how == "promote":
        artifacts.promote(sha256)
        artifacts.promote(sha256)
    else:
        artifacts.put_bytes(b"plugin")
    _cache(artifacts, b"2" * 100)

    assert _read(artifacts, sha256) == b"plugin"
    assert artifacts.digests() == (sha256,)
    assert len(_files(artifacts)) == 2


def test_a_reader_keeps_what_is_deleted_meanwhile(artifacts: Artifacts) -> None:
    kept, cached = artifacts.put_bytes(b"kept"), _cache(artifacts, b"cached")
    open_ones = [artifacts.open(kept), artifacts.open(cached)]

    artifacts.delete(kept)
    artifacts.delete(cached)

    assert [os.pread(artifact.fd, 99, 0) for artifact in open_ones] == [b"kept", b"cached"]
    assert not artifacts.has(kept) and not artifacts.has(cached)
    for artifact in open_ones:
        os.close(artifact.fd)


def test_a_restart_remembers_what_is_there_and_in_which_order_it_was_used(tmp_path: Path) -> None:
    before = _started(tmp_path)
    kept = before.put_bytes(b"kept")
    cached = [_cache(before, bytes([n]) * 30) for n in range(3)]
    for age, sha256 in enumerate((cached[1], cached[2], cached[0])):
        os.utime(before._path(sha256, cached=True), (age, age))
    (tmp_path / "incoming" / "half").write_bytes(b"half of")
    (tmp_path / "ab").mkdir(exist_ok=True)
    (tmp_path / "ab" / "notes.txt").write_text("not an artifact")
    (tmp_path / "ab" / "cdef").write_text("too short a name")

    after = _started(tmp_path, cache_bytes_max=60)

    assert after.digests() == (kept,)
    assert [after.has(sha256) for sha256 in cached] == [True, False, True]
    assert not (tmp_path / "incoming" / "half").exists()
    assert (tmp_path / "ab" / "notes.txt").exists()


def test_a_file_that_somebody_took_away_is_missing_from_then_on(artifacts: Artifacts) -> None:
    sha256 = artifacts.put_bytes(b"plugin")
    artifacts._path(sha256, cached=False).unlink()

    with pytest.raises(ArtifactMissing):
        artifacts.open(sha256)

    assert not artifacts.has(sha256)


def test_a_cached_file_that_belongs_to_somebody_else_is_served(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a backup that was brought back by root: it can be read, but not marked as used."""

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    sha256 = _cache(artifacts, b"cached")
    monkeypatch.setattr(os, "utime", refuse)

    assert _read(artifacts, sha256) == b"cached"


def test_small_artifacts_can_be_read_as_a_whole_and_are_checked(artifacts: Artifacts) -> None:
    sha256 = artifacts.put_bytes(b"signed text")

    assert artifacts.read_text(sha256, 11) == b"signed text"
    with pytest.raises(ArtifactMismatch, match="larger than 10"):
        artifacts.read_text(sha256, 10)
    artifacts._path(sha256, cached=False).write_bytes(b"signed tEXt")
    with pytest.raises(ArtifactMismatch, match="damaged"):
        artifacts.read_text(sha256, 11)


def test_a_full_disk_leaves_nothing_behind(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        artifacts.put_bytes(b"plugin")

    assert _files(artifacts) == []
    assert artifacts.digests() == ()


def test_threads_may_cache_and_read_at_once(artifacts: Artifacts) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                sha256 = _cache(artifacts, bytes([number, turn % 7]) * 10)
                try:
                    assert hashlib.sha256(_read(artifacts, sha256)).digest() == sha256
                except ArtifactMissing:
                    pass  # another thread needed the room
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert artifacts.usage()["cached_bytes"] <= 100
    assert len(_files(artifacts)) == artifacts.usage()["cached"]
