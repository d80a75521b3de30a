"""Reading a publisher's answers as if it wanted to hurt us."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfn_node.sources.outcomes import PublisherFailed
from pfn_node.sources.publisher_answers import (
    AuthorData,
    clean_text,
    parse_author_data,
    parse_federation_info,
    parse_plugin_data,
    parse_proof,
)
from pfn_protocol.publisher import metadata_message

GOOD = {"slug": "alpha", "name": "Alpha", "version": "1.0", "short_description": "Does it."}
SIGNATURE = base64.b64encode(bytes(64)).decode()


def listed(*plugins: object, plugins_max: int = 500, **members: Any) -> AuthorData:
    return parse_author_data(json.dumps({"plugins": plugins, **members}).encode(), plugins_max=plugins_max)


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'"x"', b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"1" * 10_000, b"\xed\xa0\x80"],
    ids=["empty", "null", "list", "text", "cut", "utf16", "nested lists", "nested", "long number", "surrogate"],
)
def test_what_is_no_json_object_is_a_failure_with_a_sentence(body: bytes) -> None:
    with pytest.raises(PublisherFailed, match=r"author-data is not"):
        parse_author_data(body, plugins_max=5)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda more: (
            st.lists(more)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "slug",
                        "name",
                        "version",
                        "tags",
                        "signature",
                        "icons",
                        "short_description",
                        "plugins",
                        "release_v2",
                    ]
                ),
                more,
            )
        ),
    )
)
def test_no_json_breaks_the_reading(value: object) -> None:
    for body in (json.dumps(value), json.dumps({"plugins": value}), json.dumps({"plugins": [value]})):
        try:
            parse_author_data(body.encode(), plugins_max=5)
        except PublisherFailed:
            pass


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"tag1": "utilities", "tag2": "admin"}, ("utilities", "admin")),
        (["garden", "art", "garden"], ("garden", "art")),
        ({}, ()),
        (None, ()),
        ("x", ()),
        ([1, None, " ", "a\x00b", {"x": 1}], (" ", "a b")),
        ([f"t{n}" for n in range(100)], tuple(f"t{n}" for n in range(32))),
    ],
)
def test_tags_come_as_an_object_as_a_list_or_not_at_all(tags: object, expected: tuple[str, ...]) -> None:
    assert listed({**GOOD, "tags": tags}).entries[0].tags == expected


def test_a_bad_entry_is_left_out_with_a_reason_and_spoils_nothing() -> None:
    data = listed(
        None,
        GOOD,
        {**GOOD, "slug": "../../etc"},
        {**GOOD, "slug": "beta", "version": "1 0"},
        {**GOOD, "slug": "gamma", "version": 2},
        {**GOOD, "slug": "delta", "name": "  "},
        {"name": "no slug", "version": "1"},
        GOOD,
    )

    assert [entry.slug for entry in data.entries] == ["alpha"]
    reasons = {entry.slug: entry.reason for entry in data.skipped}
    assert reasons["#1"] == "the entry is not a JSON object"
    assert reasons["../../etc"].startswith("a slug is")
    assert reasons["beta"].startswith("a version is")
    assert reasons["gamma"] == "slug and version must both be given, as text"
    assert reasons["delta"] == "it has no name"
    assert reasons["alpha"] == "the publisher lists it twice; its first entry counts"
    assert "#7" in reasons


def test_a_list_without_end_is_cut_and_says_so() -> None:
    data = listed(*({**GOOD, "slug": f"s{n}"} for n in range(9)), plugins_max=4)

    assert len(data.entries) == 4
    assert data.skipped[-1].reason == "5 more than the 4 that are taken"


def test_plugins_that_are_no_list_are_a_failure_and_none_at_all_are_none() -> None:
    assert parse_author_data(b"{}", plugins_max=5).entries == ()
    with pytest.raises(PublisherFailed, match="no list of plugins"):
        parse_author_data(b'{"plugins": {"a": 1}}', plugins_max=5)


def test_a_list_of_themes_is_a_list() -> None:
    data = parse_author_data(json.dumps({"themes": [{**GOOD, "type": "theme"}]}).encode(), plugins_max=5)

    assert [(entry.slug, entry.type) for entry in data.entries] == [("alpha", "theme")]


def test_the_signed_message_is_made_from_the_fields_as_given() -> None:
    name = "Bilbo's \x00 Garden \ud800"
    entry = listed({**GOOD, "name": name, "short_description": "a\nb"}).entries[0]

    assert entry.metadata == metadata_message("alpha", name, "1.0", "a\nb")
    assert (entry.name, entry.description, entry.rebuildable) == ("Bilbo's   Garden  ", "a\nb", False)


def test_a_missing_description_is_left_out_of_the_message_and_a_wrong_one_makes_it_impossible() -> None:
    without = {name: value for name, value in GOOD.items() if name != "short_description"}

    assert listed(without).entries[0].metadata == metadata_message("alpha", "Alpha", "1.0", None)
    assert listed({**GOOD, "short_description": 5}).entries[0].metadata is None
    assert listed({**GOOD, "short_description": "x" * 70_000}).entries[0].metadata is None


@pytest.mark.parametrize("given", ["not base64!", base64.b64encode(b"short").decode(), 5, ["x"], "A" * 10_000, "é"])
@pytest.mark.parametrize("member", ["signature", "release_v2", "keybind_v2", "head_v2", "signature_sha384"])
def test_a_signature_that_is_none_is_a_problem_not_an_absence(member: str, given: object) -> None:
    entry = listed({**GOOD, member: given}).entries[0]

    if member in ("release_v2", "keybind_v2", "head_v2") and given == base64.b64encode(b"short").decode():
        assert entry.problem is None
    else:
        assert entry.problem is not None and member in entry.problem


@pytest.mark.parametrize("given", [None, ""])
def test_an_empty_signature_is_no_signature(given: object) -> None:
    entry = listed({**GOOD, "signature": given}).entries[0]

    assert (entry.signature, entry.problem) == (None, None)


def test_icons_are_a_few_web_addresses() -> None:
    icons = {"1x": "https://a.test/1.png", "2x": "javascript:alert(1)", "svg": 5, "3x": "https://a.test/\x01"}

    assert listed({**GOOD, "icons": icons}).entries[0].icons == {"1x": "https://a.test/1.png"}
    assert listed({**GOOD, "icons": ["x"]}).entries[0].icons == {}


def test_author_info_is_bounded_text() -> None:
    author = listed(username="ann\x1b", website="https://x.test/" + "y" * 999, github=5).author

    assert (author.username, author.github, author.member_since) == ("ann ", None, None)
    assert author.website is not None and len(author.website) == 300


def info(assets: object) -> tuple[str | None, str | None, str | None]:
    found = parse_federation_info(json.dumps({"assetInfo": assets, "features": ["a", 5]}).encode())
    return found.asset_domain, found.asset_naming_scheme, found.asset_problem


def test_federation_info_says_where_the_zips_are() -> None:
    assert info({"domain": "https://a.test", "namingScheme": "author/slug/slug.zip"}) == (
        "https://a.test",
        "author/slug/slug.zip",
        None,
    )


@pytest.mark.parametrize(
    "assets",
    [
        None,
        5,
        {},
        {"domain": "https://a.test"},
        {"domain": 5, "namingScheme": "slug.zip"},
        {"domain": "https://a.test", "namingScheme": "https://evil.test/slug.zip"},
        {"domain": "https://a.test", "namingScheme": "//evil.test/slug.zip"},
        {"domain": "https://a.test", "namingScheme": "../slug.zip"},
        {"domain": "https://user:pw@a.test", "namingScheme": "slug.zip"},
        {"domain": "ftp://a.test", "namingScheme": "slug.zip"},
    ],
)
def test_asset_info_that_leads_elsewhere_is_not_taken(assets: object) -> None:
    domain, scheme, problem = info(assets)

    assert (domain, scheme) == (None, None)
    assert problem


@pytest.mark.parametrize("body", [b"nope", b"[]", b"{}", b'{"signature": 5}', b'{"signature": "AAAA"}'])
def test_a_proof_without_a_signature_is_none(body: bytes) -> None:
    assert parse_proof(body) is None


def test_a_proof_is_64_bytes() -> None:
    assert parse_proof(json.dumps({"signature": SIGNATURE}).encode()) == bytes(64)


def test_plugin_data_keeps_the_text_that_was_signed() -> None:
    data = parse_plugin_data(
        b'{"x": 1, "data": [ {"slug":"alpha",  "version" : "1.0"} ], "signature": "%s"}' % SIGNATURE.encode()
    )

    assert data.text == b'[ {"slug":"alpha",  "version" : "1.0"} ]'
    assert (data.slug, data.version, data.signature, data.problem) == ("alpha", "1.0", bytes(64), None)


@pytest.mark.parametrize("data", ["[]", "5", "null", '["x"]', '{"slug": 5}'])
def test_plugin_data_of_any_shape_names_no_plugin(data: str) -> None:
    found = parse_plugin_data(f'{{"data": {data}, "signature": "zz"}}'.encode())

    assert (found.slug, found.version, found.signature) == (None, None, None)
    assert found.problem == "its signature is not base64 of 64 bytes"


@pytest.mark.parametrize("body", [b"{}", b'{"data": 1, "data": 2}', b"[]", b"\xff"])
def test_plugin_data_without_exactly_one_data_is_a_failure(body: bytes) -> None:
    with pytest.raises(PublisherFailed):
        parse_plugin_data(body)


def test_text_is_cleaned_only_where_it_has_to_be() -> None:
    assert clean_text("Bilbo's “plants” & <b>more</b> 🌱", 200) == "Bilbo's “plants” & <b>more</b> 🌱"
    assert clean_text("a\r\nb\tc", 200) == "a b c"
    assert clean_text("a\r\nb\tc\x7f", 200, lines=True) == "a\r\nb\tc "
    assert clean_text("x" * 300, 200) == "x" * 200
