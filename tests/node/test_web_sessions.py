"""Sessions of the web interface: a key exchanged for a cookie, which alone may only read."""

from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from pfn_node.store import sessions
from pfn_node.web.session_tokens import COOKIE, cookie_name, csrf_token, hash_token, is_foreign, is_same_origin
from pfn_protocol.identity import did_key
from tests.node.web_node import BILBO, NOW, STRANGER, WebNode, restarted, web_node

HOURS = 3600
HOST = "node.test"
ORIGIN = {"Host": HOST, "Origin": "https://node.test"}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        yield made


async def begun(node: WebNode, key: str | None = None, headers: dict[str, str] = ORIGIN) -> dict[str, str]:
    """Begin a session; the headers with which a page of the node then asks."""
    got = await node.post("/session", key=key, headers=headers)
    assert got.status == 200, got.body
    cookie = SimpleCookie(got.headers["Set-Cookie"])
    name = next(iter(cookie))
    return headers | {"Cookie": f"{name}={cookie[name].value}", "X-CSRF-Token": got.json["csrf_token"]}


def everything_in(folder: Path) -> bytes:
    """What the database's files hold, the log included."""
    return b"".join(path.read_bytes() for path in folder.glob("node.db*"))


def token_of(headers: dict[str, str]) -> str:
    return headers["Cookie"].partition("=")[2]


async def test_over_https_the_cookie_is_bound_to_the_host_and_out_of_reach_of_scripts(node: WebNode) -> None:
    got = await node.post("/session", headers=ORIGIN)

    cookie = got.headers["Set-Cookie"]
    assert cookie.startswith(f"{COOKIE}=") and COOKIE.startswith("__Host-")
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "secure", "samesite=strict", "path=/", "max-age=28800"} <= parts
    assert not any(part.startswith("domain") for part in parts)
    assert got.json["expires"] == NOW + 8 * HOURS and got.json["key_id"] == node.key.split("_")[1]
    assert node.key not in got.body.decode()
    assert "Access-Control-Allow-Origin" not in (await node.get("/session", headers=ORIGIN)).headers


async def test_over_plain_http_on_this_machine_the_name_has_no_prefix_and_differs_by_port(node: WebNode) -> None:
    for host, name in (
        ("127.0.0.1:8470", "pfn_session_8470"),
        ("localhost", "pfn_session_80"),
        ("[::1]:9", "pfn_session_9"),
    ):
        headers = await begun(node, headers={"Host": host, "Origin": f"http://{host}"})

        assert headers["Cookie"].startswith(f"{name}=")
        assert (await node.get("/session", headers=headers)).status == 200


async def test_over_plain_http_from_elsewhere_no_session_is_begun(node: WebNode, tmp_path: Path) -> None:
    got = await node.post("/session", headers={"Host": "203.0.113.7:8470"})

    assert got.status == 403 and "https" in got.sentence
    (tmp_path / "home").mkdir()
    async with web_node(tmp_path / "home", allow_private_networks=True) as home:
        assert (await home.post("/session", headers={"Host": "192.168.1.7:8470"})).status == 200


async def test_a_trusted_proxy_says_whether_the_browser_speaks_https(tmp_path: Path) -> None:
    async with web_node(tmp_path, trusted_proxy=("10.0.0.0/8",), allowed_host=("other.test",)) as node:
        proxied: dict[str, Any] = {"scope_base": {"client": ("10.0.0.1", 1)}}
        direct: dict[str, Any] = {"scope_base": {"client": ("203.0.113.5", 1)}}
        headers = {"Host": "other.test", "X-Forwarded-Proto": "https"}

        assert COOKIE in (await node.post("/session", headers=headers, **proxied)).headers["Set-Cookie"]
        assert (await node.post("/session", headers=headers, **direct)).status == 403
        plain = {"Host": HOST, "X-Forwarded-Proto": "http"}
        assert (await node.post("/session", headers=plain, **proxied)).status == 403


async def test_only_a_hash_of_the_token_is_kept(node: WebNode, tmp_path: Path) -> None:
    headers = await begun(node)

    stored = everything_in(tmp_path)
    assert token_of(headers).encode() not in stored
    assert headers["X-CSRF-Token"].encode() not in stored
    assert hash_token(token_of(headers)) in stored


async def test_a_session_is_taken_wherever_a_key_is(node: WebNode) -> None:
    headers = await begun(node)

    for path in (
        "/federation/keys",
        "/federation/activity",
        "/federation/subscriptions",
        "/federation/audit",
        "/session",
    ):
        assert (await node.get(path, headers=headers)).status == 200, path
        assert (await node.get(path)).status == 401, path
    subscribed = await node.call("POST", "/federation/subscribe", json={"sourceId": BILBO}, headers=headers)
    assert subscribed.status == 200
    assert node.sources.synced[0][1] == node.key.split("_")[1], "the subscriber is the key"
    await node.add_release(b"zip")
    download = f"/federation/download?sourceId={BILBO}&plugin=hello-signal"
    assert (await node.get(download, headers=headers)).status == 200


async def test_a_session_has_the_scopes_of_its_key(node: WebNode) -> None:
    headers = await begun(node, await node.make_key(scopes=["read"]))

    assert (await node.get("/federation/activity", headers=headers)).status == 200
    assert (await node.get("/federation/keys", headers=headers)).status == 403


FOREIGN: dict[str, dict[str, str | None]] = {
    "another site": {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    "another site, as an old browser says it": {"Origin": "https://evil.example"},
    "another site that says no origin": {"Origin": None, "Sec-Fetch-Site": "cross-site"},
    "a sister host": {"Origin": "https://evil.node.test", "Sec-Fetch-Site": "same-site"},
    "the same host over plain http": {"Origin": "http://node.test"},
    "the same host on another port": {"Origin": "https://node.test:8443", "Sec-Fetch-Site": "same-site"},
    "a sandboxed frame": {"Origin": "null"},
    "a file": {"Origin": "file://"},
    "a name that begins like the node's": {"Origin": "https://node.test.evil.example"},
    "a user's name like the node's": {"Origin": "https://node.test@evil.example"},
    "an origin with a path": {"Origin": "https://node.test/x"},
    "nobody knows": {"Origin": None},
    "an address bar": {"Origin": None, "Sec-Fetch-Site": "none"},
    "a page of the node, without the token": {"X-CSRF-Token": None},
    "a page of the node, with another session's token": {"X-CSRF-Token": "x" * 43},
    "a foreign page that knows the token": {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
}
CALLS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("POST", "/federation/peers", {"action": "pin", "node_id": did_key(STRANGER.public)}),
    ("POST", "/federation/remove-source", {"sourceId": BILBO}),
    ("POST", "/federation/subscribe", {"sourceId": BILBO}),
    ("POST", "/federation/revoke-key", {"id": "KEY"}),
    ("POST", "/federation/rotate-key", {"id": "KEY"}),
    ("POST", "/federation/slugs", {"sourceId": BILBO, "slug": "hello-signal"}),
    ("DELETE", "/session", {}),
)


def state_of(node: WebNode) -> list[list[dict[str, Any]]]:
    """Everything that such a call could change; uses of a key and what is written of refusals aside."""

    def look(db: sqlite_utils.Database) -> list[list[dict[str, Any]]]:
        names = ("sources", "api_keys", "sessions", "peers", "subscriptions", "slug_owners", "activity")
        return [[row | {"last_used": None} for row in db[name].rows] for name in names]

    return node.services.database.read_now(look)


@pytest.mark.parametrize("name", FOREIGN)
async def test_a_forged_request_is_403_and_changes_nothing(node: WebNode, name: str) -> None:
    page = await begun(node)
    headers = {header: value for header, value in (page | FOREIGN[name]).items() if value is not None}
    before = state_of(node)

    for method, path, body in CALLS:
        sent = body | ({"id": node.key.split("_")[1]} if "id" in body else {})
        got = await node.call(method, path, json=sent, headers=headers)

        assert got.status == 403, (path, got.body)
        assert got.sentence and "Access-Control-Allow-Origin" not in got.headers
    assert state_of(node) == before
    assert (node.mesh.policies, node.sources.removed, node.sources.synced) == ([], [], [])


@pytest.mark.parametrize(
    "said", [{"Origin": "https://node.test"}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": "https://node.test:443"}]
)
async def test_a_page_of_the_node_changes_what_it_asks_for(node: WebNode, said: dict[str, str]) -> None:
    page = await begun(node)
    del page["Origin"]

    for method, path, body in (CALLS[0], CALLS[2], CALLS[1]):
        assert (await node.call(method, path, json=body, headers=page | said)).status == 200, path


async def test_a_key_in_the_header_needs_no_page(node: WebNode) -> None:
    page = await begun(node)
    headers = {"Cookie": page["Cookie"], "Origin": "https://evil.example"}

    assert (await node.post("/federation/subscribe", {"sourceId": BILBO}, headers=headers)).status == 200


async def test_another_origin_begins_no_session_with_a_key_of_its_own(node: WebNode) -> None:
    got = await node.post("/session", headers={"Host": HOST, "Origin": "https://evil.example"})

    assert got.status == 403 and "Set-Cookie" not in got.headers


async def test_a_session_is_not_exchanged_for_another(node: WebNode) -> None:
    page = await begun(node)

    assert (await node.call("POST", "/session", headers=page)).status == 401


async def test_signing_out_ends_the_session_on_the_server(node: WebNode) -> None:
    page = await begun(node)

    out = await node.call("DELETE", "/session", headers=page)

    assert out.status == 200 and "Max-Age=0" in out.headers["Set-Cookie"]
    assert (await node.get("/session", headers=page)).status == 401
    assert (await node.get("/federation/keys", headers=page)).status == 401
    assert (await node.call("DELETE", "/session", headers=page)).status == 401


async def test_without_a_session_there_is_none_to_show_or_end(node: WebNode) -> None:
    assert (await node.read("/session")).status == 401
    got = await node.call("DELETE", "/session", headers={"Authorization": f"Bearer {node.key}"})
    assert got.status == 401 and "no session" in got.sentence


async def test_revoking_a_key_ends_its_sessions(node: WebNode) -> None:
    key = await node.make_key()
    page = await begun(node, key)

    await node.post("/federation/revoke-key", {"id": key.split("_")[1]})

    assert (await node.get("/federation/keys", headers=page)).status == 401
    assert await node.services.database.read(lambda db: db["sessions"].count) == 0


async def test_a_key_that_expires_takes_its_sessions_along(node: WebNode) -> None:
    key = await node.make_key(expires_in_days=1)
    node.services.now = lambda: float(NOW + 20 * HOURS)
    later = restarted(node)
    page = await begun(later, key)
    shown = await later.get("/session", headers=page)
    node.services.now = lambda: float(NOW + 24 * HOURS)

    assert shown.json["expires"] == NOW + 24 * HOURS
    assert (await restarted(node).get("/federation/keys", headers=page)).status == 401


async def test_a_rotated_key_takes_its_sessions_along_when_its_time_is_over(node: WebNode) -> None:
    key = await node.make_key()
    page = await begun(node, key)
    await node.post("/federation/rotate-key", {"id": key.split("_")[1], "overlap_hours": 1})

    assert (await node.get("/federation/keys", headers=page)).status == 200
    node.services.now = lambda: float(NOW + HOURS)
    assert (await restarted(node).get("/federation/keys", headers=page)).status == 401


async def test_a_session_ends_after_eight_hours_and_survives_a_restart_until_then(node: WebNode) -> None:
    page = await begun(node)

    node.services.now = lambda: float(NOW + 8 * HOURS - 1)
    assert (await restarted(node).get("/federation/keys", headers=page)).status == 200
    node.services.now = lambda: float(NOW + 8 * HOURS)
    assert (await restarted(node).get("/federation/keys", headers=page)).status == 401


async def test_sessions_are_few_and_the_expired_are_swept(node: WebNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_PER_KEY_MAX", 3)
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 5)

    async def count() -> int:
        return await node.services.database.read(lambda db: db["sessions"].count)

    for _ in range(5):
        last = await begun(node)
    assert await count() == 3
    assert (await node.get("/session", headers=last)).status == 200
    for _ in range(4):
        await begun(node, await node.make_key())
    assert await count() == 5
    node.services.now = lambda: float(NOW + 8 * HOURS)
    await begun(restarted(node))
    assert await count() == 1


@pytest.mark.parametrize("value", ["", "x", "é" * 43, "../" * 20, "A" * 5000, "A" * 43])
async def test_a_cookie_that_is_no_session_is_401(node: WebNode, value: str) -> None:
    got = await node.get("/federation/keys", headers=ORIGIN | {"Cookie": f"{COOKIE}={value}"})

    assert got.status == 401


async def test_over_https_a_cookie_without_the_prefix_counts_for_nothing(node: WebNode) -> None:
    page = await begun(node)
    tossed = page | {"Cookie": f"pfn_session_443={token_of(page)}; pfn_session_80={token_of(page)}"}

    assert (await node.get("/federation/keys", headers=tossed)).status == 401


def test_a_token_against_forgery_belongs_to_one_session() -> None:
    assert csrf_token("a" * 43) != csrf_token("b" * 43) and len(csrf_token("a" * 43)) == 43


def test_names_and_origins_are_read_strictly() -> None:
    assert cookie_name("[::1", secure=False) == "pfn_session_80"
    assert is_same_origin("https://NODE.test", None, "node.test:443", secure=True)
    assert not is_same_origin("https://[::1", None, "node.test", secure=True)
    assert not is_same_origin(None, "same-site", "node.test", secure=True)
    assert not is_same_origin("https://node.test", "same-site", "node.test", secure=True)
    assert not is_foreign(None, None, "node.test", secure=True)
