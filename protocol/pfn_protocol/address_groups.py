"""Which addresses are probably one operator's: those count against each other where diversity matters.

An attacker has many keys for nothing, many ports and names for little, and many networks only for money. So what is
counted is the network: the /16 of an IPv4 address, the /32 of an IPv6 address, or the domain that a host name belongs
to. Which address a name leads to is not known here.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

# A second label as short as this is a registry's own (co.uk), not somebody's domain.
_registry_label_chars_max = 3


def address_group(url: str, *, allow_private: bool) -> str | None:
    """The group of a URL; None: it is not counted, because private networks are allowed and it lies in one."""
    host = urlsplit(url).hostname or ""
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return _group_of_name(host, allow_private)
    if allow_private and (address.is_private or address.is_loopback):
        return None
    return str(ip_network((address, 16 if address.version == 4 else 32), strict=False))


def _group_of_name(host: str, allow_private: bool) -> str | None:
    labels = host.split(".")
    if allow_private and (len(labels) == 1 or labels[-1] in ("localhost", "local", "internal")):
        return None
    has_registry_label = len(labels) > 2 and len(labels[-2]) <= _registry_label_chars_max and len(labels[-1]) == 2
    return ".".join(labels[-3 if has_registry_label else -2 :])
