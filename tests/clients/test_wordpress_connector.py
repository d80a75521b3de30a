"""The connector plugin in a real WordPress, before real nodes and a real publisher: what it is for."""

import html
import json
import re
from pathlib import Path

import httpx

from pfn_node.cli.local_mesh import LocalMesh
from tests.clients.wordpress_shop import CHECK, FILE, PLUGIN, SEARCH, UPDATE, connect, install, open_shop
from tests.clients.wordpress_site import Site, free_port

TAB = "/wp-admin/plugin-install.php?tab=pfn_connector"
SETTINGS = "/wp-admin/options-general.php?page=pfn-connector"


async def page_of(browser: httpx.AsyncClient, path: str) -> str:
    got = await browser.get(path)
    assert got.status_code == 200, got.text
    return got.text


def link_to(action: str, page: str) -> str:
    """Where a page's button leads that does this."""
    found = re.search(rf'href="([^"]*/update\.php\?action={action}[^"]*)"', page)
    assert found is not None, page
    return html.unescape(found.group(1))


async def test_a_site_finds_installs_and_updates_plugins_of_the_federation(
    mesh: LocalMesh, site: Site, tmp_path: Path
) -> None:
    shop = await open_shop(mesh, tmp_path)
    await connect(site, mesh.nodes[0].url)

    (card,) = await site.php(SEARCH, words="harbour")
    nothing = await site.php(SEARCH, words="lighthouse")
    installed = await install(site, card["slug"])
    none_yet = await site.php(CHECK)
    await shop.release("1.1.0")
    offered = await site.php(CHECK)
    updated = await site.php(UPDATE, file=FILE)
    await shop.release("1.2.0", header="Requires PHP: 99.0")
    await site.php(CHECK)
    cannot = await site.php(UPDATE, file=FILE)

    assert (card["slug"], card["version"], nothing) == (shop.slug, "1.0.0", [])
    assert shop.source in card["author"] and "A3: signed by the publisher" in card["author"]
    assert installed["done"], installed
    assert any("signed, with the key" in text for text in installed["says"])
    assert list(none_yet["no_update"]) == [FILE] and none_yet["response"] == {}
    assert offered["response"][FILE]["new_version"] == "1.1.0"
    assert updated["done"], updated
    assert not cannot["done"] and "99.0" in str(cannot["error"]), cannot
    assert site.version_of(PLUGIN) == "1.1.0"


async def test_everything_can_be_done_in_wp_admin(mesh: LocalMesh, site: Site, tmp_path: Path) -> None:
    shop = await open_shop(mesh, tmp_path)
    await connect(site)
    details_path = f"/wp-admin/plugin-install.php?tab=plugin-information&plugin={shop.slug}&section=federation"

    async with site.browser() as browser:
        form = await page_of(browser, SETTINGS)
        nonce = re.search(r'name="_wpnonce" value="(\w+)"', form)
        assert nonce is not None
        fields = {"action": "pfn_connector_save", "nodes": mesh.nodes[0].url, "_wpnonce": nonce.group(1)}
        forged = await browser.post("/wp-admin/admin-post.php", data=fields | {"_wpnonce": "0123456789"})
        no_node = await page_of(browser, TAB)
        saved = await browser.post("/wp-admin/admin-post.php", data=fields)
        found = await page_of(browser, f"{TAB}&pfn_search=harbour")
        details = await page_of(browser, details_path)
        done = await page_of(browser, link_to("install-plugin", found))
        installed = await page_of(browser, TAB)
        keys = await page_of(browser, SETTINGS)
        await shop.release("1.1.0")
        await site.php(CHECK)
        plugins = await page_of(browser, "/wp-admin/plugins.php")
        updates = await page_of(browser, "/wp-admin/update-core.php")
        updatable = await page_of(browser, TAB)
        details_then = await page_of(browser, details_path)
        settings = re.search(r"_wpUpdatesSettings = (\{.*?\});", plugins)
        assert settings is not None and link_to("upgrade-plugin", updatable)
        clicked = {"action": "update-plugin", "plugin": FILE, "slug": shop.slug}
        clicked["_ajax_nonce"] = json.loads(settings.group(1))["ajax_nonce"]
        updated = (await browser.post("/wp-admin/admin-ajax.php", data=clicked)).json()

    assert (forged.status_code, saved.status_code) == (403, 302)
    assert "No node is set" in no_node
    assert "Harbour Light" in found and "A3: signed by the publisher" in found and shop.source in found
    assert "A3: signed by the publisher" in details and "will be trusted with the first installation" in details
    assert "signed, with the key" in done and "Activate Plugin" in done
    assert ">Installed</button>" in installed
    assert shop.source in keys and re.search(r"<code>([0-9a-f]{4} ?){16}</code>", keys)
    assert "There is a new version of Harbour Light available" in plugins
    assert "Harbour Light" in updates and "Update to 1.1.0" in updates
    assert "Update Now" in updatable
    assert "Install Now" in details and "Install Update Now" in details_then
    assert updated["success"] and updated["data"]["newVersion"] == "Version 1.1.0", updated
    assert site.version_of(PLUGIN) == "1.1.0"


async def test_a_dead_publisher_and_a_dead_node_are_stood_in_for(mesh: LocalMesh, site: Site, tmp_path: Path) -> None:
    shop = await open_shop(mesh, tmp_path)
    await shop.publisher.kill()
    await connect(site, f"http://127.0.0.1:{free_port()}", mesh.nodes[0].url)

    (card,) = await site.php(SEARCH, words="")
    installed = await install(site, card["slug"])
    missing = await install(site, f"pfn-{shop.source.encode().hex()}-nothing")

    assert installed["done"], installed
    assert site.version_of(PLUGIN) == "1.0.0"
    assert not missing["done"] and "No such plugin is known here" in missing["error"]


async def test_what_comes_from_a_publisher_is_updated_from_nowhere_else(
    mesh: LocalMesh, site: Site, tmp_path: Path
) -> None:
    shop = await open_shop(mesh, tmp_path)
    await connect(site, mesh.nodes[0].url)
    assert (await install(site, shop.slug))["done"]
    await site.php(
        """
        $item = array( 'id' => 'w.org/plugins/harbour-light', 'slug' => 'harbour-light', 'plugin' => $given['file'],
            'new_version' => '9.9.9', 'url' => '', 'package' => $given['package'] );
        $offer = array( $given['file'] => $item );
        $answer = array( 'plugins' => $offer, 'translations' => array(), 'no_update' => array() );
        update_option( 'wordpress_org_answers', array( '/plugins/update-check/1.1/' => wp_json_encode( $answer ) ) );
        """,
        file=FILE,
        package=f"{shop.publisher.url}/anything.zip",
    )

    offered = await site.php(CHECK)
    forced = await site.php(
        "$list = get_site_transient( 'update_plugins' );"
        "$list->response[ $given['file'] ] = (object) array( 'package' => $given['package'] );"
        "add_filter( 'site_transient_update_plugins', function () use ( $list ) { return $list; } );" + UPDATE,
        file=FILE,
        package=f"{shop.publisher.url}/anything.zip",
    )

    assert offered["response"] == {} and offered["no_update"][FILE]["new_version"] == "1.0.0"
    assert not forced["done"] and "updated from there only" in str(forced["error"])
    assert site.version_of(PLUGIN) == "1.0.0"


async def test_another_plugin_of_the_same_folder_is_never_replaced(mesh: LocalMesh, site: Site, tmp_path: Path) -> None:
    shop = await open_shop(mesh, tmp_path)
    await connect(site, mesh.nodes[0].url)
    mine = site.content / "plugins" / PLUGIN / f"{PLUGIN}.php"
    mine.parent.mkdir()
    mine.write_text("<?php\n/*\nPlugin Name: Mine\nVersion: 0.1\n*/\n")

    async with site.browser() as browser:
        page = await page_of(browser, TAB)
    refused = await install(site, shop.slug)
    offered = await site.php(CHECK)

    assert "Another plugin has its folder" in page and "action=install-plugin" not in page
    assert not refused["done"] and "already exists" in str(refused["error"])
    assert "Plugin Name: Mine" in mine.read_text() and FILE not in {**offered["response"], **offered["no_update"]}


async def test_an_uploaded_plugin_is_updated_from_the_publisher_that_its_update_uri_names_if_its_key_is_trusted(
    mesh: LocalMesh, site: Site, tmp_path: Path
) -> None:
    shop = await open_shop(mesh, tmp_path)
    await connect(site, mesh.nodes[0].url)
    uploaded = site.content / "plugins" / PLUGIN / f"{PLUGIN}.php"

    def upload(uri: str) -> None:
        uploaded.parent.mkdir(exist_ok=True)
        uploaded.write_text(f"<?php\n/*\nPlugin Name: Mine\nVersion: 0.9\nUpdate URI: {uri}\n*/\n")

    upload(f"{shop.publisher.url}/{PLUGIN}")
    strange = await site.php(CHECK)
    await site.php("delete_plugins( array( $given['file'] ) );", file=FILE)
    assert (await install(site, shop.slug))["done"]
    await site.php("delete_plugins( array( $given['file'] ) );", file=FILE)
    forgotten = await site.php("return get_site_option( 'pfn_connector_installed' );")
    upload("https://elsewhere.example/harbour-light")
    elsewhere = await site.php(CHECK)
    upload(f"{shop.publisher.url}/{PLUGIN}")
    offered = await site.php(CHECK)
    updated = await site.php(UPDATE, file=FILE)

    assert forgotten == []
    assert (strange["response"], elsewhere["response"]) == ({}, {})
    assert offered["response"][FILE]["new_version"] == "1.0.0"
    assert updated["done"], updated
    assert site.version_of(PLUGIN) == "1.0.0"
