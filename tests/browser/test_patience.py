"""A page asks a slow or refusing node no more than it has to, and says when its session has ended."""

from playwright.sync_api import Page, Route, expect

from tests.browser.chromium import signed_in
from tests.browser.conftest import NewContext
from tests.browser.local_nodes import BrowserMesh
from tests.browser.test_live_updates import wait_until
from tests.browser.watching import Watch

OPENED = """
window.opened = [];
window.EventSource = class extends EventTarget {
  static CLOSED = 2;
  constructor(path) { super(); this.readyState = 0; window.opened.push(this); setTimeout(() => this.refuse(), 100); }
  refuse() { if (this.readyState === 2) return; this.readyState = 2; this.onerror?.(); }
  close() { this.readyState = 2; }
};
"""
HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
# At once, for the clock of the page goes on meanwhile. The stream that is opened then stays open.
LOOK_AWAY_AND_BACK = f"""() => {{
  for (const hidden of [true, false]) ({HIDE})(hidden);
  window.opened.at(-1).refuse = () => {{}};
}}"""
HAPPENS = """async () => {
  const { refreshSoon } = await import(document.querySelector('script[src*="live.js"]').src);
  refreshSoon();
}"""


def test_a_slow_node_is_asked_again_only_when_it_has_answered(admin: Page) -> None:
    admin.clock.install()
    admin.goto("/")
    held: list[Route] = []
    admin.route("**/", lambda route: held.append(route))
    with admin.expect_request("**/"):
        admin.evaluate(HAPPENS)
        admin.clock.run_for(2_000)
    for _ in range(3):
        admin.evaluate(HAPPENS)
        admin.clock.run_for(2_000)
    at_once = len(held)
    with admin.expect_request("**/") as again:  # for what happened meanwhile
        admin.evaluate("document.addEventListener('page-refreshed', () => { window.refreshed = true; })")
        held[0].continue_()
        wait_until(admin, "window.refreshed === true")
        admin.clock.run_for(2_000)
    admin.unroute_all(behavior="ignoreErrors")

    assert at_once == 1
    assert again.value.resource_type == "xhr"


def test_who_looks_away_and_back_gets_one_stream_though_one_was_refused(admin: Page) -> None:
    admin.add_init_script(OPENED)
    admin.clock.install()
    admin.goto("/")
    admin.clock.run_for(200)
    admin.evaluate(LOOK_AWAY_AND_BACK)
    admin.clock.run_for(30_000)

    assert admin.evaluate("window.opened.filter((stream) => stream.readyState !== 2).length") == 1
    assert admin.evaluate("window.opened.length") == 2


def test_a_page_whose_session_ended_elsewhere_says_so(new_context: NewContext, mesh: BrowserMesh, watch: Watch) -> None:
    context = new_context(storage_state=signed_in(mesh.nodes[0].url, mesh.nodes[0].key))
    page, other = context.new_page(), context.new_page()
    page.goto("/admin/health")
    expect(page.locator("#live-state")).to_have_text("Live")
    other.goto("/docs")
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_role("link", name="Sign in")).to_be_visible()

    page.evaluate(HAPPENS)

    expect(page.locator("#live-state")).to_have_text("Signed out")


def test_escape_closes_a_question_and_goes_back_to_its_button(admin: Page) -> None:
    admin.goto("/admin/keys")
    button = admin.locator("summary[aria-label^='Revoke the key']").first
    button.focus()
    admin.keyboard.press("Enter")
    question = admin.get_by_role("button", name="Revoke it").first
    expect(question).to_be_visible()
    admin.keyboard.press("Tab")
    admin.keyboard.press("Escape")

    expect(question).to_be_hidden()
    expect(button).to_be_focused()
