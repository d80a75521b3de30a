"""Every page by keyboard alone: all that can be used is reached by Tab, in the order of the page, and is seen to be."""

from typing import Any

import pytest
from playwright.sync_api import Page, StorageState, expect

from tests.browser.conftest import NewContext
from tests.browser.every_page import every_address, parts_of
from tests.browser.local_nodes import BrowserMesh

# A page that is hidden does not refresh itself: what is walked over stays what it was.
HOLD_STILL = "Object.defineProperty(document, 'hidden', { get: () => true });"
# All that can be used now, in the order of the document; and a record of what is focused, and of how that looks.
BEGIN = """() => {
  const usable = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]";
  const seen = (each) => each.checkVisibility({ visibilityProperty: true }) && !each.disabled && each.tabIndex >= 0;
  window.usable = [...document.querySelectorAll(usable)].filter(seen);
  window.walked = [];
  const shows = (element) => {
    const within = element.ownerSVGElement ? element.querySelector(".reach, .halo") : element;
    const style = getComputedStyle(within);
    return element.ownerSVGElement
      ? style.stroke !== "none"
      : style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  };
  const inView = ({ width, top, bottom, left, right }) =>
    width > 0 && bottom > 0 && top < innerHeight && right > 0 && left < innerWidth;
  document.addEventListener("focusin", ({ target }) => {
    window.walked.push({
      at: window.usable.indexOf(target),
      what: target.outerHTML.slice(0, 160),
      shows: shows(target),
      inView: inView(target.getBoundingClientRect()),
    });
  });
  return window.usable.map((each) => each.outerHTML.slice(0, 160));
}"""


def walk(page: Page) -> list[str]:
    """What is wrong with going through the page by Tab, from its beginning to its end."""
    usable: list[str] = page.evaluate(BEGIN)
    for _ in usable:
        page.keyboard.press("Tab")
    walked: list[dict[str, Any]] = page.evaluate("window.walked")
    faults = [f"not reached: {usable[at]}" for at in sorted(set(range(len(usable))) - {each["at"] for each in walked})]
    if not faults and [each["at"] for each in walked] != list(range(len(usable))):
        faults.append(f"out of order: {[each['at'] for each in walked]}")
    faults += [f"focus is not seen: {each['what']}" for each in walked if not each["shows"]]
    faults += [f"out of view: {each['what']}" for each in walked if not each["inView"]]
    return [f"{page.url}: {fault}" for fault in faults]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("signed_in", [False, True], ids=["a visitor", "an administrator"])
def test_all_of_a_page_is_reached_by_tab_in_its_order_and_seen(
    new_context: NewContext, session: StorageState, mesh: BrowserMesh, signed_in: bool, width: int
) -> None:
    options: dict[str, Any] = {"storage_state": session} if signed_in else {}
    page = new_context(viewport={"width": width, "height": 900}, **options).new_page()
    page.add_init_script(HOLD_STILL)
    found: list[str] = []

    def read(path: str) -> str:
        answer = page.goto(path)
        return answer.text() if answer else ""

    for address in every_address(parts_of(mesh), read):
        if signed_in or not address.page.protected:
            found += walk(page)

    assert found == [], "\n".join(found)


def test_the_first_stop_skips_to_the_content(admin: Page) -> None:
    admin.goto("/admin/health")
    admin.keyboard.press("Tab")
    skip = admin.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport(ratio=1)

    admin.keyboard.press("Enter")
    expect(admin.locator("main")).to_be_focused()
    admin.keyboard.press("Tab")

    assert admin.evaluate("document.querySelector('main').contains(document.activeElement)")


@pytest.mark.parametrize("path", ["/admin/keys", "/mesh", "/admin/subscriptions"])
def test_escape_closes_what_asks_and_goes_back_to_its_button(admin: Page, path: str) -> None:
    admin.goto(path)
    button = admin.locator("details.confirm > summary").first
    button.focus()
    admin.keyboard.press("Enter")
    asked = admin.locator("details.confirm[open]")
    expect(asked).to_have_count(1)
    admin.keyboard.press("Tab")
    assert admin.evaluate("document.querySelector('details.confirm[open] .asked').contains(document.activeElement)")

    admin.keyboard.press("Escape")

    expect(asked).to_have_count(0)
    expect(button).to_be_focused()


def test_the_numbers_of_a_node_are_shown_by_focus_and_hidden_by_escape(admin: Page) -> None:
    admin.goto("/mesh")
    node = admin.locator(".stage a.node[data-peer]").first
    node.focus()
    expect(admin.locator("#map-card")).to_be_visible()

    admin.keyboard.press("Escape")

    expect(admin.locator("#map-card")).to_be_hidden()


def test_somebody_signs_in_searches_and_signs_out_without_a_mouse(page: Page, mesh: BrowserMesh) -> None:
    page.goto("/sign-in")
    page.get_by_label("API key").focus()
    page.keyboard.type(mesh.nodes[0].key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("navigation", name="Administration")).to_be_visible()

    page.get_by_role("searchbox").focus()
    page.keyboard.type("juniper")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Plugins")

    page.get_by_role("button", name="Sign out").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()


def test_a_stop_that_is_not_seen_and_one_that_is_not_reached_are_noticed(page: Page) -> None:
    page.goto("/about/trust")
    page.evaluate("""() => {
      const hidden = document.createElement("a");
      hidden.href = "/";
      hidden.textContent = "unseen";
      hidden.style.outline = "none";
      const inert = document.createElement("div");
      inert.inert = true;
      inert.append(document.createElement("button"));
      document.querySelector("main").append(hidden, inert);
    }""")

    faults = "\n".join(walk(page))

    assert "focus is not seen" in faults and "not reached: <button" in faults
