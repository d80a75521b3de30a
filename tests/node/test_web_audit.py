"""The audit log as the API fills and shows it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from pfn_node.store import audit
from pfn_node.web.auditing import REFUSALS_PER_MINUTE, note
from pfn_node.web.auth import mint
from pfn_protocol.identity import did_key
from tests.node.web_node import BILBO, MASTER_KEY, NOW, STRANGER, URL, WebNode, restarted, web_node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        await made.add_bilbo()
        yield made


async def audited(node: WebNode) -> list[dict[str, Any]]:
    """The entries, after the one of the key that the node was made with."""
    rows: list[dict[str, Any]] = (await node.read("/federation/audit")).json["entries"]
    assert await node.services.database.read(lambda db: audit.broken(audit.entries(db, limit=1000))) is None
    return rows[1:]


def key_id(key: str) -> str:
    return key.split("_")[1]


PIN = {"action": "pin", "node_id": did_key(STRANGER.public)}
# What changes something: the call, its body, and what the entry names as its target.
CHANGES: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("peers", PIN, did_key(STRANGER.public)),
    ("peers", PIN | {"action": "block"}, did_key(STRANGER.public)),
    ("peers", {"action": "join", "url": "https://other.test"}, did_key(STRANGER.public)),
    ("subscribe", {"sourceId": BILBO}, BILBO),
    ("verify-source", {"sourceId": BILBO}, BILBO),
    ("update-source", {"sourceId": BILBO, "allow_unsigned": True}, BILBO),
    ("remove-source", {"sourceId": BILBO}, BILBO),
)


@pytest.mark.parametrize(("call", "body", "target"), CHANGES)
async def test_what_changes_something_is_recorded_with_who_did_it_to_what(
    node: WebNode, call: str, body: dict[str, Any], target: str
) -> None:
    abroad: dict[str, Any] = {"scope_base": {"client": ("203.0.113.5", 1)}}
    got = await node.post(f"/federation/{call}", body, **abroad)
    assert got.status == 200, got.body

    (entry,) = await audited(node)
    assert (entry["actor"], entry["outcome"]) == (key_id(node.key), "done")
    assert (entry["action"], entry["target"]) == (f"POST /federation/{call}", target)
    assert (entry["address"], entry["at"]) == ("203.0.113.5", NOW)
    assert entry["details"].items() >= {name: value for name, value in body.items() if name != "sourceId"}.items()


async def test_every_call_that_changes_something_is_watched(node: WebNode) -> None:
    """A route that forgets is found here: whoever may call it with a key, it leaves an entry, also when it fails."""
    for rule in node.app.url_map.iter_rules():
        methods = (rule.methods or set()) & {"POST", "PUT", "PATCH", "DELETE"}
        open_to_all = {"/federation/verify", "/federation/releases", "/federation/notices", "/session"}
        open_to_all |= {"/composer/security-advisories", "/composer/downloads"}
        open_to_all |= {"/plugins/info/1.2/", "/plugins/update-check/1.1/"}
        # The key is a field of these forms: tests of their pages look for their entries.
        open_to_all |= {"/sign-in", "/admin/keys/new"}
        if not methods or rule.rule.startswith("/node/") or rule.rule in open_to_all:
            continue
        before = len(await audited(node))
        await node.call(
            methods.pop(),
            rule.rule,
            json={"id": "unknown0", "sourceId": "no@where", "action": "pin"},
            headers={"Authorization": f"Bearer {MASTER_KEY if 'create' in rule.rule else node.key}"},
        )
        node = restarted(node)  # refusals are few a minute

        assert len(await audited(node)) == before + 1, rule.rule


async def test_keys_leave_their_whole_life_in_it(node: WebNode) -> None:
    key = await node.make_key(scopes=["read", "keys"], description="CI")
    new = (await node.post("/federation/rotate-key", {"id": key_id(key)}, key=key)).json
    await node.post("/session", key=new["key"], headers={"Host": "localhost"})
    await node.post("/federation/revoke-key", {"id": new["id"]})

    made, rotated, began, revoked = await audited(node)
    assert (made["actor"], made["target"]) == ("master", key_id(key))
    assert made["details"] == {"description": "CI", "expires": NOW + 90 * 86_400, "scopes": ["read", "keys"]}
    assert (rotated["actor"], rotated["target"]) == (key_id(key), key_id(key))
    assert rotated["details"]["successor"] == new["id"]
    assert (began["action"], began["target"]) == ("POST /session", new["id"])
    assert revoked["target"] == new["id"] and revoked["details"]["sessions_ended"] == 1
    for secret in (MASTER_KEY, key.rpartition("_")[2], new["key"].rpartition("_")[2]):
        assert secret not in (await node.read("/federation/audit")).body.decode()


async def test_what_is_refused_is_recorded_without_what_was_sent(node: WebNode) -> None:
    await node.post("/federation/revoke-key", {"id": "unknown0"})
    await node.post("/federation/peers", PIN, key=(reader := await node.make_key(scopes=["read"])))
    node.sources.publisher_up = False
    await node.post("/federation/add-source", {"instance_url": URL, "username": "a", "public_key": "b"})

    missing, _, no_scope, failed = await audited(node)
    assert (missing["outcome"], missing["details"], missing["target"]) == ("refused", {"status": 404}, "unknown0")
    assert (no_scope["outcome"], no_scope["details"]) == ("refused", {"status": 403})
    assert no_scope["actor"] == key_id(reader)
    assert failed["outcome"] == "failed" and failed["details"]["status"] == 502


async def test_wrong_keys_are_recorded_few_a_minute_and_the_rest_counted(node: WebNode) -> None:
    wrong = mint()
    for number in range(REFUSALS_PER_MINUTE + 90):
        await node.read("/federation/keys", key=wrong.text, scope_base={"client": (f"203.0.113.{number}", 1)})
    node.services.now = lambda: float(NOW + 60)
    await node.read("/federation/keys", key="not even one")

    entries = await audited(node)
    assert len(entries) == REFUSALS_PER_MINUTE
    assert {(entry["actor"], entry["action"], entry["target"]) for entry in entries} == {("", "authenticate", wrong.id)}
    assert entries[0]["address"] == "203.0.113.0"
    later = restarted(node)
    await later.read("/federation/keys", key="not even one")
    assert (await audited(later))[-1]["target"] is None


async def test_what_was_only_counted_is_told_with_the_next_refusal(tmp_path: Path) -> None:
    async with web_node(tmp_path) as node:
        clock = [float(NOW)]
        node.services.now = lambda: clock[0]
        node = restarted(node)
        for _ in range(REFUSALS_PER_MINUTE + 7):
            await node.post("/federation/create-admin-key", {}, key="wrong")
        clock[0] += 60
        await node.post("/federation/create-admin-key", {}, key="wrong")

        assert (await audited(node))[-1]["details"] == {"not_recorded_before": 7}


async def test_a_call_whose_client_goes_is_recorded_too(node: WebNode, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = trio.Event()

    async def hang(*arguments: object, **named: object) -> None:
        begun.set()
        await trio.sleep_forever()

    monkeypatch.setattr(node.mesh, "set_policy", hang)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.post, "/federation/peers", PIN)
        await begun.wait()
        nursery.cancel_scope.cancel()

    (entry,) = await audited(node)
    assert entry["outcome"] == "cancelled" and entry["target"] == did_key(STRANGER.public)


async def test_the_log_is_read_in_pages_with_the_scope_keys(node: WebNode) -> None:
    for _ in range(4):
        await node.make_key()

    first = (await node.read("/federation/audit?limit=3")).json
    rest = (await node.read(f"/federation/audit?limit=3&after={first['next']}")).json
    reader = await node.make_key(scopes=["read"])

    assert [entry["seq"] for entry in first["entries"] + rest["entries"]] == [1, 2, 3, 4, 5]
    assert rest["next"] is None
    assert (await node.read("/federation/audit", key=reader)).status == 403
    assert (await node.get("/federation/audit")).status == 401
    assert (await node.read("/federation/audit?after=-1")).status == 400


async def test_the_head_is_shown_to_be_noted(node: WebNode) -> None:
    await node.make_key()

    shown = (await node.get("/federation/health")).json["audit"]

    last = (await node.read("/federation/audit")).json["entries"][-1]
    assert shown == {"seq": last["seq"], "hash": last["hash"]}


async def test_only_what_is_audited_can_be_noted_of(node: WebNode) -> None:
    async with node.app.app_context():
        with pytest.raises(AssertionError, match="only calls that are audited"):
            note(target="x")
