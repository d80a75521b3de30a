"""Exports as files: the live node's answers, nothing that it would not serve, only what changed, whole after a stop."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from pfn_node.composer_names import composer_name
from pfn_node.export.reading import FOLDERS
from pfn_protocol.bundle_proof import Measured, TrustRoots, prove
from pfn_protocol.evidence_bundle import read_bundle
from pfn_protocol.export_index import check_export_path
from tests.node.exporting import (
    CATALOGUE,
    INFO,
    LATER_MS,
    NAME,
    NOTICE,
    P2,
    Watched,
    a_zip,
    export_to,
    json_of,
    listed_in,
    mirror_of,
    wrong_in,
)
from tests.node.test_wordpress_zips import signed_by
from tests.node.web_node import BILBO, NODE, NOW, PUBLISHER, WebNode, observation, web_node
from tests.node.wordpress_site import FRODO, add_frodos


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    (tmp_path / "node").mkdir()
    async with web_node(tmp_path / "node") as made:
        await made.add_bilbo()
        yield made


@pytest.fixture
def store() -> Watched:
    return Watched()


async def live(node: WebNode, path: str) -> bytes:
    """What the node answers where the export has this file."""
    asked = f"/{quote(path, safe='/')}"
    if path.startswith("catalogue/"):
        asked = f"/federation/plugins/{quote(BILBO)}/hello-signal"
    if path.startswith("export/"):  # one plugin, and the line that says how to go on
        return (await node.get("/export/plugins.ndjson")).body.splitlines(keepends=True)[0]
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
    assert {path.partition("/")[0] for path in store.paths} == FOLDERS
    for path in store.paths - differing:
        assert store.read(path) == await live(node, path), path


async def test_the_whole_catalogue_is_there_in_pieces_of_the_lines_that_the_live_node_gives(
    node: WebNode, store: Watched
) -> None:
    for number in range(9):
        await node.add_release(a_zip(slug=f"one-{number}"), plugin_id=f"one-{number}")
    await node.add_report(a_zip("2"), plugin_id="only-reported")

    export_to(node, store)

    pieces = [path for path in store.paths if path.startswith("export/")]
    *live_lines, _ = (await node.get("/export/plugins.ndjson")).body.splitlines()
    assert len(pieces) > 2 and len(live_lines) == 10
    assert sorted(live_lines) == sorted(line for path in pieces for line in (store.read(path) or b"").splitlines())


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


async def test_nothing_names_a_zip_that_was_dropped_before_it_was_exported(node: WebNode, store: Watched) -> None:
    for version in ("1.0.0", "1.1.0"):
        await node.add_release(a_zip(version), version=version)
    await node.get(f"/{P2}")  # so what is in the zips is known
    node.services.artifacts.delete(hashlib.sha256(a_zip("1.0.0")).digest())

    export_to(node, store)

    gone = hashlib.sha256(a_zip("1.0.0")).hexdigest()
    assert [one["version"] for one in json_of(store, P2)["packages"][NAME]] == ["1.1.0"]
    assert list(json_of(store, INFO)["versions"]) == ["1.1.0"]
    for feed in ("feeds/releases.json", "feeds/releases.atom"):
        text = (store.read(feed) or b"").decode()
        assert gone not in text and hashlib.sha256(a_zip("1.1.0")).hexdigest() in text


async def test_a_slug_that_nobody_owns_is_nobodys_file(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())
    await add_frodos(node)

    export_to(node, store)

    assert INFO not in store.paths
    assert {P2, f"composer/p2/{composer_name(FRODO, 'hello-signal')}.json"} <= store.paths


async def test_a_damaged_artifact_is_told_of_and_not_exported(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())
    digest = hashlib.sha256(a_zip()).hexdigest()
    (node.services.settings.data / "artifacts" / digest[:2] / digest[2:]).write_bytes(b"rot")

    done = export_to(node, store)

    assert done.damaged == [digest]
    assert not {INFO, P2, mirror_of("1.0.0", "1.0.0.0")} & store.paths


async def test_an_artifact_that_cannot_be_read_ends_no_export_before_what_went_is_taken_away(
    node: WebNode, store: Watched
) -> None:
    await node.add_release(a_zip())
    await node.add_release(a_zip(slug="other"), plugin_id="other")
    export_to(node, store)
    digest = hashlib.sha256(a_zip(version="1.1.0")).hexdigest()
    await node.add_release(a_zip(version="1.1.0"), version="1.1.0")
    file = node.services.settings.data / "artifacts" / digest[:2] / digest[2:]
    file.unlink()
    file.mkdir()  # it can be opened, and not be read
    assert (await node.post("/federation/takedown", NOTICE | {"plugin": "other"})).status == 200

    done = export_to(node, store, made_ms=LATER_MS + 1_000)

    assert done.damaged == [digest]
    assert not {path for path in store.paths if path.startswith("download/plugin/other.")}, "it was taken down"
    assert wrong_in(store) == {}, "the index is that of the files"


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


async def test_each_name_that_is_left_out_is_told_once(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip(slug="con"), plugin_id="con")

    left_out = export_to(node, store).left_out

    assert len(left_out) == len(set(left_out)) > 0


async def test_two_plugins_with_one_name_for_composer_are_nobodys(node: WebNode, store: Watched) -> None:
    await node.add_release(a_zip())
    await node.add_release(a_zip(slug="other-one"), plugin_id="other-one")
    await node.services.database.write(lambda db: db.execute("UPDATE plugins SET composer_name = ?", (NAME,)))

    done = export_to(node, store)

    assert done.left_out == [NAME]
    assert not {P2, INFO, CATALOGUE} & store.paths
