"""What WordPress' client asks for lists and plugins, over HTTP with a real store: every field that it needs.

The fields are those whose absence breaks a page of WordPress 6.1 or 7.1, or makes PHP warn under WP_DEBUG.
"""

import hashlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from pfn_node.store import downloads, packages
from pfn_node.store.rows import PackageFacts
from pfn_node.store.wordpress import Offer
from pfn_node.web.consumers.php_form import NoForm, read_form
from pfn_node.web.consumers.wordpress_answers import row
from pfn_node.web.consumers.wordpress_installed import whose_id
from tests.node.web_node import BILBO, NOW, URL, WebNode, a_release, web_node
from tests.node.wordpress_site import FILE, FRODO, INFO, Schema, add_frodos, ask, check, fits, installed, own, slugs

_ESCAPED = ("22", "2C", "2c", "25", "26", "3D", "3B", "5B", "5C", "C3", "A4")
# What has to be there and of which kind; a number has to be a JSON number.
LIST_ROW: Schema = {
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


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        yield made


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
    await node.services.database.write(lambda db: downloads.add_downloads(db, {(BILBO, "alpha", "1.0.0"): 3}))

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


def test_fields_are_nested_as_php_nests_them() -> None:
    assert read_form(b"a=1&a=2&b[x][y]=3&c[]=4&c[]=5&d=6&d[e]=7") == {
        "a": "2",
        "b": {"x": {"y": "3"}},
        "c": {"0": "4", "1": "5"},
        "d": {"e": "7"},
    }
    assert read_form(b"a[b][c][d][e]=too+deep&]=1&[x]=1&a[b=1&a]=1") == {}


def test_every_text_of_a_form_is_decoded_as_by_pythons_own_reader() -> None:
    pieces = [
        "%",
        "2",
        "C",
        "c",
        "22",
        "%22",
        "%2C",
        "%2c",
        "%25",
        "%26",
        "%3D",
        "%3B",
        "%5B",
        "%5C",
        "%C3",
        "%A4",
        "+",
        "=",
        "a",
        "\r",
        "\n",
    ]
    dice = random.Random(1)
    for _ in range(3_000):
        raw = ("a=" + "".join(dice.choices(pieces, k=6))).encode("ascii")
        try:
            expected = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            with pytest.raises(NoForm):
                read_form(raw)
        else:
            assert read_form(raw) == dict(expected), raw


@pytest.mark.parametrize("plugin_id", ["did:plc:ewvi7nxzyoun6zhxrhs64oiz", "did:key:zNoKey"])
def test_an_id_of_somebody_unknown_names_nobody(plugin_id: str) -> None:
    assert whose_id(plugin_id) is None


def test_a_long_description_is_cut_at_a_word() -> None:
    short = row(Offer(replace(a_release(), description="word " * 60), {}, 0), URL)["short_description"]

    assert short.endswith("word…")
    assert len(short) <= 150
