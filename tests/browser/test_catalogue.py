"""A visitor finds a plugin, sees why to trust it, and takes the evidence along; by clicking."""

import hashlib
import json
import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import NewContext
from tests.browser.local_nodes import BrowserMesh

PAGE_ROWS = 2


def open_plugin(page: Page, slug_words: str) -> None:
    page.goto("/")
    page.get_by_role("searchbox", name="Search plugins").fill(slug_words)
    page.get_by_role("searchbox", name="Search plugins").press("Enter")
    page.locator(".row-name").first.click()


def test_a_visitor_sees_at_once_what_the_node_is_and_whether_it_is_well(page: Page) -> None:
    page.goto("/")

    expect(page.get_by_text("a node of the Plugin Federation Network")).to_be_visible()
    expect(page.locator("#health")).to_have_text(re.compile("healthy"))
    expect(page.locator("#tiles")).to_contain_text(re.compile(r"Sources verified\s*[2-9]"))  # other tests add some
    expect(page.locator("#tiles")).to_contain_text(re.compile(r"Peers linked\s*2"))


def test_a_visitor_searches_narrows_by_a_tag_and_takes_it_away_again(page: Page) -> None:
    page.goto("/")
    page.get_by_role("searchbox", name="Search plugins").fill("page")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#total")).to_contain_text("for page")
    everything = page.locator(".plugin-row").count()

    facet = page.locator(".facet").first.get_by_role("link").first
    tag = str(facet.locator("span").first.text_content())
    facet.click()

    chosen = page.get_by_role("link", name=f"Take away {tag}")
    expect(chosen).to_be_visible()
    expect(page.get_by_role("searchbox")).to_have_value("page")
    assert 1 <= page.locator(".plugin-row").count() <= everything

    chosen.click()

    expect(page.locator(".plugin-row")).to_have_count(everything)


def test_a_list_is_paged_to_its_end_without_a_plugin_twice(page: Page) -> None:
    page.goto(f"/plugins?sort=name&limit={PAGE_ROWS}")
    total = int(str(page.locator("#total b").text_content()))
    names: list[str] = []
    while True:
        names += page.locator(".row-name").all_text_contents()
        following = page.get_by_role("link", name=f"Next {PAGE_ROWS}")
        if following.count() == 0:
            break
        following.click()
        expect(page.get_by_role("link", name="First page")).to_be_visible()

    assert total > PAGE_ROWS
    assert len(names) == total
    assert names == sorted(names, key=str.casefold)


def test_nothing_found_offers_a_way_back(page: Page) -> None:
    page.goto("/plugins?q=nobodyhasthis&type=plugin")

    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    page.get_by_role("link", name="all of them").click()
    expect(page.locator(".plugin-row").first).to_be_visible()


def test_the_badge_leads_to_the_evidence_and_its_signatures(page: Page) -> None:
    open_plugin(page, "maintenance")

    page.locator(".badge-link").click()
    signatures = page.get_by_text(re.compile(r"\d+ signatures?, checked just now"))
    signatures.click()

    expect(page.locator("#evidence")).to_be_in_viewport()
    expect(page.locator(".signatures")).to_contain_text("the publisher vouches for exactly these bytes")
    expect(page.locator(".proof")).to_contain_text("this node")


def test_a_digest_is_copied_and_is_that_of_the_zip_and_of_the_evidence(new_context: NewContext) -> None:
    page = new_context(permissions=["clipboard-read", "clipboard-write"]).new_page()
    open_plugin(page, "maintenance")

    button = page.locator(".digest .copy")
    button.click()
    expect(button).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    with page.expect_download() as zip_:
        page.get_by_role("link", name="Download the zip").click()
    with page.expect_download() as evidence:
        page.get_by_role("link", name="Download the evidence").click()

    assert copied == page.locator("#digest").text_content()
    assert hashlib.sha256(Path(zip_.value.path()).read_bytes()).hexdigest() == copied
    bundle = json.loads(Path(evidence.value.path()).read_bytes())
    assert copied in json.dumps(bundle) and bundle["format"] == "pfn-evidence/2"


def test_the_ways_to_install_open_without_a_script(new_context: NewContext) -> None:
    page = new_context(java_script_enabled=False).new_page()
    open_plugin(page, "maintenance")

    page.get_by_text("WordPress", exact=True).click()
    expect(page.get_by_text("Upload Plugin")).to_be_visible()


def test_a_plugin_shows_where_a_yank_comes_from(page: Page, mesh: BrowserMesh) -> None:
    publisher = mesh.publishers[1]
    publisher.publish("short-lived", "1.0")
    yank = {"sourceId": publisher.source_id, "plugin": "short-lived", "version": "1.0", "reason": "it eats posts"}
    mesh.call(lambda: mesh.nodes[0].client.post("yank", yank))

    page.goto(f"/plugins/{publisher.source_id}/short-lived")

    expect(page.get_by_role("alert")).to_contain_text("was yanked by this node: it eats posts")
    expect(page.get_by_role("link", name="Download the zip")).to_have_count(0)


def test_the_words_are_explained_out_of_this_node(page: Page) -> None:
    open_plugin(page, "maintenance")

    page.get_by_role("link", name="What the levels mean").click()
    expect(page.locator("#A3")).to_contain_text("On this node:")
    page.get_by_role("link", name="trust", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("How trust in a source is counted")
    expect(page.get_by_text("The most trusted source here")).to_be_visible()
