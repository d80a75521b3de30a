"""What a fetch and a download give, and how they end."""

import errno
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import httpcore
import httpx
import pytest
import trio
import trio.testing

from pfn_node import outbound as outbound_module
from pfn_node.outbound import (
    AddressRefused,
    AnswerBroken,
    AnswerTooLarge,
    AnswerTooSlow,
    Busy,
    Outbound,
    OutboundError,
    Unreachable,
)
from pfn_node.outbound_limits import PAUSE_SECONDS, PIECES_MAX, SLOW_AFTER_SECONDS, SMALL_PIECES_BETWEEN_PAUSES
from tests.node.fake_internet import PUBLIC, PUBLIC_6, Answers, FakeInternet, answer, read_head

URL = "https://plugins.example/a.zip"


@pytest.fixture
async def internet(nursery: trio.Nursery) -> FakeInternet:
    return FakeInternet(nursery)


@pytest.fixture
async def outbound(internet: FakeInternet) -> AsyncIterator[Outbound]:
    async with Outbound(allow_private_networks=False, user_agent="pfn/1", network=internet) as client:
        yield client


@asynccontextmanager
async def private_outbound(internet: FakeInternet) -> AsyncIterator[Outbound]:
    async with Outbound(allow_private_networks=True, user_agent="pfn/1", network=internet) as client:
        yield client


async def download(outbound: Outbound, url: str = URL, *, bytes_max: int = 1000, rate: float = 0) -> bytes:
    taken = bytearray()
    await outbound.download(url, taken.extend, bytes_max=bytes_max, seconds_max=600, bytes_per_second_min=rate)
    return bytes(taken)


async def test_a_fetch_gives_status_headers_body_and_url(internet: FakeInternet, outbound: Outbound) -> None:
    machine = Answers(answer(b"hello", status="404 Not Found", headers="X-A: 1\r\nx-a: 2\r\n"))
    internet.put("plugins.example", machine)

    reply = await outbound.fetch("GET", URL, headers={"X-Mine": "yes"}, bytes_max=5, seconds_max=5)

    assert (reply.status, reply.body, reply.url) == (404, b"hello", URL)
    assert reply.headers["x-a"] == "1, 2"
    (request,) = machine.requests
    lines = request.lower().split(b"\r\n")
    assert lines[0] == b"get /a.zip http/1.1"
    assert {b"host: plugins.example", b"user-agent: pfn/1", b"accept-encoding: identity", b"x-mine: yes"} <= {*lines}


async def test_a_request_names_host_and_port_and_asks_for_all_of_the_path(internet: FakeInternet) -> None:
    machine = Answers(answer())
    internet.put("plugins.example", machine)

    async with private_outbound(internet) as private:
        url = "http://plugins.example:8080/a;b=1/c?d=e%20f;g"
        await private.fetch("GET", url, headers={"User-Agent": "another"}, bytes_max=0, seconds_max=5)

    lines = machine.requests[0].split(b"\r\n")
    assert lines[0] == b"GET /a;b=1/c?d=e%20f;g HTTP/1.1"
    assert b"host: plugins.example:8080" in [line.lower() for line in lines]
    assert [line for line in lines if line.lower().startswith(b"user-agent")] == [b"User-Agent: another"]


async def test_tls_is_verified_against_the_name_while_the_checked_address_is_dialled(
    internet: FakeInternet, outbound: Outbound
) -> None:
    internet.put("plugins.example", Answers(answer()))

    await outbound.fetch("GET", URL, bytes_max=0, seconds_max=5)

    ((context, name),) = internet.handshakes
    assert context.check_hostname
    assert name == "plugins.example"
    assert internet.dialled == [(PUBLIC, 443)]


async def test_a_post_sends_its_content(internet: FakeInternet, outbound: Outbound) -> None:
    bodies = []

    async def machine(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        bodies.append(await stream.receive_some())
        await stream.send_all(answer(b"ok"))

    internet.put("plugins.example", machine)

    reply = await outbound.fetch("POST", URL, content=b"payload", bytes_max=10, seconds_max=5)

    assert (reply.body, bodies) == (b"ok", [b"payload"])


async def test_a_head_request_takes_the_length_without_the_body(internet: FakeInternet, outbound: Outbound) -> None:
    internet.put("plugins.example", Answers(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n"))

    reply = await outbound.fetch("HEAD", URL, bytes_max=10, seconds_max=5)

    assert (reply.headers["content-length"], reply.body) == ("5000", b"")


async def test_a_connection_is_used_again(internet: FakeInternet, outbound: Outbound) -> None:
    internet.put("plugins.example", Answers(answer(b"x")))

    for _ in range(3):
        await outbound.fetch("GET", URL, bytes_max=10, seconds_max=5)

    assert len(internet.dialled) == 1


async def test_cookies_are_not_sent_back(internet: FakeInternet, outbound: Outbound) -> None:
    machine = Answers(answer(headers="set-cookie: id=1; Path=/\r\n"))
    internet.put("plugins.example", machine)

    for _ in range(2):
        reply = await outbound.fetch("GET", URL, bytes_max=10, seconds_max=5)

    assert "set-cookie" not in reply.headers
    assert b"cookie" not in machine.requests[1].lower()


async def test_the_environment_does_not_reroute_requests(
    internet: FakeInternet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    internet.put("plugins.example", Answers(answer(b"direct")))

    async with Outbound(allow_private_networks=False, user_agent="pfn/1", network=internet) as outbound:
        reply = await outbound.fetch("GET", URL, bytes_max=10, seconds_max=5)

    assert reply.body == b"direct"


async def test_a_download_hands_the_body_to_the_sink(internet: FakeInternet, outbound: Outbound) -> None:
    internet.put("plugins.example", Answers(answer(b"z" * 1000)))

    assert await download(outbound) == b"z" * 1000


async def test_a_download_leaves_the_body_of_an_error_unread(internet: FakeInternet, outbound: Outbound) -> None:
    internet.put("plugins.example", Answers(answer(b"z" * 5000, status="500 Broken")))
    taken = bytearray()

    reply = await outbound.download(URL, taken.extend, bytes_max=10, seconds_max=5, bytes_per_second_min=0)

    assert (reply.status, reply.body, bytes(taken)) == (500, b"", b"")


async def test_a_failing_sink_ends_the_download_with_its_own_error(internet: FakeInternet, outbound: Outbound) -> None:
    async def machine(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 65536)

    def full(chunk: bytes) -> None:
        raise OSError("no space left")

    internet.put("plugins.example", machine)

    with pytest.raises(OSError, match="no space left"):
        await outbound.download(URL, full, bytes_max=10**9, seconds_max=5, bytes_per_second_min=0)


# Sizes.


@pytest.mark.parametrize("size", [1001, 10**9, 10**19])
async def test_a_declared_length_over_the_cap_is_refused_before_the_body(
    internet: FakeInternet, outbound: Outbound, size: int
) -> None:
    internet.put("plugins.example", Answers(f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode()))

    with pytest.raises(AnswerTooLarge):
        await download(outbound)
    with pytest.raises(AnswerTooLarge):
        await outbound.fetch("GET", URL, bytes_max=1000, seconds_max=5)


@pytest.mark.parametrize("framing", [b"transfer-encoding: chunked\r\n", b""])
async def test_an_endless_body_is_cut_at_the_cap(internet: FakeInternet, outbound: Outbound, framing: bytes) -> None:
    sent = 0

    async def machine(stream: trio.abc.Stream) -> None:
        nonlocal sent
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        while True:
            await stream.send_all(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
            sent += 1000

    internet.put("plugins.example", machine)
    taken = bytearray()

    with pytest.raises(AnswerTooLarge):
        await outbound.download(URL, taken.extend, bytes_max=100_000, seconds_max=5, bytes_per_second_min=0)

    assert len(taken) <= 100_000
    assert sent < 300_000


async def test_a_flood_of_tiny_chunks_is_cut_at_the_cap(internet: FakeInternet, outbound: Outbound) -> None:
    async def machine(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"1\r\nx\r\n" * 1000)

    internet.put("plugins.example", machine)

    with pytest.raises(AnswerTooLarge):
        await download(outbound)


async def test_answers_in_small_pieces_are_read_with_pauses_the_longer_the_more_of_them_come(
    internet: FakeInternet, outbound: Outbound, autojump_clock: trio.testing.MockClock
) -> None:
    """A piece costs the same however small it is; a list of two megabytes in pieces of a kilobyte is no crime."""
    piece, count = b"3e8\r\n" + b"x" * 1000 + b"\r\n", 2_000
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + piece * count + b"0\r\n\r\n"
    internet.put("large.example", Answers(answer(b"x" * 1000 * count)), "93.184.216.99")
    internet.put("small.example", Answers(chunked))
    internet.put("too.example", Answers(chunked), PUBLIC_6)

    async def seconds_for(*hosts: str) -> float:
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for host in hosts:
                nursery.start_soon(partial(fetched, host))
        return trio.current_time() - started

    async def fetched(host: str) -> None:
        reply = await outbound.fetch("GET", f"https://{host}/", bytes_max=10**7, seconds_max=30)
        assert reply.body == b"x" * 1000 * count

    pauses = count // SMALL_PIECES_BETWEEN_PAUSES * PAUSE_SECONDS
    assert await seconds_for("large.example") < pauses / 10
    assert await seconds_for("small.example") == pytest.approx(pauses, rel=0.1)
    assert await seconds_for("small.example", "too.example") > 1.4 * pauses


async def test_a_body_in_far_too_many_pieces_is_given_up(internet: FakeInternet, outbound: Outbound) -> None:
    sent = 0

    async def machine(stream: trio.abc.Stream) -> None:
        nonlocal sent
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"1\r\nx\r\n" * 1000)
            sent += 1000

    internet.put("plugins.example", machine)

    with pytest.raises(AnswerBroken, match="pieces"):
        await download(outbound, bytes_max=10**9)
    assert PIECES_MAX <= sent <= PIECES_MAX + 20_000


@pytest.mark.parametrize(
    "answered",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"x" * 200_000,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00" * 500,
        b"",
    ],
)
async def test_what_is_not_complete_valid_http_is_refused(
    internet: FakeInternet, outbound: Outbound, answered: bytes
) -> None:
    async def machine(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(answered)

    internet.put("plugins.example", machine)

    with pytest.raises(AnswerBroken):
        await download(outbound)
    with pytest.raises(AnswerBroken):
        await outbound.fetch("GET", URL, bytes_max=1000, seconds_max=5)


async def test_bytes_after_the_declared_length_are_not_taken(internet: FakeInternet, outbound: Outbound) -> None:
    internet.put("plugins.example", Answers(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n"))

    assert await download(outbound) == b"ok"


@pytest.mark.parametrize("header", ["a: " + "b" * 33_000, "\r\n".join(f"a{n}: b" for n in range(101))])
async def test_a_header_beyond_its_limits_is_refused(internet: FakeInternet, outbound: Outbound, header: str) -> None:
    internet.put("plugins.example", Answers(answer(headers=header + "\r\n")))

    with pytest.raises(AnswerBroken, match="header"):
        await outbound.fetch("GET", URL, bytes_max=1000, seconds_max=5)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "identity, gzip", "x-unknown", ""])
@pytest.mark.parametrize("status", ["200 OK", "302 Found", "404 Not Found"])
async def test_a_compressed_answer_is_refused_unread(
    internet: FakeInternet, outbound: Outbound, encoding: str, status: str
) -> None:
    bomb = gzip.compress(b"\x00" * 10_000_000)
    headers = f"content-encoding: {encoding}\r\nlocation: https://plugins.example/b\r\n"
    internet.put("plugins.example", Answers(answer(bomb, status=status, headers=headers)))
    taken = bytearray()

    with pytest.raises(AnswerBroken, match="compressed"):
        await outbound.download(URL, taken.extend, bytes_max=10**9, seconds_max=5, bytes_per_second_min=0)

    assert not taken


async def test_an_answer_marked_as_identity_is_taken(internet: FakeInternet, outbound: Outbound) -> None:
    internet.put("plugins.example", Answers(answer(b"plain", headers="Content-Encoding: Identity\r\n")))

    assert await download(outbound) == b"plain"


# Time. The clock jumps, so none of this takes any.


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\na:", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"])
async def test_one_byte_a_second_does_not_outlast_the_deadline(
    internet: FakeInternet, outbound: Outbound, autojump_clock: trio.testing.MockClock, beginning: bytes
) -> None:
    async def machine(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(beginning or b"H")
        while True:
            await trio.sleep(1)
            await stream.send_all(b"x" if beginning else b"")

    internet.put("plugins.example", machine)
    started = trio.current_time()

    with pytest.raises(AnswerTooSlow, match="within 8 seconds"):
        await outbound.fetch("GET", URL, bytes_max=1000, seconds_max=8)

    assert trio.current_time() - started == pytest.approx(8)


async def test_a_download_below_the_minimum_rate_is_given_up(
    internet: FakeInternet, outbound: Outbound, autojump_clock: trio.testing.MockClock
) -> None:
    async def machine(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 50)
            await trio.sleep(1)

    internet.put("plugins.example", machine)
    started = trio.current_time()

    with pytest.raises(AnswerTooSlow, match="100 bytes per second"):
        await download(outbound, bytes_max=10**6, rate=100)

    assert trio.current_time() - started == pytest.approx(20, abs=2)


async def test_a_download_that_stops_is_given_up_after_one_window(
    internet: FakeInternet, outbound: Outbound, autojump_clock: trio.testing.MockClock
) -> None:
    async def machine(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\nx")
        await trio.sleep(1000)

    internet.put("plugins.example", machine)
    started = trio.current_time()

    with pytest.raises(AnswerTooSlow, match="Nothing came for 20 seconds"):
        await download(outbound, rate=1)

    assert trio.current_time() - started == pytest.approx(20)


async def test_a_download_may_pause_if_its_average_is_good(
    internet: FakeInternet, outbound: Outbound, autojump_clock: trio.testing.MockClock
) -> None:
    async def machine(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n")
        for _ in range(4):
            await stream.send_all(b"x" * 2500)
            await trio.sleep(15)

    internet.put("plugins.example", machine)

    assert len(await download(outbound, bytes_max=10_000, rate=100)) == 10_000


# Redirects.


async def test_a_redirect_is_an_answer_like_others_by_default(internet: FakeInternet, outbound: Outbound) -> None:
    internet.put("plugins.example", Answers(answer(status="302 Found", headers="location: /b\r\n")))

    reply = await outbound.fetch("GET", URL, bytes_max=10, seconds_max=5)

    assert (reply.status, reply.headers["location"], reply.url) == (302, "/b", URL)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_download_follows_a_redirect(internet: FakeInternet, outbound: Outbound, status: int) -> None:
    there = Answers(answer(b"here"))
    internet.put("cdn.example", there, "1.1.1.1")
    location = "location: https://cdn.example/x?y#z\r\n"
    internet.put("plugins.example", Answers(answer(status=f"{status} Moved", headers=location)))
    taken = bytearray()

    reply = await outbound.download(URL, taken.extend, bytes_max=10, seconds_max=5, bytes_per_second_min=0)

    assert (bytes(taken), reply.url) == (b"here", "https://cdn.example/x?y")
    assert there.requests[0].startswith(b"GET /x?y HTTP/1.1\r\n")


async def test_credentials_are_not_carried_along(internet: FakeInternet, outbound: Outbound) -> None:
    there = Answers(answer(b"here"))
    internet.put("cdn.example", there, "1.1.1.1")
    internet.put("plugins.example", Answers(answer(status="302 Found", headers="location: https://cdn.example/\r\n")))
    headers = {"Authorization": "Bearer secret", "X-Api-Key": "secret", "Cookie": "secret", "Range": "bytes=5-"}

    await outbound.fetch("GET", URL, headers=headers, bytes_max=10, seconds_max=5, redirects_max=1)

    assert b"secret" not in there.requests[0]
    assert b"Range: bytes=5-" in there.requests[0]


async def test_a_circle_of_redirects_ends(internet: FakeInternet, outbound: Outbound) -> None:
    machine = Answers(answer(status="302 Found", headers="location: /a.zip\r\n"))
    internet.put("plugins.example", machine)

    with pytest.raises(AnswerBroken, match="more than 2 times"):
        await download(outbound)

    assert len(machine.requests) == 3


@pytest.mark.parametrize("headers", ["", "location: \r\n"])
async def test_a_redirect_to_nowhere_is_refused(internet: FakeInternet, outbound: Outbound, headers: str) -> None:
    internet.put("plugins.example", Answers(answer(status="302 Found", headers=headers)))

    with pytest.raises(AnswerBroken, match="where to"):
        await download(outbound)


@pytest.mark.parametrize(
    "location",
    [
        *("http://169.254.169.254/latest/meta-data/", "https://169.254.169.254/", "https://[::1]/", "//127.0.0.1/"),
        *("http://plugins.example/a.zip", "file:///etc/passwd", "https://plugins.example:22/", "https://localhost/"),
        *("https://user:pw@plugins.example/", "https://[/", "https://[fe80::1%25lo]/", "\\\\127.0.0.1\\x"),
        "https://inside.example/",
    ],
)
async def test_a_redirect_out_of_the_policy_is_refused_undialled(
    internet: FakeInternet, outbound: Outbound, location: str
) -> None:
    internet.names.add("inside.example", ["169.254.169.254"])
    internet.put("plugins.example", Answers(answer(status="302 Found", headers=f"location: {location}\r\n")))

    with pytest.raises(AddressRefused):
        await download(outbound)

    assert internet.dialled == [(PUBLIC, 443)]


async def test_a_redirect_never_leads_from_https_to_http(internet: FakeInternet) -> None:
    internet.put("plugins.example", Answers(answer(status="302 Found", headers="location: http://cdn.example/\r\n")))

    async with private_outbound(internet) as outbound:
        with pytest.raises(AddressRefused, match="from https to http"):
            await download(outbound)

    assert internet.dialled == [(PUBLIC, 443)]


async def test_a_redirect_from_http_is_followed_where_http_is_allowed(internet: FakeInternet) -> None:
    machine = Answers(answer(b"ok"))
    internet.put("cdn.example", machine, "127.0.0.1")
    internet.put("plugins.example", Answers(answer(status="302 Found", headers="location: http://cdn.example/\r\n")))

    async with private_outbound(internet) as outbound:
        assert await download(outbound, "http://plugins.example/") == b"ok"


async def test_only_a_get_may_follow_redirects(outbound: Outbound) -> None:
    with pytest.raises(AssertionError):
        await outbound.fetch("POST", URL, bytes_max=1, seconds_max=1, redirects_max=1)
    with pytest.raises(AssertionError):
        await outbound.fetch("GET", URL, headers={"Accept-Encoding": "gzip"}, bytes_max=1, seconds_max=1)


# How many at once.


class Counting:
    """A machine that keeps each request waiting a while, and remembers how many waited at once."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.now = self.most = 0

    async def __call__(self, stream: trio.abc.Stream) -> None:
        while await read_head(stream):
            self.now += 1
            self.most = max(self.most, self.now)
            await trio.sleep(self.seconds)
            self.now -= 1
            await stream.send_all(answer())


async def test_one_origin_gets_four_requests_at_once(
    internet: FakeInternet, outbound: Outbound, autojump_clock: trio.testing.MockClock
) -> None:
    machine = Counting()
    internet.put("plugins.example", machine)

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(lambda: outbound.fetch("GET", URL, bytes_max=1, seconds_max=30))

    assert machine.most == 4
    assert outbound._slots.origins == 0


async def test_all_origins_together_get_thirty_two_quick_ones_and_downloads_leave_room(
    internet: FakeInternet, outbound: Outbound, autojump_clock: trio.testing.MockClock
) -> None:
    machine = Counting(SLOW_AFTER_SECONDS / 2)
    for number in range(20):
        internet.put(f"p{number}.example", machine)

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(download, outbound, f"https://p{number % 20}.example/")
    downloads = machine.most
    async with trio.open_nursery() as nursery:
        for number in range(60):
            url = f"https://p{number % 20}.example/"
            nursery.start_soon(lambda url: outbound.fetch("GET", url, bytes_max=1, seconds_max=30), url)

    assert (downloads, machine.most) == (24, 32)


async def test_waiting_too_long_for_a_place_is_not_blamed_on_the_other_machine(
    internet: FakeInternet, outbound: Outbound, autojump_clock: trio.testing.MockClock
) -> None:
    async def machine(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await trio.sleep(100)

    internet.put("plugins.example", machine)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(
                lambda: outbound.download(URL, len, bytes_max=1, seconds_max=500, bytes_per_second_min=0)
            )
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Busy):
            await outbound.fetch("GET", URL, bytes_max=1, seconds_max=5)
        nursery.cancel_scope.cancel()


async def test_cancelling_a_download_leaves_the_client_usable(
    internet: FakeInternet, outbound: Outbound, autojump_clock: trio.testing.MockClock
) -> None:
    async def machine(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\nx")
        await trio.sleep(100)

    internet.put("plugins.example", machine)
    with trio.move_on_after(1) as scope:
        await download(outbound)
    internet.put("plugins.example", Answers(answer(b"fine")))

    assert scope.cancelled_caught
    assert await download(outbound) == b"fine"


# The seams.


async def test_a_transport_of_ones_own_answers_without_a_network(internet: FakeInternet) -> None:
    async def app(scope: object, receive: object, send: Callable[[dict[str, object]], Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 70_000})

    own = httpx.ASGITransport(app=app)
    async with Outbound(allow_private_networks=True, user_agent="pfn/1", network=internet, transport=own) as outbound:
        reply = await outbound.fetch("GET", "http://alice.example/", bytes_max=70_000, seconds_max=5)
        with pytest.raises(AnswerTooLarge):
            await outbound.fetch("GET", "http://alice.example/", bytes_max=10, seconds_max=5)

    assert len(reply.body) == 70_000
    assert not internet.dialled


async def test_a_url_is_checked_under_the_policy_of_the_node(internet: FakeInternet, outbound: Outbound) -> None:
    async with private_outbound(internet) as private:
        assert private.check_url("http://LOCALHOST:1") == "http://localhost:1/"
    with pytest.raises(AddressRefused):
        outbound.check_url("http://localhost:1")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (httpcore.ConnectError, Unreachable),
        (httpcore.ConnectTimeout, Unreachable),
        (httpcore.WriteTimeout, AnswerTooSlow),
        (httpcore.PoolTimeout, AnswerTooSlow),
        (httpcore.ReadError, AnswerBroken),
        (httpcore.LocalProtocolError, AnswerBroken),
        (httpcore.UnsupportedProtocol, AnswerBroken),
    ],
)
async def test_an_error_of_the_library_becomes_one_of_ours(
    internet: FakeInternet, outbound: Outbound, theirs: type[Exception], ours: type[OutboundError]
) -> None:
    async def machine(stream: trio.abc.Stream) -> None:
        await read_head(stream)

    internet.put("plugins.example", machine)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore.AsyncConnectionPool, "handle_async_request", _raises(theirs))
        with pytest.raises(ours) as caught:
            await outbound.fetch("GET", URL, bytes_max=1, seconds_max=5)

    assert caught.value.sentence == str(caught.value)


async def test_a_lack_of_descriptors_is_not_blamed_on_the_other_side(
    internet: FakeInternet, outbound: Outbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_left(*asked: object, **options: object) -> httpcore.AsyncNetworkStream:
        if str(asked[0]) == PUBLIC_6:
            raise httpcore.ConnectError("no connection") from OSError(errno.EAFNOSUPPORT, "no such family")
        several = ExceptionGroup("both ports", [OSError(errno.ECONNREFUSED, "no"), OSError(errno.EMFILE, "none")])
        raise httpcore.ConnectError("no connection") from several

    internet.put("plugins.example", Answers(answer(b"fine")))
    internet.names.add("plugins.example", [PUBLIC, PUBLIC_6])
    with monkeypatch.context() as patch:
        patch.setattr(internet, "connect_tcp", none_left)
        with pytest.raises(Busy, match="no descriptors"):
            await outbound.fetch("GET", URL, bytes_max=10, seconds_max=5)
        patch.setattr(trio.socket, "getaddrinfo", _raises(partial(OSError, errno.EMFILE)))
        with pytest.raises(Busy, match="no descriptors"):
            await outbound.fetch("GET", URL, bytes_max=10, seconds_max=5)

    assert (await outbound.fetch("GET", URL, bytes_max=10, seconds_max=5)).body == b"fine"


def _raises(error: Callable[[str], Exception]) -> object:
    async def handle(*asked: object, **options: object) -> None:
        raise error("theirs")

    return handle


def test_the_public_names_are_what_they_promise() -> None:
    assert all(hasattr(outbound_module, name) for name in outbound_module.__all__)
