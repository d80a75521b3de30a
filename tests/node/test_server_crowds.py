"""Whom the server lets in: how many, from where, whom it cuts to make room, and what others pass on to it."""

import errno
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import IPv4Address, ip_network

import pytest
import trio
import trio.testing
from quart import Response
from quart.typing import ResponseReturnValue
from structlog.testing import capture_logs

from pfn_node import server as server_module
from pfn_node.elsewhere import Elsewhere, Passed
from pfn_node.server import ServerLimits, bind, connections_that_fit, serve
from tests.node.few_files import no_descriptor_left
from tests.node.server_app import create_app
from tests.node.serving import SECONDS_MAX, Server, get, post, read_answer, read_to_end, serving


async def test_beyond_the_cap_clients_are_turned_away_while_all_are_answered() -> None:
    app, watched = create_app()

    async with serving(app, connections_max=1) as server:
        async with await server.connect() as first:
            await first.send_all(get("/hang", close=True))
            await watched.begun.wait()
            refused = await server.exchange(get("/"))
            watched.go_on.set()
            assert (await read_to_end(first)).endswith(b"at last")
        while not await server.is_well():
            await trio.sleep(0.01)

    head, _, body = refused.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503")
    assert f"content-length: {len(body)}".encode() in head


async def test_without_descriptors_newcomers_wait_and_those_who_are_in_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app, _ = create_app()
    monkeypatch.setattr(server_module, "CAPACITY_PAUSE_SECONDS", 0.01)

    async with serving(app) as server, await server.connect() as inside:
        await inside.send_all(get("/"))
        await read_answer(inside)
        with trio.socket.socket() as waiting:
            with no_descriptor_left(), capture_logs() as logs:
                await waiting.connect((server.host, server.port))
                await trio.sleep(0.1)
                await inside.send_all(get("/"))
                assert (await read_answer(inside))[1] == b"well"
            newcomer = trio.SocketStream(waiting)
            await newcomer.send_all(get("/", close=True))
            assert (await read_to_end(newcomer)).endswith(b"well")

    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("descriptors_used_up", "error")]


async def test_beyond_the_cap_a_newcomer_takes_the_room_of_who_kept_the_server_waiting() -> None:
    app, watched = create_app()
    head = get("/").removesuffix(b"\r\n")

    async with serving(app, connections_max=4) as server, AsyncExitStack() as stack:

        async def begin(says: bytes) -> trio.SocketStream:
            watched.begun = trio.Event()
            stream = await stack.enter_async_context(await server.connect())
            await stream.send_all(says)
            await watched.begun.wait()
            return stream

        answered = await begin(get("/hang"))
        sending = await begin(post("/whole", b"", length=10))
        async with await server.connect() as resting, await server.connect() as dripping:
            await resting.send_all(get("/"))
            await read_answer(resting)
            await dripping.send_all(head)

            for goes in (dripping, resting, sending):
                latest = await begin(get("/hang"))
                assert await read_to_end(goes) == b""
        assert b" 503 " in await server.exchange(get("/"))

        watched.go_on.set()
        for stream in (answered, latest):
            assert (await read_answer(stream))[1] == b"at last"


def test_there_are_no_more_connections_than_descriptors_for_two_each(monkeypatch: pytest.MonkeyPatch) -> None:
    for files_max, fit in ((100, 50), (10_000, 1_000), (resource.RLIM_INFINITY, 1_000)):
        monkeypatch.setattr(resource, "getrlimit", lambda limit, files_max=files_max: (files_max, files_max))
        assert connections_that_fit(1_000) == fit


async def test_idle_and_dripping_sockets_keep_nobody_out() -> None:
    app, _ = create_app()

    async with serving(app, connections_max=20) as server, AsyncExitStack() as stack:
        for number in range(60):
            stream = await stack.enter_async_context(await server.connect())
            await stream.send_all((b"", b"GET / HT", post("/whole", b"a", length=10))[number % 3])
            assert number % 10 or await server.is_well()
        assert await server.is_well()


async def test_beyond_the_cap_of_one_address_its_own_are_cut_or_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    app, watched = create_app()

    async with serving(app, connections_per_address_max=1) as server, await server.connect() as first:
        await first.send_all(get("/"))
        await read_answer(first)
        assert await server.is_well()  # loopback is exempt
        await first.send_all(get("/"))
        await read_answer(first)
    with monkeypatch.context() as patch:
        patch.setattr(server_module, "_place", lambda host, proxies: "one household")
        async with serving(app, connections_per_address_max=1) as server:
            async with await server.connect() as first, await server.connect() as second:
                await second.send_all(get("/hang"))
                assert await read_to_end(first) == b""
                await watched.begun.wait()
                assert b" 503 " in await server.exchange(get("/"))
                watched.go_on.set()
                await read_answer(second)
            while not await server.is_well():
                await trio.sleep(0.01)


class PassesAll:
    """Takes every request, and has nobody to pass it on to."""

    def __init__(self) -> None:
        self.passed: list[bytes] = []

    def takes(self, data: bytes) -> bool:
        return True

    def refuse(self, data: bytes) -> None:
        pass

    async def pass_on(self, connection: trio.socket.SocketType, data: bytes) -> None:
        self.passed.append(data)


async def test_a_request_is_not_passed_on_once_its_answer_has_begun() -> None:
    app, _ = create_app()

    @app.get("/half-elsewhere")
    async def half_elsewhere() -> ResponseReturnValue:
        async def produce() -> AsyncIterator[bytes]:
            yield b"half"
            raise Elsewhere

        return Response(produce())

    passing, shutdown = PassesAll(), trio.Event()
    with trio.fail_after(SECONDS_MAX):
        async with trio.open_nursery() as nursery:
            host, port = await nursery.start(partial(serve, app, shutdown=shutdown, passing=passing))
            server = Server(host, port, shutdown)
            answer = await server.exchange(get("/half-elsewhere"))
            assert await server.is_well()
            shutdown.set()

    assert b"half" in answer and not answer.endswith(b"0\r\n\r\n"), "it does not look whole"
    assert passing.passed == []


async def test_connections_of_a_proxy_are_those_of_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    app, _ = create_app()
    monkeypatch.setattr(IPv4Address, "is_loopback", False)  # as if it were on another machine
    proxies = (ip_network("127.0.0.1/32"),)

    async with serving(app, connections_per_address_max=1, proxies=proxies) as server, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(await server.connect()) for _ in range(3)]
        for stream in streams * 2:
            await stream.send_all(get("/"))
            assert (await read_answer(stream))[1] == b"well"
    async with serving(app, connections_per_address_max=1) as server, await server.connect() as first:
        await first.send_all(get("/"))
        await read_answer(first)
        assert await server.is_well()
        assert await read_to_end(first) == b"", "a stranger's second connection takes the room of the first"


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("127.0.0.1", None),
        ("127.9.9.9", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("93.184.216.34", "93.184.216.34"),
        ("::ffff:93.184.216.34", "93.184.216.34"),
        ("fe80::1%eth0", str(0xFE80 << 48)),
        ("2001:db8:0:1::1", str(0x20010DB800000001)),
        ("2001:db8:0:1:ffff::9", str(0x20010DB800000001)),
        ("2001:db8:0:2::1", str(0x20010DB800000002)),
    ],
)
def test_connections_are_counted_by_address_or_network(host: str, place: str | None) -> None:
    assert server_module._place(host) == place


async def test_a_client_that_is_turned_away_and_does_not_listen_is_left() -> None:
    app, _ = create_app()

    async with serving(app, connections_max=0) as server:
        for _ in range(5):
            async with await server.connect() as stream:
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        assert b" 503 " in await server.exchange(get("/"))


async def test_a_client_that_is_gone_before_it_is_looked_at_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    app, _ = create_app()
    door = server_module._Door(app, ServerLimits())

    class Gone:
        socket = property(lambda self: self)

        def getpeername(self) -> None:
            raise OSError(errno.ENOTCONN, "not connected")

    await door.admit(Gone())  # type: ignore[arg-type]


async def test_turning_away_survives_a_client_that_hangs_up() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.aclose()

    await server_module._turn_away(ours)  # type: ignore[arg-type]


async def test_where_others_accept_only_what_they_pass_on_is_served_until_they_are_gone() -> None:
    app, _ = create_app()
    give, take = trio.open_memory_channel[tuple[socket.socket, bytes]](1)
    passed, shutdown = Passed(take, trio.Event()), trio.Event()

    with trio.fail_after(SECONDS_MAX), bind("127.0.0.1", 0) as listener:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, app, listener=listener, shutdown=shutdown, passed=passed))
            server = Server(listener.host, listener.port, shutdown)
            with (
                bind("127.0.0.1", 0) as elsewhere,
                socket.create_connection((elsewhere.host, elsewhere.port)) as client,
            ):
                await give.send((elsewhere.socket.accept()[0], get("/", close=True)))
                assert b" 200 " in await trio.to_thread.run_sync(client.recv, 1_000)
            async with await server.connect() as stream:
                await stream.send_all(get("/", close=True))
                with pytest.raises(trio.TooSlowError), trio.fail_after(0.05):
                    await stream.receive_some()
                passed.alone.set()
                assert b" 200 " in await read_to_end(stream)
            shutdown.set()
        with pytest.raises(trio.BrokenResourceError):
            await give.send((listener.socket, b""))


async def test_where_others_accept_nobody_is_kept_waiting_at_the_end() -> None:
    app, watched = create_app()
    give, take = trio.open_memory_channel[tuple[socket.socket, bytes]](1)
    shutdown, limits = trio.Event(), ServerLimits(shutdown_seconds=SECONDS_MAX)

    with trio.fail_after(SECONDS_MAX), bind("127.0.0.1", 0) as listener, bind("127.0.0.1", 0) as door:
        address = (listener.host, listener.port)
        with socket.create_connection((door.host, door.port)) as client:
            async with trio.open_nursery() as nursery:
                passed = Passed(take, trio.Event())
                start = partial(serve, app, listener=listener, shutdown=shutdown, limits=limits, passed=passed)
                await nursery.start(start)
                await give.send((door.socket.accept()[0], get("/hang", close=True)))
                await watched.begun.wait()
                shutdown.set()
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(address)
                watched.go_on.set()
            assert b"at last" in client.recv(1_000)
