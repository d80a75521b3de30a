"""Whatever stands in a text that others chose, it is that text on every page, and nothing else."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.chromium import signed_in
from tests.browser.conftest import TIMEOUT_MS
from tests.browser.every_page import every_address
from tests.browser.hostile_node import MARK, HostileNode, collapsed, hostile_node, marked
from tests.browser.payloads import PAYLOADS
from tests.browser.trio_thread import in_a_thread
from tests.browser.watching import Watch

# So many pages of one plugin show every payload of the fields that stand nowhere else.
MORE = {"/plugins/<source_id>/<plugin_id>": 12}
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


# Filters take a tag in any case.
FOLDED = ("release.tags",)
# Of these, every payload stands on some page.
EVERY_PAYLOAD = (
    "release.name", "release.description", "release.tags", "release.yanked", "peer.url", "activity.message",
    "activity.plugin_name", "advisory.summary", "advisory.alias", "advisory.from", "claim.about", "claim.reason",
    "tombstone.reason", "health.details", "failure.error_message", "key.description", "verification.details",
    "source.username", "source.instance_url", "source.asset_domain", "source.asset_naming_scheme", "subscription.tags",
)  # fmt: skip


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
    found = Found()
    for address in every_address(node.parts, found.reader(victim), more=MORE, whole_lists=True):
        found.judge(address.path, victim.evaluate(LOOK))
        if victim.locator("[data-live]").count():
            refresh(victim)
            found.judge(address.path, victim.evaluate(LOOK))

    assert found.faults == [], "\n".join(found.faults)
    assert [name for name in EVERY_PAYLOAD if len(found.seen.get(name, ())) < len(PAYLOADS)] == []


def refresh(page: Page) -> None:
    """Let the page fetch itself again and put what is new in the place of the old."""
    page.evaluate("""() => new Promise((resolve) => {
      document.addEventListener("page-refreshed", resolve, { once: true });
      document.dispatchEvent(new Event("visibilitychange"));
    })""")


@dataclass
class Found:
    """What is wrong with pages, and which payloads of each field stood on one, to the letter."""

    faults: list[str] = field(default_factory=list)
    seen: dict[str, set[int]] = field(default_factory=dict)

    def reader(self, page: Page) -> Callable[[str], str]:
        """Opens a page, and answers its HTML."""

        def read(path: str) -> str:
            answer = page.goto(path)
            if answer is None or answer.status != 200:
                self.faults.append(f"{path} was answered with {answer and answer.status}")
            return answer.text() if answer else ""

        return read

    def judge(self, path: str, looked: dict[str, Any]) -> None:
        """Whether a page is made of what the node's pages are made of."""
        self.faults += [f"{path} holds {odd}" for odd in looked["odd"]]
        self.faults += [f"{path} holds <{name}>" for name in FOREIGN & set(looked["names"])]
        for element, name, value, rel in looked["links"]:
            parts = urlsplit(value)
            leads_away = bool(parts.scheme or parts.netloc)
            is_safe = (element, name) == ("a", "href") and {"noreferrer", "nofollow"} <= set(rel.split())
            if parts.scheme not in ("", "http", "https") or (leads_away and not is_safe):
                self.faults.append(f"{path} leads to {value}: {element} {name} {rel}")
            self._note(path, unquote(value), whole=False)
        for text in looked["texts"]:
            self._note(path, text, whole=True)

    def _note(self, path: str, text: str, *, whole: bool) -> None:
        for name, number in MARK.findall(text):
            meant, shown = collapsed(marked(name, int(number))), collapsed(text)
            if name in FOLDED:
                meant, shown = meant.casefold(), shown.casefold()
            if whole and meant not in shown:
                self.faults.append(f"{path} changes {name} {number}: {text[:300]!r}")
            self.seen.setdefault(name, set()).add(int(number))
