"""Which URLs and which IP addresses this node may dial. Pure: no name is resolved here.

A node fetches URLs that strangers give it, from a machine that often sits inside somebody's private network. So what
it dials is decided by explicit lists, in two places:

1. `check_url` judges the text: before a URL is stored, before it is dialled, and again for every redirect. The text is
   taken apart by one strict grammar and put together again from its parts, so that no second parser down the line can
   read another host in it.
2. `may_dial` judges the address that a name led to, at the moment of dialling (see `outbound.py`). Only this one is
   the defence; the text can never tell ("2130706433", "0x7f.1" and any name at all can lead to 127.0.0.1).

The standard library's `is_global` and `is_private` are not used: in Python 3.11 they call 6to4 and NAT64 forms of
127.0.0.1, old site-local and multicast addresses global. IPv4 is allowed except for a list. IPv6 is allowed only in
2000::/3, the one block that is handed out, except for a list. Forms that carry an IPv4 address inside are refused;
NAT64's well-known prefix alone is looked into, because in IPv6-only networks every IPv4 host appears under it.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from pfn_node.outbound_errors import AddressRefused

URL_CHARACTERS_MAX: Final = 2048  # what browsers and proxies agree to carry
HOST_CHARACTERS_MAX: Final = 253  # RFC 1035
HTTPS_PORT: Final = 443
HTTP_PORT: Final = 80
PORT_MAX: Final = 65535

# IANA's special-purpose registry, and what clouds use for their metadata services.
_REFUSED_IPV4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # "this" network; Linux connects 0.0.0.0 to itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; also a metadata service (100.100.100.200)
        "127.0.0.0/8",
        "168.63.129.16/32",  # a metadata service on a public address
        "169.254.0.0/16",  # link-local; the usual metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; a metadata service (192.0.0.192)
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT relays
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_ALLOWED_IPV6: Final = IPv6Network("2000::/3")
_REFUSED_IPV6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # the old 6bone
        "3fff::/20",  # documentation
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")
# The lower half of an ISATAP address is one of these followed by an IPv4 address.
_ISATAP_MARKS: Final = (0x0000_5EFE, 0x0200_5EFE)
# Never a machine to talk to, not even when private networks are allowed.
_NEVER_IPV4: Final = (IPv4Network("0.0.0.0/32"), IPv4Network("224.0.0.0/4"), IPv4Network("240.0.0.0/4"))
_NEVER_IPV6: Final = (IPv6Network("::/128"), IPv6Network("ff00::/8"))

_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z]+)://(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,254})(?::(?P<port>[0-9]{0,5}))?"
    r"(?P<rest>[/?].*)?"
)
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_REFUSED_CHARACTER: Final = re.compile(r'[^\x21-\x7e]|[\\<>"{}|^`]')
# A last label that is a number makes the C library read the whole name as an IPv4 address ("127.1", "0x7f.1").
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Names that are by definition not of the public internet (RFC 6761, 6762, 7686, 8375, and ICANN's .internal).
_PRIVATE_SUFFIXES: Final = (".localhost", ".local", ".internal", ".home.arpa", ".onion")


def may_dial(address: str, *, allow_private_networks: bool = False) -> bool:
    """Whether a connection to this IP address, as a resolver gave it, is allowed.

    `allow_private_networks` lifts everything but multicast, reserved and unspecified addresses. What is not an IP
    address at all may not be dialled.
    """
    try:
        return _may_dial_ipv4(IPv4Address(address), allow_private_networks)
    except AddressValueError:
        pass  # then it is IPv6 or nothing
    try:
        return _may_dial_ipv6(IPv6Address(address), allow_private_networks)
    except AddressValueError:
        return False


def _may_dial_ipv4(address: IPv4Address, allow_private_networks: bool) -> bool:
    refused = _NEVER_IPV4 if allow_private_networks else _REFUSED_IPV4
    return not any(address in network for network in refused)


def _may_dial_ipv6(address: IPv6Address, allow_private_networks: bool) -> bool:
    number = int(address)
    if address.ipv4_mapped is not None:
        # No honest resolver answers so; with private networks allowed, what is inside counts.
        return allow_private_networks and _may_dial_ipv4(address.ipv4_mapped, True)
    if address in _NAT64:
        return _may_dial_ipv4(IPv4Address(number & 0xFFFF_FFFF), allow_private_networks)
    if allow_private_networks:
        return not any(address in network for network in _NEVER_IPV6)
    if address.scope_id is not None or (number >> 32) & 0xFFFF_FFFF in _ISATAP_MARKS:
        return False
    return address in _ALLOWED_IPV6 and not any(address in network for network in _REFUSED_IPV6)


def some_of_each_family(addresses: list[str]) -> list[str]:
    """The same addresses, the first of the other family moved to the second place: one family is often broken."""
    first_is_ipv6 = ":" in addresses[0]
    other = next((address for address in addresses if (":" in address) != first_is_ipv6), None)
    if other is None:
        return addresses
    return [addresses[0], other, *(address for address in addresses[1:] if address != other)]


def check_url(text: str, *, allow_private_networks: bool = False) -> str:
    """The URL, put together again from its parts: scheme and host in lower case, a default port left out.

    Without `allow_private_networks` only https on port 443 to a host name is allowed; with it also http, any port, IP
    addresses and local names. Raises AddressRefused with a sentence. No name is resolved: what passes here can still be
    refused when it is dialled.
    """
    if len(text) > URL_CHARACTERS_MAX:
        raise AddressRefused(f"The URL has {len(text)} characters; at most {URL_CHARACTERS_MAX} are allowed.")
    if _REFUSED_CHARACTER.search(text):
        raise AddressRefused(
            "The URL contains a space, a control character, a backslash or another character that does not belong in "
            "a URL; percent-encode it, and write international host names in their xn-- form."
        )
    if "#" in text:
        raise AddressRefused("The URL contains a '#'; leave out the part that it starts.")
    match = _URL.fullmatch(text)
    if match is None:
        raise AddressRefused(_why_no_match(text))
    scheme = match["scheme"].lower()
    if scheme != "https" and not (scheme == "http" and allow_private_networks):
        raise AddressRefused(f"The URL starts with {scheme}://; this node dials https:// only.")
    host = _check_host(match["host"].lower(), allow_private_networks)
    port = _check_port(match["port"], scheme, allow_private_networks)
    rest = match["rest"] or "/"
    return f"{scheme}://{host}{port}{rest if rest.startswith('/') else '/' + rest}"


def _why_no_match(text: str) -> str:
    authority = re.split(r"[/?]", text.partition("://")[2], maxsplit=1)[0]
    if "@" in authority:
        return "The URL contains a user name or password; leave out everything before the '@'."
    return "This is not a URL that this node can dial; write it like https://plugins.example/path."


def _check_port(text: str | None, scheme: str, allow_private_networks: bool) -> str:
    default = HTTPS_PORT if scheme == "https" else HTTP_PORT
    port = int(text) if text else default
    if port == default:
        return ""
    if not 1 <= port <= PORT_MAX:
        raise AddressRefused(f"The URL names the port {port}; ports are numbers from 1 to {PORT_MAX}.")
    if not allow_private_networks:
        raise AddressRefused(f"The URL names the port {port}; this node dials port {HTTPS_PORT} only.")
    return f":{port}"


def _check_host(host: str, allow_private_networks: bool) -> str:
    if host.startswith("["):
        return _check_ipv6_literal(host, allow_private_networks)
    labels = host.split(".")
    if len(host) > HOST_CHARACTERS_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressRefused("The host of the URL is not a valid name; write it like plugins.example.")
    if _NUMBER.fullmatch(labels[-1]):
        return _check_ipv4_literal(host, allow_private_networks)
    if not allow_private_networks and (len(labels) == 1 or host.endswith(_PRIVATE_SUFFIXES)):
        raise AddressRefused("The host of the URL is a local name; this node dials public names only.")
    return host


def _check_ipv4_literal(host: str, allow_private_networks: bool) -> str:
    try:
        address = IPv4Address(host)
    except AddressValueError:
        raise AddressRefused(
            "The host of the URL is an IP address in an unusual form; write it like 192.168.0.1."
        ) from None
    return _check_literal(str(address), str(address), allow_private_networks)


def _check_ipv6_literal(host: str, allow_private_networks: bool) -> str:
    try:
        address = IPv6Address(host[1:-1])
    except AddressValueError:
        raise AddressRefused("The host of the URL is not a valid IPv6 address; write it like [fd00::1].") from None
    return _check_literal(str(address), f"[{address}]", allow_private_networks)


def _check_literal(address: str, host: str, allow_private_networks: bool) -> str:
    if not allow_private_networks:
        raise AddressRefused("The host of the URL is an IP address; this node dials public names only.")
    if not may_dial(address, allow_private_networks=True):
        raise AddressRefused("The host of the URL is an IP address that is not that of one machine.")
    return host
