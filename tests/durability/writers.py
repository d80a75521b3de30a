"""Clients that change a node as fast as it lets them, each on its own connections, until it is killed."""

import json
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from time import time
from typing import Any

from pfn_protocol.identity import did_key, public_key_pem
from pfn_protocol.messages import (
    Answer,
    GossipRequest,
    RefusedAnswer,
    Request,
    SnapshotAnswer,
    SnapshotRequest,
)
from pfn_protocol.publisher import ReleaseStatement, metadata_message, sign_release
from tests.conformance.hostile_peer import ListeningPeer, version_statement
from tests.conformance.hostile_publisher import Listing, Publisher, digest, new_key, plugin_zip
from tests.conformance.node_process import b64
from tests.conformance.wire import Answer as HttpAnswer
from tests.durability.killed_node import KilledNode
from tests.durability.ledger import Ledger

HOOKS_MAX = 20
SOURCES_MAX = 20
PINS_MAX = 20
LISTED_MAX = 5
# What a call raises when the node dies under it: nothing came, or not all of it.
DIED = (OSError, AssertionError, ValueError, IndexError)


class Unexpected(Exception):
    """The node answered what it should not answer, killed or not."""


@dataclass
class Observer(ListeningPeer):
    """A neighbour that remembers whatever the node tells, and gives nothing of it back."""

    told: list[bytes] = field(default_factory=list)  # raw announcements

    def answer_to(self, message: Request) -> Answer:
        if isinstance(message, GossipRequest):
            self.told += message.push
        if isinstance(message, SnapshotRequest):
            return SnapshotAnswer((), b"")
        return super().answer_to(message)


def taken(got: HttpAnswer) -> Any:
    """The body of a 200. Raises Unexpected."""
    if got.status != 200:
        raise Unexpected(f"{got.status} {got.body[:300]!r}")
    return got.json


@dataclass
class Writers:
    """All of them, over one ledger. Names are counted, so that no two of them ever ask for the same thing."""

    node: KilledNode
    publisher: Publisher
    observer: Observer
    ledger: Ledger
    rng: Random
    count: int = 0
    faults: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    ids: dict[str, str] = field(default_factory=dict)  # of webhooks and keys, by what they are described as
    _listing: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def prepare(self) -> None:
        """The first start: a publisher that is verified, and a neighbour that is pinned."""
        pem = public_key_pem(self.publisher.key.public)
        body = {"instance_url": self.publisher.url, "username": self.publisher.author, "public_key": pem}
        self.ledger.attempt(
            f"source {self.publisher.source}", "there", lambda: taken(self.node.post("add-source", body))
        )
        assert taken(self.node.post("verify-source", {"sourceId": self.publisher.source}))["success"]
        self.peer = self.observer.speaks_to(self.node)
        self.peer.known()
        self.ledger.attempt(f"peer {self.peer.id}", "pinned", lambda: None)

    def start(self) -> None:
        """Let them write."""
        self.over.clear()
        self.peer.linked()
        loops = (self.sources, self.keys_and_webhooks, self.words, self.releases, self.mirrors, self.announcements)
        self._threads = [
            threading.Thread(target=self._until_over, args=(loop, Random(self.rng.getrandbits(64)))) for loop in loops
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Wait for all of them, who find that the node is dead."""
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _until_over(self, loop: Callable[[Random], None], rng: Random) -> None:
        try:
            with suppress(*DIED):
                while not self.over.is_set():
                    loop(rng)
                return
            if not self.over.wait(2.0):
                self.faults.append(f"the node stopped answering to {loop.__name__} before it was killed")
        except Unexpected as error:
            self.faults.append(f"{loop.__name__}: {error}")

    def _next(self) -> int:
        self.count += 1
        return self.count

    def _post(self, call: str, body: object, key: str | None = None) -> Any:
        return taken(self.node.post(call, body, key=key))

    # --- The loops: one acknowledged change, or a few, each time. ----------------------------------------------------

    def sources(self, rng: Random) -> None:
        """Register publishers that nobody can reach, and forget some; bare slugs, and pins of strangers."""
        number = self._next()
        host = f"127.0.0.{2 + number % 250}:{1 + number // 250}"
        body = {"instance_url": f"http://{host}", "username": "nobody", "public_key": public_key_pem(new_key().public)}
        self.ledger.attempt(f"source nobody@{host}", "there", lambda: self._post("add-source", body))
        there = [name for name in self.ledger.names("source") if "nobody@" in name]
        if len(there) > SOURCES_MAX:
            name = rng.choice(there)
            self.ledger.attempt(name, None, lambda: self._post("remove-source", {"sourceId": name.split()[1]}))
        slug = {"slug": f"bare-{number}", "sourceId": self.publisher.source}
        self.ledger.attempt(f"slug bare-{number}", self.publisher.source, lambda: self._post("slugs", slug))
        stranger = did_key(new_key().public)
        pin = {"action": "pin", "node_id": stranger}
        self.ledger.attempt(f"peer {stranger}", "pinned", lambda: self._post("peers", pin))
        if len(self.ledger.names("peer")) > PINS_MAX:
            unpin = {"action": "unpin", "node_id": stranger}
            self.ledger.attempt(f"peer {stranger}", None, lambda: self._post("peers", unpin))

    def keys_and_webhooks(self, rng: Random) -> None:
        """Make keys and revoke them; add webhooks and remove them."""
        name = f"key {self._next()}"
        made: dict[str, Any] = {}
        self.ledger.attempt(
            name,
            "valid",
            lambda: made.update(self._post("create-admin-key", {"description": name}, key=self.node.master_key)),
        )
        if rng.random() < 0.5:
            self.ledger.attempt(name, "revoked", lambda: self._post("revoke-key", {"id": made["id"]}))
        name = f"webhook {self._next()}"
        body = {"url": f"{self.publisher.url}/hook", "description": name, "events": ["source.changed"]}
        self.ledger.attempt(name, "there", lambda: self.ids.update({name: self._post("webhooks", body)["id"]}))
        there = [known for known in self.ledger.names("webhook") if known in self.ids]
        if len(there) > HOOKS_MAX:
            gone = rng.choice(there)
            self.ledger.attempt(gone, None, lambda: self._post("remove-webhook", {"id": self.ids[gone]}))

    def words(self, rng: Random) -> None:
        """Say yanks and advisories as this node, and take some back."""
        number = self._next()
        about = {"sourceId": self.publisher.source, "plugin": f"said-{number}"}
        yank = about | {"version": "1.0", "reason": f"reason {number}"}
        self.ledger.attempt(f"yank said-{number} 1.0", "told", lambda: self._post("yank", yank))
        advisory = about | {
            "advisory_id": f"PFN-{number}",
            "severity": "low",
            "summary": "weak",
            "ranges": [{"from": "", "until": "2"}],
        }
        self.ledger.attempt(f"advisory said-{number} PFN-{number}", "told", lambda: self._post("advisories", advisory))
        if rng.random() < 0.3:
            back = yank | {"withdrawn": True}
            self.ledger.attempt(f"yank said-{number} 1.0", "withdrawn", lambda: self._post("yank", back))

    def releases(self, rng: Random) -> None:
        """Hand in releases that the publisher signed offline."""
        slug = f"signed-{self._next()}"
        data = plugin_zip(slug, "1.0", str(rng.random()))
        self._list(slug, data)
        statement = ReleaseStatement(
            self.publisher.url,
            self.publisher.author,
            slug,
            "1.0",
            bytes.fromhex(digest(data)),
            len(data),
            0,
            int(time() * 1000),
            bytes.fromhex(digest(metadata_message(slug, slug, "1.0", "A tool."))),
        )
        body = {"release_v2": b64(sign_release(self.publisher.key, statement).raw)}
        self.ledger.attempt(f"release {slug}", digest(data), lambda: self._post("releases", body))

    def mirrors(self, rng: Random) -> None:
        """Have the node mirror another plugin, which it keeps."""
        slug = f"kept-{self._next()}"
        data = plugin_zip(slug, "1.0", rng.randbytes(rng.choice((100, 100_000))).hex())
        self._list(slug, data)
        filters = {"slugs": [slug]}
        self.ledger.attempt(
            f"artifact {digest(data)}",
            "kept",
            lambda: self._mirrored({"sourceId": self.publisher.source, "filters": filters}),
        )

    def _list(self, slug: str, data: bytes) -> None:
        """Let the publisher offer it, beside the last few."""
        with self._listing:
            self.publisher.listings = [*self.publisher.listings[-LISTED_MAX:], Listing(slug, zip=data)]

    def _mirrored(self, body: dict[str, Any]) -> None:
        result = self._post("subscribe", body)["syncResult"]
        if result["running"]:
            raise OSError("not yet")
        if result["mirroredCount"] != 1:
            raise Unexpected(f"subscribe: {json.dumps(result)}")

    def announcements(self, rng: Random) -> None:
        """Push announcements as a neighbour does."""
        source = f"someone@127.0.0.1:{rng.randrange(1, 60)}"
        slug = f"heard-{self._next()}"
        one = self.peer.announce(version_statement(source, slug, rng.randbytes(32), 100))
        self.ledger.attempt(f"heard {one.id.hex()}", "kept", lambda: self._pushed([one.raw]))

    def _pushed(self, raw: Iterable[bytes]) -> None:
        got = self.peer.push(*raw)
        if isinstance(got, RefusedAnswer):
            raise Unexpected(f"push: {got}")
