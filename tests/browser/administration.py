"""What the tests of administration's pages have in common."""

from playwright.sync_api import Page, expect

from pfn_node.cli.client import NodeClient
from tests.browser.local_nodes import BrowserMesh


def go(page: Page, title: str) -> None:
    """To a page of the menu."""
    page.goto("/")
    page.get_by_role("navigation", name="Administration").get_by_role("link", name=title, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(title)


async def another_key(mesh: BrowserMesh, url: str, description: str) -> str:
    client = NodeClient(mesh.local.outbound, url, mesh.master_key)
    return str((await client.post("create-admin-key", {"description": description}))["key"])
