"""Hostile clients: what is no HTTP, or two requests for the price of one; wrong hosts, bodies without end, floods."""

import socket
from time import monotonic

import pytest

from tests.conformance.conftest import StartNode
from tests.conformance.node_process import Node, bearer
from tests.conformance.wire import exchange, parse, request

HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def send(node: Node, *parts: bytes, half_close: bool = False) -> bytes:
    return exchange(node.host, node.port, *parts, half_close=half_close)


def get(target: str, *fields: str, host: str = "localhost", method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode("latin-1")


SMUGGLED = get("/federation/smuggled", "Connection: close")

# Two readers of these bytes could see different requests: one answer, and what is behind it is never a request.
SMUGGLING: dict[str, bytes] = {
    "two lengths": get("/federation/subscribe", "Content-Length: 5", "Content-Length: 6", method="POST") + b"abcde",
    "two lengths in one line": get("/federation/subscribe", "Content-Length: 5, 6", method="POST") + b"abcde",
    "a length and chunks": get(
        "/federation/subscribe", "Content-Length: 5", "Transfer-Encoding: chunked", method="POST"
    )
    + b"0\r\n\r\n",
    "a negative length": get("/federation/subscribe", "Content-Length: -1", method="POST"),
    "a length in hex": get("/federation/subscribe", "Content-Length: 0x5", method="POST") + b"abcde",
    "a length with a plus": get("/federation/subscribe", "Content-Length: +5", method="POST") + b"abcde",
    "a length of five thousand digits": get("/federation/subscribe", "Content-Length: " + "9" * 5000, method="POST"),
    "chunks in a disguise": get("/federation/subscribe", "Transfer-Encoding: xchunked", method="POST") + b"0\r\n\r\n",
    "chunks, twice": get("/federation/subscribe", "Transfer-Encoding: chunked, chunked", method="POST") + b"0\r\n\r\n",
    "a chunk of no size": get("/federation/subscribe", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n",
    "a space before the colon": get("/federation/subscribe", "Content-Length : 5", method="POST") + b"abcde",
    "a line that is no header": get("/federation/sources", "no header"),
    "a NUL in a header": get("/federation/sources", "X: a\0b"),
    "two hosts": get("/federation/sources", "Host: other"),
    "no host": b"GET /federation/sources HTTP/1.1\r\n\r\n",
    "a space in the target": get("/federation/sources x"),
    "a method that is none": get("/federation/sources", method="GE(T"),
    "HTTP/2, known beforehand": HTTP2,
    "HTTP/3": b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
    "a tunnel": b"CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n",
    "nothing but line ends": b"\r\n" * 10_000,
}


@pytest.mark.parametrize("shape", SMUGGLING)
def test_a_request_is_refused_and_nothing_behind_it_is_one(node: Node, shape: str) -> None:
    raw = send(node, SMUGGLING[shape] + SMUGGLED, half_close=True)

    assert b" 200 " not in raw and b" 500 " not in raw and b" 101 " not in raw
    assert raw.count(b"HTTP/1.1 ") <= 1
    assert b"Traceback" not in raw
    assert node.is_well()


def test_an_upgrade_to_http_2_is_not_taken(node: Node) -> None:
    raw = send(node, get("/healthz", "Connection: Upgrade, HTTP2-Settings, close", "Upgrade: h2c", "HTTP2-Settings: x"))

    assert parse(raw).status in (200, 400)
    assert b" 101 " not in raw


def test_a_hundred_and_one_header_fields_are_too_many(node: Node) -> None:
    assert parse(send(node, get("/healthz", *(f"X{n}: a" for n in range(101))))).status in (400, 431)


def test_a_header_without_end_is_cut(node: Node) -> None:
    raw = send(node, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000)

    assert b" 200 " not in raw
    assert node.is_well()


def test_a_target_of_a_hundred_kilobytes_is_refused(node: Node) -> None:
    raw = send(node, get("/federation/plugins?q=" + "a" * 100_000))

    assert b" 200 " not in raw and b" 500 " not in raw


HOSTS = [
    "evil.example",
    "localhost.evil.example",
    "evil.example:8470",
    "127.0.0.1.evil.example",
    "localhost@evil.example",
    "evil.example@localhost",
    "evil.example#localhost",
    "[::1].evil.example",
    "",
]


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host or "nothing")
def test_a_page_whose_name_was_made_to_point_here_reads_nothing_under_the_host(node: Node, host: str) -> None:
    raw = send(node, get("/federation/sources", "Connection: close", host=host))

    assert parse(raw).status in (421, 400)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "localhost:1234"])
def test_the_node_answers_to_its_own_host(node: Node, host: str) -> None:
    assert parse(send(node, get("/healthz", "Connection: close", host=host))).status == 200


def test_the_host_is_asked_for_everywhere(node: Node) -> None:
    for target in ("/", "/healthz", "/metrics", "/node/v1/info", "/federation/keys", "/nothing"):
        assert parse(send(node, get(target, "Connection: close", host="evil.example"))).status == 421, target


# --- Bodies ---------------------------------------------------------------------------------------------------------


def test_a_body_over_the_limit_is_refused_before_it_is_sent(node: Node) -> None:
    head = request(
        "POST", "/federation/subscribe", "localhost", headers=bearer(node.key) | {"Content-Length": "99999999"}
    )

    assert parse(send(node, head)).status == 413


def test_chunks_count_together_against_the_limit(node: Node) -> None:
    head = request(
        "POST", "/federation/subscribe", "localhost", headers=bearer(node.key) | {"Transfer-Encoding": "chunked"}
    )
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    assert parse(send(node, head, *[chunk] * 17)).status == 413


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a text": b'"subscribe"',
    "nested without end": b'{"sourceId":' + b"[" * 100_000,
    "not UTF-8": b'{"sourceId": "\xff"}',
    "UTF-16": '{"sourceId": "a@b"}'.encode("utf-16"),
    "half a surrogate pair": b'{"sourceId": "\\ud800@a.example"}',
    "a number for a text": b'{"sourceId": 7}',
    "a list for a text": b'{"sourceId": ["a@b"]}',
    "an object for a text": b'{"sourceId": {"$ne": 1}}',
    "nil": b'{"sourceId": null}',
    "NaN": b'{"sourceId": NaN}',
    "a number of a hundred thousand digits": b'{"sourceId": ' + b"9" * 100_000 + b"}",
    "a name of ten thousand characters": b'{"sourceId": "' + b"a" * 10_000 + b'@b"}',
    "no field that is wanted": b'{"__proto__": {"sourceId": "a@b"}}',
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_is_a_400_that_is(node: Node, kind: str) -> None:
    answered = node.post("subscribe", BODIES[kind])

    assert answered.status == 400
    assert set(answered.json) == {"error", "details", "request_id"}
    assert "Traceback" not in answered.error and "/" not in answered.error.replace("and/or", "")


def test_a_wrong_body_is_not_looked_at_without_a_key(node: Node) -> None:
    assert node.post("subscribe", b"{", key="").status == 401


# --- Methods, paths, other pages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "POST"])
def test_a_read_is_not_answered_to(node: Node, method: str) -> None:
    answered = node.ask(method, "/federation/sources")

    assert answered.status == 405
    assert "GET" in answered.headers["allow"]


def test_a_write_is_not_done_by_get(node: Node) -> None:
    for call in ("subscribe", "add-source", "revoke-key", "create-admin-key"):
        assert node.get(call, key=node.key).status == 405, call


@pytest.mark.parametrize(
    "target",
    [
        "/../../../etc/passwd",
        "/static/../../settings.py",
        "/static/..%2f..%2fsettings.py",
        "/static/%2e%2e/%2e%2e/settings.py",
        "/static//etc/passwd",
        "/node/v1/artifacts/../../../node.key",
        "/node/v1/artifacts/..%2f..%2fnode.key",
        "/federation/plugins/..%2f..%2f/x",
        "/.git/config",
        "/%00",
        "//evil.example/federation/sources",
    ],
)
def test_no_file_is_reached_by(node: Node, target: str) -> None:
    raw = send(node, get(target, "Connection: close"))

    assert parse(raw).status in (308, 400, 404)
    assert b"root:" not in raw and b"PRIVATE KEY" not in raw and b"import " not in raw


@pytest.mark.parametrize("call", ["sources", "plugins", "health", "peers", "slugs"])
def test_a_path_with_a_slash_behind_it_is_the_same(node: Node, call: str) -> None:
    with_slash = node.ask("GET", f"/federation/{call}/")

    assert with_slash.status == node.ask("GET", f"/federation/{call}").status == 200


def test_an_unknown_path_is_a_404_in_json_that_repeats_nothing(node: Node) -> None:
    answered = node.ask("GET", "/federation/%3Cscript%3Ealert(1)%3C/script%3E")

    assert answered.status == 404
    assert b"<script>" not in answered.body
    assert answered.headers["content-type"].startswith("application/json")


def test_every_answer_tells_browsers_to_guess_and_frame_nothing(node: Node) -> None:
    for target in ("/", "/federation/sources", "/nothing", "/node/v1/info", "/openapi.json", "/docs"):
        headers = node.ask("GET", target).headers
        assert headers["x-content-type-options"] == "nosniff", target
        assert "frame-ancestors 'none'" in headers["content-security-policy"], target
        assert "unsafe" not in headers["content-security-policy"], target
        # A page's own forms say where they come from; nothing else does, to anybody.
        expected = "same-origin" if headers["content-type"].startswith("text/html") else "no-referrer"
        assert headers["referrer-policy"] == expected, target


def test_other_pages_may_read_and_never_write(node: Node) -> None:
    origin = {"Origin": "https://evil.example"}
    assert node.get("sources", headers=origin).headers["access-control-allow-origin"] == "*"

    preflight = node.ask("OPTIONS", "/federation/subscribe", headers=origin | {"Access-Control-Request-Method": "POST"})

    assert "POST" not in preflight.headers.get("access-control-allow-methods", "")
    written = node.ask("POST", "/federation/subscribe", headers=origin | bearer(node.key), body=b"{}")
    assert "access-control-allow-origin" not in written.headers
    assert "access-control-allow-credentials" not in node.get("sources", headers=origin).headers


def test_a_cookie_is_no_key(node: Node) -> None:
    answered = node.ask("GET", "/federation/keys", headers={"Cookie": f"key={node.key}; Authorization={node.key}"})

    assert answered.status == 401
    assert "set-cookie" not in answered.headers


# --- Slow clients, many clients -------------------------------------------------------------------------------------


def test_two_hundred_clients_that_send_nothing_do_not_keep_others_waiting(node: Node) -> None:
    idle = [socket.create_connection((node.host, node.port)) for _ in range(200)]
    try:
        started = monotonic()
        assert node.is_well()
        assert monotonic() - started < 5
    finally:
        for connection in idle:
            connection.close()


def test_a_client_that_dribbles_its_header_is_cut(node: Node) -> None:
    started = monotonic()
    with socket.create_connection((node.host, node.port), 30) as connection:
        connection.sendall(b"GET / HT")
        connection.settimeout(0.2)
        while True:  # a byte every fifth of a second, until the node has had enough
            try:
                assert not connection.recv(1000).startswith(b"HTTP/1.1 2")
                break
            except TimeoutError:
                assert monotonic() - started < 30
                try:
                    connection.sendall(b"T")
                except OSError:
                    break
            except OSError:
                break


@pytest.fixture(scope="module")
def behind_proxy(start_node: StartNode) -> Node:
    """A node behind a proxy on the same machine: the address that it names counts."""
    return start_node("--trusted-proxy", "127.0.0.1/32", PFN_REQUESTS_PER_MINUTE="30")


def test_an_address_that_asks_too_often_is_told_when_to_come_back(behind_proxy: Node) -> None:
    hostile = {"X-Forwarded-For": "203.0.113.5"}
    answers = [behind_proxy.ask("GET", "/healthz", headers=hostile) for _ in range(40)]

    assert {one.status for one in answers} == {200, 429}
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert behind_proxy.ask("GET", "/healthz", headers={"X-Forwarded-For": "203.0.113.6"}).status == 200


def test_an_address_that_a_client_writes_itself_does_not_free_it(behind_proxy: Node) -> None:
    """The proxy appends the true one: what stands before it is the client's own invention."""
    statuses = {
        behind_proxy.ask("GET", "/healthz", headers={"X-Forwarded-For": f"198.51.100.{n}, 203.0.113.7"}).status
        for n in range(40)
    }

    assert 429 in statuses


def test_a_network_of_ipv6_counts_as_one_address(behind_proxy: Node) -> None:
    statuses = {
        behind_proxy.ask("GET", "/healthz", headers={"X-Forwarded-For": f"2001:db8::{n:x}"}).status for n in range(40)
    }

    assert 429 in statuses


def test_without_a_proxy_nobody_s_word_about_addresses_counts(node: Node) -> None:
    statuses = {
        node.ask("GET", "/federation/keys", headers={"X-Forwarded-For": "203.0.113.9"} | bearer("wrong")).status
        for _ in range(15)
    }

    assert statuses == {401}  # loopback is exempt from limits; the header changes nothing


def test_whoever_guesses_keys_is_stopped_and_nobody_else(behind_proxy: Node) -> None:
    def guess(address: str) -> int:
        headers = {"X-Forwarded-For": address} | bearer("fadmin_guess")
        return behind_proxy.ask("GET", "/federation/keys", headers=headers).status

    statuses = [guess("203.0.113.20") for _ in range(15)]

    assert statuses[0] == 401 and statuses[-1] == 429
    assert guess("203.0.113.21") == 401


def test_whoever_guesses_the_master_key_is_stopped(behind_proxy: Node) -> None:
    def guess() -> int:
        headers = {"X-Forwarded-For": "203.0.113.30"} | bearer("m" * 40)
        return behind_proxy.ask("POST", "/federation/create-admin-key", headers=headers, body=b"{}").status

    assert {guess() for _ in range(15)} == {401, 429}


def test_the_documents_of_the_api_show_no_secret(node: Node) -> None:
    secret = node.key.rpartition("_")[2]
    for target in ("/openapi.json", "/docs", "/metrics", "/", "/federation/health", "/federation/peers"):
        body = node.ask("GET", target, headers=bearer(node.key)).body.decode()
        assert secret not in body and node.master_key not in body, target


def test_metrics_name_no_path_that_a_client_invented(node: Node) -> None:
    """Or every request would make a new line there, for ever."""
    node.ask("GET", "/invented-path-of-a-stranger")
    node.ask("BREW", "/federation/sources")

    text = node.ask("GET", "/metrics").body.decode()

    assert "invented-path" not in text
