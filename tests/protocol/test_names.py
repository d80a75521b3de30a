"""Names, beyond the vectors: one spelling stays one spelling, and a filled-in address stays below its domain."""

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfn_protocol.errors import Refusal
from pfn_protocol.limits import url_chars_max
from pfn_protocol.names import check_source_id, host_of, parse_asset_url, parse_instance_url, source_id_of

URL_PIECES = st.sampled_from(
    [
        "http://",
        "HTTPS://",
        "https://",
        "a",
        "B.example",
        "ü.example",
        ":80",
        ":443",
        ":8080",
        "[::1]",
        "127.0.0.1",
        "1",
        "/",
        "//",
        "/x",
        "/%41",
        "..",
        "%2e",
        "@",
        "?",
        "#",
        ".",
        "é",
        "\\",
        "\t",
    ]
)
TEXTS = st.text(max_size=20)


@settings(derandomize=True, max_examples=1_000)
@given(st.lists(URL_PIECES, max_size=7).map("".join))
def test_the_one_spelling_of_a_url_is_its_own_spelling(text: str) -> None:
    try:
        url = parse_instance_url(text, allow_http=True)
    except Refusal:
        return

    assert parse_instance_url(url, allow_http=True) == url
    assert url.isascii()
    assert urlsplit(url).netloc == host_of(url)
    check_source_id(source_id_of(url, "bilbo"))


@settings(derandomize=True, max_examples=500)
@given(
    st.lists(st.sampled_from(["author", "slug", "version", "/", ".", "..", "-", "_", "%", ":", "\\"]), max_size=8).map(
        "".join
    ),
    TEXTS,
)
def test_an_address_stays_below_its_domain_whatever_is_filled_in(scheme: str, author: str) -> None:
    try:
        url = parse_asset_url("https://assets.example/files", scheme, author, "hello", "1.0")
    except Refusal:
        return

    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("https", "assets.example", "", "")
    assert parts.path.startswith("/files/")
    assert ".." not in parts.path.split("/")
    assert "\\" not in unquote(parts.path) or "\\" in author


def test_a_url_is_too_long_as_it_came_whatever_would_become_of_it() -> None:
    with pytest.raises(Refusal, match="at most"):
        parse_instance_url("https://a.example" + "/" * url_chars_max, allow_http=True)
