"""What is new comes to a page by itself, and nothing that somebody reads moves away under it."""

import time

from playwright.sync_api import Page, StorageState, expect

from tests.browser.conftest import TIMEOUT_MS, NewContext
from tests.browser.every_page import declared_pages, filled, parts_of
from tests.browser.local_nodes import BrowserMesh

# Before a page's own scripts: adds up how far things moved, and counts how often the page took what is new.
MEASURE = """
window.moved = 0;
window.taken = 0;
window.movers = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    window.moved += entry.value;
    window.movers.push(...entry.sources.map(({ node }) => node?.outerHTML?.slice(0, 200) ?? String(node)));
  }
}).observe({ type: "layout-shift", buffered: true });
document.addEventListener("page-refreshed", () => { window.taken += 1; });
"""
KNOWN_LIVE = {"/", "/activity", "/mesh", "/admin/versions"}
RELEASES = ("1.0", "1.1", "1.2")


def wait_until(page: Page, expression: str) -> None:
    """Wait until something holds in a page. Playwright's own way needs `eval` there, which the policy forbids."""
    until = time.monotonic() + TIMEOUT_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < until, f"{page.url}: {expression}"
        page.wait_for_timeout(50)


def live_pages(admin: Page, mesh: BrowserMesh) -> list[str]:
    """Every declared page that keeps itself current."""
    parts = parts_of(mesh)
    paths = [filled(page.path, parts) for page in declared_pages()]
    return [path for path in paths if "data-live" in admin.request.get(path).text()]


def test_nothing_moves_while_a_page_takes_what_is_new(
    admin: Page, new_context: NewContext, session: StorageState, mesh: BrowserMesh
) -> None:
    mesh.publishers[0].publish("moving-house", "0.1")
    admin.goto("/")
    expect(admin.locator("#newest")).to_contain_text("Moving House")
    house = f"/plugins/{mesh.publishers[0].source_id}/moving-house"
    # A browser of its own for each: one browser holds at most six connections to a node, and each page keeps one.
    pages = {path: new_context(storage_state=session).new_page() for path in {*live_pages(admin, mesh), house}}
    assert pages.keys() >= KNOWN_LIVE
    for path, page in pages.items():
        page.add_init_script(MEASURE)
        page.goto(path)
        expect(page.locator("#live-state")).to_have_text("Live")
        page.evaluate("window.moved = 0, window.movers = []")

    for version in RELEASES:
        mesh.publishers[0].publish("moving-house", version)
        for page in pages.values():
            wait_until(page, "window.taken > 0")
            page.evaluate("window.taken = 0")

    expect(pages[house].locator("#facts")).to_contain_text(RELEASES[-1])
    expect(pages[house].locator("#installing")).to_contain_text(f"Install version {RELEASES[-1]}")
    moved = {path: page.evaluate("[window.moved, window.movers]") for path, page in pages.items()}
    assert {path: each for path, each in moved.items() if each[0] > 0} == {}


def test_what_moves_is_noticed(new_context: NewContext) -> None:
    page = new_context().new_page()
    page.add_init_script(MEASURE)
    page.goto("/")
    page.evaluate(
        "document.querySelector('main').prepend(document.createElement('h1'), 'news', document.createElement('hr'))"
    )

    wait_until(page, "window.moved > 0")
