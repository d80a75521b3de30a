"""Attacks on the pages: floods of live maps, forms replayed from other sessions, sessions that outlive signing out,
keys that are guessed, and publishers that are none."""

import hmac
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from pfn_node.sources.outcomes import PublisherFailed
from pfn_node.store import sessions
from pfn_node.web import auth
from pfn_node.web.auth import mint
from pfn_node.web.pages.mesh_live import STREAMS_OF_ADDRESS_MAX
from pfn_node.web.pages.page_routes import Form
from pfn_node.web.pages.site import SUBJECTS
from pfn_node.web.services import MAP_STREAMS_MAX
from tests.node.page_reader import Browser, Reader
from tests.node.test_web_events import served
from tests.node.test_web_page_mesh import a_peer
from tests.node.test_web_page_mesh_live import live, told
from tests.node.test_web_page_scopes import filled
from tests.node.web_node import BILBO, WebNode, web_node

FORMS: list[Form] = [form for subject in SUBJECTS for form in subject.forms if form.key_field is None]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        await made.add_release(b"zip")
        yield made


# ---- Floods.


async def test_a_flood_of_live_maps_takes_its_places_and_nothing_else_of_the_node(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"trusted_proxy": ["127.0.0.0/8"]}
    async with served(tmp_path, **settings) as (node, client), AsyncExitStack() as open_ones:
        port = client.base_url.port
        assert port is not None
        node.mesh.known = [a_peer(1, "eager")]

        async def ask(number: int) -> bytes:
            address = f"X-Forwarded-For: 198.51.100.{number // STREAMS_OF_ADDRESS_MAX}\r\n"
            stream = await open_ones.enter_async_context(live(port, address))
            if stream.headers.startswith(b"http/1.1 200"):
                await told(stream)
            return stream.headers

        heads = [await ask(number) for number in range(MAP_STREAMS_MAX + 10)]
        statuses = [head.split()[1] for head in heads]
        page = await client.get("/mesh", headers={"Accept": "text/html"})
        events = await open_ones.enter_async_context(client.stream("GET", "/federation/events"))

        assert statuses == [b"200"] * MAP_STREAMS_MAX + [b"503"] * 10
        assert b"retry-after: 15\n" in heads[-1]
        assert sum(node.services.looks.streams.values()) == MAP_STREAMS_MAX
        assert page.status_code == 200 and "mesh-map" in page.text, "the map is there for all, it only stands still"
        assert events.status_code == 200, "those with a key have places of their own"
        assert (await client.get("/readyz")).status_code == 200


# ---- Sessions.


async def test_a_form_with_the_token_of_another_session_is_refused_and_changes_nothing(node: WebNode) -> None:
    victim, attacker = Browser(node), Browser(node)
    await victim.sign_in()
    await attacker.sign_in()
    assert victim.token != attacker.token
    before = len((await node.read("/federation/keys")).json["keys"])

    for form in FORMS:
        for token in (attacker.token, victim.token[:-1], victim.token + "x", ""):
            got = await victim.send(filled(form.path), csrf=token, sourceId=BILBO)
            assert got.status == 403, (form.path, token)

    assert len((await node.read("/federation/keys")).json["keys"]) == before
    assert not node.sources.removed and not node.sources.synced
    assert (await victim.open("/admin/keys")).status == 200, "nor was the victim signed out"


async def test_a_token_without_its_cookie_and_a_cookie_without_a_page_of_this_node_do_nothing(node: WebNode) -> None:
    browser = Browser(node)
    await browser.sign_in()
    cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
    body = f"csrf_token={browser.token}&sourceId={BILBO}"
    ours = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}

    for form in FORMS:
        path = filled(form.path)
        without_cookie = await node.call("POST", path, data=body, headers=ours)
        without_page = await node.call("POST", path, data=body, headers=cookie)
        foreign = await node.call(
            "POST", path, data=body, headers=cookie | {"Origin": "http://evil.test", "Sec-Fetch-Site": "cross-site"}
        )
        assert without_cookie.headers["Location"].startswith("/sign-in"), path
        assert (without_page.status, foreign.status) == (403, 403), path

    assert not node.sources.removed and not node.sources.synced


async def test_signing_out_ends_the_session_on_every_way_and_no_other_session(node: WebNode) -> None:
    here, elsewhere = Browser(node), Browser(node)
    await here.sign_in()
    await elsewhere.sign_in()
    stolen = Browser(node, here.token, dict(here.cookies))
    cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in stolen.cookies.items())}

    await here.send("/sign-out")

    assert here.cookies == {}
    for page in ("/admin/keys", "/activity", "/admin/sources/add"):
        assert (await stolen.open(page)).headers["Location"].startswith("/sign-in")
    for form in FORMS:
        assert (await stolen.send(filled(form.path))).headers["Location"].startswith("/sign-in"), form.path
    for path in ("/session", "/federation/keys", "/federation/activity", "/federation/events"):
        assert (await node.get(path, headers=cookie)).status == 401, path
    assert "Sign in" in Reader(await stolen.open("/")).text
    assert (await elsewhere.open("/admin/keys")).status == 200


async def test_signing_in_again_ends_the_session_before(node: WebNode) -> None:
    browser = Browser(node)
    await browser.sign_in()
    before = Browser(node, browser.token, dict(browser.cookies))

    await browser.sign_in()

    assert (await browser.open("/admin/keys")).status == 200
    assert (await before.open("/admin/keys")).status == 303


# ---- Keys.


async def test_the_form_takes_as_many_steps_for_an_unknown_key_as_for_a_known_one(
    node: WebNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    digest = hmac.compare_digest

    def watched(a: Any, b: Any) -> bool:
        compared.append(len(a))
        return digest(a, b)

    key_id, secret = node.key.split("_")[1], mint().text.split("_")[2][:43]
    known = f"fadmin_{key_id}_{secret}{auth._checksum(key_id, secret)}"
    monkeypatch.setattr(hmac, "compare_digest", watched)
    steps = []
    bodies = []
    for key in (mint().text, known):
        compared.clear()
        got = await Browser(node).send("/sign-in", key=key)
        assert got.status == 401
        steps.append(list(compared))
        bodies.append(Reader(got).text)

    assert steps[0] == steps[1] and bodies[0] == bodies[1]


async def test_keys_are_not_guessed_by_the_form_without_end(node: WebNode) -> None:
    abroad: dict[str, Any] = {"scope_base": {"client": ("203.0.113.5", 1)}}
    headers = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin", "Accept": "text/html"}

    async def sign_in(key: str) -> int:
        return (await node.call("POST", "/sign-in", data=f"key={key}", headers=headers, **abroad)).status

    statuses = [await sign_in(mint().text) for _ in range(12)]

    assert statuses == [401] * 10 + [429] * 2
    assert await sign_in(node.key) == 429, "the right key tells no more than a wrong one"


async def test_a_browser_cannot_fill_the_store_with_sessions(node: WebNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_PER_KEY_MAX", 3)
    for _ in range(6):
        await Browser(node).sign_in()

    count = await node.services.database.read(lambda db: db.execute("SELECT count(*) FROM sessions").fetchone()[0])
    assert count == 3


# ---- Publishers that are none.


async def test_a_preview_of_a_publisher_that_fails_is_a_page_and_not_an_error(node: WebNode) -> None:
    admin = Browser(node)
    await admin.sign_in()
    for sentence in ("its address is none that this node dials", "it said <script>pwned()</script>"):
        node.sources.failure = PublisherFailed(sentence)
        page = await admin.read(f"/admin/subscriptions?sourceId={BILBO}")
        assert sentence[3:] in page.text and "Subscribe to a source" in page.text
