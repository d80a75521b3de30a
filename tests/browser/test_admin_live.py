"""What happens while an administrator looks: activity that arrives, a lost connection, a release that waits."""

import json
import re

from playwright.sync_api import Page, expect

from tests.browser.administration import another_key, go
from tests.browser.chromium import signed_in
from tests.browser.conftest import NewContext
from tests.browser.local_nodes import BrowserMesh
from tests.browser.watching import Watch
from tests.end_to_end.conftest import eventually, follow
from tests.end_to_end.plugins import write_plugin
from tests.end_to_end.test_command_line import pfn


def untouched(page: Page) -> None:
    """Marks a page, so that a reload would show."""
    page.evaluate("document.body.dataset.untouched = 'yes'")


def is_untouched(page: Page) -> bool:
    return page.locator("body").get_attribute("data-untouched") == "yes"


# ---- Activity.


def test_activity_arrives_without_a_reload_is_marked_and_filters_add_up(admin: Page, mesh: BrowserMesh) -> None:
    publisher = mesh.publishers[0]
    go(admin, "Activity")
    expect(admin.locator("#live-state")).to_have_text("Live")
    untouched(admin)

    publisher.publish("paper-boat", "1.0")
    publisher.publish("paper-boat", "1.1")

    newest = admin.locator("#activity li").first
    expect(newest).to_contain_text("1.0 → 1.1")
    expect(newest).to_have_class(re.compile("fresh"))
    assert is_untouched(admin)

    admin.get_by_role("link", name="Versions", exact=True).last.click()
    admin.get_by_label("Only of this source").fill(publisher.source_id)
    admin.get_by_role("button", name="Filter").click()
    expect(admin.locator("#activity li").first).to_contain_text("Paper Boat")
    assert set(admin.locator("#activity .state").all_inner_texts()) == {"new version"}
    admin.get_by_role("link", name="Every source").click()
    expect(admin).to_have_url(re.compile(r"/activity\?type=version_update$"))


def test_a_lost_connection_is_told_and_what_came_meanwhile_is_in_the_list(
    mesh: BrowserMesh, new_context: NewContext, watch: Watch
) -> None:
    node, process = mesh.nodes[1], mesh.local.nodes[1]
    session = signed_in(node.url, node.key)
    page = new_context(base_url=node.url, storage_state=session).new_page()
    page.goto("/activity")
    expect(page.locator("#live-state")).to_have_text("Live")
    untouched(page)

    mesh.call(process.kill)
    expect(page.locator("#connection")).to_contain_text("Trying again")
    mesh.call(process.start)
    mesh.call(lambda: another_key(mesh, node.url, "made meanwhile"))

    expect(page.locator("#connection")).to_contain_text("Live again")
    expect(page.locator("#activity")).to_contain_text("made meanwhile")
    assert is_untouched(page)
    page.close()
    watch.complaints.clear()  # the browser says of each try that nobody answered


# ---- Versions.


def test_a_release_that_cools_down_after_a_new_key_is_approved_by_clicking(admin: Page, mesh: BrowserMesh) -> None:
    source = mesh.call(lambda: cooling_release(mesh))
    go(admin, "Versions")
    row = admin.locator("#waiting").get_by_role("row").filter(has_text="Night Ferry")
    expect(row).to_contain_text("cools down")
    row.get_by_label("Approve Night Ferry").click()
    row.get_by_role("button", name="Approve it").click()

    expect(admin.get_by_text("night-ferry 1.1 is approved.")).to_be_visible()
    updates = admin.locator("#updates").get_by_role("row").filter(has_text="1.0 → 1.1").filter(has_text="Night Ferry")
    expect(updates).to_contain_text("served")
    assert newest_version(mesh, source) == "1.1"


async def cooling_release(mesh: BrowserMesh) -> str:
    """A release that came right after its publisher's key was changed; answers its source."""
    client, folder = mesh.nodes[0].client, mesh.local.folder / "plugins-nina"
    write_plugin(folder, "night-ferry", "1.0")
    publisher = await mesh.local.start_publisher(folder, "nina")
    source = await follow(client, publisher, "nina")
    await client.post("subscribe", {"sourceId": source})
    data = str(mesh.local.folder / "publisher-nina")
    done = await pfn("publisher", "rotate", "--author", "nina", "--origin", publisher.url, "--data", data)
    assert done.returncode == 0, done.stderr
    write_plugin(folder, "night-ferry", "1.1")

    async def offered() -> bool:
        reply = await client.outbound.fetch(
            "GET", f"{publisher.url}/author-data?author=nina", bytes_max=2**20, seconds_max=10
        )
        return any(entry["version"] == "1.1" for entry in json.loads(reply.body)["plugins"])

    await eventually(offered)
    await client.post("subscribe", {"sourceId": source})
    return source


def newest_version(mesh: BrowserMesh, source: str) -> str:
    answer = mesh.call(lambda: mesh.nodes[0].client.get("plugins", source=source))
    return str(answer["plugins"][0]["version"])
