"""What an administrator does, by clicking: keys, warnings, owners of slugs; and what is only read."""

import re

from playwright.sync_api import Page, expect

from tests.browser.administration import another_key, go
from tests.browser.chromium import signed_in
from tests.browser.conftest import NewContext
from tests.browser.local_nodes import BrowserMesh


def made_key(page: Page) -> str:
    """The key that is shown once."""
    expect(page.get_by_role("heading", level=1)).to_have_text("The new key")
    found = re.search(r"fadmin_\w{8}_\w+", page.locator(".command").inner_text())
    assert found
    return found[0]


# ---- Keys.


def test_a_key_is_made_used_rotated_and_revoked(admin: Page, mesh: BrowserMesh, new_context: NewContext) -> None:
    go(admin, "API keys")
    admin.get_by_role("link", name="Make a key").click()
    admin.get_by_label("What it is for").fill("the kiosk")
    admin.get_by_role("checkbox", name="keys").check()
    admin.get_by_label("Master key").fill(mesh.master_key)
    admin.get_by_role("button", name="Make the key").click()
    first = made_key(admin)

    kiosk = new_context().new_page()
    kiosk.goto("/sign-in")
    kiosk.get_by_label("API key").fill(first)
    kiosk.get_by_role("main").get_by_role("button", name="Sign in").click()
    go(kiosk, "API keys")
    expect(kiosk.get_by_role("row").filter(has_text="this session")).to_contain_text("the kiosk")
    assert kiosk.get_by_role("link", name="Advisories").count() == 0, "what the key may not do is not offered"

    admin.get_by_role("link", name="I have copied it").click()
    row = admin.get_by_role("row").filter(has_text=first.split("_")[1])
    row.get_by_label("Rotate the key").click()
    row.get_by_label("The old key works for another").select_option("0")
    row.get_by_role("button", name="Rotate it").click()
    second = made_key(admin)
    assert second != first
    kiosk.reload()
    expect(kiosk.get_by_role("heading", level=1)).to_have_text("Sign in")

    admin.get_by_role("link", name="I have copied it").click()
    row = admin.get_by_role("row").filter(has_text=second.split("_")[1])
    row.get_by_label("Revoke the key").click()
    row.get_by_role("button", name="Revoke it").click()
    expect(row).to_contain_text("revoked")
    expect(admin.get_by_role("row").filter(has_text=first.split("_")[1])).to_contain_text("expired")


def test_a_wrong_master_key_and_a_key_without_scopes_are_refused_beside_their_fields(page: Page) -> None:
    page.goto("/admin/keys/new")
    page.get_by_label("What it is for").fill("nothing good")
    page.get_by_role("checkbox", name="read").uncheck()
    page.get_by_role("checkbox").first.check()
    page.get_by_label("Master key").fill("x" * 40)
    page.get_by_role("button", name="Make the key").click()

    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("What it is for")).to_have_value("nothing good")
    expect(page.get_by_label("Master key")).to_have_value("")
    assert [box.is_checked() for box in page.get_by_role("checkbox").all()] == [True, *(False for _ in range(5))]


def test_revoking_the_key_of_the_session_says_so_and_signs_out(mesh: BrowserMesh, new_context: NewContext) -> None:
    key = mesh.call(lambda: another_key(mesh, mesh.nodes[0].url, "to be revoked"))
    page = new_context(storage_state=signed_in(mesh.nodes[0].url, key)).new_page()
    go(page, "API keys")
    row = page.get_by_role("row").filter(has_text="this session")
    row.get_by_label("Revoke the key").click()
    expect(row).to_contain_text("This is the key of your session")
    row.get_by_role("button", name="Revoke it and sign out").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


# ---- Warnings.


def test_a_release_is_yanked_warned_of_and_taken_down_and_each_is_taken_back(admin: Page, mesh: BrowserMesh) -> None:
    publisher = mesh.publishers[0]
    publisher.publish("lost-umbrella", "1.0")
    go(admin, "Advisories")

    yank = admin.locator("#yank")
    yank.get_by_label("Source").fill(publisher.source_id)
    yank.get_by_label("Plugin").fill("lost-umbrella")
    yank.get_by_label("Version").fill("1.0")
    yank.get_by_label("Reason").fill("it leaks")
    yank.get_by_role("button", name="Yank it").click()
    expect(admin.get_by_text("lost-umbrella 1.0 is yanked.")).to_be_visible()
    row = admin.locator("#said").get_by_role("row").filter(has_text="it leaks")
    expect(row).to_contain_text("acts")
    row.get_by_role("button", name="Take back").click()
    expect(admin.locator("#said").get_by_role("row").filter(has_text="lost-umbrella")).to_contain_text("taken back")

    warn = admin.locator("#advise")
    warn.get_by_label("Source").fill(publisher.source_id)
    warn.get_by_label("Plugin").fill("lost-umbrella")
    warn.get_by_label("Id of the advisory").fill("PFN-2026-007")
    warn.get_by_label("Severity").select_option("critical")
    warn.get_by_label("What is wrong").fill("Rain comes through")
    warn.get_by_label("Fixed in version").fill("no version at all!")
    warn.get_by_role("button", name="Warn").click()
    expect(admin.locator("#advise .problem")).to_be_visible()
    expect(warn.get_by_label("What is wrong")).to_have_value("Rain comes through")
    warn.get_by_label("Fixed in version").fill("1.1")
    warn.get_by_role("button", name="Warn").click()
    row = admin.locator("#said").get_by_role("row").filter(has_text="Rain comes through")
    expect(row).to_contain_text("critical")
    row.get_by_role("button", name="Take back").click()
    expect(admin.locator("#said").get_by_role("row").filter(has_text="PFN-2026-007")).to_contain_text("taken back")

    down = admin.locator("#takedown")
    down.get_by_label("Source").fill(publisher.source_id)
    down.get_by_label("Plugin").fill("lost-umbrella")
    down.get_by_label("Version").fill("1.0")
    down.get_by_text("Take it down", exact=True).click()
    down.get_by_role("button", name="Yes, take it down").click()
    path = f"/federation/download?sourceId={publisher.source_id}&plugin=lost-umbrella&version=1.0"
    assert admin.request.get(path).status == 410
    admin.locator("#takedowns").get_by_role("button", name="Bring it back").click()
    expect(admin.locator("#takedowns").get_by_role("button")).to_have_count(0)
    assert admin.request.get(path).status == 200


# ---- What is only read.


def test_health_storage_settings_and_the_audit_log_tell_of_this_very_mesh(admin: Page, mesh: BrowserMesh) -> None:
    go(admin, "Health")
    for publisher in mesh.publishers:
        row = admin.locator("#publishers").get_by_role("row").filter(has_text=publisher.source_id)
        expect(row).to_contain_text("ms")
    expect(admin.locator("#node")).to_contain_text("links")

    go(admin, "Storage")
    for publisher in mesh.publishers:
        expect(admin.get_by_role("row").filter(has_text=publisher.source_id)).to_contain_text("kB")

    go(admin, "Settings")
    expect(admin.get_by_role("row").filter(has_text="allow_private_networks")).to_contain_text("flag")
    expect(admin.get_by_role("row").filter(has_text="master_key")).to_contain_text("PFN_MASTER_KEY")
    assert mesh.master_key not in admin.content()

    go(admin, "Audit log")
    expect(admin.get_by_text("chain whole")).to_be_visible()
    admin.get_by_label("Part of an action").fill("subscribe")
    admin.get_by_role("button", name="Filter").click()
    rows = admin.get_by_role("row").filter(has_text="POST /")
    assert rows.count() > 0
    assert all("subscribe" in text for text in rows.all_inner_texts())


def test_the_owner_of_a_slug_is_chosen(admin: Page, mesh: BrowserMesh) -> None:
    for publisher in mesh.publishers:
        publisher.publish("same-name", "1.0")
    go(admin, "Slugs")
    card = admin.locator(".slug").filter(has_text="same-name")
    expect(card).to_contain_text("not decided")
    owner = mesh.publishers[1].source_id
    card.get_by_role("row").filter(has_text=owner).get_by_role("button", name="Make it the owner").click()

    expect(card.get_by_role("row").filter(has_text=owner)).to_contain_text("owner")
    assert {"slug": "same-name", "sourceId": owner} in admin.request.get("/federation/slugs").json()["slugs"]
