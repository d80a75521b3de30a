"""Every page of a node, from what the site declares: a page that is added is tried, or a test says what it lacks."""

import html
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule

from pfn_node.web.pages import docs, site
from pfn_node.web.pages.page_routes import Page
from tests.browser.local_nodes import BrowserMesh

# Of one declared page, so many addresses that links lead to: with a filter, the second page, another plugin.
LINKED_MAX = 3

_HREF = re.compile(r'<a\b[^>]*\bhref="([^"]*)"')
_PART = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclass(frozen=True)
class Address:
    """Where a page is: `page` is what was declared, `path` one of its places, perhaps with a query."""

    page: Page
    path: str

    @property
    def name(self) -> str:
        """For a file: the path without what a file's name cannot hold."""
        return re.sub(r"[^\w.-]+", "-", self.path).strip("-") or "home"


def declared_pages() -> list[Page]:
    """All that the site declares, and the API's."""
    described = docs.make_pages({"paths": {}})
    return [page for subject in (*site.SUBJECTS, described) for page in subject.declared]


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


def every_address(parts: Mapping[str, str], read: Callable[[str], str], linked_max: int = LINKED_MAX) -> list[Address]:
    """Every declared page once, and what links of pages lead to; `read` answers the HTML of a path."""
    pages = declared_pages()
    of_path = {page.path: page for page in pages}
    rules = Map([Rule(page.path, endpoint=page.path) for page in pages], strict_slashes=False).bind("node")
    found = [Address(page, filled(page.path, parts)) for page in pages]
    seen = {address.path for address in found}
    linked = dict.fromkeys(of_path, 0)
    for address in found:  # grows while it is walked
        for path in _links(read(address.path)):
            endpoint = _endpoint(rules, path)
            if path in seen or endpoint is None or linked[endpoint] == linked_max:
                continue
            seen.add(path)
            linked[endpoint] += 1
            found.append(Address(of_path[endpoint], path))
    return found


def _links(text: str) -> Iterable[str]:
    for href in _HREF.findall(text):
        path = html.unescape(href).partition("#")[0]
        if path.startswith("/"):
            yield path


def _endpoint(rules: "object", path: str) -> str | None:
    try:
        endpoint, _ = rules.match(urlsplit(path).path)  # type: ignore[attr-defined]
    except HTTPException:
        return None
    return str(endpoint)
