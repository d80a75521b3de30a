"""Exports as files: only what changed, the index last, whole after a stop, and wrong files named."""

import errno
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pfn_node.artifacts.artifacts import OpenArtifact
from pfn_node.artifacts.errors import ArtifactMissing
from pfn_node.export.kept_zips import KeptZips
from pfn_node.export.places import Bucket, Folder, Place, PlaceError
from pfn_node.export.reading import INDEX, IndexUnreadable, read_index
from tests.node.exporting import (
    CATALOGUE,
    INFO,
    LATER_MS,
    NOTICE,
    P2,
    Watched,
    a_folder,
    a_zip,
    export_to,
    json_of,
    listed_in,
    mirror_of,
    wrong_in,
)
from tests.node.web_node import STRANGER, WebNode, web_node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    (tmp_path / "node").mkdir()
    async with web_node(tmp_path / "node") as made:
        await made.add_bilbo()
        yield made


@pytest.fixture
def store() -> Watched:
    return Watched()


async def test_an_export_again_writes_nothing_but_the_index(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())
    export_to(node, store)
    store.forget()

    done = export_to(node, store, made_ms=LATER_MS + 60_000)

    assert (store.written, store.removed) == ([INDEX], [])
    assert (done.written, done.removed, done.files) == (0, 0, len(store.paths))
    assert read_index(store).index.made_ms == LATER_MS + 60_000


async def test_a_new_release_changes_the_files_of_its_plugin_and_the_general_ones(
    node: WebNode, store: Watched
) -> None:
    await node.add_release(a_zip())
    await node.add_release(a_zip(slug="other-one"), plugin_id="other-one")
    export_to(node, store)
    store.forget()

    await node.add_release(a_zip("1.1.0"), version="1.1.0")
    export_to(node, store)

    changed = {path for path in store.written if not path.startswith("pfn-export/")}
    assert not [path for path in changed if "other-one" in path]
    assert {INFO, P2, CATALOGUE, "feeds/releases.atom", mirror_of("1.1.0", "1.1.0.0")} <= changed
    assert mirror_of("1.0.0", "1.0.0.0") not in changed
    assert store.written[-1] == INDEX
    assert wrong_in(store) == {}


@pytest.mark.parametrize("breaks_at", [CATALOGUE, P2, "feeds/releases.json", INDEX])
async def test_a_stopped_export_leaves_the_old_index_and_is_gone_on_with(
    node: WebNode, store: Watched, breaks_at: str
) -> None:
    await node.add_release(a_zip())
    export_to(node, store)
    before = store.read(INDEX)
    store.forget()
    await node.add_release(a_zip("1.1.0"), version="1.1.0")

    store.breaks_at = breaks_at
    with pytest.raises(KeyboardInterrupt):
        export_to(node, store)
    assert store.read(INDEX) == before
    wrote = set(store.written)
    store.forget()
    store.breaks_at = None
    export_to(node, store)

    again = {path for path in store.written if path in wrote and not path.startswith("pfn-export/")}
    assert again == set()
    assert wrong_in(store) == {}
    assert store.read(P2) == (await node.get(f"/{P2}")).body


async def test_what_a_stopped_export_wrote_is_put_right_though_the_last_index_calls_it_good(
    node: WebNode, store: Watched
) -> None:
    await node.add_release(a_zip())
    export_to(node, store)
    good = store.read(INFO)
    assert good is not None
    store.meddle(INFO, good[:-1] + b" ")  # of the same size, and later than the index

    export_to(node, store)

    assert store.read(INFO) == good


@pytest.mark.parametrize("kind", ["folder", "memory"])
async def test_every_wrong_file_is_named(node: WebNode, store: Watched, tmp_path: Path, kind: str) -> None:
    place: Place = store if kind == "memory" else a_folder(tmp_path / "files")
    await node.add_release(a_zip())
    export_to(node, place)
    assert wrong_in(place) == {}
    good = place.read(CATALOGUE)
    assert good is not None
    place.write(CATALOGUE, good.replace(b"A1", b"A3"))
    place.write("composer/p2/pfn/made-up.json", b"{}")
    place.remove([P2])

    assert wrong_in(place) == {
        CATALOGUE: "changed",
        P2: "missing",
        "composer/p2/pfn/made-up.json": "not listed",
    }


async def test_a_shard_that_was_changed_is_named_and_believed_by_nobody(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())
    export_to(node, store)
    first, second, *_ = read_index(store).index.shards
    store.meddle(first.path, store.read(first.path) or b"")
    store.meddle(second.path, b"0" * second.size)

    assert wrong_in(store)[second.path] == "changed"
    with pytest.raises(IndexUnreadable, match="changed"):
        listed_in(store)
    store.remove([second.path])
    assert wrong_in(store)[second.path] == "missing"
    export_to(node, store)
    assert wrong_in(store) == {}


async def test_an_index_that_another_wrote_is_seen_and_written_over(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())
    export_to(node, store)
    store.meddle(INDEX, json.dumps(json_of(store, INDEX) | {"files": 0}).encode())

    with pytest.raises(IndexUnreadable, match="cannot be believed"):
        read_index(store)
    export_to(node, store)
    assert wrong_in(store) == {}


async def test_other_peoples_files_are_neither_written_over_nor_removed(node: WebNode, store: Watched) -> None:
    store.meddle("download/thesis.txt", b"years of work")

    with pytest.raises(PlaceError, match="did not export"):
        export_to(node, store)
    assert set(store.found()) == {"download/thesis.txt"}


async def test_what_the_owner_of_a_place_puts_beside_an_export_stays_and_is_no_part_of_it(
    node: WebNode, store: Watched
) -> None:
    store.meddle("index.html", b"Welcome!")
    export_to(node, store)
    store.meddle("docs/robots.txt", b"")

    export_to(node, store)

    assert wrong_in(store) == {}
    assert {"index.html", "docs/robots.txt"} <= store.paths


async def test_checking_a_folder_changes_nothing_in_it(node: WebNode, tmp_path: Path) -> None:
    export_to(node, a_folder(tmp_path / "files"))
    being_written = tmp_path / "files" / "feeds" / ".writing-now"
    being_written.write_bytes(b"half")

    assert wrong_in(Folder(tmp_path / "files")) == {}
    assert being_written.read_bytes() == b"half"


async def test_the_export_of_another_node_is_left_alone(node: WebNode, store: Watched) -> None:
    export_to(node, store, key=STRANGER)
    store.forget()

    with pytest.raises(PlaceError, match="another node, did:key:"):
        export_to(node, store)
    assert store.written == []


async def test_a_zip_that_the_cache_dropped_stays_exported(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())
    await node.get(f"/{P2}")
    export_to(node, store)
    before = store.paths

    node.services.artifacts.delete(hashlib.sha256(a_zip()).digest())
    export_to(node, store)

    assert store.paths == before
    assert wrong_in(store) == {}


async def test_a_folder_holds_a_zip_once_under_both_of_its_names(node: WebNode, tmp_path: Path) -> None:
    await node.add_release(a_zip())
    folder = tmp_path / "files"

    export_to(node, a_folder(folder))

    one, other = folder / mirror_of("1.0.0", "1.0.0.0"), folder / "download/plugin/hello-signal.1.0.0.zip"
    assert one.read_bytes() == other.read_bytes() == a_zip()
    assert one.stat().st_ino == other.stat().st_ino
    kept = hashlib.sha256(a_zip()).hexdigest()
    assert one.stat().st_ino != (tmp_path / "node" / "artifacts" / kept[:2] / kept[2:]).stat().st_ino


async def test_a_folder_is_the_same_as_an_object_store(node: WebNode, store: Watched, tmp_path: Path) -> None:
    await node.add_release(a_zip())
    folder = a_folder(tmp_path / "files")
    left_over = tmp_path / "files" / ".writing-left-over"
    left_over.write_bytes(b"of a stopped export")

    export_to(node, store)
    export_to(node, folder)

    assert set(folder.found()) == set(store.found())
    assert not left_over.exists()
    assert all(folder.read(path) == store.read(path) for path in store.found())
    await node.post("/federation/yank", NOTICE)
    assert export_to(node, folder) == export_to(node, store)
    assert set(folder.found()) == set(store.found())
    assert not (tmp_path / "files" / "download").exists()
    assert wrong_in(folder) == {}


async def test_a_write_that_fails_ends_the_export_and_leaves_the_index(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())
    export_to(node, store)
    before = store.read(INDEX)
    await node.add_release(a_zip("1.1.0"), version="1.1.0")
    refused: list[str] = []

    class Full(Bucket):
        def write(self, path: str, content: object) -> None:
            refused.append(path)
            raise PlaceError("the bucket is full")

    with pytest.raises(PlaceError, match="full"):
        export_to(node, Full(store.store))

    assert refused and INDEX not in refused
    assert store.read(INDEX) == before


async def test_a_full_disk_leaves_no_half_of_a_file(
    node: WebNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.add_release(a_zip())
    folder = a_folder(tmp_path / "files")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fchmod", full)
        with pytest.raises(PlaceError, match="No space left"):
            export_to(node, folder)
    assert [file for file in (tmp_path / "files").rglob("*") if file.is_file()] == []
    export_to(node, folder)
    assert wrong_in(folder) == {}


@pytest.mark.parametrize("code", [errno.EPERM, errno.EMLINK, errno.ENOTSUP])
async def test_where_a_file_has_one_name_only_it_is_written_twice(
    node: WebNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    await node.add_release(a_zip())
    folder = a_folder(tmp_path / "files")

    def refuse(*arguments: object) -> None:
        raise OSError(code, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    export_to(node, folder)

    assert folder.read("download/plugin/hello-signal.1.0.0.zip") == folder.read(mirror_of("1.0.0", "1.0.0.0"))
    assert wrong_in(folder) == {}


async def test_a_zip_that_goes_between_two_looks_ends_the_export(
    node: WebNode, store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.add_release(a_zip())
    looks: list[bytes] = []
    real = KeptZips.open

    def once(self: KeptZips, sha256: bytes) -> OpenArtifact:
        looks.append(sha256)
        if len(looks) > 1:
            raise ArtifactMissing("The artifact is not here.")
        return real(self, sha256)

    monkeypatch.setattr(KeptZips, "open", once)
    with pytest.raises(PlaceError, match="export again"):
        export_to(node, store)
