"""The connector plugin in a real WordPress, before real nodes and a real publisher."""

from dataclasses import dataclass
from pathlib import Path

from pfn_node.cli.client import NodeClient
from pfn_node.cli.local_mesh import LocalMesh, LocalProcess
from pfn_node.web.consumers.wordpress_connector import connector
from tests.clients.wordpress_site import Site
from tests.end_to_end.conftest import eventually, follow, offers, row_of
from tests.end_to_end.plugins import write_plugin

PLUGIN = "harbour-light"
FILE = f"{PLUGIN}/{PLUGIN}.php"

INSTALL_CONNECTOR = """
$upgrader = new Plugin_Upgrader( new Automatic_Upgrader_Skin() );
$upgrader->install( $given['zip'] );
activate_plugin( 'pfn-connector/pfn-connector.php' );
update_site_option( 'pfn_connector', $given['settings'] );
return $upgrader->plugin_info();
"""
SEARCH = """
$found = plugins_api( 'query_plugins', array(
    'pfn_connector' => true, 'page' => 1, 'per_page' => 36, 'search' => $given['words'] ) );
return is_wp_error( $found ) ? $found->get_error_message() : $found->plugins;
"""
INSTALL = """
$api = plugins_api( 'plugin_information', array( 'slug' => $given['slug'], 'fields' => array( 'sections' => false ) ) );
if ( is_wp_error( $api ) ) { return $api->get_error_message(); }
$skin     = new WP_Ajax_Upgrader_Skin();
$upgrader = new Plugin_Upgrader( $skin );
$done     = $upgrader->install( $api->download_link );
return array( 'done' => true === $done, 'says' => $skin->get_upgrade_messages(),
    'error' => is_wp_error( $done ) ? $done->get_error_message() : $skin->get_error_messages() );
"""
CHECK = """
delete_site_transient( 'update_plugins' );
wp_update_plugins();
$list = get_site_transient( 'update_plugins' );
return array( 'response' => (object) $list->response, 'no_update' => (object) $list->no_update );
"""
UPDATE = """
$skin     = new WP_Ajax_Upgrader_Skin();
$upgrader = new Plugin_Upgrader( $skin );
$done     = $upgrader->upgrade( $given['file'] );
return array( 'done' => true === $done, 'says' => $skin->get_upgrade_messages(),
    'error' => is_wp_error( $done ) ? $done->get_error_message() : $skin->get_error_messages() );
"""


@dataclass
class Shop:
    """A node that mirrors a plugin of a publisher, which can release another version."""

    mesh: LocalMesh
    client: NodeClient
    publisher: LocalProcess
    source: str
    plugins: Path

    @property
    def slug(self) -> str:
        return f"pfn-{self.source.encode().hex()}-{PLUGIN}"

    async def release(self, version: str) -> None:
        """Publish a version, and mirror it."""
        write_plugin(self.plugins, PLUGIN, version)
        await eventually(lambda: offers(self.publisher, self.client, "dan", {PLUGIN: version}))
        answer = await self.client.post("subscribe", {"sourceId": self.source})
        assert answer["success"], answer
        row = await row_of(self.client, self.source, PLUGIN)
        assert row is not None and row["version"] == version


async def open_shop(mesh: LocalMesh, folder: Path, profile: str = "v2") -> Shop:
    plugins = folder / "plugins"
    write_plugin(plugins, PLUGIN, "1.0.0")
    publisher = await mesh.start_publisher(plugins, "dan", profile)
    client = await mesh.start_node()
    shop = Shop(mesh, client, publisher, await follow(client, publisher, "dan"), plugins)
    await shop.release("1.0.0")
    return shop


async def connect(site: Site, *nodes: str, allow_unsigned: bool = False) -> None:
    """Install the connector as a site does, from its zip, and name these nodes."""
    zip_file = site.content / "pfn-connector.zip"
    settings = {"nodes": nodes, "allow_unsigned": allow_unsigned}
    zip_file.write_bytes(connector().zip)
    found = await site.php(INSTALL_CONNECTOR, zip=str(zip_file), settings=settings)
    assert found == "pfn-connector/pfn-connector.php"


async def test_a_site_finds_installs_and_updates_plugins_of_the_federation(
    mesh: LocalMesh, site: Site, tmp_path: Path
) -> None:
    shop = await open_shop(mesh, tmp_path)
    await connect(site, mesh.nodes[0].url)

    (card,) = await site.php(SEARCH, words="harbour")
    installed = await site.php(INSTALL, slug=card["slug"])
    none_yet = await site.php(CHECK)
    await shop.release("1.1.0")
    offered = await site.php(CHECK)
    updated = await site.php(UPDATE, file=FILE)

    assert (card["slug"], card["version"]) == (shop.slug, "1.0.0")
    assert shop.source in card["author"] and "A3: signed by the publisher" in card["author"]
    assert installed["done"], installed
    assert any("signed, with the key" in text for text in installed["says"])
    assert list(none_yet["no_update"]) == [FILE] and none_yet["response"] == {}
    assert offered["response"][FILE]["new_version"] == "1.1.0"
    assert updated["done"], updated
    assert site.version_of(PLUGIN) == "1.1.0"
