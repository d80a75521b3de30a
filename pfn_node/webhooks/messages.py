"""What a message says: what happened, to which release or source, and where more is to be read.

    {"type": "release.added", "timestamp": "2026-11-23T08:00:00Z", "data": {"source_id": ..., "plugin_id": ..., ...}}

A message is small, whatever a publisher writes: it carries no text that the protocol does not bound to a few hundred
characters. It is made when it is queued, and the same bytes are sent in every attempt.
"""

import json
from datetime import UTC, datetime
from typing import Any, Final

import sqlite_utils

from pfn_node.own_paths import download_path, plugin_path
from pfn_node.store import catalogue, sources
from pfn_node.store.changes import is_listable
from pfn_node.store.news import News
from pfn_node.store.rows import Release
from pfn_node.store.safety import advisories_in_force
from pfn_node.store.webhooks import Webhook

TEST: Final = "webhook.test"


def message_for(db: sqlite_utils.Database, webhook: Webhook, one: News, base: str) -> bytes | None:
    """The message that tells a webhook of one of the news; None: it wants none, or there is nothing to tell any more.

    `base` is the node's URL, or empty where it does not know its own.
    """
    if one.type not in webhook.events or webhook.source_id not in (None, one.source_id):
        return None
    data = _source(db, one) if one.type == "source.changed" else _plugin(db, webhook, one, base)
    return None if data is None else made(one.type, one.at, data)


def made(type: str, at: int, data: dict[str, Any]) -> bytes:
    """A message as it is sent."""
    when = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps({"type": type, "timestamp": when, "data": data}, separators=(",", ":")).encode("ascii")


def _source(db: sqlite_utils.Database, one: News) -> dict[str, Any] | None:
    source = sources.get_source(db, one.source_id)
    if source is None:
        return None
    return {
        "source_id": source.id,
        "instance_url": source.instance_url,
        "status": source.status,
        "changed": one.about,
    }


def _plugin(db: sqlite_utils.Database, webhook: Webhook, one: News, base: str) -> dict[str, Any] | None:
    version = None if one.type == "advisory.added" else one.about
    release = catalogue.get_release(db, one.source_id, one.plugin_id, version)
    if release is None or (webhook.tag is not None and not _has_tag(release, webhook.tag)):
        return None
    if one.type == "release.added" and not is_listable(release):
        return None  # by now; the feeds leave it out as well
    page = base + plugin_path(release.source_id, release.plugin_id)
    named = {"source_id": one.source_id, "plugin_id": one.plugin_id, "name": release.name, "page": page}
    if one.type != "advisory.added":
        return named | _release(release, base)
    advisories = advisories_in_force(db, one.source_id, one.plugin_id)
    about = next((advisory for advisory in advisories if advisory["advisory_id"] == one.about), None)
    return None if about is None else named | {"advisory": about}


def _release(release: Release, base: str) -> dict[str, Any]:
    return {
        "type": release.type,
        "version": release.version,
        "sha256": release.sha256.hex() if release.sha256 else None,
        "size": release.size,
        "assurance": release.assurance,
        "yanked": release.yanked,
        "download": base + download_path(release),
    }


def _has_tag(release: Release, tag: str) -> bool:
    return tag.casefold() in (one.casefold() for one in release.tags)
