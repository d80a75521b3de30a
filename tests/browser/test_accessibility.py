"""axe-core finds nothing to complain about, on any page, for anybody, in light and dark, on a desk and on a phone."""

from importlib import resources
from typing import Any

import pytest
from playwright.sync_api import Page, StorageState

from tests.browser.conftest import NewContext
from tests.browser.every_page import every_address, parts_of
from tests.browser.local_nodes import BrowserMesh

AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
# What a person can see may differ with every width and scheme; all rules are looked at each time.
RUN = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  const shown = (node) => `${node.html.slice(0, 200)} ${node.any.map((each) => each.message)}`;
  return violations.map(({ id, help, nodes }) => `${id} (${help}): ${nodes.slice(0, 3).map(shown)}`);
}"""


def faults_of(page: Page) -> list[str]:
    """What axe-core finds on the page as it is, in every width and scheme."""
    page.evaluate(AXE)
    found: list[str] = []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            found += [f"{page.url}, {scheme}, {width} px: {fault}" for fault in page.evaluate(RUN)]
    return found


@pytest.mark.parametrize("signed_in", [False, True], ids=["a visitor", "an administrator"])
def test_no_page_keeps_anybody_out(
    new_context: NewContext, session: StorageState, mesh: BrowserMesh, signed_in: bool
) -> None:
    options: dict[str, Any] = {"storage_state": session} if signed_in else {}
    page = new_context(**options).new_page()
    found: list[str] = []

    def read(path: str) -> str:
        answer = page.goto(path)
        if answer is None or answer.status != 200:
            found.append(f"{path} was answered with {answer and answer.status}")
        return answer.text() if answer else ""

    for address in every_address(parts_of(mesh), read):
        if signed_in or not address.page.protected:
            found += faults_of(page)

    assert found == [], "\n".join(found)


def test_a_fault_is_found_also_where_only_one_scheme_has_it(page: Page) -> None:
    page.goto("/sign-in")
    page.evaluate("document.documentElement.removeAttribute('lang')")
    page.evaluate("document.querySelector('main p').style.color = '#999'")  # well seen on black

    found = faults_of(page)

    assert len([fault for fault in found if "html-has-lang" in fault]) == 4
    assert {fault.split(", ")[1] for fault in found if "color-contrast" in fault} == {"light"}
