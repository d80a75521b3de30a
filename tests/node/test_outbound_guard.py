"""What the guard under httpx dials, whatever a name leads to."""

import ast
import socket
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import h11
import httpcore
import pytest
import trio
import trio.testing

from pfn_node import outbound as outbound_module
from pfn_node.outbound import AddressRefused, AnswerBroken, AnswerTooLarge, GuardedNetwork, Outbound, Unreachable
from pfn_node.outbound_limits import CONNECTIONS_MAX, SHORT_LINES_READ_BYTES_MAX
from tests.node.fake_internet import PUBLIC, PUBLIC_6, Answers, FakeInternet, answer, read_head
from tests.node.test_addresses import HOSTILE_ADDRESSES

ADDRESSES_TO_RESOLVE_TO = [address for address in HOSTILE_ADDRESSES if ":" in address or address.count(".") == 3]
# The C library reads all of these as 127.0.0.1 or 0.0.0.0; the guard must not care how an address was written.
NUMERIC_HOSTS = ["127.0.0.1", "127.1", "0x7f.1", "0177.0.0.1", "2130706433", "0", "0x7f000001", "017700000001", "::1"]


@pytest.fixture
async def internet(nursery: trio.Nursery) -> FakeInternet:
    return FakeInternet(nursery)


@pytest.fixture
async def guard(internet: FakeInternet) -> GuardedNetwork:
    return GuardedNetwork(internet, allow_private_networks=False)


@pytest.mark.parametrize("address", ADDRESSES_TO_RESOLVE_TO)
async def test_a_name_that_leads_inside_is_never_dialled(
    internet: FakeInternet, guard: GuardedNetwork, address: str
) -> None:
    internet.names.add("evil.example", [address])

    with pytest.raises((AddressRefused, Unreachable)):
        await guard.connect_tcp("evil.example", 443)

    assert not internet.dialled


@pytest.mark.parametrize("host", NUMERIC_HOSTS)
async def test_a_numeric_host_is_judged_by_what_it_means(
    internet: FakeInternet, guard: GuardedNetwork, host: str
) -> None:
    with pytest.raises(AddressRefused):
        await guard.connect_tcp(host, 443)

    assert not internet.dialled


@pytest.mark.parametrize(
    "answers", [[PUBLIC, "10.0.0.1"], ["10.0.0.1", PUBLIC], [PUBLIC_6, PUBLIC, "::1"], [PUBLIC] * 9 + ["127.0.0.1"]]
)
async def test_one_bad_answer_among_good_ones_refuses_them_all(
    internet: FakeInternet, guard: GuardedNetwork, answers: list[str]
) -> None:
    internet.names.add("mixed.example", answers)

    with pytest.raises(AddressRefused) as caught:
        await guard.connect_tcp("mixed.example", 443)

    assert not internet.dialled
    assert "10.0.0.1" not in caught.value.sentence


async def test_a_name_that_changes_its_mind_is_resolved_once_for_each_connection(internet: FakeInternet) -> None:
    internet.put("rebind.example", Answers(answer(b"ok", headers="connection: close\r\n")))
    internet.names.add("rebind.example", [PUBLIC], ["127.0.0.1"])

    async with Outbound(allow_private_networks=False, user_agent="pfn/1", network=internet) as outbound:
        first = await outbound.fetch("GET", "https://rebind.example/", bytes_max=10, seconds_max=5)
        with pytest.raises(AddressRefused):
            await outbound.fetch("GET", "https://rebind.example/", bytes_max=10, seconds_max=5)

    assert first.body == b"ok"
    assert internet.names.lookups == ["rebind.example"] * 2
    assert internet.dialled == [(PUBLIC, 443)]


async def test_at_most_three_addresses_are_dialled_one_of_each_family_first(
    internet: FakeInternet, guard: GuardedNetwork
) -> None:
    internet.names.add("many.example", [PUBLIC_6, "2606:2800::2", "2606:2800::3", PUBLIC, "1.1.1.1"])

    with pytest.raises(Unreachable, match=r"many\.example does not accept connections on port 443"):
        await guard.connect_tcp("many.example", 443)

    assert [host for host, _ in internet.dialled] == [PUBLIC_6, PUBLIC, "2606:2800::2"]


async def test_the_second_address_is_dialled_when_the_first_does_not_answer(
    internet: FakeInternet, guard: GuardedNetwork
) -> None:
    internet.put("two.example", Answers(answer()), "1.1.1.1")
    internet.names.add("two.example", ["8.8.8.8", "1.1.1.1", "8.8.8.8"])

    stream = await guard.connect_tcp("two.example", 443)
    await stream.aclose()

    assert [host for host, _ in internet.dialled] == ["8.8.8.8", "1.1.1.1"]


async def test_a_name_that_does_not_resolve_is_unreachable(internet: FakeInternet, guard: GuardedNetwork) -> None:
    with pytest.raises(Unreachable, match="does not resolve"):
        await guard.connect_tcp("nobody.example", 443)


@pytest.mark.parametrize("answers", [[], [f"9.9.{n}.1" for n in range(65)]])
async def test_a_name_with_no_answer_or_far_too_many_is_unreachable(
    internet: FakeInternet, guard: GuardedNetwork, answers: list[str]
) -> None:
    internet.names.add("odd.example", answers)

    with pytest.raises(Unreachable, match="resolves to"):
        await guard.connect_tcp("odd.example", 443)

    assert not internet.dialled


async def test_resolving_has_a_deadline(
    internet: FakeInternet, guard: GuardedNetwork, autojump_clock: trio.testing.MockClock
) -> None:
    internet.put("slow.example", Answers(answer()))
    internet.names.seconds = 60
    started = trio.current_time()

    with pytest.raises(Unreachable, match="within 5 seconds"):
        await guard.connect_tcp("slow.example", 443)

    assert trio.current_time() - started == pytest.approx(5)


async def test_other_ports_are_dialled_only_where_private_networks_are_allowed(
    internet: FakeInternet, guard: GuardedNetwork
) -> None:
    internet.put("ssh.example", Answers(answer()), "127.0.0.1")

    with pytest.raises(AddressRefused, match="port 22"):
        await guard.connect_tcp("ssh.example", 22)
    private = GuardedNetwork(internet, allow_private_networks=True)
    stream = await private.connect_tcp("ssh.example", 22)
    await stream.aclose()

    assert internet.dialled == [("127.0.0.1", 22)]


async def test_unix_sockets_are_never_dialled(guard: GuardedNetwork) -> None:
    with pytest.raises(AddressRefused):
        await guard.connect_unix_socket("/run/docker.sock")


async def test_waiting_is_trio_s(guard: GuardedNetwork, autojump_clock: trio.testing.MockClock) -> None:
    started = trio.current_time()

    await guard.sleep(3)

    assert trio.current_time() - started == 3


async def test_a_real_connection_over_loopback_works_where_it_is_allowed(nursery: trio.Nursery) -> None:
    machine = Answers(answer(b"real"))
    listeners = await nursery.start(partial(trio.serve_tcp, machine, 0, host="127.0.0.1"))
    port = listeners[0].socket.getsockname()[1]

    async with Outbound(allow_private_networks=True, user_agent="pfn/1") as outbound:
        reply = await outbound.fetch("GET", f"http://127.0.0.1:{port}/", bytes_max=10, seconds_max=5)
    nursery.cancel_scope.cancel()

    assert reply.body == b"real"


async def test_look_ups_that_hang_do_not_keep_other_names_from_being_looked_up(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """Threads that look names up cannot be ended: they hang on for as long as the system asks a dead name server."""
    over = threading.Event()
    ask = socket.getaddrinfo

    def answer_or_hang(host: bytes, port: int, family: int, kind: int, proto: int, flags: int) -> object:
        if flags & socket.AI_NUMERICHOST:  # Trio looks first whether it is an address
            return ask(host, port, family, kind, proto, flags)
        if host.endswith(b"hangs.example") and not over.wait(60):
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return ask("127.0.0.1", port, family, kind, proto, flags)

    listeners = await nursery.start(partial(trio.serve_tcp, Answers(answer(b"here")), 0, host="127.0.0.1"))
    port = listeners[0].socket.getsockname()[1]
    monkeypatch.setattr(socket, "getaddrinfo", answer_or_hang)
    monkeypatch.setattr(outbound_module, "RESOLVE_SECONDS_MAX", 0.1)

    async def ask_in_vain(number: int) -> None:
        with pytest.raises(Unreachable):
            await outbound.fetch("GET", f"http://{number}.hangs.example:{port}/", bytes_max=10, seconds_max=60)

    try:
        async with Outbound(allow_private_networks=True, user_agent="pfn/1") as outbound:
            async with trio.open_nursery() as strangers:  # twice what is under way at once: who is given up hangs on
                for number in range(2 * CONNECTIONS_MAX):
                    strangers.start_soon(ask_in_vain, number)
            monkeypatch.undo()
            monkeypatch.setattr(socket, "getaddrinfo", answer_or_hang)
            reply = await outbound.fetch("GET", f"http://honest.example:{port}/", bytes_max=10, seconds_max=60)
    finally:
        over.set()
        nursery.cancel_scope.cancel()

    assert reply.body == b"here"


async def test_a_flood_of_interim_answers_is_given_up(internet: FakeInternet) -> None:
    """A read of 64 KiB of them takes a large part of a second, in which nothing else runs."""

    async def flood(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"HTTP/1.1 102 x\r\n\r\n" * 1000)

    internet.put("flood.example", flood)
    internet.put("honest.example", Answers(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + answer(b"here")), PUBLIC_6)
    async with Outbound(allow_private_networks=False, user_agent="pfn/1", network=internet) as outbound:
        with pytest.raises(AnswerBroken, match="interim"):
            await outbound.fetch("GET", "https://flood.example/", bytes_max=10, seconds_max=2)
        reply = await outbound.fetch("GET", "https://honest.example/", bytes_max=10, seconds_max=2)

    assert reply.body == b"here"


async def test_what_comes_in_short_lines_is_read_a_little_at_a_time(
    internet: FakeInternet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that was read is parsed, though the body is given up at its first chunk: 64 KiB take a tenth of a second."""
    chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000
    internet.put("tiny.example", Answers(chunks))
    internet.put("honest.example", Answers(answer(b"x" * 300_000)), PUBLIC_6)
    parsed = list[int]()
    parse = h11.Connection.receive_data

    def note(connection: h11.Connection, data: bytes) -> None:
        parsed.append(len(data))
        parse(connection, data)

    monkeypatch.setattr(h11.Connection, "receive_data", note)
    async with Outbound(allow_private_networks=False, user_agent="pfn/1", network=internet) as outbound:
        with pytest.raises(AnswerTooLarge):
            await outbound.fetch("GET", "https://tiny.example/", bytes_max=10, seconds_max=2)
        assert max(parsed) <= SHORT_LINES_READ_BYTES_MAX

        reply = await outbound.fetch("GET", "https://honest.example/", bytes_max=300_000, seconds_max=2)

    assert reply.body == b"x" * 300_000
    assert max(parsed) > SHORT_LINES_READ_BYTES_MAX


async def test_a_refused_connection_over_loopback_is_unreachable() -> None:
    with trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

        async with Outbound(allow_private_networks=True, user_agent="pfn/1") as outbound:
            with pytest.raises(Unreachable):
                await outbound.fetch("GET", f"http://127.0.0.1:{port}/", bytes_max=10, seconds_max=5)


def test_no_other_module_imports_an_http_client() -> None:
    clients = {"httpx", "httpcore", "requests", "urllib3", "urllib.request", "http.client", "aiohttp"}
    importers = set()
    for path in Path("pfn_node").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
            else:
                continue
            if any(name == client or name.startswith(client + ".") for name in names for client in clients):
                importers.add(str(path))

    assert importers == {"pfn_node/outbound.py"}


async def test_the_library_still_asks_the_guard_for_its_connections(internet: FakeInternet) -> None:
    """The guard is only worth something while httpcore opens every connection through its network backend."""
    async with Outbound(allow_private_networks=False, user_agent="pfn/1", network=internet) as outbound:
        transport = outbound._transport
        assert isinstance(transport, object)
        pool = vars(transport)["_pool"]
        assert isinstance(pool, httpcore.AsyncConnectionPool)
        assert isinstance(vars(pool)["_network_backend"], GuardedNetwork)
