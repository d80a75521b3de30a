"""What a site asks besides plugins of publishers: refused without an upstream, else passed on and back, and bounded."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import trio

from pfn_node.settings import Settings, SettingsError, load_settings
from pfn_node.web.consumers.upstream import ANSWER_BYTES_MAX, Upstream
from tests.node.fake_outbound import Answer, FakeNetwork, Request
from tests.node.web_node import BILBO, WebNode, web_node
from tests.node.wordpress_site import FILE, ask, check, installed, own

UPSTREAM = "https://api.upstream.test"
AKISMET = "akismet/akismet.php"
CORE = "/core/version-check/1.7/?version=6.1&php=8.2&locale=en_US"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        await made.add_release(b"1.1", version="1.1.0")
        yield made


@pytest.fixture
async def network(node: WebNode) -> AsyncIterator[FakeNetwork]:
    """An upstream that says what it was asked."""
    made = FakeNetwork()
    made.hosts["api.upstream.test"] = lambda request: (
        json.dumps({"asked": request.url, "form": request.body.decode()}),
        200,
        {"content-type": "application/json; charset=UTF-8"},
    )
    async with made.outbound() as outbound:
        node.services.upstream = Upstream(outbound, UPSTREAM)
        yield made


def answering(network: FakeNetwork, answer: Answer | Callable[[Request], Answer]) -> None:
    network.hosts["api.upstream.test"] = answer if callable(answer) else lambda request: answer


@pytest.mark.parametrize(
    "path", [CORE, "/themes/update-check/1.1/", "/translations/core/1.0/", "/secret-key/1.1/salt/"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_without_an_upstream_a_site_is_told_that_there_is_none(node: WebNode, path: str, method: str) -> None:
    got = await node.call(method, path)

    assert got.status == 404
    assert got.sentence


async def test_a_question_goes_to_the_upstream_as_it_came_without_who_asked(
    node: WebNode, network: FakeNetwork
) -> None:
    got = await node.get(CORE, headers={"User-Agent": "WordPress/6.1; https://site.test", "Cookie": "a=b", "X-Up": "1"})

    assert got.status == 200
    assert got.json["asked"] == UPSTREAM + CORE
    (request,) = network.requests
    assert request.headers["user-agent"] == "test"
    assert not {"cookie", "x-up", "x-forwarded-for", "referer"} & set(request.headers)


async def test_a_form_goes_to_the_upstream_as_it_came(node: WebNode, network: FakeNetwork) -> None:
    got = await node.post("/themes/update-check/1.1/", data="themes=%7B%7D&locale=en_US")

    assert got.json["form"] == "themes=%7B%7D&locale=en_US"
    assert network.requests[0].headers["content-type"] == "application/x-www-form-urlencoded"


async def test_a_page_of_the_upstream_comes_back_as_text(node: WebNode, network: FakeNetwork) -> None:
    answering(network, ("<script>alert(1)</script>", 403, {"content-type": "text/html", "set-cookie": "a=b"}))

    got = await node.get("/core/credits/1.1/")

    assert (got.status, got.headers["Content-Type"]) == (403, "text/plain; charset=utf-8")
    assert "Set-Cookie" not in got.headers
    assert got.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "answer",
    [
        ("", 302, {"location": "https://elsewhere.test/"}),
        ("broken", 500, {}),
        (b"x" * (ANSWER_BYTES_MAX + 1), 200, {}),
        (b"\x1f\x8b", 200, {"content-encoding": "gzip"}),
    ],
)
async def test_what_is_no_answer_is_a_502(node: WebNode, network: FakeNetwork, answer: Answer) -> None:
    answering(network, answer)

    got = await node.get(CORE)

    assert got.status == 502
    assert got.sentence
    assert len(network.requests) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/core/../secret-key/1.1/salt/",
        "/core/%2e%2e/secret-key/",
        "/core//evil.test/",
        "/core/x%3Fa=b",
        "/core/a@evil.test/",
        "/core/" + "a/" * 20,
        "/core/version-check/1.7/?" + "a" * 9_000,
        "/secret-key/1.1/salt/",
        "/stats/1.0/",
    ],
)
async def test_the_upstream_is_asked_for_nothing_else(node: WebNode, network: FakeNetwork, path: str) -> None:
    got = await node.get(path)

    assert got.status in (404, 405)
    assert network.requests == []


async def test_a_plugin_that_is_not_known_here_is_the_upstreams(node: WebNode, network: FakeNetwork) -> None:
    ours = await ask(node, "plugin_information", slug="hello-signal")
    theirs = await ask(node, "plugin_information", slug="akismet")

    assert ours.json["version"] == "1.1.0"
    assert theirs.json["asked"].startswith(f"{UPSTREAM}/plugins/info/1.2/?action=plugin_information&request%5Blocale")
    assert len(network.requests) == 1

    answering(network, ("", 500, {}))

    assert (await ask(node, "plugin_information", slug="akismet")).sentence == "Plugin not found."


async def test_what_was_taken_down_here_is_not_asked_for_elsewhere(node: WebNode, network: FakeNetwork) -> None:
    body = {"sourceId": BILBO, "plugin": "hello-signal", "version": "1.1.0", "reason": "it steals"}
    assert (await node.post("/federation/takedown", body)).status == 200

    assert (await ask(node, "plugin_information", slug="hello-signal")).json["error"] == "closed"
    assert network.requests == []


def updates(request: Request) -> Answer:
    """An upstream that has an update for everything it can think of, and says so twice."""
    answer: dict[str, Any] = {
        "plugins": {file: {"new_version": "9"} for file in (AKISMET, FILE, "other/other.php")} | {"x/x.php": "no"},
        "no_update": {"x/x.php": {"new_version": "1"}},
        "translations": [{"type": "plugin", "slug": "akismet"}],
    }
    return json.dumps(answer), 200, {"content-type": "application/json"}


async def test_other_plugins_updates_are_the_upstreams_and_ours_are_never_replaced(
    node: WebNode, network: FakeNetwork
) -> None:
    answering(network, updates)
    site = {
        FILE: installed("1.0.0"),
        AKISMET: installed("5.0", uri=""),
        "x/x.php": installed("1", uri="https://wordpress.org/plugins/x/"),
        "other/other.php": installed("1", uri="https://vendor.test/other"),
    }

    answer = await check(node, site)

    assert answer["plugins"][FILE]["new_version"] == "1.1.0"
    assert answer["plugins"][AKISMET] == {"new_version": "9"}
    assert set(answer["plugins"]) == {FILE, AKISMET}
    assert answer["no_update"] == {"x/x.php": {"new_version": "1"}}
    assert answer["translations"] == [{"type": "plugin", "slug": "akismet"}]
    form = parse_qs(network.requests[0].body.decode())
    asked = json.loads(form["plugins"][0])
    assert asked == {"plugins": {AKISMET: site[AKISMET], "x/x.php": site["x/x.php"]}, "active": [AKISMET, "x/x.php"]}
    assert form["all"] == ["true"]


async def test_a_slug_that_an_admin_approved_is_not_asked_for_elsewhere(node: WebNode, network: FakeNetwork) -> None:
    answering(network, updates)
    await own(node, "hello-signal", BILBO)

    answer = await check(node, {FILE: installed("1.1.0", uri="")})

    assert (answer["plugins"], set(answer["no_update"])) == ({}, {FILE})
    assert network.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        ("", 500, {}),
        ("[" * 100_000, 200, {}),
        ("[]", 200, {}),
        ('{"plugins":[],"translations":{}}', 200, {}),
        ("", 404, {}),
    ],
)
async def test_ours_are_answered_whatever_the_upstream_says(
    node: WebNode, network: FakeNetwork, answer: Answer
) -> None:
    answering(network, answer)

    found = await check(node, {FILE: installed("1.0.0"), AKISMET: installed("5.0", uri="")})

    assert set(found["plugins"]) == {FILE}
    assert (found["no_update"], found["translations"]) == ({}, [])


async def test_an_upstream_that_hangs_keeps_nobody_waiting(
    node: WebNode, network: FakeNetwork, autojump_clock: object
) -> None:
    network.before_answer = lambda request: trio.Event()

    assert (await node.get(CORE)).status == 502
    started = trio.current_time()
    assert set((await check(node, {FILE: installed("1.0.0"), AKISMET: installed("5", uri="")}))["plugins"]) == {FILE}
    assert trio.current_time() - started < 3


@pytest.mark.parametrize(
    "url", ["http://api.test", "https://api.test/x", "api.test", "https://u@api.test", "https://a?b"]
)
def test_an_upstream_is_a_host_over_https(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PFN_WORDPRESS_UPSTREAM", url)

    with pytest.raises(SettingsError, match="wordpress_upstream"):
        load_settings({"data": "/d"})


def test_an_upstream_may_be_on_this_machine_where_private_networks_are_dialled() -> None:
    settings = Settings(data=Path("/d"), allow_private_networks=True, wordpress_upstream="http://127.0.0.1:8/")

    assert settings.wordpress_upstream == "http://127.0.0.1:8"
    assert Settings(data=Path("/d")).wordpress_upstream is None
