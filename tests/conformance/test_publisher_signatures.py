"""A hostile publisher lists releases whose signatures do not say what they should. Beside each lies an honest one."""

import base64
import json
from collections.abc import Callable
from hashlib import sha256
from time import time
from typing import Any

import pytest

from pfn_protocol.identity import PrivateKey
from pfn_protocol.publisher import (
    HeadStatement,
    ReleaseStatement,
    metadata_message,
    sign_head,
    sign_keybind,
    sign_release,
    sign_sha384,
)
from tests.conformance.hostile_publisher import (
    HONEST_SLUG,
    HOSTILE_SLUG,
    Listing,
    Publisher,
    allow_unsigned,
    assert_left_out,
    assert_only_the_honest_one_is_held,
    new_key,
    plugin_zip,
    subscribe,
    verify,
)
from tests.conformance.hostile_server import answer
from tests.conformance.node_process import Node, b64

Beside = Callable[..., list[Listing]]


def signed(key: PrivateKey, *fields: Any) -> str:
    return b64(key.sign(metadata_message(*fields)))


@pytest.mark.parametrize(
    ("other", "fields"),
    [
        ("the slug", ("honest-tool", HOSTILE_SLUG, "1.0", "A tool.")),
        ("the name", (HOSTILE_SLUG, "Another Name", "1.0", "A tool.")),
        ("the version", (HOSTILE_SLUG, HOSTILE_SLUG, "0.9", "A tool.")),
        ("the description", (HOSTILE_SLUG, HOSTILE_SLUG, "1.0", "Another tool.")),
        ("a missing description", (HOSTILE_SLUG, HOSTILE_SLUG, "1.0", None)),
    ],
)
def test_a_metadata_signature_over_another_field_is_refused(
    node: Node, publisher: Publisher, beside: Beside, other: str, fields: tuple[Any, ...]
) -> None:
    publisher.listings = beside(edit=lambda entry: entry | {"signature": signed(publisher.key, *fields)})

    assert_only_the_honest_one_is_held(node, publisher, "invalid signature")


@pytest.mark.parametrize(
    ("kind", "signature"),
    [("zeros", b64(bytes(64))), ("short", b64(bytes(10))), ("no text", 7), ("no base64", "not base64")],
    ids=["64 zero bytes", "ten bytes", "a number", "no base64"],
)
def test_a_garbage_metadata_signature_is_refused_and_never_counts_as_none(
    node: Node, publisher: Publisher, beside: Beside, kind: str, signature: object
) -> None:
    allow_unsigned(node, publisher)
    publisher.listings = beside(edit=lambda entry: entry | {"signature": signature})

    assert_only_the_honest_one_is_held(node, publisher, "invalid signature")


def test_a_metadata_signature_by_another_key_is_refused(node: Node, publisher: Publisher, beside: Beside) -> None:
    forged = signed(new_key(), HOSTILE_SLUG, HOSTILE_SLUG, "1.0", "A tool.")
    publisher.listings = beside(edit=lambda entry: entry | {"signature": forged})

    assert_only_the_honest_one_is_held(node, publisher, "invalid signature")


def test_a_signed_field_that_is_no_text_is_refused_rather_than_guessed(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    """JavaScript would sign the number 1.0 as `1`; nothing here guesses that."""
    raw = f'{{"id":"{HOSTILE_SLUG}","name":"{HOSTILE_SLUG}","version":"1.0","description":1}}'.encode()
    publisher.listings = beside(
        edit=lambda entry: entry | {"short_description": 1, "signature": b64(publisher.key.sign(raw))}
    )

    assert_only_the_honest_one_is_held(node, publisher, "invalid signature")


def test_an_unsigned_release_is_left_out(node: Node, publisher: Publisher, beside: Beside) -> None:
    publisher.listings = beside(edit=lambda entry: {**entry, "signature": None})

    assert_only_the_honest_one_is_held(node, publisher, "unsigned")


def test_an_unsigned_release_that_the_operator_allows_is_claimed_by_nobody(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    allow_unsigned(node, publisher)
    publisher.listings = beside(edit=lambda entry: {**entry, "signature": None})

    assert subscribe(node, publisher)["mirroredCount"] == 2

    assert node.rows(publisher.source)[HOSTILE_SLUG]["assurance"] == "A0"


def test_a_metadata_signature_never_says_that_it_covers_the_bytes(node: Node, publisher: Publisher) -> None:
    subscribe(node, publisher)

    said = node.get("verify", sourceId=publisher.source, plugin=HONEST_SLUG).json

    assert (said["valid"], said["assurance"]["level"], said["assurance"]["covers_bytes"]) == (True, "A1", False)
    assert [one["covers_bytes"] for one in said["signatures"]] == [False]


def plugin_data(publisher: Publisher, text: str, over: str | None = None) -> Callable[..., list[bytes]]:
    signature = b64(publisher.key.sign((text if over is None else over).encode()))
    return lambda asked: [answer(200, f'{{"data":{text},"signature":"{signature}"}}')]


@pytest.mark.parametrize(
    ("attack", "text", "over", "says"),
    [
        ("over other text", '{"slug":"hostile-tool","version":"1.0"}', '{"slug":"x"}', "invalid signature"),
        ("about another plugin", '{"slug":"honest-tool","version":"1.0"}', None, "invalid signature"),
        ("about another version", '{"slug":"hostile-tool","version":"9.9"}', None, "version mismatch"),
        ("with the slug in another type", '{"slug":["hostile-tool"],"version":"1.0"}', None, "invalid signature"),
    ],
)
def test_signed_plugin_data_is_refused(
    node: Node, publisher: Publisher, beside: Beside, attack: str, text: str, over: str | None, says: str
) -> None:
    publisher.listings = beside(edit=lambda entry: {**entry, "signature": None})
    publisher.answers["/federated/plugin-data"] = plugin_data(publisher, text, over)

    assert_only_the_honest_one_is_held(node, publisher, says)


def test_signed_plugin_data_with_a_second_data_member_is_refused(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    """Two readers of the same bytes would see two texts: one that was signed, one that is shown."""
    genuine = '{"slug":"hostile-tool","version":"1.0"}'
    signature = b64(publisher.key.sign(genuine.encode()))
    both = f'{{"data":{genuine},"signature":"{signature}","data":{{"slug":"hostile-tool","version":"6.6"}}}}'
    publisher.listings = beside(edit=lambda entry: {**entry, "signature": None})
    publisher.answers["/federated/plugin-data"] = lambda asked: [answer(200, both)]

    assert_only_the_honest_one_is_held(node, publisher, "plugin-data")


# --- Profile v2: statements over the bytes --------------------------------------------------------------------------


def release(publisher: Publisher, key: PrivateKey | None = None, **changes: Any) -> str:
    """A release statement about the hostile plugin's own zip, changed as told; base64."""
    data = plugin_zip(HOSTILE_SLUG, "1.0", publisher.key.public.hex())
    fields: dict[str, Any] = {
        "origin": publisher.url,
        "author": publisher.author,
        "slug": HOSTILE_SLUG,
        "version": "1.0",
        "sha256": sha256(data).digest(),
        "size": len(data),
        "epoch": 0,
        "seq": int(time() * 1000),
        "metadata_sha256": sha256(metadata_message(HOSTILE_SLUG, HOSTILE_SLUG, "1.0", "A tool.")).digest(),
    }
    return b64(sign_release(key or publisher.key, ReleaseStatement(**fields | changes)).raw)


def with_release(publisher: Publisher, beside: Beside, **members: str) -> None:
    publisher.listings = beside(edit=lambda entry: entry | members)


def test_an_honest_release_statement_gives_the_highest_level_here(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    with_release(publisher, beside, release_v2=release(publisher))

    assert subscribe(node, publisher)["mirroredCount"] == 2

    said = node.get("verify", sourceId=publisher.source, plugin=HOSTILE_SLUG).json
    assert (said["assurance"]["level"], said["assurance"]["covers_bytes"]) == ("A3", True)


@pytest.mark.parametrize(
    ("other", "changes"),
    [
        ("digest", {"sha256": bytes(32)}),
        ("size", {"size": 9}),
        ("slug", {"slug": "honest-tool"}),
        ("version", {"version": "2.0"}),
        ("author", {"author": "alice"}),
        ("origin", {"origin": "https://elsewhere.example"}),
    ],
)
def test_a_release_statement_about_something_else_is_refused(
    node: Node, publisher: Publisher, beside: Beside, other: str, changes: dict[str, Any]
) -> None:
    with_release(publisher, beside, release_v2=release(publisher, **changes))

    assert_only_the_honest_one_is_held(node, publisher, "invalid signature")


def test_a_release_statement_by_a_key_that_nobody_bound_is_refused(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    with_release(publisher, beside, release_v2=release(publisher, new_key()))

    assert_only_the_honest_one_is_held(node, publisher, "invalid signature")


def test_a_release_key_that_another_identity_bound_is_refused(node: Node, publisher: Publisher, beside: Beside) -> None:
    release_key = new_key()
    bound = b64(sign_keybind(new_key(), release_key, publisher.url).raw)
    with_release(publisher, beside, release_v2=release(publisher, release_key), keybind_v2=bound)

    assert_only_the_honest_one_is_held(node, publisher, "invalid signature")


def test_a_release_key_that_was_bound_for_another_origin_is_refused(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    release_key = new_key()
    bound = b64(sign_keybind(publisher.key, release_key, "https://elsewhere.example").raw)
    with_release(publisher, beside, release_v2=release(publisher, release_key), keybind_v2=bound)

    assert_only_the_honest_one_is_held(node, publisher, "invalid signature")


def test_a_head_where_a_release_belongs_is_refused(node: Node, publisher: Publisher, beside: Beside) -> None:
    now = int(time())
    head = sign_head(publisher.key, HeadStatement(bytes(32), 1, now * 1000, now + 3600)).raw
    with_release(publisher, beside, release_v2=b64(head))

    assert_only_the_honest_one_is_held(node, publisher, "invalid signature")


def test_a_release_statement_that_was_tampered_with_is_refused(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    raw = bytearray(base64.b64decode(release(publisher)))
    raw[-1] ^= 1
    with_release(publisher, beside, release_v2=b64(bytes(raw)))

    assert_only_the_honest_one_is_held(node, publisher, "invalid signature")


def test_a_head_by_another_key_is_refused(node: Node, publisher: Publisher, beside: Beside) -> None:
    now = int(time())
    head = sign_head(new_key(), HeadStatement(bytes(32), 1, now * 1000, now + 3600)).raw
    with_release(publisher, beside, release_v2=release(publisher), head_v2=b64(head))

    assert_only_the_honest_one_is_held(node, publisher, "invalid signature")


def test_a_signature_over_the_digest_of_another_zip_is_refused(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    with_release(publisher, beside, signature_sha384=b64(sign_sha384(publisher.key, bytes(48))))

    assert_only_the_honest_one_is_held(node, publisher, "invalid signature")


@pytest.mark.parametrize(("hand", "level"), [("prove_anything", "A3"), ("prove_bytes", "A1")])
def test_a_release_of_a_key_that_signs_raw_bytes_for_anybody_covers_nothing(
    node: Node, publisher: Publisher, beside: Beside, hand: str, level: str
) -> None:
    """Text for anybody is no danger to it, since no text begins as an envelope's preimage does."""
    publisher.answers["/verify-ownership"] = getattr(publisher, hand)
    assert verify(node, publisher)["success"]
    with_release(publisher, beside, release_v2=release(publisher))

    assert subscribe(node, publisher)["mirroredCount"] == 2

    said = node.get("verify", sourceId=publisher.source, plugin=HOSTILE_SLUG).json["assurance"]
    assert (said["level"], said["covers_bytes"]) == (level, level == "A3")


def test_a_release_statement_that_anybody_hands_in_for_another_key_is_refused(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    publisher.listings = beside()
    assert verify(node, publisher)["success"]

    forged = node.post("releases", {"release_v2": release(publisher, new_key())}, key="")
    genuine = node.post("releases", {"release_v2": release(publisher)}, key="")

    assert (forged.status, genuine.status) == (403, 200)


def test_the_zip_of_a_handed_in_release_is_not_fetched_from_another_host(node: Node, publisher: Publisher) -> None:
    assert verify(node, publisher)["success"]
    with Publisher() as elsewhere:
        body = {"release_v2": release(publisher), "artifact_url": f"{elsewhere.url}/a.zip"}

        assert node.post("releases", body, key="").status == 403
        assert elsewhere.connections == 0


def test_nothing_is_fetched_for_a_handed_in_release_that_does_not_verify(node: Node, publisher: Publisher) -> None:
    assert verify(node, publisher)["success"]
    asked = len(publisher.asked)
    body = {"release_v2": release(publisher, new_key()), "artifact_url": f"{publisher.url}/zips/a.zip"}

    assert node.post("releases", body, key="").status == 403
    assert len(publisher.asked) == asked


def test_a_description_that_is_shown_is_the_one_that_was_signed(node: Node, publisher: Publisher) -> None:
    """Half a surrogate pair is signed as JavaScript escapes it; what is shown has no such halves."""
    listing = Listing(HONEST_SLUG, description="half \ud800 a pair")
    publisher.listings = [listing]

    result = subscribe(node, publisher)

    assert result["mirroredCount"] == 1, result
    row = node.rows(publisher.source)[HONEST_SLUG]
    assert "\ud800" not in row["description"]
    assert json.dumps(row).encode("utf-8")
    assert node.get("verify", sourceId=publisher.source, plugin=HONEST_SLUG).json["assurance"]["level"] == "A1"


def test_an_entry_whose_signature_was_over_more_than_the_limit_is_left_out(
    node: Node, publisher: Publisher, beside: Beside
) -> None:
    def sign(entry: dict[str, Any]) -> dict[str, Any]:
        text = "x" * 70_000
        raw = json.dumps(
            {"id": HOSTILE_SLUG, "name": HOSTILE_SLUG, "version": "1.0", "description": text}, separators=(",", ":")
        )
        return entry | {"short_description": text, "signature": b64(publisher.key.sign(raw.encode()))}

    publisher.listings = beside(edit=sign)

    assert_left_out(subscribe(node, publisher), HOSTILE_SLUG, "invalid signature")
