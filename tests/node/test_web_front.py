"""What is ready is answered before routing: only to plain requests, and with all that a gate does."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import urlencode

import pytest
import trio
import trio.testing

from pfn_node.store import registry
from pfn_node.web.app import SUBJECTS
from pfn_node.web.front import FIELDS_MAX, HEAD_BYTES_MAX, read_plain
from pfn_node.web.ready_answers import Heads, ReadyAnswer, ReadyAnswers
from tests.node.plain_requests import front, head, made, parts
from tests.node.serving import read_answer, read_to_end, serving
from tests.node.web_node import BILBO, NOW, WebNode, web_node
from tests.node.wordpress_site import FILE, installed

SOURCES = "/federation/sources"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path, requests_per_minute=5) as made:
        yield made


async def test_another_host_is_turned_away_as_ever(node: WebNode) -> None:
    await node.get(SOURCES)

    assert front(node, head(SOURCES, host="evil.test")) is None
    assert front(node, head(SOURCES, host="127.0.0.1")) is not None


async def test_ready_answers_count_against_the_rate_of_an_address(node: WebNode) -> None:
    await node.get(SOURCES)
    stranger = "192.0.2.7"
    answered = [front(node, head(SOURCES), stranger) is not None for _ in range(7)]

    assert answered == [True] * 5 + [False] * 2
    assert front(node, head(SOURCES), "192.0.2.8") is not None


async def test_ready_answers_are_counted(node: WebNode) -> None:
    tag = (await node.get(SOURCES)).headers["ETag"]
    for _ in range(3):
        front(node, head(SOURCES))
    front(node, head(SOURCES, f"If-None-Match: {tag}"))

    figures = (await node.get("/metrics")).body.decode()

    assert 'pfn_http_requests_total{method="GET",route="/federation/sources",status="200"} 4.0' in figures
    assert 'pfn_http_requests_total{method="GET",route="/federation/sources",status="304"} 1.0' in figures
    assert 'pfn_http_request_seconds_count{route="/federation/sources"} 5.0' in figures


SPECIAL = {
    "a key": head("/", "Authorization: Bearer x"),
    "a session": head("/", "Cookie: __Host-session=x"),
    "a range": head("/", "Range: bytes=0-1"),
    "a body": head("/", "Content-Length: 1"),
    "chunks": head("/", "Transfer-Encoding: chunked"),
    "an upgrade": head("/", "Upgrade: h2c"),
    "the last one": head("/", "Connection: close"),
    "hop by hop": head("/", "Connection: keep-alive, host"),
    "a field nobody knows": head("/", "X-New: x"),
    "two hosts": head("/", "Host: evil.test"),
    "two conditions": head("/", "If-None-Match: *", "If-None-Match: *"),
    "no host": b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n",
    "a POST without a length": head("/", method="POST"),
    "a POST of no length": head("/", "Content-Length: -1", method="POST"),
    "a POST of two lengths": head("/", "Content-Length: 1", "Content-Length: 1", method="POST"),
    "another method": head("/", "Content-Length: 1", method="PUT"),
    "a method in lower case": head("/", method="get"),
    "HTTP/1.0": head("/").replace(b"1.1", b"1.0"),
    "two requests": head("/") * 2,
    "half a request": head("/")[:-2],
    "more behind it": head("/") + b"x",
    "a folded field": head("/", "Accept: a", " b"),
    "a bare line feed": head("/").replace(b"\r\nHost", b"\nHost"),
    "a name with a space": head("/", "Accept : x"),
    "no name": head("/", ": x"),
    "bytes that are no ASCII": head("/", "Accept: \u00e9"),
    "a whole URL": head("http://node.test/"),
    "a space in the path": head("/a b"),
    "too many fields": head("/", *["Accept: x"] * FIELDS_MAX),
    "a long head": head("/", f"Accept: {'x' * HEAD_BYTES_MAX}"),
}


@pytest.mark.parametrize("special", SPECIAL)
def test_what_is_special_takes_the_usual_way(special: str) -> None:
    assert read_plain(SPECIAL[special]) is None


def test_a_plain_request_is_read() -> None:
    plain = read_plain(
        head(
            "/a?b",
            "X-Forwarded-For: 1.2.3.4",
            "x-forwarded-for:5.6.7.8",
            'if-none-match: "t"',
            "Connection: Keep-Alive",
        )
    )

    assert plain is not None
    assert (plain.method, plain.target, plain.host) == ("GET", "/a?b", "node.test")
    assert (plain.forwarded, plain.known, plain.length) == (("1.2.3.4", "5.6.7.8"), '"t"', 0)


def test_a_hostile_head_takes_no_longer_than_its_length() -> None:
    started = time.perf_counter()
    for _ in range(50):
        assert read_plain(b"GET / HTTP/1.1\r\n" + b"a:\t \t \r\n" * 400 + b"\x00") is None
        assert read_plain(b"GET / HTTP/1.1\r\na" + b" " * 4_000) is None
    assert time.perf_counter() - started < 1


async def test_ready_answers_and_others_share_a_connection(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node, serving(node.app) as server, await server.connect() as stream:
        for asked in (SOURCES, "/healthz", SOURCES, SOURCES, "/nope", SOURCES):
            await stream.send_all(head(asked))
            answer, body = await read_answer(stream)
            assert answer.startswith(b"HTTP/1.1 404" if asked == "/nope" else b"HTTP/1.1 200")
            assert (body == b"[]") == (asked == SOURCES)


async def test_the_usual_way_answers_on_the_wire_as_the_front_does(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node, serving(node.app) as server:
        tag = (await node.get(SOURCES)).headers["ETag"]
        for method, known in (("GET", '"x"'), ("HEAD", '"x"'), ("GET", tag), ("HEAD", tag)):
            asked = (f"If-None-Match: {known}", "Connection: close")
            usual = parts(await server.exchange(head(SOURCES, *asked, "Cookie: a=b", method=method)))
            ready = parts(front(node, head(SOURCES, asked[0], method=method)))
            for _, fields, _ in (usual, ready):
                for name in ("date", "x-request-id", "Connection"):
                    fields.pop(name, None)
            assert usual == ready


async def test_bytes_of_a_request_that_has_begun_are_no_request_of_their_own(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node, serving(node.app) as server, await server.connect() as stream:
        await node.get(SOURCES)
        # The first part of a second request comes with the first one, its rest looks like a whole one.
        await stream.send_all(head("/healthz") + b"GET /nope HTTP/1.1\r\nHost: node.test\r\nX-Rest: ")
        assert b'"ok"' in (await read_answer(stream))[1]
        await stream.send_all(head(SOURCES))
        assert (await read_answer(stream))[0].startswith(b"HTTP/1.1 400")  # one request with two Hosts


async def test_a_request_for_what_is_ready_may_come_in_parts(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node, serving(node.app) as server, await server.connect() as stream:
        await node.get(SOURCES)
        for part in (head(SOURCES)[:9], head(SOURCES)[9:], head(SOURCES) * 2):
            await stream.send_all(part)
        assert [(await read_answer(stream))[1] for _ in range(1)] == [b"[]"]


async def test_ready_answers_count_as_requests_of_their_connection(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node, serving(node.app, keep_alive_requests_max=3) as server:
        await node.get(SOURCES)
        async with await server.connect() as stream:
            heads = []
            for _ in range(4):
                await stream.send_all(head(SOURCES))
                heads.append((await read_answer(stream))[0])
            assert [b"connection: close" in one for one in heads] == [False, False, False, True]
            assert await read_to_end(stream) == b""


async def test_an_idle_connection_ends_after_a_ready_answer_too(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node, serving(node.app, keep_alive_seconds=0.2) as server:
        await node.get(SOURCES)
        assert (await server.exchange(head(SOURCES))).endswith(b"[]")


async def test_a_reader_of_a_ready_answer_who_stalls_is_cut(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node, serving(node.app, write_stall_seconds=0.3) as server:
        large = ReadyAnswer("/", '"x"', Heads(b"HTTP/1.1 200 \r\n", b""), b"x" * 1_000_000, float(NOW))
        node.services.ready.keep("/large", large, node.services.ready.version())
        async with await server.connect(receive_buffer=4_096) as stream:
            with pytest.raises(trio.BrokenResourceError):
                for _ in range(1_000):
                    await stream.send_all(head("/large"))
                    await trio.sleep(0.01)


async def test_shutting_down_waits_for_a_ready_answer(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node, serving(node.app, write_stall_seconds=5) as server:
        large = ReadyAnswer("/", '"x"', Heads(b"HTTP/1.1 200 \r\n", b""), b"x" * 1_000_000, float(NOW))
        node.services.ready.keep("/large", large, node.services.ready.version())
        async with await server.connect(receive_buffer=4_096) as stream:
            await stream.send_all(head("/large"))
            received = await stream.receive_some(100)
            server.shutdown.set()
            assert len(received + await read_to_end(stream)) > 1_000_000


async def test_what_is_not_ready_is_made_as_the_usual_way_makes_it(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node:
        await node.add_bilbo()
        await node.add_release(b"a zip")
        for first, other in MADE:
            assert await made(node, head(other)) is None, "nobody has seen yet how such an answer begins"
            await node.get(first)
            by_front = parts(await made(node, head(other)))
            node.services.ready = ReadyAnswers(node.services.database)
            usual = await node.get(other)

            assert (by_front[0], by_front[2]) == (200, usual.body)
            assert by_front[1]["etag"] == usual.headers["ETag"]
            await node.get(first)


MADE = [
    (SOURCES, f"{SOURCES}?limit=1"),
    ("/federation/plugins", "/federation/plugins?type=plugin&sort=name"),
    (f"/federation/plugins/{BILBO}/hello-signal", f"/federation/plugins/{BILBO.replace('@', '%40')}/hello-signal"),
    (f"/federation/source-status?source_id={BILBO}", "/federation/source-status?source_id=nobody"),
    ("/federation/slugs", "/federation/slugs?slug=x"),
]


def test_every_ready_operation_is_made_in_both_ways() -> None:
    of_front = [operation for subject in SUBJECTS for operation in subject.operations if operation.is_plain]

    assert len([operation for operation in of_front if operation.ready]) == len(MADE)
    assert [operation.path for operation in of_front if not operation.ready] == [CHECK]


@pytest.mark.parametrize(
    "path",
    [
        "/federation/sources?limit=x",
        "/federation/plugins/a/b",
        "/federation/plugins/%ff/b",
        "/federation/nothing",
        "/federation/subscriptions",
        "/federation/search",
        "/federation/plugins/a/b/c",
        "/",
    ],
)
async def test_what_cannot_be_made_is_left_to_the_usual_way(node: WebNode, path: str) -> None:
    await node.get(SOURCES)

    assert await made(node, head(path)) is None


async def test_nothing_is_made_for_who_is_over_the_limit(node: WebNode) -> None:
    await node.get(SOURCES)
    stranger = "192.0.2.7"
    answered = [await made(node, head(f"{SOURCES}?limit={number}"), stranger) is not None for number in range(1, 8)]

    assert answered == [True] * 5 + [False] * 2


async def test_what_the_front_made_is_answered_on_the_wire(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node, serving(node.app) as server, await server.connect() as stream:
        await node.get(SOURCES)
        for asked in (f"{SOURCES}?limit=1", f"{SOURCES}?limit=x", f"{SOURCES}?limit=1"):
            await stream.send_all(head(asked))
            answer, _ = await read_answer(stream)
            assert answer.startswith(b"HTTP/1.1 400" if asked.endswith("x") else b"HTTP/1.1 200")


async def test_what_many_ask_at_once_is_made_once_and_is_of_the_store_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web_node(tmp_path) as node:
        await node.get(SOURCES)
        asked = head(f"{SOURCES}?limit=1")
        listed = Mock(wraps=registry.list_sources)
        monkeypatch.setattr(registry, "list_sources", listed)
        bodies: list[bytes] = []

        async def ask() -> None:
            bodies.append(parts(await made(node, asked))[2])

        for known in (b"[]", BILBO.encode()):
            if known != b"[]":
                await node.add_bilbo()
            bodies.clear()
            listed.reset_mock()
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(ask)
            assert len(bodies) == 5 and all(known in body for body in bodies)
            assert listed.call_count == 1


CHECK = "/plugins/update-check/1.1/"
BODY = urlencode({"plugins": json.dumps({"plugins": {FILE: installed()}}), "locale": "x" * 500}).encode()
POST = head(CHECK, f"Content-Length: {len(BODY)}", "Content-Type: text/plain", method="POST")


async def test_a_post_that_came_whole_is_answered_as_the_usual_way_answers_it(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node, serving(node.app) as server:
        await node.add_bilbo()
        await node.add_release(b"1.1", version="1.1.0")
        assert await made(node, POST + BODY) is None, "nobody has seen yet how such an answer begins"
        special = POST.replace(b"Content-Type", b"Connection: close\r\nX-New")
        usual = parts(await server.exchange(special + BODY))
        by_front = parts(await made(node, POST + BODY))
        for _, fields, _ in (usual, by_front):
            for name in ("date", "x-request-id", "Connection"):
                fields.pop(name, None)

        assert by_front == usual
        assert json.loads(by_front[2])["plugins"][FILE]["new_version"] == "1.1.0"
        assert front(node, POST + BODY) is None, "an answer that is somebody's is not kept"


async def test_a_post_may_come_in_parts(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node, serving(node.app) as server, await server.connect() as stream:
        await node.add_bilbo()
        await node.add_release(b"1.1", version="1.1.0")
        for pieces in ([POST + BODY], [POST, BODY], [POST + BODY[:100], BODY[100:]], [POST + BODY], [head("/healthz")]):
            for piece in pieces:
                await stream.send_all(piece)
                await trio.testing.wait_all_tasks_blocked(0.01)
            answer, body = await read_answer(stream)
            assert answer.startswith(b"HTTP/1.1 200")
            assert (FILE.encode() in body) == (pieces[0] != head("/healthz"))


async def test_a_post_that_is_not_whole_or_not_alone_is_left_to_the_usual_way(node: WebNode) -> None:
    await node.post(CHECK, data=BODY)
    large = BODY + b"x" * node.services.settings.body_bytes_max
    refused = head(CHECK, "Content-Length: 3", method="POST") + b"%ff"
    whole = head(CHECK, f"Content-Length: {len(large)}", method="POST") + large

    assert await made(node, POST + BODY) is not None
    for data in (POST + BODY[:-1], POST + BODY + b"x", POST, whole, refused):
        assert await made(node, data) is None
    for path in ("/federation/plugins", "/federation/slugs"):
        assert await made(node, head(path, "Content-Length: 2", method="POST") + b"{}") is None


async def test_posts_count_against_the_rate_of_an_address(node: WebNode) -> None:
    await node.post(CHECK, data=BODY)
    answered = [await made(node, POST + BODY, "192.0.2.7") is not None for _ in range(7)]

    assert answered == [True] * 5 + [False] * 2


async def test_a_store_that_fails_is_the_matter_of_the_usual_way(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node:
        await node.get(SOURCES)
        node.services.database.close()

        assert front(node, head(SOURCES)) is None
        assert (await node.get(SOURCES)).status >= 500
