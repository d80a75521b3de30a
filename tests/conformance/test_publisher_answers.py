"""A hostile publisher answers with what is no list, too long a list, or names that are more than names."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.hostile_publisher import (
    HONEST_SLUG,
    HOSTILE_SLUG,
    Listing,
    Publisher,
    allow_unsigned,
    assert_left_out,
    assert_only_the_honest_one_is_held,
    digest,
    plugin_zip,
    register,
    subscribe,
    try_to_subscribe,
    verify,
)
from tests.conformance.hostile_server import always, answer, as_json
from tests.conformance.node_process import Node

Beside = Callable[..., list[Listing]]


@pytest.mark.parametrize(
    ("attack", "body"),
    [
        ("is a web page", b"<html>"),
        ("is empty", b""),
        ("is a list", b"[]"),
        ("is nil", b"null"),
        ("has a list of plugins that is none", b'{"plugins": 7}'),
        ("is nested without end", b'{"plugins":' + b"[" * 100_000),
        ("is not UTF-8", b'{"plugins": [], "username": "\xff\xfe"}'),
        ("is UTF-16", '{"plugins": []}'.encode("utf-16")),
        ("goes on after its end", b'{"plugins": []} {"plugins": []}'),
        ("is a number of a million digits", b"9" * 1_000_000),
        ("is eight megabytes long", b'{"plugins": [' + b" " * 8 * 2**20 + b"]}"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_list_is_refused_that(node: Node, publisher: Publisher, attack: str, body: bytes) -> None:
    publisher.answers["/author-data"] = always(answer(200, body))

    answered = try_to_subscribe(node, publisher)

    assert answered.status == 502
    assert node.rows(publisher.source) == {}
    assert node.is_well()


@pytest.mark.parametrize(
    ("attack", "slug"),
    [
        ("climbs", "../../etc/passwd"),
        ("is absolute", "/etc/passwd"),
        ("climbs when it is decoded", "..%2f..%2fpasswd"),
        ("has a NUL", "tool\0"),
        ("is a drive", "C:"),
        ("has capitals", "Tool"),
        ("is a query", "tool?x=1"),
        ("is SQL", "x'); DROP TABLE sources;--"),
        ("is empty", ""),
        ("is sixty-five characters long", "a" * 65),
        ("is written with another alphabet's letters", "t\u043e\u043el"),
        ("breaks the line", "tool\r\nSet-Cookie: a=b"),
    ],
    ids=lambda value: value if value.startswith(("climbs", "is ", "has ", "breaks")) else "",
)
def test_a_plugin_is_left_out_whose_slug(node: Node, publisher: Publisher, attack: str, slug: str) -> None:
    """All else is right: it is signed, and its zip is a good one."""
    data = plugin_zip(HOSTILE_SLUG, "1.0", publisher.key.public.hex())
    publisher.listings += [Listing(slug, zip=data)]

    result = subscribe(node, publisher)

    assert (result["mirroredCount"], len(result["skipped"])) == (1, 1), result
    assert set(node.rows(publisher.source)) == {HONEST_SLUG}
    assert node.artifact(digest(data)).status == 404
    assert not any(path.endswith("passwd") for path in publisher.paths())


@pytest.mark.parametrize(
    ("attack", "version"),
    [
        ("climbs", "1.0/../../evil"),
        ("is thirty-three characters long", "1" * 33),
        ("is a number", 1.0),
        ("is empty", ""),
        ("has a space", "1.0 beta"),
        ("is nil", None),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith(("climbs", "is ", "has ")) else "",
)
def test_a_plugin_is_left_out_whose_version(
    node: Node, publisher: Publisher, beside: Beside, attack: str, version: object
) -> None:
    """Signed as far as it is text, and the zip says the same."""
    if isinstance(version, str):
        data = plugin_zip(HOSTILE_SLUG, version, publisher.key.public.hex())
        publisher.listings = beside(version=version, zip=data)
    else:
        publisher.listings = beside(edit=lambda entry: entry | {"version": version})

    assert_only_the_honest_one_is_held(node, publisher, "")


def test_an_entry_that_is_no_object_does_not_spoil_the_list(node: Node, publisher: Publisher) -> None:
    data = publisher.author_data()
    data["plugins"] = [None, 7, "evil", [], *data["plugins"]]
    publisher.answers["/author-data"] = always(as_json(data))

    result = subscribe(node, publisher)

    assert (result["mirroredCount"], len(result["skipped"])) == (1, 4)


def test_a_list_of_more_than_five_hundred_plugins_is_cut(node: Node, publisher: Publisher) -> None:
    data = publisher.author_data()
    data["plugins"] += [{"slug": f"p{number}", "version": "1", "name": "p"} for number in range(500)]
    publisher.answers["/author-data"] = always(as_json(data))

    result = subscribe(node, publisher)

    assert result["mirroredCount"] == 1
    assert any("500" in skipped["reason"] for skipped in result["skipped"])
    assert len(result["skipped"]) == 500  # 499 that are not signed, and one line about the rest


def test_a_member_that_is_there_twice_is_read_once_and_checked_as_read(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    """Signed is version 1.0; the text says 1.0 and then 6.6: whichever is read, the signature has to fit it."""
    publisher.listings = beside()
    text = json.dumps(publisher.author_data())
    last = text.rindex('"version": "1.0"')
    twice = text[:last] + '"version": "1.0", "version": "6.6"' + text[last + len('"version": "1.0"') :]
    publisher.answers["/author-data"] = always(answer(200, twice))

    result = subscribe(node, publisher)

    assert_left_out(result, HOSTILE_SLUG, "invalid signature")


def test_markup_in_texts_reaches_no_page_as_markup(node: Node, publisher: Publisher) -> None:
    markup = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    allow_unsigned(node, publisher)
    changes = {"name": markup, "short_description": markup, "tags": [markup], "signature": None}
    publisher.listings = [Listing(HONEST_SLUG, edit=lambda entry: entry | changes)]
    data = publisher.author_data() | {"website": "javascript:alert(1)", "username": markup}
    publisher.answers["/author-data"] = always(as_json(data))

    assert subscribe(node, publisher)["mirroredCount"] == 1

    assert node.rows(publisher.source)[HONEST_SLUG]["name"] == markup  # in JSON text is text
    page = node.ask("GET", "/")
    assert b"&lt;script&gt;alert" in page.body
    assert b"<script>alert" not in page.body and b"<img src=x" not in page.body
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy


def test_control_characters_and_line_breaks_in_names_are_not_stored(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    allow_unsigned(node, publisher)
    name = "Tool\x1b[31m\r\nFAKE LOG LINE\x00\x85"
    publisher.listings = beside(edit=lambda entry: {**entry, "name": name, "signature": None})

    assert subscribe(node, publisher)["mirroredCount"] == 2

    shown = node.rows(publisher.source)[HOSTILE_SLUG]["name"]
    assert shown.startswith("Tool") and all(character.isprintable() for character in shown)


def test_endless_texts_are_cut(node: Node, publisher: Publisher, beside: Beside) -> None:
    allow_unsigned(node, publisher)
    publisher.listings = beside(
        edit=lambda entry: {
            **entry,
            "signature": None,
            "name": "n" * 10_000,
            "short_description": "d" * 100_000,
            "tags": ["t" * 1000] + [f"tag{number}" for number in range(1000)],
            "icons": {"1x": "https://a.example/" + "i" * 10_000},
        }
    )

    assert subscribe(node, publisher)["mirroredCount"] == 2

    row = node.rows(publisher.source)[HOSTILE_SLUG]
    assert (len(row["name"]), len(row["description"])) == (200, 2000)
    assert len(row["tags"]) <= 32 and max(map(len, row["tags"])) <= 64
    assert row["icons"] == {}


def test_an_icon_is_an_address_on_the_web_and_is_never_fetched(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    with Publisher() as elsewhere:
        icons = {"1x": "javascript:alert(1)", "2x": "data:text/html,x", "svg": f"{elsewhere.url}/icon.svg"}
        publisher.listings = beside(edit=lambda entry: entry | {"icons": icons})

        subscribe(node, publisher)

        assert node.rows(publisher.source)[HOSTILE_SLUG]["icons"] == {"svg": f"{elsewhere.url}/icon.svg"}
        assert elsewhere.connections == 0


def test_dependencies_that_a_plugin_names_are_not_fetched(node: Node, publisher: Publisher, beside: Beside) -> None:
    with Publisher() as elsewhere:
        extra: dict[str, Any] = {
            "requires_plugins": [f"{elsewhere.url}/dependency.zip"],
            "download_link": f"{elsewhere.url}/a.zip",
            "package": f"{elsewhere.url}/b.zip",
        }
        publisher.listings = beside(edit=lambda entry: entry | extra)

        assert subscribe(node, publisher)["mirroredCount"] == 2

        assert elsewhere.connections == 0


def test_sql_in_every_text_is_text(node: Node, publisher: Publisher, beside: Beside) -> None:
    evil = "'); DROP TABLE sources; --"
    allow_unsigned(node, publisher)
    publisher.listings = beside(
        edit=lambda entry: {**entry, "signature": None, "name": evil, "short_description": evil, "tags": [evil]}
    )

    subscribe(node, publisher)

    row = node.rows(publisher.source)[HOSTILE_SLUG]
    assert (row["name"], row["description"], row["tags"]) == (evil, evil, [evil])
    assert node.get("plugins", q=evil).status == node.get("sources", q=evil).status == 200


def test_a_username_with_a_quote_is_a_name_like_others(node: Node) -> None:
    with Publisher(author="o'brien") as publisher:
        register(node, publisher)

        assert verify(node, publisher)["success"]
        assert subscribe(node, publisher)["mirroredCount"] == 1

        assert node.download(publisher.source, HONEST_SLUG).status == 200


@pytest.mark.parametrize(
    "username",
    ["a/b", "a@b", "a b", "a\nb", "\u2028", "a" * 65, ""],
    ids=["a slash", "an at sign", "a space", "a line break", "a line separator", "65 characters", "nothing"],
)
def test_a_username_is_refused_that_has(node: Node, publisher: Publisher, username: str) -> None:
    body = {"instance_url": publisher.url, "username": username, "public_key": "x" * 44}

    assert node.post("add-source", body).status == 400


def test_an_answer_over_the_limit_to_the_first_question_is_given_up(node: Node, publisher: Publisher) -> None:
    publisher.answers["/federation-info"] = always(answer(200, b'{"x": "' + b"a" * 2**20 + b'"}'))

    said = verify(node, publisher)

    assert said["success"] is False
