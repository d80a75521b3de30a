"""Hostile input on every route that the app has: always 4xx with a sentence, never 5xx, never a word of our insides."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.web_node import MASTER_KEY, Got, WebNode, web_node

BODIES: dict[str, bytes] = {
    "not JSON": b"nope",
    "empty": b"",
    "null": b"null",
    "an array": b"[]",
    "an array of objects": b'[{"sourceId":"x"}]',
    "a number": b"7",
    "a text": b'"text"',
    "true": b"true",
    "NaN": b"NaN",
    "half an object": b'{"sourceId":',
    "bytes after it": b"{} {}",
    "wrong UTF-8": b'{"sourceId":"\xff\xfe"}',
    "UTF-16": '{"sourceId":"x"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a lone surrogate": b'{"sourceId":"\\ud800","id":"\\ud800","slug":"\\ud800","url":"\\ud800"}',
    "very deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "a huge number": b'{"expires_in_days":' + b"9" * 400 + b"}",
    "ten megabytes": b'{"description":"' + b"x" * (10 * 2**20) + b'"}',
    "zeros": bytes(1000),
}
WRONG_VALUES: tuple[object, ...] = (
    None,
    True,
    7,
    -1,
    1.5,
    2**70,
    "",
    "x" * 100_000,
    [],
    {},
    [[]],
    {"a": {}},
    "\x00",
    "../..",
)
# Sent as raw JSON to fields one at a time; the fields are those of every body of the API.
FIELDS = (
    "sourceId",
    "source_id",
    "instance_url",
    "username",
    "public_key",
    "description",
    "scopes",
    "expires_in_days",
    "overlap_hours",
    "id",
    "filters",
    "purge",
    "allow_unsigned",
    "slug",
    "action",
    "url",
    "node_id",
    "release_v2",
    "keybind_v2",
    "artifact_url",
    "notices_v2",
    "plugin",
    "version",
    "reason",
    "withdrawn",
    "advisory_id",
    "severity",
    "summary",
    "ranges",
    "aliases",
    "events",
    "tag",
)
# What may be sent with any body: the mesh's envelopes are its own business, any bytes may be asked about, a session is
# begun with what a header says, and Composer and WordPress send forms (test_composer.py, test_wordpress.py).
FORMS = ("/composer/security-advisories", "/plugins/info/1.2/", "/plugins/update-check/1.1/")
NOT_JSON = ("/node/v1/gossip", "/federation/verify", "/session", *FORMS)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        await made.add_release(b"zip")
        yield made


def routes_of(node: WebNode, method: str, *, forms: bool = True) -> Iterator[str]:
    """The path of every rule that takes the method, with its parts filled in; but for streams, which never end."""
    for rule in node.app.url_map.iter_rules():
        if rule.rule in ("/federation/events", "/mesh/live") or (rule.endpoint.startswith("form ") and not forms):
            continue
        if method in (rule.methods or ()):
            path = rule.rule.replace("<sha256>", "0" * 64).replace("<source_id>", "a@b").replace("<plugin_id>", "c")
            yield path if "<any(" not in path else "/node/v1/gossip"


def key_for(node: WebNode, path: str) -> str:
    return MASTER_KEY if path.endswith("create-admin-key") else node.key


def must_be_a_clear_refusal(got: Got, what: object) -> None:
    assert 400 <= got.status < 500, (what, got.status, got.body)
    assert got.sentence


@pytest.mark.parametrize("name", BODIES)
async def test_a_hostile_body_is_refused_on_every_route(node: WebNode, name: str) -> None:
    asked = [path for path in routes_of(node, "POST", forms=False) if path not in NOT_JSON]
    assert len(asked) == 21

    for path in asked:
        got = await node.post(path, data=BODIES[name], key=key_for(node, path))

        if path.endswith("create-admin-key") and name in ("a lone surrogate",):
            continue  # it has none of those fields: unknown ones are ignored
        must_be_a_clear_refusal(got, (path, name))
        assert got.status == (413 if name == "ten megabytes" else 400)


async def test_a_wrong_value_in_any_field_of_any_body_never_breaks_anything(node: WebNode) -> None:
    for path in routes_of(node, "POST", forms=False):  # those: tests/fuzz
        if path in NOT_JSON:
            continue
        for field in FIELDS:
            for value in WRONG_VALUES:
                got = await node.post(path, {field: value}, key=key_for(node, path))

                assert got.status < 500, (path, field, value, got.body)
                if got.status >= 400:
                    assert got.sentence


async def test_a_body_without_any_field_is_refused_where_one_is_needed(node: WebNode) -> None:
    for path in routes_of(node, "POST", forms=False):  # those: tests/fuzz
        if path in NOT_JSON or path.endswith("create-admin-key"):
            continue

        must_be_a_clear_refusal(await node.post(path, {}, key=key_for(node, path)), path)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "BREW"])
async def test_a_wrong_method_is_405_on_every_route(node: WebNode, method: str) -> None:
    right = {*routes_of(node, method), "/plugins/update-check/1.1/"}  # a plugin's page may have that path
    for path in {*routes_of(node, "GET"), *routes_of(node, "POST")} - right:
        got = await node.call(method, path)

        must_be_a_clear_refusal(got, (method, path))
        assert got.status == 405 and "OPTIONS" in got.headers["Allow"]


async def test_head_and_options_work_on_every_route(node: WebNode) -> None:
    for path in routes_of(node, "GET"):
        plain, head, options = [await node.call(method, path) for method in ("GET", "HEAD", "OPTIONS")]

        assert (head.status, options.status) == (plain.status, 200)
        assert "GET" in options.headers["Allow"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=" + "9" * 400,
        "a" * 10_000,
        "%",
        "%zz",
        "%ff=%fe",
        "limit=1&limit=2",
        "=&=&=",
        "&" * 200,
        "sourceId[]=1",
        "q=%00",
    ],
)
async def test_a_hostile_query_never_breaks_anything(node: WebNode, query: str) -> None:
    for path in routes_of(node, "GET"):
        got = await node.read(f"{path}?{query}")

        assert got.status < 500, (path, query, got.body)
        if got.status >= 400:
            assert got.sentence


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "-1"},
        {"Content-Length": "many"},
        {"Content-Type": "multipart/form-data; boundary=" + "x" * 500},
        {"Content-Type": "application/json; charset=utf-7"},
        {"Content-Encoding": "gzip"},
        {"Authorization": "Bearer " + "é" * 100},
        {"Authorization": "Bearer \x00"},
        {"X-Forwarded-For": "," * 1000},
        {"Range": "bytes=--1"},
        {"If-None-Match": '"' * 500},
        {"Last-Event-ID": "-1"},
    ],
)
async def test_hostile_headers_never_break_anything(node: WebNode, headers: dict[str, str]) -> None:
    for path in routes_of(node, "POST", forms=False):  # those: tests/fuzz
        got = await node.call("POST", path, data=b"{}", headers=headers)

        assert got.status < 500, (path, headers, got.body)
    for path in routes_of(node, "GET"):
        assert (await node.call("GET", path, headers=headers)).status < 500


async def test_an_unauthenticated_caller_learns_nothing_of_the_input_rules(node: WebNode) -> None:
    protected = 0
    for path in routes_of(node, "POST", forms=False):  # those: tests/fuzz
        got = await node.call("POST", path, data=b"nope")
        protected += got.status == 401

    assert protected == 19


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"tags": [value]}
    return value


async def test_json_that_is_too_deep_in_a_known_field_is_refused(node: WebNode) -> None:
    sent = json.dumps({"sourceId": "bilbo@publisher.test", "filters": deep(100)}).encode()

    must_be_a_clear_refusal(await node.post("/federation/subscribe", data=sent), "deep")


@pytest.mark.parametrize(
    ("days", "status"), [(30, 200), (30.0, 200), (30.5, 400), ("30", 400), (True, 400), (1e300, 400)]
)
async def test_a_whole_number_of_json_is_one_however_it_is_written(node: WebNode, days: object, status: int) -> None:
    got = await node.post("/federation/create-admin-key", {"expires_in_days": days}, key=MASTER_KEY)

    assert got.status == status


@pytest.mark.parametrize(
    ("limit", "status"), [("5", 200), ("5.0", 200), ("5.5", 400), ("5.", 400), ("+5", 400), ("5e0", 400)]
)
async def test_a_whole_number_in_a_query_is_written_plainly(node: WebNode, limit: str, status: int) -> None:
    assert (await node.get(f"/federation/plugins?limit={limit}")).status == status
