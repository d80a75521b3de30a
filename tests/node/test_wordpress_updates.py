"""WordPress' update-check over HTTP with a real store: its fields, whose an installed plugin is, and what is newer."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import quote, urlencode

import pytest

from pfn_node.store import wordpress
from pfn_node.web.consumers.wordpress_updates import LOOKED_UP_AT_ONCE
from pfn_node.web.ready_answers import KeptUntilChange
from pfn_protocol.identity import did_key
from tests.node.web_node import BILBO, PUBLISHER, WebNode, web_node
from tests.node.wordpress_site import FILE, FRODO, Schema, add_frodo, add_frodos, check, fits, installed, judge, own

UPDATE: Schema = {
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
    assert item["package"] == f"https://node.test/download/plugin/hello-signal.1.1.0.zip?source={BILBO}"
    assert item["id"] == f"node.test/plugins/{BILBO}/hello-signal"


async def test_what_one_site_was_told_is_told_others_until_something_changes(
    node: WebNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.add_release(b"1.1", version="1.1.0")
    newest_offer = Mock(side_effect=wordpress.newest_offer)
    monkeypatch.setattr(wordpress, "newest_offer", newest_offer)

    async def said(version: str) -> tuple[str, str]:
        answer = await check(node, {FILE: installed(version), "x/x.php": installed(version)})
        [(kind, files)] = [(kind, files) for kind, files in answer.items() if files]
        return kind, files[FILE]["new_version"]

    assert [await said("1.0.0") for _ in range(3)] == [("plugins", "1.1.0")] * 3
    assert newest_offer.call_count == 1
    assert await said("1.1.0") == ("no_update", "1.1.0")
    assert newest_offer.call_count == 2  # another version is another question

    await node.add_release(b"1.2", version="1.2.0")

    assert await said("1.0.0") == ("plugins", "1.2.0")
    assert await said("1.1.0") == ("plugins", "1.2.0")


async def test_of_very_many_versions_none_is_read_whole_but_the_newest_that_may_be_installed(
    node: WebNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wordpress, "offered_releases", Mock(side_effect=AssertionError))
    for version in ("1.1.0", "1.2.0", "1.10.0"):
        await node.add_release(version.encode(), version=version)
    newest = (await check(node, {FILE: installed("1.0.0")}))["plugins"][FILE]["new_version"]

    await node.add_release(b"unsigned", version="1.11.0", evidence=())
    signed = (await check(node, {FILE: installed("1.0.0")}))["plugins"][FILE]["new_version"]

    assert (newest, signed) == ("1.10.0", "1.10.0")


async def test_a_site_with_very_many_plugins_is_answered_for_all_of_them(node: WebNode) -> None:
    await node.add_release(b"1.1", version="1.1.0")
    many = {f"p{number}/p{number}.php": installed("1.0.0") for number in range(LOOKED_UP_AT_ONCE)}

    assert set((await check(node, {**many, FILE: installed("1.0.0")}))["plugins"]) == {FILE}


async def test_what_is_kept_is_bounded_and_of_one_state_of_the_store(node: WebNode) -> None:
    kept: KeptUntilChange[str, int] = KeptUntilChange(node.services.database, most=2)
    version = kept.version()
    kept.keep({"a": 1, "b": 2, "c": 3}, version)

    assert [kept.find(key) for key in "abc"] == [None, 2, 3]

    await node.add_release(b"1.1", version="1.1.0")
    kept.keep({"d": 4}, version)

    assert [kept.find(key) for key in "abcd"] == [None] * 4


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


async def test_an_id_that_is_no_text_names_nobody_and_keeps_no_other_plugin_from_its_update(node: WebNode) -> None:
    await node.add_release(b"1.1", version="1.1.0")
    broken = {"Version": "1.0", "PluginID": "\ud800", "UpdateURI": ""}

    answer = await check(node, {FILE: installed("1.0.0"), "hello-signal/other.php": broken})

    assert set(answer["plugins"]) == {FILE}


async def test_a_body_that_is_too_large_is_refused(node: WebNode) -> None:
    got = await node.post("/plugins/update-check/1.1/", data=b"plugins=" + b"x" * (1 << 20))

    assert got.status == 413
