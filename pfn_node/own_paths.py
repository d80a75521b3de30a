"""Where on a node the page and the zip of a plugin are; paths begin with a slash, and stand behind the node's URL."""

from urllib.parse import quote, urlencode

from pfn_node.store.rows import Release


def plugin_path(source_id: str, plugin_id: str) -> str:
    """The page of a plugin."""
    return f"/plugins/{quote(source_id, safe='@')}/{quote(plugin_id)}"


def download_path(release: Release) -> str:
    """The zip of a release."""
    asked = {"sourceId": release.source_id, "plugin": release.plugin_id, "version": release.version}
    return f"/federation/download?{urlencode(asked)}"
