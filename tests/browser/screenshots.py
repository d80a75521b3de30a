"""Pictures of every page, to be looked at: `scripts/screenshots [FOLDER]`.

Three nodes and two publishers start, things happen to them, and every page that the site declares or its links lead to
is kept as FOLDER/WIDTH-SCHEME/visitor or admin-PAGE.png.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser.chromium import FLAGS, chromium_path, signed_in
from tests.browser.every_page import Address, every_address, parts_of
from tests.browser.local_nodes import BrowserMesh, browser_mesh
from tests.browser.trio_thread import in_a_thread

WIDTHS = {390: 844, 1280: 900, 2560: 1440}
SCHEMES = ("light", "dark")
DEFAULT_FOLDER = Path("build/screenshots")


def let_things_happen(mesh: BrowserMesh) -> None:
    """A history: releases, an advisory, a yank, a takedown, keys, a source that waits and one that failed."""
    juniper, wren = mesh.publishers
    for number, slug in enumerate(("tide-table", "night-lamp", "harbour-light", "bird-song", "open-hours")):
        publisher = (juniper, wren)[number % 2]
        publisher.publish(slug, "1.0", tags=("tools", slug.partition("-")[0]))
        publisher.publish(slug, "1.1.0", tags=("tools", slug.partition("-")[0]))
    mesh.call(lambda: _happen(mesh))


async def _happen(mesh: BrowserMesh) -> None:
    client, juniper = mesh.nodes[0].client, mesh.publishers[0]
    at = {"sourceId": juniper.source_id}
    advisory = {"advisory_id": "PFN-2026-1", "severity": "high", "summary": "Anybody may change the opening hours."}
    await client.post(
        "advisories", {**at, "plugin": "open-hours", "ranges": [{"from": "", "until": "1.1.0"}], **advisory}
    )
    await client.post("yank", {**at, "plugin": "tide-table", "version": "1.0", "reason": "It forgets the tide."})
    await client.post("takedown", {**at, "plugin": "harbour-light", "version": "1.0", "reason": "A court said so."})
    lonely = {"instance_url": "http://127.0.0.1:9", "username": "lonely", "public_key": await _key_of(mesh)}
    await client.post("add-source", lonely)
    await client.post("verify-source", {"sourceId": "lonely@127.0.0.1:9"})


async def _key_of(mesh: BrowserMesh) -> str:
    sources = await mesh.nodes[0].client.get("sources")
    return str(sources[0]["public_key"])


def take_all(page: Page, addresses: list[Address], folder: Path, prefix: str) -> int:
    """Every address in every width and scheme; answers how many pictures that made."""
    for address in addresses:
        page.goto(address.path)
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            for width, height in WIDTHS.items():
                page.set_viewport_size({"width": width, "height": height})
                picture = folder / f"{width}-{scheme}" / f"{prefix}-{address.name[:80]}.png"
                page.screenshot(path=picture, full_page=True)
        print(f"{prefix} {address.path}", flush=True)
    return len(addresses) * len(SCHEMES) * len(WIDTHS)


def main(folder: Path) -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as data, in_a_thread(lambda: browser_mesh(Path(data))) as (mesh, _):
        let_things_happen(mesh)
        node, parts, count = mesh.nodes[0], parts_of(mesh), 0
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
            for prefix, state in (("visitor", None), ("admin", signed_in(node.url, node.key))):
                page = browser.new_context(base_url=node.url, storage_state=state).new_page()
                found = list(every_address(parts, lambda path, page=page: page.request.get(path).text()))  # type: ignore[misc]
                seen = [address for address in found if state or not address.page.protected]
                count += take_all(page, seen, folder, prefix)
            browser.close()
    print(f"{count} pictures in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FOLDER)
