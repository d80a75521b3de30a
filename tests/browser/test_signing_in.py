"""Signing in and out, by clicking."""

from playwright.sync_api import Page, expect

from tests.browser.local_nodes import BrowserMesh


def test_an_administrator_signs_in_is_told_that_the_page_is_live_and_signs_out(page: Page, mesh: BrowserMesh) -> None:
    page.goto("/")
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("API key").fill(mesh.nodes[0].key)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()

    expect(page).to_have_url(f"{mesh.nodes[0].url}/")
    expect(page.locator("#live-state")).to_have_text("Live")

    page.get_by_role("button", name="Sign out").click()

    expect(page.get_by_role("link", name="Sign in")).to_be_visible()
    assert page.context.cookies() == []


def test_a_wrong_key_is_refused_beside_the_field_and_not_kept_in_it(page: Page) -> None:
    page.goto("/sign-in")
    field = page.get_by_label("API key")
    field.fill("fadmin_wrong_key")
    page.get_by_role("main").get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("alert")).to_contain_text("not valid here")
    expect(field).to_have_value("")


def test_who_is_signed_in_sees_a_new_release_without_a_reload(admin: Page, mesh: BrowserMesh) -> None:
    admin.goto("/")
    expect(admin.locator("#live-state")).to_have_text("Live")
    admin.evaluate("document.body.dataset.untouched = 'yes'")

    mesh.publishers[0].publish("tide-table", "1.0")

    expect(admin.locator("#newest")).to_contain_text("Tide Table")
    assert admin.locator("body").get_attribute("data-untouched") == "yes"
