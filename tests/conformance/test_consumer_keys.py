"""Hostile clients: keys that are made up, ended, or of the wrong scope."""

import zlib
from secrets import choice

import pytest

from tests.conformance.hostile_publisher import Publisher, register
from tests.conformance.node_process import Node, bearer

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
WRONG: dict[str, str] = {
    "a word": "secret",
    "an unknown id": "fadmin_AAAAAAAA_" + "A" * 49,
    "nothing behind its name": "fadmin_",
    "SQL": "fadmin_' OR 1=1 --_x",
    "ten thousand characters": "fadmin_" + "A" * 10_000,
    "what is not ASCII": "fadmin_\xff\xfe",
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_key_opens_nothing_that_is(node: Node, kind: str) -> None:
    answered = node.get("keys", key=WRONG[kind])

    assert answered.status in (400, 401, 431)
    assert b'"keys"' not in answered.body


def test_a_key_with_its_last_character_changed_opens_nothing(node: Node) -> None:
    last = "a" if node.key[-1] != "a" else "b"

    assert node.get("keys", key=node.key[:-1] + last).status == 401


def test_a_key_with_another_key_s_id_opens_nothing(node: Node) -> None:
    other = node.make_key()["key"]
    mixed = "_".join([*other.split("_")[:2], node.key.split("_")[2]])

    assert node.get("keys", key=mixed).status == 401


def test_a_guessed_secret_under_a_true_id_opens_nothing(node: Node) -> None:
    """Its checksum is right, as scanners for secrets read it: only the secret itself is wrong."""
    name = node.make_key()["id"]
    secret = "".join(choice(BASE62) for _ in range(43))
    number, checksum = zlib.crc32(f"{name}_{secret}".encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        checksum = BASE62[digit] + checksum

    assert node.get("keys", key=f"fadmin_{name}_{secret}{checksum}").status == 401


def test_a_key_in_the_query_or_the_body_opens_nothing(node: Node) -> None:
    assert node.get("keys", access_token=node.key, authorization=f"Bearer {node.key}").status == 401
    assert node.post("revoke-key", {"id": "AAAAAAAA", "authorization": node.key}, key="").status == 401


@pytest.mark.parametrize("scheme", ["Basic", "Token", "bearer bearer", ""])
def test_a_key_under_another_scheme_opens_nothing(node: Node, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {node.key}".strip()}

    assert node.ask("GET", "/federation/keys", headers=headers).status == 401


def test_a_revoked_key_opens_nothing(node: Node) -> None:
    made = node.make_key()
    assert node.get("keys", key=made["key"]).status == 200
    node.post("revoke-key", {"id": made["id"]})

    assert node.get("keys", key=made["key"]).status == 401


def test_a_rotated_key_ends_when_it_was_told_to(node: Node) -> None:
    made = node.make_key()
    successor = node.post("rotate-key", {"id": made["id"], "overlap_hours": 0}).json["key"]

    assert node.get("keys", key=made["key"]).status == 401
    assert node.get("keys", key=successor).status == 200


def test_a_revoked_key_has_no_successor(node: Node) -> None:
    made = node.make_key()
    node.post("revoke-key", {"id": made["id"]})

    assert node.post("rotate-key", {"id": made["id"]}).status == 409


def test_a_key_cannot_be_made_with_a_key(node: Node) -> None:
    answered = node.post("create-admin-key", {"description": "more"})

    assert answered.status == 401


def test_a_key_cannot_be_made_without_a_key(node: Node) -> None:
    for key in ("", "m" * 40, node.master_key[:-1], node.master_key + "x", node.master_key.upper()):
        assert node.post("create-admin-key", {}, key=key).status == 401


CALLS: dict[str, list[tuple[str, str, dict[str, object]]]] = {
    "sources": [
        ("POST", "add-source", {"instance_url": "http://127.0.0.1:9", "username": "x", "public_key": "A" * 43 + "="}),
        ("POST", "remove-source", {"sourceId": "a@b.example"}),
        ("POST", "update-source", {"sourceId": "a@b.example"}),
        ("POST", "verify-source", {"sourceId": "a@b.example"}),
    ],
    "peers": [("POST", "peers", {"action": "join", "url": "http://127.0.0.1:9"})],
    "keys": [
        ("GET", "keys", {}),
        ("POST", "revoke-key", {"id": "AAAAAAAA"}),
        ("POST", "rotate-key", {"id": "AAAAAAAA"}),
    ],
    "subscribe": [
        ("POST", "subscribe", {"sourceId": "a@b.example"}),
        ("POST", "unsubscribe", {"sourceId": "a@b.example"}),
    ],
    "read": [("GET", "activity", {}), ("GET", "events", {})],
}
SCOPES = ["sources", "subscribe", "read", "peers", "keys", "advisories"]


@pytest.mark.parametrize("scope", CALLS)
def test_a_key_with_all_other_scopes_may_not_do_what_needs(node: Node, scope: str) -> None:
    key = node.make_key(scopes=[one for one in SCOPES if one != scope])["key"]

    for method, call, body in CALLS[scope]:
        answered = node.get(call, key=key) if method == "GET" else node.post(call, body, key=key)
        assert answered.status == 403, call


@pytest.mark.parametrize("scope", CALLS)
def test_nobody_without_a_key_may_do_what_needs(node: Node, scope: str) -> None:
    for method, call, body in CALLS[scope]:
        answered = node.get(call) if method == "GET" else node.post(call, body, key="")
        assert answered.status == 401, call
        assert answered.headers["www-authenticate"].startswith("Bearer")


def test_a_key_with_no_scope_or_an_invented_one_is_not_made(node: Node) -> None:
    for scopes in ([], ["root"], ["sources", "root"], "sources", [["sources"]]):
        made = node.post("create-admin-key", {"scopes": scopes}, key=node.master_key)
        assert made.status == 400, scopes


def test_a_key_that_never_ends_is_not_made(node: Node) -> None:
    for days in (0, -1, 10**9, 1.5, "forever"):
        assert node.post("create-admin-key", {"expires_in_days": days}, key=node.master_key).status == 400, days


def test_a_subscription_belongs_to_the_key_and_to_nobody_s_word(node: Node, publisher: Publisher) -> None:
    """The original believed a header: X-User."""
    register(node, publisher)
    victim, thief = node.make_key(), node.make_key()
    node.post("subscribe", {"sourceId": publisher.source}, key=victim["key"])

    headers = bearer(thief["key"]) | {"X-User": victim["id"], "X-User-Id": victim["id"]}
    seen = node.ask("GET", "/federation/subscriptions", headers=headers)
    body = f'{{"sourceId": "{publisher.source}", "subscriber": "{victim["id"]}"}}'.encode()
    node.ask("POST", "/federation/unsubscribe", headers=headers, body=body)

    assert seen.json["subscriptions"] == []
    kept = node.get("subscriptions", key=victim["key"]).json["subscriptions"]
    assert [row["subscriber"] for row in kept] == [victim["id"]]


def test_a_list_of_keys_shows_no_secret(node: Node) -> None:
    made = node.make_key()

    listed = node.get("keys", key=node.key).body.decode()

    assert made["id"] in listed
    assert made["key"].split("_")[2] not in listed


def test_a_secret_is_in_no_file_and_no_log(node: Node) -> None:
    made = node.make_key()
    node.get("keys", key=made["key"])
    node.get("keys", key=made["key"][:-1] + "!")
    secrets = [text.split("_")[2][:40].encode() for text in (made["key"], node.key)] + [node.master_key.encode()]

    files = [file for file in node.folder.rglob("*") if file.is_file()] + [node.log]

    found = [file.name for file in files for secret in secrets if secret in file.read_bytes()]
    assert found == []


def test_the_node_s_own_key_is_readable_by_its_user_alone(node: Node) -> None:
    loose = [file for file in node.folder.rglob("*.key") if file.stat().st_mode & 0o077]

    assert loose == []
