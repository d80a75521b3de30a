"""API keys: made with the master key, kept as hashes, limited in scope and time."""

import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pfn_node.store import registry
from pfn_node.web import auth
from pfn_node.web.auth import SCOPES, bearer, hash_secret, mint, parse_key
from tests.node.web_node import MASTER_KEY, NOW, WebNode, restarted, web_node

DAY = 86_400


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        yield made


async def test_a_new_key_has_the_shape_of_the_original_and_all_scopes_for_90_days(node: WebNode) -> None:
    got = await node.post("/federation/create-admin-key", {"description": "Admin Console Access"}, key=MASTER_KEY)

    made = got.json
    assert got.status == 200
    assert made["key"].startswith(f"fadmin_{made['id']}_")
    assert made["description"] == "Admin Console Access"
    assert made["created"] == NOW * 1000
    assert made["scopes"] == list(SCOPES)
    assert made["expires"] == NOW + 90 * DAY


async def test_a_key_is_made_without_any_field(node: WebNode) -> None:
    got = await node.post("/federation/create-admin-key", {}, key=MASTER_KEY)

    assert got.status == 200 and got.json["description"] is None


async def test_only_a_hash_of_the_secret_is_kept_and_keys_are_listed_without_it(node: WebNode, tmp_path: Path) -> None:
    key = await node.make_key(description="second")

    listed = await node.read("/federation/keys")

    secret = key.rpartition("_")[2]
    stored = everything_in(tmp_path)
    assert secret.encode() not in listed.body and secret.encode() not in stored
    assert hash_secret(secret) in stored
    rows = listed.json["keys"]
    assert {row["description"] for row in rows} == {"test", "second"}
    assert {row["created"] for row in rows} == {NOW * 1000}


def everything_in(folder: Path) -> bytes:
    """What the database's files hold, the log included."""
    return b"".join(path.read_bytes() for path in folder.glob("node.db*"))


async def test_without_a_master_key_nobody_makes_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PFN_MASTER_KEY", raising=False)
    async with web_node(tmp_path, master_key=None) as node:
        for key in ("", "anything", MASTER_KEY):
            got = await node.post("/federation/create-admin-key", {"description": "anyone"}, key=key)

            assert got.status == 403
            assert "PFN_MASTER_KEY" in got.sentence


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer nope", "Basic bm9wZQ==", f"Token {MASTER_KEY}"])
async def test_a_wrong_master_key_is_401(node: WebNode, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}

    got = await node.call("POST", "/federation/create-admin-key", json={}, headers=headers)

    assert got.status == 401
    assert got.headers["WWW-Authenticate"].startswith("Bearer")
    assert got.sentence


async def test_the_master_key_is_no_api_key_and_an_api_key_makes_none(node: WebNode) -> None:
    assert (await node.read("/federation/keys", key=MASTER_KEY)).status == 401
    assert (await node.post("/federation/create-admin-key", {})).status == 401


async def test_the_scheme_is_read_in_any_case(node: WebNode) -> None:
    for scheme in ("bearer", "BEARER", "Bearer  "):
        got = await node.get("/federation/keys", headers={"Authorization": f"{scheme} {node.key}"})

        assert got.status == 200


async def test_a_key_without_the_scope_is_403_and_says_which_is_needed(node: WebNode) -> None:
    reader = await node.make_key(scopes=["read"])

    refused = await node.post("/federation/add-source", {}, key=reader)
    allowed = await node.read("/federation/activity", key=reader)

    assert refused.status == 403
    assert "'sources'" in refused.sentence
    assert refused.json["details"] == {"needed": "sources", "scopes": ["read"]}
    assert allowed.status == 200


async def test_a_key_ends_with_its_time(node: WebNode) -> None:
    key = await node.make_key(expires_in_days=1)
    node.services.now = lambda: float(NOW + DAY)
    later = restarted(node)

    assert (await later.read("/federation/keys", key=key)).status == 401
    assert (await later.read("/federation/keys")).status == 200


async def test_a_revoked_key_is_worthless_at_once(node: WebNode) -> None:
    key = await node.make_key()
    key_id = key.split("_")[1]

    assert (await node.post("/federation/revoke-key", {"id": key_id})).json["success"] is True
    assert (await node.post("/federation/revoke-key", {"id": key_id})).status == 200
    assert (await node.read("/federation/keys", key=key)).status == 401
    assert (await node.post("/federation/rotate-key", {"id": key_id})).status == 409
    assert (await node.post("/federation/revoke-key", {"id": "unknown0"})).status == 404


async def test_a_rotated_key_overlaps_with_its_successor_for_a_day_at_most(node: WebNode) -> None:
    key = await node.make_key(scopes=["keys", "read"], description="rotating")
    body = {"id": key.split("_")[1]}

    new = (await node.post("/federation/rotate-key", body, key=key)).json

    assert (new["scopes"], new["description"]) == (["read", "keys"], "rotating")
    assert (await node.read("/federation/keys", key=key)).status == 200
    assert (await node.read("/federation/keys", key=new["key"])).status == 200
    node.services.now = lambda: float(NOW + DAY)
    later = restarted(node)
    assert (await later.read("/federation/keys", key=key)).status == 401
    assert (await later.read("/federation/keys", key=new["key"])).status == 200


async def test_the_successor_of_a_rotated_key_goes_on_with_its_subscriptions(node: WebNode) -> None:
    await node.add_bilbo()
    await node.post("/federation/subscribe", {"sourceId": "bilbo@publisher.test"})

    new = (await node.post("/federation/rotate-key", {"id": node.key.split("_")[1]})).json

    (row,) = (await node.read("/federation/subscriptions", key=new["key"])).json["subscriptions"]
    assert row["subscriber"] == new["id"]
    assert (await node.read("/federation/subscriptions")).json["subscriptions"] == []
    assert (await node.post("/federation/unsubscribe", {"sourceId": row["source_id"]}, key=new["key"])).status == 200


async def test_nobody_gets_more_rights_by_rotating_the_key_of_another(node: WebNode) -> None:
    clerk = await node.make_key(scopes=["keys", "read"])

    refused = await node.post("/federation/rotate-key", {"id": node.key.split("_")[1]}, key=clerk)
    own = await node.post("/federation/rotate-key", {"id": clerk.split("_")[1]}, key=clerk)
    by_the_mightier = await node.post("/federation/rotate-key", {"id": clerk.split("_")[1]})

    assert refused.status == 403 and "may do more" in refused.sentence
    assert own.status == by_the_mightier.status == 200
    assert len((await node.read("/federation/keys")).json["keys"]) == 4


async def test_a_key_makes_only_so_many_calls_a_minute_from_wherever(tmp_path: Path) -> None:
    async with web_node(tmp_path, key_requests_per_minute=5) as node:
        other = await node.make_key()

        async def asked(key: str, number: int) -> int:
            abroad: dict[str, Any] = {"scope_base": {"client": (f"203.0.113.{number}", 1)}}
            got = await node.read("/federation/subscriptions", key=key, **abroad)
            assert got.status == 200 or int(got.headers["Retry-After"]) == 12
            return got.status

        assert [await asked(node.key, number) for number in range(6)] == [200] * 5 + [429]
        assert await asked(other, 1) == 200
        assert (await node.read("/federation/subscriptions")).status == 200, "loopback is exempt"


async def test_how_many_wrong_keys_are_borne_is_a_setting(tmp_path: Path) -> None:
    async with web_node(tmp_path, auth_failures_per_minute=2) as node:
        abroad: dict[str, Any] = {"scope_base": {"client": ("203.0.113.5", 1)}}
        statuses = [(await node.read("/federation/keys", key="no", **abroad)).status for _ in range(3)]

        assert statuses == [401, 401, 429]


async def test_an_unknown_id_takes_the_way_of_a_known_one(node: WebNode, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    digest = hmac.compare_digest

    def watched(a: Any, b: Any) -> bool:
        if isinstance(a, bytes):
            compared.append((len(a), len(b)))
        return digest(a, b)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    unknown = mint().text
    key_id, secret = node.key.split("_")[1], mint().text.split("_")[2][:43]
    known = f"fadmin_{key_id}_{secret}{auth._checksum(key_id, secret)}"

    for key in (unknown, known):
        assert (await node.read("/federation/keys", key=key)).status == 401

    assert compared == [(32, 32), (32, 32)]


async def test_ten_wrong_keys_in_a_minute_close_the_door_for_the_right_one_too(node: WebNode) -> None:
    abroad: dict[str, Any] = {"scope_base": {"client": ("203.0.113.5", 1)}}
    wrong = mint().text
    refused = [await node.read("/federation/keys", key=wrong, **abroad) for _ in range(10)]
    right = await node.read("/federation/keys", **abroad)
    master = await node.post("/federation/create-admin-key", {}, key=MASTER_KEY, **abroad)
    elsewhere = await node.read("/federation/keys")
    activity = await node.read("/federation/activity?type=security")

    assert {got.status for got in refused} == {401}
    assert right.status == master.status == 429 and right.sentence
    assert int(right.headers["Retry-After"]) >= 1
    assert elsewhere.status == 200
    assert "203.0.113.5" in activity.json["activities"][0]["message"]


async def test_wrong_master_keys_count_too(node: WebNode) -> None:
    abroad: dict[str, Any] = {"scope_base": {"client": ("203.0.113.5", 1)}}
    statuses = [(await node.post("/federation/create-admin-key", {}, key="no", **abroad)).status for _ in range(11)]

    assert statuses == [401] * 10 + [429]


async def test_a_bad_key_on_an_open_call_counts_as_none(node: WebNode) -> None:
    assert (await node.read("/federation/sources", key="nope")).status == 200
    assert (await node.read("/federation/download?sourceId=a@b&plugin=c", key="nope")).status == 404


async def test_the_last_use_is_noted_once_an_hour(node: WebNode) -> None:
    await node.read("/federation/keys")
    await node.read("/federation/keys")

    key_id = node.key.split("_")[1]
    found = await node.services.database.read(lambda db: registry.find_key(db, key_id))
    assert found is not None and found[0].last_used == NOW


def test_a_key_with_a_typing_error_is_seen_without_the_store() -> None:
    text = mint().text
    assert parse_key(text) is not None
    for position in (8, 20, len(text) - 1):
        changed = "0" if text[position] != "0" else "1"
        assert parse_key(text[:position] + changed + text[position + 1 :]) is None
    assert parse_key("fadmin_0123456789abcdef0123456789abcdef") is None


def test_only_bearer_headers_of_sane_length_are_read() -> None:
    assert bearer("Bearer x") == "x"
    assert bearer(None) is bearer("Bearer ") is bearer("Bearer " + "x" * 2000) is None
