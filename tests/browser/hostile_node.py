"""A node, served for real, whose store holds a payload in every text that others choose: publishers, peers, keys.

What the checks at the doors would never let in is written past them: a page must not need them. Each payload carries a
mark, by which its text is found on a page again: `<script>pwned()</script> ~release.name~3~`.
"""

import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio

from pfn_node.server import bind, serve
from pfn_node.store import registry, subscriptions
from pfn_node.store.activity import record_activity
from pfn_node.store.keys import DESCRIPTION_CHARACTERS_MAX
from pfn_node.store.rows import Filters, HealthCheck
from pfn_node.web.schemas import ACTIVITY_TYPES
from pfn_protocol.identity import PrivateKey, did_key, public_key_pem
from pfn_protocol.limits import tag_chars_max
from tests.browser.payloads import PAYLOADS
from tests.node.test_web_mesh import a_peer
from tests.node.web_node import BILBO, NOW, WebNode, web_node

MARK = re.compile(r"~(\w+\.\w+)~(\d+)~")
# So many payloads stand in one long text: a dozen pages of plugins show them all.
BATCH = 21
# A link to a tag asks for it, and no tag is longer.
CHARACTERS_MAX = {"release.tags": tag_chars_max, "key.description": DESCRIPTION_CHARACTERS_MAX}


def marked(field: str, number: int) -> str:
    """The payload of a row, with its mark. Cut where more cannot be asked for."""
    mark = f" ~{field}~{number}~"
    return PAYLOADS[number % len(PAYLOADS)][: CHARACTERS_MAX.get(field, 10_000) - len(mark)] + mark


def batch(field: str, number: int) -> str:
    """Many payloads in one text, each with its mark; other rows have others."""
    first = number * BATCH
    return " ".join(marked(field, each % len(PAYLOADS)) for each in range(first, first + BATCH))


def everything(field: str) -> str:
    """All payloads in one text. It begins with a scheme that runs: a link must not lead there."""
    return "javascript:pwned() " + " ".join(marked(field, number) for number in range(len(PAYLOADS)))


def collapsed(text: str) -> str:
    """As a page shows it: white space is one space. CR, LF and their like are not told apart by HTML."""
    return " ".join(text.replace("\x00", "").split())


@dataclass(frozen=True)
class HostileNode:
    """Where it is, a key with every scope, and what parts of paths may be."""

    url: str
    key: str
    parts: dict[str, str]


@asynccontextmanager
async def hostile_node(folder: Path) -> AsyncIterator[HostileNode]:
    """The node, with a row for every payload in every table."""
    listener = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.port}"
    async with web_node(folder, url=url, allow_private_networks=True) as node, trio.open_nursery() as nursery:
        await node.add_bilbo()
        await seed(node)
        shutdown = trio.Event()
        nursery.start_soon(lambda: serve(node.app, listener=listener, shutdown=shutdown))
        release = (await node.get("/federation/plugins?limit=1")).json["plugins"][0]
        parts = {
            "source_id": BILBO,
            "plugin_id": "plugin-0",
            "version": "1.0.0",
            "sha256": release["sha256"],
            "node_id": node.mesh.known[0].node_id,
            "key_id": "key0",
        }
        try:
            yield HostileNode(url, node.key, parts)
        finally:
            shutdown.set()
            nursery.cancel_scope.cancel()


async def seed(node: WebNode) -> None:
    """Fill the store and the fake mesh."""
    await node.services.database.write(lambda db: _fill(db, node.key.split("_")[1]))
    for number in range(len(PAYLOADS)):
        name = f"plugin-{number}"
        if _has_older(number):
            await node.add_release(b"old", plugin_id=name, version=f"0.{number}", name=marked("release.name", number))
        await node.add_release(name.encode(), plugin_id=name, name=marked("release.name", number))
    await node.services.database.write(_overwrite)
    node.mesh.known = [
        replace(
            a_peer(marked("peer.url", number)),
            node_id=did_key(_key(number).public),
            trusted_via=(marked("peer.trusted_via", number),),
        )
        for number in range(len(PAYLOADS))
    ]


def _has_older(number: int) -> bool:
    """Whether the plugin has a yanked version: those do that stand first in lists, by whatever they are ordered."""
    return number < 2 * BATCH or number >= len(PAYLOADS) - 2 * BATCH


def _key(number: int) -> PrivateKey:
    return PrivateKey(hashlib.sha256(b"hostile %d" % number).digest())


def _fill(db: Any, subscriber: str) -> None:
    """Rows by the functions of the store, for what it takes as it is. `subscriber` is the key of who looks."""
    types = sorted(ACTIVITY_TYPES)
    for number in range(len(PAYLOADS)):
        source = f"user{number}@publisher.test"
        pem = public_key_pem(_key(number).public)
        registry.insert_source(
            db, id=source, instance_url=f"https://publisher.test/{number}", username=f"user{number}", public_key=pem,
            created_at=NOW, status="verified",
        )  # fmt: skip
        for at in (source, BILBO):
            registry.record_verification(
                db, at, marked("verification.verifier", number), "manual", "failure",
                batch("verification.details", number), NOW + number,
            )  # fmt: skip
            registry.record_health(db, HealthCheck(at, False, 0.5, marked("health.details", number), NOW - number))
            subscriptions.record_failure(db, at, batch("failure.error_message", number), NOW)
        record_activity(
            db, types[number % len(types)], "It said: " + batch("activity.message", number), at=NOW, source_id=source,
            plugin_id=f"plugin-{number}", plugin_name=marked("activity.plugin_name", number),
            old_version=marked("activity.old_version", number), new_version=marked("activity.new_version", number),
        )  # fmt: skip
        key_id = f"key{number}"
        registry.insert_key(db, key_id, bytes(32), marked("key.description", number), ("read",), NOW, None)
        filters = Filters(tags=(marked("subscription.tags", number),))
        for each in (key_id, subscriber):
            subscriptions.set_subscription(db, source, each, filters, NOW)


def _overwrite(db: Any) -> None:
    """What no function of the store takes."""
    for number in range(len(PAYLOADS)):
        plugin, source = f"plugin-{number}", f"user{number}@publisher.test"
        tags, icons = json.dumps([marked("release.tags", number)]), json.dumps({"1x": marked("release.icons", number)})
        for table in ("releases", "observations"):
            _update(
                db, table, "plugin_id", plugin, name=marked("release.name", number), tags=tags, icons=icons,
                description=batch("release.description", number),
            )  # fmt: skip
        _update(db, "releases", "plugin_id", plugin, advisories=json.dumps([_advisory(number)]))
        if _has_older(number):
            _update(
                db, "releases", "version", f"0.{number}", yanked=batch("release.yanked", number), yanked_by="publisher"
            )
        _claim(db, "yank", number, {"reason": batch("claim.reason", number)})
        _claim(db, "advisory", number, _said_in_advisory(number))
        reason = batch("tombstone.reason", number)
        db.execute("INSERT INTO tombstones VALUES (?, ?, '0.1', ?, ?)", (BILBO, plugin, reason, NOW))
        db.execute("INSERT INTO join_targets (url) VALUES (?)", (marked("join.url", number),))
        _update(
            db, "sources", "id", source, username=marked("source.username", number),
            instance_url=everything("source.instance_url"), asset_domain=everything("source.asset_domain"),
            asset_naming_scheme=everything("source.asset_naming_scheme"),
        )  # fmt: skip


def _advisory(number: int) -> dict[str, Any]:
    return {"advisory_id": marked("advisory.id", number), "by": "publisher", **_said_in_advisory(number)}


def _said_in_advisory(number: int) -> dict[str, Any]:
    return {
        "severity": "high",
        "summary": batch("advisory.summary", number),
        "url": marked("advisory.url", number),
        "aliases": [marked("advisory.alias", number)],
        "ranges": [{"from": marked("advisory.from", number), "until": ""}],
    }


def _claim(db: Any, kind: str, number: int, content: dict[str, Any]) -> None:
    """What another node says of a release, or of a plugin."""
    row = {
        "kind": kind, "subject": f"{BILBO}/plugin-{number}/{kind}", "node_id": _key(number).public, "source_id": BILBO,
        "plugin_id": f"plugin-{number}", "about": marked("claim.about", number), "content": json.dumps(content),
        "evidence": b"", "keybind": b"", "withdrawn": 0, "announcement_id": bytes(32), "epoch": 0, "seq": number,
        "admitted": 1, "received_at": NOW,
    }  # fmt: skip
    db.execute(
        f"INSERT INTO notice_claims ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
    )


def _update(db: Any, table: str, key: str, value: str, **columns: str) -> None:
    names = ", ".join(f"{name} = ?" for name in columns)
    db.execute(f"UPDATE {table} SET {names} WHERE {key} = ?", (*columns.values(), value))
