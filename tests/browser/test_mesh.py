"""The page of the mesh: the map tells what the API does, moves when news does; nodes are joined and judged there."""

from playwright.sync_api import Locator, Page, expect

from pfn_protocol.identity import PrivateKey, did_key
from tests.browser.conftest import NewContext
from tests.browser.local_nodes import BrowserMesh

STRANGER = did_key(PrivateKey(b"a node that nobody has met, ever".ljust(32)).public)

# What the map draws and what the API reports, as soon as both agree: a link may change its role meanwhile.
LINKS = """async () => {
  const until = Date.now() + 10000;
  for (;;) {
    const lines = [...document.querySelectorAll("#map [data-link]")];
    const drawn = lines.map((line) => `${line.dataset.link} ${line.getAttribute("class")}`).sort();
    const { peers } = await (await fetch("/federation/peers")).json();
    const reported = peers.flatMap((peer) => peer.links.map((role) => `${peer.node_id} link ${role}`)).sort();
    if (drawn.join() === reported.join() || Date.now() > until) return [drawn, reported];
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}"""
COUNT_DOTS = """() => {
  window.dots = [];
  new MutationObserver((changes) => changes.forEach((change) => change.addedNodes.forEach((added) => {
    if (added.classList.contains("dot")) window.dots.push(added.dataset.peer);
  }))).observe(document.getElementById("moving"), { childList: true });
}"""
SENT = """() => [...document.querySelectorAll('[data-figure="announcements_sent"]')]
  .reduce((sum, place) => sum + Number(place.textContent.replace(",", "")), 0)"""


def open_live(page: Page) -> None:
    """Open the map, and wait until it is told what happens."""
    page.goto("/mesh")
    expect(page.locator("#stage[data-feed=live]")).to_be_visible()


def row_of(page: Page, node_id: str) -> Locator:
    """A node in the table."""
    return page.locator(f'tr[data-peer="{node_id}"]')


def node_id_of(mesh: BrowserMesh, number: int) -> str:
    """The id of one of the nodes."""
    return str(mesh.call(lambda: mesh.nodes[number].client.get("health"))["node_id"])


def test_the_map_shows_exactly_the_links_that_the_api_reports(page: Page, mesh: BrowserMesh) -> None:
    open_live(page)

    drawn, reported = page.evaluate(LINKS)

    assert drawn == reported
    linked = {node_id_of(mesh, number) for number in (1, 2)}
    assert linked == {link.split()[0] for link in drawn}
    for node_id in linked:
        expect(row_of(page, node_id)).to_be_visible()


def test_a_dot_travels_and_figures_change_when_something_is_announced(
    new_context: NewContext, mesh: BrowserMesh
) -> None:
    page = new_context(reduced_motion="no-preference").new_page()
    open_live(page)
    page.evaluate(COUNT_DOTS)
    page.evaluate("document.body.dataset.untouched = 'yes'")
    before = page.evaluate(SENT)

    mesh.publishers[0].publish("dot-maker", "1.0")

    page.wait_for_function("() => window.dots.length > 0")
    page.wait_for_function(f"() => ({SENT})() > {before}")
    assert set(page.evaluate("window.dots")) <= {node_id_of(mesh, 1), node_id_of(mesh, 2)}
    assert page.locator("body").get_attribute("data-untouched") == "yes"


def test_nothing_moves_for_who_wants_no_motion(page: Page, mesh: BrowserMesh) -> None:
    open_live(page)
    page.evaluate(COUNT_DOTS)
    before = page.evaluate(SENT)

    mesh.publishers[0].publish("still-life", "1.0")

    page.wait_for_function(f"() => ({SENT})() > {before}")
    assert page.evaluate("window.dots.length") == 0
    assert page.evaluate("document.getAnimations().length") == 0


def test_the_numbers_of_a_node_are_shown_to_pointer_and_keyboard(page: Page, mesh: BrowserMesh) -> None:
    open_live(page)
    node = page.locator(f'#map .node[data-peer="{node_id_of(mesh, 1)}"]')
    card = page.locator("#map-card")

    node.locator(".body").hover()
    expect(card).to_contain_text(mesh.nodes[1].url)
    expect(card).to_contain_text("Round trip")

    page.mouse.move(0, 0)
    expect(card).to_be_hidden()
    node.focus()
    expect(card).to_contain_text("Announcements")
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()


def test_a_node_on_the_map_leads_to_its_row(page: Page, mesh: BrowserMesh) -> None:
    page.goto("/mesh")

    page.locator(f'#map .node[data-peer="{node_id_of(mesh, 2)}"]').press("Enter")

    expect(page.locator("#peer-table tbody tr")).to_have_count(1)
    expect(row_of(page, node_id_of(mesh, 2))).to_be_visible()


def test_a_node_is_joined_and_what_is_wrong_stands_beside_the_field(admin: Page, mesh: BrowserMesh) -> None:
    admin.goto("/mesh")
    admin.get_by_label("URL", exact=True).fill(mesh.nodes[1].url)
    admin.get_by_label("Its id").fill(node_id_of(mesh, 2))
    admin.get_by_role("button", name="Join").click()

    expect(admin.locator("#join-url-wrong")).to_contain_text("annot join")
    expect(admin.get_by_label("URL", exact=True)).to_have_value(mesh.nodes[1].url)

    admin.get_by_label("Its id").fill("")
    admin.get_by_role("button", name="Join").click()

    expect(admin.get_by_role("main").get_by_role("status")).to_contain_text(f"Joined {mesh.nodes[1].url}")
    expect(row_of(admin, node_id_of(mesh, 1))).to_contain_text("joined")


def test_a_node_is_pinned_and_blocked_by_clicking(admin: Page, mesh: BrowserMesh) -> None:
    mesh.call(lambda: mesh.nodes[0].client.post("peers", {"node_id": STRANGER, "action": "unpin"}))
    admin.goto("/mesh")
    row = row_of(admin, STRANGER)
    said = admin.get_by_role("main").get_by_role("status")

    row.get_by_role("button", name="Pin").click()
    expect(said).to_contain_text("Pinned")
    expect(row).to_contain_text("pinned")
    row.get_by_role("button", name="Unpin").click()
    expect(said).to_contain_text("Unpinned")
    row.locator("summary", has_text="Block").click()
    expect(row).to_contain_text("neither dialled nor answered")
    row.get_by_role("button", name="Block").click()
    expect(row).to_contain_text("blocked")
    row.get_by_role("button", name="Unblock").click()
    expect(said).to_contain_text("Not blocked any more")
    expect(row).not_to_contain_text("blocked")
