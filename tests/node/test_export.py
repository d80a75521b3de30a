"""The export of the catalogue: mirrored once, then followed."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pfn_node.composer_names import composer_name
from pfn_node.store import changes
from pfn_node.store.facts import set_fact
from pfn_node.web.consumers import export
from tests.node.web_node import BILBO, NOW, WebNode, web_node

START = "/export/plugins.ndjson"
ZIP = b"a plugin"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        yield made


async def page(node: WebNode, path: str = START) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The plugins, and the last line."""
    got = await node.get(path)
    assert (got.status, got.headers["Content-Type"]) == (200, "application/x-ndjson"), got.body
    *rows, last = [json.loads(line) for line in got.body.splitlines()]
    assert got.headers["Link"] == f'<{last["next"]}>; rel="next"'
    return rows, last


async def follow(node: WebNode, path: str, mirror: dict[str, Any]) -> str:
    """Read until there is no more, as a marketplace would; return where to go on."""
    while True:
        rows, last = await page(node, path)
        for row in rows:
            if row["gone"]:
                mirror.pop(row["plugin_id"], None)
            else:
                mirror[row["plugin_id"]] = [one["version"] for one in row["releases"]]
        path = last["next"]
        if not last["more"]:
            return path


async def test_a_line_is_a_plugin_with_its_releases_digests_and_assurance(node: WebNode) -> None:
    await node.add_release(ZIP)

    (row,), last = await page(node)

    seq = row.pop("seq")
    assert row == {
        "source_id": BILBO,
        "plugin_id": "hello-signal",
        "gone": False,
        "composer_name": composer_name(BILBO, "hello-signal"),
        "type": "plugin",
        "name": "Hello <b>Signal</b>",
        "description": "It says hello.",
        "tags": ["Utilities"],
        "icons": {},
        "version": "1.0.0",
        "reported_version": None,
        "versions": 1,
        "releases": [
            {
                "version": "1.0.0",
                "sha256": hashlib.sha256(ZIP).hexdigest(),
                "size": len(ZIP),
                "assurance": "A1",
                "backed": True,
                "held_back": None,
                "yanked": None,
                "taken_down": None,
                "revoked_key": False,
                "cooldown": None,
                "advisories": [],
                "observed_at": NOW,
                "download": "/federation/download?sourceId=bilbo%40publisher.test&plugin=hello-signal&version=1.0.0",
            }
        ],
    }
    assert last == {"after": seq, "more": False, "next": f"{START}?after={seq}&limit=500"}
    assert (await node.get(row["releases"][0]["download"])).body == ZIP


async def test_a_mirror_is_made_page_by_page_and_then_follows_the_changes(node: WebNode) -> None:
    for number in range(5):
        await node.add_release(b"%d" % number, plugin_id=f"p{number}")
    mirror: dict[str, Any] = {}

    on = await follow(node, f"{START}?limit=2", mirror)
    assert mirror == {f"p{number}": ["1.0.0"] for number in range(5)}

    await node.add_release(b"newer", plugin_id="p1", version="1.1.0")
    await node.add_release(b"new", plugin_id="p9")
    rows, _ = await page(node, on)
    assert [row["plugin_id"] for row in rows] == ["p1", "p9"]
    on = await follow(node, on, mirror)
    assert mirror["p1"] == ["1.1.0", "1.0.0"] and mirror["p9"] == ["1.0.0"]

    await node.post("/federation/remove-source", {"sourceId": BILBO, "purge": True})
    await follow(node, on, mirror)
    assert mirror == {}


async def test_a_yank_is_a_change_and_a_report_is_told_with_what_it_is(node: WebNode) -> None:
    await node.add_release(ZIP)
    await node.add_report(b"reported", version="2.0.0")
    _, last = await page(node)

    await node.post("/federation/yank", {"sourceId": BILBO, "plugin": "hello-signal", "version": "1.0.0"})

    (row,), _ = await page(node, last["next"])
    told = [(one["version"], one["assurance"], one["backed"], one["yanked"]) for one in row["releases"]]
    assert told == [("2.0.0", "reported", False, None), ("1.0.0", "A1", True, "")]


async def test_nothing_to_tell_says_how_to_go_on_all_the_same(node: WebNode) -> None:
    assert await page(node) == ([], {"after": 0, "more": False, "next": f"{START}?after=0&limit=500"})


async def test_more_versions_than_a_line_has_are_counted(node: WebNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "RELEASES_MAX", 1)
    for version in ("1.0.0", "1.1.0"):
        await node.add_release(version.encode(), version=version)

    (row,), _ = await page(node)

    assert ([one["version"] for one in row["releases"]], row["versions"]) == (["1.1.0"], 2)


async def test_what_is_read_at_once_is_less_than_an_answer_has(node: WebNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "BATCH_PLUGINS", 2)
    for number in range(5):
        await node.add_release(b"%d" % number, plugin_id=f"p{number}")

    rows, _ = await page(node)

    assert [row["plugin_id"] for row in rows] == [f"p{number}" for number in range(5)]


async def test_who_read_too_long_ago_or_elsewhere_begins_anew(node: WebNode) -> None:
    await node.add_release(ZIP)
    _, last = await page(node)
    await node.services.database.write(lambda db: set_fact(db, changes._FORGOTTEN, "1000"))

    for after in (999, last["after"] + 1):
        got = await node.get(f"{START}?after={after}")
        assert (got.status, bool(got.sentence)) == (409, True)
    assert len((await page(node, f"{START}?after=1000"))[0]) == 1
    assert len((await page(node, f"{START}?after=0"))[0]) == 1


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "after=-1", "after=x", "after=" + "9" * 16])
async def test_a_wrong_query_is_400(node: WebNode, query: str) -> None:
    assert (await node.get(f"{START}?{query}")).status == 400
