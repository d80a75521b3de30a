"""A hostile publisher claims a key: no proof, a stolen one, or one that it would give to anybody."""

from collections.abc import Iterable

import pytest

from pfn_protocol.identity import public_key_pem
from tests.conformance.hostile_publisher import (
    HONEST_SLUG,
    Publisher,
    new_key,
    register,
    subscribe,
    try_to_subscribe,
    verify,
)
from tests.conformance.hostile_server import RESET, Asked, Script, always, answer, as_json, redirect
from tests.conformance.node_process import Node, b64


def assert_unproved(node: Node, publisher: Publisher) -> None:
    """It is not verified, nothing of it can be subscribed to, and the score stays where it was."""
    said = verify(node, publisher)
    assert (said["success"], said["status"] == "verified") == (False, False)
    assert try_to_subscribe(node, publisher).status in (422, 502)
    assert node.rows(publisher.source) == {}
    assert node.get("source-status", sourceId=publisher.source).json["verifications"][0]["result"] == "failure"


def signs(publisher: Publisher, message: bytes) -> Script:
    return lambda asked: [as_json({"signature": b64(publisher.key.sign(message))})]


def test_a_signature_by_another_key_proves_nothing(node: Node, publisher: Publisher) -> None:
    register(node, publisher, key=new_key())

    assert_unproved(node, publisher)


def test_a_signature_over_another_challenge_proves_nothing(node: Node, publisher: Publisher) -> None:
    publisher.answers["/verify-ownership"] = signs(publisher, b"00000000-0000-4000-8000-000000000000")

    assert_unproved(node, publisher)


def test_a_signature_over_the_challenge_in_capitals_proves_nothing(node: Node, publisher: Publisher) -> None:
    def prove(asked: Asked) -> Iterable[bytes]:
        return signs(publisher, str(asked.json["challenge"]).upper().encode())(asked)

    publisher.answers["/verify-ownership"] = prove

    assert_unproved(node, publisher)


def test_a_recorded_proof_is_not_taken_again(node: Node, publisher: Publisher) -> None:
    recorded: list[bytes] = []

    def replay(asked: Asked) -> Iterable[bytes]:
        recorded.extend(publisher.prove(asked))
        return recorded[:1]

    publisher.answers["/verify-ownership"] = replay
    assert verify(node, publisher)["success"]

    assert verify(node, publisher)["success"] is False


@pytest.mark.parametrize(
    ("garbage", "raw"),
    [
        ("64 zero bytes", as_json({"signature": b64(bytes(64))})),
        ("63 bytes", as_json({"signature": b64(bytes(63))})),
        ("no base64", as_json({"signature": "*" * 88})),
        ("a number", as_json({"signature": 7})),
        ("a list", answer(200, '["signature"]')),
        ("no JSON", answer(200, "signature", "text/plain")),
        ("an empty answer", answer(200, "")),
        ("nested without end", answer(200, "[" * 16_000)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_garbage_for_a_signature_proves_nothing(node: Node, publisher: Publisher, garbage: str, raw: bytes) -> None:
    publisher.answers["/verify-ownership"] = always(raw)

    assert_unproved(node, publisher)
    assert node.is_well()


def test_a_signature_with_the_order_added_to_its_s_proves_nothing(node: Node, publisher: Publisher) -> None:
    """The second form of a valid signature, that verifiers without the check of RFC 8032 take."""
    order = 2**252 + 27742317777372353535851937790883648493

    def prove(asked: Asked) -> Iterable[bytes]:
        signature = publisher.key.sign(str(asked.json["challenge"]).encode())
        s = int.from_bytes(signature[32:], "little") + order
        return [as_json({"signature": b64(signature[:32] + s.to_bytes(32, "little"))})]

    publisher.answers["/verify-ownership"] = prove

    assert_unproved(node, publisher)


def test_a_proof_that_lies_behind_a_redirect_is_not_followed(node: Node, publisher: Publisher) -> None:
    with Publisher(key=publisher.key) as other:
        publisher.answers["/verify-ownership"] = redirect(f"{other.url}/verify-ownership", 307)

        assert_unproved(node, publisher)
        assert other.connections == 0


def test_a_publisher_that_resets_the_connection_is_down_and_not_trusted(node: Node, publisher: Publisher) -> None:
    publisher.answers["/verify-ownership"] = always(RESET)

    assert_unproved(node, publisher)


def test_a_publisher_that_is_refused_everything_says_so_in_200(node: Node, publisher: Publisher) -> None:
    publisher.answers["/verify-ownership"] = always(answer(500, '{"stack": "at /srv/app.js:1"}'))

    register(node, publisher)

    answered = node.post("verify-source", {"sourceId": publisher.source})

    assert (answered.status, answered.json["success"]) == (200, False)
    assert "app.js" not in answered.body.decode()


def test_a_relayed_proof_makes_a_conflict_of_both_addresses(node: Node, publisher: Publisher) -> None:
    """A thief without the key passes the challenge on to the owner (mafia fraud)."""
    assert verify(node, publisher)["success"]
    with Publisher(key=publisher.key) as thief:
        thief.answers["/verify-ownership"] = publisher.prove
        register(node, thief)
        verify(node, thief)

        assert node.get("source-status", sourceId=thief.source).json["status"] == "conflict"
        assert node.get("source-status", sourceId=publisher.source).json["status"] == "conflict"
        assert node.post("subscribe", {"sourceId": thief.source}).status == 422
        scores = [node.get("source-status", sourceId=one.source).json["trust_score"] for one in (publisher, thief)]
        assert max(scores) <= 0.5


def test_the_challenge_is_a_fresh_uuid_and_nothing_else(node: Node, publisher: Publisher) -> None:
    verify(node, publisher)
    verify(node, publisher)

    asked = [one.json["challenge"] for one in publisher.asked if one.path == "/verify-ownership"]
    uuids = [text for text in asked if isinstance(text, str) and len(text) == 36]
    assert len(set(uuids)) == len(uuids) >= 2
    assert all(text == text.lower() and text[14] == "4" and text[19] in "89ab" for text in uuids)


@pytest.mark.parametrize(("hand", "oracle"), [("prove", "none"), ("prove_anything", "utf8"), ("prove_bytes", "raw")])
def test_what_a_publisher_signs_for_anybody_is_found_out(
    node: Node, publisher: Publisher, hand: str, oracle: str
) -> None:
    publisher.answers["/verify-ownership"] = getattr(publisher, hand)

    assert verify(node, publisher)["success"]

    assert node.get("source-status", sourceId=publisher.source).json["oracle"] == oracle


def test_the_oracle_probe_asks_for_nothing_that_could_be_of_use_to_anybody(node: Node, publisher: Publisher) -> None:
    publisher.answers["/verify-ownership"] = publisher.prove_bytes
    verify(node, publisher)

    asked = [one.json["challenge"] for one in publisher.asked if one.path == "/verify-ownership"]
    raw = [bytes(one) for one in asked if isinstance(one, list)]
    assert raw and all(not one.startswith(b"\xffPFN") for one in raw)
    assert not any(isinstance(one, str) and one.lstrip().startswith("{") for one in asked)


def test_what_the_publisher_says_of_its_own_key_and_address_is_not_read(node: Node, publisher: Publisher) -> None:
    other = new_key()
    publisher.answers["/federation-info"] = always(
        as_json({"publicKey": public_key_pem(other.public), "nodeUrl": "https://elsewhere.example", "nodeId": "x"})
    )

    assert verify(node, publisher)["success"]

    row = node.get("sources", q=publisher.source).json[0]
    assert row["public_key"] == public_key_pem(publisher.key.public)
    assert row["instance_url"] == publisher.url


def test_a_changed_key_has_to_be_proved_before_anything_is_fetched(node: Node, publisher: Publisher) -> None:
    assert subscribe(node, publisher)["mirroredCount"] == 1
    node.post("update-source", {"sourceId": publisher.source, "public_key": public_key_pem(new_key().public)})

    assert try_to_subscribe(node, publisher).status == 422
    assert node.download(publisher.source, HONEST_SLUG).status == 200  # what was mirrored stays


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("the neutral element", b64(bytes([1]) + bytes(31))),
        ("order two", b64(bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"))),
        ("order four", b64(bytes(32))),
        ("order eight", b64(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"))),
        ("not canonical", b64(bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"))),
        ("31 bytes", b64(bytes([7]) * 31)),
        ("another algorithm", "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYI\n-----END PUBLIC KEY-----"),
    ],
    ids=lambda value: value if " " in value and "\n" not in value else "",
)
def test_a_key_for_which_signatures_mean_nothing_is_not_registered(node: Node, kind: str, key: str) -> None:
    body = {"instance_url": "http://127.0.0.1:9", "username": "weak", "public_key": key}

    assert node.post("add-source", body).status in (400, 403)
    assert node.get("source-status", sourceId="weak@127.0.0.1:9").json["exists"] is False
