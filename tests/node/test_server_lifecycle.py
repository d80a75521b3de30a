"""How the server starts, whom it lets in, what it answers in simple cases, and how it ends."""

import errno
import socket
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypercorn.typing import ASGISendCallable
from quart.typing import ResponseTypes
from structlog.testing import capture_logs

from pfn_node import server as server_module
from pfn_node.safe_quart import SafeHTTPConnection
from pfn_node.server import Listener, SafeQuart, ServerError, ServerLimits, bind, serve
from tests.node.server_app import create_app
from tests.node.serving import FOR_EVER, SECONDS_MAX, Server, get, post, read_answer, read_to_end, serving

# Starting.


async def test_the_started_value_is_the_bound_address() -> None:
    app, _ = create_app()

    async with serving(app) as server:
        assert server.host == "127.0.0.1"
        assert server.port > 0
        assert await server.is_well()


async def test_a_listener_that_was_bound_before_is_taken_over() -> None:
    app, _ = create_app()
    shutdown = trio.Event()

    with bind("localhost", 0) as listener:
        async with trio.open_nursery() as nursery:
            address = await nursery.start(partial(serve, app, listener=listener, shutdown=shutdown))
            assert address == (listener.host, listener.port) == ("127.0.0.1", listener.port)
            assert await Server(listener.host, listener.port, shutdown).is_well()
            shutdown.set()

    assert listener.socket.fileno() == -1


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
async def test_ipv6_is_served_as_well() -> None:
    app, _ = create_app()
    shutdown = trio.Event()

    async with trio.open_nursery() as nursery:
        host, port = await nursery.start(partial(serve, app, host="::1", shutdown=shutdown))
        async with await trio.open_tcp_stream(host, port) as stream:
            await stream.send_all(get("/", close=True))
            assert (await read_to_end(stream)).endswith(b"well")
        shutdown.set()

    assert host == "::1"


async def test_a_port_in_use_is_a_clear_error() -> None:
    app, _ = create_app()

    with bind("127.0.0.1", 0) as listener:
        async with trio.open_nursery() as nursery:
            with pytest.raises(ServerError, match=f"Port {listener.port} of 127.0.0.1 is in use"):
                await nursery.start(partial(serve, app, port=listener.port, shutdown=trio.Event()))


@pytest.mark.parametrize("host", ["no such host", "256.1.1.1", "x" * 300])
def test_a_host_that_is_none_is_a_clear_error(host: str) -> None:
    with pytest.raises(ServerError, match="is not an address to listen on"):
        bind(host, 0)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.EACCES, "may not be used by this user"),
        (errno.EADDRNOTAVAIL, "is not an address of this machine"),
        (errno.ENOBUFS, "cannot be listened on: no room"),
    ],
)
def test_other_reasons_are_named_too(monkeypatch: pytest.MonkeyPatch, number: int, sentence: str) -> None:
    class Unlucky(socket.socket):
        def bind(self, address: Any) -> None:
            raise OSError(number, "no room")

    monkeypatch.setattr(socket, "socket", Unlucky)

    with pytest.raises(ServerError, match=sentence):
        bind("127.0.0.1", 0)


async def test_hooks_around_serving_run_and_background_tasks_are_ended() -> None:
    app, _ = create_app()
    seen = []
    started = trio.Event()

    async def background() -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            seen.append("background ended")

    @app.before_serving
    async def before() -> None:
        seen.append("before")
        app.add_background_task(background)

    @app.after_serving
    async def after() -> None:
        seen.append("after")

    async with serving(app):
        await started.wait()

    assert seen == ["before", "after", "background ended"]


# Simple answers.


@pytest.mark.parametrize("status", [200, 204, 304, 404])
async def test_answers_without_a_body_keep_the_connection(status: int) -> None:
    app, _ = create_app()

    async with serving(app) as server, await server.connect() as stream:
        await stream.send_all(get(f"/empty/{status}") + get("/unknown") + get("/", close=True))
        answers = await read_to_end(stream)

    assert answers.startswith(f"HTTP/1.1 {status}".encode())
    assert answers.count(b"HTTP/1.1 ") == 3
    assert answers.endswith(b"well")


async def test_a_response_that_needs_asyncio_is_refused_with_what_to_use(caplog: pytest.LogCaptureFixture) -> None:
    app, _ = create_app()

    async with serving(app) as server:
        answer = await server.exchange(get("/asyncio", close=True))

    assert answer.startswith(b"HTTP/1.1 500")
    assert "use current_app.response_class" in caplog.text


async def test_head_has_the_header_of_get_and_no_body() -> None:
    app, watched = create_app()

    async with serving(app) as server:
        root = await server.exchange(get("/", close=True, method="HEAD"))
        events = await server.exchange(get("/events", close=True, method="HEAD"))  # would never end as GET
        missing = await server.exchange(get("/nope", close=True, method="HEAD"))

    assert b"content-length: 4" in root
    assert all(answer.endswith(b"\r\n\r\n") for answer in (root, events, missing))
    assert b"text/event-stream" in events
    assert not watched.begun.is_set()


# Ending.


async def test_an_idle_connection_does_not_delay_the_end() -> None:
    app, _ = create_app()

    async with serving(app) as server, await server.connect() as idle, await server.connect() as fresh:
        await idle.send_all(get("/"))
        await read_answer(idle)
        server.shutdown.set()
        assert await read_to_end(idle) == b""
        assert await read_to_end(fresh) == b""


async def test_a_request_under_way_is_finished_and_its_connection_closed() -> None:
    app, watched = create_app()

    async with serving(app, linger_seconds=FOR_EVER) as server, await server.connect() as stream:
        await stream.send_all(get("/hang") + get("/"))
        await watched.begun.wait()
        server.shutdown.set()
        with pytest.raises(OSError):
            while True:
                await (await server.connect()).aclose()
                await trio.sleep(0.01)
        watched.go_on.set()
        assert (await read_to_end(stream)).endswith(b"at last")


async def test_who_asks_while_the_door_closes_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    app, _ = create_app()
    end_requests = server_module._Door.end_requests
    asking = trio.Event()

    async def end_requests_and_wait(door: server_module._Door) -> None:
        await end_requests(door)
        asking.set()
        await trio.testing.wait_all_tasks_blocked(0.05)

    monkeypatch.setattr(server_module._Door, "end_requests", end_requests_and_wait)
    async with serving(app) as server, await server.connect() as known, await server.connect() as begun:
        await known.send_all(get("/"))
        await read_answer(known)
        await begun.send_all(get("/")[:9])
        server.shutdown.set()
        await asking.wait()
        await known.send_all(get("/"))
        await begun.send_all(get("/")[9:])
        assert await server.exchange(get("/")) == b""
        assert await read_to_end(known) == await read_to_end(begun) == b""


@pytest.mark.parametrize("path", ["/events", "/hang"])
async def test_a_request_that_never_ends_is_cancelled_at_shutdown(path: str) -> None:
    app, watched = create_app()

    async with serving(app, shutdown_seconds=0.1) as server, await server.connect() as stream:
        await stream.send_all(get(path))
        await watched.begun.wait()
        started = trio.current_time()
        server.shutdown.set()
        await read_to_end(stream)

    assert watched.ended.is_set()
    assert trio.current_time() - started < 1


class AllAtOnce(SafeHTTPConnection):
    """Answers with one message, far larger than the buffers of the sockets: the last write, which is shielded."""

    async def _send_response(self, send: ASGISendCallable, response: ResponseTypes) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 30_000_000, "more_body": False})


@pytest.mark.parametrize("connection_class", [SafeHTTPConnection, AllAtOnce])
@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_stalled_readers_do_not_delay_the_end(
    connection_class: type[SafeHTTPConnection], is_cancelled: bool
) -> None:
    app, _ = create_app()
    app.asgi_http_class = connection_class
    shutdown = trio.Event()
    limits = ServerLimits(shutdown_seconds=0.1, write_stall_seconds=FOR_EVER)

    with trio.fail_after(SECONDS_MAX):
        async with trio.open_nursery() as nursery:
            address = await nursery.start(partial(serve, app, shutdown=shutdown, limits=limits))
            server = Server(address[0], address[1], shutdown)
            streams = [await server.connect(receive_buffer=4096) for _ in range(3)]
            for stream in streams:
                await stream.send_all(get("/big"))
            for stream in streams:
                await stream.receive_some(100)
            if is_cancelled:
                nursery.cancel_scope.cancel()
            shutdown.set()
    for stream in streams:
        await stream.aclose()


async def test_an_upload_that_nobody_reads_does_not_delay_the_end() -> None:
    app, watched = create_app()
    app.config["MAX_CONTENT_LENGTH"] = None

    async with serving(app, shutdown_seconds=0.1) as server, await server.connect() as stream:
        await stream.send_all(post("/pieces", b"x" * 1_000_000, length=10**9))
        await watched.begun.wait()
        server.shutdown.set()
        await read_to_end(stream)


async def test_by_default_the_end_takes_less_than_two_seconds() -> None:
    limits = ServerLimits()

    assert limits.shutdown_seconds < 2
    assert SafeQuart("x").config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] + limits.shutdown_seconds < 2


async def test_nothing_is_logged_when_all_goes_well() -> None:
    app, _ = create_app()

    with capture_logs() as logs:
        async with serving(app) as server:
            assert await server.is_well()

    assert logs == []


def test_a_listener_closes_once_or_twice() -> None:
    listener = bind("127.0.0.1", 0)

    with listener, listener:
        assert isinstance(listener, Listener)

    assert listener.socket.fileno() == -1
