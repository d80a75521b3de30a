"""Where this node is, as whoever asks it would say."""

from urllib.parse import quote

from quart import request

from pfn_node.web.services import Services


def own_url(services: Services) -> str:
    """The node's URL: its own, or the one that it was asked by."""
    return services.url or request.host_url.rstrip("/")


def plugin_page(base: str, source_id: str, plugin_id: str) -> str:
    """The page of a plugin; `base` is the node's URL."""
    return f"{base}/plugins/{quote(source_id, safe='@')}/{quote(plugin_id)}"
