"""The pages of administration: what they show, and that their forms do what the API does."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.node.page_reader import Browser, Reader
from tests.node.web_node import WebNode, web_node

PAGES = (
    "/activity",
    "/admin/versions",
    "/admin/health",
    "/admin/advisories",
    "/admin/slugs",
    "/admin/storage",
    "/admin/keys",
    "/admin/audit",
    "/admin/settings",
)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


@pytest.fixture
async def admin(node: WebNode) -> Browser:
    browser = Browser(node)
    await browser.sign_in()
    return browser


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_says_something_helpful_when_there_is_nothing(admin: Browser, path: str) -> None:
    page = await admin.read(path)

    assert page.tags.count("h1") == 1
    assert path in page.links, "it is in the menu"


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_leads_strangers_to_signing_in(node: WebNode, path: str) -> None:
    got = await Browser(node).open(path)

    assert (got.status, got.headers["Location"]) == (303, f"/sign-in?next={path.replace('/', '%2F')}")


@pytest.mark.parametrize("path", PAGES)
async def test_a_key_without_the_scope_does_not_see_the_page(node: WebNode, path: str) -> None:
    browser = Browser(node)
    await browser.sign_in(await node.make_key(scopes=["subscribe"]))

    got = await browser.open(path)

    assert got.status == 403
    assert path not in Reader(await browser.open("/")).links
