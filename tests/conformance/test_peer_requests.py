"""A hostile peer replays, readdresses and forges requests, and sends what is no request at all."""

import secrets
from collections.abc import Callable

import msgpack
import pytest

from pfn_protocol.encoding import Value, open_envelope, preimage, seal
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import answer_bytes_max
from pfn_protocol.message_fields import open_answer
from pfn_protocol.messages import (
    AuthorsRequest,
    CellsRequest,
    FetchRequest,
    GossipRequest,
    HaveRequest,
    IdsRequest,
    RefusedAnswer,
    Request,
    SnapshotRequest,
)
from tests.conformance.conftest import StartNode
from tests.conformance.hostile_peer import MESH, Peer, now_ms, version_statement
from tests.conformance.hostile_publisher import new_key
from tests.conformance.node_process import Node

HAVE = HaveRequest(())


@pytest.fixture(scope="module")
def peer(node: Node) -> Peer:
    """One peer for the whole group; it has no link."""
    return Peer(node).known()


@pytest.fixture(scope="module")
def linked(node: Node) -> Peer:
    """One that has a link."""
    return Peer(node).linked().known()


def assert_refused(peer: Peer, path: str, raw: bytes, *statuses: int) -> None:
    """Refused with one of these statuses; and whoever behaves is heard all the same."""
    answered = peer.post(path, raw)
    assert answered.status in statuses, (answered.status, answered.body)
    assert peer.post("have", peer.sealed(HAVE)).status == 200


def test_a_request_that_was_heard_is_not_heard_again(peer: Peer) -> None:
    raw = peer.sealed(HAVE)
    assert peer.post("have", raw).status == 200

    assert_refused(peer, "have", raw, 409)


def test_a_request_from_before_a_restart_does_nothing_twice(start_node: StartNode) -> None:
    """The memory of nonces went with the process: what pushes again pushes what is known, and over no link."""
    node = start_node()
    peer = Peer(node).linked()
    node.post("peers", {"action": "pin", "node_id": peer.id})
    source = "someone@127.0.0.1:9"
    version = peer.announce(version_statement(source, "tool", secrets.token_bytes(32), 100))
    raw = peer.sealed(GossipRequest((version.raw,), (), None, 0))
    assert peer.post("gossip", raw).status == 200
    before = node.rows(source)
    node.stop()
    node.start()

    assert peer.post("gossip", raw).status in (200, 409)

    assert node.rows(source) == before
    assert isinstance(peer.push(), RefusedAnswer)  # a replay makes no link


def test_a_request_is_of_no_use_at_another_node(peer: Peer, start_node: StartNode) -> None:
    raw = peer.sealed(HAVE)

    assert_refused(Peer(start_node()), "have", raw, 401)


def test_a_request_is_of_no_use_at_another_path(peer: Peer) -> None:
    assert_refused(peer, "fetch", peer.sealed(HAVE), 401)


def test_a_request_of_another_mesh_is_refused(peer: Peer) -> None:
    assert_refused(peer, "have", peer.sealed(HAVE, mesh="other"), 401)


@pytest.mark.parametrize(
    "off_ms", [-130_000, 130_000, -86_400_000, 365 * 86_400_000], ids=["old", "early", "a day old", "a year early"]
)
def test_a_request_is_refused_whose_time_is(peer: Peer, off_ms: int) -> None:
    assert_refused(peer, "have", peer.sealed(HAVE, now_ms=now_ms() + off_ms), 401)


def test_a_sender_with_a_wrong_clock_is_told_the_time(peer: Peer) -> None:
    nonce = secrets.token_bytes(16)
    answered = peer.post("have", peer.sealed(HAVE, now_ms=now_ms() - 3_600_000, nonce16=nonce))

    said = open_answer(answered.body, mesh=MESH, nonce=nonce, sender_expected=peer.to, path="have")

    assert isinstance(said, RefusedAnswer) and said.rule == "R73"
    assert abs(said.now_ms - now_ms()) < 60_000


def test_a_signature_that_does_not_verify_is_refused(peer: Peer) -> None:
    raw = bytearray(peer.sealed(HAVE))
    raw[-1] ^= 1

    assert_refused(peer, "have", bytes(raw), 401)


def test_a_request_in_the_name_of_another_node_is_refused(peer: Peer) -> None:
    raw = peer.sealed(HAVE).replace(peer.key.public, new_key().public)

    assert_refused(peer, "have", raw, 401)


def test_a_request_in_the_name_of_the_node_itself_is_refused(peer: Peer) -> None:
    raw = peer.sealed(HAVE).replace(peer.key.public, peer.to)

    assert_refused(peer, "have", raw, 401)


def test_a_key_of_small_order_signs_for_nobody(peer: Peer) -> None:
    """With the neutral element as its key one signature fits every message."""
    neutral = bytes([1]) + bytes(31)
    body = msgpack.packb(["have", peer.to, now_ms(), secrets.token_bytes(16), [[]]])
    raw = msgpack.packb([1, "pfn/request/1", neutral, body, neutral + bytes(32)])

    assert_refused(peer, "have", raw, 401)


def test_an_answer_is_no_request(peer: Peer) -> None:
    assert_refused(peer, "have", peer.sealed_content("have", ((),), domain="pfn/response/1"), 400)


def test_an_announcement_is_no_request(peer: Peer) -> None:
    assert_refused(peer, "have", peer.hello().raw, 400)


def test_a_domain_that_nobody_knows_is_refused(peer: Peer) -> None:
    assert_refused(peer, "have", peer.sealed_content("have", ((),), domain="pfn/request/2"), 400)


def test_an_envelope_of_another_version_is_refused(peer: Peer) -> None:
    raw = peer.sealed(HAVE)

    assert_refused(peer, "have", raw[:1] + b"\x02" + raw[2:], 400)


def test_the_answer_is_signed_by_the_node_over_the_nonce(peer: Peer) -> None:
    nonce = secrets.token_bytes(16)
    answered = peer.post("have", peer.sealed(HAVE, nonce16=nonce))

    envelope = open_envelope(answered.body, mesh=MESH, domain="pfn/response/1", bytes_max=answer_bytes_max)

    assert envelope.author == peer.to
    assert isinstance(envelope.value, tuple) and envelope.value[:2] == ("have", nonce)


def envelope_of(body: bytes, key: PrivateKey) -> bytes:
    """A signed envelope over a body that need not be canonical."""
    signature = key.sign(preimage("pfn/request/1", MESH, body))
    packed: bytes = msgpack.packb([1, "pfn/request/1", key.public, body, signature])
    return packed


def body_with(content: bytes, peer: Peer) -> bytes:
    """A request's body whose content is these bytes."""
    fields = ["have", peer.to, now_ms(), secrets.token_bytes(16)]
    return b"\x95" + b"".join(msgpack.packb(field) for field in fields) + content


SPELLINGS: dict[str, bytes] = {
    "a list with a longer head than it needs": b"\xdc\x00\x01\x90",
    "a map": b"\x91\x81\x00\x00",
    "a float": b"\x91\xcb" + bytes(8),
    "not a number": b"\x91\xcb\x7f\xf8" + bytes(6),
    "a negative number": b"\x91\xff",
    "a number of sixty-four bits": b"\x91\xcf" + b"\xff" * 8,
    "an extension": b"\x91\xd4\x05\x00",
    "a timestamp": b"\x91\xd6\xff\x00\x00\x00\x00",
    "text that is no UTF-8": b"\x91\xa2\xff\xfe",
    "half a surrogate pair": b"\x91\xa3\xed\xa0\x80",
    "a list that claims a thousand million items": b"\xdd\x3b\x9a\xca\x00",
    "bytes that claim to go on": b"\x91\xc6\xff\xff\xff\xff",
    "a byte that is no msgpack": b"\xc1",
    "something behind its end": b"\x91\x90\x00",
    "a thousand levels of lists": b"\x91" * 1000 + b"\x90",
    "nine levels of lists": b"\x91" * 9 + b"\x90",
    "nothing": b"",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_signed_request_is_refused_whose_content_is(peer: Peer, spelling: str) -> None:
    raw = envelope_of(body_with(SPELLINGS[spelling], peer), peer.key)

    assert_refused(peer, "have", raw, 400)


def test_an_envelope_in_a_longer_spelling_is_refused(peer: Peer) -> None:
    """The same five values; the signature would hold, the bytes would have a second id."""
    raw = peer.sealed(HAVE)

    assert_refused(peer, "have", b"\xdc\x00\x05" + raw[1:], 400)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("nothing", b""),
        ("JSON", b'{"path": "have"}'),
        ("a million empty lists", b"\x90" * 1000),
        ("random bytes", bytes(range(256)) * 4),
        ("a web page", b"<html>"),
    ],
)
def test_what_is_no_envelope_is_refused_in_plain_json(peer: Peer, kind: str, raw: bytes) -> None:
    answered = peer.post("have", raw)

    assert answered.status == 400
    assert "error" in answered.json and "Traceback" not in answered.body.decode()


@pytest.mark.parametrize("path", ["have", "fetch", "gossip", "link", "cells", "ids", "snapshot", "authors"])
def test_a_request_larger_than_its_path_takes_is_refused_before_it_is_read(peer: Peer, path: str) -> None:
    assert_refused(peer, path, bytes(400_000 if path == "gossip" else 200_000), 413)


ARGUMENTS: dict[str, tuple[str, Value]] = {
    "a digest of 31 bytes": ("have", ((bytes(31),),)),
    "257 digests": ("have", ((bytes(32),) * 257,)),
    "a field too many": ("have", ((), 1)),
    "a field too few": ("gossip", ((), (), None)),
    "257 ids": ("fetch", ((bytes(32),) * 257,)),
    "an id of 8 bytes": ("fetch", ((bytes(8),),)),
    "a wait of 26 seconds": ("gossip", ((), (), None, 26, (), False)),
    "513 pushed announcements": ("gossip", ((b"x",) * 513, (), None, 0, (), False)),
    "1,025 ids told": ("gossip", ((), (bytes(32),) * 1025, None, 0, (), False)),
    "a status that is none": ("gossip", ((), (), (1, 2), 0, (), False)),
    "a graft that is a number": ("gossip", ((), (), None, 0, (), 1)),
    "cells from beyond the longest sketch": ("cells", ("", bytes(4), bytes(8), 2**17, 32)),
    "no cells": ("cells", ("", bytes(4), bytes(8), 0, 0)),
    "more cells than an answer holds": ("cells", ("", bytes(4), bytes(8), 0, 2**16)),
    "a salt of 3 bytes": ("cells", ("", bytes(3), bytes(8), 0, 32)),
    "a set with a name that is no source": ("cells", ("../etc", bytes(4), bytes(8), 0, 32)),
    "an author of 31 bytes": ("ids", (bytes(31), 5000, b"")),
    "a cursor of 15 bytes": ("ids", (bytes(32), 5000, bytes(15))),
    "a snapshot's cursor of 16 bytes": ("snapshot", (bytes(16), b"", b"")),
    "a view of 65": (
        "link",
        ("", tuple((bytes([n]) * 32, f"http://10.0.0.{n}") for n in range(65)), (), b"", b"", False),
    ),
    "a URL that is a file": ("link", ("file:///etc/passwd", (), (), b"", b"", False)),
    "a URL with a password": ("link", ("http://a:b@127.0.0.1", (), (), b"", b"", False)),
    "left-out authors that do not ascend": ("link", ("", (), (bytes([2]) * 32, bytes([1]) * 32), b"", b"", False)),
    "a key for the secret without a nonce": ("link", ("", (), (), bytes([9]) * 32, b"", False)),
    "authors that do not ascend": ("authors", (b"", ((bytes([2]) * 32, 1), (bytes([1]) * 32, 1)), True)),
}


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_a_signed_request_is_refused_with(linked: Peer, argument: str) -> None:
    path, content = ARGUMENTS[argument]
    nonce = secrets.token_bytes(16)

    answered = linked.post(path, linked.sealed_content(path, content, nonce=nonce))

    said = open_answer(answered.body, mesh=MESH, nonce=nonce, sender_expected=linked.to, path=path)
    assert isinstance(said, RefusedAnswer) and said.rule not in ("R96", "busy"), said
    assert not isinstance(linked.push(), RefusedAnswer)  # a mistake ends no link


OVER_NO_LINK: dict[str, Callable[[], Request]] = {
    "gossip": lambda: GossipRequest((), (), None, 0),
    "fetch": lambda: FetchRequest((bytes(32),)),
    "cells": lambda: CellsRequest("", bytes(4), bytes(8), 0, 32),
    "authors": lambda: AuthorsRequest(b""),
    "ids": lambda: IdsRequest(bytes(32), 5000, b""),
    "snapshot": lambda: SnapshotRequest(b"", b""),
}


@pytest.mark.parametrize("path", OVER_NO_LINK)
def test_without_a_link_nothing_is_answered_to(peer: Peer, path: str) -> None:
    said = peer.ask(OVER_NO_LINK[path]())

    assert isinstance(said, RefusedAnswer) and said.rule == "R96"


def test_a_path_that_is_none_is_not_found(peer: Peer) -> None:
    assert peer.post("backdoor", peer.sealed(HAVE)).status == 404
    assert peer.post("../federation/keys", peer.sealed(HAVE)).status in (400, 401, 404, 405)


def test_a_request_by_get_is_not_taken(peer: Peer) -> None:
    assert peer.node.ask("GET", "/node/v1/have").status == 405


def test_the_seal_of_one_mesh_does_not_open_in_another(peer: Peer) -> None:
    """The mesh is in the preimage and not in the envelope: the bytes look the same, only the signature differs."""
    body: Value = ("have", peer.to, now_ms(), secrets.token_bytes(16), ((),))

    assert_refused(peer, "have", seal(peer.key, "pfn/request/1", "main-", body).raw, 401)


def test_an_operator_s_block_is_final(peer: Peer) -> None:
    enemy = Peer(peer.node).linked()
    peer.node.post("peers", {"action": "block", "node_id": enemy.id})

    answered = enemy.post("have", enemy.sealed(HAVE))

    assert answered.status == 403
    said = enemy.link()
    assert isinstance(said, RefusedAnswer) and said.rule == "R86"
