"""The fake original publisher says what the original was recorded to say."""

import base64
import json
from typing import Any

import pytest
from nacl.signing import VerifyKey

from tests.node.original_publisher import OriginalPublisher, recorded


def _author_data(publisher: OriginalPublisher) -> dict[str, Any]:
    body, status, _ = publisher.answer("GET", "/author-data", {"author": "bilbo"})
    assert status == 200
    found: dict[str, Any] = json.loads(body)
    return found


@pytest.mark.parametrize("exchange", recorded()["challenges"], ids=lambda e: str(e["body"])[:50])
def test_challenges_are_answered_with_the_recorded_signatures(exchange: dict[str, str]) -> None:
    body, status, _ = OriginalPublisher().answer("POST", "/verify-ownership", {}, exchange["body"].encode())

    assert status == 200
    assert json.loads(body)["signature"] == exchange["signature"]


@pytest.mark.parametrize("body", [b"null", b"this is not json", b""])
def test_a_broken_body_is_a_500_as_in_the_original(body: bytes) -> None:
    assert OriginalPublisher().answer("POST", "/verify-ownership", {}, body)[1] == 500


@pytest.mark.parametrize("slug", ["hello-signal", "bilbos-garden", "signed-in-json"])
def test_plugin_data_carries_the_recorded_signature_over_its_raw_text(slug: str) -> None:
    body, _, _ = OriginalPublisher().answer("GET", "/federated/plugin-data", {"author": "bilbo", "slug": slug})

    assert json.loads(body)["signature"] == recorded()["plugin_data"][slug]["signature"]


def test_without_signatures_plugin_data_has_none() -> None:
    publisher = OriginalPublisher()
    publisher.signs_plugin_data = False

    body, _, _ = publisher.answer("GET", "/federated/plugin-data", {"author": "frodo", "slug": "ring-tools"})

    assert "signature" not in json.loads(body)


def test_a_new_version_is_served_while_author_data_is_stale() -> None:
    publisher = OriginalPublisher()
    query = {"author": "bilbo", "slug": "hello-signal", "version": "1.0.0"}
    old = publisher.answer("GET", "/federated/download", query)[0]

    publisher.release_hello_signal(stale=True)
    assert _author_data(publisher)["plugins"][2]["version"] == "1.0.0"
    assert publisher.answer("GET", "/federated/download", query)[0] != old

    publisher.stale = False
    assert _author_data(publisher)["plugins"][2]["version"] == "1.0.1"


def test_tags_come_as_object_array_or_not_at_all() -> None:
    publisher = OriginalPublisher()

    publisher.tags = "object"
    assert {type(plugin["tags"]) for plugin in _author_data(publisher)["plugins"]} == {dict}
    publisher.tags = "array"
    assert {type(plugin["tags"]) for plugin in _author_data(publisher)["plugins"]} == {list}
    publisher.tags = "missing"
    assert not any("tags" in plugin for plugin in _author_data(publisher)["plugins"])


async def test_it_answers_over_asgi() -> None:
    publisher = OriginalPublisher()
    publisher.asset_domain, publisher.serves_assets = "http://publisher.test", True
    client = publisher.app().test_client()

    info = await (await client.get("/federation-info")).get_json()
    zipped = await client.get("/bilbo/event-ledger/event-ledger.zip")
    proof = await client.post("/verify-ownership", json={"username": "bilbo", "challenge": "x"})

    assert info["assetInfo"] == {"domain": "http://publisher.test", "namingScheme": "author/slug/slug.zip"}
    assert (await zipped.get_data()) == publisher.zips["event-ledger/2.3.1"]
    key = VerifyKey(bytes.fromhex("0e8bd5f315220369f3ca98275698f451b5bd183ba2b29ec663706616faabf781"))
    assert key.verify(b"x", base64.b64decode((await proof.get_json())["signature"])) == b"x"
    assert publisher.asked()["/federation-info"] == 1


@pytest.mark.parametrize(
    ("method", "path", "query", "status"),
    [
        ("HEAD", "/author-data", {"author": "bilbo"}, 401),
        ("HEAD", "/federated/download", {"author": "bilbo"}, 405),
        ("GET", "/author-data", {}, 400),
        ("GET", "/author-data", {"author": "Bilbo"}, 404),
        ("GET", "/federated/plugin-data", {"author": "bilbo"}, 400),
        ("GET", "/federated/plugin-data", {"author": "nobody", "slug": "x"}, 404),
        ("GET", "/federated/download", {"author": "bilbo", "slug": "hello-signal"}, 400),
        ("GET", "/federated/download", {"author": "frodo", "slug": "hello-signal", "version": "1"}, 404),
        ("GET", "/bilbo/hello-signal/hello-signal.zip", {}, 404),
        ("POST", "/federation-info", {}, 404),
    ],
)
def test_faults_have_the_recorded_statuses(method: str, path: str, query: dict[str, str], status: int) -> None:
    assert OriginalPublisher().answer(method, path, query)[1] == status


def test_down_and_rate_limited_are_switches() -> None:
    publisher = OriginalPublisher()
    query = {"author": "bilbo", "slug": "event-ledger", "version": "2.3.1"}

    publisher.rate_limited = True
    _, status, headers = publisher.answer("GET", "/federated/download", query)
    assert (status, headers["Retry-After"]) == (429, "3600")
    publisher.down = True
    assert publisher.answer("GET", "/federation-info", {})[1] == 503
    publisher.down = publisher.rate_limited = False
    publisher.serves_assets = True
    assert publisher.answer("GET", "/bilbo/no-such/no-such.zip", {})[1] == 404
