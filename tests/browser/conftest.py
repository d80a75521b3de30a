"""A real browser before a real mesh: three nodes and two publishers, started once; Chromium, once per file.

The browser is the system's Chromium, or what PFN_CHROMIUM names; `scripts/browser` installs it. Without one these tests
are skipped, but for CI, where they fail. Every test fails at its end if the browser had anything to complain about.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, expect, sync_playwright

from tests.browser.chromium import FLAGS, NoBrowser, chromium_path, signed_in
from tests.browser.local_nodes import BrowserMesh, browser_mesh
from tests.browser.trio_thread import in_a_thread
from tests.browser.watching import Watch

# A busy machine is slow; a test that waits for what never comes is rare.
TIMEOUT_MS = 15_000


def needed_chromium() -> str:
    """Where Chromium is. Skips the test where there is none; in CI it fails."""
    try:
        return chromium_path()
    except NoBrowser as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


# Ends when the tests of this folder do: three idle nodes would slow down those that follow.
@pytest.fixture(scope="package")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserMesh]:
    """Three linked nodes that pin one another; the first follows two publishers, and mirrors all of their plugins."""
    needed_chromium()
    folder = tmp_path_factory.mktemp("mesh")
    with in_a_thread(lambda: browser_mesh(folder)) as (made, _):
        yield made


# Once per file: while Playwright runs, its event loop stands in the thread of the tests.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without windows."""
    path = needed_chromium()
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def session(mesh: BrowserMesh) -> StorageState:
    """What a browser keeps that is signed in at the first node. A test that signs out makes a session of its own."""
    return signed_in(mesh.nodes[0].url, mesh.nodes[0].key)


@pytest.fixture
def watch(mesh: BrowserMesh) -> Iterator[Watch]:
    """What the browser complains about: nothing, at the end of every test. A test that means one takes it away."""
    made = Watch(frozenset(urlsplit(node.url).netloc for node in mesh.nodes))
    yield made
    complaints = made.settled()
    assert complaints == [], "\n".join(complaints)


NewContext = Callable[..., BrowserContext]


@pytest.fixture
def new_context(browser: Browser, mesh: BrowserMesh, watch: Watch) -> Iterator[NewContext]:
    """Makes browsers that know nothing of one another, watched, at the first node; keywords are Playwright's."""
    contexts: list[BrowserContext] = []

    def make(**options: Any) -> BrowserContext:
        given = {"base_url": mesh.nodes[0].url, "viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
        context = browser.new_context(**{**given, **options})
        context.set_default_timeout(TIMEOUT_MS)
        watch.watch(context)
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def page(new_context: NewContext) -> Page:
    """A page of a visitor who is not signed in: `page.goto("/")` opens the first node's home."""
    return new_context().new_page()


@pytest.fixture
def admin(new_context: NewContext, session: StorageState) -> Page:
    """A page of an administrator, signed in at the first node."""
    return new_context(storage_state=session).new_page()
