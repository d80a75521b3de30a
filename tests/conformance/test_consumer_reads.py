"""Hostile and mistaken clients: odd ranges and conditions, searches that are more than words, made-up cursors."""

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conformance.hostile_publisher import HONEST_SLUG, Listing, Publisher, digest, plugin_zip, subscribe
from tests.conformance.node_process import Node
from tests.conformance.wire import Answer


@dataclass(frozen=True)
class Held:
    """One release that the node holds."""

    node: Node
    source: str
    zip: bytes

    @property
    def etag(self) -> str:
        return f'"{digest(self.zip)}"'

    def get(self, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.node.get("download", headers=named, sourceId=self.source, plugin=HONEST_SLUG)


@pytest.fixture(scope="module")
def held(node: Node) -> Iterator[Held]:
    with Publisher(listings=[Listing(HONEST_SLUG, zip=plugin_zip(HONEST_SLUG, "1.0", "x" * 3000))]) as publisher:
        subscribe(node, publisher)
        yield Held(node, publisher.source, publisher.zip_of(HONEST_SLUG))


def test_a_download_says_which_bytes_it_is(held: Held) -> None:
    served = held.get()

    assert (served.status, served.body) == (200, held.zip)
    assert served.headers["etag"] == held.etag
    assert served.headers["content-disposition"].startswith("attachment")
    assert served.headers["content-type"] == "application/zip"
    assert served.headers["content-security-policy"] == "sandbox"
    assert served.headers["pfn-assurance"] == "A1"
    assert hashlib.sha256(served.body).hexdigest() == held.etag.strip('"')


def test_a_head_has_the_headers_and_no_byte(held: Held) -> None:
    served = held.node.head("download", sourceId=held.source, plugin=HONEST_SLUG)

    assert (served.status, served.body) == (200, b"")
    assert served.headers["content-length"] == str(len(held.zip))
    assert served.headers["etag"] == held.etag


@pytest.mark.parametrize(
    ("range_", "expected"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=10-", slice(10, None)),
        ("bytes=-10", slice(-10, None)),
        ("bytes=0-999999999", slice(0, None)),
        ("bytes=-999999999", slice(0, None)),
    ],
    ids=["the first ten", "from the tenth on", "the last ten", "more than there is", "more than there is, from behind"],
)
def test_a_part_is_exactly_what_was_asked_for(held: Held, range_: str, expected: slice) -> None:
    part = held.get(Range=range_)

    assert (part.status, part.body) == (206, held.zip[expected])
    assert part.headers["content-length"] == str(len(part.body))
    assert part.headers["content-range"].endswith(f"/{len(held.zip)}")


@pytest.mark.parametrize("range_", ["bytes=99999-", "bytes=-0"], ids=["behind the end", "the last nothing"])
def test_a_part_that_is_not_there_is_416(held: Held, range_: str) -> None:
    refused = held.get(Range=range_)

    assert refused.status == 416
    assert refused.headers["content-range"] == f"bytes */{len(held.zip)}"


@pytest.mark.parametrize(
    "range_",
    ["bytes=9-0", "bytes=a-b", "lines=0-9", "bytes=", "bytes=0-9," + "0-9," * 1000, "bytes=0-" + "9" * 4000],
    ids=["backwards", "letters", "lines", "nothing", "a thousand at once", "four thousand digits"],
)
def test_a_range_that_means_nothing_gives_the_whole_or_a_refusal(held: Held, range_: str) -> None:
    answered = held.get(Range=range_)

    assert answered.status in (200, 206, 400, 416)
    assert answered.status != 200 or answered.body == held.zip
    assert answered.status != 206 or held.zip.startswith(answered.body)
    assert len(answered.body) <= len(held.zip)


def test_who_has_it_gets_nothing_again(held: Held) -> None:
    for tag in (held.etag, "*", f'"x", {held.etag}', f"W/{held.etag}"):
        same = held.get(If_None_Match=tag)
        assert (same.status, same.body) == (304, b""), tag


def test_who_has_something_else_gets_it(held: Held) -> None:
    assert held.get(If_None_Match='"' + "0" * 64 + '"').status == 200


def test_the_rest_of_other_bytes_is_not_given(held: Held) -> None:
    """If-Range of another file: a client would glue two files together."""
    mixed = held.get(Range="bytes=10-", If_Range='"' + "0" * 64 + '"')

    assert (mixed.status, mixed.body) == (200, held.zip)


def test_a_download_is_not_packed_again(held: Held) -> None:
    served = held.get(Accept_Encoding="gzip, br")

    assert "content-encoding" not in served.headers
    assert served.body == held.zip


def test_an_unknown_version_is_not_found_and_none_is_guessed(held: Held) -> None:
    for version in ("9.9", "1", "1.0.0", "01.0", "latest"):
        assert held.node.download(held.source, HONEST_SLUG, version).status == 404, version


@pytest.mark.parametrize(
    "query",
    [
        {"plugin": HONEST_SLUG},
        {"sourceId": "x"},
        {"sourceId": "a@b.example", "plugin": "../../etc/passwd"},
        {"sourceId": "a@b.example", "plugin": "Upper"},
        {"sourceId": "a@b.example", "plugin": "a", "version": "../1"},
        {"sourceId": "a" * 1000, "plugin": "a"},
        {"sourceId": "", "plugin": "a"},
    ],
    ids=["no source", "no plugin", "climbing", "capitals", "a climbing version", "a long source", "an empty source"],
)
def test_a_download_is_a_400_with(node: Node, query: dict[str, Any]) -> None:
    assert node.get("download", **query).status == 400


@pytest.mark.parametrize(
    "source",
    ["a@b.example' OR 1=1 --", "%@%", "_@_", "a@b\0", "*"],
    ids=["SQL", "percent", "underscore", "NUL", "star"],
)
def test_a_pattern_is_no_source(held: Held, source: str) -> None:
    assert held.node.download(source, HONEST_SLUG).status in (400, 404)
    assert held.node.get("plugins", source=source).json.get("plugins", []) == []


@pytest.mark.parametrize(
    "q",
    [
        '"', "a AND", "n:", "*", "NEAR(", "col:x", "name:tool", "^", "a OR OR b", "NOT", "(((", "-",
        "'; DROP TABLE x;--", "\0", "\U0001f600", "%", "{a b}", "a" * 200, "\u202e", '"a" NEAR/5 "b"',
    ],
    ids=repr,
)  # fmt: skip
def test_a_search_is_words_and_nothing_else(held: Held, q: str) -> None:
    answered = held.node.get("plugins", q=q)

    assert answered.status == 200, answered.body
    assert isinstance(answered.json["plugins"], list)


def test_a_search_over_its_limit_is_a_400(node: Node) -> None:
    assert node.get("plugins", q="a" * 201).status == 400


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "WyJ1cGRhdGVkIl0",
        "WyJuYW1lIiwgIicgT1IgMT0xIl0",
        "W" * 2000,
        "eyJhIjoxfQ",
        "WyJ1cGRhdGVkIiwgMSwgMiwgMywgNF0",
    ],
    ids=["a letter", "a list of one", "SQL", "two thousand letters", "an object", "numbers"],
)
def test_a_cursor_that_was_not_given_out_is_refused(node: Node, cursor: str) -> None:
    assert node.get("plugins", cursor=cursor).status in (400, 404)


def test_a_cursor_of_one_order_is_none_of_another(held: Held) -> None:
    with Publisher(listings=[Listing(f"tool-{n}") for n in range(3)]) as publisher:
        subscribe(held.node, publisher)
        given = held.node.get("plugins", limit=1, sort="name").json["next"]

    assert held.node.get("plugins", cursor=given, sort="updated").status in (400, 404)
    assert held.node.get("plugins", cursor=given[:-2] + "AA", sort="name").status in (200, 400, 404)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "-1"),
        ("limit", "101"),
        ("limit", "1e3"),
        ("limit", "\u0661"),
        ("limit", "9" * 100),
        ("sort", "name; DROP TABLE x"),
        ("min_assurance", "A9"),
        ("min_assurance", "A0' OR 1"),
        ("type", "virus"),
    ],
)
def test_a_parameter_is_a_400_that_is_out_of_its_bounds(node: Node, name: str, value: str) -> None:
    query: dict[str, Any] = {name: value}

    assert node.get("plugins", **query).status == 400


def test_a_query_of_a_thousand_fields_is_refused(node: Node) -> None:
    target = "/federation/plugins?" + "&".join(f"a{n}=1" for n in range(1000))

    assert node.ask("GET", target).status in (400, 414)


def test_a_query_that_is_no_utf_8_is_refused(node: Node) -> None:
    assert node.ask("GET", "/federation/plugins?q=%ff%fe").status == 400


def test_an_artifact_is_named_by_its_digest_and_nothing_else(held: Held) -> None:
    sha256 = digest(held.zip)
    assert held.node.artifact(sha256).body == held.zip
    for name in (sha256.upper(), sha256[:-1], sha256 + "0", "0" * 64, "..%2fnode.key", sha256 + ".zip"):
        assert held.node.artifact(name).status in (400, 404), name


@pytest.mark.parametrize(
    ("kind", "zip_"),
    [
        ("a zip that nobody knows", plugin_zip("stranger", "1.0")),
        ("no zip", b"hello"),
        ("a bomb", b"PK\3\4" + gzip.compress(bytes(10**6))),
    ],
    ids=["a zip that nobody knows", "no zip", "a bomb"],
)
def test_a_zip_is_not_called_genuine_that_is(node: Node, kind: str, zip_: bytes) -> None:
    said = node.ask("POST", "/federation/verify", headers={"Content-Type": "application/zip"}, body=zip_)

    assert said.status == 200
    assert (said.json["valid"], said.json["source_id"]) == (False, None)
    assert said.json["assurance"]["covers_bytes"] is False
    assert node.artifact(digest(zip_)).status == 404  # and it is not kept


def test_a_genuine_zip_with_one_bit_changed_is_not_called_genuine(held: Held) -> None:
    changed = held.zip[:-1] + bytes([held.zip[-1] ^ 1])
    true = held.node.ask("POST", "/federation/verify", body=held.zip).json
    false = held.node.ask("POST", "/federation/verify", body=changed).json

    assert (true["valid"], false["valid"]) == (True, False)


@pytest.mark.parametrize(
    "release",
    ["", "AAAA", "not base64", "A" * 10_000, "lQGtcGZuL3JlbGVhc2UvMsQg" + "A" * 200],
    ids=["nothing", "four letters", "no base64", "ten thousand letters", "an envelope of zeros"],
)
def test_a_statement_is_refused_that_is(node: Node, release: str) -> None:
    assert node.post("releases", {"release_v2": release}, key="").status in (400, 403, 422)


def test_a_download_by_nobody_does_not_fill_the_disk_for_ever(held: Held) -> None:
    """What nobody with a key asked for is never fetched for a release that nobody knows."""
    before = held.node.get("health").json["artifacts"]
    for number in range(20):
        held.node.download(f"nobody@host{number}.example", HONEST_SLUG)

    assert held.node.get("health").json["artifacts"] == before
