"""Mirrors without a network: what each says that it has, what it sends, and how it is late or wrong."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import trio

from pfn_node.outbound import Reply
from pfn_node.outbound_errors import AnswerTooLarge, Unreachable
from pfn_node.store.rows import Peer
from pfn_protocol.identity import PrivateKey
from pfn_protocol.message_fields import open_request, seal_answer
from pfn_protocol.messages import Answer, CellsRequest, HaveAnswer, HaveRequest, RefusedAnswer

ASKER = PrivateKey(bytes([99]) * 32)
MESH = "main"


async def no_mirrors(sender: bytes, request: CellsRequest) -> Answer:
    """What a node says that compares no mirror sets."""
    return RefusedAnswer("R125", "no", now_ms())


def now_ms() -> int:
    return 1_900_000_000_000


@dataclass
class Mirror:
    """One node that holds artifacts, or says so."""

    name: str
    key: PrivateKey
    has: dict[bytes, bytes] = field(default_factory=dict)
    says: set[bytes] | None = None  # what it claims to have, if not what it has
    have_delay: float = 0.0
    first_byte_delay: float = 0.0
    stalls_after: int | None = None  # bytes
    status: int = 200
    dead: bool = False
    refuses: bool = False
    signs_with: PrivateKey | None = None
    asked: list[tuple[bytes, ...]] = field(default_factory=list)
    downloads: int = 0

    def peer(self, *, pinned: bool = False) -> Peer:
        return Peer(self.key.public, f"http://{self.name}.test", False, pinned, False, False, None)


class MirrorNetwork:
    """The way out of the node that asks them."""

    def __init__(self, *mirrors: Mirror) -> None:
        self.mirrors = {mirror.name: mirror for mirror in mirrors}

    def _reach(self, url: str) -> Mirror:
        mirror = self.mirrors[(urlsplit(url).hostname or "").removesuffix(".test")]
        if mirror.dead:
            raise Unreachable("Nobody answers there.")
        return mirror

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        bytes_max: int,
        seconds_max: float,
    ) -> Reply:
        mirror = self._reach(url)
        assert content is not None
        received = open_request(content, mesh=MESH, path="have", me=mirror.key.public, now_ms=now_ms())
        assert isinstance(received.message, HaveRequest)
        mirror.asked.append(received.message.digests)
        await trio.sleep(mirror.have_delay)
        claimed = mirror.says if mirror.says is not None else set(mirror.has)
        answer: Answer = HaveAnswer(tuple(digest for digest in received.message.digests if digest in claimed))
        if mirror.refuses:
            answer = RefusedAnswer("R0", "No.", now_ms())
        signer = mirror.signs_with or mirror.key
        return Reply(200, {}, seal_answer(signer, mesh=MESH, nonce=received.nonce, message=answer), url)

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
    ) -> Reply:
        mirror = self._reach(url)
        mirror.downloads += 1
        await trio.sleep(mirror.first_byte_delay)
        data = mirror.has.get(bytes.fromhex(url.rpartition("/")[2]))
        if data is None or mirror.status != 200:
            return Reply(mirror.status if mirror.status != 200 else 404, {}, b"", url)
        brought = 0
        for start in range(0, len(data), 100):
            chunk = data[start : start + 100]
            brought += len(chunk)
            if brought > bytes_max:
                raise AnswerTooLarge("It is too large.")
            sink(chunk)
            if mirror.stalls_after is not None and brought >= mirror.stalls_after:
                await trio.sleep_forever()
            await trio.sleep(0.01)
        return Reply(200, {}, b"", url)
