"""What every request passes: Host, rates, methods, sizes; and what every answer carries."""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import pytest
import trio

from pfn_node.web import federation_releases
from pfn_node.web.gate import allowed_hosts, host_is_allowed
from pfn_node.web.rate_limits import RateLimit, bucket_name, client_address
from pfn_node.web.services import MEASURING_MAX
from tests.node.web_node import Got, WebNode, web_node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path, allowed_host=("files.test",), requests_per_minute=5) as made:
        yield made


def from_address(address: str) -> dict[str, object]:
    return {"scope_base": {"client": (address, 4000)}}


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8470",
        "127.0.0.1",
        "[::1]:8470",
        "203.0.113.7:80",
        "node.test",
        "node.test.",
        "files.test",
    ],
)
async def test_the_node_answers_to_its_own_names_and_to_any_address(node: WebNode, host: str) -> None:
    got = await node.get("/healthz", headers={"Host": host})

    assert got.status == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "node.test.evil.example",
            "",
            "localhost.evil",
            "a b",
            "@",
            "[::1].evil.example",
            "evil.example@localhost",
        ),
        *(".", "a..b", "a" * 64, "xn--\u00ff", "\u00ff" * 300),  # those that IDNA has no form for
    ],
)
async def test_another_host_name_is_misdirected(node: WebNode, host: str) -> None:
    for path in ("/healthz", "/federation/sources", "/node/v1/info", "/", "/nope"):
        got = await node.get(path, headers={"Host": host})

        assert got.status == 421
        assert "--allowed-host" in got.sentence


async def test_a_node_without_a_url_answers_to_localhost(tmp_path: Path) -> None:
    async with web_node(tmp_path, url=None) as node:
        assert allowed_hosts(node.services) == {"localhost", "127.0.0.1"}
        assert not host_is_allowed("node.test", allowed_hosts(node.services))
        assert not host_is_allowed("[::1", allowed_hosts(node.services))


async def test_every_answer_has_a_request_id_and_the_security_headers(node: WebNode) -> None:
    for path in ("/", "/docs", "/federation/sources", "/nope", "/metrics", "/node/v1/info", "/static/style.css"):
        headers = (await node.get(path)).headers

        assert len(headers["X-Request-ID"]) == 16
        assert headers["X-Content-Type-Options"] == "nosniff"
        is_page = headers["Content-Type"].startswith("text/html")
        assert headers["Referrer-Policy"] == ("same-origin" if is_page else "no-referrer")
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "Cross-Origin-Resource-Policy" in headers


async def test_reads_are_open_to_other_origins_and_writes_are_not(node: WebNode) -> None:
    origin = {"Origin": "https://shop.example"}

    read = await node.get("/federation/sources", headers=origin)
    preflight = await node.call("OPTIONS", "/federation/add-source", headers=origin)
    write = await node.post("/federation/add-source", {}, headers=origin)
    mesh = await node.get("/node/v1/info", headers=origin)

    assert read.headers["Access-Control-Allow-Origin"] == "*"
    assert preflight.headers["Access-Control-Allow-Methods"] == "GET, HEAD"
    assert "Access-Control-Allow-Origin" not in write.headers
    assert "Access-Control-Allow-Origin" not in mesh.headers


async def test_unknown_paths_are_404_in_json(node: WebNode) -> None:
    for path in ("/nope", "/federation", "/federation/nope", "/static/../app.py", "/node/v1/"):
        got = await node.get(path)

        assert (got.status, got.headers["Content-Type"]) == (404, "application/json")
        assert got.sentence


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH", "TRACE", "BREW"])
async def test_another_method_is_405_and_says_which_are_allowed(node: WebNode, method: str) -> None:
    got = await node.call(method, "/federation/sources")

    assert got.status == 405
    assert {word.strip() for word in got.headers["Allow"].split(",")} == {"GET", "HEAD", "OPTIONS"}
    assert got.sentence


async def test_paths_are_accepted_with_and_without_a_trailing_slash(node: WebNode) -> None:
    for path in ("/federation/sources", "/federation/plugins", "/healthz", "/docs", "/openapi.json", "/metrics"):
        assert (await node.get(path)).status == (await node.get(path + "/")).status == 200


async def test_too_many_requests_from_one_address_are_429_and_say_when_to_come_back(node: WebNode) -> None:
    answers = [await node.get("/healthz", **from_address("203.0.113.5")) for _ in range(6)]
    other = await node.get("/healthz", **from_address("203.0.113.6"))
    same_network = [await node.get("/healthz", **from_address(f"2001:db8::{last}")) for last in range(6)]

    assert [got.status for got in answers] == [200] * 5 + [429]
    assert int(answers[-1].headers["Retry-After"]) == 12
    assert "5 requests a minute" in answers[-1].sentence
    assert other.status == 200
    assert same_network[-1].status == 429


async def test_loopback_is_exempt_and_the_mesh_has_more_room(node: WebNode) -> None:
    local = [await node.get("/healthz", **from_address("127.0.0.1")) for _ in range(7)]
    mapped = [await node.get("/healthz", **from_address("::ffff:127.0.0.1")) for _ in range(7)]
    peer = [await node.get("/node/v1/info", **from_address("203.0.113.9")) for _ in range(20)]

    assert {got.status for got in [*local, *mapped, *peer]} == {200}


async def test_a_forwarded_address_counts_only_from_a_trusted_proxy(tmp_path: Path) -> None:
    async def six(node: WebNode, peer: str) -> Got:
        for number in range(5):
            headers = {"X-Forwarded-For": f"198.51.100.{number}"}
            await node.get("/healthz", headers=headers, **from_address(peer))
        return await node.get("/healthz", headers={"X-Forwarded-For": "198.51.100.9"}, **from_address(peer))

    async with web_node(tmp_path, trusted_proxy=("10.0.0.0/8",), requests_per_minute=5) as node:
        assert (await six(node, "203.0.113.5")).status == 429
        assert (await six(node, "10.0.0.1")).status == 200


def test_the_nearest_address_that_is_no_trusted_proxy_counts() -> None:
    trusted = (ip_network("10.0.0.0/8"),)

    def found(peer: str | None, *forwarded: str) -> str:
        return str(client_address(peer, forwarded, trusted))

    assert found("10.0.0.1", "1.1.1.1, 2.2.2.2", "10.0.0.2") == "2.2.2.2"
    assert found("10.0.0.1", "spoofed, 2.2.2.2") == "2.2.2.2"
    assert found("10.0.0.1", "nonsense") == "10.0.0.1"
    assert found("10.0.0.1", "10.0.0.3") == "10.0.0.3"
    assert found("9.9.9.9", "1.1.1.1") == "9.9.9.9"
    assert found(None, "1.1.1.1") == "None"
    assert bucket_name(None) is None


def test_the_table_of_addresses_is_bounded_and_forgets_who_was_silent_longest() -> None:
    limit = RateLimit(60, addresses_max=2)
    for _ in range(60):
        limit.take("a", 0.0)
    assert limit.take("a", 0.0) == pytest.approx(1.0)
    assert limit.wait("a", 0.0) == pytest.approx(1.0)
    assert limit.wait("b", 0.0) == 0.0

    limit.take("b", 0.0)
    limit.take("c", 0.0)

    assert limit.wait("a", 0.0) == 0.0, "forgotten"
    assert limit.take("c", 30.0) == 0.0
    assert limit.wait("c", 30.0) == 0.0


async def test_a_mistake_of_the_node_says_nothing_of_its_insides(node: WebNode) -> None:
    node.sources.failure = ZeroDivisionError("/secret/path")
    await node.add_bilbo()

    got = await node.post("/federation/verify-source", {"sourceId": "bilbo@publisher.test"})

    assert got.status == 500
    assert "secret" not in got.sentence and "ZeroDivision" not in got.sentence


async def test_a_full_disk_is_503_and_comes_back_later(node: WebNode) -> None:
    node.sources.failure = OSError(28, "No space left on device", "/secret/path")
    await node.add_bilbo()

    got = await node.post("/federation/verify-source", {"sourceId": "bilbo@publisher.test"})

    assert got.status == 503 and got.headers["Retry-After"]
    assert "secret" not in got.sentence


async def test_an_address_that_sends_wrongly_signed_requests_is_not_heard_for_a_while(tmp_path: Path) -> None:
    async with web_node(tmp_path, verifications_per_minute=3) as node:
        node.mesh.answer = (401, b"\x95refusal")
        nasty, honest = from_address("203.0.113.5"), from_address("203.0.113.6")

        forged = [await node.call("POST", "/node/v1/gossip", data=b"x", **nasty) for _ in range(5)]
        asked = len(node.mesh.asked)
        node.mesh.answer = (200, b"\x95answer")
        other = await node.call("POST", "/node/v1/gossip", data=b"x", **honest)
        page = await node.get("/healthz", **nasty)

        assert [got.status for got in forged] == [401] * 3 + [429] * 2
        assert int(forged[-1].headers["Retry-After"]) == 20
        assert asked == 3, "no signature was checked for the others"
        assert other.status == page.status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/federation/verify?sourceId=a@b&plugin=c"),
        ("POST", "/federation/verify"),
        ("POST", "/federation/releases"),
    ],
)
async def test_calls_that_verify_are_few_a_minute_from_one_address(tmp_path: Path, method: str, path: str) -> None:
    async with web_node(tmp_path, verifications_per_minute=3) as node:
        answers = [await node.call(method, path, data=b"", **from_address("203.0.113.5")) for _ in range(5)]
        other = await node.call(method, path, data=b"", **from_address("203.0.113.6"))
        plain = await node.get("/federation/plugins", **from_address("203.0.113.5"))

        assert [got.status for got in answers[3:]] == [429, 429] and 429 not in [got.status for got in answers[:3]]
        assert int(answers[-1].headers["Retry-After"]) == 20 and "verify" in answers[-1].sentence
        assert other.status != 429 and plain.status == 200


async def test_calls_that_verify_share_one_budget(tmp_path: Path) -> None:
    async with web_node(tmp_path, verifications_per_minute=2) as node:
        for _ in range(2):
            await node.call("POST", "/federation/verify", data=b"x", **from_address("203.0.113.5"))

        got = await node.get("/federation/verify?sourceId=a@b&plugin=c", **from_address("203.0.113.5"))

        assert got.status == 429


async def test_few_files_wait_to_be_read_through(node: WebNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation_releases, "MEASURING_WAITING_MAX", 2)
    busy = [object() for _ in range(MEASURING_MAX)]
    for place in busy:
        node.services.measuring.acquire_on_behalf_of_nowait(place)
    answers: list[int] = []

    async def verify() -> None:
        answers.append((await node.call("POST", "/federation/verify", data=b"a zip")).status)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(verify)
            while node.services.measuring.statistics().tasks_waiting < 2:
                await trio.lowlevel.checkpoint()
            turned_away = await node.call("POST", "/federation/verify", data=b"a zip")
            for place in busy:
                node.services.measuring.release_on_behalf_of(place)

    assert turned_away.status == 503 and turned_away.headers["Retry-After"] == "10"
    assert answers == [200, 200]
