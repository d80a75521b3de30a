"""A node with a key of its own: honest messages through pfn_protocol, everything else byte by byte."""

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import time
from typing import Any, Self

from pfn_protocol.announcement_fields import encode
from pfn_protocol.announcements import (
    Evidence,
    MirrorStatement,
    NodeStatement,
    SourceStatement,
    Statement,
    VersionStatement,
)
from pfn_protocol.encoding import Envelope, Value, seal
from pfn_protocol.identity import PrivateKey, did_key
from pfn_protocol.message_fields import open_answer, open_request, seal_answer, seal_request
from pfn_protocol.messages import (
    Answer,
    FetchRequest,
    GossipAnswer,
    GossipRequest,
    HaveAnswer,
    HaveRequest,
    LinkAnswer,
    LinkRequest,
    PeerAddress,
    RefusedAnswer,
    Request,
)
from tests.conformance import wire
from tests.conformance.hostile_publisher import new_key
from tests.conformance.hostile_server import Asked, HostileServer, Script
from tests.conformance.hostile_server import answer as http_answer
from tests.conformance.node_process import Node

MESH = "main"
MESSAGE_TYPE = "application/vnd.pfn+msgpack"
NODE_PREFIX = "/node/v1/"


def now_ms() -> int:
    return int(time() * 1000)


@dataclass
class Peer:
    """Speaks to one node. It polls, unless it is given a URL."""

    node: Node
    key: PrivateKey = field(default_factory=new_key)
    url: str = ""
    last_seq: int = 0
    to: bytes = b""  # the node's key; asked for if it is not given

    def __post_init__(self) -> None:
        self.to = self.to or self.node.id

    @property
    def id(self) -> str:
        return did_key(self.key.public)

    # --- What it says in requests -----------------------------------------------------------------------------------

    def sealed(self, message: Request, **changes: Any) -> bytes:
        """An honest request, changed as told: to, now_ms, nonce16, key, mesh."""
        key = changes.pop("key", self.key)
        fields: dict[str, Any] = {
            "mesh": MESH,
            "to": self.to,
            "now_ms": now_ms(),
            "nonce16": secrets.token_bytes(16),
        } | changes
        return seal_request(key, message=message, **fields)

    def sealed_content(
        self, path: str, content: Value, *, nonce: bytes | None = None, domain: str = "pfn/request/1"
    ) -> bytes:
        """A request that is signed well, whatever its content is."""
        body: Value = (path, self.to, now_ms(), nonce or secrets.token_bytes(16), content)
        return seal(self.key, domain, MESH, body).raw

    def post(self, path: str, raw: bytes, content_type: str = MESSAGE_TYPE) -> wire.Answer:
        """Any bytes to /node/v1/<path>."""
        return self.node.ask("POST", NODE_PREFIX + path, headers={"Content-Type": content_type}, body=raw)

    def ask(self, message: Request) -> Answer:
        """An honest request, and its answer: signed by the node, over the request's nonce."""
        nonce = secrets.token_bytes(16)
        got = self.post(message.path, self.sealed(message, nonce16=nonce))
        return open_answer(got.body, mesh=MESH, nonce=nonce, sender_expected=self.to, path=message.path)

    def link(self, *, view: Iterable[PeerAddress] = (), compare_only: bool = False) -> Answer:
        return self.ask(LinkRequest(self.url, tuple(view), (), compare_only=compare_only))

    def linked(self) -> Self:
        """Itself, once the node has accepted the link."""
        accepted = self.link()
        assert isinstance(accepted, LinkAnswer) and accepted.accepted, accepted
        return self

    def known(self) -> Self:
        """Itself, once the operator has pinned it: it is no longer heard out of what all strangers share."""
        assert self.node.post("peers", {"action": "pin", "node_id": self.id}).status == 200
        return self

    def push(self, *raw: bytes) -> Answer:
        """Push announcements."""
        return self.ask(GossipRequest(tuple(raw), (), None, 0))

    def is_shunned(self) -> bool:
        """Whether the node has ended the link, and makes no new one."""
        refused = self.link()
        return isinstance(refused, RefusedAnswer) and refused.rule == "R86"

    def gets(self, *ids: bytes) -> list[bool]:
        """Which of these announcements the node gives it: what honest peers hear of."""
        got = self.ask(FetchRequest(ids))
        assert not isinstance(got, RefusedAnswer), got
        return [missing not in got.missing for missing in ids]  # type: ignore[union-attr]

    # --- What it announces ------------------------------------------------------------------------------------------

    def seq(self) -> int:
        self.last_seq = max(self.last_seq + 1, now_ms())
        return self.last_seq

    def announce(self, statement: Statement, *, epoch: int = 0, seq: int | None = None, mesh: str = MESH) -> Envelope:
        """A signed announcement."""
        body = encode(statement, epoch, self.seq() if seq is None else seq)
        return seal(self.key, f"pfn/{statement.kind}/1", mesh, body)

    def hello(self, *, pins: tuple[bytes, ...] = (), left: bool = False, seq: int | None = None) -> Envelope:
        """Its node announcement."""
        statement = NodeStatement(self.url, "hostile 1", (), tuple(sorted(pins)), (), 0, bytes(32), left)
        return self.announce(statement, seq=seq)


def source_statement(source: str, key: bytes, *, url: str = "", verified: bool = True) -> SourceStatement:
    """`source` is username@host[:port]."""
    username, _, host = source.partition("@")
    url = url or f"http://{host}"
    return SourceStatement(source, url, username, key, "", "", verified, int(time()) if verified else 0)


def version_statement(
    source: str,
    slug: str,
    sha256: bytes,
    size: int,
    *,
    version: str = "1.0",
    evidence: tuple[Evidence, ...] = (),
    **more: Any,
) -> VersionStatement:
    fields: dict[str, Any] = {
        "type": "plugin",
        "name": slug,
        "description": "A tool.",
        "tags": (),
        "observed_at": int(time()),
    } | more
    return VersionStatement(source, slug, version, sha256=sha256, size=size, evidence=evidence, **fields)


def mirror_statement(source: str, count: int = 1, digest: bytes = bytes(32)) -> MirrorStatement:
    return MirrorStatement(source, count, digest)


@dataclass
class ListeningPeer(HostileServer):
    """A peer with a URL: answers what the node asks of it, and serves artifacts as it likes."""

    key: PrivateKey = field(default_factory=new_key)
    holds: dict[str, bytes | Script] = field(default_factory=dict)  # by sha256 in hex: bytes, or a script
    claims: set[str] | None = None  # what it says in `have`, if not what it holds
    messages: list[Request] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.script = self.answer
        super().__enter__()
        return self

    def speaks_to(self, node: Node) -> Peer:
        """Its own voice towards a node."""
        return Peer(node, self.key, self.url)

    def answer(self, asked: Asked) -> Iterable[bytes]:
        name = asked.path.removeprefix(NODE_PREFIX)
        if name == "info":
            info = {"node_id": did_key(self.key.public), "url": self.url, "mesh": MESH, "software": "hostile 1"}
            return [http_answer(200, json.dumps(info))]
        if name.startswith("artifacts/"):
            return self._artifact(asked, name.removeprefix("artifacts/"))
        received = open_request(asked.body, mesh=MESH, path=name, me=self.key.public, now_ms=now_ms())
        self.messages.append(received.message)
        sealed = seal_answer(self.key, mesh=MESH, nonce=received.nonce, message=self.answer_to(received.message))
        return [http_answer(200, sealed, MESSAGE_TYPE)]

    def _artifact(self, asked: Asked, sha256: str) -> Iterable[bytes]:
        held = self.holds.get(sha256)
        if callable(held):
            found: Iterable[bytes] = held(asked)
            return found
        return [http_answer(404, "{}")] if held is None else [http_answer(200, held, "application/zip")]

    def answer_to(self, message: Request) -> Answer:
        match message:
            case LinkRequest():
                return LinkAnswer(True, 0, (), ())
            case GossipRequest():
                return GossipAnswer((), (), None)
            case HaveRequest():
                claimed = set(self.holds) if self.claims is None else self.claims
                return HaveAnswer(tuple(one for one in message.digests if one.hex() in claimed))
        return RefusedAnswer("busy", "Not now.", now_ms())
