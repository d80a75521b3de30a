"""The pages for people, and the document, figures and probes for programs."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pfn_node.store import catalogue, showcase
from pfn_node.store.database import DatabaseClosed
from pfn_node.web.pages.rendering import with_code
from pfn_node.web.schemas import ANY_HTTP_PATTERN, HTTPS_PATTERN, SLUG_PATTERN, USERNAME_PATTERN, VERSION_PATTERN
from pfn_protocol.errors import Refusal
from pfn_protocol.names import check_slug, check_username, check_version, parse_instance_url
from tests.node.page_reader import Browser, Reader
from tests.node.test_web_mesh import a_peer
from tests.node.web_node import WebNode, web_node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


async def test_an_empty_node_says_what_to_do_first(node: WebNode) -> None:
    text = Reader(await node.get("/")).text

    assert "No plugins yet" in text and "--join" in text


async def test_the_home_page_shows_the_newest_plugins_and_peers_and_escapes_them(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(b"x", name="<script>alert(1)</script>")
    await node.add_report(b"y", plugin_id="other", name="<img src=x onerror=alert(1)>")
    node.mesh.known = [a_peer(), a_peer(url=None)]

    page = Reader(await node.get("/"))

    assert "<script>alert(1)</script>" in page.text and "<img src=x onerror=alert(1)>" in page.text
    assert "https://stranger.test" in page.text


async def test_every_link_of_the_pages_leads_somewhere_on_this_node(node: WebNode) -> None:
    await node.add_bilbo()
    await node.add_release(b"x")
    for path in ("/", "/docs", "/sign-in"):
        for link in Reader(await node.get(path)).links:
            assert link.startswith(("/", "#")), link
            assert (await node.get(link.partition("#")[0] or path)).status == 200, link


async def test_style_sheets_and_scripts_are_kept_for_good_under_the_name_of_their_content(node: WebNode) -> None:
    files = [link for link in Reader(await node.get("/")).links if link.startswith("/static/")]
    for link, kind in ((".css", "text/css"), (".js", "text/javascript"), (".svg", "image/svg+xml")):
        path = next(each for each in files if each.endswith(link))
        got = await node.get(path)
        again = await node.get(path, headers={"If-None-Match": got.headers["ETag"]})

        assert got.headers["Content-Type"].startswith(kind)
        assert "immutable" in got.headers["Cache-Control"]
        assert (again.status, again.body) == (304, b"")
    assert (await node.get("/static/0123456789ab/style.css")).status == 404


async def test_a_page_says_where_its_json_is_and_sends_programs_there(node: WebNode) -> None:
    page = Reader(await node.get("/", headers={"Accept": "text/html,application/json;q=0.9"}))
    got = await node.get("/", headers={"Accept": "application/json"})

    assert "/federation/health" in page.links
    assert (got.status, got.headers["Location"]) == (303, "/federation/health")


async def test_a_browser_is_told_of_errors_on_a_page_and_a_program_in_json(node: WebNode) -> None:
    page = await node.get("/no-such-page", headers={"Accept": "text/html"})
    data = await node.get("/no-such-page")
    call = await node.get("/federation/plugins/a@b.test/no-such", headers={"Accept": "text/html"})

    assert page.status == data.status == call.status == 404
    assert "Nothing here" in Reader(page).text
    assert data.json["request_id"] and call.json["request_id"]


async def test_an_error_page_shows_that_somebody_is_signed_in(node: WebNode) -> None:
    browser = Browser(node)
    stranger = Reader(await browser.open("/no-such-page"))
    await browser.sign_in()

    page = Reader(await browser.open("/no-such-page"))

    assert "Sign in" in stranger.text and "/sign-out" not in stranger.forms
    assert "Sign in" not in page.text and "/sign-out" in page.forms and "/admin/keys" in page.links


async def test_the_docs_page_shows_code_as_code(node: WebNode) -> None:
    page = (await node.get("/docs")).body.decode()

    assert "`" not in page and "<code>Authorization: Bearer fadmin_...</code>" in page
    assert str(with_code("a `<b>` and `c`")) == "a <code>&lt;b&gt;</code> and <code>c</code>"
    assert str(with_code("one ` <alone>")) == "one ` &lt;alone&gt;"


async def test_the_docs_page_lists_every_documented_call_and_the_stream(node: WebNode) -> None:
    document = (await node.get("/openapi.json")).json
    page = (await node.get("/docs")).body.decode()

    for path in (*document["paths"], "/federation/events"):
        assert path in page


async def test_the_document_describes_every_call_of_the_api(node: WebNode) -> None:
    document = (await node.get("/openapi.json")).json
    served = {rule.rule for rule in node.app.url_map.iter_rules() if rule.rule.startswith("/federation/")}
    described = {path.replace("{", "<").replace("}", ">") for path in document["paths"]}

    assert document["openapi"].startswith("3.1")
    assert served - described == {"/federation/events"}
    assert set(document["x-event-streams"]) == {"/federation/events", "/mesh/live"}


async def test_every_call_documents_its_errors_and_who_may_call_it(node: WebNode) -> None:
    document = (await node.get("/openapi.json")).json

    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answers = operation["responses"]
            assert {"200", "400", "421", "429", "503"} <= set(answers), (path, method)
            assert operation["summary"]
            if "security" in operation:
                assert {"401", "403"} <= set(answers)
            if "requestBody" in operation:
                assert operation["requestBody"]["required"] and {"408", "413"} <= set(answers)
            for status, answer in answers.items():
                if int(status) >= 400:
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Problem"}
                assert answer["description"]


async def test_required_and_optional_parameters_are_told_apart(node: WebNode) -> None:
    parameters = (await node.get("/openapi.json")).json["paths"]["/federation/download"]["get"]["parameters"]

    assert {each["name"]: each["required"] for each in parameters} == {
        "sourceId": True,
        "plugin": True,
        "version": False,
    }


async def test_the_document_says_http_only_where_http_is_dialled(tmp_path: Path) -> None:
    def patterns(document: Any) -> str:
        return json.dumps(
            document["components"]["schemas"]["AddSource"]
            if "AddSource" in document["components"]["schemas"]
            else document["paths"]["/federation/add-source"]
        )

    async with web_node(tmp_path / "strict") as node:
        strict = (await node.get("/openapi.json")).json
    async with web_node(tmp_path / "open", allow_private_networks=True) as node:
        relaxed = (await node.get("/openapi.json")).json

    assert json.dumps(HTTPS_PATTERN) in patterns(strict)
    assert json.dumps(ANY_HTTP_PATTERN) in patterns(relaxed)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(url=st.from_regex(ANY_HTTP_PATTERN, fullmatch=True))
def test_every_documented_url_is_one(url: str) -> None:
    parse_instance_url(url.removesuffix("\n"), allow_http=True)


@settings(deadline=None)
@given(text=st.text(max_size=70))
def test_a_username_passes_here_exactly_if_it_passes_there(text: str) -> None:
    import re

    passes_here = re.fullmatch(USERNAME_PATTERN.removesuffix("$"), text) is not None
    try:
        check_username(text)
    except Refusal:
        assert not passes_here
    else:
        assert passes_here


@given(
    slug=st.from_regex(SLUG_PATTERN.removesuffix("$"), fullmatch=True),
    version=st.from_regex(VERSION_PATTERN.removesuffix("$"), fullmatch=True),
)
def test_documented_slugs_and_versions_are_ones(slug: str, version: str) -> None:
    check_slug(slug)
    check_version(version)


async def test_figures_are_counted_by_route_and_never_by_path(node: WebNode) -> None:
    await node.get("/federation/sources")
    await node.get("/some/secret/path")
    await node.call("BREW", "/federation/sources")

    text = (await node.get("/metrics")).body.decode()

    assert 'pfn_http_requests_total{method="GET",route="/federation/sources",status="200"} 1.0' in text
    assert 'pfn_http_requests_total{method="other",route="none",status="405"} 1.0' in text
    assert "secret" not in text
    assert 'pfn_store{what="plugins"} 0.0' in text and 'pfn_mesh{what="links"} 0.0' in text
    assert 'pfn_artifacts{what="kept"} 0.0' in text and "pfn_http_request_seconds_bucket" in text


async def test_two_nodes_in_one_process_count_apart(node: WebNode, tmp_path: Path) -> None:
    await node.get("/federation/sources")
    async with web_node(tmp_path / "second") as other:
        text = (await other.get("/metrics")).body.decode()

    assert 'route="/federation/sources"' not in text


async def test_health_says_how_the_node_is(node: WebNode) -> None:
    got = (await node.get("/federation/health")).json

    assert got["status"] == "ok" and got["node_id"].startswith("did:key:z6Mk")
    assert got["counts"]["sources"] == 0 and got["disk"]["total_bytes"] > 0
    assert {"version", "artifacts", "mesh"} <= set(got)


async def test_whole_tables_are_counted_once_for_each_change_whoever_asks(
    node: WebNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, figures = Mock(wraps=catalogue.counts), Mock(wraps=showcase.figures)
    monkeypatch.setattr(catalogue, "counts", counts)
    monkeypatch.setattr(showcase, "figures", figures)

    async def ask() -> list[int]:
        for path in ("/federation/health", "/metrics", "/readyz", "/"):
            assert (await node.get(path)).status == 200
        return [counts.call_count, figures.call_count]

    assert [await ask(), await ask()] == [[1, 1], [1, 1]]
    await node.add_bilbo()
    assert await ask() == [2, 2]
    assert (await node.get("/federation/health")).json["counts"]["sources"] == 1


async def test_a_node_without_its_store_is_alive_but_not_ready(node: WebNode) -> None:
    assert (await node.get("/readyz")).json == {"status": "ready"}

    async def closed(work: object) -> object:
        raise DatabaseClosed

    node.services.database.read = closed  # type: ignore[method-assign, assignment]

    ready = await node.get("/readyz")
    assert ready.status == 503 and ready.headers["Retry-After"] and ready.sentence
    assert (await node.get("/healthz")).status == 200
    assert (await node.get("/federation/health")).status == 503


async def test_a_store_that_does_not_answer_in_time_is_not_ready(node: WebNode, autojump_clock: object) -> None:
    import trio

    async def never(work: object) -> object:
        await trio.sleep_forever()

    node.services.database.read = never  # type: ignore[method-assign, assignment]

    got = await node.get("/readyz")
    assert got.status == 503 and "in time" in got.sentence
