"""An administrator's work with sources and subscriptions, done by clicking, with what happens seen while it does."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewContext
from tests.browser.held_publisher import HeldPublisher, held_publisher
from tests.browser.local_nodes import BrowserMesh

# By these an answer of the publisher is held back.
PROOF, SECOND_ZIP = "/verify-ownership", "/plugins/ann/beta/beta.zip"


@pytest.fixture(scope="module")
def held() -> Iterator[HeldPublisher]:
    with held_publisher() as made:
        made.publisher.publish("alpha", "1.0.0", name="Alpha", tags=["red"])
        made.publisher.publish("beta", "1.0.0", name="Beta", tags=["red", "blue"])
        made.publisher.publish("gamma", "1.0.0", name="Gamma", tags=["blue"])
        yield made


def fill(page: Page, url: str, username: str, key: str) -> None:
    page.get_by_label("Address of the publisher").fill(url)
    page.get_by_label("User name there").fill(username)
    page.get_by_label("Public key", exact=True).fill(key)
    page.get_by_role("button", name="Add and verify").click()


def step(page: Page, title: str, state: str) -> None:
    """Wait until a step of the verification is shown in a state; nothing is reloaded meanwhile."""
    expect(page.locator(".step", has=page.get_by_text(title, exact=True))).to_have_class(re.compile(rf"\b{state}\b"))


def test_an_administrator_adds_verifies_subscribes_changes_and_removes_a_source(
    admin: Page, held: HeldPublisher, mesh: BrowserMesh
) -> None:
    source_id = f"ann@{held.url.removeprefix('http://')}"
    held.hold(PROOF)

    # Adding it; the steps of its verification come one by one, without a reload.
    admin.goto("/")
    admin.get_by_role("link", name="Sources", exact=True).click()
    admin.get_by_role("link", name="Add a source").click()
    fill(admin, held.url, "ann", held.publisher.pem)
    expect(admin.get_by_role("heading", level=1)).to_have_text("ann")
    admin.evaluate("window.stays = true")
    step(admin, "Asset info", "done")
    step(admin, "Challenge and username", "running")
    step(admin, "Signature", "waiting")
    held.release(PROOF)
    step(admin, "Signature", "done")
    step(admin, "Record and announcement", "done")
    expect(admin.locator("#source-facts")).to_contain_text("verified")
    assert admin.evaluate("window.stays")

    # Looking at what a subscription would bring, then subscribing; the progress of the sync is seen.
    held.hold(SECOND_ZIP)
    admin.get_by_role("link", name="Subscribe", exact=True).click()
    admin.get_by_label("Only with one of these tags").fill("red")
    admin.get_by_role("button", name="Preview").click()
    expect(admin.get_by_role("heading", name="2 plugins would be mirrored")).to_be_visible()
    expect(admin.locator(".preview")).to_contain_text("1 left out by the filters")
    admin.get_by_role("button", name="Subscribe", exact=True).click()
    card = admin.locator(".subscriptions > li", has_text=source_id)
    admin.evaluate("window.stays = true")
    expect(card).to_contain_text("1 of 2")
    expect(card).to_contain_text("now beta")
    expect(card.get_by_role("progressbar")).to_have_attribute("value", "1")
    held.release(SECOND_ZIP)
    expect(card).to_contain_text("2 of 2 here")
    expect(card.get_by_role("progressbar")).to_have_count(0)
    expect(card.locator(".tag")).to_have_text("red")
    assert admin.evaluate("window.stays")

    # Syncing it again by hand, and with other filters.
    card.get_by_role("button", name="Sync now").click()
    expect(card).to_contain_text("2 of 2 here")
    card.get_by_role("link", name="Change filters").click()
    expect(admin.get_by_label("Only with one of these tags")).to_have_value("red")
    admin.get_by_label("Only with one of these tags").fill("")
    admin.get_by_label("But not these").fill("gamma, beta")
    admin.get_by_role("button", name="Preview").click()
    admin.get_by_role("button", name="Save these filters and sync").click()
    expect(card).to_contain_text("not gamma")
    expect(card).to_contain_text("1 of 1 here")

    # Verifying it by hand while the publisher lies, and again when it does not.
    card.get_by_role("link", name=source_id).click()
    expect(admin.locator("#plugins")).to_contain_text("Alpha")
    held.publisher.answers[PROOF] = ('{"signature": "bm8="}', 200, {"Content-Type": "application/json"})
    admin.get_by_role("button", name="Verify now").click()
    step(admin, "Challenge and username", "failed")
    expect(admin.locator("#source-facts")).to_contain_text("error")
    del held.publisher.answers[PROOF]
    admin.get_by_role("button", name="Verify now").click()
    step(admin, "Signature", "done")
    expect(admin.locator("#source-facts")).to_contain_text("verified")

    # Changing a rule of it; what is wrong stands beside its field.
    admin.get_by_text("Change address, key or rules").click()
    admin.get_by_label("Another public key").fill("garbage")
    admin.get_by_role("button", name="Save, and read").click()
    expect(admin.locator(".field.wrong .problem")).to_contain_text("Ed25519 public key")
    expect(admin.get_by_label("Another public key")).to_have_value("garbage")
    admin.get_by_label("Another public key").fill("")
    admin.get_by_label("Releases without any signature").select_option("true")
    admin.get_by_role("button", name="Save, and read").click()
    expect(admin.locator("#keys")).to_contain_text("mirrored too, as A0")

    # Ending the subscription, then removing the source with its files; both ask first.
    admin.get_by_role("link", name="Change the subscription").click()
    card.get_by_text("Unsubscribe", exact=True).click()
    card.get_by_role("button", name=f"Unsubscribe from {source_id}").click()
    expect(card).to_have_count(0)
    admin.goto(f"/sources/{source_id}")
    admin.get_by_text("Remove this source").click()
    expect(admin.get_by_label("Delete its files as well")).to_be_visible()
    admin.get_by_label("Delete its files as well").check()
    admin.get_by_role("button", name=f"Remove {source_id}").click()
    expect(admin.locator(".notice.good")).to_contain_text("is removed")
    expect(admin.locator("#sources")).not_to_contain_text("ann")
    known = mesh.call(lambda: mesh.nodes[0].client.get("sources"))
    assert source_id not in [row["id"] for row in known]


def test_what_is_wrong_with_a_new_source_is_said_beside_its_field(admin: Page, mesh: BrowserMesh) -> None:
    juniper = mesh.publishers[0]
    pem = next(
        row["public_key"]
        for row in mesh.call(lambda: mesh.nodes[0].client.get("sources"))
        if row["id"] == juniper.source_id
    )
    admin.goto("/admin/sources/add")

    fill(admin, "https://user@plugins.example.com", "two words", "not a key")
    expect(admin.locator(".field.wrong .problem")).to_have_count(3)
    for url, username, key, label in (
        ("https://user@plugins.example.com", "juniper", pem, "Address of the publisher"),
        (juniper.url, "two words", pem, "User name there"),
        (juniper.url, "juniper", "not a key", "Public key"),
        (juniper.url, "juniper", pem, "Address of the publisher"),  # it is registered already
    ):
        fill(admin, url, username, key)
        expect(admin.locator(".field.wrong")).to_have_count(1)
        expect(admin.locator(".field.wrong label")).to_have_text(label)
        expect(admin.locator(".field.wrong .problem")).not_to_be_empty()
    expect(admin.locator(".problem")).to_contain_text("registered already")


def test_a_visitor_finds_a_source_and_sees_how_far_to_trust_it(page: Page, mesh: BrowserMesh) -> None:
    page.goto("/sources")
    page.get_by_role("searchbox").fill("juniper")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#sources tbody tr")).to_have_count(1)

    page.get_by_role("link", name="juniper").click()

    expect(page.locator(".trust-parts li")).to_have_count(6)  # five parts, and the limit of the first days
    expect(page.locator("#trust")).to_contain_text("would raise it to")
    expect(page.locator("#plugins tbody tr")).not_to_have_count(0)
    expect(page.get_by_role("button", name="Verify now")).to_have_count(0)
    expect(page.locator("#followers")).not_to_contain_text("node-")


@pytest.mark.parametrize("path", ["/sources", "/sources/{source}", "/admin/subscriptions?sourceId={source}"])
def test_no_page_is_wider_than_a_phone(admin: Page, mesh: BrowserMesh, path: str) -> None:
    admin.set_viewport_size({"width": 390, "height": 844})
    admin.goto(path.format(source=mesh.publishers[0].source_id))

    assert admin.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_without_scripts_the_forms_do_the_same(
    new_context: NewContext, session: object, held: HeldPublisher, mesh: BrowserMesh
) -> None:
    plain = new_context(storage_state=session, java_script_enabled=False).new_page()
    plain.goto("/admin/sources/add")

    fill(plain, held.url, "ann", held.publisher.pem)
    step(plain, "Record and announcement", "done")  # the page asks for itself again while something is under way
    plain.get_by_role("link", name="Subscribe", exact=True).click()
    expect(plain.get_by_role("heading", name="3 plugins would be mirrored")).to_be_visible()
    plain.get_by_role("button", name="Subscribe", exact=True).click()
    expect(plain.locator(".subscriptions")).to_contain_text("3 of 3 here")
    plain.get_by_role("link", name=re.compile("^ann@")).click()
    plain.get_by_text("Remove this source").click()
    plain.get_by_role("button", name=re.compile("^Remove ann@")).click()

    expect(plain.locator(".notice.good")).to_contain_text("is removed")
