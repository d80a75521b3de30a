"""What things are called: instances, sources, plugins, versions, and the addresses of their files.

Two spellings of one name would be two sources, two slots, two rows. So each name has one spelling, made here: a URL
is parsed once and built again from its parts, and whatever could be read in two ways is refused with a sentence that
says so.
"""

import ipaddress
import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote

import idna

from pfn_protocol.errors import Refusal
from pfn_protocol.limits import (
    host_chars_max,
    naming_scheme_chars_max,
    slug_chars_max,
    source_id_chars_max,
    url_chars_max,
    username_chars_max,
    version_chars_max,
)

_SLUG: Final = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{slug_chars_max - 1}}}")
# White space as `str.isspace` knows it, control characters, halves of surrogate pairs.
_NOT_IN_USERNAME: Final = re.compile(r"[/@\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_VERSION: Final = re.compile(rf"[0-9A-Za-z][0-9A-Za-z.+_-]{{0,{version_chars_max - 1}}}")
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
_AUTHORITY: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
# Underscores are no letters of DNS, but container networks name hosts with them.
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
# RFC 3986 pchar and the slash; everything else is percent-encoded when the path is rebuilt.
_PATH_SAFE: Final = "/:@!$&'()*+,;=~%"
_SCHEME_TEXT: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=@/-]+")
# A word is whole if no letter, digit or underscore touches it.
_SCHEME_WORD: Final = re.compile(r"(?<![A-Za-z0-9_])(?:author|slug|version)(?![A-Za-z0-9_])")
# Ids that were found sound; each is announced again with every release of its source.
_SOURCE_IDS_MAX: Final = 4_096
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PORT_MAX: Final = 65_535


def check_username(text: str) -> None:
    """Raise `Refusal` (R59) unless this can be a publisher's user name."""
    if not 1 <= len(text) <= username_chars_max:
        raise Refusal("R59", f"a username has 1 to {username_chars_max} characters")
    if _NOT_IN_USERNAME.search(text) is not None:
        raise Refusal("R59", "a username has no white space, control character, '/' or '@'")


def check_slug(text: str) -> None:
    """Raise `Refusal` (R60) unless this can be a plugin id."""
    if _SLUG.fullmatch(text) is None:
        raise Refusal(
            "R60",
            f"a slug is 1-{slug_chars_max} characters out of a-z, 0-9, '_' and '-', beginning with a letter or digit",
        )


def check_version(text: str) -> None:
    """Raise `Refusal` (R61) unless this can be a version."""
    if _VERSION.fullmatch(text) is None:
        raise Refusal(
            "R61",
            f"a version is 1-{version_chars_max} letters, digits, '.', '+', '_', '-', beginning with a letter or digit",
        )


def parse_instance_url(text: str, *, allow_http: bool) -> str:
    """Return the one spelling of an instance's or node's URL, without a trailing slash; raise `Refusal` (R58).

    Lower-case scheme and host, A-labels, no default port, the path kept. User info, query and fragment are refused.
    """
    if len(text) > url_chars_max:
        raise Refusal("R58", f"a URL has at most {url_chars_max} characters")
    match = _URL.fullmatch(text)
    if match is None or match.group(1).lower() not in _DEFAULT_PORTS:
        raise Refusal("R58", "expected a whole URL that begins with https:// (or http://)")
    scheme, authority, path = match.group(1).lower(), match.group(2), match.group(3)
    if scheme == "http" and not allow_http:
        raise Refusal("R58", "this URL begins with http://, and only https:// is accepted here")
    if match.group(4) is not None or match.group(5) is not None:
        raise Refusal("R58", "a URL of an instance has no query ('?') and no fragment ('#')")
    url = f"{scheme}://{_parse_authority(scheme, authority)}{_parse_path(path)}"
    if len(url) > url_chars_max:
        raise Refusal("R58", f"a URL has at most {url_chars_max} characters, counted with its percent-encoding")
    return url


def host_of(instance_url: str) -> str:
    """Return host, with the port where it is not the scheme's own, of a URL made by `parse_instance_url`."""
    return instance_url.split("/", 3)[2]


def source_id_of(instance_url: str, username: str) -> str:
    """Return `username@host[:port]`; raise `Refusal` (R58, R59) if either part is not well-formed."""
    check_username(username)
    return f"{username}@{host_of(parse_instance_url(instance_url, allow_http=True))}"


@lru_cache(maxsize=_SOURCE_IDS_MAX)
def check_source_id(text: str) -> None:
    """Raise `Refusal` (R57) unless this is a source id in its one spelling.

    Whether a port is a default one depends on the scheme, which an id does not say; so `:443` is only refused where the
    id is made.
    """
    username, at, host = text.partition("@")
    if not at or len(text) > source_id_chars_max:
        raise Refusal("R57", "a source id looks like username@host or username@host:port")
    check_username(username)
    # Under one of the two schemes the port is not the default, so it survives there.
    if host not in (_parse_authority("http", host), _parse_authority("https", host)):
        raise Refusal(
            "R57", "the host in a source id is written in lower case, as A-labels, an IPv6 address in its short form"
        )


def parse_asset_url(domain: str, scheme: str, author: str, slug: str, version: str) -> str:
    """Return the URL of a release's zip from the publisher's asset domain and naming scheme; raise `Refusal` (R62).

    The whole words author, slug and version in the scheme are filled in, once; what is filled in is percent-encoded.
    """
    check_username(author)
    check_slug(slug)
    check_version(version)
    base = parse_instance_url(domain if "://" in domain else f"https://{domain}", allow_http=True)
    check_naming_scheme(scheme)
    values = {"author": author, "slug": slug, "version": version}
    filled = _SCHEME_WORD.sub(lambda word: quote(values[word.group()], safe=""), scheme.removeprefix("/"))
    if any(segment in (".", "..") for segment in filled.split("/")):
        raise Refusal("R62", "the naming scheme climbs out of the asset domain")
    url = f"{base}/{filled}"
    if len(url) > 2 * url_chars_max:
        raise Refusal("R62", f"the address of the file has more than {2 * url_chars_max} characters")
    return url


def check_naming_scheme(scheme: str) -> None:
    """Raise `Refusal` (R62) unless the scheme stays below its asset domain whatever is filled in."""
    if len(scheme) > naming_scheme_chars_max or _SCHEME_TEXT.fullmatch(scheme) is None:
        raise Refusal("R62", "a naming scheme is a relative path such as plugins/author/slug/slug.zip")
    segments = scheme.removeprefix("/").split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        raise Refusal("R62", "a naming scheme has no empty, '.' or '..' segment")


def _parse_authority(scheme: str, authority: str) -> str:
    if "@" in authority:
        raise Refusal("R58", "a URL here has no user name or password before its host")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise Refusal("R58", "the host of the URL is missing or not well-formed")
    host, port = _parse_host(match.group(1)), match.group(2)
    if port is None or int(port) == _DEFAULT_PORTS[scheme]:
        return host
    if not 1 <= int(port) <= _PORT_MAX:
        raise Refusal("R58", f"a port lies between 1 and {_PORT_MAX}")
    return f"{host}:{int(port)}"


def _parse_host(text: str) -> str:
    if text.startswith("["):
        return _parse_ipv6(text[1:-1])
    host = _to_ascii(text).removesuffix(".")
    labels = host.split(".")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        return _parse_ipv4(host)
    if len(host) > host_chars_max or not all(_LABEL.fullmatch(label) for label in labels):
        raise Refusal("R58", "the host name in the URL is not well-formed")
    return host


def _to_ascii(host: str) -> str:
    if host.isascii():
        return host.lower()
    try:
        return idna.encode(host, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise Refusal("R58", "the host name in the URL is not a valid international name") from error


def _parse_ipv6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError as error:
        raise Refusal("R58", "the IPv6 address in the URL is not well-formed") from error
    if address.scope_id is not None:
        raise Refusal("R58", "an IPv6 address with a zone (%eth0) means something on one machine only")
    return f"[{address.compressed}]"


def _parse_ipv4(host: str) -> str:
    # 2130706433, 0x7f.1 and 127.1 are read as 127.0.0.1 by some and as names by others.
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError as error:
        raise Refusal("R58", "an IPv4 address is written as four decimal numbers") from error


def _parse_path(path: str) -> str:
    if "\\" in path or any(character.isspace() or not _is_visible(character) for character in path):
        raise Refusal("R58", "the path of the URL has white space, a control character or a backslash")
    if re.search(r"%(?![0-9A-Fa-f]{2})", path):
        raise Refusal("R58", "the path of the URL has a '%' that is not followed by two hex digits")
    trimmed = path.rstrip("/")
    for segment in trimmed.split("/")[1:]:
        if segment == "" or segment.lower().replace("%2e", ".") in (".", ".."):
            raise Refusal("R58", "the path of the URL has an empty, '.' or '..' segment")
    return quote(trimmed, safe=_PATH_SAFE, errors="replace")


def _is_visible(character: str) -> bool:
    """Neither a control character nor half of a surrogate pair."""
    code = ord(character)
    return not (code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000)
