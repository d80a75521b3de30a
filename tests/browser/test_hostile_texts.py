"""Whatever stands in a text that others chose, it is that text on every page, and nothing else."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import TIMEOUT_MS, signed_in
from tests.browser.every_page import every_address
from tests.browser.hostile_node import MARK, HostileNode, collapsed, hostile_node, marked
from tests.browser.payloads import PAYLOADS
from tests.browser.trio_thread import in_a_thread
from tests.browser.watching import Watch

# Of each declared page; the pages of a list beyond.
LINKED_MAX = 12
# Every text on the page; whatever could run or load something; every element by name.
LOOK = """() => {
  const texts = [], links = [], odd = [];
  const URLS = ["href", "src", "action", "formaction"];
  const walker = document.createTreeWalker(document, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  const names = new Set();
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (node.nodeType === Node.TEXT_NODE) { texts.push(node.data); continue; }
    names.add(node.localName);
    for (const { name, value } of node.attributes) {
      if (URLS.includes(name)) links.push([node.localName, name, value, node.rel ?? ""]);
      else texts.push(value);
      if (/^on|^style$|^srcdoc$|pwned/.test(name)) odd.push(node.outerHTML);
    }
    if (node.localName === "script" && !node.getAttribute("src")) odd.push(node.outerHTML);
  }
  return { texts, links, odd, names: [...names] };
}"""
# What no page of a node is made of.
FOREIGN = {
    "iframe", "object", "embed", "base", "style", "math", "foreignobject", "marquee", "plaintext", "xmp", "template",
    "audio", "video", "x-pwned", "pwned", "frame", "frameset", "noscript", "animate", "set", "use",
}  # fmt: skip


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileNode]:
    folder = tmp_path_factory.mktemp("hostile")
    with in_a_thread(lambda: hostile_node(folder)) as (made, _):
        yield made


@pytest.fixture
def victim(browser: Browser, node: HostileNode) -> Iterator[Page]:
    """An administrator's page; `pwned` and dialogs are complaints."""
    watch = Watch(frozenset({urlsplit(node.url).netloc}))
    context = browser.new_context(base_url=node.url, storage_state=signed_in(node.url, node.key))
    context.set_default_timeout(TIMEOUT_MS)
    context.add_init_script("window.pwned = () => console.error('pwned')")
    watch.watch(context)
    yield context.new_page()
    context.close()
    assert watch.settled() == [], "\n".join(watch.settled())


def test_every_hostile_text_is_text_on_every_page(victim: Page, node: HostileNode) -> None:
    seen: dict[str, set[int]] = {}
    for address in every_address(node.parts, lambda path: victim.request.get(path).text(), LINKED_MAX):
        answer = victim.goto(address.path)
        assert answer is not None and answer.status == 200, address.path
        judge(address.path, victim.evaluate(LOOK), seen)
        if victim.locator("[data-live]").count():
            refresh(victim)
            judge(address.path, victim.evaluate(LOOK), seen)

    assert len(seen["release.name"]) >= 10
    print({field: len(numbers) for field, numbers in seen.items()}, len(PAYLOADS))  # noqa: T201


def refresh(page: Page) -> None:
    """Let the page fetch itself again and put what is new in the place of the old."""
    page.evaluate("""() => new Promise((resolve) => {
      document.addEventListener("page-refreshed", resolve, { once: true });
      document.dispatchEvent(new Event("visibilitychange"));
    })""")


def judge(path: str, found: dict[str, Any], seen: dict[str, set[int]]) -> None:
    assert found["odd"] == [], (path, found["odd"])
    assert FOREIGN.isdisjoint(found["names"]), (path, FOREIGN & set(found["names"]))
    for element, name, value, rel in found["links"]:
        parts = urlsplit(value)
        assert parts.scheme in ("", "http", "https"), (path, value)
        if parts.netloc:
            assert (element, name) == ("a", "href"), (path, value)
            assert {"noreferrer", "nofollow"} <= set(rel.split()), (path, value, rel)
        note(path, unquote(value), seen, whole=False)
    for text in found["texts"]:
        note(path, text, seen, whole=True)


def note(path: str, text: str, seen: dict[str, set[int]], *, whole: bool) -> None:
    """Whether each marked payload in a text is there to the letter."""
    for field, number in MARK.findall(text):
        if whole:
            assert collapsed(marked(field, int(number))) in collapsed(text), (path, field, number, text)
        seen.setdefault(field, set()).add(int(number))
