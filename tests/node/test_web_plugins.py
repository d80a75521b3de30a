"""Plugins over HTTP: listing, one plugin with its evidence, and bare slugs."""

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest

from pfn_node.composer_names import composer_name
from pfn_node.store import catalogue, registry
from pfn_node.store.queries import change
from pfn_node.web import federation_plugins
from pfn_node.web.federation_plugins import find_plugins
from pfn_node.web.release_answers import PluginRow
from pfn_node.web.schemas import PluginsQuery
from pfn_protocol.identity import did_key
from tests.node.web_node import BILBO, NODE, NOW, STRANGER, URL, WebNode, web_node

ZIP = b"PK\x03\x04 some bytes of a plugin"
SHA256 = hashlib.sha256(ZIP).hexdigest()
DOWNLOAD = {"sourceId": BILBO, "plugin": "hello-signal"}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


async def test_a_plugin_is_one_row_with_its_newest_backed_version(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP)
    await node.add_release(b"newer", version="1.10.0")
    await node.add_report(b"reported", version="2.0.0")

    got = (await node.get("/federation/plugins")).json

    assert (got["total"], len(got["plugins"]), got["next"]) == (1, 1, None)
    row = got["plugins"][0]
    assert (row["plugin_id"], row["source_id"], row["version"]) == ("hello-signal", BILBO, "1.10.0")
    assert (row["reported_version"], row["versions"], row["assurance"]) == ("2.0.0", 3, "A1")
    assert (row["mirrored"], row["backed_by"], row["type"], row["mirrors"]) == (True, "self", "plugin", 1)
    assert row["sha256"] == hashlib.sha256(b"newer").hexdigest() and row["size"] == 5
    assert row["composer_name"] == composer_name(BILBO, "hello-signal")


async def test_plugins_are_searched_filtered_and_paged(node: WebNode) -> None:
    await node.add_bilbo()
    for number, name in enumerate(("Anna's Garden", "Bertha", "Carla")):
        await node.add_release(b"x%d" % number, plugin_id=f"p{number}", name=name, type="theme" if number else "plugin")
    await node.add_report(b"y", plugin_id="p9", name="Dora", tags=("new",))

    async def names(**query: object) -> list[str]:
        got = (await node.get("/federation/plugins", query_string=query)).json
        return [row["name"] for row in got["plugins"]]

    assert await names(sort="name") == ["Anna's Garden", "Bertha", "Carla", "Dora"]
    assert await names(q="garden") == ["Anna's Garden"]
    assert await names(type="theme", sort="name") == ["Bertha", "Carla"]
    assert await names(tag="new") == ["Dora"]
    assert await names(source="nobody@nowhere.test") == []
    assert "Dora" not in await names(min_assurance="A0")
    for hostile in ('"', "a AND", "n:", "*", "NEAR(", "col:x", "\x00", "' OR 1=1 --"):
        assert isinstance(await names(q=hostile), list)

    first = (await node.get("/federation/plugins?sort=name&limit=3")).json
    second = (await node.get("/federation/plugins", query_string={"sort": "name", "cursor": first["next"]})).json
    assert first["total"] == second["total"] == 4
    assert [row["name"] for row in second["plugins"]] == ["Dora"]


@pytest.mark.parametrize("small", [0, 1, 200])
async def test_a_narrow_question_has_the_same_answer_wherever_it_is_looked_up(
    node: WebNode, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(catalogue, "SMALL_ROWS_MAX", small)
    read = Mock(side_effect=node.services.database.read)
    monkeypatch.setattr(node.services.database, "read", read)
    await node.add_bilbo()
    for number in range(3):
        await node.add_release(b"x%d" % number, plugin_id=f"p{number}", name=f"Plugin {2 - number}")
    await node.add_report(b"y", plugin_id="p9", name="Dora", tags=("New",))
    narrow = {"source": BILBO, "sort": "name", "limit": 3}

    first = (await node.get("/federation/plugins", query_string=narrow)).json
    again = (await node.get("/federation/plugins?limit=4&source=bilbo@publisher.test&sort=name")).json
    second = (await node.get("/federation/plugins", query_string={**narrow, "cursor": first["next"]})).json
    tagged = (await node.get("/federation/plugins?tag=nEw")).json

    assert [row["plugin_id"] for row in first["plugins"]] == ["p9", "p2", "p1"]
    assert [row["plugin_id"] for row in second["plugins"]] == ["p0"]
    assert [row["plugin_id"] for row in tagged["plugins"]] == ["p9"]
    assert again["plugins"] == [*first["plugins"], *second["plugins"]]
    assert (again["total"], again["next"]) == (4, None)
    assert (first["total"], second["total"], tagged["total"]) == (4, 4, 1)
    assert read.call_count == {0: 4, 1: 3, 200: 0}[small]


async def test_a_list_is_of_the_store_of_now_and_written_as_its_model_says(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP, name='"Signal" \\ \x01\x7f\u2028\U0001f600</b>', description="x" * 3_000)
    await node.add_release(b"x", plugin_id="other")
    for statement in ("DELETE FROM download_counts", *CHANGES):
        await node.services.database.write(partial(change, sql=statement))
        for query in ({"sort": "name"}, {"source": BILBO}, {"q": "signal"}, {"limit": "1"}):
            got = await node.get("/federation/plugins", query_string=query)
            said = await find_plugins(node.services, PluginsQuery.model_validate(query))
            assert got.json == json.loads(said.model_dump_json()), statement
            assert [set(row) for row in got.json["plugins"]] == [set(PluginRow.model_fields)] * len(said.plugins)


ADVISORY = {
    "advisory_id": "A-1",
    "severity": "high",
    "summary": 'it is "bad"',
    "ranges": [{"from": "1.0", "until": ""}],
    "url": "",
    "aliases": ["CVE-2026-1"],
    "by": "publisher",
}
CHANGES = [
    "UPDATE releases SET sha256 = NULL, description = NULL, backed = 0, mirrored = 1, conflict = 1, revoked_key = 1",
    'UPDATE releases SET tags = \'["a","\u00e4"]\', disputed_by = \'["did:key:a"]\', reported_by = \'["b","c"]\'',
    "UPDATE releases SET held_back = 'it', yanked = 'why', yanked_by = 'publisher', taken_down = 'x', cooldown_until=7",
    f"UPDATE releases SET icons = '{json.dumps({'1x': 'https://a.test/b'})}', advisories = '[{json.dumps(ADVISORY)}]'",
    "UPDATE plugins SET reported_version = '9', versions = 3",
    "UPDATE sources SET verified_at = 1",
    f"INSERT INTO download_counts VALUES ('{BILBO}', 'other', '1', 3), ('{BILBO}', 'other', '2', 4)",
]


async def test_a_cursor_that_is_none_or_of_another_query_is_refused(node: WebNode) -> None:
    await node.add_bilbo()
    for number in range(2):
        await node.add_release(b"x%d" % number, plugin_id=f"p{number}")
    cursor = (await node.get("/federation/plugins?sort=name&limit=1")).json["next"]

    garbage = await node.get("/federation/plugins?cursor=garbage")
    foreign = await node.get("/federation/plugins", query_string={"sort": "updated", "cursor": cursor})

    assert (garbage.status, foreign.status) == (400, 404)
    assert garbage.sentence and foreign.sentence


async def test_thousands_of_versions_are_sorted_in_a_thread_and_only_those_shown_are_read_whole(
    node: WebNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.add_bilbo()
    for version in ("1.1.0", "1.2.0", "1.10.0"):
        await node.add_release(version.encode(), version=version)
    monkeypatch.setattr(federation_plugins, "VERSIONS_SHOWN_MAX", 2)
    monkeypatch.setattr(catalogue, "releases_of", Mock(side_effect=AssertionError))
    read = Mock(side_effect=node.services.database.read)
    monkeypatch.setattr(node.services.database, "read", read)

    got = (await node.get(f"/federation/plugins/{BILBO}/hello-signal")).json

    assert [one["version"] for one in got["releases"]] == ["1.10.0", "1.2.0"]
    assert (got["versions"], read.call_count) == (3, 1)


async def test_a_cursor_with_text_that_cannot_be_stored_is_refused(node: WebNode) -> None:
    cursor = base64.urlsafe_b64encode(b'["name", "\\ud800", 1]').decode("ascii").rstrip("=")

    got = await node.get("/federation/plugins", query_string={"sort": "name", "cursor": cursor})

    assert got.status in (400, 404) and got.sentence


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "type=book", "min_assurance=A9", "sort=best", "q=" + "x" * 201, "tag="]
)
async def test_a_wrong_query_is_400(node: WebNode, query: str) -> None:
    got = await node.get(f"/federation/plugins?{query}")

    assert got.status == 400 and got.json["details"]["fields"]


async def test_a_plugin_shows_its_versions_with_their_evidence_and_holders(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(ZIP)
    await node.add_report(ZIP)
    await node.add_report(b"other", version="0.9.0")
    await node.services.database.write(
        lambda db: registry.save_peer(db, STRANGER.public, url="https://stranger.test", seen=NOW)
    )

    got = await node.get("/federation/plugins/bilbo%40publisher.test/hello-signal")

    shown = got.json
    assert shown["publisher"] == URL
    assert [version["version"] for version in shown["releases"]] == ["1.0.0", "0.9.0"]
    newest = shown["releases"][0]
    assert {seen["observer"] for seen in newest["observations"]} == {did_key(NODE.public), did_key(STRANGER.public)}
    signature = newest["observations"][0]["evidence"][0]
    assert signature["form"] == "metadata" and len(base64.b64decode(signature["data"])) == 64
    assert shown["holders"] == [{"node_id": did_key(STRANGER.public), "url": "https://stranger.test", "pinned": False}]
    assert (await node.get(newest["download"])).body == ZIP


@pytest.mark.parametrize(
    "path", ["nobody@nowhere.test/x", "bilbo%40publisher.test/nope", "a%27b@c/x", "%00/%00", "a/..%2f"]
)
async def test_an_unknown_plugin_is_404(node: WebNode, path: str) -> None:
    got = await node.get(f"/federation/plugins/{path}")

    assert got.status == 404 and got.sentence


async def test_bare_slugs_have_owners(node: WebNode) -> None:
    await node.add_bilbo()

    given = await node.post("/federation/slugs", {"slug": "akismet", "sourceId": BILBO})
    unknown = await node.post("/federation/slugs", {"slug": "akismet", "sourceId": "nobody@nowhere.test"})
    listed = (await node.get("/federation/slugs")).json
    other = (await node.get("/federation/slugs?slug=jetpack")).json

    assert given.json == {"slug": "akismet", "sourceId": BILBO}
    assert unknown.status == 404
    assert listed == {"slugs": [{"slug": "akismet", "sourceId": BILBO}]} and other == {"slugs": []}
    assert (await node.call("POST", "/federation/slugs", json={})).status == 401


def test_composer_names_are_ones_that_composer_takes_and_keep_sources_apart() -> None:
    grammar = re.compile(r"[a-z0-9]([_.-]?[a-z0-9]+)*/[a-z0-9](([_.]|-{1,2})?[a-z0-9]+)*")
    ids = ["bilbo@publisher.test", "bilbo.publisher@test", "o'brien@x.test:8803", "ü@[::1]:80", "-@-", "é@é"]
    slugs = ["hello-signal", "a__b", "a-b", "a_b", "a-", "x---y"]

    names = [composer_name(source, slug) for source in ids for slug in slugs]

    assert all(grammar.fullmatch(name) for name in names), names
    assert len(set(names)) == len(names)
