"""Attacks on a running server: after each it is still well, and shutting down finds nothing left behind."""

import socket
import struct

import pytest
import trio
import trio.testing
from hypercorn.events import RawData
from structlog.testing import capture_logs

from pfn_node.http1 import Http11
from tests.node.server_app import create_app
from tests.node.serving import FOR_EVER, get, post, read_answer, read_to_end, serving

GET = get("/")
LAST = get("/", close=True)
H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# SETTINGS, then HEADERS for POST / with a body to follow, then DATA: what made stock hypercorn end with a KeyError.
H2_POST = H2_PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x03\x01\x04\x00\x00\x00\x01\x83\x86\x84"
H2_DATA = b"\x00\x00\x05\x00\x00\x00\x00\x00\x01hello"

ATTACKS = {
    "close, with a request behind it": [LAST + GET],
    "close, then more requests": [LAST, GET, GET],
    "HTTP/1.0, then garbage": [b"GET / HTTP/1.0\r\nhost: x\r\n\r\nGARBAGE\x00\xff\r\n\r\n"],
    "an early answer, then garbage": [post("/early", b"", length=5), b"abcdefghij" + GET],
    "a bad chunk": [get("/whole", "transfer-encoding: chunked", method="POST"), b"zz\r\nxx", b"yy"],
    "a bad chunk after a 404": [get("/nope", "transfer-encoding: chunked", method="POST"), b"zz\r\nxx", b"yy"],
    "a path that is not ASCII": [b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n"],
    "CONNECT": [b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n", b"tunnelled"],
    "a query without a path": [b"GET ?x HTTP/1.1\r\nhost: x\r\n\r\n"],
    "HTTP/2 with prior knowledge": [H2_POST, H2_DATA * 500],
    "HTTP/2 junk": [H2_PREFACE + b"\x00\x00\xff\x99" * 500],
    "HTTP/3.0": [b"GET / HTTP/3.0\r\nhost: x\r\n\r\n"],
    "two lengths": [b"POST /whole HTTP/1.1\r\nhost: x\r\ncontent-length: 5, 6\r\n\r\nabcde"],
    "a length and chunks": [
        get("/whole", "content-length: 5", "transfer-encoding: chunked", method="POST") + b"0\r\n\r\n"
    ],
    "a negative length": [get("/whole", "content-length: -1", method="POST")],
    "an enormous length": [get("/whole", "content-length: " + "9" * 5000, method="POST")],
    "a host that is not ASCII": [b"GET / HTTP/1.1\r\nhost: \xff\xfe\r\nconnection: close\r\n\r\n"],
    "a cookie that is not ASCII": [b"GET / HTTP/1.1\r\nhost: x\r\ncookie: \xff=\x80\r\nconnection: close\r\n\r\n"],
    "two hosts": [b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n"],
    "no host": [b"GET / HTTP/1.1\r\n\r\n"],
    "a header that never ends": [b"GET / HTTP/1.1\r\na: " + b"b" * 70_000],
    "a large header at once": [get("/", "a: " + "b" * 20_000)],
    "many fields": [get("/", *(f"a{n}: b" for n in range(101)))],
    "TLS": [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 300],
    "nothing but line ends": [b"\r\n" * 10_000],
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_the_server_survives(attack: str) -> None:
    app, _ = create_app()

    async with serving(app, head_seconds=0.5, keep_alive_seconds=0.5, linger_seconds=0.1) as server:
        for _ in range(3):
            answer = await server.exchange(*ATTACKS[attack])
            assert b" 500 " not in answer
        assert await server.is_well()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (H2_POST, b"400"),
        (ATTACKS["CONNECT"][0], b"400"),
        (ATTACKS["a length and chunks"][0], b"400"),
        (ATTACKS["a large header at once"][0], b"431"),
        (ATTACKS["a header that never ends"][0], b"431"),
        (ATTACKS["many fields"][0], b"431"),
        (ATTACKS["a path that is not ASCII"][0], b"400"),
        (b"GET http://node.example HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"200"),
        (b"GET http://node.example?x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"200"),
        (get("/", method="get"), b"400"),
        (get("/", method="head"), b"400"),
        (get("/", method="Get"), b"400"),
        (get("/", method="BREW", close=True), b"405"),
        (b"POST /whole HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"404"),
        (get("/", "upgrade: h2c", "http2-settings: AAAA", "connection: upgrade, http2-settings, close"), b"200"),
        (get("/", "upgrade: websocket", "connection: upgrade, close", "sec-websocket-key: eA=="), b"200"),
    ],
)
async def test_only_plain_http_1_is_spoken(request_: bytes, status: bytes) -> None:
    app, _ = create_app()

    async with serving(app, linger_seconds=0.1) as server:
        answer = await server.exchange(request_)

    assert answer.startswith(b"HTTP/1.1 " + status)


async def test_a_method_in_lower_case_is_no_mistake_of_ours() -> None:
    app, _ = create_app()

    async with serving(app, linger_seconds=0.1) as server:
        with capture_logs() as logs:
            assert (await server.exchange(get("/", method="head"))).startswith(b"HTTP/1.1 400")

    assert logs == []


@pytest.mark.parametrize("asked", ["http://asked.example/host", "http://asked.example/host?q", "/host"])
async def test_the_host_of_a_whole_url_counts_and_not_what_else_is_said(asked: str) -> None:
    app, _ = create_app()

    async with serving(app) as server:
        answer = await server.exchange(get(asked, close=True))

    assert answer.endswith(b"node.example" if asked == "/host" else b"asked.example")


async def test_an_error_in_the_protocol_of_one_connection_ends_only_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    app, _ = create_app()
    handle = Http11.handle

    async def broken(self: Http11, event: object) -> None:
        if isinstance(event, RawData) and b"/broken" in event.data:
            raise KeyError(1)
        await handle(self, event)  # type: ignore[arg-type]

    monkeypatch.setattr(Http11, "handle", broken)
    async with serving(app) as server:
        async with await server.connect() as bystander:
            with capture_logs() as logs:
                assert await server.exchange(get("/broken")) == b""
            await bystander.send_all(GET)
            assert (await read_answer(bystander))[1] == b"well"
        assert await server.is_well()

    assert logs == [{"event": "connection_failed", "error": "KeyError(1)", "log_level": "warning"}]


async def test_a_client_that_resets_in_the_middle_of_an_answer_leaves_nothing_behind() -> None:
    app, watched = create_app()

    async with serving(app) as server:
        stream = await server.connect()
        await stream.send_all(get("/big"))
        await stream.receive_some(1000)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()
        await watched.ended.wait()
        assert await server.is_well()


async def test_a_client_that_leaves_ends_its_request() -> None:
    app, watched = create_app()

    async with serving(app) as server:
        async with await server.connect() as stream:
            await stream.send_all(get("/hang"))
            await watched.begun.wait()
        await watched.ended.wait()


# Fault 3: connections end when they should.


@pytest.mark.parametrize(
    "request_", [LAST, b"GET / HTTP/1.0\r\nhost: x\r\n\r\n", get("/empty/204", close=True), get("/unknown", close=True)]
)
async def test_connection_close_closes(request_: bytes) -> None:
    app, _ = create_app()

    async with serving(app) as server:
        answer = await server.exchange(request_)  # returns at the end of the stream

    assert answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 304"))


async def test_a_connection_answers_many_requests_and_expires_when_idle() -> None:
    app, _ = create_app()

    async with serving(app, keep_alive_seconds=0.2) as server, await server.connect() as stream:
        for _ in range(5):
            await stream.send_all(GET)
            assert (await read_answer(stream))[1] == b"well"
        await stream.send_all(GET * 3)  # pipelined
        answers = await read_to_end(stream)  # the server closes after the keep-alive time

    assert answers.count(b"HTTP/1.1 200") == 3


async def test_after_the_last_request_that_is_allowed_the_connection_closes() -> None:
    app, _ = create_app()

    async with serving(app, keep_alive_requests_max=2, linger_seconds=FOR_EVER) as server:
        answers = await server.exchange(GET * 5)

    assert 2 <= answers.count(b"HTTP/1.1 200") <= 3


@pytest.mark.parametrize("beginning", [b"", b"G", b"GET / HTTP/1.1\r\nhost: x\r\n"])
async def test_a_header_that_does_not_come_is_not_waited_for(beginning: bytes) -> None:
    app, _ = create_app()

    async with serving(app, head_seconds=0.2) as server:
        assert await server.exchange(beginning) == b""


async def test_a_header_that_drips_has_one_deadline() -> None:
    app, _ = create_app()

    async with serving(app, head_seconds=0.3) as server, await server.connect() as stream:
        await stream.send_all(GET)
        await read_answer(stream)
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                for byte in get("/", "a: " + "b" * 10_000):
                    try:
                        await stream.send_all(bytes([byte]))
                    except trio.BrokenResourceError:
                        return
                    await trio.sleep(0.05)

            nursery.start_soon(drip)
            assert await read_to_end(stream) == b""
            nursery.cancel_scope.cancel()


async def test_the_first_header_has_one_deadline_however_late_it_begins(
    autojump_clock: trio.testing.MockClock,
) -> None:
    app, _ = create_app()

    async with serving(app, head_seconds=2) as server, await server.connect() as stream:
        began = trio.current_time()
        await trio.sleep(1.8)
        await stream.send_all(b"GET / HT")
        assert await read_to_end(stream) == b""
        assert trio.current_time() - began == pytest.approx(2, abs=0.1)


async def test_an_early_answer_reaches_a_client_that_is_still_sending() -> None:
    app, _ = create_app()
    app.config["MAX_CONTENT_LENGTH"] = 1000

    async with serving(app) as server:
        for path in ("/early", "/whole"):
            answer = await server.exchange(post(path, b"x" * 2_000_000), GET)
            assert answer.startswith(b"HTTP/1.1 4")


async def test_an_answer_ends_though_all_that_may_wait_of_an_unread_body_waits() -> None:
    app, watched = create_app()

    async with serving(app) as server, await server.connect() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, post("/late", bytes(2**21), close=True))
        await watched.begun.wait()
        await trio.testing.wait_all_tasks_blocked(0.1)  # the reader waits until somebody takes what it has read
        watched.go_on.set()
        answer = await read_to_end(stream)

    assert answer.startswith(b"HTTP/1.1 403 ") and answer.endswith(b"no, thank you")


async def test_an_early_answer_says_that_it_ends_the_connection() -> None:
    app, _ = create_app()

    async with serving(app) as server:
        async with await server.connect() as stream:
            await stream.send_all(post("/early", b"", length=5))  # its body comes when the answer is on its way
            early = await read_to_end(stream)
        async with await server.connect() as stream:
            await stream.send_all(post("/early", b"hello"))
            whole, _ = await read_answer(stream)

    assert b"connection: close" in early.lower()
    assert b"connection: close" not in whole.lower()


async def test_a_client_that_sends_for_ever_after_its_answer_is_cut() -> None:
    app, _ = create_app()

    async with serving(app, linger_seconds=FOR_EVER) as server, await server.connect() as stream:
        await stream.send_all(post("/early", b"", length=10**9))
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"x" * 65536)


async def test_a_client_that_neither_sends_nor_leaves_is_waited_for_a_moment() -> None:
    app, _ = create_app()

    async with serving(app, linger_seconds=0.2) as server, await server.connect() as stream:
        await stream.send_all(LAST)
        assert (await read_to_end(stream)).endswith(b"well")
        await _until_cut(stream)


async def _until_cut(stream: trio.SocketStream) -> None:
    with pytest.raises(trio.BrokenResourceError):
        while True:
            await stream.send_all(b"x")
            await trio.sleep(0.02)


# Faults 4 and 5: readers who stall.


async def test_a_stalled_reader_is_cut() -> None:
    app, watched = create_app()

    async with serving(app, write_stall_seconds=0.2) as server, await server.connect(receive_buffer=4096) as stream:
        await stream.send_all(get("/big"))
        await watched.ended.wait()

    assert watched.pieces < 200


async def test_a_slow_reader_is_served_to_the_end() -> None:
    app, _ = create_app()

    async with serving(app, write_stall_seconds=0.5) as server, await server.connect(receive_buffer=2**20) as stream:
        await stream.send_all(get("/big", close=True))
        total = 0
        for _ in range(10):
            total += len(await stream.receive_some(200_000))
            await trio.sleep(0.05)
        total += len(await read_to_end(stream))

    assert total > 30 * 2**20


async def test_a_stalled_reader_with_requests_behind_does_not_leak() -> None:
    app, watched = create_app()

    async with serving(app, write_stall_seconds=0.2) as server:
        stream = await server.connect(receive_buffer=4096)
        await stream.send_all(get("/big") + GET * 50)
        await watched.ended.wait()
        await stream.aclose()
        assert await server.is_well()


async def test_a_request_behind_the_last_one_does_not_keep_the_reader_waiting() -> None:
    app, _ = create_app()

    async with serving(app, linger_seconds=FOR_EVER) as server:
        answers = await server.exchange(LAST + GET, GET, b"garbage")

    assert answers.count(b"HTTP/1.1 ") == 1
    assert answers.endswith(b"well")


async def test_a_request_behind_an_unread_body_does_not_leak() -> None:
    app, _ = create_app()

    async with serving(app) as server:
        for _ in range(5):
            async with await server.connect() as stream:
                await stream.send_all(post("/early", b"x" * 1_000_000) + GET)
        assert await server.is_well()


# Bugs in the application.


@pytest.mark.parametrize(
    ("path", "starts", "ends"),
    [
        ("/boom", b"HTTP/1.1 500", b""),
        ("/half", b"HTTP/1.1 200", b"half"),
        ("/wrong-length", b"HTTP/1.1 200", b"four"),
        ("/bad-header", b"HTTP/1.1 500", b"\r\n\r\n"),
    ],
)
async def test_a_bug_in_a_route_ends_its_answer_not_the_server(path: str, starts: bytes, ends: bytes) -> None:
    app, _ = create_app()

    async with serving(app, linger_seconds=0.1) as server:
        with capture_logs() as logs:
            answer = await server.exchange(get(path, close=True))
        assert await server.is_well()

    assert [entry["path"] for entry in logs] == ([] if path == "/boom" else [path])
    assert answer.startswith(starts)
    assert answer.endswith(ends)


async def test_an_answer_leaves_in_one_piece() -> None:
    app, _ = create_app()

    async with serving(app) as server, await server.connect() as stream:
        await stream.send_all(GET)
        first = await stream.receive_some()

    assert first.startswith(b"HTTP/1.1 200")
    assert first.endswith(b"well")
    assert b"server:" not in first.lower()


async def test_continue_is_said_to_clients_that_wait_for_it() -> None:
    app, _ = create_app()

    async with serving(app) as server, await server.connect() as stream:
        await stream.send_all(get("/whole", "expect: 100-continue", "content-length: 3", method="POST", close=True))
        said = await stream.receive_some()
        await stream.send_all(b"abc")
        answer = await read_to_end(stream)

    assert said.startswith(b"HTTP/1.1 100")
    assert answer.endswith(b"\r\n\r\n3")
