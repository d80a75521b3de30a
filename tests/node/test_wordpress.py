"""What WordPress' client asks, over HTTP with a real store: every field that it needs, whose a slug is, what is unsafe.

The fields are those whose absence breaks a page of WordPress 6.1 or 7.1, or makes PHP warn under WP_DEBUG.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from pfn_node.store import catalogue, packages, registry
from pfn_node.store.rows import PackageFacts
from pfn_protocol.identity import did_key, public_key_pem
from tests.node.web_node import BILBO, NOW, PUBLISHER, STRANGER, Got, WebNode, web_node

FRODO = "frodo@other.test"
INFO = "/plugins/info/1.2/"
# What has to be there and of which kind; a number has to be a JSON number.
LIST_ROW: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "slug": str,
    "version": str,
    "author": str,
    "short_description": str,
    "icons": dict,
    "rating": int,
    "num_ratings": int,
    "last_updated": str,
    "active_installs": int,
    "download_link": str,
    "requires": (str, bool),
    "tested": (str, bool),
    "requires_php": (str, bool),
    "requires_plugins": list,
    "ratings": dict,
    "downloaded": int,
    "tags": dict,
    "homepage": str,
}
INFORMATION = LIST_ROW | {"sections": dict, "language_packs": list, "versions": dict}
UPDATE: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "slug": str,
    "plugin": str,
    "new_version": str,
    "url": str,
    "package": str,
    "icons": dict,
    "banners": dict,
    "banners_rtl": dict,
    "requires": (str, bool),
    "tested": (str, bool),
    "requires_php": (str, bool),
    "requires_plugins": list,
}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        yield made


async def add_frodo(node: WebNode) -> None:
    """Another source, of another instance."""
    await node.services.database.write(
        lambda db: registry.insert_source(
            db,
            id=FRODO,
            instance_url="https://other.test",
            username="frodo",
            public_key=public_key_pem(STRANGER.public),
            created_at=NOW,
        )
    )
    columns = {"status": "verified", "verified_at": NOW, "oracle": "none"}
    await node.services.database.write(lambda db: registry.update_source(db, FRODO, **columns))


async def add_frodos(node: WebNode, slug: str = "hello-signal") -> None:
    """A plugin of the other source that may be installed."""
    await add_frodo(node)
    await node.add_release(b"frodo's", source_id=FRODO, plugin_id=slug, evidence=())
    await judge(node, FRODO, slug, "A1")


async def judge(node: WebNode, source_id: str, slug: str, assurance: str) -> None:
    """Give a plugin a level that would take a whole mesh to earn."""
    await node.services.database.write(
        lambda db: (
            db.execute("UPDATE releases SET assurance = ? WHERE source_id = ?", (assurance, source_id)),
            db.execute("UPDATE plugins SET assurance_rank = 2 WHERE source_id = ?", (source_id,)),
        )
    )


async def own(node: WebNode, slug: str, source_id: str) -> None:
    got = await node.post("/federation/slugs", {"slug": slug, "sourceId": source_id})
    assert got.status == 200, got.body


async def ask(node: WebNode, action: str, **request: str) -> Got:
    """As WordPress asks: brackets are percent-encoded."""
    fields = {"action": action, "request[locale]": "en_US", "request[wp_version]": "6.1"}
    fields |= {f"request[{name.replace('__', '][')}]": text for name, text in request.items()}
    return await node.get(f"{INFO}?{urlencode(fields)}")


async def slugs(node: WebNode, **request: str) -> list[str]:
    got = await ask(node, "query_plugins", **request)
    assert got.status == 200, got.body
    return [row["slug"] for row in got.json["plugins"]]


async def check(node: WebNode, plugins: dict[str, Any]) -> Any:
    """The answer to an update-check."""
    form = {
        "plugins": json.dumps({"plugins": plugins, "active": list(plugins)}),
        "translations": "{}",
        "locale": '["en_US"]',
        "all": "true",
    }
    got = await node.post("/plugins/update-check/1.1/", data=urlencode(form))
    assert got.status == 200, got.body
    assert set(got.json) == {"plugins", "no_update", "translations"}
    return got.json


def installed(version: str = "1.0.0", uri: str = "https://publisher.test/hello-signal", **more: str) -> dict[str, str]:
    return {"Name": "Hello", "Version": version, "UpdateURI": uri} | more


FILE = "hello-signal/hello-signal.php"


def fits(answer: dict[str, Any], schema: dict[str, Any]) -> None:
    for name, kind in schema.items():
        assert name in answer, name
        assert isinstance(answer[name], kind), (name, answer[name])
        assert kind is not int or not isinstance(answer[name], bool), name


async def test_a_row_of_a_list_has_every_field_that_wordpress_needs(node: WebNode) -> None:
    await node.add_release(b"zip")

    got = await ask(node, "query_plugins", search="hello", per_page="36")

    assert got.json["info"] == {"page": 1, "pages": 1, "results": 1}
    (row,) = got.json["plugins"]
    fits(row, LIST_ROW)
    assert row["name"] == "Hello &lt;b&gt;Signal&lt;/b&gt;"
    assert row["icons"] == {"default": "https://node.test/static/icon.svg"}
    assert row["last_updated"] == "2026-11-23 8:00am GMT"
    assert row["download_link"] == "https://node.test/download/plugin/hello-signal.1.0.0.zip"
    assert row["tags"] == {"utilities": "Utilities"}
    assert row["active_installs"] == 0


@pytest.mark.parametrize("path", [INFO, "/plugins/info/1.2", "/plugins/info/1.0/hello-signal.json"])
async def test_information_has_every_field_that_wordpress_needs(node: WebNode, path: str) -> None:
    facts = PackageFacts(
        b"1" * 20,
        b"2" * 48,
        {
            "Requires at least": "5.8",
            "Tested up to": "6.4.1",
            "Requires PHP": "7.4",
            "Requires Plugins": "woocommerce, no slug!, acf",
            "Author": "Bilbo & Co",
            "Plugin URI": "https://bilbo.test/hello",
        },
    )
    await node.add_release(b"zip", description="One.\n\nTwo <i>.", icons={"1x": "https://bilbo.test/i.png"})
    await node.services.database.write(lambda db: packages.keep_facts(db, {hashlib.sha256(b"zip").digest(): facts}))

    got = await node.get(f"{path}?action=plugin_information&request%5Bslug%5D=hello-signal")

    assert got.status == 200, got.body
    fits(got.json, INFORMATION)
    answer = got.json
    assert answer["sections"]["description"] == "<p>One.</p><p>Two &lt;i&gt;.</p>"
    assert hashlib.sha256(b"zip").hexdigest() in answer["sections"]["other_notes"]
    assert answer["language_packs"] == []
    assert answer["versions"] == {"1.0.0": answer["download_link"]}
    assert (answer["requires"], answer["tested"], answer["requires_php"]) == ("5.8", "6.4.1", "7.4")
    assert answer["requires_plugins"] == ["woocommerce", "acf"]
    assert answer["author"] == f'<a href="https://node.test/sources/{BILBO}">Bilbo &amp; Co</a>'
    assert answer["homepage"] == "https://bilbo.test/hello"
    assert set(answer["icons"]) == {"default", "1x"}


async def test_fields_that_are_turned_off_are_left_out_but_those_that_wordpress_needs(node: WebNode) -> None:
    await node.add_release(b"zip")

    got = await ask(
        node,
        "plugin_information",
        slug="hello-signal",
        fields__sections="0",
        fields__language_packs="0",
        fields__icons="1",
    )

    assert "sections" not in got.json
    fits(got.json, {name: kind for name, kind in INFORMATION.items() if name != "sections"})


async def test_an_update_has_every_field_that_wordpress_needs(node: WebNode) -> None:
    await node.add_release(b"1.1", version="1.1.0")

    answer = await check(node, {FILE: installed("1.0.0")})

    assert set(answer["plugins"]) == {FILE}
    assert answer["no_update"] == {}
    assert answer["translations"] == []
    item = answer["plugins"][FILE]
    fits(item, UPDATE)
    assert item["plugin"] == FILE
    assert item["new_version"] == "1.1.0"
    assert item["package"] == "https://node.test/download/plugin/hello-signal.1.1.0.zip"
    assert item["id"] == f"node.test/plugins/{BILBO}/hello-signal"


async def test_who_asks_with_a_form_is_answered_alike(node: WebNode) -> None:
    await node.add_release(b"zip")
    form = "action=query_plugins&request%5Bsearch%5D=hello"

    posted = await node.post(INFO, data=form)

    assert posted.body == (await node.get(f"{INFO}?{form}")).body


async def test_an_unknown_plugin_is_told_in_the_words_that_wordpress_knows(node: WebNode) -> None:
    for slug in ("nothing", "Not A Slug", ""):
        got = await ask(node, "plugin_information", slug=slug)

        assert (got.status, got.sentence) == (404, "Plugin not found.")
    assert (await node.get("/plugins/info/1.0/nothing.json")).status == 404


@pytest.mark.parametrize("query", ["", "action=themes", "action[x]=query_plugins", "action=%ff", "&a" * 3_000])
async def test_another_question_is_refused(node: WebNode, query: str) -> None:
    got = await node.get(f"{INFO}?{query}")

    assert got.status == 400
    assert got.sentence


async def test_lists_are_found_by_words_tags_authors_and_order(node: WebNode) -> None:
    await node.add_release(b"a", plugin_id="alpha", name="Alpha", tags=("SEO", "Cache"), observed_at=NOW - 10)
    await node.add_release(b"b", plugin_id="beta", name="Beta", tags=("SEO",), observed_at=NOW - 5)
    alpha = await node.services.database.read(lambda db: catalogue.get_release(db, BILBO, "alpha"))
    assert alpha is not None
    for _ in "123":
        await node.services.database.write(lambda db: packages.count_download(db, alpha))

    assert await slugs(node) == ["beta", "alpha"]
    assert await slugs(node, search="alpha") == ["alpha"]
    assert await slugs(node, search="!!") == []
    assert await slugs(node, tag="cache") == ["alpha"]
    assert await slugs(node, tag="seo") == ["beta", "alpha"]
    assert await slugs(node, author="bilbo") == await slugs(node, author=BILBO) == ["beta", "alpha"]
    assert await slugs(node, author="frodo") == []
    for browse in ("new", "updated", "featured", "unheard of"):
        assert await slugs(node, browse=browse) == ["beta", "alpha"]
    for browse in ("popular", "recommended"):
        assert await slugs(node, browse=browse) == ["alpha", "beta"]
    for browse in ("beta", "favorites"):
        assert await slugs(node, browse=browse) == []
    assert await slugs(node, user="bilbo") == []
    assert (await ask(node, "query_plugins", browse="popular")).json["plugins"][0]["downloaded"] == 3


async def test_pages_follow_each_other_and_the_last_one_ends(node: WebNode) -> None:
    for number in range(5):
        await node.add_release(f"{number}".encode(), plugin_id=f"p{number}", observed_at=NOW - number)

    pages = [await ask(node, "query_plugins", per_page="2", page=str(page)) for page in (1, 2, 3, 4)]

    assert [[row["slug"] for row in page.json["plugins"]] for page in pages] == [["p0", "p1"], ["p2", "p3"], ["p4"], []]
    assert [page.json["info"] for page in pages] == [{"page": page, "pages": 3, "results": 5} for page in (1, 2, 3, 4)]
    assert (await ask(node, "query_plugins", per_page="-1", page="x")).json["info"]["page"] == 1


async def test_tags_are_counted(node: WebNode) -> None:
    await node.add_release(b"a", plugin_id="alpha", tags=("SEO", "Cache <3"))
    await node.add_release(b"b", plugin_id="beta", tags=("SEO",))

    got = await ask(node, "hot_tags", number="5")

    assert got.json == {
        "seo": {"name": "seo", "slug": "seo", "count": 2},
        "cache <3": {"name": "cache &lt;3", "slug": "cache <3", "count": 1},
    }


async def test_what_may_not_be_installed_is_not_told_of(node: WebNode) -> None:
    await node.add_release(b"1.0", version="1.0.0")
    for number, spoilt in enumerate(("yanked", "taken_down", "held_back", "cooldown_until", "revoked_key", "backed")):
        version = f"2.{number}"
        await node.add_release(version.encode(), version=version)
        wrong = {"cooldown_until": NOW + 9, "revoked_key": 1, "backed": 0}.get(spoilt, "because")
        sql = f"UPDATE releases SET {spoilt} = ? WHERE version = ?"
        await node.services.database.write(lambda db, sql=sql, args=(wrong, version): db.execute(sql, args))  # type: ignore[misc]

    information = (await ask(node, "plugin_information", slug="hello-signal")).json
    answer = await check(node, {FILE: installed("1.0.0")})

    assert list(information["versions"]) == ["1.0.0"]
    assert answer["plugins"] == {}
    assert answer["no_update"][FILE]["new_version"] == "1.0.0"


async def test_a_list_leaves_out_what_was_yanked(node: WebNode) -> None:
    await node.add_release(b"1.0")
    notice = {"sourceId": BILBO, "plugin": "hello-signal", "version": "1.0.0", "reason": "it loses data"}
    assert (await node.post("/federation/yank", notice)).status == 200

    assert await slugs(node) == []
    assert (await ask(node, "plugin_information", slug="hello-signal")).sentence == "Plugin not found."


async def test_what_was_taken_down_is_closed(node: WebNode) -> None:
    await node.add_release(b"zip")
    body = {"sourceId": BILBO, "plugin": "hello-signal", "version": "1.0.0", "reason": "it steals <keys>"}
    assert (await node.post("/federation/takedown", body)).status == 200

    got = await ask(node, "plugin_information", slug="hello-signal")

    assert got.status == 404
    assert got.json == {
        "error": "closed",
        "name": "Hello &lt;b&gt;Signal&lt;/b&gt;",
        "slug": "hello-signal",
        "description": "This plugin was taken down by the operator of this node, and cannot be installed.",
        "closed": True,
        "closed_date": "2026-11-23",
        "reason": "taken-down",
        "reason_text": "it steals &lt;keys&gt;",
    }
    assert (await node.get("/download/plugin/hello-signal.1.0.0.zip")).status == 410


async def test_a_slug_of_two_sources_means_nobody_until_an_admin_says_whose(node: WebNode) -> None:
    await node.add_release(b"bilbo's")
    await add_frodos(node)
    zip_path = "/download/plugin/hello-signal.1.0.0.zip"

    got = await ask(node, "plugin_information", slug="hello-signal")

    assert got.status == 404
    assert BILBO in got.sentence
    assert FRODO in got.sentence
    assert await slugs(node) == []
    assert (await node.get(zip_path)).status == 404

    await own(node, "hello-signal", FRODO)

    assert FRODO in (await ask(node, "plugin_information", slug="hello-signal")).json["author"]
    assert await slugs(node) == ["hello-signal"]
    assert (await node.get(zip_path)).body == b"frodo's"


async def test_an_installed_plugin_that_names_nobody_is_only_answered_for_if_an_admin_says_whose_it_is(
    node: WebNode,
) -> None:
    await node.add_release(b"1.1", version="1.1.0")
    nobody = installed(uri="")

    assert await check(node, {FILE: nobody}) == {"plugins": {}, "no_update": {}, "translations": []}

    await own(node, "hello-signal", BILBO)

    assert set((await check(node, {FILE: nobody}))["plugins"]) == {FILE}


@pytest.mark.parametrize(
    "uri",
    [
        "https://wordpress.org/plugins/hello-signal/",
        "https://w.org/plugins/hello-signal",
        "https://publisher.test/other",
        "http://publisher.test/hello-signal",
        "https://evil.test/hello-signal",
        "https://publisher.test.evil.test/hello-signal",
        "https://publisher.test/x/hello-signal",
        "https://node.test/plugins/frodo@other.test/hello-signal",
        "hello-signal",
        "false",
        "https://publisher.test/é/hello-signal",
        "https://[/hello-signal",
        "x" * 5_000,
    ],
)
async def test_a_plugin_of_another_source_is_never_answered_for_whatever_an_admin_said(node: WebNode, uri: str) -> None:
    await node.add_release(b"9.0", version="9.0")
    await own(node, "hello-signal", BILBO)

    answer = await check(node, {FILE: installed(uri=uri)})

    assert answer == {"plugins": {}, "no_update": {}, "translations": []}


@pytest.mark.parametrize(
    "headers",
    [
        {"UpdateURI": "https://publisher.test/hello-signal/"},
        {"UpdateURI": "HTTPS://Publisher.TEST/hello-signal"},
        {"UpdateURI": f"https://node.test/plugins/{BILBO}/hello-signal"},
        {"UpdateURI": f"https://node.test/plugins/{quote(BILBO, safe='')}/hello-signal"},
        {"PluginID": BILBO},
        {"PluginID": did_key(PUBLISHER.public)},
    ],
)
async def test_a_plugin_that_names_its_publisher_gets_that_publishers_updates(
    node: WebNode, headers: dict[str, str]
) -> None:
    await node.add_release(b"1.1", version="1.1.0")
    await add_frodos(node)

    answer = await check(node, {FILE: {"Version": "1.0.0"} | headers})

    assert f"/plugins/{BILBO}/" in answer["plugins"][FILE]["url"]


async def test_an_instance_of_two_publishers_with_one_slug_needs_an_admin_too(node: WebNode) -> None:
    other = "sam@publisher.test"
    await node.add_release(b"1.1", version="1.1.0")
    await add_frodo(node)
    await node.services.database.write(
        lambda db: db.execute(
            "UPDATE sources SET id = ?, instance_url = 'https://publisher.test' WHERE id = ?", (other, FRODO)
        )
    )
    await node.add_release(b"sam's", source_id=other, version="1.2.0", evidence=())
    await judge(node, other, "hello-signal", "A1")

    assert (await check(node, {FILE: installed()}))["plugins"] == {}

    await own(node, "hello-signal", BILBO)

    assert (await check(node, {FILE: installed()}))["plugins"][FILE]["new_version"] == "1.1.0"


async def test_an_update_is_newer_as_php_counts(node: WebNode) -> None:
    await node.add_release(b"zip", version="1.10")

    for version, is_newer in (("1.9", True), ("1.10-beta", True), ("1.10", False), ("1.10.1", False), ("", True)):
        answer = await check(node, {FILE: installed(version)})

        assert (FILE in answer["plugins"]) is is_newer, version
        assert (FILE in answer["no_update"]) is not is_newer, version


async def test_a_plugin_of_one_file_has_its_name_as_its_slug(node: WebNode) -> None:
    await node.add_release(b"1.1", version="1.1.0")

    answer = await check(node, {"hello-signal.php": installed(), "Hello-Signal/x.php": installed(), "": installed()})

    assert set(answer["plugins"]) == {"hello-signal.php"}


@pytest.mark.parametrize(
    "plugins",
    ["", "nonsense", "[" * 100_000, '{"plugins":' + json.dumps({f"p{n}/p.php": {} for n in range(1_001)}) + "}"],
)
async def test_a_list_that_cannot_be_read_is_refused(node: WebNode, plugins: str) -> None:
    got = await node.post("/plugins/update-check/1.1/", data=urlencode({"plugins": plugins}))

    assert got.status == 400
    assert got.sentence


@pytest.mark.parametrize(
    "plugins", ["[]", '{"plugins":[]}', '{"plugins":{"a/b.php":[],"\\ud800/c.php":{"Version":1}}}']
)
async def test_a_site_with_nothing_known_gets_all_three_keys(node: WebNode, plugins: str) -> None:
    got = await node.post("/plugins/update-check/1.1", data=urlencode({"plugins": plugins}))

    assert got.json == {"plugins": {}, "no_update": {}, "translations": []}


async def test_a_body_that_is_too_large_is_refused(node: WebNode) -> None:
    got = await node.post("/plugins/update-check/1.1/", data=b"plugins=" + b"x" * (1 << 20))

    assert got.status == 413


async def test_a_zip_is_served_under_the_name_that_wp_cli_makes(node: WebNode) -> None:
    await node.add_release(b"old", version="1.0.0")
    await node.add_release(b"new", version="1.1.0+b2")

    got = await node.get("/download/plugin/hello-signal.1.0.0.zip")
    head = await node.call("HEAD", "/download/plugin/hello-signal.1.1.0+b2.zip")

    assert (got.status, got.body) == (200, b"old")
    assert got.headers["Content-Disposition"] == 'attachment; filename="hello-signal.1.0.0.zip"'
    assert (head.status, head.body) == (200, b"")
    assert head.headers["ETag"] == f'"{hashlib.sha256(b"new").hexdigest()}"'
    for name in ("hello-signal.9.zip", "nothing.1.0.0.zip", "hello-signal.zip", ".zip", "hello-signal..zip"):
        assert (await node.get(f"/download/plugin/{name}")).status == 404, name
