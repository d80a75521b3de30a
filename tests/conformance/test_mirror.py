"""A hostile mirror: a pinned node, so one that is asked first, that serves something else than what is looked for.

In every case the publisher is dead, and an honest pinned node has said which bytes are the release's.
"""

import gzip
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic

import pytest

from pfn_protocol.encoding import seal
from pfn_protocol.message_fields import open_request, seal_answer
from pfn_protocol.messages import HaveAnswer
from tests.conformance.conftest import StartNode
from tests.conformance.hostile_peer import (
    MESH,
    MESSAGE_TYPE,
    ListeningPeer,
    Peer,
    mirror_statement,
    now_ms,
    source_statement,
    version_statement,
)
from tests.conformance.hostile_publisher import digest, new_key, plugin_zip
from tests.conformance.hostile_server import RESET, Asked, HostileServer, Script, always, answer, redirect
from tests.conformance.node_process import Node

SLUG = "tool"
SECONDS_MAX = 8


@pytest.fixture(scope="module")
def node(start_node: StartNode) -> Node:
    return start_node(PFN_ARTIFACT_SECONDS_MAX=str(SECONDS_MAX))


def pin(node: Node, listening: ListeningPeer) -> Peer:
    """Link with the node, and have its operator pin it."""
    peer = listening.speaks_to(node).linked()
    assert node.post("peers", {"action": "pin", "node_id": peer.id}).status == 200
    peer.push(peer.hello().raw)
    return peer


@pytest.fixture(scope="module")
def honest(node: Node) -> Iterator[ListeningPeer]:
    """The pinned node that saw the releases; whether it holds them is up to the case."""
    with ListeningPeer() as honest:
        pin(node, honest)
        yield honest


@dataclass
class Stage:
    """One release that is backed and not here, and the mirror that lies about it."""

    node: Node
    honest: ListeningPeer
    liar: ListeningPeer
    source: str
    zip: bytes

    @property
    def sha256(self) -> str:
        return digest(self.zip)

    def assert_only_true_bytes_are_served(self) -> None:
        """Nothing while only the liar says that it has them; the true ones as soon as another node has them."""
        alone = self.node.download(self.source, SLUG)
        assert alone.status == 502, (alone.status, alone.body[:200])
        assert self.node.artifact(self.sha256).status == 404
        lie = self.liar.holds[self.sha256]
        assert callable(lie) or self.node.artifact(digest(lie)).status == 404  # nor is it kept under its own name
        self.honest.holds[self.sha256] = self.zip

        both = self.node.download(self.source, SLUG)

        assert (both.status, both.body) == (200, self.zip)
        assert self.node.artifact(self.sha256).body == self.zip


@pytest.fixture
def stage(node: Node, honest: ListeningPeer) -> Iterator[Stage]:
    source = f"{secrets.token_hex(4)}@127.0.0.1:9"
    data = plugin_zip(SLUG, "1.0", secrets.token_hex(2000))
    said = honest.speaks_to(node)
    said.push(
        said.announce(source_statement(source, new_key().public)).raw,
        said.announce(version_statement(source, SLUG, bytes.fromhex(digest(data)), len(data))).raw,
    )
    with ListeningPeer(claims={digest(data)}) as liar:
        mirror = pin(node, liar)
        mirror.push(mirror.announce(mirror_statement(source)).raw)
        assert node.rows(source)[SLUG]["backed_by"] == "pin"
        yield Stage(node, honest, liar, source, data)
        node.post("peers", {"action": "block", "node_id": mirror.id})  # it takes no place from the next one


def raw(*lines: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", "Content-Type: application/zip", *lines, "", ""]).encode()


def endless(asked: Asked) -> Iterator[bytes]:
    yield raw("Transfer-Encoding: chunked")
    while True:
        yield b"1000\r\n" + bytes(4096) + b"\r\n"


LIES: dict[str, Callable[[Stage], Script | bytes]] = {
    "other bytes of the same size": lambda stage: plugin_zip(SLUG, "1.0", secrets.token_hex(2000)),
    "the bytes and one more": lambda stage: stage.zip + b"\n",
    "all but the last byte": lambda stage: stage.zip[:-1],
    "nothing": lambda stage: b"",
    "one bit that fell over": lambda stage: bytes([stage.zip[0] ^ 1]) + stage.zip[1:],
    "another zip in front": lambda stage: plugin_zip(SLUG, "6.6") + stage.zip,
    "bytes without end": lambda stage: endless,
    "the bytes, cut by a reset": lambda stage: (
        lambda asked: [raw(f"Content-Length: {len(stage.zip)}") + stage.zip[:100], RESET]
    ),
    "the bytes, but fewer than their length": lambda stage: (
        lambda asked: [raw(f"Content-Length: {len(stage.zip)}") + stage.zip[:-5]]
    ),
    "the bytes in gzip": lambda stage: always(
        answer(200, gzip.compress(stage.zip), "application/zip", {"Content-Encoding": "gzip"})
    ),
    "a part, although the whole was asked for": lambda stage: always(
        answer(206, stage.zip, "application/zip", {"Content-Range": f"bytes 0-9/{len(stage.zip)}"})
    ),
    "not modified": lambda stage: always(answer(304, b"")),
    "a refusal after it said that it has them": lambda stage: always(answer(404, "{}")),
    "the bytes under an error": lambda stage: always(answer(500, stage.zip)),
    "a web page": lambda stage: always(answer(200, "<script>alert(1)</script>", "text/html")),
    "no HTTP": lambda stage: always(b"\x00\x01\x02"),
}


@pytest.mark.parametrize("lie", LIES)
def test_only_true_bytes_are_served_where_a_mirror_sends(stage: Stage, lie: str) -> None:
    stage.liar.holds[stage.sha256] = LIES[lie](stage)

    stage.assert_only_true_bytes_are_served()

    assert any(path.startswith("/node/v1/artifacts/") for path in stage.liar.paths())


def test_a_mirror_is_not_followed_elsewhere(stage: Stage) -> None:
    with HostileServer(script=always(answer(200, stage.zip, "application/zip"))) as elsewhere:
        stage.liar.holds[stage.sha256] = redirect(f"{elsewhere.url}/a.zip")

        stage.assert_only_true_bytes_are_served()

        assert elsewhere.connections == 0


def test_true_bytes_under_a_false_type_are_served_as_what_they_are(stage: Stage) -> None:
    stage.liar.holds[stage.sha256] = always(answer(200, stage.zip, "text/html", {"Set-Cookie": "a=b"}))

    served = stage.node.download(stage.source, SLUG)

    assert (served.status, served.body) == (200, stage.zip)
    assert served.headers["content-type"] == "application/zip"
    assert served.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in served.headers


@pytest.fixture
def humble(stage: Stage) -> Iterator[ListeningPeer]:
    """An honest mirror that nobody pins: the liar, which is pinned, is asked before it."""
    with ListeningPeer() as humble:
        mirror = humble.speaks_to(stage.node).linked()
        mirror.push(mirror.hello().raw, mirror.announce(mirror_statement(stage.source)).raw)
        yield humble
        stage.node.post("peers", {"action": "block", "node_id": mirror.id})


def test_a_mirror_that_dribbles_is_overtaken(stage: Stage, humble: ListeningPeer) -> None:
    def script(asked: Asked) -> Iterator[bytes]:
        yield raw(f"Content-Length: {len(stage.zip)}")
        while not stage.liar.closing.wait(0.05):
            yield b"P"

    stage.liar.holds[stage.sha256] = script
    humble.holds[stage.sha256] = stage.zip
    started = monotonic()

    served = stage.node.download(stage.source, SLUG)

    assert (served.status, served.body) == (200, stage.zip)
    assert monotonic() - started < SECONDS_MAX - 2
    assert any("artifacts" in path for path in stage.liar.paths())


def test_a_mirror_that_never_says_what_it_has_is_not_waited_for(stage: Stage) -> None:
    def script(asked: Asked) -> Iterable[bytes]:
        if asked.path == "/node/v1/have":
            stage.liar.closing.wait(20)
        return stage.liar.answer(asked)

    stage.liar.script = script
    stage.honest.holds[stage.sha256] = stage.zip
    started = monotonic()

    assert stage.node.download(stage.source, SLUG).body == stage.zip

    assert monotonic() - started < 8


def have(stage: Stage, make: Callable[[bytes, bytes], bytes]) -> None:
    """Replace the liar's answer to `have`: `make(nonce, raw request)` gives the body."""

    def script(asked: Asked) -> Iterable[bytes]:
        if asked.path != "/node/v1/have":
            return stage.liar.answer(asked)
        received = open_request(asked.body, mesh=MESH, path="have", me=stage.liar.key.public, now_ms=now_ms())
        return [answer(200, make(received.nonce, asked.body), MESSAGE_TYPE)]

    stage.liar.script = script


HAVES: dict[str, Callable[[Stage, bytes, bytes], bytes]] = {
    "signed by another key": lambda stage, nonce, asked: seal_answer(
        new_key(), mesh=MESH, nonce=nonce, message=HaveAnswer((bytes.fromhex(stage.sha256),))
    ),
    "over another nonce": lambda stage, nonce, asked: seal_answer(
        stage.liar.key, mesh=MESH, nonce=bytes(16), message=HaveAnswer((bytes.fromhex(stage.sha256),))
    ),
    "of another mesh": lambda stage, nonce, asked: seal_answer(
        stage.liar.key, mesh="other", nonce=nonce, message=HaveAnswer((bytes.fromhex(stage.sha256),))
    ),
    "to another question": lambda stage, nonce, asked: (
        seal(stage.liar.key, "pfn/response/1", MESH, ("fetch", nonce, ((bytes.fromhex(stage.sha256),),))).raw
    ),
    "with a digest that is too short": lambda stage, nonce, asked: (
        seal(stage.liar.key, "pfn/response/1", MESH, ("have", nonce, ((bytes(31),),))).raw
    ),
    "that is the question itself": lambda stage, nonce, asked: asked,
    "of two megabytes": lambda stage, nonce, asked: bytes(2 * 2**20),
    "in JSON": lambda stage, nonce, asked: b'{"digests": ["' + stage.sha256.encode() + b'"]}',
}


@pytest.mark.parametrize("kind", HAVES)
def test_an_answer_about_what_it_has_counts_for_nothing_that_is(stage: Stage, kind: str) -> None:
    """It holds the true bytes; but nobody who answers so is asked for them."""
    stage.liar.holds[stage.sha256] = stage.zip
    have(stage, lambda nonce, asked: HAVES[kind](stage, nonce, asked))

    assert stage.node.download(stage.source, SLUG).status == 502

    assert not any("artifacts" in path for path in stage.liar.paths())


def test_a_mirror_that_claims_what_nobody_asked_for_is_asked_for_nothing(stage: Stage) -> None:
    have(
        stage,
        lambda nonce, asked: seal_answer(
            stage.liar.key, mesh=MESH, nonce=nonce, message=HaveAnswer((secrets.token_bytes(32),))
        ),
    )

    assert stage.node.download(stage.source, SLUG).status == 502

    assert not any("artifacts" in path for path in stage.liar.paths())


def test_a_liar_is_shown_to_the_operator(stage: Stage) -> None:
    stage.liar.holds[stage.sha256] = plugin_zip(SLUG, "1.0", secrets.token_hex(2000))
    name = stage.liar.speaks_to(stage.node).id[-4:]  # shortened for people
    stage.node.download(stage.source, SLUG)

    told = [row for row in stage.node.activity() if row["type"] == "security" and name in row["message"]]

    assert told, "no line about the liar among the activities"


def test_a_liar_is_asked_last_from_then_on(stage: Stage, humble: ListeningPeer) -> None:
    stage.liar.holds[stage.sha256] = plugin_zip(SLUG, "1.0", secrets.token_hex(2000))
    stage.node.download(stage.source, SLUG)
    asked = sum("artifacts" in path for path in stage.liar.paths())
    assert asked == 1
    data = plugin_zip(SLUG, "2.0", secrets.token_hex(2000))
    said = stage.honest.speaks_to(stage.node)
    news = version_statement(stage.source, SLUG, bytes.fromhex(digest(data)), len(data), version="2.0")
    said.push(said.announce(news).raw)
    assert stage.liar.claims is not None
    stage.liar.claims.add(digest(data))
    stage.liar.holds[digest(data)] = humble.holds[digest(data)] = data

    assert stage.node.download(stage.source, SLUG, "2.0").body == data

    assert sum("artifacts" in path for path in stage.liar.paths()) == asked


def test_bytes_that_a_mirror_pushes_unasked_have_no_way_in(stage: Stage) -> None:
    answered = stage.node.ask("PUT", f"/node/v1/artifacts/{stage.sha256}", body=stage.zip)
    posted = stage.node.ask("POST", f"/node/v1/artifacts/{stage.sha256}", body=stage.zip)

    assert (answered.status, posted.status) == (405, 405)
    assert stage.node.artifact(stage.sha256).status == 404
