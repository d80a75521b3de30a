"""What a site says is installed there, as WordPress' update-check tells it; and whose each plugin says it is.

Answers for a file replace its plugin on the site. So a file is only answered for where it names a publisher known here
itself, in its header Update URI or Plugin ID, or where it names nobody and an admin of this node said whose its slug
is. A file that names anybody else is never answered for, whatever its folder is called: its source would change.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from pfn_protocol.errors import Refusal
from pfn_protocol.identity import parse_did_key
from pfn_protocol.limits import slug_chars_max, source_id_chars_max, url_chars_max
from pfn_protocol.names import parse_instance_url

# A site has a few dozen; a network of sites some hundreds.
INSTALLED_MAX: Final = 1_000
FILE_CHARACTERS_MAX: Final = 300
VERSION_CHARACTERS_MAX: Final = 100

_SLUG: Final = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{slug_chars_max - 1}}}")
_DIRECTORY: Final = re.compile(r"(?:https?://)?(?:wordpress\.org|w\.org)/plugins?/")


class NotInstalled(ValueError):
    """The site's list cannot be read; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Installed:
    """One plugin on a site."""

    file: str  # folder/file.php, or file.php
    slug: str | None  # the name of its folder; None: no plugin here can have it
    version: str
    update_uri: str
    plugin_id: str

    @property
    def names_nobody(self) -> bool:
        """Whether its headers leave open whose it is."""
        return not self.update_uri and not self.plugin_id

    @property
    def may_be_wordpress_orgs(self) -> bool:
        """Whether it names nobody, or WordPress' own directory."""
        return self.names_nobody or _DIRECTORY.match(self.update_uri) is not None


@dataclass(frozen=True, slots=True)
class Named:
    """Whose plugin a header says it is; exactly one of these is given."""

    source_id: str | None = None
    instance_url: str | None = None
    public_key: bytes | None = None


def read_plugins(text: str) -> dict[str, dict[str, Any]]:
    """Return the headers of installed files out of the field `plugins` of an update-check. Raise `NotInstalled`."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise NotInstalled("its field plugins has to be JSON") from None
    plugins = given.get("plugins") if isinstance(given, dict) else None
    if not isinstance(plugins, dict):
        return {}  # PHP writes a list where there are none
    if len(plugins) > INSTALLED_MAX:
        raise NotInstalled(f"at most {INSTALLED_MAX} plugins are looked up at once")
    return {
        file: headers
        for file, headers in plugins.items()
        if isinstance(headers, dict) and len(file) <= FILE_CHARACTERS_MAX
    }


def installed(file: str, headers: Mapping[str, Any]) -> Installed:
    """Return what the headers of one file say."""
    folder, slash, _ = file.partition("/")
    slug = folder if slash else folder.removesuffix(".php")
    return Installed(
        file,
        slug if _SLUG.fullmatch(slug) else None,
        _text(headers, "Version", VERSION_CHARACTERS_MAX),
        _text(headers, "UpdateURI", 2 * url_chars_max),
        _text(headers, "PluginID", source_id_chars_max),
    )


def _text(headers: Mapping[str, Any], name: str, characters_max: int) -> str:
    """A header as text; one that is too long is cut, and then names nobody known here.

    JSON can name half a character, which no text of ours has, and SQLite does not take.
    """
    given = headers.get(name)
    if not isinstance(given, str):
        return ""
    return given.strip()[: characters_max + 1].encode("utf-8", "replace").decode("utf-8")


def whose_uri(update_uri: str, slug: str, own_url: str) -> Named | None:
    """Return whose an Update URI says that the plugin is; None: nobody's that can be known here.

    It is an instance's URL with the slug behind, or the plugin's page on this node.
    """
    front, slash, last = update_uri.rstrip("/").rpartition("/")
    if not slash or last != slug or not front.isascii():
        return None
    page, slash, source_id = front.rpartition("/")
    if slash and page == f"{own_url}/plugins":
        return Named(source_id=unquote(source_id))
    try:
        return Named(instance_url=parse_instance_url(front, allow_http=True))
    except Refusal:
        return None


def whose_id(plugin_id: str) -> Named | None:
    """Return whose a Plugin ID says that the plugin is: a source's id, or did:key of its key. None: nobody's."""
    if not plugin_id.startswith("did:"):
        return Named(source_id=plugin_id)
    try:
        return Named(public_key=parse_did_key(plugin_id))
    except Refusal:
        return None
