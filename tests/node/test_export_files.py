"""Exports as files: the live node's answers, nothing that it would not serve, only what changed, whole after a stop."""

import hashlib
import json
import zipfile
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import pytest

from pfn_node.composer_names import composer_name
from pfn_node.export.places import Folder, Place, PlaceError
from pfn_node.export.reading import INDEX, IndexUnreadable, read_index
from pfn_protocol.bundle_proof import Measured, TrustRoots, prove
from pfn_protocol.evidence_bundle import read_bundle
from pfn_protocol.export_index import check_export_path
from tests.node.exporting import LATER_MS, Watched, a_folder, export_to, json_of, listed_in, wrong_in
from tests.node.test_wordpress_zips import signed_by
from tests.node.web_node import BILBO, NODE, NOW, PUBLISHER, STRANGER, WebNode, observation, web_node
from tests.node.wordpress_site import FRODO, add_frodos

NAME = composer_name(BILBO, "hello-signal")
INFO = "plugins/info/1.0/hello-signal.json"
P2 = f"composer/p2/{NAME}.json"
CATALOGUE = f"catalogue/{NAME}.json"
NOTICE = {"sourceId": BILBO, "plugin": "hello-signal", "version": "1.0.0", "reason": "it eats posts"}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    (tmp_path / "node").mkdir()
    async with web_node(tmp_path / "node") as made:
        await made.add_bilbo()
        yield made


@pytest.fixture
def store() -> Watched:
    return Watched()


def a_zip(version: str = "1.0.0", slug: str = "hello-signal") -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(f"{slug}/{slug}.php", f"<?php\n/*\nPlugin Name: Hello\nVersion: {version}\nAuthor: Bilbo\n*/")
    return made.getvalue()


def mirror_of(version: str, normalized: str, name: str = NAME) -> str:
    return f"composer/mirror/{name}/{normalized}/{hashlib.sha256(a_zip(version)).hexdigest()}.zip"


async def live(node: WebNode, path: str) -> bytes:
    """What the node answers where the export has this file."""
    asked = f"/{quote(path, safe='/')}"
    if path.startswith("catalogue/"):
        asked = f"/federation/plugins/{quote(BILBO)}/hello-signal"
    if path.startswith("evidence/"):
        version = path.split("/")[3].removesuffix(".0")
        asked = f"/federation/evidence?sourceId={BILBO}&plugin=hello-signal&version={version}"
    got = await node.get(asked)
    assert got.status in (200, 404), (path, got.body)
    return got.body


async def test_every_file_is_the_live_nodes_answer_byte_for_byte(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip("1.0.0"), evidence=signed_by(PUBLISHER, a_zip("1.0.0")))
    await node.add_release(a_zip("1.0.0"), version="1.0.0")
    await node.add_release(a_zip("1.1.0"), version="1.1.0", evidence=observation(b"", observer=NODE).evidence)
    await node.add_release(a_zip("1.1.0"), version="1.1.0")
    await node.get(f"/{P2}")  # zips are read when somebody asks for the package

    export_to(node, store)

    differing = {"composer/packages.json", "feeds/releases.atom", "feeds/releases.json"}
    assert {P2, INFO, CATALOGUE, mirror_of("1.1.0", "1.1.0.0"), "static/icon.svg", *differing} <= store.paths
    assert f"evidence/{mirror_of('1.0.0', '1.0.0.0')[16:-4]}.json" in store.paths
    for path in store.paths - differing:
        assert store.read(path) == await live(node, path), path


async def test_feeds_differ_from_live_ones_in_where_zips_are_and_in_nothing_else(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())

    export_to(node, store)

    for path in ("feeds/releases.atom", "feeds/releases.json"):
        ours, theirs = store.read(path), (await node.get(f"/{path}")).body
        asked = f"/federation/download?sourceId={quote(BILBO, safe='')}&plugin=hello-signal&version=1.0.0"
        if path.endswith("atom"):
            asked = asked.replace("&", "&amp;")
        file = mirror_of("1.0.0", "1.0.0.0")
        assert ours == theirs.replace(asked.encode(), f"/{file}".encode()) != theirs
        assert store.read(file) == a_zip()


async def test_the_repository_for_composer_names_no_call_that_files_cannot_answer(
    node: WebNode, store: Watched
) -> None:
    export_to(node, store, base="https://files.test/deep/er")

    assert json_of(store, "composer/packages.json") == {
        "packages": [],
        "metadata-url": "https://files.test/deep/er/composer/p2/%package%.json",
        "available-package-patterns": ["pfn/*"],
        "list": "https://files.test/deep/er/composer/list.json",
        "mirrors": [
            {
                "dist-url": "https://files.test/deep/er/composer/mirror/%package%/%version%/%reference%.%type%",
                "preferred": False,
            }
        ],
        "security-advisories": {"metadata": True},
    }


async def test_evidence_from_an_export_proves_its_zip_without_any_node(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())

    export_to(node, store)

    (path,) = [path for path in store.paths if path.startswith("evidence/")]
    raw = store.read(path)
    assert raw is not None
    data = a_zip()
    measured = Measured(hashlib.sha256(data).digest(), hashlib.sha384(data).digest(), len(data))
    proof = prove(read_bundle(raw), measured, TrustRoots(PUBLISHER.public, frozenset()), NOW * 1_000)
    assert proof.evidence[0] == f"the file has the {len(data)} bytes and the sha256 that the bundle is about"


@pytest.mark.parametrize(
    "spoilt",
    ["backed = 0", "taken_down = 'x'", "revoked_key = 1", "held_back = 'x'", "cooldown_until = 9", "assurance = 'A0'"],
)
async def test_what_the_node_would_not_offer_is_not_exported(node: WebNode, store: Watched, spoilt: str) -> None:
    await node.add_release(a_zip())
    await node.services.database.write(lambda db: db.execute(f"UPDATE releases SET {spoilt}"))

    export_to(node, store)

    assert not [path for path in store.paths if path.startswith(("composer/mirror", "composer/p2", "download", INFO))]


async def test_a_yank_takes_the_zip_and_its_answers_out_and_leaves_word_of_it(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())
    export_to(node, store)
    offered = {INFO, P2, mirror_of("1.0.0", "1.0.0.0"), "download/plugin/hello-signal.1.0.0.zip"}
    assert offered <= store.paths

    assert (await node.post("/federation/yank", NOTICE)).status == 200
    done = export_to(node, store, made_ms=LATER_MS + 5)

    assert done.removed == len(offered)
    assert offered.isdisjoint(store.paths)
    assert dict(listed_in(store).gone) == dict.fromkeys(offered, LATER_MS + 5)
    assert json_of(store, CATALOGUE)["releases"][0]["yanked"] == "it eats posts"
    assert wrong_in(store) == {}


async def test_a_takedown_leaves_the_words_that_wordpress_is_told(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())
    export_to(node, store)

    assert (await node.post("/federation/takedown", NOTICE)).status == 200
    export_to(node, store)

    assert json_of(store, INFO)["error"] == "closed"
    assert store.read(INFO) == (await node.get(f"/{INFO}")).body
    assert not [path for path in store.paths if path.endswith(".zip") and path != "wordpress/pfn-connector.zip"]
    assert not [path for path in store.paths if path.startswith("evidence/")]


async def test_what_comes_back_is_not_gone_any_more(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())
    export_to(node, store)
    await node.post("/federation/yank", NOTICE)
    export_to(node, store)
    await node.post("/federation/yank", NOTICE | {"withdrawn": True})

    export_to(node, store)

    assert dict(listed_in(store).gone) == {}
    assert INFO in store.paths


async def test_a_plugin_whose_zip_is_not_here_is_in_the_catalogue_and_not_offered(
    node: WebNode, store: Watched
) -> None:
    await node.add_release(a_zip(), kept=False)

    export_to(node, store)

    assert CATALOGUE in store.paths
    assert not {INFO, P2} & store.paths


async def test_a_slug_that_nobody_owns_is_nobodys_file(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())
    await add_frodos(node)

    export_to(node, store)

    assert INFO not in store.paths
    assert {P2, f"composer/p2/{composer_name(FRODO, 'hello-signal')}.json"} <= store.paths


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
    store.meddle("thesis.txt", b"years of work")

    with pytest.raises(PlaceError, match="did not export"):
        export_to(node, store)
    assert set(store.found()) == {"thesis.txt"}


async def test_the_export_of_another_node_is_left_alone(node: WebNode, store: Watched) -> None:
    export_to(node, store, key=STRANGER)
    store.forget()

    with pytest.raises(PlaceError, match="another node, did:key:"):
        export_to(node, store)
    assert store.written == []


async def test_a_damaged_artifact_is_told_of_and_not_exported(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())
    digest = hashlib.sha256(a_zip()).hexdigest()
    (node.services.settings.data / "artifacts" / digest[:2] / digest[2:]).write_bytes(b"rot")

    done = export_to(node, store)

    assert done.damaged == [digest]
    assert not {INFO, P2, mirror_of("1.0.0", "1.0.0.0")} & store.paths


async def test_a_zip_that_the_cache_dropped_stays_exported(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())
    await node.get(f"/{P2}")
    export_to(node, store)
    before = store.paths

    node.services.artifacts.delete(hashlib.sha256(a_zip()).digest())
    export_to(node, store)

    assert store.paths == before
    assert wrong_in(store) == {}


@pytest.mark.parametrize("slug", ["con", "nul", "lpt1"])
async def test_names_that_some_file_system_takes_for_others_are_left_out(
    node: WebNode, store: Watched, slug: str
) -> None:
    await node.add_release(a_zip(slug=slug), plugin_id=slug)

    done = export_to(node, store)

    assert f"plugins/info/1.0/{slug}.json" in done.left_out
    assert f"catalogue/{composer_name(BILBO, slug)}.json" in store.paths


async def test_of_two_versions_that_differ_in_case_the_newer_is_exported(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip("1"), version="1.0-b1")
    await node.add_release(a_zip("2"), version="1.0-B1")

    export_to(node, store)

    zips = [path for path in store.paths if path.startswith("download/")]
    assert len(zips) == len({path.lower() for path in zips}) == 1
    for path in store.paths:
        check_export_path(path)


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
    (tmp_path / "files" / ".writing-left-over").write_bytes(b"of a stopped export")

    export_to(node, store)
    export_to(node, folder)

    assert set(folder.found()) == set(store.found())
    assert all(folder.read(path) == store.read(path) for path in store.found())
    await node.post("/federation/yank", NOTICE)
    assert export_to(node, folder) == export_to(node, store)
    assert set(folder.found()) == set(store.found())
    assert not (tmp_path / "files" / "download").exists()
    assert wrong_in(folder) == {}


async def test_a_folder_that_holds_anything_else_is_refused(node: WebNode, tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match="did not export"):
        export_to(node, Folder(tmp_path))  # the node's own folder is in it
