"""Every page of a node, from what the site declares: a page that is added is tried, or a test says what it lacks."""

import html
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote, urljoin, urlsplit

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, MapAdapter, Rule

from pfn_node.web.pages.page_routes import Page
from tests.browser.local_nodes import BrowserMesh
from tests.node.page_reader import SUBJECTS

# Of one declared page, so many further addresses that links lead to: with a filter, another plugin.
LINKED_MAX = 2

_LINK = re.compile(r"<a\b[^>]*>")
_HREF = re.compile(r'\bhref="([^"]*)"')
_PART = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclass(frozen=True)
class Address:
    """Where a page is: `page` is what was declared, `path` one of its places, perhaps with a query."""

    page: Page
    path: str

    @property
    def name(self) -> str:
        """For a file: the path without what a file's name cannot hold."""
        return re.sub(r"[^\w.-]+", "-", unquote(self.path)).strip("-") or "home"


def declared_pages() -> list[Page]:
    """All that the site declares, and the API's."""
    return [page for subject in SUBJECTS for page in subject.declared]


def parts_of(mesh: BrowserMesh) -> dict[str, str]:
    """What may stand in the place of each part of a path."""
    first = mesh.publishers[0]

    async def ask() -> dict[str, str]:
        client = mesh.nodes[0].client
        row = (await client.get("plugins", source=first.source_id, limit=1))["plugins"][0]
        keys = await client.get("keys")
        peers = (await client.get("peers"))["peers"]
        return {
            "source_id": first.source_id,
            "plugin_id": row["plugin_id"],
            "version": row["version"],
            "sha256": row["sha256"],
            "node_id": peers[0]["node_id"],
            "key_id": (keys["keys"] if isinstance(keys, dict) else keys)[0]["id"],
        }

    return mesh.call(ask)


def filled(path: str, parts: Mapping[str, str]) -> str:
    """A declared path with its parts in place. Raises AssertionError for a part that `parts_of` does not know."""
    missing = set(_PART.findall(path)) - parts.keys()
    assert not missing, f"{path}: say in parts_of what may stand for {sorted(missing)}"
    return _PART.sub(lambda found: quote(parts[found[1]], safe="@:"), path)


def every_address(
    parts: Mapping[str, str],
    read: Callable[[str], str],
    *,
    more: Mapping[str, int] | None = None,
    whole_lists: bool = False,
) -> Iterator[Address]:
    """Every declared page once, and what links of pages lead to, each after `read`, which answers the HTML of a path.

    `more` says of which declared paths more links are followed than LINKED_MAX. With `whole_lists`, a declared page
    that is a list is followed to its end.
    """
    pages = declared_pages()
    of_path = {page.path: page for page in pages}
    rules = Map([Rule(page.path, endpoint=page.path) for page in pages], strict_slashes=False).bind("node")
    found = [Address(page, filled(page.path, parts)) for page in pages]
    seen = {unquote(address.path) for address in found}
    lists = {address.path for address in found} if whole_lists else set()
    linked = dict.fromkeys(of_path, 0)
    for address in found:  # grows while it is walked
        text = read(address.path)
        yield address
        for path, leads_on in _links(text, address.path):
            endpoint = _endpoint(rules, path)
            if unquote(path) in seen or endpoint is None:
                continue
            if leads_on and address.path in lists:
                lists.add(path)
            elif linked[endpoint] < (more or {}).get(endpoint, LINKED_MAX):
                linked[endpoint] += 1
            else:
                continue
            seen.add(unquote(path))
            found.append(Address(of_path[endpoint], path))


def _links(text: str, base: str) -> Iterator[tuple[str, bool]]:
    """The paths that a page links to, and whether each is the next page of its list."""
    for link in _LINK.findall(text):
        href = _HREF.search(link)
        path = urljoin(base, html.unescape(href[1]).partition("#")[0]) if href else ""
        if path.startswith("/") and not path.startswith("//"):
            yield path, 'rel="next"' in link


def _endpoint(rules: MapAdapter, path: str) -> str | None:
    try:
        endpoint, _ = rules.match(urlsplit(path).path)
    except HTTPException:
        return None
    return str(endpoint)
