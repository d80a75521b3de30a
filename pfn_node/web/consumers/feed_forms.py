"""The two forms of a feed of releases: Atom (RFC 4287), and JSON Feed 1.1."""

import json
import re
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from pfn_node.own_paths import download_path, plugin_path
from pfn_node.store.news import Added
from pfn_node.store.rows import Release
from pfn_protocol.identity import did_key

_ATOM: Final = "http://www.w3.org/2005/Atom"
# Ids of entries are version 5 UUIDs of "source/plugin/version" under this one: whoever names a release names it alike.
_RELEASES: Final = uuid.UUID("6f2f0b5e-5f0f-5d0c-9a51-0f6f1d7d8d34")
# Characters that no XML 1.0 document may have, however they are written.
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Feed:
    """What a feed is made of. `base` is the node's URL, `path` the feed's own on it, `zip_path` that of a release."""

    node_id: bytes
    base: str
    path: str
    source: str | None
    tag: str | None
    added: list[Added]
    zip_path: Callable[[Release], str] = download_path

    @property
    def id(self) -> str:
        name = "\n".join((did_key(self.node_id), self.source or "", self.tag or ""))
        return uuid.uuid5(_RELEASES, name).urn

    @property
    def title(self) -> str:
        of = f" of {self.source}" if self.source else ""
        tagged = f" tagged {self.tag}" if self.tag else ""
        return f"Plugin releases{of}{tagged}"

    @property
    def page(self) -> str:
        narrowed = {name: given for name, given in (("source", self.source), ("tag", self.tag)) if given is not None}
        return f"{self.base}/plugins" + (f"?{urlencode(narrowed)}" if narrowed else "")

    @property
    def updated(self) -> int:
        return max((one.at for one in self.added), default=0)


def entry_id(release: Release) -> str:
    """The id of a release in every feed of every node."""
    return uuid.uuid5(_RELEASES, f"{release.source_id}/{release.plugin_id}/{release.version}").urn


def atom(feed: Feed) -> bytes:
    """The feed as Atom."""
    root = ET.Element("feed", xmlns=_ATOM)
    _text(root, "id", feed.id)
    _text(root, "title", feed.title)
    _text(root, "updated", _when(feed.updated))
    _text(root, "generator", "pfn-node")
    ET.SubElement(root, "link", rel="self", type="application/atom+xml", href=feed.base + feed.path)
    ET.SubElement(root, "link", rel="alternate", type="text/html", href=feed.page)
    for one in feed.added:
        _atom_entry(root, feed, one)
    made: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return made


def _atom_entry(root: ET.Element, feed: Feed, one: Added) -> None:
    release = one.release
    entry = ET.SubElement(root, "entry")
    _text(entry, "id", entry_id(release))
    _text(entry, "title", _title(release))
    _text(entry, "published", _when(min(release.observed_at, one.at)))
    _text(entry, "updated", _when(one.at))
    author = ET.SubElement(entry, "author")
    _text(author, "name", _author(release))
    ET.SubElement(
        entry,
        "link",
        rel="alternate",
        type="text/html",
        href=feed.base + plugin_path(release.source_id, release.plugin_id),
    )
    ET.SubElement(
        entry,
        "link",
        rel="enclosure",
        type="application/zip",
        length=str(release.size),
        href=feed.base + feed.zip_path(release),
    )
    for tag in release.tags:
        ET.SubElement(entry, "category", term=_clean(tag))
    _text(entry, "summary", release.description or _title(release))
    _text(entry, "content", _content(release), type="text")


def _text(parent: ET.Element, name: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, name, attributes).text = _clean(text)


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", text)


def json_feed(feed: Feed) -> bytes:
    """The feed as JSON Feed 1.1; `_pfn` has what a program wants to know."""
    made = {
        "version": "https://jsonfeed.org/version/1.1",
        "title": feed.title,
        "home_page_url": feed.page,
        "feed_url": feed.base + feed.path,
        "items": [_item(feed, one) for one in feed.added],
    }
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _item(feed: Feed, one: Added) -> dict[str, Any]:
    release = one.release
    assert release.sha256 is not None, "what may be installed has a digest"
    return {
        "id": entry_id(release),
        "url": feed.base + plugin_path(release.source_id, release.plugin_id),
        "title": _title(release),
        "summary": release.description or _title(release),
        "content_text": _content(release),
        "date_published": _when(min(release.observed_at, one.at)),
        "date_modified": _when(one.at),
        "authors": [{"name": _author(release)}],
        "tags": list(release.tags),
        "attachments": [
            {
                "url": feed.base + feed.zip_path(release),
                "mime_type": "application/zip",
                "size_in_bytes": release.size,
            }
        ],
        "_pfn": {
            "source_id": release.source_id,
            "plugin_id": release.plugin_id,
            "version": release.version,
            "type": release.type,
            "sha256": release.sha256.hex(),
            "assurance": release.assurance,
            "advisories": [advisory["advisory_id"] for advisory in release.advisories],
        },
    }


def _title(release: Release) -> str:
    return f"{release.name} {release.version}"


def _author(release: Release) -> str:
    return release.source_id.partition("@")[0]


def _content(release: Release) -> str:
    assert release.sha256 is not None, "what may be installed has a digest"
    lines = [
        release.description or "",
        f"The {release.type} {release.plugin_id} of {release.source_id}, assurance {release.assurance}.",
        f"SHA-256: {release.sha256.hex()}",
    ]
    lines += [f"{one['severity']} advisory {one['advisory_id']}: {one['summary']}" for one in release.advisories]
    return "\n".join(line for line in lines if line)


def _when(seconds: int) -> str:
    """A time as RFC 3339 writes it, which both forms ask for."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
