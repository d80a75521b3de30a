"""What the connector refuses: tampered mirrors, nodes that lie, keys that changed, what nobody signed."""

import base64
import hashlib
import html
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from pfn_node.cli.local_mesh import LocalMesh
from pfn_protocol.identity import PrivateKey, key_fingerprint
from pfn_protocol.publisher import ReleaseStatement, open_release, sign_release
from tests.clients.lying_node import lying_node
from tests.clients.wordpress_shop import (
    CHECK,
    FILE,
    PLUGIN,
    SEARCH,
    UPDATE,
    connect,
    install,
    open_shop,
    set_nodes,
)
from tests.clients.wordpress_site import Site
from tests.end_to_end.conftest import follow

OTHER = PrivateKey(bytes([7]) * 32)
KEYS = "return get_site_option( 'pfn_connector_keys' );"
SETTINGS = "/wp-admin/options-general.php?page=pfn-connector"


def grouped(key: bytes) -> str:
    """A fingerprint as the connector shows it."""
    return " ".join(re.findall("....", key_fingerprint(key)))


def evil_zip(version: str, folder: str = PLUGIN) -> bytes:
    """A plugin of the same name that does something else."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr(f"{folder}/{PLUGIN}.php", f"<?php\n/*\nPlugin Name: Evil\nVersion: {version}\n*/\n")
    return made.getvalue()


def swapped(evil: bytes) -> Any:
    """Give another zip, and evidence that names its digest and size."""

    def lie(path: str, body: bytes) -> bytes:
        if path == "/federation/download":
            return evil
        if path != "/federation/evidence":
            return body
        named = {"sha256": hashlib.sha256(evil).hexdigest(), "size": len(evil)}
        return json.dumps(json.loads(body) | named).encode()

    return lie


def resigned(key: PrivateKey, evil: bytes | None = None) -> Any:
    """Give evidence in which another key vouches for the release, or for another zip in its place."""

    def lie(path: str, body: bytes) -> bytes:
        if path == "/federation/download":
            return evil or body
        if path != "/federation/evidence":
            return body
        bundle = json.loads(body)
        (raw,) = (base64.b64decode(piece["data"]) for piece in bundle["evidence"] if piece["form"] == "release/2")
        said = open_release(raw)[0]
        if evil is not None:
            said = ReleaseStatement(
                **{name: getattr(said, name) for name in said.__dataclass_fields__}
                | {"sha256": hashlib.sha256(evil).digest(), "size": len(evil)}
            )
        piece = {"form": "release/2", "data": base64.b64encode(sign_release(key, said).raw).decode(), "text": ""}
        changed = {"public_key": base64.b64encode(key.public).decode(), "evidence": [piece], "keys": []}
        return json.dumps(bundle | changed | {"sha256": said.sha256.hex(), "size": said.size}).encode()

    return lie


def tampered(path: str, body: bytes) -> bytes:
    """Give other bytes than the evidence names; a node does not do that itself, whatever is on its disk."""
    if path != "/federation/download":
        return body
    return body.replace(b"harbour-light/readme.txt", b"harbour-light/evil12.php")


async def test_a_tampered_mirror_is_refused_and_an_honest_one_stands_in(
    mesh: LocalMesh, site: Site, tmp_path: Path
) -> None:
    shop = await open_shop(mesh, tmp_path)
    honest = await mesh.start_node()
    await follow(honest, shop.publisher, "dan")
    assert (await honest.post("subscribe", {"sourceId": shop.source}))["success"]
    with lying_node(mesh.nodes[0].url, tampered) as mirror:
        await connect(site, mirror)
        refused = await install(site, shop.slug)
        nothing = site.version_of(PLUGIN)
        await set_nodes(site, mirror, mesh.nodes[1].url)
        installed = await install(site, shop.slug)

    assert not refused["done"] and "its SHA-256 or size differs" in refused["error"]
    assert nothing is None and not list((site.content / "upgrade").iterdir())
    assert installed["done"], installed
    assert site.version_of(PLUGIN) == "1.0.0"


async def test_a_node_that_lies_about_the_bytes_is_refused_for_the_publishers_signature_is_missing(
    mesh: LocalMesh, site: Site, tmp_path: Path
) -> None:
    shop = await open_shop(mesh, tmp_path)
    real = mesh.nodes[0].url

    with lying_node(real, swapped(evil_zip("1.0.0"))) as liar:
        await connect(site, liar)
        refused = await install(site, shop.slug)
        await set_nodes(site, liar, real)
        installed = await install(site, shop.slug)
    await shop.release("1.1.0")
    with lying_node(real, swapped(evil_zip("1.1.0"))) as liar:
        await set_nodes(site, liar, allow_unsigned=True)
        offered = await site.php(CHECK)
        never = await site.php(UPDATE, file=FILE)

    assert not refused["done"] and "only the node vouches for them" in refused["error"]
    assert installed["done"], installed
    assert offered["response"][FILE]["new_version"] == "1.1.0"
    assert not never["done"] and "one covered an earlier version" in str(never["error"])
    assert site.version_of(PLUGIN) == "1.0.0"


async def test_another_key_is_refused_until_an_administrator_accepts_it(
    mesh: LocalMesh, site: Site, tmp_path: Path
) -> None:
    shop = await open_shop(mesh, tmp_path)
    real = mesh.nodes[0].url
    with lying_node(real, resigned(OTHER)) as other:
        await connect(site, other, real)
        differing = await install(site, shop.slug)
        await set_nodes(site, real)
        assert (await install(site, shop.slug))["done"]
        await shop.release("1.1.0")
        await set_nodes(site, other)
        await site.php(CHECK)
        refused = await site.php(UPDATE, file=FILE)
        before = site.version_of(PLUGIN)
        async with site.browser() as browser:
            page = (await browser.get(SETTINGS)).text
            fields = dict(re.findall(r'name="(source|offered|_wpnonce)" value="([^"]+)"', page.partition("<table")[2]))
            fields = {name: html.unescape(value) for name, value in fields.items()}
            accepting = fields | {"action": "pfn_connector_key", "decision": "accept"}
            another = accepting | {"offered": base64.b64encode(bytes(32)).decode()}
            kept = await site.php(KEYS)
            await browser.post("/wp-admin/admin-post.php", data=another)
            unshown = await site.php(KEYS)
            await browser.post("/wp-admin/admin-post.php", data=accepting)
        updated = await site.php(UPDATE, file=FILE)

    assert not differing["done"] and "name different keys" in differing["error"]
    assert not refused["done"] and "names another key" in str(refused["error"]) and before == "1.0.0"
    assert "A node names another key" in page and grouped(OTHER.public) in page
    assert unshown == kept != {}
    assert updated["done"] and site.version_of(PLUGIN) == "1.1.0"


async def test_what_nobody_signed_is_installed_only_where_the_site_allows_it(
    mesh: LocalMesh, site: Site, tmp_path: Path
) -> None:
    shop = await open_shop(mesh, tmp_path, profile="original")

    await connect(site, mesh.nodes[0].url)
    (card,) = await site.php(SEARCH, words="")
    async with site.browser() as browser:
        page = (await browser.get("/wp-admin/plugin-install.php?tab=pfn_connector")).text
    refused = await install(site, f"pfn-{shop.source.encode().hex()}-{PLUGIN}")
    await set_nodes(site, mesh.nodes[0].url, allow_unsigned=True)
    installed = await install(site, card["slug"])

    assert "A1: only the node vouches for the bytes" in card["author"] and card["download_link"] == ""
    assert "Not allowed: unsigned" in page and "action=install-plugin" not in page
    assert not refused["done"]
    assert installed["done"] and any("Only the node vouches for them" in text for text in installed["says"])


async def test_a_release_brings_no_other_folder_and_a_yanked_one_is_not_installed(
    mesh: LocalMesh, site: Site, tmp_path: Path
) -> None:
    shop = await open_shop(mesh, tmp_path)
    real = mesh.nodes[0].url
    with lying_node(real, resigned(OTHER, evil_zip("1.0.0", "pfn-connector"))) as liar:
        await connect(site, liar)
        refused = await install(site, shop.slug)
        await site.php("update_site_option( 'pfn_connector_keys', array() );")
    await set_nodes(site, real)
    await shop.client.post("yank", {"sourceId": shop.source, "plugin": PLUGIN, "version": "1.0.0", "reason": "broken"})
    async with site.browser() as browser:
        page = (await browser.get("/wp-admin/plugin-install.php?tab=pfn_connector")).text
    yanked = await install(site, shop.slug)

    assert not refused["done"] and "does not hold the folder of this plugin" in str(refused["error"])
    assert "Evil" not in (site.content / "plugins" / "pfn-connector" / "pfn-connector.php").read_text()
    assert not yanked["done"] and site.version_of(PLUGIN) is None
    assert "action=install-plugin" not in page


async def test_what_a_node_says_is_shown_as_text_and_what_makes_no_sense_is_left_out(
    mesh: LocalMesh, site: Site, tmp_path: Path
) -> None:
    shop = await open_shop(mesh, tmp_path)
    script = "<script>alert(1)</script><img src=x onerror=alert(2)>"

    def lie(path: str, body: bytes) -> bytes:
        answer = json.loads(body)
        if path == "/federation/plugins":
            row = answer["plugins"][0]
            hostile = {"name": script, "description": script, "assurance": script}
            wrong = [{}, "text", None, row | {"version": "1/../.."}, row | {"plugin_id": "../x"}, row | {"name": 7}]
            return json.dumps({"plugins": [row | hostile, *wrong], "total": 7, "next": None}).encode()
        if path.startswith("/federation/plugins/"):
            return json.dumps(answer | {"name": script, "description": script, "sha256": script}).encode()
        return b"<b>no JSON</b>"

    with lying_node(mesh.nodes[0].url, lie) as liar:
        await connect(site, liar)
        async with site.browser() as browser:
            tab = (await browser.get("/wp-admin/plugin-install.php?tab=pfn_connector")).text
            details = (
                await browser.get(f"/wp-admin/plugin-install.php?tab=plugin-information&plugin={shop.slug}")
            ).text
        refused = await install(site, shop.slug)

    assert tab.count('class="plugin-card ') == 1
    assert "alert(1)" in tab and "alert(1)" in details
    assert "<script>alert" not in tab + details and "<img src=x" not in tab + details
    assert not refused["done"] and "no answer that can be read" in refused["error"]
