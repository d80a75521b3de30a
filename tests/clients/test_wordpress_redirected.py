"""A real WordPress that asks a node in the place of api.wordpress.org, as sites with AspireUpdate do."""

import base64
import json
from pathlib import Path

from pfn_node.cli.local_mesh import LocalMesh
from pfn_protocol.identity import parse_public_key
from tests.clients.wordpress_shop import CHECK, FILE, PLUGIN, UPDATE, install, open_shop
from tests.clients.wordpress_site import Site

SEARCH = "/wp-admin/plugin-install.php?tab=search&type=term&s="
DETAILS = "/wp-admin/plugin-install.php?tab=plugin-information&plugin="
REST = """
$request = new WP_REST_Request( $given['method'], '/wp/v2/plugins' );
$request->set_body_params( array( 'slug' => $given['slug'] ) );
$answer = rest_do_request( $request );
return array( $answer->get_status(), $answer->get_data() );
"""


async def test_a_redirected_site_searches_installs_and_updates(mesh: LocalMesh, site: Site, tmp_path: Path) -> None:
    shop = await open_shop(mesh, tmp_path)
    site.redirect(mesh.nodes[0].url)

    async with site.browser() as browser:
        found = (await browser.get(f"{SEARCH}harbour")).text
        nothing = (await browser.get(f"{SEARCH}lighthouse")).text
        details = (await browser.get(f"{DETAILS}{PLUGIN}")).text
        installed = await install(site, PLUGIN)
        there = (await browser.get(f"{SEARCH}harbour")).text
        await shop.release("1.1.0")
        whose = await site.php(CHECK)
        await shop.client.post("slugs", {"slug": PLUGIN, "sourceId": shop.source})
        offered = await site.php(CHECK)
        updated = await site.php(UPDATE, file=FILE)
        newest = await site.php(CHECK)

    assert "Harbour Light" in found and f'data-slug="{PLUGIN}"' in found
    assert "No plugins found" in nothing
    assert "Harbour Light" in details and "SHA-256" in details and "Install Now" in details
    assert installed["done"], installed
    assert "activate-now" in there
    # Nobody said yet that this folder is that publisher's: what is installed may be another plugin of the same name.
    assert (whose["response"], whose["no_update"]) == ({}, {})
    assert offered["response"][FILE]["new_version"] == "1.1.0"
    assert updated["done"] and site.version_of(PLUGIN) == "1.1.0"
    assert newest["response"] == {} and newest["no_update"][FILE]["new_version"] == "1.1.0"


async def test_the_block_editor_installs_by_slug_and_is_told_what_is_not_there(
    mesh: LocalMesh, site: Site, tmp_path: Path
) -> None:
    shop = await open_shop(mesh, tmp_path)
    await shop.publisher.kill()
    site.redirect(mesh.nodes[0].url)

    made = await site.php(REST, method="POST", slug=PLUGIN)
    missing = await site.php(REST, method="POST", slug="no-such-plugin")

    assert (made[0], made[1]["plugin"], made[1]["version"]) == (201, FILE.removesuffix(".php"), "1.0.0")
    assert (missing[0], missing[1]["message"]) == (404, "Plugin not found.")


async def test_a_redirected_site_can_be_told_to_check_the_publishers_signature(
    mesh: LocalMesh, site: Site, tmp_path: Path
) -> None:
    shop = await open_shop(mesh, tmp_path)
    site.redirect(mesh.nodes[0].url)
    info = await shop.client.outbound.fetch(
        "GET", f"{shop.publisher.url}/federation-info", bytes_max=2**20, seconds_max=10
    )
    key = base64.b64encode(parse_public_key(json.loads(info.body)["publicKey"])).decode()

    def trust(key: str) -> None:
        (site.content / "mu-plugins" / "signatures.php").write_text(
            "<?php\nadd_filter( 'wp_signature_hosts', function () { return array( '127.0.0.1' ); } );\n"
            f"add_filter( 'wp_trusted_keys', function () {{ return array( '{key}' ); }} );\n"
            "add_filter( 'wp_signature_softfail', '__return_false' );\n"
        )

    trust(base64.b64encode(bytes([9]) * 32).decode())
    refused = await install(site, PLUGIN)
    trust(key)
    installed = await install(site, PLUGIN)

    assert not refused["done"] and "could not be verified" in str(refused["error"])
    assert installed["done"], installed


async def test_a_redirected_site_hears_nothing_of_updates_of_wordpress_itself(
    mesh: LocalMesh, site: Site, tmp_path: Path
) -> None:
    offer = '{"offers":[{"response":"upgrade","current":"99.0","version":"99.0","locale":"en_US"}],"translations":[]}'
    check = (
        "update_option( 'wordpress_org_answers', array( '/core/version-check/1.7/' => $given['offer'] ) );"
        "wp_version_check( array(), true ); return get_site_transient( 'update_core' );"
    )
    before = await site.php(check, offer=offer)
    await mesh.start_node()
    site.redirect(mesh.nodes[0].url)

    after = await site.php("delete_site_transient( 'update_core' );" + check, offer=offer)

    assert before["updates"][0]["version"] == "99.0"
    assert after["updates"] == []
