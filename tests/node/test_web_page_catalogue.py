"""Home, the list of plugins, one plugin with its proof, and the pages that say what the words mean."""

import base64
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pfn_node.composer_names import composer_name
from pfn_node.store import announcements, catalogue
from pfn_node.store.showcase import SourceStates
from pfn_node.web.node_health import DISK_FREE_BYTES_MIN, Damage, node_problems
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import YankStatement
from pfn_protocol.evidence_bundle import read_bundle
from tests.node.page_reader import Browser, Reader
from tests.node.test_web_mesh import a_peer
from tests.node.web_node import BILBO, NOW, STRANGER, Got, WebNode, web_node

PLUGIN = f"/plugins/{BILBO}/hello-signal"
ALL_WELL = SourceStates(registered=2, verified=2, failing=0, discovered=0)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


async def text_of(node: WebNode, path: str) -> str:
    return (await Browser(node).read(path)).text


async def links_of(node: WebNode, path: str) -> list[str]:
    return (await Browser(node).read(path)).links


async def sql(node: WebNode, statement: str, *parameters: Any) -> None:
    await node.services.database.write(lambda db: db.execute(statement, parameters))


# ---- Home.


async def test_home_says_what_the_node_is_how_it_is_and_what_its_peers_do(node: WebNode) -> None:
    await node.add_bilbo(trust_score=0.75)
    await node.add_release(b"x", name="Hello")
    node.mesh.known = [a_peer(), replace(a_peer(url=None), state="known", links=())]

    text = await text_of(node, "/")

    assert "a node of the Plugin Federation Network" in text
    assert "This node is healthy" in text
    assert "Sources verified 1 of 1 followed" in text
    assert "Plugins held here 1 of 1 listed" in text
    assert "Peers linked 1 of 2 known" in text
    assert "Linked to 1 of 2 known nodes" in text and "told it 10 announcements" in text
    assert f"{BILBO} 1 plugin 0.75" in text


async def test_home_leads_from_each_release_and_source_to_its_page(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(b"x")

    links = await links_of(node, "/")

    assert "/plugins/bilbo%40publisher.test/hello-signal" in links
    assert "/sources/bilbo%40publisher.test" in links and "/mesh" in links


async def test_an_empty_node_offers_first_steps_and_to_an_admin_the_page_for_them(node: WebNode) -> None:
    browser = Browser(node)
    stranger = await browser.read("/")
    await browser.sign_in()
    admin = await browser.read("/")

    assert "pfn sources add https://plugins.example.com author publisher.pem" in stranger.text
    assert "/admin/sources/add" not in stranger.links and "/admin/sources/add" in admin.links


async def test_a_degraded_node_says_why_on_its_page_and_to_programs(node: WebNode) -> None:
    node.mesh.known = [replace(a_peer(), state="unreachable")]

    text, health = await text_of(node, "/"), (await node.get("/federation/health")).json

    assert "This node is degraded" in text
    assert "None of the 1 nodes that it joined is linked now" in text
    assert health["status"] == "degraded" and len(health["problems"]) == 1


def test_what_makes_a_node_degraded() -> None:
    plenty = 10 * DISK_FREE_BYTES_MIN
    failing = replace(ALL_WELL, failing=2)
    alone = replace(a_peer(), state="unreachable")

    assert node_problems({}, [], ALL_WELL, plenty, Damage()) == []
    assert node_problems({}, [a_peer(), alone], ALL_WELL, plenty, Damage()) == []
    assert node_problems({}, [replace(alone, joined=False)], ALL_WELL, plenty, Damage()) == []
    assert "still reads" in node_problems({"reading": True}, [], ALL_WELL, plenty, Damage())[0]
    assert "same key" in node_problems({"muted": True}, [], ALL_WELL, plenty, Damage())[0]
    assert "1 nodes" in node_problems({}, [alone], ALL_WELL, plenty, Damage())[0]
    assert "2 of 2 sources" in node_problems({}, [], failing, plenty, Damage())[0]
    assert "499 MB" in node_problems({}, [], ALL_WELL, DISK_FREE_BYTES_MIN - 1, Damage())[0]
    assert "fsck" in node_problems({}, [], ALL_WELL, plenty, Damage(database="it is damaged: pfn fsck"))[0]
    assert "3 artifacts" in node_problems({}, [], ALL_WELL, plenty, Damage(artifacts=3))[0]


# ---- The list.


async def fill(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(b"1", plugin_id="one", name="Apple pie", tags=("Food", "Sweet"))
    await node.add_release(b"2", plugin_id="two", name="Apple tree", tags=("Garden",), type="theme")
    await node.add_report(b"3", plugin_id="three", name="Pear pie", tags=("Food",))


async def test_plugins_are_found_by_words_and_narrowed_by_links(node: WebNode) -> None:
    await fill(node)

    apples = await text_of(node, "/plugins?q=apple")
    food = await text_of(node, "/plugins?tag=food")
    both = await text_of(node, "/plugins?q=apple&tag=food")
    links = await links_of(node, "/plugins?q=apple")

    assert "2 plugins for apple" in apples and "Pear pie" not in apples
    assert "Apple pie" in food and "Pear pie" in food and "Apple tree" not in food
    assert "1 plugin for apple" in both
    assert "/plugins?q=apple&tag=garden" in links
    assert "/plugins?q=apple&type=theme" in links and "/plugins?q=apple&sort=name" in links


async def test_a_filter_in_force_is_shown_and_taken_away_by_its_link(node: WebNode) -> None:
    await fill(node)

    page = await Browser(node).read(f"/plugins?q=apple&tag=food&source={BILBO}&min_assurance=A1&type=plugin")

    assert "at least A1" in page.text
    assert "/plugins?q=apple&source=bilbo%40publisher.test&type=plugin&min_assurance=A1" in page.links
    assert page.values["tag"] == "food" and page.values["min_assurance"] == "A1"


async def test_a_long_list_goes_on_where_the_page_ended(node: WebNode) -> None:
    await node.add_bilbo()
    for number in range(5):
        await node.add_release(bytes([number]), plugin_id=f"p{number}", name=f"Plugin {number}", tags=("x",))

    path, seen = "/plugins?limit=2&sort=name&tag=x", []
    while path:
        got = await Browser(node).open(path)
        seen += re.findall(r"Plugin \d", re.sub(r"<aside.*</aside>", "", got.body.decode(), flags=re.S))
        more = re.search(r'rel="next" href="([^"]+)"', got.body.decode())
        path = more[1].replace("&amp;", "&") if more else ""

    assert seen == [f"Plugin {number}" for number in range(5)]


async def test_nothing_found_says_what_to_do(node: WebNode) -> None:
    await fill(node)
    browser = Browser(node)

    words = await browser.read("/plugins?q=nobodyhasthis&tag=food")
    await browser.sign_in()
    admin = await browser.read("/plugins?q=nobodyhasthis")

    assert "Nothing found" in words.text and "Take a filter away" in words.text
    assert "/plugins?q=nobodyhasthis" in words.links
    assert "Add the publisher as a source" in admin.text


async def test_an_empty_catalogue_says_how_it_is_filled(node: WebNode) -> None:
    assert "pfn sources subscribe" in await text_of(node, "/plugins")


async def test_a_page_that_was_moved_says_so_and_a_made_up_one_is_not_there(node: WebNode) -> None:
    await fill(node)
    cursor = base64.urlsafe_b64encode(json.dumps(["name", "zzz", 1]).encode()).decode().rstrip("=")
    other = base64.urlsafe_b64encode(json.dumps(["updated", 1, 1]).encode()).decode().rstrip("=")

    got = await Browser(node).open(f"/plugins?sort=name&cursor={other}")

    assert "This page is empty now" in await text_of(node, f"/plugins?sort=name&cursor={cursor}")
    assert got.status == 404


async def test_rows_say_what_is_yanked_held_back_or_in_conflict(node: WebNode) -> None:
    await fill(node)
    await sql(node, "UPDATE releases SET yanked = 'x' WHERE plugin_id = 'one'")
    await sql(node, "UPDATE releases SET held_back = 'x', conflict = 1 WHERE plugin_id = 'two'")

    text = await text_of(node, "/plugins")

    assert all(word in text for word in ("yanked", "held back", "conflict", "reported only"))


async def test_pages_of_the_catalogue_lead_programs_to_their_json(node: WebNode) -> None:
    await fill(node)
    for page, twin in (
        ("/plugins?q=apple&tag=food", "/federation/plugins?q=apple&tag=food"),
        (f"/plugins/{BILBO}/one", f"/federation/plugins/{BILBO}/one"),
        ("/about/assurance", "/federation/plugins"),
        ("/about/trust", "/federation/sources"),
    ):
        got = await node.get(page, headers={"Accept": "application/json"})

        assert (got.status, got.headers["Location"]) == (303, twin)
        assert (await node.get(twin)).status == 200


# ---- One plugin.


async def test_a_plugin_shows_its_proof_as_steps(node: WebNode) -> None:
    await node.add_bilbo()
    seen = await node.add_release(b"x")
    await node.add_report(b"x")

    text = await text_of(node, PLUGIN)

    steps = (
        "Its publisher signed its name, version and description, but not the file",
        "The bytes have this digest",
        seen.sha256.hex(),
        "Seen at its publisher by 2 nodes this node",
        "Held by this node",
    )
    at = 0
    for step in steps:
        assert step in text[at:], step
        at = text.index(step, at)
    assert "It counts because this node fetched them from the publisher itself" in text


async def test_the_commands_of_a_plugin_fetch_and_check_the_very_file(node: WebNode) -> None:
    await node.add_bilbo()
    seen = await node.add_release(b"a zip")

    page = await Browser(node).read(PLUGIN)
    path = next(link for link in page.links if link.startswith("/federation/download"))

    assert f"curl -fo hello-signal.1.0.0.zip 'https://node.test{path}'" in page.text
    assert "composer config repositories.pfn composer https://node.test/composer" in page.text
    assert f"composer require {composer_name(BILBO, 'hello-signal')}" in page.text
    assert f"echo '{seen.sha256.hex()} hello-signal.1.0.0.zip' | sha256sum -c" in page.text
    assert "pfn plugins download 'bilbo@publisher.test' 'hello-signal' --version '1.0.0'" in page.text
    assert (await node.get(path)).body == b"a zip"


async def test_the_evidence_of_a_plugin_is_a_file_that_holds_a_bundle(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(b"a zip")

    page = await Browser(node).read(PLUGIN)
    got = await node.get(next(link for link in page.links if link.startswith("/federation/evidence")))
    unknown = await node.get(f"/federation/evidence?sourceId={BILBO}&plugin=nothing")

    assert 'filename="hello-signal.1.0.0.evidence"' in got.headers["Content-Disposition"]
    assert read_bundle(got.body).plugin_id == "hello-signal"
    assert unknown.status == 404


async def test_a_reported_plugin_is_not_offered_and_says_what_would_change_that(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_report(b"x")

    page = await Browser(node).read(PLUGIN)

    assert "Not served: only nodes that nobody here pins report it" in page.text
    assert "This version is not offered" in page.text
    assert not any(link.startswith("/federation/download") for link in page.links)


@pytest.mark.parametrize(
    ("change", "says", "offered"),
    [
        ("yanked = 'it eats posts', yanked_by = 'publisher'", "was yanked by its publisher: it eats posts", False),
        ("taken_down = 'malware'", "was taken down by an administrator of this node: malware", False),
        ("revoked_key = 1", "Only a key that was revoked vouches", False),
        ("held_back = 'not signed', backed = 0", "is held back, and not served: not signed", False),
        ("conflict = 1", "saw different bytes as version 1.0.0", True),
        (
            f"cooldown_until = {NOW + 7200}",
            "It cools down and is not offered as the newest; that ends in 2 hours",
            True,
        ),
    ],
)
async def test_what_stands_in_the_way_of_a_release_is_said_in_words(
    node: WebNode, change: str, says: str, offered: bool
) -> None:
    await node.add_bilbo()
    await node.add_release(b"x")
    await sql(node, f"UPDATE releases SET {change}")

    text = await text_of(node, PLUGIN)

    assert says in text
    assert ("Download the zip" in text) == offered


async def test_an_advisory_comes_first_and_its_address_is_a_link_only_on_the_web(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(b"x")
    advisory = {
        "advisory_id": "ME-1",
        "severity": "high",
        "summary": "Anybody may <i>delete</i> posts.",
        "ranges": [],
        "url": "https://advisory.test/1",
        "aliases": ["CVE-2026-1"],
        "by": "publisher",
    }
    hostile = advisory | {"advisory_id": "ME-2", "url": "javascript:alert(1)"}
    await sql(node, "UPDATE releases SET advisories = ?", json.dumps([advisory, hostile]))

    page = await Browser(node).read(PLUGIN)

    assert page.text.find("High advisory ME-1") < page.text.find("Download the zip")
    assert "Anybody may <i>delete</i> posts." in page.text and "CVE-2026-1" in page.text
    assert "https://advisory.test/1" in page.links
    assert not any(link.startswith("javascript") for link in page.links)


async def test_what_others_say_that_does_not_count_is_listed_as_such(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(b"x")
    quiet = await text_of(node, PLUGIN)
    yank = YankStatement(BILBO, "hello-signal", "1.0.0", reason="<b>no</b>")
    heard = announce(STRANGER, "main", yank, 0, NOW * 1000)
    await node.services.database.write(lambda db: announcements.keep(db, heard, True, NOW))

    text = await text_of(node, PLUGIN)

    assert "does not count here" not in quiet
    assert "does not count here: 1" in text and "yank of 1.0.0, because “<b>no</b>”" in text
    assert "was yanked" not in text


async def test_the_same_slug_at_two_sources_is_said_and_who_owns_it(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(b"x")
    await node.add_report(b"y", source_id="frodo@other.test", name="Other")

    nobody = await Browser(node).read(PLUGIN)
    await node.services.database.write(lambda db: catalogue.set_slug_owner(db, "hello-signal", BILBO))
    mine = await text_of(node, PLUGIN)
    theirs = await text_of(node, "/plugins/frodo@other.test/hello-signal")

    assert "1 other source lists the same slug hello-signal . Nobody owns it" in nobody.text
    assert "/plugins/frodo%40other.test/hello-signal" in nobody.links
    assert "On this node it belongs to this source" in mine
    assert f"On this node it belongs to {BILBO} , not to this source" in theirs


async def test_every_version_is_listed_with_its_state(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(b"1", version="1.0.0")
    await node.add_release(b"2", version="1.1.0")
    await node.add_report(b"3", version="2.0.0")
    await sql(node, "UPDATE releases SET yanked = 'slow' WHERE version = '1.0.0'")

    text = await text_of(node, PLUGIN)

    assert "Version 2.0.0 is reported too" in text
    versions = text[text.find("Versions Version") :]
    assert versions.find("2.0.0") < versions.find("1.1.0 listed") < versions.find("1.0.0")
    assert "slow" in versions and "reported only" in versions


async def test_hostile_text_of_a_publisher_stays_text(node: WebNode) -> None:
    await node.add_bilbo()
    hostile = "'\"><script>alert(1)</script>"
    await node.add_release(b"x", name=hostile, description=hostile, tags=(hostile,))

    for path in ("/", "/plugins", PLUGIN, "/about/assurance"):
        page = await Browser(node).read(path)
        assert hostile in page.text, path
        assert page.tags.count("script") == 3, path


async def test_an_unknown_plugin_is_not_found(node: WebNode) -> None:
    got: Got = await Browser(node).open(f"/plugins/{BILBO}/nothing")

    assert got.status == 404 and "No such plugin is known here" in Reader(got).text


# ---- What the words mean.


async def test_each_level_is_explained_with_an_example_of_this_node(node: WebNode) -> None:
    await fill(node)

    text = await text_of(node, "/about/assurance")

    assert all(f"{level} " in text for level in ("A0", "A1", "A2", "A3", "A4", "reported"))
    assert "On this node: Apple tree 1.0.0" in text and "On this node: Pear pie 1.0.0" in text
    assert "reported by 1 node" in text and "Nothing on this node stands just here" in text


async def test_trust_is_explained_with_the_most_trusted_source_of_this_node(node: WebNode) -> None:
    empty = await text_of(node, "/about/trust")
    explained = [
        {"part": "age", "means": "m", "weight": 0.15, "value": 0.05, "would_raise": "10 more days", "until": None}
    ]
    await node.add_bilbo(trust_score=0.4)
    await sql(node, "UPDATE sources SET trust_explained = ?", json.dumps(explained))

    text = await text_of(node, "/about/trust")

    assert "No example yet" in empty
    assert f"{BILBO} with 0.40" in text
    assert "0.15 0.05 10 more days" in text and "counted at the next verification" in text
