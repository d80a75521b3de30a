"""Request bodies: back-pressure, limits that count everything, and deadlines."""

from collections.abc import Awaitable

import pytest
import trio
import trio.testing
from quart import request
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from pfn_node.safe_quart import BODY_BYTES_BUFFERED, SafeBody
from tests.node.server_app import create_app
from tests.node.serving import get, post, read_answer, read_to_end, serving

CHUNKED = "transfer-encoding: chunked"


async def test_a_body_arrives_whole_or_in_pieces() -> None:
    app, watched = create_app()
    watched.go_on.set()

    async with serving(app) as server:
        whole = await server.exchange(post("/whole", b"x" * 700_000, close=True))
        pieces = await server.exchange(post("/pieces", b"x" * 700_000, close=True))

    assert whole.endswith(b"\r\n\r\n700000")
    assert pieces.endswith(b"\r\n\r\n700000")


@pytest.mark.parametrize("path", ["/whole", "/pieces"])
@pytest.mark.parametrize("headers", [["content-length: 0"], [CHUNKED], []])
async def test_an_empty_body_is_a_body(path: str, headers: list[str]) -> None:
    app, watched = create_app()
    watched.go_on.set()

    async with serving(app) as server, await server.connect() as stream:
        end = b"0\r\n\r\n" if CHUNKED in headers else b""
        await stream.send_all(get(path, *headers, method="POST") + end)
        _, answer = await read_answer(stream)

    assert answer == b"0"


@pytest.mark.parametrize("path", ["/whole", "/pieces"])
async def test_a_declared_length_over_the_limit_is_refused_at_once(path: str) -> None:
    app, watched = create_app()
    app.config["MAX_CONTENT_LENGTH"] = 1000
    watched.go_on.set()

    async with serving(app, linger_seconds=0.1) as server:
        answer = await server.exchange(post(path, b"", length=1001))

    assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("path", ["/whole", "/pieces"])
async def test_all_pieces_together_count_against_the_limit(path: str) -> None:
    app, watched = create_app()
    app.config["MAX_CONTENT_LENGTH"] = 500_000
    watched.go_on.set()
    chunks = (b"186a0\r\n" + b"x" * 100_000 + b"\r\n") * 6

    async with serving(app, linger_seconds=0.1) as server:
        answer = await server.exchange(get(path, CHUNKED, method="POST", close=True), chunks, b"0\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 413")


async def test_a_client_waits_while_nobody_reads() -> None:
    app, watched = create_app()
    app.config["MAX_CONTENT_LENGTH"] = None
    sent = 0

    async with serving(app) as server, await server.connect() as stream:
        await stream.send_all(get("/pieces", CHUNKED, method="POST", close=True))
        await watched.begun.wait()
        with trio.move_on_after(0.5) as scope:
            while True:
                await stream.send_all(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                sent += 65536
        assert scope.cancelled_caught
        watched.go_on.set()

    # What the buffers of the two sockets, the queue and the body hold together; without back-pressure it has no end.
    assert sent < 32 * 2**20
    assert watched.most_waiting <= BODY_BYTES_BUFFERED + 65536


async def test_a_large_body_goes_through_piece_by_piece() -> None:
    app, watched = create_app()
    app.config["MAX_CONTENT_LENGTH"] = 16 * 2**20
    watched.go_on.set()

    async with serving(app) as server:
        answer = await server.exchange(post("/pieces", b"x" * 16 * 2**20, close=True))

    assert answer.endswith(b"\r\n\r\n" + str(16 * 2**20).encode())
    assert watched.most_waiting <= BODY_BYTES_BUFFERED + 65536


async def test_a_flood_of_tiny_chunks_is_gathered() -> None:
    app, watched = create_app()
    watched.go_on.set()
    flood = b"1\r\nx\r\n" * 20_000

    async with serving(app) as server:
        answer = await server.exchange(get("/pieces", CHUNKED, method="POST", close=True), flood, b"0\r\n\r\n")

    assert answer.endswith(b"\r\n\r\n20000")
    assert watched.most_waiting > 1000


@pytest.mark.parametrize("path", ["/whole", "/pieces"])
async def test_a_body_that_stops_gives_408(path: str) -> None:
    app, watched = create_app()
    watched.go_on.set()

    async with serving(app, body_idle_seconds=0.1, linger_seconds=0.1) as server:
        answer = await server.exchange(post(path, b"abc", length=10))

    assert answer.startswith(b"HTTP/1.1 408")


async def test_a_body_that_drips_gives_408_at_its_deadline() -> None:
    app, _ = create_app()

    async def drip(stream: trio.SocketStream) -> None:
        while True:
            await trio.sleep(0.02)
            try:
                await stream.send_all(b"x")
            except trio.BrokenResourceError:
                return

    limits = {"body_idle_seconds": 5, "body_seconds_max": 0.2, "linger_seconds": 0.1}
    async with serving(app, **limits) as server, await server.connect() as stream, trio.open_nursery() as nursery:
        await stream.send_all(post("/whole", b"", length=1000))
        nursery.start_soon(drip, stream)
        answer = await read_to_end(stream)
        nursery.cancel_scope.cancel()

    assert answer.startswith(b"HTTP/1.1 408")


async def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing_behind() -> None:
    app, watched = create_app()

    async with serving(app, linger_seconds=0.1) as server:
        for path in ("/whole", "/pieces"):
            async with await server.connect() as stream:
                await stream.send_all(post(path, b"x" * 300_000, length=900_000))
                await watched.begun.wait()
        assert await server.is_well()


async def test_a_route_may_set_a_limit_of_its_own() -> None:
    app, _ = create_app()
    app.config["MAX_CONTENT_LENGTH"] = 10

    @app.post("/own")
    async def own() -> ResponseReturnValue:
        request.max_content_length = 5000
        assert request.max_content_length == 5000
        return str(len(await request.get_data()))

    async with serving(app, linger_seconds=0.1) as server:
        assert (await server.exchange(post("/own", b"x" * 5000, close=True))).endswith(b"\r\n\r\n5000")
        assert (await server.exchange(post("/own", b"x" * 5001, close=True))).startswith(b"HTTP/1.1 413")


async def test_json_forms_and_repeated_reading_work_as_in_quart() -> None:
    app, _ = create_app()

    @app.post("/json")
    async def as_json() -> ResponseReturnValue:
        await request.get_data()
        return {"got": await request.get_json()}

    @app.post("/form")
    async def as_form() -> ResponseReturnValue:
        return {"got": (await request.form)["a"]}

    @app.post("/forgotten")
    async def forgotten() -> ResponseReturnValue:
        first = await request.get_data(cache=False)
        return {"got": [len(first), len(await request.get_data())]}

    client = app.test_client()
    responses = [
        await client.post("/json", json={"a": 1}),
        await client.post("/form", form={"a": "b"}),
        await client.post("/forgotten", data=b"abc"),
    ]

    assert [(await response.get_json())["got"] for response in responses] == [{"a": 1}, "b", [3, 0]]


# The body by itself, in virtual time.


async def fails(reading: Awaitable[bytes], error: type[Exception]) -> float:
    started = trio.current_time()
    with pytest.raises(error):
        await reading
    return trio.current_time() - started


async def whole(body: SafeBody) -> bytes:
    return await body


async def test_the_deadlines_of_a_body(autojump_clock: trio.testing.MockClock) -> None:
    silent, dripping, pausing, slow = (SafeBody(None, None) for _ in range(4))

    async def drip(body: SafeBody, piece: bytes, seconds: float) -> None:
        while True:
            await body.take(piece, is_last=False)
            await trio.sleep(seconds)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip, dripping, b"x", 1)
        assert await fails(whole(silent), RequestTimeout) == pytest.approx(10)
        assert await fails(whole(dripping), RequestTimeout) == pytest.approx(10, abs=0.1)

        await pausing.take(b"x" * 100_000, is_last=False)
        nursery.start_soon(drip, pausing, b"x", 1)  # what was sent before is no reason to wait for longer
        assert await fails(whole(pausing), RequestTimeout) == pytest.approx(10, abs=0.1)

        nursery.start_soon(drip, slow, b"x" * 4_500, 9)
        assert await fails(whole(slow), RequestTimeout) == pytest.approx(60)
        nursery.cancel_scope.cancel()


async def test_a_body_grown_too_large_while_it_is_awaited_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    body = SafeBody(None, 5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: body.take(b"abc", is_last=False))
        await trio.sleep(1)
        nursery.start_soon(fails, whole(body), RequestEntityTooLarge)
        await trio.sleep(1)
        await body.take(b"def", is_last=True)
