"""A publisher and a node that mirrors its plugin, and what a WordPress site does with them by the connector."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    async def release(self, version: str, header: str = "") -> None:
        """Publish a version, perhaps with one more line in the plugin's header, and mirror it."""
        if header:
            file = self.plugins / PLUGIN / f"{PLUGIN}.php"
            text = re.sub(r"Version: .*\n", f"Version: {version}\n * {header}\n", file.read_text())
            file.write_text(text)
        else:
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


async def install(site: Site, slug: str) -> dict[str, Any]:
    """Install a plugin: whether that went well, what the upgrader said, and what went wrong."""
    found = await site.php(INSTALL, slug=slug)
    return found if isinstance(found, dict) else {"done": False, "says": [], "error": found}


async def connect(site: Site, *nodes: str, allow_unsigned: bool = False) -> None:
    """Install the connector as a site does, from its zip, and name these nodes."""
    zip_file = site.content / "pfn-connector.zip"
    zip_file.write_bytes(connector().zip)
    assert await site.php(INSTALL_CONNECTOR, zip=str(zip_file)) == "pfn-connector/pfn-connector.php"
    await set_nodes(site, *nodes, allow_unsigned=allow_unsigned)


async def set_nodes(site: Site, *nodes: str, allow_unsigned: bool = False) -> None:
    """Have the connector ask these nodes, and none else."""
    settings = {"nodes": nodes, "allow_unsigned": allow_unsigned}
    await site.php("update_site_option( 'pfn_connector', $given['settings'] );", settings=settings)
