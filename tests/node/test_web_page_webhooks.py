"""The page of webhooks: adding one with its secret shown once, testing, removing, and the log of deliveries."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from pfn_node.store import webhooks
from pfn_node.store.webhooks import Attempt, Delivery
from tests.node.page_reader import Browser, Reader
from tests.node.web_node import NOW, FakeWebhooks, WebNode, web_node

HOOK: dict[str, Any] = {"url": "https://receiver.test/hook", "events": ["release.added"]}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


async def add(admin: Browser, **fields: Any) -> str:
    """The id of a new webhook."""
    got = await admin.send("/admin/webhooks", **HOOK | fields)
    assert got.status == 200, got.body
    (added,) = (await admin.node.read("/federation/webhooks")).json["webhooks"]
    return str(added["id"])


async def test_a_webhook_is_added_and_its_secret_shown_once(admin: Browser) -> None:
    assert "Nobody is told" in (await admin.read("/admin/webhooks")).text

    made = await admin.send("/admin/webhooks", **HOOK, description="the <b>shop</b>", tag="forms", source_id="")
    secret = re.search(r"whsec_[A-Za-z0-9+/=]+", Reader(made).text)

    assert secret is not None
    page = await admin.open("/admin/webhooks")
    assert secret[0].encode() not in page.body
    for said in ("the <b>shop</b>", "https://receiver.test/hook", "release.added", "tagged forms", "works"):
        assert said in Reader(page).text
    assert "release.yanked" not in Reader(page).text.partition("Add a webhook")[0]


@pytest.mark.parametrize(
    ("wrong", "says", "status"),
    [
        ({"url": "https://127.0.0.1/"}, "address", 403),
        ({"url": ""}, "field required", 400),
        ({"events": []}, "Tick at least one.", 400),
    ],
)
async def test_what_is_wrong_is_said_beside_its_field(
    admin: Browser, wrong: dict[str, Any], says: str, status: int
) -> None:
    got = await admin.send("/admin/webhooks", **HOOK | {"description": "kept as typed"} | wrong)

    assert got.status == status
    page = Reader(got)
    assert says in page.text and page.values["description"] == "kept as typed"


async def test_a_test_says_how_it_went_and_one_that_is_removed_is_gone(admin: Browser) -> None:
    fake = admin.node.services.webhooks
    assert isinstance(fake, FakeWebhooks)
    webhook_id = await add(admin)

    fake.outcome = Attempt(NOW, 500, "It answered 500.")
    assert (await admin.send("/admin/webhooks/test", id=webhook_id)).status == 303
    assert "It answered 500." in (await admin.read("/admin/webhooks")).text
    assert (await admin.send("/admin/webhooks/remove", id=webhook_id)).status == 303

    assert "Nobody is told" in (await admin.read("/admin/webhooks")).text
    assert (await admin.send("/admin/webhooks/remove", id=webhook_id)).status == 404


async def test_the_log_shows_each_attempt_and_how_a_webhook_stands(admin: Browser) -> None:
    webhook_id = await add(admin)
    assert "Nothing yet." in (await admin.read(f"/admin/webhooks?log={webhook_id}")).text

    def tried(db: sqlite_utils.Database) -> None:
        failed = Attempt(NOW - 60, None, "receiver.test <i>cannot</i> be reached over https.")
        waits = Delivery("msg_waits", webhook_id, "release.added", b"{}", NOW - 60, (), NOW, None)
        webhooks.insert_delivery(db, waits)
        webhooks.note_attempt(db, waits, failed, NOW + 60)
        taken = Delivery("msg_taken", webhook_id, "webhook.test", b"{}", NOW, (Attempt(NOW, 204, None),), None, NOW)
        webhooks.insert_delivery(db, taken)

    await admin.node.services.database.write(tried)
    page = (await admin.read(f"/admin/webhooks?log={webhook_id}")).text
    for said in ("fails", "waiting", "delivered", "taken (204)", "receiver.test <i>cannot</i> be reached over https."):
        assert said in page

    await admin.node.services.database.write(lambda db: webhooks.disable(db, webhook_id, "nothing was taken"))
    page = (await admin.read(f"/admin/webhooks?log={webhook_id}")).text
    assert "disabled" in page and "given up" in page


async def test_an_unknown_log_is_the_page_without_one(admin: Browser) -> None:
    await add(admin)

    assert "was told" not in (await admin.read("/admin/webhooks?log=ZZZZZZZZ")).text


async def test_who_only_reads_is_offered_no_change(node: WebNode, admin: Browser) -> None:
    webhook_id = await add(admin)
    reader = Browser(node)
    await reader.sign_in(await node.make_key(scopes=["read"]))

    page = await reader.read("/admin/webhooks")

    assert not [form for form in page.forms if "webhooks" in form]
    assert (await reader.send("/admin/webhooks/remove", id=webhook_id)).status == 403
    clerk = Browser(node)
    await clerk.sign_in(await node.make_key(scopes=["sources"]))
    assert (await clerk.open("/admin/webhooks")).status == 403


async def test_no_form_is_offered_where_there_are_as_many_as_there_may_be(
    admin: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(admin)
    monkeypatch.setattr(webhooks, "WEBHOOKS_MAX", 1)

    page = await admin.read("/admin/webhooks")

    assert "There are 1 already" in page.text and "/admin/webhooks" not in page.forms
