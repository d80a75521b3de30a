"""Signing in, and how forms are taken: who may send them, and what is shown when something is wrong."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from pydantic import BaseModel, Field
from werkzeug.datastructures import MultiDict

from pfn_node.store import audit
from pfn_node.web.errors import ApiError, for_people
from pfn_node.web.pages import showing
from pfn_node.web.pages.page_routes import Form, Trouble
from pfn_node.web.pages.rendering import relative_time, short_id, size, sparkline
from tests.node.page_reader import Browser, Reader
from tests.node.web_node import BILBO, WebNode, web_node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


async def test_a_key_signs_in_and_the_cookie_is_for_the_browser_alone(node: WebNode) -> None:
    browser = Browser(node)

    got = await browser.send("/sign-in", key=node.key, next="/docs")
    page = Reader(await browser.open("/"))

    assert (got.status, got.headers["Location"]) == (303, "/docs")
    assert "HttpOnly" in got.headers["Set-Cookie"] and "SameSite=Strict" in got.headers["Set-Cookie"]
    assert "Sign out" in page.text


async def test_a_wrong_key_is_refused_beside_its_field_and_never_shown_again(node: WebNode) -> None:
    got = await Browser(node).send("/sign-in", key="fadmin_wrong_secret", next="/docs")
    page = Reader(got)

    assert got.status == 401
    assert "not valid here" in page.text
    assert page.values["next"] == "/docs" and page.values["key"] == ""
    assert b"fadmin_wrong_secret" not in got.body


@pytest.mark.parametrize("away", ["//evil.test/", "https://evil.test/", "/\\evil.test", "/a\nb", "", "javascript:x"])
async def test_signing_in_leads_to_no_other_host(node: WebNode, away: str) -> None:
    got = await Browser(node).send("/sign-in", key=node.key, next=away)

    assert got.headers["Location"] == "/"


async def test_signing_in_from_a_page_of_another_origin_is_refused(node: WebNode) -> None:
    got = await node.call("POST", "/sign-in", data=f"key={node.key}", headers={"Origin": "https://evil.test"})

    assert got.status == 403
    assert "Set-Cookie" not in got.headers


async def test_signing_out_ends_the_session_and_needs_the_token_of_the_page(node: WebNode) -> None:
    browser = Browser(node)
    await browser.sign_in()
    session = dict(browser.cookies)

    forged = await browser.send("/sign-out", csrf="guessed")
    done = await browser.send("/sign-out")
    browser.cookies = session
    after = Reader(await browser.open("/"))

    assert forged.status == 403
    assert (done.status, done.headers["Location"]) == (303, "/")
    assert "Sign in" in after.text


async def test_a_form_without_a_session_leads_to_signing_in_and_back(node: WebNode) -> None:
    got = await Browser(node).send("/sign-out")

    assert (got.status, got.headers["Location"]) == (303, "/sign-in?next=%2Fsign-in")


async def test_a_reload_after_a_refused_form_leads_back_to_its_page(node: WebNode) -> None:
    got = await Browser(node).open("/sign-out")

    assert (got.status, got.headers["Location"]) == (303, "/sign-in")


async def test_signing_in_and_out_is_in_the_audit_log_without_the_key(node: WebNode) -> None:
    browser = Browser(node)
    await browser.sign_in()
    await browser.send("/sign-out")

    entries = await node.services.database.read(lambda db: audit.entries(db, after=0, limit=100))
    secret = node.key.rpartition("_")[2]

    assert [entry.action for entry in entries][-2:] == ["POST /sign-in", "POST /sign-out"]
    assert secret not in repr(entries)


async def test_a_form_that_is_too_long_or_no_form_is_refused(node: WebNode) -> None:
    headers = {"Origin": "http://localhost", "Accept": "text/html"}

    long = await node.call("POST", "/sign-in", data="key=" + "x" * showing.FORM_BYTES_MAX, headers=headers)
    odd = await node.call("POST", "/sign-in", data="key=%ff", headers=headers)

    assert (long.status, odd.status) == (413, 400)


class Inner(BaseModel):
    tags: list[str] = Field(default_factory=list)


class Asked(BaseModel):
    source_id: str
    count: int = 1
    scopes: list[str] = Field(default_factory=list)
    filters: Inner | None = None


async def _nothing(**given: Any) -> Mapping[str, Any]:
    return {}


def _read(fields: str) -> Any:
    form = Form("/x/<source_id>", _nothing, _nothing, Asked, lines=("filters.tags",), many=("scopes",))
    return showing.read_fields(form, {"source_id": "a@b"}, MultiDict(parse_qsl(fields)))


def test_fields_become_the_body_that_the_api_takes() -> None:
    body = _read("count=3&scopes=read&scopes=keys&filters.tags=one, two\nthree&source_id=other")

    assert body == Asked(source_id="a@b", count=3, scopes=["read", "keys"], filters=Inner(tags=["one", "two", "three"]))


def test_a_wrong_field_is_named_for_the_page() -> None:
    with pytest.raises(ApiError) as refused:
        _read("count=many")
    trouble = Trouble("x", refused.value, {"count": "many"})

    assert "count" in trouble.fields
    assert trouble.sentence == "Please look at the marked fields."


def test_times_sizes_and_ids_are_written_for_people() -> None:
    assert [relative_time(1000, 1000 + seconds) for seconds in (0, 59, 60, 7200, -86_400 * 3, -5)] == [
        "just now",
        "just now",
        "1 minute ago",
        "2 hours ago",
        "in 3 days",
        "in a moment",
    ]
    assert [size(count) for count in (0, 999, 1500, 25_000, 3 * 10**9, 2 * 10**15)] == [
        "0 bytes",
        "999 bytes",
        "1.5 kB",
        "25 kB",
        "3.0 GB",
        "2000.0 TB",
    ]
    assert short_id("5b2f05a94ec75d06787cdb39913963bf") == "5b2f05a9…63bf"
    assert short_id("short") == "short"
    assert sparkline([1.0]) == ""
    assert sparkline([0.0, 1.0], 10, 10) == "0.0,9.0 10.0,1.0"


async def test_where_signing_in_leads_is_written_in_ascii(node: WebNode) -> None:
    got = await Browser(node).send("/sign-in", key=node.key, next="/plugins?q=grün&tag=a%2Fb")

    assert got.headers["Location"] == "/plugins?q=gr%C3%BCn&tag=a%2Fb"


async def test_a_page_that_says_no_still_knows_who_is_signed_in(node: WebNode) -> None:
    browser = Browser(node)
    await browser.sign_in()

    got = await browser.open("/sources/nobody@nowhere.test")

    assert got.status == 404
    assert "Sign out" in Reader(got).text


async def test_what_the_path_names_is_not_named_otherwise_by_a_field(node: WebNode) -> None:
    await node.add_bilbo()
    browser = Browser(node)
    await browser.sign_in()

    got = await browser.send("/sources/nobody@nowhere.test/remove", sourceId=BILBO, purge="true")

    assert got.status == 404
    assert node.sources.removed == []


async def test_a_form_with_too_many_fields_is_told_how_many_it_may_have(node: WebNode) -> None:
    browser = Browser(node)
    await browser.sign_in()

    got = await browser.send("/sign-out", **{f"x{at}": "y" for at in range(showing.FORM_FIELDS_MAX)})

    assert got.status == 400
    assert "at most 200 fields" in Reader(got).text


async def test_a_field_that_should_hold_others_is_the_one_to_blame(node: WebNode) -> None:
    got = await node.post("/federation/subscribe", {"sourceId": BILBO, "filters": "all"})

    assert got.status == 400
    assert got.json["details"]["fields"][0]["field"] == "filters"


async def test_what_only_a_program_needs_is_not_said_to_people(node: WebNode) -> None:
    browser = Browser(node)
    await browser.sign_in()

    unknown = Reader(await browser.send("/admin/subscriptions", sourceId="nobody@nowhere.test")).text
    preview = Reader(await browser.open("/admin/subscriptions?sourceId=nobody@nowhere.test")).text
    stale = Reader(await browser.send("/admin/subscriptions", csrf="x", sourceId=BILBO)).text

    assert "Source not found." in unknown and "There is no source nobody@nowhere.test." in preview
    assert "Open the page again, and send it from there." in stale
    assert not any("GET /" in text for text in (unknown, preview, stale))


async def test_a_field_that_is_written_wrongly_is_told_how_to_write_it_and_the_page_leads_there(node: WebNode) -> None:
    browser = Browser(node)
    await browser.sign_in()

    got = Reader(await browser.send("/admin/advisories/yank", sourceId=BILBO, plugin="Hello Signal", version="1 0"))

    assert "as in hello-signal" in got.text and "as in 1.2.0" in got.text
    assert got.links.count("#yank") == 2


def test_only_calls_of_the_api_are_left_out_for_people() -> None:
    assert for_people("It waits; it is seen later.") == "It waits; it is seen later."
    assert for_people("Make one with POST /federation/create-admin-key.") == "Make one."
    assert for_people("An admin approves it (POST /federation/approve-release).") == "An admin approves it."
