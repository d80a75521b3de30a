"""Webhooks over the API: adding, listing, testing and removing them, and what is shown of their deliveries."""

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pfn_node.store import webhooks
from pfn_node.store.webhooks import Attempt, Delivery
from pfn_node.webhooks.delivering import UnknownWebhook
from tests.node.web_node import BILBO, NOW, FakeWebhooks, WebNode, web_node

HOOK = {"url": "https://receiver.test/hook"}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


async def add(node: WebNode, **fields: object) -> dict[str, Any]:
    got = await node.post("/federation/webhooks", HOOK | fields)
    assert got.status == 200, got.body
    added: dict[str, Any] = got.json
    return added


async def listed(node: WebNode) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await node.read("/federation/webhooks")).json["webhooks"]
    return rows


async def test_the_secret_is_shown_once_and_nowhere_else(node: WebNode) -> None:
    added = await add(node, description="the shop", sourceId=BILBO, tag="forms", events=["release.yanked"])

    secret = added.pop("secret")
    assert secret.startswith("whsec_") and 24 <= len(base64.b64decode(secret.removeprefix("whsec_"))) <= 64
    assert await listed(node) == [added]
    assert (
        added.items()
        >= {
            "url": "https://receiver.test/hook",
            "description": "the shop",
            "events": ["release.yanked"],
            "source_id": BILBO,
            "tag": "forms",
            "created": NOW,
            "failing_since": None,
            "disabled": None,
            "waiting": 0,
        }.items()
    )
    assert secret.encode() not in (await node.read("/federation/audit")).body


async def test_a_webhook_wants_everything_unless_it_says_what(node: WebNode) -> None:
    added = await add(node)

    assert added["events"] == ["release.added", "release.yanked", "advisory.added", "source.changed"]


@pytest.mark.parametrize(
    "url",
    [
        "http://receiver.test/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://receiver.test:8443/",
        "https://user:pass@receiver.test/",
        "file:///etc/passwd",
        "gopher://receiver.test/",
        "https://169.254.169.254/latest/meta-data",
        "https://2130706433/",
        "receiver",
    ],
)
async def test_a_url_that_this_node_does_not_dial_is_refused(node: WebNode, url: str) -> None:
    got = await node.post("/federation/webhooks", {"url": url})

    assert (got.status, got.json["details"]["fields"][0]["field"], bool(got.sentence)) == (403, "url", True)
    assert await listed(node) == []


@pytest.mark.parametrize("wrong", [{"events": []}, {"events": ["release.eaten"]}, {"tag": ""}, {"description": "a\nb"}])
async def test_a_wrong_field_is_400(node: WebNode, wrong: dict[str, object]) -> None:
    assert (await node.post("/federation/webhooks", HOOK | wrong)).status == 400


async def test_adding_needs_the_scope_of_sources_and_looking_that_of_reading(node: WebNode) -> None:
    reader, clerk = await node.make_key(scopes=["read"]), await node.make_key(scopes=["sources"])
    added = await add(node)
    changing = (("webhooks", HOOK), ("remove-webhook", {"id": added["id"]}), ("test-webhook", {"id": added["id"]}))

    for call, body in changing:
        assert (await node.post(f"/federation/{call}", body, key=reader)).status == 403
    for path in ("/federation/webhooks", f"/federation/webhook-deliveries?id={added['id']}"):
        assert (await node.read(path, key=reader)).status == 200
        assert (await node.read(path, key=clerk)).status == 403
        assert (await node.get(path)).status == 401


async def test_there_are_only_so_many(node: WebNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "WEBHOOKS_MAX", 1)
    await add(node)

    got = await node.post("/federation/webhooks", HOOK)

    assert (got.status, bool(got.sentence)) == (409, True)


async def test_one_that_is_removed_is_gone_with_its_log(node: WebNode) -> None:
    added = await add(node)

    assert (await node.post("/federation/remove-webhook", {"id": added["id"]})).json["success"] is True

    assert await listed(node) == []
    assert (await node.post("/federation/remove-webhook", {"id": added["id"]})).status == 404
    assert (await node.read(f"/federation/webhook-deliveries?id={added['id']}")).status == 404


async def test_a_test_says_how_it_went(node: WebNode) -> None:
    fake = node.services.webhooks
    assert isinstance(fake, FakeWebhooks)
    added = await add(node)

    taken = (await node.post("/federation/test-webhook", {"id": added["id"]})).json
    fake.outcome = Attempt(NOW, 500, "It answered 500.")
    failed = (await node.post("/federation/test-webhook", {"id": added["id"]})).json

    assert taken == {"success": True, "message": "The receiver took the message.", "status": 204}
    assert failed == {"success": False, "message": "It answered 500.", "status": 500}
    assert fake.tested == [added["id"]] * 2


async def test_a_test_of_one_that_is_not_there_is_404(node: WebNode, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(webhook_id: str) -> Attempt:
        raise UnknownWebhook(webhook_id)

    monkeypatch.setattr(node.services.webhooks, "test", unknown)

    assert (await node.post("/federation/test-webhook", {"id": "BBBBBBBB"})).status == 404


async def test_deliveries_are_shown_with_every_attempt_newest_first(node: WebNode) -> None:
    added = await add(node)
    waits = Delivery("msg_1", added["id"], "release.added", b"{}", NOW, (Attempt(NOW, 500, "No."),), NOW + 5, None)
    taken = replace(waits, id="msg_2", attempts=(Attempt(NOW, 200, None),), next_at=None, delivered=NOW)
    given_up = replace(waits, id="msg_3", next_at=None)
    for one in (waits, taken, given_up):
        await node.services.database.write(lambda db, one=one: webhooks.insert_delivery(db, one))  # type: ignore[misc]

    shown = (await node.read(f"/federation/webhook-deliveries?id={added['id']}")).json["deliveries"]

    assert [(one["id"], one["state"], one["next_at"]) for one in shown] == [
        ("msg_3", "given up", None),
        ("msg_2", "delivered", None),
        ("msg_1", "waiting", NOW + 5),
    ]
    assert shown[0]["attempts"] == [{"at": NOW, "status": 500, "error": "No."}]
    assert (await listed(node))[0]["waiting"] == 1
