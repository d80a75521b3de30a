"""Subscriptions and activity over HTTP: the original's shapes, and its faults kept out."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pfn_node.sources.outcomes import AuthorInfo, NotVerified, PublisherFailed, SyncResult
from pfn_node.store import registry
from pfn_node.store.rows import Filters
from pfn_protocol.identity import public_key_pem
from tests.node.web_node import BILBO, NOW, PUBLISHER, SOURCE_COLUMNS, WebNode, web_node

PEM = public_key_pem(PUBLISHER.public)
ACTIVITY_ROW = (
    "type",
    "plugin_id",
    "source_id",
    "old_version",
    "new_version",
    "timestamp",
    "plugin_name",
    "source_username",
)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


async def record(node: WebNode, count: int, *, type: str = "version_update", **fields: Any) -> None:
    def write(db: Any) -> None:
        for number in range(count):
            given = {"source_id": BILBO, "plugin_id": "hello-signal", "plugin_name": "Hello Signal"} | fields
            registry.record_activity(db, type, f"message {number}", at=NOW + number, new_version=f"1.{number}", **given)

    await node.services.database.write(write)


async def test_subscribing_answers_like_the_original(node: WebNode) -> None:
    await node.add_bilbo()

    got = await node.post("/federation/subscribe", {"sourceId": BILBO, "filters": {"tags": ["utilities"], "new": 1}})

    assert got.status == 200
    assert got.json["message"] == "Subscription created and initial sync completed"
    assert tuple(got.json["source"]) == SOURCE_COLUMNS
    result = got.json["syncResult"]
    assert (result["success"], result["mirroredCount"], result["totalPlugins"]) == (True, 4, 4)
    assert result["authorInfo"] == {
        "username": "bilbo",
        "memberSince": "2024-10-30",
        "website": "https://b.test",
        "github": None,
        "twitter": None,
    }


async def test_the_subscriber_is_the_key_itself_whatever_a_header_says(node: WebNode) -> None:
    await node.add_bilbo()

    await node.post("/federation/subscribe", {"sourceId": BILBO, "filters": None}, headers={"X-User": "somebody"})

    assert node.sources.synced == [(BILBO, node.key.split("_")[1], Filters())]


async def test_nothing_mirrored_is_no_success_and_says_what_was_skipped_and_why(node: WebNode) -> None:
    await node.add_bilbo()
    node.sources.sync = SyncResult(False, False, 0, 4, (("hello-signal", "HTTP 404"),), AuthorInfo())

    got = await node.post("/federation/subscribe", {"sourceId": BILBO})

    assert got.status == 200 and got.json["success"] is False
    assert "none of 4" in got.json["message"]
    assert got.json["syncResult"]["skipped"] == [{"slug": "hello-signal", "reason": "HTTP 404"}]


async def test_a_sync_that_goes_on_says_so(node: WebNode) -> None:
    await node.add_bilbo()
    node.sources.sync = SyncResult(True, True, 1, 900)

    got = await node.post("/federation/subscribe", {"sourceId": BILBO})

    assert got.json["syncResult"]["running"] is True and "goes on" in got.json["message"]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (NotVerified(f"{BILBO} has not proved its key"), 422),
        (PublisherFailed("author-data is HTTP 404"), 502),
    ],
)
async def test_a_failed_subscribe_keeps_no_row(node: WebNode, failure: Exception, status: int) -> None:
    await node.add_bilbo()
    node.sources.failure = failure

    got = await node.post("/federation/subscribe", {"sourceId": BILBO})

    assert got.status == status and got.sentence
    assert (await node.read("/federation/subscriptions")).json == {"subscriptions": []}


async def test_subscriptions_are_those_of_the_key_and_end_with_unsubscribe(node: WebNode) -> None:
    await node.add_bilbo()
    await node.post("/federation/subscribe", {"sourceId": BILBO, "filters": {"exclude": ["x"]}})
    other = await node.make_key()

    mine = (await node.read("/federation/subscriptions")).json["subscriptions"]
    theirs = (await node.read("/federation/subscriptions", key=other)).json["subscriptions"]
    ended = await node.post("/federation/unsubscribe", {"sourceId": BILBO})
    again = await node.post("/federation/unsubscribe", {"sourceId": BILBO})

    assert mine[0]["filters"] == {"tags": [], "slugs": [], "exclude": ["x"]} and theirs == []
    assert ended.json["success"] is True
    assert again.status == 404 and again.sentence


async def test_activity_has_the_fields_of_the_original_and_no_row_twice(node: WebNode) -> None:
    await node.add_bilbo()
    await node.post("/federation/subscribe", {"sourceId": BILBO})
    await node.post("/federation/subscribe", {"sourceId": BILBO})
    await record(node, 2)

    got = (await node.read("/federation/activity?type=version_update")).json

    assert got["total"] == len(got["activities"]) == 2
    assert tuple(got["activities"][0])[: len(ACTIVITY_ROW)] == ACTIVITY_ROW
    assert [row["new_version"] for row in got["activities"]] == ["1.1", "1.0"]
    assert got["activities"][0]["source_username"] == "bilbo"


async def test_limit_offset_and_since_of_the_activity_are_kept(node: WebNode) -> None:
    await record(node, 5)

    async def versions(query: str) -> list[str]:
        rows = (await node.read(f"/federation/activity?type=version_update&{query}")).json["activities"]
        return [row["new_version"] for row in rows]

    assert await versions("limit=2") == ["1.4", "1.3"]
    assert await versions("limit=2&offset=1") == ["1.3", "1.2"]
    assert await versions(f"since={NOW + 3}") == ["1.4", "1.3"]
    for wrong in ("limit=101", "limit=0", "since=-1", "type=nonsense", f"since={2**60}"):
        assert (await node.read(f"/federation/activity?{wrong}")).status == 400
