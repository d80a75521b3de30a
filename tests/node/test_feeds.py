"""Feeds of releases: what Atom and JSON Feed ask for, what a stranger's words can do there, and 304s."""

import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.node.web_node import BILBO, NOW, WebNode, web_node

A = "{http://www.w3.org/2005/Atom}"
ZIP = b"a plugin"
HOSTILE = "</title><script>alert(1)</script>&\"'"
FORMS = ("/feeds/releases.atom", "/feeds/releases.json")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        yield made


async def atom(node: WebNode, query: str = "") -> ET.Element:
    got = await node.get(f"/feeds/releases.atom{query}")
    assert (got.status, got.headers["Content-Type"]) == (200, "application/atom+xml; charset=utf-8")
    return ET.fromstring(got.body)


async def titles(node: WebNode, query: str = "") -> list[str]:
    """The titles of both forms, which have to be the same."""
    entries = [entry.findtext(f"{A}title") for entry in (await atom(node, query)).iter(f"{A}entry")]
    items = (await node.get(f"/feeds/releases.json{query}")).json["items"]
    assert entries == [item["title"] for item in items]
    return [item["title"] for item in items]


async def test_an_atom_feed_has_what_the_specification_requires(node: WebNode) -> None:
    await node.add_release(ZIP)

    feed = await atom(node)

    assert feed.tag == f"{A}feed"
    assert re.fullmatch("urn:uuid:[0-9a-f-]{36}", feed.findtext(f"{A}id", ""))
    assert feed.findtext(f"{A}title") == "Plugin releases"
    links = {link.get("rel"): link.get("href") for link in feed.findall(f"{A}link")}
    assert links == {
        "self": "https://node.test/feeds/releases.atom",
        "alternate": "https://node.test/plugins",
    }
    (entry,) = feed.findall(f"{A}entry")
    assert re.fullmatch("urn:uuid:[0-9a-f-]{36}", entry.findtext(f"{A}id", ""))
    for owner in (feed, entry):
        datetime.fromisoformat(owner.findtext(f"{A}updated", ""))
    # RFC 4287, 4.1.1: an author in the feed or in every entry; 4.1.2: a link or content, and a title.
    assert entry.findtext(f"{A}author/{A}name") == "bilbo"
    assert entry.findtext(f"{A}title") == "Hello <b>Signal</b> 1.0.0"
    assert hashlib.sha256(ZIP).hexdigest() in entry.findtext(f"{A}content", "")
    assert [one.get("term") for one in entry.findall(f"{A}category")] == ["Utilities"]


async def test_a_json_feed_has_what_version_1_1_requires(node: WebNode) -> None:
    await node.add_release(ZIP)

    got = await node.get("/feeds/releases.json")

    assert got.headers["Content-Type"] == "application/feed+json"
    assert got.json["version"] == "https://jsonfeed.org/version/1.1"
    assert got.json["title"] == "Plugin releases"
    assert got.json["feed_url"] == "https://node.test/feeds/releases.json"
    (item,) = got.json["items"]
    assert item["id"] and item["content_text"]
    datetime.fromisoformat(item["date_published"])
    assert item["authors"] == [{"name": "bilbo"}] and item["tags"] == ["Utilities"]
    assert item["_pfn"] == {
        "source_id": BILBO,
        "plugin_id": "hello-signal",
        "version": "1.0.0",
        "type": "plugin",
        "sha256": hashlib.sha256(ZIP).hexdigest(),
        "assurance": "A1",
        "advisories": [],
    }


async def test_links_of_an_entry_lead_to_its_page_and_its_zip(node: WebNode) -> None:
    await node.add_release(ZIP)
    (item,) = (await node.get("/feeds/releases.json")).json["items"]
    page, attached = urlsplit(item["url"]), urlsplit(item["attachments"][0]["url"])

    assert (await node.get(page.path)).status == 200
    zip = await node.get(f"{attached.path}?{attached.query}")

    assert (zip.body, item["attachments"][0]["size_in_bytes"]) == (ZIP, len(ZIP))
    entry = (await atom(node)).find(f"{A}entry")
    assert entry is not None
    hrefs = {link.get("rel"): link.get("href") for link in entry.findall(f"{A}link")}
    assert hrefs == {"alternate": item["url"], "enclosure": item["attachments"][0]["url"]}


async def test_an_entry_keeps_its_id_in_every_feed_and_form(node: WebNode) -> None:
    await node.add_release(ZIP)
    await node.add_release(b"newer", version="1.1.0")

    everywhere = [
        [entry.findtext(f"{A}id") for entry in (await atom(node, query)).iter(f"{A}entry")]
        for query in ("", f"?source={BILBO}", "?tag=utilities")
    ]
    in_json = [item["id"] for item in (await node.get("/feeds/releases.json")).json["items"]]

    assert len(set(in_json)) == 2
    assert everywhere == [in_json] * 3
    ids = {(await atom(node, query)).findtext(f"{A}id") for query in ("", f"?source={BILBO}", "?tag=utilities")}
    assert len(ids) == 3


async def test_a_strangers_words_stay_words(node: WebNode) -> None:
    await node.add_release(ZIP, name=HOSTILE, description="a\x08b\ufffe", tags=(HOSTILE, "\x00"))

    feed = await atom(node)

    assert await titles(node) == [f"{HOSTILE} 1.0.0"]
    assert feed.findtext(f"{A}entry/{A}summary") == "a\ufffdb\ufffd"
    assert b"<script" not in (await node.get("/feeds/releases.atom")).body


async def test_feeds_are_narrowed_by_source_and_tag(node: WebNode) -> None:
    await node.add_release(ZIP, name="A", tags=("Forms",))
    await node.add_release(b"other", plugin_id="other", name="B", tags=())

    assert await titles(node) == ["B 1.0.0", "A 1.0.0"]
    assert await titles(node, "?tag=forms") == ["A 1.0.0"]
    assert await titles(node, f"?source={BILBO}") == ["B 1.0.0", "A 1.0.0"]
    assert await titles(node, "?source=nobody@nowhere.test") == []
    narrowed = (await node.get(f"/feeds/releases.json?sourceId={BILBO}&tag=forms")).json
    assert narrowed["title"] == f"Plugin releases of {BILBO} tagged forms"
    assert (await node.get(urlsplit(narrowed["home_page_url"]).path)).status == 200


async def test_what_may_not_be_installed_is_in_no_feed(node: WebNode) -> None:
    await node.add_release(ZIP)
    await node.add_release(b"newer", version="1.1.0")
    await node.add_report(b"reported", version="2.0.0")

    await node.post("/federation/yank", {"sourceId": BILBO, "plugin": "hello-signal", "version": "1.1.0"})

    assert await titles(node) == ["Hello <b>Signal</b> 1.0.0"]


async def test_a_feed_is_bounded(node: WebNode) -> None:
    for number in range(52):
        await node.add_release(b"%d" % number, plugin_id=f"p{number}", name=f"P{number}")

    shown = await titles(node)

    assert (len(shown), shown[0], shown[-1]) == (50, "P51 1.0.0", "P2 1.0.0")


@pytest.mark.parametrize("form", FORMS)
async def test_who_has_a_feed_gets_304_until_it_changes(node: WebNode, form: str) -> None:
    await node.add_release(ZIP)
    await node.get(form)
    node.services.now = lambda: NOW + 1.0
    first = await node.get(form)
    conditions = ({"If-None-Match": first.headers["ETag"]}, {"If-Modified-Since": first.headers["Last-Modified"]})

    same = [(await node.get(form, headers=condition)).status for condition in conditions]
    await node.add_release(b"newer", version="1.1.0")
    changed = [(await node.get(form, headers=condition)).status for condition in conditions]

    assert (same, changed) == ([304, 304], [200, 200])


async def test_an_empty_feed_is_valid_too(node: WebNode) -> None:
    feed = await atom(node)

    assert feed.findtext(f"{A}updated") == "1970-01-01T00:00:00Z"
    assert (await node.get("/feeds/releases.json")).json["items"] == []


@pytest.mark.parametrize("query", ["tag=", "source=", "tag=" + "x" * 500])
async def test_a_wrong_query_is_400(node: WebNode, query: str) -> None:
    assert (await node.get(f"/feeds/releases.atom?{query}")).status == 400


async def test_pages_say_where_their_feeds_are(node: WebNode) -> None:
    await node.add_release(ZIP)
    for page in ("/", f"/sources/{BILBO}"):
        html = (await node.get(page)).body.decode()
        found = re.findall(
            r'<link rel="alternate" type="application/(?:atom\+xml|feed\+json)"[^>]* href="([^"]*)"', html
        )

        assert len(found) == 2
        for path in found:
            got = await node.get(path.replace("&amp;", "&"))
            assert (got.status, b"Signal" in got.body) == (200, True)
