"""What this node asks of other nodes: signed requests, their public info, and the bytes of artifacts.

Every request is an envelope for one recipient, and its answer must be signed by that recipient over the request's
nonce: an answer by anybody else, however it got here, is a failure. All of it goes out through the one way out.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pfn_node.mesh.blocking import InThread, inline
from pfn_node.mesh.views import NodeInfo, shown
from pfn_node.metrics import Metrics
from pfn_node.outbound import Reply
from pfn_node.outbound_errors import AnswerTooLarge, OutboundError
from pfn_protocol.encoding import open_envelope
from pfn_protocol.errors import Refusal
from pfn_protocol.identity import PrivateKey
from pfn_protocol.limits import answer_bytes_max, nonce_bytes
from pfn_protocol.message_fields import open_answer, seal_request
from pfn_protocol.messages import Answer, HaveRequest, Request

CONTENT_TYPE = "application/vnd.pfn+msgpack"
NODE_PREFIX = "/node/v1/"
RESPONSE_DOMAIN = "pfn/response/1"

# Four short texts; anything larger is not a node's info.
INFO_BYTES_MAX = 16 * 2**10
# To check the signature of a page of announcements takes a millisecond, in which other threads may run.
WORTH_A_THREAD_BYTES = 64 * 2**10
# A node on the other side of the world answers in well under a second; ten leave room for a busy one.
REQUEST_SECONDS_MAX = 10.0

STATUS_OK = 200
# From here on it is a server in trouble, or a proxy before a node that is just being started.
STATUS_MAY_PASS = 500


class WayOut(Protocol):
    """What is used of `outbound.Outbound`; a network in memory is another one."""

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        bytes_max: int,
        seconds_max: float,
    ) -> Reply: ...

    async def download(
        self,
        url: str,
        sink: Callable[[bytes], object],
        *,
        headers: Mapping[str, str] | None = None,
        bytes_max: int,
        seconds_max: float,
        bytes_per_second_min: float,
        redirects_max: int = 2,
    ) -> Reply: ...


class PeerFailure(Exception):
    """Another node gave no usable answer; `reason` is a sentence for logs and the machine."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NoNode(PeerFailure):
    """What answers at that URL is something else than a node."""


class AnotherKey(PeerFailure):
    """Whoever answers at that URL holds another key than the one that was asked."""

    def __init__(self, url: str, expected: bytes, found: bytes) -> None:
        super().__init__(f"{url} answers with the key {shown(found)}, not with {shown(expected)}")
        self.url = url
        self.expected = expected
        self.found = found


class TooMuch(PeerFailure):
    """An artifact's bytes go on after the size that was announced."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answered request, and what it cost."""

    answer: Answer
    bytes_sent: int
    bytes_received: int


class PeerClient:
    """Signed requests to other nodes. `now_ms` is the node's clock; `in_thread` checks large answers."""

    def __init__(
        self,
        outbound: WayOut,
        key: PrivateKey,
        mesh: str,
        now_ms: Callable[[], int],
        metrics: Metrics | None = None,
        in_thread: InThread | None = None,
    ) -> None:
        self._in_thread = in_thread or inline()
        self._outbound = outbound
        self._fetched = (metrics or Metrics()).artifact_bytes.labels("mesh")
        self._key = key
        self._mesh = mesh
        self._now_ms = now_ms

    async def send(self, peer: bytes, url: str, message: Request, seconds_max: float = REQUEST_SECONDS_MAX) -> Exchange:
        """Ask `peer` at `url`. Raises PeerFailure, AnotherKey if somebody else answered."""
        nonce = secrets.token_bytes(nonce_bytes)
        raw = seal_request(self._key, mesh=self._mesh, to=peer, message=message, now_ms=self._now_ms(), nonce16=nonce)
        try:
            reply = await self._outbound.fetch(
                "POST",
                _node_url(url, message.path),
                headers={"Content-Type": CONTENT_TYPE, "Accept": CONTENT_TYPE},
                content=raw,
                bytes_max=answer_bytes_max,
                seconds_max=seconds_max,
            )
        except OutboundError as error:
            raise PeerFailure(error.sentence) from error

        def open_() -> Answer:
            return self._open(reply, peer=peer, url=url, nonce=nonce, path=message.path)

        answer = await self._in_thread(open_) if len(reply.body) >= WORTH_A_THREAD_BYTES else open_()
        return Exchange(answer, bytes_sent=len(raw), bytes_received=len(reply.body))

    def _open(self, reply: Reply, *, peer: bytes, url: str, nonce: bytes, path: str) -> Answer:
        try:
            return open_answer(reply.body, mesh=self._mesh, nonce=nonce, sender_expected=peer, path=path)
        except Refusal as refusal:
            found = self._signer(reply.body)
            if found is not None and found != peer:
                raise AnotherKey(url, expected=peer, found=found) from refusal
            if reply.status != STATUS_OK:
                raise PeerFailure(f"{url} answered {path} with status {reply.status}") from refusal
            raise PeerFailure(f"{url} answered {path} with what is no answer: {refusal}") from refusal

    def _signer(self, body: bytes) -> bytes | None:
        """Who signed it, if it is a response envelope of this mesh at all."""
        try:
            return open_envelope(body, mesh=self._mesh, domain=RESPONSE_DOMAIN, bytes_max=answer_bytes_max).author
        except Refusal:
            return None

    async def info(self, url: str, seconds_max: float = REQUEST_SECONDS_MAX) -> NodeInfo:
        """What the node at `url` says of itself: a claim, see `prove`. Raises PeerFailure; NoNode: it is none."""
        try:
            reply = await self._outbound.fetch(
                "GET",
                _node_url(url, "info"),
                headers={"Accept": "application/json"},
                bytes_max=INFO_BYTES_MAX,
                seconds_max=seconds_max,
            )
        except OutboundError as error:
            raise PeerFailure(error.sentence) from error
        if reply.status != STATUS_OK:
            raised = NoNode if reply.status < STATUS_MAY_PASS else PeerFailure
            raise raised(f"{url} is no PFN node: its info answers with status {reply.status}")
        try:
            return NodeInfo.from_json(json.loads(reply.body))
        except (ValueError, RecursionError) as error:
            raise NoNode(f"{url} is no PFN node: {error}") from error

    async def prove(self, peer: bytes, url: str) -> None:
        """Have whoever answers at `url` sign something fresh with the key `peer`. Raises PeerFailure."""
        await self.send(peer, url, HaveRequest(()))

    async def artifact(
        self,
        url: str,
        sha256: bytes,
        sink: Callable[[bytes], None],
        *,
        bytes_max: int,
        seconds_max: float,
        bytes_per_second_min: int,
    ) -> None:
        """Stream an artifact's bytes into `sink`, unchecked. Raises PeerFailure, TooMuch over `bytes_max`."""

        def receive(chunk: bytes) -> None:
            self._fetched.inc(len(chunk))
            sink(chunk)

        try:
            reply = await self._outbound.download(
                _node_url(url, f"artifacts/{sha256.hex()}"),
                receive,
                bytes_max=bytes_max,
                seconds_max=seconds_max,
                bytes_per_second_min=bytes_per_second_min,
                redirects_max=0,
            )
        except AnswerTooLarge as error:
            raise TooMuch(error.sentence) from error
        except OutboundError as error:
            raise PeerFailure(error.sentence) from error
        if reply.status != STATUS_OK:
            raise PeerFailure(f"{url} does not serve the artifact: status {reply.status}")


def _node_url(url: str, path: str) -> str:
    return url.rstrip("/") + NODE_PREFIX + path
