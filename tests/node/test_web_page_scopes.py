"""What a key may not do is neither done nor offered: every page and form, with a key of each scope alone."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule

from pfn_node.store import registry
from pfn_node.store.queries import change
from pfn_node.store.rows import Filters, HealthCheck
from pfn_node.web.auth import SCOPES, Scope
from pfn_node.web.pages import site
from pfn_node.web.pages.page_routes import Form, Page
from pfn_protocol.identity import public_key_pem
from tests.node.page_reader import SUBJECTS, Browser, Reader
from tests.node.test_web_page_mesh import a_peer
from tests.node.web_node import BILBO, NOW, STRANGER, WebNode, web_node

PARTS = {"source_id": BILBO, "plugin_id": "hello-signal", "id": "AAAAAAAA"}
OTHER = "frodo@elsewhere.test"
# The same page once more, as links lead there.
ASKED = {"/admin/subscriptions": (f"sourceId={BILBO}",), "/sources": ("status=revoked", "q=nothing")}

PAGES = [page for subject in SUBJECTS for page in subject.declared]
FORMS = [form for subject in site.SUBJECTS for form in subject.forms]
LEADS_TO = Map([Rule(page.path, endpoint=page) for page in PAGES], strict_slashes=False).bind("node")
DOES = Map([Rule(form.path, endpoint=form) for form in FORMS], strict_slashes=False).bind("node")


@pytest.fixture(params=["full", "empty"])
async def node(tmp_path: Path, request: Any) -> AsyncIterator[WebNode]:
    """A node with something on every page, on which every button stands; and one on which little is."""
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        await made.add_release(b"zip", version="1.0.0")
        if request.param == "full":
            await fill(made)
        yield made


async def fill(node: WebNode) -> None:
    await node.add_release(b"older zip", version="0.9.0")
    await node.add_report(b"other zip", source_id=OTHER, plugin_id="hello-signal")
    node.mesh.known = [a_peer(1, "eager"), a_peer(2), a_peer(3, blocked=True)]
    release = {"sourceId": BILBO, "plugin": "hello-signal", "version": "0.9.0"}
    await node.post("/federation/yank", release)
    await node.post("/federation/takedown", release)

    def write(db: Any) -> None:
        registry.insert_source(
            db,
            id="sam@down.test",
            instance_url="https://down.test",
            username="sam",
            public_key=public_key_pem(STRANGER.public),
            created_at=NOW,
        )
        registry.record_health(db, HealthCheck("sam@down.test", False, None, "no answer", NOW))
        registry.record_activity(db, "security", "something was yanked", at=NOW, source_id=BILBO)
        change(db, "UPDATE releases SET held_back = 'it was signed before' WHERE version = '1.0.0'")

    await node.services.database.write(write)


def filled(path: str) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda part: PARTS[part[1]], path)


def every_path() -> Iterator[tuple[Page, str]]:
    for page in PAGES:
        path = filled(page.path)
        yield page, path
        for query in ASKED.get(page.path, ()):
            yield page, f"{path}?{query}"


def behind(routes: Any, path: str) -> Any:
    """The page or form that a path leads to, if it is one."""
    try:
        return routes.match(urlsplit(path).path)[0]
    except HTTPException:
        return None


async def signed_in(node: WebNode, scope: Scope) -> Browser:
    """Somebody whose key has this scope and no other, and who subscribes to a source."""
    browser = Browser(node)
    key = await node.make_key(scopes=[scope], description="narrow")
    await browser.sign_in(key)
    key_id = key.split("_")[1]
    await node.services.database.write(lambda db: registry.set_subscription(db, BILBO, key_id, Filters(), NOW))
    return browser


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_page_is_shown_to_a_key_exactly_if_it_has_the_scope(node: WebNode, scope: Scope) -> None:
    browser = await signed_in(node, scope)
    wrong = {}
    for page, path in every_path():
        expected = 200 if page.scope in (None, scope) else 403
        got = await browser.open(path)
        if got.status != expected:
            wrong[path] = got.status
    assert wrong == {}


@pytest.mark.parametrize("scope", SCOPES)
async def test_no_page_offers_a_link_or_a_button_that_the_key_lacks_the_scope_for(node: WebNode, scope: Scope) -> None:
    browser = await signed_in(node, scope)
    offered, forms = set(), set()
    for page, path in every_path():
        if page.scope not in (None, scope):
            continue
        shown = await browser.read(path)
        linked = {link: behind(LEADS_TO, link) for link in shown.links if link.startswith("/")}
        offered |= {(path, link) for link, to in linked.items() if to and to.scope not in (None, scope)}
        for action in shown.forms:
            form: Form | None = behind(DOES, action)
            forms.add(form)
            if form and form.scope not in (None, scope):
                offered.add((path, action))
    assert offered == set()
    assert {form.path for form in FORMS if form.scope == scope} <= {form.path for form in forms if form} | unseen(
        scope, node
    )


def unseen(scope: Scope, node: WebNode) -> set[str]:
    """Forms of a scope that stand on a page which a key with it alone does not see, or not on an empty node."""
    page_of = {page.handler: page for page in PAGES}
    mine = [form for form in FORMS if form.scope == scope]
    return {form.path for form in mine if page_of[form.page].scope not in (None, scope) or not node.mesh.known}


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_form_is_refused_to_a_key_without_its_scope_and_judged_for_one_that_has_it(
    node: WebNode, scope: Scope
) -> None:
    browser = await signed_in(node, scope)
    wrong = {}
    for form in FORMS:
        if form.scope is None:
            continue
        got = await browser.send(filled(form.path))
        if (got.status == 403) is (form.scope == scope):
            wrong[form.path] = got.status
    assert wrong == {}


async def test_somebody_without_a_session_is_led_to_sign_in_by_every_protected_page_and_form(node: WebNode) -> None:
    stranger = Browser(node)
    for page, path in every_path():
        got = await stranger.open(path)
        assert got.status == (303 if page.protected else 200), path
    for form in FORMS:
        if form.key_field is None:
            got = await stranger.send(filled(form.path))
            assert got.status == 303 and got.headers["Location"].startswith("/sign-in?next="), form.path


async def test_who_may_approve_and_not_read_is_told_so_on_a_page_that_they_may_see(node: WebNode) -> None:
    browser = await signed_in(node, "advisories")

    refused = await browser.send("/admin/versions/approve", source_id=BILBO, plugin="hello-signal", version="7.7.7")
    await node.services.database.write(
        lambda db: change(db, "UPDATE releases SET held_back = 'it was signed before' WHERE version = '1.0.0'")
    )
    done = await browser.send("/admin/versions/approve", source_id=BILBO, plugin="hello-signal", version="1.0.0")

    assert refused.status == 404 and "lacks the scope" not in Reader(refused).text
    assert (done.status, done.headers["Location"]) == (303, "/")
    assert "approved" in (await browser.read("/")).text


async def test_a_source_of_which_only_releases_are_reported_leads_to_those(node: WebNode) -> None:
    await node.add_report(b"other zip", source_id=OTHER, plugin_id="hello-signal")

    got = await node.get(f"/sources/{OTHER}")

    assert (got.status, got.headers["Location"]) == (303, "/plugins?source=frodo%40elsewhere.test")
    assert (await node.get("/sources/nobody@nowhere.test")).status == 404


@pytest.mark.parametrize("signed", [False, True], ids=["a visitor", "an administrator"])
async def test_every_link_of_every_page_leads_somewhere(node: WebNode, signed: bool) -> None:
    browser = Browser(node)
    if signed:
        await browser.sign_in()
    dead, seen = set(), set()
    for page, path in every_path():
        if page.protected and not signed:
            continue
        for link in Reader(await browser.open(path)).links:
            target = link.partition("#")[0]
            if target.startswith("/") and target not in seen:
                seen.add(target)
                got = await browser.open(target)
                if got.status not in (200, 303):
                    dead.add((path, target, got.status))
    assert dead == set(), dead
