"""What WordPress is told of plugins: the fields of api.wordpress.org, out of releases and of what their zips say.

Texts are HTML there, and ours are a publisher's plain words, so they are escaped. What nobody counts or rates here (how
many sites have a plugin active, how many stars) is a plain 0, never made up.
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from pfn_node.own_paths import plugin_path
from pfn_node.store.rows import Release
from pfn_node.store.wordpress import Closed, Offer

# What /wp/v2/plugins compares the text of a 404 with: any other one makes it answer 500.
NOT_FOUND: Final = "Plugin not found."
SHORT_DESCRIPTION_CHARACTERS_MAX: Final = 150  # as in the directory
DEPENDENCIES_MAX: Final = 50

_PHP_VERSION: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,4}){0,3}")
_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
# Fields that a client may do without, and may turn off: `request[fields][sections]=0`.
_OPTIONAL: Final = frozenset(
    {"sections", "versions", "tags", "homepage", "ratings", "downloaded", "requires", "tested", "requires_php"}
    | {"requires_plugins", "icons", "short_description", "author_profile"}
)


def encode(answer: Mapping[str, Any]) -> str:
    """An answer as it is sent."""
    return json.dumps(answer, separators=(",", ":"))


def row(offer: Offer, base: str) -> dict[str, Any]:
    """A plugin in a list. `base` is the node's URL."""
    release = offer.release
    page = base + plugin_path(release.source_id, release.plugin_id)
    author = offer.headers.get("Author") or release.source_id.partition("@")[0]
    profile = f"{base}/sources/{quote(release.source_id, safe='@')}"
    return {
        "name": _text(release.name),
        "slug": release.plugin_id,
        "version": release.version,
        "author": f'<a href="{html.escape(profile)}">{_text(author)}</a>',
        "author_profile": profile,
        "requires": _version(offer.headers.get("Requires at least")),
        "tested": _version(offer.headers.get("Tested up to")),
        "requires_php": _version(offer.headers.get("Requires PHP")),
        "requires_plugins": _dependencies(offer.headers.get("Requires Plugins", "")),
        "rating": 0,
        "ratings": {str(stars): 0 for stars in range(5, 0, -1)},
        "num_ratings": 0,
        "support_threads": 0,
        "support_threads_resolved": 0,
        "active_installs": 0,
        "downloaded": offer.downloads,
        "last_updated": _when(release.observed_at),
        "homepage": _web_address(offer.headers.get("Plugin URI", "")) or page,
        "download_link": download_url(release, base),
        "tags": {tag.casefold(): _text(tag) for tag in release.tags},
        "short_description": _text(_short(release.description or "")),
        "description": _paragraphs(release.description or ""),
        "icons": _icons(release, base),
    }


def listing(offers: Sequence[Offer], total: int, page: int, per_page: int, base: str) -> dict[str, Any]:
    """The answer to query_plugins."""
    info = {"page": page, "pages": -(-total // per_page), "results": total}
    return {"info": info, "plugins": [row(offer, base) for offer in offers]}


def information(offer: Offer, versions: Sequence[Release], fields: Mapping[str, bool], base: str) -> dict[str, Any]:
    """The answer to plugin_information; `fields` are those that the client turned on or off."""
    answer = row(offer, base) | {
        "sections": _sections(offer.release, versions, base),
        # Without it the block editor dies after installing.
        "language_packs": [],
        "versions": {one.version: download_url(one, base) for one in versions},
    }
    del answer["description"]  # it is a section here
    return {name: each for name, each in answer.items() if fields.get(name, True) or name not in _OPTIONAL}


def update(file: str, offer: Offer, base: str) -> dict[str, Any]:
    """What the answer to update-check says of one installed file."""
    release = offer.release
    page = base + plugin_path(release.source_id, release.plugin_id)
    return {
        "id": page.partition("://")[2],
        "slug": release.plugin_id,
        "plugin": file,
        "new_version": release.version,
        "url": page,
        # Whatever the bare slug means by then: an update never crosses over to another source.
        "package": f"{download_url(release, base)}?source={quote(release.source_id, safe='@')}",
        "icons": _icons(release, base),
        "banners": {},
        "banners_rtl": {},
        "requires": _version(offer.headers.get("Requires at least")),
        "tested": _version(offer.headers.get("Tested up to")),
        "requires_php": _version(offer.headers.get("Requires PHP")),
        "requires_plugins": _dependencies(offer.headers.get("Requires Plugins", "")),
    }


def tags(counts: Mapping[str, int]) -> dict[str, Any]:
    """The answer to hot_tags."""
    return {tag: {"name": _text(tag), "slug": tag, "count": count} for tag, count in counts.items()}


def closed(gone: Closed) -> dict[str, Any]:
    """The 404 for a plugin that was taken down, as AspireCloud says it."""
    return {
        "error": "closed",
        "name": _text(gone.release.name),
        "slug": gone.release.plugin_id,
        "description": "This plugin was taken down by the operator of this node, and cannot be installed.",
        "closed": True,
        "closed_date": datetime.fromtimestamp(gone.at, UTC).strftime("%Y-%m-%d"),
        "reason": "taken-down",
        "reason_text": _text(gone.reason) or "Taken down",
    }


def download_url(release: Release, base: str) -> str:
    """Where a site gets the zip: wp-cli makes the address of another version out of this one."""
    return f"{base}/download/plugin/{release.plugin_id}.{quote(release.version)}.zip"


def _sections(release: Release, versions: Sequence[Release], base: str) -> dict[str, str]:
    page = html.escape(base + plugin_path(release.source_id, release.plugin_id))
    digest = release.sha256.hex() if release.sha256 else ""
    known = "".join(f"<li>{_text(one['summary'])}</li>" for one in release.advisories)
    return {
        "description": _paragraphs(release.description or release.name),
        "changelog": "".join(f"<h4>{one.version}</h4><p>{_when(one.observed_at)}</p>" for one in versions[:20]),
        "other_notes": (
            f"<p>Publisher: {_text(release.source_id)}<br>Assurance: {release.assurance}<br>SHA-256: {digest}</p>"
            f'<p><a href="{page}">What is known about it</a></p>' + (f"<ul>{known}</ul>" if known else "")
        ),
    }


def _icons(release: Release, base: str) -> dict[str, str]:
    return {"default": f"{base}/static/icon.svg"} | release.icons


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_text(part)}</p>" for part in re.split(r"\n\s*\n", text) if part.strip())


def _short(text: str) -> str:
    text = " ".join(text.split())
    if len(text) <= SHORT_DESCRIPTION_CHARACTERS_MAX:
        return text
    return text[: SHORT_DESCRIPTION_CHARACTERS_MAX - 1].rsplit(" ", 1)[0] + "…"


def _text(text: str) -> str:
    return html.escape(text, quote=False)


def _version(text: str | None) -> str | bool:
    """A version of WordPress or PHP; False, as the directory has it, where none is known."""
    return text if text and _PHP_VERSION.fullmatch(text) else False


def _dependencies(text: str) -> list[str]:
    slugs = (part.strip() for part in text.split(","))
    return [slug for slug in slugs if _SLUG.fullmatch(slug)][:DEPENDENCIES_MAX]


def _web_address(text: str) -> str | None:
    return text if text.startswith(("https://", "http://")) else None


def _when(seconds: int) -> str:
    """A time as the directory writes it: 2024-09-27 9:53pm GMT."""
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at:%Y-%m-%d} {int(at.strftime('%I'))}:{at:%M}{at.strftime('%p').lower()} GMT"
