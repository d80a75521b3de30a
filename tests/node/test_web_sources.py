"""Sources over HTTP: the original's shapes, and its faults kept out."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pfn_node.sources.outcomes import VerificationOutcome
from pfn_node.store import announcements, peers, registry
from pfn_node.store.rows import Filters, HealthCheck
from pfn_protocol.acceptance import announce
from pfn_protocol.announcements import SourceStatement
from pfn_protocol.identity import public_key_pem
from tests.node.web_node import BILBO, NOW, PUBLISHER, SOURCE_COLUMNS, STRANGER, URL, WebNode, restarted, web_node

PEM = public_key_pem(PUBLISHER.public)
# In the original's order of columns, as recorded of it.
ORIGINAL_ROW = (
    *SOURCE_COLUMNS,
    "subscriber_count",
    "plugin_count",
    "last_verification_result",
    "successful_verifications",
)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


def body(**fields: Any) -> dict[str, Any]:
    return {"instance_url": URL, "username": "bilbo", "public_key": PEM} | fields


async def test_adding_a_source_answers_like_the_original(node: WebNode) -> None:
    got = await node.post("/federation/add-source", body())

    assert got.status == 200
    assert got.headers["Content-Type"] == "application/json"
    assert got.json == {
        "success": True,
        "source_id": BILBO,
        "status": "pending",
        "message": "Source added successfully, pending verification",
    }


async def test_a_row_of_sources_has_the_columns_of_the_original_first(node: WebNode) -> None:
    await node.post("/federation/add-source", body())

    rows = (await node.get("/federation/sources")).json

    assert tuple(rows[0])[: len(ORIGINAL_ROW)] == ORIGINAL_ROW
    assert rows[0]["public_key"] == PEM
    assert (rows[0]["created_at"], rows[0]["last_sync"]) == (NOW, None)
    assert (rows[0]["subscriber_count"], rows[0]["plugin_count"], rows[0]["successful_verifications"]) == (0, 0, 0)
    assert {"response_time_avg", "trust", "health", "oracle", "key_known"} <= set(rows[0])


async def test_a_raw_base64_key_a_trailing_slash_and_a_quote_in_the_name_are_fine(node: WebNode) -> None:
    import base64

    key = base64.b64encode(PUBLISHER.public).decode()
    got = await node.post("/federation/add-source", body(instance_url=URL + "/", username="o'brien", public_key=key))
    verified = await node.post("/federation/verify-source", {"sourceId": "o'brien@publisher.test"})

    assert got.status == 200 and got.json["source_id"] == "o'brien@publisher.test"
    assert verified.json["success"] is True


async def test_a_port_that_is_not_the_schemes_own_makes_another_source(node: WebNode) -> None:
    for url, expected in ((URL, BILBO), (f"{URL}:8803", f"{BILBO}:8803"), (f"{URL}:8804", f"{BILBO}:8804")):
        got = await node.post("/federation/add-source", body(instance_url=url))

        assert got.json["source_id"] == expected


async def test_adding_a_source_twice_is_a_conflict(node: WebNode) -> None:
    await node.post("/federation/add-source", body())

    for again in (body(), body(instance_url=URL + "/")):
        got = await node.post("/federation/add-source", again)

        assert got.status == 409
        assert BILBO in got.sentence


@pytest.mark.parametrize(
    "key", ["-----BEGIN PUBLIC KEY-----\nzzzz\n-----END PUBLIC KEY-----", "garbage", "", "AAAA", "x" * 5000, 7, None]
)
async def test_a_garbage_public_key_is_400(node: WebNode, key: object) -> None:
    got = await node.post("/federation/add-source", body(public_key=key))

    assert got.status == 400
    assert "key" in got.sentence


async def test_a_key_that_anybody_or_nobody_could_sign_with_is_refused(node: WebNode) -> None:
    import base64

    for weak in (bytes(32), bytes([1]) + bytes(31), b"\xff" * 32):
        got = await node.post("/federation/add-source", body(public_key=base64.b64encode(weak).decode()))

        assert got.status == 403
        assert "not usable" in got.sentence
    assert (await node.get("/federation/sources")).json == []


@pytest.mark.parametrize(
    "url",
    [
        "not a url",
        "ftp://publisher.test",
        "https://u:p@publisher.test",
        URL + "?x=1",
        URL + "#x",
        "//publisher.test",
        "",
        7,
    ],
)
async def test_a_url_that_is_none_is_400(node: WebNode, url: object) -> None:
    assert (await node.post("/federation/add-source", body(instance_url=url))).sentence


@pytest.mark.parametrize("username", ["", "a b", "a/b", "a@b", "a\nb", "a\x00b", "x" * 65, None, 7])
async def test_a_username_that_cannot_be_one_is_400(node: WebNode, username: object) -> None:
    got = await node.post("/federation/add-source", body(username=username))

    assert got.status == 400 and "username" in got.sentence


async def test_missing_fields_are_named(node: WebNode) -> None:
    got = await node.post("/federation/add-source", {"instance_url": URL})

    assert got.status == 400
    assert [field["field"] for field in got.json["details"]["fields"]] == ["username", "public_key"]


async def test_unknown_fields_are_ignored(node: WebNode) -> None:
    got = await node.post("/federation/add-source", body(nodeUrl="https://evil.example", trust_score=1))

    assert got.status == 200


async def test_json_without_a_json_content_type_is_read_all_the_same(node: WebNode) -> None:
    for number, content_type in enumerate((None, "text/plain", "application/x-www-form-urlencoded")):
        headers = {} if content_type is None else {"Content-Type": content_type}
        sent = json.dumps(body(username=f"author{number}")).encode()

        assert (await node.post("/federation/add-source", data=sent, headers=headers)).status == 200


async def test_a_source_taken_over_from_the_mesh_says_so(node: WebNode) -> None:
    source = await node.add_bilbo()

    async def known(instance_url: str, username: str, public_key: str) -> tuple[Any, bool]:
        return source, False

    node.sources.add = known  # type: ignore[method-assign]
    got = await node.post("/federation/add-source", body())

    assert got.status == 200
    assert "known from other nodes" in got.json["message"]


async def test_sources_are_filtered_and_paged(node: WebNode) -> None:
    for name in ("anna", "berta", "carla"):
        await node.post("/federation/add-source", body(username=name))

    async def names(query: str) -> list[str]:
        return [row["username"] for row in (await node.get(f"/federation/sources?{query}")).json]

    assert await names("") == ["anna", "berta", "carla"]
    assert await names("limit=1&offset=1") == ["berta"]
    assert await names("q=CARL") == ["carla"]
    assert await names("status=verified") == []
    for wrong in ("limit=0", "limit=1001", "offset=-1", "limit=1_0", "limit=%D9%A1", "status=fine", "limit=", "q=%FF"):
        got = await node.get(f"/federation/sources?{wrong}")
        assert got.status == 400 and got.sentence


async def test_discovered_sources_are_listed_only_when_asked_for(node: WebNode) -> None:
    await node.add_bilbo(status="discovered", registered=False)

    assert (await node.get("/federation/sources")).json == []
    assert [row["id"] for row in (await node.get("/federation/sources?status=discovered")).json] == [BILBO]


async def test_the_status_of_a_source_tells_its_history(node: WebNode) -> None:
    await node.add_bilbo(last_sync=NOW - 60)

    def write(db: Any) -> None:
        registry.record_verification(db, BILBO, "node", "initial", "success", None, NOW)
        registry.record_health(db, HealthCheck(BILBO, True, 0.25, None, NOW))
        registry.set_subscription(db, BILBO, "somebody", Filters(), NOW)

    await node.services.database.write(write)
    got = (await node.get("/federation/source-status", query_string={"sourceId": BILBO})).json

    assert (got["exists"], got["status"], got["health"]) == (True, "verified", "up")
    assert (got["instance_url"], got["username"]) == (URL, "bilbo")
    assert (got["last_sync"], got["next_sync"]) == (NOW - 60, NOW - 60 + 3600)
    assert [row["result"] for row in got["verifications"]] == ["success"]
    assert got["failures"] == []


@pytest.mark.parametrize(("own", "shown"), [(None, "utf8"), ("none", "none")])
async def test_the_oracle_that_is_shown_is_the_one_in_force(node: WebNode, own: str | None, shown: str) -> None:
    await node.add_bilbo(oracle=own)
    said = SourceStatement(BILBO, URL, "bilbo", PUBLISHER.public, "", "", True, NOW, "utf8")

    def write(db: Any) -> None:
        peers.set_peer_policy(db, STRANGER.public, pinned=True)
        announcements.keep(db, announce(STRANGER, "main", said, 0, NOW * 1000), True, NOW)

    await node.services.database.write(write)

    assert (await node.get("/federation/source-status", query_string={"sourceId": BILBO})).json["oracle"] == shown
    assert [row["oracle"] for row in (await node.get("/federation/sources")).json] == [shown]


async def test_after_a_failure_the_next_sync_is_the_retry(node: WebNode) -> None:
    await node.add_bilbo()

    def write(db: Any) -> None:
        registry.set_subscription(db, BILBO, "somebody", Filters(), NOW)
        registry.record_failure(db, BILBO, "the publisher does not answer", NOW)

    await node.services.database.write(write)
    got = (await node.get("/federation/source-status", query_string={"source_id": BILBO})).json

    assert got["next_sync"] == NOW + 3600
    assert got["failures"][0]["error_message"] == "the publisher does not answer"


async def test_the_status_of_an_unknown_source_says_that_it_does_not_exist(node: WebNode) -> None:
    got = await node.get("/federation/source-status?sourceId=nobody@nowhere.test")

    assert got.status == 200
    assert got.json["exists"] is False and got.json["status"] is None
    assert (await node.get("/federation/source-status")).status == 400


async def test_a_source_nobody_subscribes_to_has_no_next_sync(node: WebNode) -> None:
    await node.add_bilbo()

    assert (await node.get(f"/federation/source-status?sourceId={BILBO}")).json["next_sync"] is None


async def test_verifying_says_how_it_went_also_when_the_publisher_is_down(node: WebNode) -> None:
    await node.add_bilbo()
    node.sources.outcome = VerificationOutcome(False, "error", "the publisher does not answer")

    got = await node.post("/federation/verify-source", {"sourceId": BILBO})

    assert got.status == 200
    assert got.json == {"success": False, "status": "error", "details": "the publisher does not answer"}


@pytest.mark.parametrize("call", ["verify-source", "update-source", "remove-source", "subscribe"])
async def test_an_unknown_source_is_404_whatever_the_text_of_its_id(node: WebNode, call: str) -> None:
    for source_id in ("nobody@nowhere.test", "x' OR '1'='1", "'); DROP SOURCE_COLUMNS sources; --", "\x00"):
        got = await node.post(f"/federation/{call}", {"sourceId": source_id})

        assert got.status == 404
        assert got.sentence.startswith("Source not found")
        assert got.json["details"] == {"sourceId": source_id, "sourceStatus": {"exists": False}}


async def test_update_source_needs_a_key(node: WebNode) -> None:
    await node.add_bilbo()

    got = await node.call("POST", "/federation/update-source", json={"sourceId": BILBO})

    assert got.status == 401 and got.sentence


async def test_updating_answers_with_the_columns_of_the_original(node: WebNode) -> None:
    await node.add_bilbo()

    got = await node.post("/federation/update-source", {"sourceId": BILBO, "allow_unsigned": True})

    assert got.status == 200
    assert got.json["message"] == "Source asset info updated"
    assert tuple(got.json["source"]) == SOURCE_COLUMNS


async def test_updating_from_a_dead_publisher_is_502(node: WebNode) -> None:
    await node.add_bilbo()
    node.sources.publisher_up = False

    got = await node.post("/federation/update-source", {"sourceId": BILBO})

    assert got.status == 502 and got.sentence == "The publisher does not answer."


async def test_updating_to_an_unusable_key_is_refused(node: WebNode) -> None:
    await node.add_bilbo()

    assert (
        await node.post("/federation/update-source", {"sourceId": BILBO, "public_key": "A" * 43 + "="})
    ).status == 403


async def test_removing_a_source(node: WebNode) -> None:
    await node.add_bilbo()

    got = await node.post("/federation/remove-source", {"source_id": BILBO, "purge": True})

    assert got.json == {"success": True, "message": f"{BILBO} is removed, with all of its files."}
    assert node.sources.removed == [(BILBO, True)]
    assert (await node.get("/federation/sources")).json == []


async def test_a_source_of_another_status_is_named_in_the_message(node: WebNode) -> None:
    source = await node.add_bilbo(status="conflict")

    async def added(instance_url: str, username: str, public_key: str) -> tuple[Any, bool]:
        return source, True

    node.sources.add = added  # type: ignore[method-assign]

    assert "conflict" in (await restarted(node).post("/federation/add-source", body())).json["message"]
