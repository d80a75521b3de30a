"""Peers over HTTP, and what nodes ask each other."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pfn_node.mesh.turns import Stopped
from pfn_node.mesh.views import JoinView, PeerView
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import did_key
from pfn_protocol.limits import request_bytes_max
from tests.node.web_node import NODE, NOW, STRANGER, WebNode, web_node

PEER = did_key(STRANGER.public)
PEER_URL = "https://stranger.test"
ARTIFACT = b"some bytes"
SHA256 = hashlib.sha256(ARTIFACT).hexdigest()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[WebNode]:
    async with web_node(tmp_path) as made:
        made.mesh.known = [a_peer()]
        yield made


def a_peer(url: str | None = PEER_URL) -> PeerView:
    return PeerView(
        node_id=PEER,
        url=url,
        state="linked",
        pinned=False,
        provisional=False,
        blocked=False,
        joined=True,
        trusted_via=(did_key(NODE.public),),
        last_seen=NOW,
        round_trip_ms=12,
        bytes_sent=1,
        bytes_received=2,
        announcements=3,
        links=("eager",),
        outbound=True,
        announcements_sent=4,
        announcements_received=5,
        differences_found=6,
        announced=9,
        held=2,
        incomplete=True,
        convicted=True,
        proof=("aa", "bb"),
    )


async def test_peers_are_listed_with_the_node_itself(node: WebNode) -> None:
    got = (await node.get("/federation/peers")).json

    assert got["node"]["node_id"] == did_key(NODE.public)
    assert (got["node"]["url"], got["node"]["mesh"]) == ("https://node.test", "main")
    (peer,) = got["peers"]
    assert peer["node_id"] == PEER and peer["trusted_via"] == [did_key(NODE.public)]
    assert (peer["links"], peer["outbound"], peer["differences_found"]) == (["eager"], True, 6)
    assert (peer["announcements_sent"], peer["announcements_received"]) == (4, 5)
    assert (peer["announced"], peer["held"], peer["incomplete"]) == (9, 2, True)
    assert (peer["convicted"], peer["proof"]) == (True, ["aa", "bb"])


@pytest.mark.parametrize(
    ("action", "pinned", "blocked"),
    [("pin", True, None), ("unpin", False, None), ("block", None, True), ("unblock", None, False)],
)
async def test_the_operators_opinion_reaches_the_mesh(
    node: WebNode, action: str, pinned: bool | None, blocked: bool | None
) -> None:
    by_id = await node.post("/federation/peers", {"node_id": PEER, "action": action})
    by_url = await node.post("/federation/peers", {"url": PEER_URL + "/", "action": action})

    assert by_id.json["success"] is by_url.json["success"] is True
    assert by_id.json["node_id"] == PEER
    assert node.mesh.policies == [(STRANGER.public, pinned, blocked)] * 2


async def test_joining_by_url_by_id_and_by_both(node: WebNode) -> None:
    by_url = await node.post("/federation/peers", {"url": "https://other.test/", "action": "join"})
    by_id = await node.post("/federation/peers", {"node_id": PEER, "action": "join"})
    both = await node.post("/federation/peers", {"url": "https://other.test", "node_id": PEER, "action": "join"})

    assert (by_url.status, by_id.status, both.status) == (200, 200, 200)
    assert by_url.json["node_id"] == PEER
    assert node.mesh.joined == [
        ("https://other.test", None),
        (PEER_URL, STRANGER.public),
        ("https://other.test", STRANGER.public),
    ]


async def test_joining_a_node_that_does_not_answer_is_no_error(node: WebNode) -> None:
    node.mesh.reached = None

    got = await node.post("/federation/peers", {"url": "https://other.test", "action": "join"})

    assert got.status == 200
    assert got.json["node_id"] is None and "tried again" in got.json["message"]


async def test_what_is_joined_is_listed_with_what_is_wrong_and_can_be_left(node: WebNode) -> None:
    node.mesh.targets = [JoinView("https://other.test", None, "Nobody answers there."), JoinView(PEER_URL, PEER, None)]
    node.mesh.reached = None

    joining = await node.post("/federation/peers", {"url": "https://other.test", "action": "join"})
    listed = await node.read("/federation/joins")
    by_url = await node.post("/federation/peers", {"url": "https://other.test", "action": "leave"})
    by_id = await node.post("/federation/peers", {"node_id": PEER, "action": "leave"})
    node.mesh.targets = []
    again = await node.post("/federation/peers", {"node_id": PEER, "action": "leave"})

    assert "Nobody answers there." in joining.json["message"]
    assert [(one["url"], one["node_id"], one["problem"]) for one in listed.json["joins"]] == [
        ("https://other.test", None, "Nobody answers there."),
        (PEER_URL, PEER, None),
    ]
    assert (by_url.status, by_id.status, again.status) == (200, 200, 404)
    assert node.mesh.left[:2] == [("https://other.test", None), (None, STRANGER.public)]


async def test_joining_where_another_key_answers_is_a_conflict(node: WebNode) -> None:
    node.mesh.refusal = Refusal("R1", "another key answers there")

    got = await node.post("/federation/peers", {"url": "https://other.test", "action": "join"})

    assert got.status == 409 and "another key answers there" in got.sentence


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"action": "pin"}, 400),
        ({"action": "marry", "node_id": PEER}, 400),
        ({"action": "pin", "node_id": "did:web:x"}, 400),
        ({"action": "pin", "node_id": "did:key:z6Mk" + "z" * 44}, 404),
        ({"action": "pin", "url": "https://unknown.test"}, 404),
        ({"action": "pin", "node_id": did_key(NODE.public)}, 409),
        ({"action": "join", "node_id": did_key(NODE.public)}, 404),
        ({"action": "join", "url": "http://plain.test"}, 400),
        ({"action": "join", "url": "https://u:p@x.test"}, 400),
        ({"node_id": PEER}, 400),
    ],
)
async def test_an_opinion_about_nobody_is_refused(node: WebNode, body: dict[str, str], status: int) -> None:
    got = await node.post("/federation/peers", body)

    assert got.status == status and got.sentence
    assert not node.mesh.policies and not node.mesh.joined


@pytest.mark.parametrize("action", ["pin", "block"])
async def test_a_url_that_two_nodes_claim_names_neither(node: WebNode, action: str) -> None:
    node.mesh.known = [a_peer(), replace(a_peer(PEER_URL + "/"), node_id=did_key(NODE.public))]

    got = await node.post("/federation/peers", {"url": PEER_URL, "action": action})

    assert got.status == 409 and "2 nodes" in got.sentence and not node.mesh.policies


async def test_a_node_says_who_it_is(node: WebNode) -> None:
    got = await node.get("/node/v1/info")

    assert got.status == 200
    assert got.json["node_id"] == did_key(NODE.public)
    assert (got.json["url"], got.json["mesh"]) == ("https://node.test", "main")
    assert got.json["software"] == f"pfn-node/{got.json['version']}"


async def test_a_message_is_handed_over_as_the_bytes_that_came(node: WebNode) -> None:
    got = await node.call("POST", "/node/v1/gossip", data=b"\x95\x00raw")

    assert node.mesh.asked == [("gossip", b"\x95\x00raw")]
    assert (got.status, got.body) == (200, b"\x95answer")
    assert got.headers["Content-Type"] == "application/vnd.pfn+msgpack"


async def test_a_refusal_of_the_mesh_keeps_its_status_and_form(node: WebNode) -> None:
    node.mesh.answer = (503, b'{"error":"Busy."}')

    got = await node.call("POST", "/node/v1/link", data=b"x")

    assert (got.status, got.headers["Content-Type"]) == (503, "application/json")
    assert got.headers["Retry-After"]


async def test_a_mesh_that_stops_is_503(node: WebNode) -> None:
    async def stopped(path: str, raw: bytes) -> tuple[int, bytes]:
        raise Stopped

    node.mesh.handle = stopped  # type: ignore[method-assign]
    got = await node.call("POST", "/node/v1/link", data=b"x")

    assert got.status == 503 and got.sentence


async def test_a_message_that_is_too_large_is_refused(node: WebNode) -> None:
    got = await node.call("POST", "/node/v1/gossip", data=bytes(request_bytes_max + 1))

    assert got.status == 413 and got.sentence
    assert node.mesh.asked == []


async def test_only_the_requests_of_the_protocol_have_a_path(node: WebNode) -> None:
    assert (await node.call("POST", "/node/v1/nonsense", data=b"x")).status == 404
    assert (await node.call("POST", "/node/v1/info", data=b"x")).status == 405
    assert (await node.call("GET", "/node/v1/gossip")).status == 405


async def test_an_artifact_is_had_by_its_digest(node: WebNode) -> None:
    node.services.artifacts.put_bytes(ARTIFACT)
    path = f"/node/v1/artifacts/{SHA256}"

    whole = await node.get(path)
    part = await node.get(path, headers={"Range": "bytes=5-"})
    known = await node.get(path, headers={"If-None-Match": f'"{SHA256}"'})
    head = await node.call("HEAD", path)
    outside = await node.get(path, headers={"Range": "bytes=100-"})

    assert (whole.body, whole.headers["ETag"]) == (ARTIFACT, f'"{SHA256}"')
    assert whole.headers["Cache-Control"] == "public, max-age=31536000, s-maxage=60, immutable"
    assert (part.status, part.body) == (206, b"bytes")
    assert known.status == 304
    assert (head.status, head.body) == (200, b"")
    assert outside.status == 416 and outside.sentence


@pytest.mark.parametrize(
    ("name", "status"), [("0" * 64, 404), ("0" * 63, 400), ("F" * 64, 400), ("..%2f..%2fnode.key", 404)]
)
async def test_an_artifact_that_is_not_here(node: WebNode, name: str, status: int) -> None:
    got = await node.get(f"/node/v1/artifacts/{name}")

    assert got.status == status and got.sentence
