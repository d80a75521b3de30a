"""Where publishers serve their zips."""

from urllib.parse import quote

from pfn_node.store.rows import Source
from pfn_protocol.errors import Refusal
from pfn_protocol.names import parse_asset_url


def zip_addresses(source: Source, slug: str, version: str) -> list[str]:
    """Where a release's zip may be had, the best address first."""
    addresses = []
    if source.asset_domain and source.asset_naming_scheme:
        try:
            addresses.append(
                parse_asset_url(source.asset_domain, source.asset_naming_scheme, source.username, slug, version)
            )
        except Refusal:
            pass  # Heard from a peer, or kept from before the publisher changed: the instance itself still serves.
    asked = "&".join(
        f"{name}={quote(value, safe='')}"
        for name, value in (("author", source.username), ("slug", slug), ("version", version))
    )
    return [*addresses, f"{source.instance_url}/federated/download?{asked}"]
