"""A WordPress site before a node in the same process: how it asks, and a second publisher with the same slug."""

import json
from typing import Any
from urllib.parse import urlencode

from pfn_node.store import registry
from pfn_protocol.identity import public_key_pem
from tests.node.web_node import NOW, STRANGER, Got, WebNode

FRODO = "frodo@other.test"
INFO = "/plugins/info/1.2/"
FILE = "hello-signal/hello-signal.php"
Schema = dict[str, type | tuple[type, ...]]


async def add_frodo(node: WebNode) -> None:
    """Another source, of another instance."""
    await node.services.database.write(
        lambda db: registry.insert_source(
            db,
            id=FRODO,
            instance_url="https://other.test",
            username="frodo",
            public_key=public_key_pem(STRANGER.public),
            created_at=NOW,
        )
    )
    columns = {"status": "verified", "verified_at": NOW, "oracle": "none"}
    await node.services.database.write(lambda db: registry.update_source(db, FRODO, **columns))


async def add_frodos(node: WebNode, slug: str = "hello-signal") -> None:
    """A plugin of the other source that may be installed."""
    await add_frodo(node)
    await node.add_release(b"frodo's", source_id=FRODO, plugin_id=slug, evidence=())
    await judge(node, FRODO, slug, "A1")


async def judge(node: WebNode, source_id: str, slug: str, assurance: str) -> None:
    """Give a plugin a level that would take a whole mesh to earn."""
    await node.services.database.write(
        lambda db: (
            db.execute("UPDATE releases SET assurance = ? WHERE source_id = ?", (assurance, source_id)),
            db.execute("UPDATE plugins SET assurance_rank = 2 WHERE source_id = ?", (source_id,)),
        )
    )


async def own(node: WebNode, slug: str, source_id: str) -> None:
    got = await node.post("/federation/slugs", {"slug": slug, "sourceId": source_id})
    assert got.status == 200, got.body


async def ask(node: WebNode, action: str, **request: str) -> Got:
    """As WordPress asks: brackets are percent-encoded."""
    fields = {"action": action, "request[locale]": "en_US", "request[wp_version]": "6.1"}
    fields |= {f"request[{name.replace('__', '][')}]": text for name, text in request.items()}
    return await node.get(f"{INFO}?{urlencode(fields)}")


async def slugs(node: WebNode, **request: str) -> list[str]:
    got = await ask(node, "query_plugins", **request)
    assert got.status == 200, got.body
    return [row["slug"] for row in got.json["plugins"]]


async def check(node: WebNode, plugins: dict[str, Any]) -> Any:
    """The answer to an update-check."""
    form = {
        "plugins": json.dumps({"plugins": plugins, "active": list(plugins)}),
        "translations": "{}",
        "locale": '["en_US"]',
        "all": "true",
    }
    got = await node.post("/plugins/update-check/1.1/", data=urlencode(form))
    assert got.status == 200, got.body
    assert set(got.json) == {"plugins", "no_update", "translations"}
    return got.json


def installed(version: str = "1.0.0", uri: str = "https://publisher.test/hello-signal", **more: str) -> dict[str, str]:
    return {"Name": "Hello", "Version": version, "UpdateURI": uri} | more


def fits(answer: dict[str, Any], schema: Schema) -> None:
    for name, kind in schema.items():
        assert name in answer, name
        assert isinstance(answer[name], kind), (name, answer[name])
        assert kind is not int or not isinstance(answer[name], bool), name
