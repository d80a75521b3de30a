"""Which addresses are probably one operator's: those count against each other where diversity matters.

An attacker has many keys for nothing, many ports and names for little, and many networks only for money. So what is
counted is the network: the /16 of an IPv4 address, the /32 of an IPv6 address, or the domain that a host name belongs
to. Which address a name leads to is not known here.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from pfn_protocol.limits import admitted_authors_max

# A second label as short as this is a registry's own (co.uk), not somebody's domain.
_registry_label_chars_max = 3
_private_domains = ("localhost", "local", "internal")


@lru_cache(maxsize=admitted_authors_max)
def address_group(url: str, *, hosts_shared: bool) -> str:
    """The group of a URL. `hosts_shared`: private addresses and names are no network, and each URL is its own group."""
    host = urlsplit(url).hostname or ""
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return _group_of_name(url, host, hosts_shared)
    if hosts_shared and (address.is_private or address.is_loopback):
        return url
    return str(ip_network((address, 16 if address.version == 4 else 32), strict=False))


def _group_of_name(url: str, host: str, hosts_shared: bool) -> str:
    labels = host.split(".")
    if hosts_shared and (len(labels) == 1 or labels[-1] in _private_domains):
        return url
    has_registry_label = len(labels) > 2 and len(labels[-2]) <= _registry_label_chars_max and len(labels[-1]) == 2
    return ".".join(labels[-3 if has_registry_label else -2 :])
