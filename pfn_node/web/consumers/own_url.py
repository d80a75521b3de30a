"""Where this node is, as whoever asks it would say."""

from quart import request

from pfn_node.web.services import Services


def own_url(services: Services) -> str:
    """The node's URL: its own, or the one that it was asked by."""
    return services.url or request.host_url.rstrip("/")
